"""The associative memory: all latents kept, each found by what came before it, by what it holds,
by when or by where it came.

It is ours, not the paper's: the Introspective memory's buffer (Gemici et al. 2017, arXiv
1702.04649, equations 9-12) under a structured attention, whose logits are a sum of terms of which
each alone is a way to recall::

    h_t      = LSTM(h_{t-1}, [z_{t-1}, c_t]),   begun as a clock
    p_t      = p_{t-1} + W c_t
    e_t^r[i] = -κ_r |E z_{t-1} - E z_{i-1}|²             succession
             + <q_t^r, k^r(z_i, h_i)> / sqrt(K)          content
             + u_t^r[t - i]                              lag
             + v_t^r[i]                                  position
             - exp(ω_r) |p_t - p_i|²                     place, where there are controls
    w_t^r    = softmax_i(e_t^r[i]) over the slots that are filled, r = 1..R
    Ψ_t      = [Σ_i w_t^1[i] z_i ⊙ sigmoid(g_t^1), ..., h_t]

with q, u, v, g from one hidden layer over [h_t, z_{t-1}], and E one linear map, the same on both
sides, a rotation at the start:

- *succession* finds what came after the thing most like the last one (with one head of its own it
  is the induction head of Olsson et al. 2022, arXiv 2209.11895);
- *content* is the dot-product attention of Vaswani et al. 2017 (arXiv 1706.03762);
- *lag* counts back from now, as the Introspective memory does; *position* from the start;
- *place* is where the controls, summed, have led to: the dead reckoning of GTM-SM (Fraccaro et al.
  2018, arXiv 1804.09401).

The heads are shaped for lists, walks and turns.  They were made with the paper's tasks in view, and
a term that is left out takes its task with it (docs/learning.md measures both).

Nothing that is written depends on what is read: where all latents are known beforehand
(:func:`pyro_gtm.unroll` of a sequence, the stacked layout), :meth:`AssociativeMemory.unroll` makes
all steps one batched computation.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pyro_gtm.internals.activation_checkpointing import checkpointed
from pyro_gtm.internals.checks import check_positive
from pyro_gtm.internals.products import Linear
from pyro_gtm.memory.base import NEVER, MemoryModule, MemoryStep, MemoryUnroll, check_control
from pyro_gtm.memory.controller import LSTMController
from pyro_gtm.memory.registry import register_memory

__all__ = ["TERMS", "AssociativeMemory", "AssociativeState"]

TERMS = ("succession", "content", "lag", "position", "place")
"""The terms of a head's logits."""

RATE = 10.0
"""Factor on the learning rate of κ, ω and W: an optimiser that moves every weight by some 0.002 in
a step would need thousands of steps to sharpen a head, or to find its way about."""

MOST_POSITIONS = 128
"""How many lags and positions have a logit of their own by default."""

LOGITS_AT_ONCE = 2**22
"""Greatest number of logits in a block of :meth:`AssociativeMemory.unroll`."""


class AssociativeState(NamedTuple):
    """State of an :class:`AssociativeMemory`; slots are ordered newest first."""

    hidden: Tensor
    """h_t: ``(*batch, hidden_dim)``."""

    cell: Tensor
    """The LSTM's cell: ``(*batch, hidden_dim)``."""

    latents: Tensor
    """z_i: ``(*batch, L, Z)``."""

    before: Tensor
    """E z_{i-1}: ``(*batch, L, Z)``."""

    keys: Tensor
    """k^r(z_i, h_i): ``(*batch, L, R, K)``."""

    places: Tensor
    """p_i: ``(*batch, L, P)``."""

    code: Tensor
    """E z of the newest: ``(*batch, Z)``."""

    place: Tensor
    """p_t: ``(*batch, P)``."""

    writes: Tensor
    """How many latents were written, -1 before the first step: ``(*batch)``, in the floating-point
    type of the rest."""


