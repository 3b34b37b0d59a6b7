"""The six memories: a state is a tuple of tensors, and ``forward`` takes it one step further.

Their mathematics, with its sources, is in the docstrings of ``pyro_gtm.memory``; the parts of each
interface come in the same order there, so that weights can be copied.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

State = tuple[Any, ...]  # of tensors; of the associative memory also the number of the step
TAG = 16  # size of the tag that follows the latent in words of the LRU memory and of the DNC
KEY = 32  # size of a key of the associative memory, whose defaults these three are
QUERY = 128  # width of the hidden layer behind its queries
POSITIONS = 128  # at most so many lags and positions have a logit of their own
RATE = 10.0  # factor on the learning rate of its sharpness


class Sizes(NamedTuple):
    """Of the networks, here and in JAX."""

    latent_dim: int
    width: int
    """Of the MLPs."""
    hidden_dim: int
    """Of the LSTM."""
    slots: int
    heads: int


class VRNN(nn.Module):
    """An LSTM, which is all there is to it; slots and heads mean nothing."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.context_dim = self.hidden = sizes.hidden_dim
        self.cell = nn.LSTMCell(sizes.latent_dim, sizes.hidden_dim)

    def start(self, batch: int) -> State:
        zeros = self.cell.weight_hh.new_zeros(batch, self.hidden)
        return zeros, zeros

    def forward(self, state: State, z: Tensor) -> tuple[Tensor, State]:
        h, c = self.cell(z, state)
        return h, (h, c)


class Introspective(nn.Module):
    """The last latents in a buffer, read by position."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.latent, _, self.hidden, self.slots, self.heads = sizes
        self.context_dim = self.heads * self.latent
        self.cell = nn.LSTMCell(self.latent, self.hidden)
        self.interface = nn.Linear(self.hidden, self.heads * (self.slots + self.latent))

    def start(self, batch: int) -> State:
        new = self.interface.weight.new_zeros
        zeros = new(batch, self.hidden)
        return zeros, zeros, new(batch, self.slots, self.latent)

    def forward(self, state: State, z: Tensor) -> tuple[Tensor, State]:
        h, c, buffer = state
        h, c = self.cell(z, (h, c))
        buffer = torch.cat([z.unsqueeze(1), buffer[:, :-1]], 1)
        logits, gates = (
            self.interface(h).view(len(h), self.heads, -1).split([self.slots, self.latent], -1)
        )
        reads = torch.bmm(logits.softmax(-1), buffer) * gates.sigmoid()
        return reads.flatten(1), (h, c, buffer)


class Associative(nn.Module):
    """The last latents, found by what came before them, by content, by lag and by position.

    A buffer grows until all slots are filled, so that nothing is to be masked.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.latent, _, self.hidden, self.slots, self.heads = sizes
        self.context_dim = self.heads * self.latent + self.hidden
        seen, positions = self.latent + self.hidden, min(self.slots, POSITIONS)
        self.parts = [KEY, positions, positions, self.latent]
        self.cell = nn.LSTMCell(self.latent, self.hidden)
        self.code = nn.Linear(self.latent, self.latent, bias=False)
        self.key = nn.Linear(seen, self.heads * KEY)
        self.query = nn.Sequential(
            nn.Linear(seen, QUERY), nn.ReLU(), nn.Linear(QUERY, self.heads * sum(self.parts))
        )
        self.sharpness = nn.Parameter(torch.linspace(0, 3, self.heads) / RATE)

    def start(self, batch: int) -> State:
        new = self.key.weight.new_zeros
        zeros, latents = new(batch, self.hidden), new(batch, 0, self.latent)
        keys = new(batch, self.heads, 0, KEY)
        return zeros, zeros, latents, latents, keys, new(batch, self.latent), 0

    def forward(self, state: State, z: Tensor) -> tuple[Tensor, State]:
        h, c, latents, before, keys, code, time = state
        filled = min(time, self.slots)  # none in the first step, whose zeros are no latent
        key = self.key(torch.cat([z, h], 1)).view(len(z), self.heads, 1, KEY)
        latents = torch.cat([z.unsqueeze(1), latents], 1)[:, :filled]
        before = torch.cat([code.unsqueeze(1), before], 1)[:, :filled]
        keys = torch.cat([key, keys], 2)[:, :, :filled]
        code = self.code(z)
        h, c = self.cell(z, (h, c))

        emitted = self.query(torch.cat([h, z], 1)).view(len(z), self.heads, -1)
        queries, lags, positions, gates = emitted.split(self.parts, -1)
        logits = own(lags, 0, filled) + own(positions, time - filled, time).flip(-1)  # (B, R, N)
        apart = (before - code.unsqueeze(1)).square().sum(-1)  # (B, N)
        logits = torch.addcmul(logits, self.sharpness.unsqueeze(1), apart.unsqueeze(1), value=-RATE)
        content = (keys * queries.unsqueeze(2)).sum(-1)  # (B, R, N)
        logits = torch.add(logits, content, alpha=KEY**-0.5)
        reads = torch.bmm(logits.softmax(-1), latents) * gates.sigmoid()
        context = torch.cat([reads.flatten(1), h], 1)
        return context, (h, c, latents, before, keys, code, time + 1)


