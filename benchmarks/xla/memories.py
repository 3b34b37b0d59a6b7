"""The six memories: a state is a tuple of arrays, and ``advance`` takes it one step further.

Their mathematics, with its sources, is in the docstrings of ``pyro_gtm.memory``; the parts of each
interface come in the same order there, so that weights can be copied.  Order among slots comes from
comparing all pairs, ``(B, N, N)``, as XLA's sorts are slow for so few.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from handwritten import Sizes
from xla.layers import Parameters, linear, lstm, perceptron

State = tuple[Array, ...]
TAG = 16  # size of the tag that follows the latent in words of the LRU memory and of the DNC
KEY = 32  # size of a key of the associative memory
POSITIONS = 128  # at most so many of its lags and positions have a logit of their own
RATE = 10.0  # factor on the learning rate of its sharpness


@dataclass(frozen=True)
class Memory:
    sizes: Sizes


class VRNN(Memory):
    """An LSTM, which is all there is to it; slots and heads mean nothing."""

    def start(self, parameters: Parameters, batch: int, dtype: Any) -> State:
        zeros = jnp.zeros((batch, self.sizes.hidden_dim), dtype)
        return zeros, zeros

    def advance(self, parameters: Parameters, state: State, z: Array) -> tuple[Array, State]:
        h, c = lstm(parameters["cell"], z, *state)
        return h, (h, c)


class Introspective(Memory):
    """The last latents in a buffer, read by position."""

    def start(self, parameters: Parameters, batch: int, dtype: Any) -> State:
        zeros = jnp.zeros((batch, self.sizes.hidden_dim), dtype)
        return zeros, zeros, jnp.zeros((batch, self.sizes.slots, self.sizes.latent_dim), dtype)

    def advance(self, parameters: Parameters, state: State, z: Array) -> tuple[Array, State]:
        h, c, buffer = state
        h, c = lstm(parameters["cell"], z, h, c)
        buffer = jnp.concatenate([z[:, None], buffer[:, :-1]], 1)
        emitted = linear(parameters["interface"], h).reshape(len(h), self.sizes.heads, -1)
        logits, gates = jnp.split(emitted, [self.sizes.slots], -1)
        reads = jax.nn.softmax(logits) @ buffer * jax.nn.sigmoid(gates)
        return reads.reshape(len(h), -1), (h, c, buffer)


class Associative(Memory):
    """The last latents, found by what came before them, by content, by lag and by position."""

    def start(self, parameters: Parameters, batch: int, dtype: Any) -> State:
        _, _, _, slots, heads = self.sizes
        zeros = jnp.zeros((batch, self.sizes.hidden_dim), dtype)
        latents = jnp.zeros((batch, slots, self.sizes.latent_dim), dtype)
        keys = jnp.zeros((batch, heads, slots, KEY), dtype)
        return zeros, zeros, latents, latents, keys, latents[:, 0], jnp.zeros((), int)

    def advance(self, parameters: Parameters, state: State, z: Array) -> tuple[Array, State]:
        h, c, latents, before, keys, code, time = state
        _, _, _, slots, heads = self.sizes
        key = linear(parameters["key"], jnp.concatenate([z, h], -1)).reshape(-1, heads, 1, KEY)
        latents = jnp.concatenate([z[:, None], latents[:, :-1]], 1)
        before = jnp.concatenate([code[:, None], before[:, :-1]], 1)
        keys = jnp.concatenate([key, keys[:, :, :-1]], 2)
        code = z @ parameters["code"]
        h, c = lstm(parameters["cell"], z, h, c)

        emitted = perceptron(parameters["query"], jnp.concatenate([h, z], -1))
        own = min(slots, POSITIONS)
        queries, lags, positions, gates = jnp.split(
            emitted.reshape(len(h), heads, -1), list(accumulate([KEY, own, own])), -1
        )
        logits = own_logits(lags, slots) + at_positions(positions, time, slots)  # (B, R, N)
        apart = jnp.square(before - code[:, None]).sum(-1)  # (B, N)
        logits = logits - RATE * parameters["sharpness"][:, None] * apart[:, None]
        logits = logits + KEY**-0.5 * (keys * queries[:, :, None]).sum(-1)
        # In the first step no slot is filled, and all hold zeros.
        weights = jax.nn.softmax(jnp.where(jnp.arange(slots) < time, logits, -1e9))
        reads = weights @ latents * jax.nn.sigmoid(gates)
        return context(reads, h), (h, c, latents, before, keys, code, time + 1)


def own_logits(logits: Array, count: int) -> Array:
    """The first ``count`` logits, 0 where there is none: (B, R, P) -> (B, R, count)."""
    missing = max(0, count - logits.shape[-1])
    return jnp.pad(logits, ((0, 0), (0, 0), (0, missing)))[..., :count]


def at_positions(logits: Array, time: Array, slots: int) -> Array:
    """The logits of positions time - 1, time - 2, ..., 0 where there is none: to (B, R, slots)."""
    zeros = jnp.zeros((*logits.shape[:2], slots), logits.dtype)
    backwards = jnp.concatenate([zeros, logits[..., ::-1], zeros], -1)
    # A start below 0 would count from the end.
    start = jnp.maximum(slots + logits.shape[-1] - time, 0)
    return jax.lax.dynamic_slice_in_dim(backwards, start, slots, -1)


class Addressed(Memory):
    """Base of the next three: an LSTM that sees the last reads, and one interface."""

    @property
    def word(self) -> int:
        return self.sizes.latent_dim + TAG

    @property
    def parts(self) -> list[int]:
        """Sizes of what the interface emits."""
        raise NotImplementedError

    def blank(self, batch: int, dtype: Any) -> tuple[Array, Array, Array]:
        """Zeros for h, for what is one number a slot, and for the reads."""
        sizes = self.sizes
        return (
            jnp.zeros((batch, sizes.hidden_dim), dtype),
            jnp.zeros((batch, sizes.slots), dtype),
            jnp.zeros((batch, sizes.heads, self.word), dtype),
        )

    def control(
        self, parameters: Parameters, h: Array, c: Array, reads: Array, z: Array
    ) -> tuple[Array, Array, list[Array]]:
        h, c = lstm(parameters["cell"], jnp.concatenate([z, reads.reshape(len(z), -1)], -1), h, c)
        emitted = linear(parameters["interface"], jnp.concatenate([h, z], -1))
        return h, c, jnp.split(emitted, list(accumulate(self.parts))[:-1], -1)


def context(reads: Array, h: Array) -> Array:
    return jnp.concatenate([reads.reshape(len(h), -1), h], -1)


def starts(parameters: Parameters, batch: int) -> Array:
    """Where the heads that read start: ``(B, R, N)``."""
    weights = jax.nn.softmax(20 * parameters["starts"])
    return jnp.broadcast_to(weights, (batch, *weights.shape))


def transpose(x: Array) -> Array:
    return jnp.swapaxes(x, 1, 2)


def look_up(memory: Array, keys: Array, strengths: Array) -> Array:
    """Softmax of the cosines: memory (B, N, W), keys (B, R, W), strengths (B, R) -> (B, R, N)."""
    scale = strengths * jax.lax.rsqrt(jnp.square(keys).sum(-1) + 1e-6)
    norms = jax.lax.rsqrt(jnp.square(memory).sum(-1) + 1e-6)
    return jax.nn.softmax((keys * scale[..., None]) @ transpose(memory) * norms[:, None])


def comes_before(order: Array) -> Array:
    """Whether slot j comes before slot i, at [:, i, j]; of equals the first does."""
    here, there = order[:, :, None], order[:, None, :]
    slots = jnp.arange(order.shape[1])
    return (there < here) | ((there == here) & (slots < slots[:, None]))


class NTM(Addressed):
    """Heads that look up by content and move by location; one of them writes."""

    @property
    def word(self) -> int:
        return self.sizes.latent_dim

    @property
    def parts(self) -> list[int]:
        every, word = self.sizes.heads + 1, self.word
        return [every * word, every, every, 3 * every, every, word, word]

    def start(self, parameters: Parameters, batch: int, dtype: Any) -> State:
        zeros, slots, reads = self.blank(batch, dtype)
        first = slots.at[:, 0].set(1)[:, None]
        weights = jnp.concatenate([starts(parameters, batch), first], 1)
        memory = jnp.full((batch, self.sizes.slots, self.word), 1e-6, dtype)
        return zeros, zeros, memory, weights, reads

    def advance(self, parameters: Parameters, state: State, z: Array) -> tuple[Array, State]:
        h, c, memory, w, reads = state
        h, c, emitted = self.control(parameters, h, c, reads, z)
        keys, strengths, gates, shifts, exponents, erase, add = emitted
        content = look_up(memory, keys.reshape(*w.shape[:2], -1), jax.nn.softplus(strengths))
        w = w + jax.nn.sigmoid(gates)[..., None] * (content - w)
        back, stay, on = jnp.split(jax.nn.softmax(shifts.reshape(*w.shape[:2], 3)), 3, -1)
        w = back * jnp.roll(w, -1, -1) + stay * w + on * jnp.roll(w, 1, -1)
        # A softmax of logarithms: a power, and its division by the sum.
        w = jax.nn.softmax((1 + jax.nn.softplus(exponents))[..., None] * jnp.log(w + 1e-16))
        writing = w[:, -1, :, None]  # (B, N, 1)
        memory = memory * (1 - writing * jax.nn.sigmoid(erase)[:, None]) + writing * add[:, None]
        reads = w[:, :-1] @ memory
        return context(reads, h), (h, c, memory, w, reads)


class LRU(Addressed):
    """Look up by content; write where one has read, or to the slots used least; tags turn."""

    @property
    def parts(self) -> list[int]:
        heads, word = self.sizes.heads, self.word
        return [heads * word, heads, heads, heads * word]

    def start(self, parameters: Parameters, batch: int, dtype: Any) -> State:
        zeros, slots, reads = self.blank(batch, dtype)
        memory = jnp.full((batch, self.sizes.slots, self.word), 1e-6, dtype)
        read_w = jnp.zeros((batch, self.sizes.heads, self.sizes.slots), dtype)
        return zeros, zeros, memory, slots, read_w, reads, jnp.zeros((), dtype)

    def advance(self, parameters: Parameters, state: State, z: Array) -> tuple[Array, State]:
        h, c, memory, usage, read_w, reads, time = state
        h, c, (keys, strengths, gates, add) = self.control(parameters, h, c, reads, z)
        odd = 2 * jnp.arange(TAG // 2, dtype=z.dtype) + 1
        angles = time * odd * (jnp.pi / max(TAG, self.sizes.slots))
        rank = comes_before(usage).sum(-1)  # (B, N)
        heads = jnp.arange(self.sizes.heads)
        least = (rank[:, None] == heads[:, None]).astype(z.dtype)  # (B, R, N)
        write_w = least + jax.nn.sigmoid(gates)[..., None] * (read_w - least)
        memory = jnp.where((rank < len(heads))[..., None], 0, memory)
        memory = memory + transpose(write_w) @ turn(add.reshape(reads.shape), angles)
        keys = turn(keys.reshape(reads.shape), angles)
        read_w = look_up(memory, keys, 1 + jax.nn.softplus(strengths))
        reads = turn(read_w @ memory, -angles)
        read, written = jax.lax.stop_gradient((read_w.sum(1), write_w.sum(1)))  # for their order
        usage = 0.99 * usage + written + jnp.minimum(usage + written, 1) * read
        return context(reads, h), (h, c, memory, usage, read_w, reads, time + 1)


def turn(words: Array, angles: Array) -> Array:
    """Turn the pairs of the tags by (J,) angles: (B, R, W) -> (B, R, W)."""
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    latent, a, b = jnp.split(words, [words.shape[-1] - TAG, words.shape[-1] - TAG // 2], -1)
    return jnp.concatenate([latent, a * cos - b * sin, a * sin + b * cos], -1)


class DNC(Addressed):
    """Slots that are allocated when free, and linked in the order of writing."""

    @property
    def parts(self) -> list[int]:
        heads, word = self.sizes.heads, self.word
        return [heads * word, heads, 3 * heads, heads, word, 1, 1, 1, word, word]

    def start(self, parameters: Parameters, batch: int, dtype: Any) -> State:
        slots = self.sizes.slots
        zeros, unused, reads = self.blank(batch, dtype)
        return (
            zeros,
            zeros,
            jnp.zeros((batch, slots, self.word), dtype),
            unused,
            jnp.broadcast_to(jnp.eye(slots, k=-1, dtype=dtype), (batch, slots, slots)),
            unused.at[:, -1].set(1),
            starts(parameters, batch),
            unused,
            reads,
        )

    def advance(self, parameters: Parameters, state: State, z: Array) -> tuple[Array, State]:
        h, c, memory, usage, links, precedence, read_w, write_w, reads = state
        h, c, emitted = self.control(parameters, h, c, reads, z)
        keys, strengths, modes, frees, key, strength, allocation, writing, erase, add = emitted

        usage = usage + write_w - usage * write_w
        usage = usage * (1 - jax.nn.sigmoid(frees)[..., None] * read_w).prod(1)
        content = look_up(memory, key[:, None], 1 + jax.nn.softplus(strength))[:, 0]
        write_w = content + jax.nn.sigmoid(allocation) * (allocate(usage) - content)
        write_w = jax.nn.sigmoid(writing) * write_w
        to = write_w[:, :, None]  # (B, N, 1)
        memory = memory * (1 - to * jax.nn.sigmoid(erase)[:, None]) + to * add[:, None]

        links = (1 - to - write_w[:, None]) * links + to * precedence[:, None]
        links = jnp.where(jnp.eye(links.shape[1], dtype=bool), 0, links)
        precedence = (1 - write_w.sum(1, keepdims=True)) * precedence + write_w

        modes = jax.nn.softmax(modes.reshape(len(h), -1, 3))
        back, found, on = jnp.split(modes, 3, -1)  # (B, R, 1)
        content = look_up(memory, keys.reshape(reads.shape), 1 + jax.nn.softplus(strengths))
        read_w = back * (read_w @ links) + found * content + on * (read_w @ transpose(links))
        reads = read_w @ memory
        state = h, c, memory, usage, links, precedence, read_w, write_w, reads
        return context(reads, h), state


def allocate(usage: Array) -> Array:
    """Usage that agrees to a hundredth counts as equal; of equals the first comes first."""
    usage = 1e-6 + (1 - 1e-6) * usage
    before = comes_before(jnp.round(usage / 0.01)).astype(usage.dtype)  # (B, N, N)
    fuller = jnp.exp((before * jnp.log(usage)[:, None]).sum(-1))
    return (1 - usage) * fuller


MEMORIES: dict[str, Any] = {
    "associative": Associative,
    "dnc": DNC,
    "introspective": Introspective,
    "lru": LRU,
    "ntm": NTM,
    "vrnn": VRNN,
}
"""By the names they have in the library."""