class _Query(NamedTuple):
    """What the interface makes of [h_t, z_{t-1}]."""

    queries: Tensor
    """q: ``(*, R, K)``, scaled."""

    lags: Tensor
    """u: ``(*, R, P)``."""

    positions: Tensor
    """v: ``(*, R, P)``."""

    gates: Tensor
    """sigmoid(g): ``(*, R, Z)``."""


class _Steps(NamedTuple):
    """What Q steps look for."""

    codes: Tensor
    """E z_{t-1}: ``(*, Q, Z)``."""

    places: Tensor
    """p_t: ``(*, Q, P)``."""

    queries: Tensor
    """``(*, Q, R, K)``."""

    lags: Tensor
    """``(*, Q, R, P)``."""

    positions: Tensor
    """``(*, Q, R, P)``."""

    gates: Tensor
    """``(*, Q, R, Z)``."""


class _Slots(NamedTuple):
    """What S slots hold."""

    latents: Tensor
    """z_i: ``(*, S, Z)``."""

    before: Tensor
    """E z_{i-1}: ``(*, S, Z)``."""

    keys: Tensor
    """k(z_i, h_i): ``(*, S, R, K)``."""

    places: Tensor
    """p_i: ``(*, S, P)``."""


class _Scales(NamedTuple):
    """Of the terms that measure distances, of each head."""

    sharpness: Tensor
    """κ: ``(R,)``, of either sign."""

    nearness: Tensor
    """exp(ω): ``(R,)``."""


class _Attended(NamedTuple):
    """The attention of Q steps to S slots."""

    terms: dict[str, Tensor]
    """Of the logits: ``(*, R, Q, S)`` each."""

    log_weights: Tensor
    """log w: ``(*, R, Q, S)``."""

    weights: Tensor
    """w: ``(*, R, Q, S)``."""

    reads: Tensor
    """Gated: ``(*, Q, R, Z)``."""


