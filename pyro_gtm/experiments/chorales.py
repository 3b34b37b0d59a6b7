"""A model of chorales: a program with a memory, and networks that know keys from pitches.

A frame has 88 keys.  Voices move by steps, from whatever note they are on, so that the frame before
says most of what comes; the same intervals sound alike from any root.  Hence

- the memory writes ``[z_t, features of x_t]``, the frame itself among its features, and the context
  holds what was written last beside what the memory reads (:class:`WithLastWrite`);
- the decoder looks at the last frame through a window that slides over the keys
  (:class:`KeyDecoder`), and the encoder sees pitch classes beside keys (:class:`KeyEncoder`).

The latent says what no independent keys can: which notes sound together.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from pyro.infer import SVI
from torch import Tensor, nn
from torch.nn import functional as F

from pyro_gtm.experiments.pieces import NUM_KEYS, Pieces
from pyro_gtm.handlers import FilteringGuide, scale_latents, use_memory
from pyro_gtm.infer import DeviceTraceMeanField_ELBO, FusedAdam, evaluate
from pyro_gtm.memory import AssociativeMemory, MemoryModule, MemoryStep, MemoryUnroll, make_memory
from pyro_gtm.model import BernoulliLikelihood, GenerativeTemporalModel

__all__ = ["MEMORIES", "ChoraleModel", "KeyDecoder", "KeyEncoder", "WithLastWrite", "notes_file"]

OCTAVE = 12
DATA = "PYRO_GTM_DATA"
"""Names, in the environment, the folder of data that may hold :data:`CHORALES`."""

CHORALES = Path("jsb", "jsb-chorales-quarter.json")

WINDOW = 2 * OCTAVE + 1
"""Keys that a key is seen among: an octave to either side."""

BELOW, ABOVE = 9, 11
"""Keys that the piano lacks of its first and its last octave: it goes from A0 to C8."""

MEMORIES: dict[str, dict[str, Any]] = {
    "vrnn": {"hidden_dim": 96},
    "introspective": {"hidden_dim": 96, "slots": 32, "heads": 2, "append_hidden": True},
    "dnc": {"hidden_dim": 96, "slots": 16, "heads": 2, "word_size": 64},
    "associative": {
        "hidden_dim": 96,
        "slots": 64,
        "heads": 2,
        "query_dim": 64,
        "key_dim": 16,
    },
}
"""Memories that are tried on chorales, and their options."""

SETTINGS: dict[str, dict[str, Any]] = {
    # Its posterior waits for no read, so that the memory takes all steps at once.
    "associative": {"posterior": "frame"},
}
"""Settings of the program round a memory, where they are not the defaults."""

SILENCE = -3.0
"""Logit of a key at the start: about four of 88 sound."""


def notes_file(given: Path | None) -> Path:
    """The file of notes to read: the one given, or the chorales among the data.

    Raises:
        ValueError: there is neither.
    """
    if given is not None:
        return given
    if not (folder := os.environ.get(DATA)):
        raise ValueError(
            f"--data: none given; name a file of notes, or set {DATA} to a folder with {CHORALES}"
        )
    return Path(folder) / CHORALES


class WithLastWrite(MemoryModule):
    """A memory whose context holds, behind its own, what was written last.

    Args:
        memory: which reads and stores.
        reads: False zeroes what it reads at each step, from the first step of training on: the
            network of the same size that has to do without the past.
    """

    def __init__(self, memory: MemoryModule, reads: bool = True) -> None:
        super().__init__(
            latent_dim=memory.latent_dim,
            context_dim=memory.context_dim + memory.latent_dim,
            read_shape=memory.read_shape,
            control_dim=memory.control_dim,
            recall_length=memory.recall_length,
        )
        self.memory = memory
        self.reads = reads
        self.reads_by_age = memory.reads_by_age  # type: ignore[misc]
        self.controller_fields = memory.controller_fields  # type: ignore[misc]

    def initial_state(self, batch_shape: Sequence[int] = ()) -> Any:
        return self.memory.initial_state(batch_shape)

    def step(
        self, state: Any, latent: Tensor, control: Tensor | None = None, *, write: bool = True
    ) -> MemoryStep:
        result = self.memory.step(state, latent, control, write=write)
        if not self.reads:
            blind, context = self.memory.zero_reads(result.state, result.context)
            result = result._replace(state=blind, context=context)
        return result._replace(context=torch.cat([result.context, latent], dim=-1))

    def unroll(
        self, state: Any, latent: Tensor, latents: Tensor, controls: Tensor | None = None
    ) -> MemoryUnroll | None:
        result = self.memory.unroll(state, latent, latents, controls)
        if result is None:
            return None
        if not self.reads:
            blind, contexts = self.memory.zero_reads(result.state, result.contexts)
            result = result._replace(state=blind, contexts=contexts)
        last = torch.cat([latent.unsqueeze(0), latents[:-1]])  # (T, *batch, latent_dim)
        return result._replace(contexts=torch.cat([result.contexts, last], dim=-1))

    def zero_reads(
        self, state: Any, context: Tensor, heads: Sequence[int] | None = None
    ) -> tuple[Any, Tensor]:
        """The lesion of what the memory reads; what was written last stays."""
        own, last = context.split([self.memory.context_dim, self.latent_dim], dim=-1)
        state, own = self.memory.zero_reads(state, own, heads)
        return state, torch.cat([own, last], dim=-1)


class KeyEncoder(nn.Module):
    """Keys to features, ``(*, 88) -> (*, feature_dim)``: those of a network on keys and pitch
    classes, and the keys themselves behind them.

    Args:
        hidden_dim: width of the network.
        dropout: of its hidden layer.
    """

    def __init__(self, hidden_dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.feature_dim = hidden_dim + NUM_KEYS
        self.layers = nn.Sequential(
            nn.Linear(NUM_KEYS + OCTAVE, hidden_dim),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden_dim, hidden_dim),
        )

    def forward(self, frames: Tensor) -> Tensor:
        octaves = F.pad(frames, (BELOW, ABOVE)).unflatten(-1, (-1, OCTAVE))  # (*, 9, 12)
        seen = torch.cat([frames, octaves.sum(-2)], dim=-1)
        return torch.cat([self.layers(seen), frames], dim=-1)


class KeyDecoder(nn.Module):
    """Logits of 88 keys, from [z_t, Ψ_t].

    Two layers slide over the keys, first along the frames that the context holds: the one before,
    and those that the memory reads.  They are steered by what the rest says; what the rest says of
    each key is added.

    Args:
        latent_dim: Z.
        context_dim: of the context.
        frames_at: where in the context frames begin, 88 numbers each.
        hidden_dim: width of the network on all of it.
        channels: of the sliding layers.
        dropout: share of the context that this network does without in training.  The latent is
            kept whole: a code with holes in it is not worth its nats.
    """

    def __init__(
        self,
        latent_dim: int,
        context_dim: int,
        frames_at: Sequence[int],
        hidden_dim: int,
        channels: int = 8,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.input_dim = latent_dim + context_dim
        self.frames_at = tuple(frames_at)
        self.dropout = nn.Dropout(dropout)
        self.whole = nn.Sequential(
            nn.Linear(self.input_dim, hidden_dim),
            nn.ReLU(),
            nn.Linear(hidden_dim, hidden_dim),
            nn.ReLU(),
        )
        self.steer = nn.Linear(hidden_dim, 2 * channels)
        self.of_key = nn.Linear(hidden_dim, 3 * NUM_KEYS)
        self.first = nn.Linear(len(self.frames_at) * WINDOW, channels)
        self.second = nn.Conv1d(channels + 2, channels, OCTAVE + 1, padding=OCTAVE // 2)
        self.last = nn.Conv1d(channels, 1, 1)
        with torch.no_grad():
            self.of_key.bias[-NUM_KEYS:] = SILENCE

    def forward(self, inputs: Tensor) -> Tensor:
        latent, context = inputs.split([self.latent_dim, self.input_dim - self.latent_dim], dim=-1)
        whole = self.whole(torch.cat([latent, self.dropout(context)], dim=-1)).flatten(0, -2)
        frames = [context[..., at : at + NUM_KEYS] for at in self.frames_at]
        seen = torch.stack(frames, dim=-2).flatten(0, -3)  # (N, V, 88)
        windows = F.pad(seen, (OCTAVE, OCTAVE)).unfold(-1, WINDOW, 1)  # (N, V, 88, WINDOW)
        near = self.first(windows.transpose(1, 2).flatten(-2)).mT  # (N, C, 88)
        first, second = self.steer(whole).unsqueeze(-1).chunk(2, dim=1)  # (N, C, 1) each
        of_key = self.of_key(whole).unflatten(-1, (3, NUM_KEYS))  # (N, 3, 88)
        near = torch.cat([(near + first).relu(), of_key[:, :2]], dim=1)
        near = (self.second(near) + second).relu()
        logits = self.last(near).squeeze(1) + of_key[:, 2]
        return logits.reshape(*inputs.shape[:-1], NUM_KEYS)


class ChoraleModel:
    """A program, its memory, and how they learn.

    Args:
        memory: its name.
        latent_dim: Z.
        feature_dim: width of the encoder.
        hidden_dim: width of the decoder.
        memory_options: of the memory; None for those of ``MEMORIES``.
        dropout: of the context that decoder and prior see, and of the encoder: 14,000 frames are
            learned by heart within minutes.
        weight_decay: of matrices, decoupled (Loshchilov and Hutter 2019, arXiv 1711.05101).
        learning_rate: at its peak.
        warmup: updates over which it is reached.
        annealing: the share of training over which the weight of the KL grows to one.
        reads: False makes a model that never sees what its memory reads.
        **settings: of the program, before those of ``SETTINGS``.
    """

    def __init__(
        self,
        memory: str,
        *,
        latent_dim: int = 32,
        feature_dim: int = 96,
        hidden_dim: int = 192,
        memory_options: dict[str, Any] | None = None,
        dropout: float = 0.3,
        weight_decay: float = 0.1,
        learning_rate: float = 2e-3,
        warmup: int = 100,
        annealing: float = 0.3,
        reads: bool = True,
        **settings: Any,
    ) -> None:
        encoder = KeyEncoder(feature_dim, dropout)
        written = GenerativeTemporalModel.written_dim(
            latent_dim, encoder.feature_dim, "latent+frame"
        )
        options = MEMORIES.get(memory, {}) if memory_options is None else memory_options
        settings = {**SETTINGS.get(memory, {}), **settings}
        inner = make_memory(memory, latent_dim=written, **options)
        self.memory = WithLastWrite(inner, reads)
        context_dim = self.memory.context_dim
        frames_at = [context_dim - NUM_KEYS]
        if inner.read_shape[1] == written:  # reads are made of what was written, as it was
            frames_at += [head * written - NUM_KEYS for head in range(1, inner.read_shape[0] + 1)]
        if isinstance(inner, AssociativeMemory):
            with torch.no_grad():  # what follows the same frame: its latents differ by their noise
                inner.code.weight[:, :latent_dim] = 0
        decoder = KeyDecoder(latent_dim, context_dim, frames_at, hidden_dim, dropout=dropout)
        self.program = GenerativeTemporalModel(
            context_dim=context_dim,
            latent_dim=latent_dim,
            encoder=encoder,
            decoder=decoder,
            likelihood=BernoulliLikelihood((NUM_KEYS,)),
            writes="latent+frame",
            **settings,
        )
        head: Any = self.program.prior_head
        head.hidden = nn.Sequential(nn.Dropout(dropout), head.hidden)
        self.networks = nn.ModuleList([self.program, self.memory])
        self.matrices: list[Tensor] = [p for p in self.networks.parameters() if p.dim() > 1]
        self.weight_decay = weight_decay
        model = use_memory(self.memory)(self.program.model)
        self.guide = FilteringGuide(model)
        self.learning_rate, self.warmup, self.annealing = learning_rate, warmup, annealing
        self.optimizer = FusedAdam(lr=learning_rate, clip_norm=10.0)
        self.svi = SVI(model, self.guide, self.optimizer, DeviceTraceMeanField_ELBO())
        self.updates = 0

    def step(self, frames: Tensor, used: float) -> float:
        """Take a training step; its loss, in nats a step, with the KL as far as it counts.

        Args:
            frames: ``(T, B, 88)``.
            used: the share of training that is over, from 0 to 1.
        """
        self.updates += 1
        share = 0.01 + 0.99 * (1 + math.cos(math.pi * min(1.0, used))) / 2
        self.optimizer.lr = self.learning_rate * share * min(1.0, self.updates / self.warmup)
        with scale_latents(min(1.0, (used + 1e-3) / self.annealing)):
            loss = float(self.svi.step(frames))
        with torch.no_grad():
            torch._foreach_mul_(self.matrices, 1 - self.optimizer.lr * self.weight_decay)
        return loss / frames.shape[:2].numel()

    def terms(self, pieces: Pieces) -> tuple[Tensor, Tensor]:
        """KL and reconstruction of each piece, nats: ``(N,)`` each."""
        found = evaluate(self.guide, pieces.frames, lengths=pieces.lengths)
        return found.kl.sum(0), found.reconstruction.sum(0)
