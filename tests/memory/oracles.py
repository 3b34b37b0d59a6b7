"""The equations of NTM, LRU and DNC as published, and of the associative memory, one number at a
time.

A *number* is a tensor of the batch's shape, and everything below is elementwise in it, so that no
sequence can see another.  A vector is a list of numbers, a matrix a list of vectors: ``M[i][k]``.
Loops stand where the publications have indices; nothing is sorted, padded or rolled.

Sources: Graves et al. 2014 (arXiv 1410.5401), section 3; Santoro et al. 2016 (arXiv 1605.06065),
section 3.2; Graves et al. 2016 (Nature 538, 471-476), Methods; Gemici et al. 2017 (arXiv
1702.04649), equations 13-16.  Deviations that the modules state are made here too.
"""

from __future__ import annotations

from itertools import chain
from math import prod

import torch

EPSILON = 1e-6
LEAST_SHARE = 1e-6
RATE = 10  # of the associative memory's κ, ω and W, which it keeps divided by it


def numbers(tensor, depth):
    """Nested lists of the last ``depth`` dimensions."""
    return [numbers(part, depth - 1) for part in tensor.unbind(-depth)] if depth else tensor


def tensor(nested, depth):
    """The inverse of :func:`numbers`."""
    if not depth:
        return nested
    parts = [tensor(part, depth - 1) for part in nested]
    return torch.stack(torch.broadcast_tensors(*parts), dim=-depth)


def sigmoid(a):
    return 1 / (1 + (-a).exp())


def softplus(a):
    return (1 + a.exp()).log()


def softmax(logits):
    return normalised([logit.exp() for logit in logits])


def normalised(positive):
    total = sum(positive)
    return [p / total for p in positive]


def read_words(memory, weights):
    columns = range(len(memory[0]))
    return [[sum(w[i] * M_i[k] for i, M_i in enumerate(memory)) for k in columns] for w in weights]


def product(left, right):
    return read_words(right, left)


def erase_and_add(memory, weights, erase, add):
    new = [list(M_i) for M_i in memory]
    for w, e in zip(weights, erase, strict=True):
        new = [[new[i][k] * (1 - w[i] * e[k]) for k in range(len(e))] for i in range(len(new))]
    for w, a in zip(weights, add, strict=True):
        new = [[new[i][k] + w[i] * a[k] for k in range(len(a))] for i in range(len(new))]
    return new


def content_weights(memory, keys, strengths, masks=None):
    def norm(vector):
        return (sum(v * v for v in vector) + EPSILON).sqrt()

    weights = []
    for r, (k, beta) in enumerate(zip(keys, strengths, strict=True)):
        mask = [1] * len(k) if masks is None else masks[r]
        k = [m * a for m, a in zip(mask, k, strict=True)]
        words = [[m * b for m, b in zip(mask, M_i, strict=True)] for M_i in memory]
        dots = [sum(a * b for a, b in zip(k, word, strict=True)) for word in words]
        cosines = [dot / (norm(k) * norm(word)) for dot, word in zip(dots, words, strict=True)]
        weights.append(softmax([beta * cosine for cosine in cosines]))
    return weights


def turn(words, cosines, sines):
    turned = []
    for word in words:
        new, pairs = list(word), len(cosines)
        for j, (cosine, sine) in enumerate(zip(cosines, sines, strict=True)):
            a, b = len(word) - 2 * pairs + j, len(word) - pairs + j
            new[a] = word[a] * cosine - word[b] * sine
            new[b] = word[a] * sine + word[b] * cosine
        turned.append(new)
    return turned


def interpolate(content, previous, gates):
    return [
        [g * c_i + (1 - g) * p_i for c_i, p_i in zip(c, p, strict=True)]
        for c, p, g in zip(content, previous, gates, strict=True)
    ]