@register_memory("associative")
class AssociativeMemory(MemoryModule):
    """The last ``slots`` latents, found by succession, content, lag, position and place.

    Details of a step: ``read_weights`` w ``(*batch, R, L)``, slot 0 being the newest latent;
    ``read_gates`` sigmoid(g) ``(*batch, R, Z)``; and ``logits_succession``, ``logits_content``,
    ``logits_lag``, ``logits_position`` and, with controls, ``logits_place``, ``(*batch, R, L)``:
    the terms whose sum the weights are the softmax of; ``log_shares`` log w.

    A slot that was never filled is never read: its weight is exactly zero.  In the first step all
    are, and the reads are zero.

    Four heads pass on as many latents from the first step on, and a posterior that adds to a prior
    that adds to them can grow without bound along a sequence before it has learned not to.
    ``posterior="frame"`` cannot; with ``"residual"`` give the learning rate a warm-up.

    Args:
        latent_dim: Z, size of what is written each step.
        slots: L, how many of the latest latents are kept.
        heads: R, how many reads there are in a step.
        hidden_dim: width of the LSTM.
        query_dim: width of the hidden layer behind q, u, v.
        key_dim: K, size of a key.
        place_dim: P, size of a place; unused without controls.
        control_dim: size of the control.
        positions: how many lags, and how many positions from the start, have a logit of their own
            (the others have 0); ``slots``, but at most 128, if None.
        terms: the terms of the logits that there are, all of ``TERMS`` by default; ``"place"``
            counts only with controls.
    """

    reads_by_age = True
    controller_fields = ("hidden", "cell", "place")

    def __init__(
        self,
        latent_dim: int,
        slots: int = 32,
        heads: int = 4,
        hidden_dim: int = 64,
        query_dim: int = 128,
        key_dim: int = 32,
        place_dim: int = 4,
        control_dim: int = 0,
        positions: int | None = None,
        terms: str | Iterable[str] = TERMS,
    ) -> None:
        positions = min(slots, MOST_POSITIONS) if positions is None else positions
        check_positive(
            "AssociativeMemory",
            latent_dim=latent_dim,
            slots=slots,
            heads=heads,
            hidden_dim=hidden_dim,
            query_dim=query_dim,
            key_dim=key_dim,
            place_dim=place_dim,
            positions=positions,
        )
        terms = terms.replace(",", " ").split() if isinstance(terms, str) else list(terms)
        if not terms or not set(terms) <= set(TERMS):
            raise ValueError(
                f"AssociativeMemory: terms must be some of {', '.join(TERMS)}, got {terms!r}"
            )
        super().__init__(
            latent_dim=latent_dim,
            control_dim=control_dim,
            context_dim=heads * latent_dim + hidden_dim,
            read_shape=(heads, latent_dim),
            recall_length=slots,
        )
        self.slots = slots
        self.heads = heads
        self.key_dim = key_dim
        self.positions = positions
        self.terms = frozenset(terms) - (frozenset() if control_dim else {"place"})
        if not self.terms:
            raise ValueError(
                "AssociativeMemory: terms must be more than 'place' for control_dim=0, which knows "
                "no place"
            )
        self.place_dim = place_dim if control_dim else 0
        self.controller = LSTMController(latent_dim + control_dim, hidden_dim, horizon=slots)
        self.code = Linear(latent_dim, latent_dim, bias=False)
        nn.init.orthogonal_(self.code.weight)
        self.key = Linear(latent_dim + hidden_dim, heads * key_dim)
        self.query = nn.Sequential(
            Linear(latent_dim + hidden_dim, query_dim),
            nn.ReLU(),
            Linear(query_dim, heads * (key_dim + 2 * positions + latent_dim)),
        )
        # Heads begin apart, from one that ignores succession to one that follows it.
        sharpness = torch.linspace(0, 3, heads) if heads > 1 else torch.ones(1)
        self.sharpness = nn.Parameter(sharpness / RATE)  # κ / RATE, (R,)
        if self.place_dim:
            self.move = nn.Parameter(torch.randn(control_dim, place_dim) / RATE)  # W / RATE
            self.nearness = nn.Parameter(torch.zeros(heads))  # ω / RATE, (R,)

    def initial_state(self, batch_shape: Sequence[int] = ()) -> AssociativeState:
        hidden = self.controller.initial(batch_shape)

        def zeros(*shape: int) -> Tensor:
            return hidden.new_zeros((*batch_shape, *shape))

        return AssociativeState(
            hidden=hidden,
            cell=self.controller.initial(batch_shape),
            latents=zeros(self.slots, self.latent_dim),
            before=zeros(self.slots, self.latent_dim),
            keys=zeros(self.slots, self.heads, self.key_dim),
            places=zeros(self.slots, self.place_dim),
            code=zeros(self.latent_dim),
            place=zeros(self.place_dim),
            writes=zeros() - 1,  # the zeros of the first step are no latent
        )

    def step(
        self,
        state: AssociativeState,
        latent: Tensor,
        control: Tensor | None = None,
        *,
        write: bool = True,
    ) -> MemoryStep:
        """One step; kept from writing, a slot's age is counted from the last write."""
        check_control("AssociativeMemory", control, self.control_dim)
        code = self.code(latent)  # (*, Z)
        if write:
            # The controller as it was when this latent was drawn, and where.
            key = self._key(latent, state.hidden)  # (*, R, K)
            state = state._replace(
                latents=_push(state.latents, latent),
                before=_push(state.before, state.code),
                keys=_push(state.keys, key, event_dims=2),
                places=_push(state.places, state.place),
                code=code,
                writes=state.writes + 1,
            )
        else:
            state = state._replace(writes=state.writes.clamp(min=0))
        inputs = [latent] if control is None else [latent, control]
        hidden, cell = self.controller(inputs, state.hidden, state.cell)
        place = state.place if control is None else state.place + self._moved(control)
        query = self._query(latent, hidden)

        ages = torch.arange(self.slots, device=latent.device)  # (L,)
        positions = state.writes.long().unsqueeze(-1) - 1 - ages  # (*, L), from the start
        attended = self._attend(
            _Steps(*(part.unsqueeze(-2) for part in (code, place)), *_one(query)),
            _Slots(state.latents, state.before, state.keys, state.places),
            self._scales(),
            lags=ages.unsqueeze(0),
            positions=positions.unsqueeze(-2),
        )
        reads = attended.reads.squeeze(-3)  # (*, R, Z)
        context = torch.cat([reads.flatten(-2), hidden], dim=-1)  # (*, R * Z + H)
        logits = {f"logits_{name}": term.squeeze(-2) for name, term in attended.terms.items()}
        return MemoryStep(
            state._replace(hidden=hidden, cell=cell, place=place),
            context,
            details={
                "read_weights": attended.weights.squeeze(-2),
                "read_gates": query.gates,
                "log_shares": attended.log_weights.squeeze(-2),
                **logits,
            },
        )

    def unroll(
        self,
        state: AssociativeState,
        latent: Tensor,
        latents: Tensor,
        controls: Tensor | None = None,
    ) -> MemoryUnroll:
        """All steps of a fresh sequence at once, equal to :meth:`step` after :meth:`step`.

        Logits are made for so many steps at once as keep them below 2^22 numbers; where that is
        not all, they are made again for the gradients.
        """
        check_control("AssociativeMemory", controls, self.control_dim)
        length, batch_dims = len(latents), latents.dim() - 2
        seen = torch.cat([latent.unsqueeze(0), latents[:-1]])  # (T, *, Z), z_{t-1}
        hidden, last_hidden, cell = self._run_controller(seen, controls, state)  # (T, *, H)
        before = torch.cat([state.hidden.unsqueeze(0), hidden[:-1]])  # h_{t-1}
        places = state.place.unsqueeze(0)
        if controls is not None:
            places = torch.cat([places, places + self._moved(controls).cumsum(0)])
        else:
            places = places.expand(length + 1, *places.shape[1:])  # (T + 1, *, P)
        codes = self.code(seen)
        predecessors = torch.cat([state.code.unsqueeze(0), codes[:-1]])  # E z_{t-2}
        keys = self._key(seen, before)  # (T, *, R, K)

        def along(sequence: Tensor) -> Tensor:
            """Time behind the batch: of the steps, or of the slots."""
            return sequence.movedim(0, batch_dims)

        slots = _Slots(*(along(part) for part in (seen, predecessors, keys, places[:-1])))
        steps = _Steps(
            along(codes), along(places[1:]), *(along(part) for part in self._query(seen, hidden))
        )
        attended = self._attend_in_blocks(steps, slots, length)
        reads = attended[1].movedim(batch_dims, 0)  # (T, *, R, Z)
        return MemoryUnroll(
            state=AssociativeState(
                last_hidden,
                cell,
                self._last_slots(seen, batch_dims),
                self._last_slots(predecessors, batch_dims),
                self._last_slots(keys, batch_dims),
                self._last_slots(places[:-1], batch_dims),
                codes[-1],
                places[-1],
                state.writes + length,
            ),
            contexts=torch.cat([reads.flatten(-2), hidden], dim=-1),
            log_shares=attended[0][..., 1:].movedim(-2, 0),  # (T, *, R, T - 1)
        )

    def _attend_in_blocks(self, steps: _Steps, slots: _Slots, length: int) -> tuple[Tensor, Tensor]:
        """Log-weights ``(*, R, T, T)`` and gated reads ``(*, T, R, Z)`` of all steps."""
        times = torch.arange(length, device=slots.latents.device)
        batch = math.prod(slots.latents.shape[:-2])
        size = max(1, LOGITS_AT_ONCE // max(1, batch * self.heads * length))

        # Weights are handed in: where a block is made again, random ones would be others.
        scales = self._scales()

        def attend(start: int, stop: int, *parts: Tensor) -> tuple[Tensor, Tensor]:
            count, most = len(_Steps._fields), len(_Steps._fields) + len(_Slots._fields)
            lags = times[start:stop].unsqueeze(-1) - times  # (Q, T), below 0 for what is to come
            attended = self._attend(
                _Steps(*parts[:count]),
                _Slots(*parts[count:most]),
                _Scales(*parts[most:]),
                lags=lags.masked_fill(lags >= self.slots, -1),
                # The first is the zeros before the first latent, at -1.
                positions=(times - 1).expand(lags.shape),
            )
            return attended.log_weights, attended.reads

        if size >= length:
            return attend(0, length, *steps, *slots, *scales)
        blocks = []
        for start in range(0, length, size):
            stop = min(length, start + size)
            parts = [part[..., start:stop, :] for part in steps[:2]]
            parts += [part[..., start:stop, :, :] for part in steps[2:]]
            blocks.append(checkpointed(attend, start, stop, *parts, *slots, *scales))
        log_weights, reads = zip(*blocks, strict=True)
        return torch.cat(log_weights, dim=-2), torch.cat(reads, dim=-3)

    def _last_slots(self, stored: Tensor, batch_dims: int) -> Tensor:
        """The slots after the last step, of what each step stored: ``(T, *, n)`` to ``(*, L, n)``,
        newest first."""
        newest = stored[-self.slots :].flip(0)
        unused = newest.new_zeros(self.slots - len(newest), *newest.shape[1:])
        return torch.cat([newest, unused]).movedim(0, batch_dims)

    def _run_controller(
        self, latents: Tensor, controls: Tensor | None, state: AssociativeState
    ) -> tuple[Tensor, Tensor, Tensor]:
        """h_1..h_T ``(T, *, H)``, h_T and the last cell."""
        inputs = latents if controls is None else torch.cat([latents, controls], dim=-1)
        batch_shape = inputs.shape[1:-1]
        outputs, hidden, cell = self.controller.run(
            inputs.flatten(1, -2) if batch_shape else inputs.unsqueeze(1),
            state.hidden.reshape(-1, state.hidden.shape[-1]),
            state.cell.reshape(-1, state.cell.shape[-1]),
        )
        shape = (*batch_shape, -1)
        return outputs.reshape(len(latents), *shape), hidden.reshape(shape), cell.reshape(shape)

    def _key(self, latent: Tensor, hidden: Tensor) -> Tensor:
        """k(z, h): ``(*, R, K)``."""
        return self.key(torch.cat([latent, hidden], dim=-1)).unflatten(-1, (self.heads, -1))

    def _moved(self, control: Tensor) -> Tensor:
        """W c: ``(*, P)``."""
        return RATE * control @ self.move

    def _scales(self) -> _Scales:
        sharpness = RATE * self.sharpness
        nearness = (RATE * self.nearness).exp() if self.place_dim else torch.ones_like(sharpness)
        return _Scales(sharpness, nearness)

    def _query(self, latent: Tensor, hidden: Tensor) -> _Query:
        parts = self.query(torch.cat([hidden, latent], dim=-1)).unflatten(-1, (self.heads, -1))
        queries, lags, positions, gates = parts.split(
            [self.key_dim, self.positions, self.positions, self.latent_dim], dim=-1
        )
        return _Query(queries * self.key_dim**-0.5, lags, positions, gates.sigmoid())

    def _attend(
        self, steps: _Steps, slots: _Slots, scales: _Scales, *, lags: Tensor, positions: Tensor
    ) -> _Attended:
        """The attention of Q steps to S slots.

        Args:
            steps: what they look for.
            slots: what there is.
            scales: of the terms.
            lags: how long ago each slot was filled, below 0 where it is not: ``(Q, S)`` of int64.
            positions: of each slot from the start, below 0 where it holds none: ``(*, Q, S)``.
        """
        heads = slice(None), None, None  # (R, 1, 1)
        terms: dict[str, Tensor] = {}
        if "succession" in self.terms:
            apart = _squared_distances(steps.codes, slots.before).unsqueeze(-3)  # (*, 1, Q, S)
            terms["succession"] = -scales.sharpness[heads] * apart
        if "content" in self.terms:
            terms["content"] = _inner_products(steps.queries, slots.keys)
        if "lag" in self.terms:
            terms["lag"] = _look_up(steps.lags, lags)
        if "position" in self.terms:
            terms["position"] = _look_up(steps.positions, positions)
        if "place" in self.terms:
            # The few numbers of a place may grow large, on a long walk, and cancel.
            moves = steps.places.unsqueeze(-2) - slots.places.unsqueeze(-3)  # (*, Q, S, P)
            apart = moves.square().sum(-1).unsqueeze(-3)
            terms["place"] = -scales.nearness[heads] * apart
        logits = functools.reduce(torch.add, terms.values())  # (*, R, Q, S)
        filled = ((lags >= 0) & (positions >= 0)).unsqueeze(-3)  # (*, 1, Q, S)
        log_weights = logits.masked_fill(~filled, NEVER).log_softmax(-1).masked_fill(~filled, NEVER)
        weights = log_weights.exp()  # (*, R, Q, S), exactly zero for what is not filled
        # One product for all heads, which have the same latents.
        reads = weights.flatten(-3, -2) @ slots.latents  # (*, R * Q, Z)
        reads = reads.unflatten(-2, weights.shape[-3:-1]).movedim(-3, -2)  # (*, Q, R, Z)
        return _Attended(terms, log_weights, weights, reads * steps.gates)


def _one(query: _Query) -> list[Tensor]:
    """The query of one step as that of several."""
    return [part.unsqueeze(-3) for part in query]


def _push(slots: Tensor, newest: Tensor, event_dims: int = 1) -> Tensor:
    """Slots newest first, ``(*, L, *event)``, with a new one and without the oldest."""
    dim = -1 - event_dims
    return torch.cat([newest.unsqueeze(dim), slots.narrow(dim, 0, slots.shape[dim] - 1)], dim=dim)


def _squared_distances(one: Tensor, other: Tensor) -> Tensor:
    """Of Q vectors to S: ``(*, Q, n)`` and ``(*, S, n)`` to ``(*, Q, S)``."""
    if one.shape[-2] == 1:  # (*, Q, S, n) numbers are few
        return (one - other).square().sum(-1).unsqueeze(-2)
    products = one @ other.mT
    return one.square().sum(-1).unsqueeze(-1) + other.square().sum(-1).unsqueeze(-2) - 2 * products


def _inner_products(queries: Tensor, keys: Tensor) -> Tensor:
    """Of Q queries and S keys, head by head: ``(*, Q, R, K)``, ``(*, S, R, K)`` to
    ``(*, R, Q, S)``."""
    if queries.shape[-3] == 1:  # a matrix product would copy the keys, to have heads first
        return (queries * keys).sum(-1).mT.unsqueeze(-2)
    return queries.movedim(-2, -3) @ keys.movedim(-3, -1)


def _look_up(logits: Tensor, index: Tensor) -> Tensor:
    """The logit of each index, 0 where there is none of its own.

    Args:
        logits: ``(*, Q, R, P)``.
        index: ``(*, Q, S)`` of int64.

    Returns:
        ``(*, R, Q, S)``.
    """
    logits = logits.movedim(-2, -3)  # (*, R, Q, P)
    count = logits.shape[-1]
    index = index.unsqueeze(-3)  # (*, 1, Q, S)
    wanted = index.clamp(0, count - 1).expand(*logits.shape[:-1], index.shape[-1])
    return logits.gather(-1, wanted).masked_fill((index < 0) | (index >= count), 0.0)