def own(logits: Tensor, start: int, stop: int) -> Tensor:
    """The logits from ``start`` to ``stop``, 0 beyond the last: (..., P) -> (..., stop - start)."""
    logits = logits[..., start:stop]
    return F.pad(logits, (0, stop - start - logits.shape[-1]))


class Addressed(nn.Module):
    """Base of the next three: an LSTM that sees the last reads, and one interface."""

    def __init__(self, sizes: Sizes, word: int, parts: list[int]) -> None:
        super().__init__()
        latent, _, self.hidden, self.slots, self.heads = sizes
        self.word, self.parts = word, parts
        self.context_dim = self.heads * word + self.hidden
        self.cell = nn.LSTMCell(latent + self.heads * word, self.hidden)
        self.interface = nn.Linear(self.hidden + latent, sum(parts))

    def zeros(self, batch: int, *shape: int) -> Tensor:
        return self.interface.weight.new_zeros(batch, *shape)

    def control(
        self, h: Tensor, c: Tensor, reads: Tensor, z: Tensor
    ) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        h, c = self.cell(torch.cat([z, reads.flatten(1)], 1), (h, c))
        return h, c, self.interface(torch.cat([h, z], 1)).split(self.parts, 1)

    def context(self, reads: Tensor, h: Tensor) -> Tensor:
        return torch.cat([reads.flatten(1), h], 1)


def look_up(memory: Tensor, keys: Tensor, strengths: Tensor) -> Tensor:
    """Softmax of the cosines: memory (B, N, W), keys (B, R, W), strengths (B, R) -> (B, R, N)."""
    keys = keys * (strengths / (keys.square().sum(-1) + 1e-6).sqrt()).unsqueeze(-1)
    norms = (memory.square().sum(-1) + 1e-6).sqrt()
    return (torch.bmm(keys, memory.transpose(1, 2)) / norms.unsqueeze(1)).softmax(-1)


class NTM(Addressed):
    """Heads that look up by content and move by location; one of them writes."""

    def __init__(self, sizes: Sizes) -> None:
        every, word = sizes.heads + 1, sizes.latent_dim
        parts = [every * word, every, every, 3 * every, every, word, word]
        super().__init__(sizes, word, parts)
        self.starts = nn.Parameter(torch.randn(self.heads, self.slots) / 200)

    def start(self, batch: int) -> State:
        zeros = self.zeros(batch, self.hidden)
        first = F.one_hot(torch.zeros(1, dtype=torch.long), self.slots).to(zeros)
        weights = torch.cat([(20 * self.starts).softmax(-1), first]).expand(batch, -1, -1)
        memory = self.zeros(batch, self.slots, self.word) + 1e-6
        return zeros, zeros, memory, weights, self.zeros(batch, self.heads, self.word)

    def forward(self, state: State, z: Tensor) -> tuple[Tensor, State]:
        h, c, memory, w, reads = state
        h, c, (keys, strengths, gates, shifts, exponents, erase, add) = self.control(h, c, reads, z)
        content = look_up(memory, keys.view(*w.shape[:2], self.word), F.softplus(strengths))
        w = torch.lerp(w, content, gates.sigmoid().unsqueeze(2))
        back, stay, on = shifts.view(*w.shape[:2], 3).softmax(-1).split(1, -1)
        w = back * w.roll(-1, -1) + stay * w + on * w.roll(1, -1)
        w = (w + 1e-16) ** (1 + F.softplus(exponents)).unsqueeze(2)
        w = w / w.sum(-1, keepdim=True)
        writing = w[:, -1].unsqueeze(2)  # (B, N, 1)
        memory = memory * (1 - writing * erase.sigmoid().unsqueeze(1)) + writing * add.unsqueeze(1)
        reads = torch.bmm(w[:, :-1], memory)
        return self.context(reads, h), (h, c, memory, w, reads)


