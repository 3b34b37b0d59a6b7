"""The generative temporal model: an ordinary Pyro program that reads and writes a memory."""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager, nullcontext
from typing import Literal, cast, get_args

import pyro
import torch
from pyro.distributions import Independent, Normal, TorchDistribution
from torch import Tensor, nn

from pyro_gtm.internals.checks import check_whole
from pyro_gtm.internals.param_store import register_module
from pyro_gtm.internals.plates import plate_shape
from pyro_gtm.model.chunked_emission import FramesInBlocks, map_in_blocks
from pyro_gtm.model.latent_process import LatentProcess
from pyro_gtm.model.likelihoods import Likelihood
from pyro_gtm.model.networks.gaussian import GaussianHead, Parameters, correct
from pyro_gtm.ops import Mapped, read, write

__all__ = [
    "DecoderInput",
    "GenerativeTemporalModel",
    "Layout",
    "Posterior",
    "Precision",
    "Writes",
]

DecoderInput = Literal["latent+context", "latent"]
Writes = Literal["latent", "latent+frame"]
Posterior = Literal["correction", "direct"]
Layout = Literal["stacked", "per_step"]
Precision = Literal["float32", "bfloat16"]


class GenerativeTemporalModel(nn.Module):
    """p(x_{1:T}, z_{1:T} | c_{1:T}) = ∏_t p(z_t | Ψ_t) p(x_t | z_t, Ψ_t), Ψ_t from a memory.

    Source: Gemici et al. 2017, equations 1, 7, 8.  In each step the context Ψ_t is read (it
    depends on z_{<t} and c_{<=t} only), the latent is drawn from the prior, the frame from the
    likelihood, and the latent is written.  Which memory answers is decided outside, by
    :class:`pyro_gtm.use_memory`.

    Two layouts of the same joint distribution (same bound, same gradients):

    - ``stacked``: sites ``z`` and ``x`` with time a plate at dim -2.  Only the recurrence is in the
      loop; encoder and decoder run once for all T.  For training.
    - ``per_step``: sites ``z_0, x_0, z_1, x_1, ...``.  For conditioning, imputing, intervening.

    Sequences are a plate at dim -1 in both.

    Deviations from the paper: the decoder sees [z_t, Ψ_t] by default
    (``decoder_input="latent"`` is the paper's Figure 2).  The posterior's network gives a
    correction of the prior (:func:`~pyro_gtm.model.networks.correct`), which learns to trust the
    memory many times faster; ``posterior="direct"`` gives it a location and scale of its own, as
    equation 8 reads at first sight, and lets the prior leave the loop of the stacked layout.  With
    ``writes="latent+frame"`` the memory is given [z_t, features of x_t], which makes the VRNN
    variant (a) of Figure 1 (at the cost of encoding the frames in the model as well).

    Args:
        context_dim: size of the context, ``memory.context_dim``.
        latent_dim: Z.
        encoder: frames ``(*batch, *event)`` to features ``(*batch, encoder.feature_dim)``.
        decoder: ``(*batch, decoder.input_dim)`` to ``(*batch, *likelihood.parameter_shape)``.
        likelihood: of a frame given the decoder's output.
        decoder_input: what the decoder sees.
        writes: what the memory is given.
        posterior: how its network's output is read.
        layout: of the sites.
        precision: ``"bfloat16"`` has encoder and decoder multiply in it (``torch.autocast``).
            Weights stay as they are; the recurrence with its memory, the heads, all states,
            distributions and log-probabilities too.
        checkpoint_every: in the stacked layout, encode and decode so many steps at once, and keep
            for the backward pass only what goes in and out; 0 for all at once, all kept.  Goes with
            the setting of the same name of :class:`pyro_gtm.Unrolling`.
        name: of the networks in the Pyro parameter store.

    Raises:
        ValueError: the networks' sizes do not fit each other.
    """

    def __init__(
        self,
        *,
        context_dim: int,
        latent_dim: int,
        encoder: nn.Module,
        decoder: nn.Module,
        likelihood: Likelihood,
        decoder_input: DecoderInput = "latent+context",
        writes: Writes = "latent",
        posterior: Posterior = "correction",
        layout: Layout = "stacked",
        precision: Precision = "float32",
        checkpoint_every: int = 0,
        name: str = "program",
    ) -> None:
        super().__init__()
        _check_choice("precision", precision, get_args(Precision))
        check_whole("GenerativeTemporalModel", checkpoint_every=checkpoint_every)
        _check_choice("decoder_input", decoder_input, get_args(DecoderInput))
        _check_choice("writes", writes, get_args(Writes))
        _check_choice("posterior", posterior, get_args(Posterior))
        _check_choice("layout", layout, get_args(Layout))
        wanted = latent_dim + (context_dim if decoder_input == "latent+context" else 0)
        if decoder.input_dim != wanted:
            raise ValueError(
                f"GenerativeTemporalModel: the decoder must take inputs of size {wanted} "
                f"(decoder_input={decoder_input!r}), got one for size {decoder.input_dim}"
            )
        self.name = name
        self.context_dim = context_dim
        self.latent_dim = latent_dim
        self.likelihood = likelihood
        self.decoder_input = decoder_input
        self.writes = writes
        self.corrects = posterior == "correction"
        self.layout = layout
        self.precision = precision
        self.checkpoint_every = checkpoint_every
        feature_dim: int = encoder.feature_dim  # type: ignore[assignment]
        self.encoder = encoder
        self.prior_head = GaussianHead(context_dim, feature_dim, latent_dim)
        self.posterior_head = GaussianHead(context_dim, feature_dim, latent_dim)
        self.decoder = decoder

    @staticmethod
    def written_dim(latent_dim: int, feature_dim: int, writes: Writes) -> int:
        """Size of what the program writes: the ``latent_dim`` its memory must be built with."""
        return latent_dim + (feature_dim if writes == "latent+frame" else 0)

    def with_layout(self, layout: Layout) -> GenerativeTemporalModel:
        """The same program, sharing every weight, with its sites laid out otherwise."""
        _check_choice("layout", layout, get_args(Layout))
        other = copy.copy(self)
        other.layout = layout
        return other

    # ------------------------------------------------------------------ the program

    def model(
        self,
        frames: Tensor | None = None,
        controls: Tensor | None = None,
        *,
        num_steps: int | None = None,
        batch_size: int | None = None,
        dataset_size: int | None = None,
    ) -> Tensor:
        """The generative program, to be wrapped in a memory.

        Args:
            frames: observed frames x_1.., ``(T, B, *event)``; fewer than ``num_steps`` in the
                per-step layout (the rest is generated), None to generate all.
            controls: c_1..c_T, ``(T, B, control_dim)``.
            num_steps: T; by default that of ``frames`` or ``controls``.
            batch_size: B; by default that of ``frames`` or ``controls``.
            dataset_size: number of sequences this batch stands for, which scales the bound; by
                default the batch itself.

        Returns:
            All frames, given and generated: ``(T, B, *event)``.
        """
        num_steps, batch_size = self._sizes(frames, controls, num_steps, batch_size)
        register_module(self.name, self)
        with _sequences(batch_size, dataset_size):
            if self.layout == "stacked":
                return self._stacked(frames, controls, num_steps)
            return self._per_step(frames, controls, num_steps)

    def guide(
        self,
        frames: Tensor,
        controls: Tensor | None = None,
        *,
        num_steps: int | None = None,
        batch_size: int | None = None,
        dataset_size: int | None = None,
    ) -> None:
        """The filtering posterior as an ordinary guide function, to be wrapped in the same memory.

        It runs the recurrence of its own, after which SVI runs the model's:
        :class:`pyro_gtm.FilteringGuide` does both at once.  Arguments as in :meth:`model`.
        """
        num_steps, batch_size = self._sizes(frames, controls, num_steps, batch_size)
        register_module(self.name, self)
        features = self.encode(frames)  # (T, B, feature_dim)
        with _sequences(batch_size, dataset_size):
            if self.layout == "stacked":
                prior = self._process(frames, controls, num_steps)
                with _time(num_steps):
                    posterior = cast(LatentProcess, self.posterior("z", prior, features))
                    posterior.contexts(pyro.sample("z", posterior))  # walks along a replayed z too
            else:
                for t in range(num_steps):
                    prior_t = self.prior(self._read(_at(controls, t)))
                    latent = pyro.sample(f"z_{t}", self.posterior(f"z_{t}", prior_t, features))
                    write(self._written(latent, _at(frames, t)))

    def _per_step(self, frames: Tensor | None, controls: Tensor | None, num_steps: int) -> Tensor:
        drawn = []
        for t in range(num_steps):
            context = self._read(_at(controls, t))
            latent = pyro.sample(f"z_{t}", self.prior(context))
            frame = pyro.sample(f"x_{t}", self.emission(latent, context), obs=_at(frames, t))
            write(self._written(latent, frame))
            drawn.append(frame)
        return torch.stack(drawn)

    def _stacked(self, frames: Tensor | None, controls: Tensor | None, num_steps: int) -> Tensor:
        if frames is None and self.writes == "latent+frame":
            raise ValueError(
                "GenerativeTemporalModel: with writes='latent+frame' the stacked layout needs the "
                "frames; use with_layout('per_step') to generate"
            )
        prior = self._process(frames, controls, num_steps)
        with _time(num_steps):
            latents = pyro.sample("z", prior)  # (*batch, T, B, Z)
            contexts = prior.contexts(latents)
            judged = self.emission if frames is None else self._emissions
            emission = judged(latents, contexts)
            drawn = pyro.sample("x", emission, obs=frames)
        # Time is a plate for the sake of its shape; its steps are not independent.  This site,
        # which adds nothing, stands outside it, so that bounds which weigh particles against each
        # other (RenyiELBO) weigh whole sequences and not single frames.
        pyro.factor("whole_sequences", latents.new_zeros(()))
        return drawn

    def _process(
        self, frames: Tensor | None, controls: Tensor | None, num_steps: int
    ) -> LatentProcess:
        """The prior over all latents."""
        *batch, batch_size = plate_shape()  # outside the plate of time: (*batch, [1,] B)
        beside = None
        if self.writes == "latent+frame" and frames is not None:
            beside = self._beside(frames)
        return LatentProcess(
            self._prior_parameters,
            batch_shape=torch.Size([*batch[:-1], num_steps, batch_size]),
            latent_dim=self.latent_dim,
            controls=controls,
            beside=beside,
            like=self.prior_head.hidden.weight,
        )

    def _prior_parameters(self, context: Tensor, _: Tensor | None) -> Parameters:
        self._check_context(context)
        return self.prior_head(context)

    def _posterior_parameters(self, context: Tensor, features: Tensor | None) -> Parameters:
        self._check_context(context)
        return self.posterior_head(context, features)

    # ------------------------------------------------------------------ its distributions

    def encode(self, frames: Tensor) -> Tensor | Mapped:
        """What the posterior sees of each frame: ``(T, B, *event) -> (T, B, feature_dim)``.

        With ``checkpoint_every``, it is worked out within each block of the recurrence.
        """
        self._check_frames(frames)
        return Mapped(self._features, frames) if self._in_blocks else self._features(frames)

    def _beside(self, frames: Tensor) -> Tensor:
        """What the memory is given of each frame: ``(T, B, *event) -> (T, B, feature_dim)``."""
        self._check_frames(frames)
        if self._in_blocks:
            return map_in_blocks(self._features, self.checkpoint_every, frames).relu()
        return self._features(frames).relu()

    def _features(self, frames: Tensor) -> Tensor:
        with self._autocast(frames):
            features: Tensor = self.encoder(frames)
        return features.to(frames.dtype)

    def prior(self, context: Tensor) -> TorchDistribution:
        """p(z_t | Ψ_t), equation 7."""
        return Normal(*self.prior_head(context)).to_event(1)

    def posterior(
        self, name: str, prior: TorchDistribution, features: Tensor | Mapped | None
    ) -> TorchDistribution:
        """q(z_t | Ψ_t, x_t), equation 8, for the site ``name``; ``prior`` where no frame is given.

        The context is read, once more, from the memory in use.
        """
        if features is None:
            return prior
        if isinstance(prior, LatentProcess):
            return prior.stand_in(self._posterior_parameters, features, self.corrects)
        if isinstance(features, Mapped):
            features = features.values()
        kind, _, step = name.partition("_")
        if kind != "z" or not step.isdigit() or int(step) >= len(features):
            return prior
        parameters = self.posterior_head(read(), features[int(step)])
        if self.corrects:
            base = cast(Independent, prior).base_dist
            parameters = correct((base.loc, base.scale), parameters)
        return Normal(*parameters).to_event(1)

    def emission(self, latent: Tensor, context: Tensor) -> TorchDistribution:
        """p(x_t | z_t, Ψ_t), or p(x_t | z_t) with ``decoder_input="latent"``."""
        seen = _cat(latent, context) if self.decoder_input == "latent+context" else latent
        with self._autocast(seen):
            parameters: Tensor = self.decoder(seen)
        return self.likelihood(parameters.to(seen.dtype))

    def _emissions(self, latents: Tensor, contexts: Tensor) -> TorchDistribution:
        if not self._in_blocks:
            return self.emission(latents, contexts)
        return FramesInBlocks(
            self.emission,
            latents,
            contexts,
            event_shape=self.likelihood.event_shape,
            steps=self.checkpoint_every,
        )

    @property
    def _in_blocks(self) -> bool:
        stacked = self.layout == "stacked"
        return stacked and self.checkpoint_every > 0 and torch.is_grad_enabled()

    def _autocast(self, like: Tensor) -> AbstractContextManager[object]:
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(like.device.type, torch.bfloat16)

    def _written(self, latent: Tensor, frame: Tensor | None) -> Tensor:
        if self.writes == "latent" or frame is None:
            return latent
        return _cat(latent, self._features(frame).relu())

    def _read(self, control: Tensor | None) -> Tensor:
        context = read(control)
        self._check_context(context)
        return context

    def _check_context(self, context: Tensor) -> None:
        if context.shape[-1] != self.context_dim:
            raise ValueError(
                f"GenerativeTemporalModel: built for contexts of size {self.context_dim}, and the "
                f"memory in use gives contexts of size {context.shape[-1]}; build the program with "
                "context_dim=memory.context_dim"
            )

    # ------------------------------------------------------------------ its sizes

    def _check_frames(self, frames: Tensor) -> None:
        event = self.likelihood.event_shape
        if frames.dim() < 2 or tuple(frames.shape[2:]) != event:
            raise ValueError(
                f"GenerativeTemporalModel: frames must have shape (T, B, *{event}), got "
                f"{tuple(frames.shape)}"
            )

    def _sizes(
        self,
        frames: Tensor | None,
        controls: Tensor | None,
        num_steps: int | None,
        batch_size: int | None,
    ) -> tuple[int, int]:
        if frames is not None:
            self._check_frames(frames)
        if controls is not None and controls.dim() != 3:
            raise ValueError(
                "GenerativeTemporalModel: controls must have shape (T, B, control_dim), got "
                f"{tuple(controls.shape)}"
            )
        for sequence in (frames, controls):
            if sequence is not None:
                num_steps = len(sequence) if num_steps is None else num_steps
                batch_size = sequence.shape[1] if batch_size is None else batch_size
        if num_steps is None or batch_size is None:
            raise ValueError(
                "GenerativeTemporalModel: without frames or controls, give num_steps and batch_size"
            )
        for name, size in (("num_steps", num_steps), ("batch_size", batch_size)):
            if size < 1:
                raise ValueError(f"GenerativeTemporalModel: {name} must be at least 1, got {size}")
        for name, sequence in (("frames", frames), ("controls", controls)):
            if sequence is not None and sequence.shape[1] != batch_size:
                raise ValueError(
                    f"GenerativeTemporalModel: {name} must hold batch_size={batch_size} sequences, "
                    f"got {sequence.shape[1]}"
                )
        if frames is not None and len(frames) > num_steps:
            raise ValueError(
                f"GenerativeTemporalModel: num_steps={num_steps} is less than the {len(frames)} "
                "frames given"
            )
        if self.layout == "stacked" and frames is not None and len(frames) < num_steps:
            raise ValueError(
                f"GenerativeTemporalModel: the stacked layout explains whole sequences, got "
                f"{len(frames)} frames for num_steps={num_steps}; use with_layout('per_step')"
            )
        if controls is not None and len(controls) < num_steps:
            raise ValueError(
                f"GenerativeTemporalModel: controls must cover num_steps={num_steps} steps, got "
                f"{len(controls)}"
            )
        return num_steps, batch_size


def _sequences(batch_size: int, dataset_size: int | None) -> pyro.plate:
    if dataset_size is None:
        return pyro.plate("sequences", batch_size, dim=-1)
    # The batch was drawn already: which sequences it holds does not matter, only how many.
    return pyro.plate("sequences", dataset_size, subsample=torch.arange(batch_size), dim=-1)


def _time(num_steps: int) -> pyro.plate:
    return pyro.plate("time", num_steps, dim=-2)


def _at(sequence: Tensor | None, t: int) -> Tensor | None:
    return sequence[t] if sequence is not None and t < len(sequence) else None


def _cat(left: Tensor, right: Tensor) -> Tensor:
    """Concatenate along the last dimension, broadcasting the batch dimensions."""
    batch_shape = torch.broadcast_shapes(left.shape[:-1], right.shape[:-1])
    return torch.cat([left.expand(*batch_shape, -1), right.expand(*batch_shape, -1)], dim=-1)


def _check_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(
            f"GenerativeTemporalModel: {name} must be one of {', '.join(allowed)}; got {value!r}"
        )