def shift(weights, kernels):
    """What stood at slot j is, moved by an offset, at slot j + offset, counted in a circle."""
    moved = []
    for w, s in zip(weights, kernels, strict=True):
        new = [torch.zeros_like(w[0]) for _ in w]
        for j, w_j in enumerate(w):
            for o, s_o in enumerate(s):
                i = (j + o - len(s) // 2) % len(w)
                new[i] = new[i] + s_o * w_j
        moved.append(new)
    return moved


def sharpen(weights, exponents):
    return [
        normalised([w_i**gamma for w_i in w]) for w, gamma in zip(weights, exponents, strict=True)
    ]


def precedes(usage, j, i):
    """Whether slot j is used less than slot i; of equals, the lower number."""
    return (usage[j] < usage[i]) | ((usage[j] == usage[i]) & (j < i))


def decay_usage(usage, read_weights, write_weights, decay):
    new = []
    for i, u_i in enumerate(usage):
        written = sum(w[i] for w in write_weights)
        in_use = (u_i + written).clamp(max=1)
        new.append(decay * u_i + written + in_use * sum(w[i] for w in read_weights))
    return new


def least_used(usage, count):
    slots, none = range(len(usage)), torch.zeros_like(usage[0])
    ranks = [sum((precedes(usage, j, i).int() for j in slots if j != i), none) for i in slots]
    return [[(rank == n).to(usage[0].dtype) for rank in ranks] for n in range(count)]


def retention(read_weights, free_gates):
    return [
        prod(1 - f * w[i] for w, f in zip(read_weights, free_gates, strict=True))
        for i in range(len(read_weights[0]))
    ]


def update_usage(usage, write_weights):
    return [u + w - u * w for u, w in zip(usage, write_weights, strict=True)]


def allocate(usage, tie=0):
    u = [EPSILON + (1 - EPSILON) * u_i for u_i in usage]
    rank = [torch.round(u_i / tie) for u_i in u] if tie else u
    slots = range(len(u))
    return [
        (1 - u[i])
        * prod(
            torch.where(precedes(rank, j, i), u[j], torch.ones_like(u[j])) for j in slots if j != i
        )
        for i in slots
    ]


def update_links(links, precedence, write_weights):
    p, w = precedence, write_weights
    slots = range(len(w))
    return [
        [(1 - w[i] - w[j]) * links[i][j] + w[i] * p[j] if i != j else 0 * w[i] for j in slots]
        for i in slots
    ]


def update_precedence(precedence, write_weights):
    total = sum(write_weights)
    return [(1 - total) * p + w for p, w in zip(precedence, write_weights, strict=True)]


def follow_links(links, read_weights):
    slots = range(len(links))
    forward = [[sum(links[i][j] * w[j] for j in slots) for i in slots] for w in read_weights]
    backward = [[sum(links[j][i] * w[j] for j in slots) for i in slots] for w in read_weights]
    return forward, backward


def mix_read_modes(backward, content, forward, modes):
    return [
        [pi[0] * b[i] + pi[1] * c[i] + pi[2] * f[i] for i in range(len(c))]
        for b, c, f, pi in zip(backward, content, forward, modes, strict=True)
    ]


def kept_shares(weights, erase):
    erased = [sum(e) / len(e) for e in erase]
    return [
        prod(1 - w[i] * e for w, e in zip(weights, erased, strict=True))
        for i in range(len(weights[0]))
    ]


def trace_origins(origins, kept, added):
    return [
        [new, *(part * stays for part in parts[:-1])]
        for parts, stays, new in zip(origins, kept, added, strict=True)
    ]


def shares_of(weights, origins):
    shares = []
    for amounts in read_words(origins, weights):
        total = sum(amounts)
        total = torch.where(total > 1, total, 1.0)
        amounts = [amount / total for amount in amounts]
        shares.append([torch.where(a > LEAST_SHARE, a, LEAST_SHARE).log() for a in amounts])
    return shares


def ntm(memory, state, emitted):
    M, w = state["memory"], state["weights"]
    gates = [sigmoid(g) for (g,) in emitted["gates"]]
    shifts = [softmax(s) for s in emitted["shifts"]]
    w = interpolate(
        content_weights(M, emitted["keys"], [softplus(b) for (b,) in emitted["strengths"]]),
        w,
        gates,
    )
    w = sharpen(shift(w, shifts), [1 + softplus(gamma) for (gamma,) in emitted["exponents"]])
    reading, writing = w[: memory.heads], w[memory.heads :]
    erase = [[sigmoid(a) for a in e] for e in emitted["erase"]]
    M = erase_and_add(M, writing, erase, emitted["add"])
    return {"memory": M, "weights": w, "reads": read_words(M, reading)}, {
        "kept": kept_shares(writing, erase),
        "read_weights": reading,
        "write_weights": writing,
        "content_gates": gates,
        "shifts": shifts,
        "memory": M,
    }


def lru(memory, state, emitted):
    M, u = state["memory"], state["usage"]
    gates = [sigmoid(a) for (a,) in emitted["gates"]]
    unused = least_used(u, memory.heads)
    writing = interpolate(state["read_weights"], unused, gates)
    kept = [prod(1 - lu[i] for lu in unused) for i in range(len(M))]
    M = [[m * stays for m in M_i] for M_i, stays in zip(M, kept, strict=True)]
    angles = [omega * state["time"] for omega in memory.frequencies]
    cosines, sines = [a.cos() for a in angles], [a.sin() for a in angles]
    for w, a in zip(writing, turn(emitted["add"], cosines, sines), strict=True):
        M = [[m + w[i] * a_k for m, a_k in zip(M_i, a, strict=True)] for i, M_i in enumerate(M)]
    strengths = [1 + softplus(b) for (b,) in emitted["strengths"]]
    reading = content_weights(M, turn(emitted["keys"], cosines, sines), strengths)
    u = decay_usage(u, reading, writing, memory.usage_decay)
    reads = turn(read_words(M, reading), cosines, [-sine for sine in sines])
    accessed = {"memory": M, "usage": u, "read_weights": reading, "reads": reads}
    return {**accessed, "time": state["time"] + 1}, {
        "kept": kept,
        "read_weights": reading,
        "write_weights": writing,
        "usage": u,
        "write_gates": gates,
        "memory": M,
    }


def dnc(memory, state, emitted):
    M, u, L, p = (state[name] for name in ("memory", "usage", "links", "precedence"))
    f = [sigmoid(a) for (a,) in emitted["free_gates"]]
    ((g_a,),), ((g_w,),) = emitted["allocation_gates"], emitted["write_gates"]
    g_a, g_w = sigmoid(g_a), sigmoid(g_w)
    psi = retention(state["read_weights"], f)
    u = [
        u_i * psi_i for u_i, psi_i in zip(update_usage(u, state["write_weights"]), psi, strict=True)
    ]
    left = psi if memory.erase_freed else [1.0] * len(M)
    if memory.erase_freed:
        M = [[psi_i * m for m in M_i] for psi_i, M_i in zip(psi, M, strict=True)]
    read_masks = write_masks = None
    if memory.masked_keys:
        read_masks, write_masks = (
            [[sigmoid(m) for m in mask] for mask in emitted[name]]
            for name in ("read_masks", "write_masks")
        )
    a = allocate(u, memory.tie)
    ((beta,),) = emitted["write_strengths"]
    (c,) = content_weights(M, emitted["write_keys"], [1 + softplus(beta)], write_masks)
    writing = [g_w * (g_a * a_i + (1 - g_a) * c_i) for a_i, c_i in zip(a, c, strict=True)]
    (e,) = emitted["erase"]
    e = [sigmoid(a) for a in e]
    M = erase_and_add(M, [writing], [e], emitted["add"])
    L, p = update_links(L, p, writing), update_precedence(p, writing)
    forward, backward = follow_links(L, state["read_weights"])
    if memory.sharpened_links:
        exponents = [[1 + softplus(s) for s in pair] for pair in emitted["link_exponents"]]
        backward = sharpen(backward, [s for s, _ in exponents])
        forward = sharpen(forward, [s for _, s in exponents])
    strengths = [1 + softplus(b) for (b,) in emitted["read_strengths"]]
    content = content_weights(M, emitted["read_keys"], strengths, read_masks)
    modes = [softmax(pi) for pi in emitted["read_modes"]]
    reading = mix_read_modes(backward, content, forward, modes)
    return {
        "memory": M,
        "usage": u,
        "links": L,
        "precedence": p,
        "read_weights": reading,
        "write_weights": writing,
        "reads": read_words(M, reading),
    }, {
        "kept": [a * b for a, b in zip(left, kept_shares([writing], [e]), strict=True)],
        "read_weights": reading,
        "write_weights": [writing],
        "usage": u,
        "allocation_gates": [g_a],
        "write_gates": [g_w],
        "free_gates": f,
        "read_modes": modes,
        "link_sharpness": [tensor(row, 1).detach().amax(-1) for row in L],
        "memory": M,
    }


def linear(layer, inputs):
    weight, bias = numbers(layer.weight, 2), numbers(layer.bias, 1)
    return [
        sum((w_ij * x_j for w_ij, x_j in zip(w_i, inputs, strict=True)), start=b_i)
        for w_i, b_i in zip(weight, bias, strict=True)
    ]


def lstm(layer, inputs, h, c):
    """Gates in the order of torch.nn.LSTMCell."""
    a, n = linear(layer, [*inputs, *h]), len(h)
    c = [sigmoid(a[n + i]) * c[i] + sigmoid(a[i]) * torch.tanh(a[2 * n + i]) for i in range(n)]
    return [sigmoid(a[3 * n + i]) * torch.tanh(c[i]) for i in range(n)], c


def unroll(access, memory, state, latents, controls):
    """What ``memory`` does along ``latents``: in each step the context, the state, the details.

    Fields of the state without any numbers (origins that are not asked for) are left out.

    Args:
        access: one of :func:`ntm`, :func:`lru` and :func:`dnc`.
        memory: the module, for its weights and sizes.
        state: the module's state to start from.
        latents: ``(T, *batch, Z)``.
        controls: ``(T, *batch, C)`` or None.
    """
    fields = {name: t for name, t in state._asdict().items() if t.numel()}
    depths = {name: t.dim() - latents.dim() + 2 for name, t in fields.items()}
    now = {name: numbers(t, depths[name]) for name, t in fields.items()}
    results = []
    for t, latent in enumerate(latents):
        z = numbers(latent, 1)
        inputs = z + list(chain(*now["reads"]))
        if controls is not None:
            inputs += numbers(controls[t], 1)
        h, c = lstm(memory.controller.gates, inputs, now["hidden"], now["cell"])
        raw, emitted = iter(linear(memory.interface, h + z)), {}
        for name, (count, size) in memory.parts.items():
            emitted[name] = [[next(raw) for _ in range(size)] for _ in range(count)]
        accessed, details = access(memory, now, emitted)
        kept = details.pop("kept")
        if memory.recall_length:
            added = [sum(w_i) for w_i in zip(*details["write_weights"], strict=True)]
            origins = trace_origins(now["origins"], kept, added)
            accessed["origins"] = origins
            shares = shares_of(details["read_weights"], origins)
            details = {**details, "kept": kept, "log_shares": shares}
        now = {"hidden": h, "cell": c, **accessed}
        results.append(
            {
                "context": tensor(list(chain(*now["reads"])) + h, 1),
                **{f"state.{name}": tensor(now[name], depth) for name, depth in depths.items()},
                **{name: tensor(nested, depth_of(nested)) for name, nested in details.items()},
            }
        )
    return results


def associative(memory, latents, controls, write):
    """What an associative memory does along ``latents``, from its initial state: in each step the
    context and the details, of the slots that are filled alone.

    Slots are a list of what there is, newest first.

    Args:
        memory: the module, for its weights and sizes.
        latents: ``(T, *batch, Z)``, z_0 in front.
        controls: ``(T, *batch, C)`` or None.
        write: of each step, whether it stores its latent.
    """

    def encode(z):
        return [inner(row, z) for row in codes]

    def by_head(flat):
        size = len(flat) // memory.heads
        return [flat[r * size : (r + 1) * size] for r in range(memory.heads)]

    def inner(one, other):
        return sum(a * b for a, b in zip(one, other, strict=True))

    def apart(one, other):
        return sum((a - b) ** 2 for a, b in zip(one, other, strict=True))

    def own_logit(logits, index):
        return logits[index] if index < memory.positions else torch.zeros_like(logits[0])

    codes = numbers(memory.code.weight, 2)
    none = torch.zeros_like(latents[0][..., 0])
    h = c = [none] * memory.controller.hidden_dim
    p, newest, slots, writes, results = [none] * memory.place_dim, [none] * len(codes), [], 0, []
    for t, latent in enumerate(latents):
        z = numbers(latent, 1)
        if write[t]:
            if t:  # the first is what stood before any latent
                slot = {
                    "latent": z,
                    "before": newest,
                    "keys": by_head(linear(memory.key, z + h)),
                    "place": p,
                    "position": writes,
                }
                slots, writes = [slot, *slots][: memory.slots], writes + 1
            newest = encode(z)
        control = [] if controls is None else numbers(controls[t], 1)
        h, c = lstm(memory.controller.gates, z + control, h, c)
        if control:
            moves = numbers(memory.move, 2)
            p = [
                p_j + RATE * inner(control, w_j)
                for p_j, w_j in zip(p, zip(*moves, strict=True), strict=True)
            ]
        wide = [x.relu() for x in linear(memory.query[0], h + z)]
        details = {"read_gates": [], "read_weights": []}
        details |= {f"logits_{name}": [] for name in memory.terms}
        context = []
        for r, emitted in enumerate(by_head(linear(memory.query[2], wide))):
            K, P = memory.key_dim, memory.positions
            q, u, v = emitted[:K], emitted[K : K + P], emitted[K + P : K + 2 * P]
            gates = [sigmoid(g) for g in emitted[K + 2 * P :]]
            kappa, e = RATE * memory.sharpness[r], []
            for lag, slot in enumerate(slots):
                terms = {
                    "succession": -kappa * apart(encode(z), slot["before"]),
                    "content": inner(q, slot["keys"][r]) / K**0.5,
                    "lag": own_logit(u, lag),
                    "position": own_logit(v, slot["position"]),
                }
                if control:
                    omega = RATE * memory.nearness[r]
                    terms["place"] = -omega.exp() * apart(p, slot["place"])
                e.append({name: terms[name] for name in memory.terms})
            w = softmax([sum(terms.values()) for terms in e]) if e else []
            for k, g in enumerate(gates):
                context.append(
                    g * sum((w_i * s["latent"][k] for w_i, s in zip(w, slots, strict=True)), none)
                )
            details["read_gates"].append(gates)
            details["read_weights"].append(w)
            for name in memory.terms:
                details[f"logits_{name}"].append([terms[name] for terms in e])
        gates = details.pop("read_gates")
        result = {"context": tensor(context + h, 1), "read_gates": tensor(gates, 2)}
        filled = {name: tensor(nested, 2) for name, nested in details.items() if slots}
        results.append({**result, **filled})
    return results


def depth_of(nested):
    return 1 + depth_of(nested[0]) if isinstance(nested, list) else 0