class LRU(Addressed):
    """Look up by content; write where one has read, or to the slots used least; tags turn."""

    def __init__(self, sizes: Sizes) -> None:
        heads, word = sizes.heads, sizes.latent_dim + TAG
        super().__init__(sizes, word, [heads * word, heads, heads, heads * word])
        frequencies = (torch.arange(TAG // 2) + 0.5) * (2 * math.pi / max(TAG, sizes.slots))
        self.register_buffer("frequencies", frequencies, persistent=False)

    def start(self, batch: int) -> State:
        zeros = self.zeros(batch, self.hidden)
        memory = self.zeros(batch, self.slots, self.word) + 1e-6
        read_w = self.zeros(batch, self.heads, self.slots)
        reads = self.zeros(batch, self.heads, self.word)
        return zeros, zeros, memory, self.zeros(batch, self.slots), read_w, reads, self.zeros(1)

    def turn(self, words: Tensor, angles: Tensor) -> Tensor:
        cos, sin = angles.cos(), angles.sin()
        latent, a, b = words.split([words.shape[-1] - TAG, TAG // 2, TAG // 2], -1)
        return torch.cat([latent, a * cos - b * sin, a * sin + b * cos], -1)

    def forward(self, state: State, z: Tensor) -> tuple[Tensor, State]:
        h, c, memory, usage, read_w, reads, time = state
        h, c, (keys, strengths, gates, add) = self.control(h, c, reads, z)
        angles = time * self.frequencies
        add = self.turn(add.view(reads.shape), angles)
        keys = self.turn(keys.view(reads.shape), angles)
        least = usage.argsort(dim=1, stable=True)[:, : self.heads]
        least = F.one_hot(least, self.slots).to(usage)  # (B, R, N)
        write_w = torch.lerp(least, read_w, gates.sigmoid().unsqueeze(2))
        memory = memory * (1 - least.sum(1)).unsqueeze(2)
        memory = torch.baddbmm(memory, write_w.transpose(1, 2), add)
        read_w = look_up(memory, keys, 1 + F.softplus(strengths))
        reads = self.turn(torch.bmm(read_w, memory), -angles)
        with torch.no_grad():  # it is used for its order only
            written = write_w.sum(1)
            usage = 0.99 * usage + written + (usage + written).clamp(max=1) * read_w.sum(1)
        return self.context(reads, h), (h, c, memory, usage, read_w, reads, time + 1)


class DNC(Addressed):
    """Slots that are allocated when free, and linked in the order of writing."""

    def __init__(self, sizes: Sizes) -> None:
        heads, word = sizes.heads, sizes.latent_dim + TAG
        parts = [heads * word, heads, 3 * heads, heads, word, 1, 1, 1, word, word]
        super().__init__(sizes, word, parts)
        self.starts = nn.Parameter(torch.randn(heads, self.slots) / 200)
        self.register_buffer("between", 1 - torch.eye(self.slots), persistent=False)

    def start(self, batch: int) -> State:
        zeros, unused = self.zeros(batch, self.hidden), self.zeros(batch, self.slots)
        memory = self.zeros(batch, self.slots, self.word)
        links = torch.diag(self.starts.new_ones(self.slots - 1), -1).expand(batch, -1, -1)
        precedence = F.one_hot(torch.tensor([self.slots - 1] * batch), self.slots).to(unused)
        read_w = (20 * self.starts).softmax(-1).expand(batch, -1, -1)
        reads = self.zeros(batch, self.heads, self.word)
        return zeros, zeros, memory, unused, links, precedence, read_w, unused, reads

    def forward(self, state: State, z: Tensor) -> tuple[Tensor, State]:
        h, c, memory, usage, links, precedence, read_w, write_w, reads = state
        h, c, interface = self.control(h, c, reads, z)
        keys, strengths, modes, frees, key, strength, allocation, writing, erase, add = interface

        usage = usage + write_w - usage * write_w
        usage = usage * (1 - frees.sigmoid().unsqueeze(2) * read_w).prod(1)
        content = look_up(memory, key.unsqueeze(1), 1 + F.softplus(strength)).squeeze(1)
        write_w = torch.lerp(content, self.allocate(usage), allocation.sigmoid())
        write_w = writing.sigmoid() * write_w
        to = write_w.unsqueeze(2)  # (B, N, 1)
        memory = memory * (1 - to * erase.sigmoid().unsqueeze(1)) + to * add.unsqueeze(1)

        links = (1 - to - write_w.unsqueeze(1)) * links + to * precedence.unsqueeze(1)
        links = links * self.between
        precedence = (1 - write_w.sum(1, keepdim=True)) * precedence + write_w

        back, found, on = modes.view(len(h), self.heads, 3).softmax(-1).split(1, -1)
        content = look_up(memory, keys.view(reads.shape), 1 + F.softplus(strengths))
        read_w = (
            back * torch.bmm(read_w, links)
            + found * content
            + on * torch.bmm(read_w, links.transpose(1, 2))
        )
        reads = torch.bmm(read_w, memory)
        state = h, c, memory, usage, links, precedence, read_w, write_w, reads
        return self.context(reads, h), state

    def allocate(self, usage: Tensor) -> Tensor:
        """Usage that agrees to a hundredth counts as equal; of equals the first comes first."""
        usage = 1e-6 + (1 - 1e-6) * usage
        order = (usage / 0.01).round().argsort(dim=1, stable=True)
        ascending = usage.gather(1, order)
        fuller = torch.cat([torch.ones_like(usage[:, :1]), ascending[:, :-1]], 1).cumprod(1)
        return torch.zeros_like(usage).scatter(1, order, (1 - ascending) * fuller)


MEMORIES: dict[str, type[nn.Module]] = {
    "associative": Associative,
    "dnc": DNC,
    "introspective": Introspective,
    "lru": LRU,
    "ntm": NTM,
    "vrnn": VRNN,
}
"""By the names they have in the library."""
