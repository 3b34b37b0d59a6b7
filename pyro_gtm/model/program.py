"""The generative temporal model: an ordinary Pyro program that reads and writes a memory."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, cast, get_args

import pyro
import torch
from pyro.distributions import Independent, Normal, TorchDistribution
from torch import Tensor, nn

from pyro_gtm.internals.checks import check_choice, check_not_negative, check_positive
from pyro_gtm.internals.param_store import bind_weights, drawing_weights, register_module
from pyro_gtm.internals.plates import plate_shape, refuse_plate_at, refusing_wide_masks
from pyro_gtm.internals.shapes import broadcast_shapes
from pyro_gtm.internals.unrolling import LazyMap
from pyro_gtm.model.frame_process import ChunkedFrameProcess, FrameProcess, map_in_chunks
from pyro_gtm.model.inputs import Inputs, prepare_inputs
from pyro_gtm.model.latent_process import (
    Dynamics,
    LatentProcess,
    MixtureTerms,
    PosteriorTerms,
)
from pyro_gtm.model.likelihoods import Likelihood
from pyro_gtm.model.mixture import MixturePrior, PartlyObserved, mixture_prior
from pyro_gtm.model.networks.gaussian import GateHead, GaussianHead, Parameters, Prototypes
from pyro_gtm.ops import begin, read, recurrence, write

__all__ = [
    "DecoderInput",
    "GenerativeTemporalModel",
    "Layout",
    "Posterior",
    "Precision",
    "Prior",
    "Writes",
]

DecoderInput = Literal["latent+context", "latent"]
Writes = Literal["latent", "mean", "latent+frame"]
Posterior = Literal["residual", "direct", "frame"]
Prior = Literal["gaussian", "mixture"]
Layout = Literal["stacked", "per_step"]
Precision = Literal["float32", "bfloat16"]

OWNER = "GenerativeTemporalModel"


class GenerativeTemporalModel(nn.Module):
    """p(x_{1:T}, z_{1:T} | c_{1:T}) = ∏_t p(z_t | Ψ_t) p(x_t | z_t, Ψ_t), Ψ_t from a memory.

    Source: Gemici et al. 2017, equations 1, 7, 8.  In each step the context Ψ_t is read (it
    depends on z_{<t} and c_{<=t} only), the latent is drawn from the prior, the frame from the
    likelihood, and the latent is written.  Which memory answers is decided outside, by
    :class:`pyro_gtm.use_memory`.

    Two layouts of the same joint distribution (same bound, same gradients):

    - ``stacked``: sites ``z``, of shape ``(B, T, Z)``, and ``x``, ``(B, T, *event)``, each one draw
      of a whole sequence.  Only the recurrence is in the loop; encoder and decoder run once for all
      T.  For training.
    - ``per_step``: sites ``z_0, x_0, z_1, x_1, ...``.  For what asks for single steps:
      conditioning on some, reparameterising them, sending messages to handlers of your own.

    Sequences are a plate at dim -1 in both; plates of your own go left of it (dim -2 and on).
    Each latent site carries its posterior (``infer={"posterior": ...}``), which
    :class:`pyro_gtm.FilteringGuide` puts in the prior's place.

    Deviations from the paper: the decoder sees [z_t, Ψ_t] by default
    (``decoder_input="latent"`` is the paper's Figure 2).  The posterior is a
    residual Gaussian (:func:`~pyro_gtm.model.networks.residual_gaussian`), which learns to trust
    the memory many times faster; ``posterior="direct"`` gives it a location and scale of its own,
    as equation 8 reads at first sight, and lets the prior leave the loop of the stacked layout.
    With ``writes="latent+frame"`` the memory is given [z_t, features of x_t], which makes the VRNN
    variant (a) of Figure 1 (at the cost of encoding the frames in the model as well).

    Three choices are ours, for learning within minutes (docs/learning.md has what each does):

    - ``prior="mixture"``: p(z_t | ·) is a mixture of the posteriors that were stored, weighed by
      the memory's reads, and of a Gaussian for something new
      (:class:`~pyro_gtm.model.MixturePrior`).  Its bound is not the KL of a Gaussian prior.
    - ``posterior="frame"``: q(z_t | x_t) sees the frame alone, so that a frame shown twice has the
      same posterior twice, and no latent waits for a read.
    - ``writes="mean"``: the memory holds the posterior's mean in place of its sample, without the
      noise.  The prior then depends on x_{<t} by way of the posterior.

    Args:
        context_dim: size of the context, ``memory.context_dim``.
        latent_dim: Z.
        encoder: ``likelihood.features(frames)``, which are the frames themselves for most,
            ``(*batch, *likelihood.feature_shape)``, to features ``(*batch, encoder.feature_dim)``.
        decoder: ``(*batch, decoder.input_dim)`` to ``(*batch, *likelihood.parameter_shape)``.
        likelihood: of a frame given the decoder's output.
        decoder_input: ``"latent+context"`` or ``"latent"``, what the decoder sees.
        writes: ``"latent"``, ``"mean"`` or ``"latent+frame"``, what the memory is given.
        posterior: ``"residual"``, ``"direct"`` or ``"frame"``.
        prior: ``"gaussian"`` or ``"mixture"``.
        recall_heads: R, how many heads the memory has, ``memory.read_shape[0]``; for the mixture.
        prototypes: C, how many learned Gaussians, the same in all steps, the mixture has besides:
            for tasks in which the kind of a frame can be told and the frame itself cannot.
        layout: ``"stacked"`` or ``"per_step"``.
        precision: ``"bfloat16"`` has encoder and decoder multiply in it (``torch.autocast``).
            Weights stay as they are; the recurrence with its memory, the heads, all states,
            distributions and log-probabilities too.
        checkpoint_every: in the stacked layout, encode and decode so many steps at once, and keep
            for the backward pass only what goes in and out; 0 for all at once, all kept.  Goes with
            the setting of the same name of :class:`pyro_gtm.Unrolling`.
        name: of the networks in the Pyro parameter store.

    Raises:
        ValueError: the networks' sizes do not fit each other, or a choice is none of those allowed.
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
        posterior: Posterior = "residual",
        prior: Prior = "gaussian",
        recall_heads: int = 0,
        prototypes: int = 0,
        layout: Layout = "stacked",
        precision: Precision = "float32",
        checkpoint_every: int = 0,
        name: str = "program",
    ) -> None:
        super().__init__()
        check_choice(OWNER, "precision", precision, get_args(Precision))
        check_choice(OWNER, "decoder_input", decoder_input, get_args(DecoderInput))
        check_choice(OWNER, "writes", writes, get_args(Writes))
        check_choice(OWNER, "posterior", posterior, get_args(Posterior))
        check_choice(OWNER, "prior", prior, get_args(Prior))
        check_choice(OWNER, "layout", layout, get_args(Layout))
        check_not_negative(OWNER, prototypes=prototypes)
        if prior == "mixture" and recall_heads == 0:
            raise ValueError(
                f"{OWNER}: recall_heads=0 given, for prior='mixture' the number of the memory's "
                "heads is needed, memory.read_shape[0]"
            )
        if prior == "mixture":
            check_positive(OWNER, recall_heads=recall_heads)
        elif prototypes:
            raise ValueError(
                f"{OWNER}: prototypes={prototypes} given, must be 0 unless prior='mixture'"
            )
        check_not_negative(OWNER, checkpoint_every=checkpoint_every)
        if not isinstance(likelihood, Likelihood):
            raise TypeError(f"{OWNER}: likelihood must be a Likelihood, got {likelihood!r}")
        check_positive(OWNER, context_dim=context_dim, latent_dim=latent_dim)
        wanted = latent_dim + (context_dim if decoder_input == "latent+context" else 0)
        if decoder.input_dim != wanted:
            raise ValueError(
                f"{OWNER}: decoder with input_dim={decoder.input_dim} given, one with {wanted} "
                f"needed (decoder_input={decoder_input!r})"
            )
        # A likelihood with features of its own, and an encoder that was built for plain frames.
        built_for = getattr(encoder, "event_shape", likelihood.feature_shape)
        if likelihood.event_shape != likelihood.feature_shape != tuple(built_for):
            raise ValueError(
                f"{OWNER}: encoder for frames of shape {tuple(built_for)} given, one for "
                f"{type(likelihood).__name__}'s features of shape {likelihood.feature_shape} needed"
            )
        self.name = name
        self.context_dim = context_dim
        self.latent_dim = latent_dim
        self.likelihood = likelihood
        self.decoder_input = decoder_input
        self.writes = writes
        self.residual = posterior == "residual"
        self.sees_context = posterior != "frame"
        self.is_mixture = prior == "mixture"
        self.layout = layout
        self.precision = precision
        self.checkpoint_every = checkpoint_every
        feature_dim: int = encoder.feature_dim  # type: ignore[assignment]
        self.encoder = encoder
        self.prior_head = GaussianHead(context_dim, feature_dim, latent_dim)
        self.posterior_head = GaussianHead(
            context_dim if self.sees_context else 0, feature_dim, latent_dim
        )
        self.decoder = decoder
        if self.is_mixture:
            self.gates = GateHead(context_dim, recall_heads, prototypes)
        self.prototypes = Prototypes(prototypes, latent_dim) if prototypes else None

    @staticmethod
    def written_dim(latent_dim: int, feature_dim: int, writes: Writes) -> int:
        """Size of what the program writes: the ``latent_dim`` its memory must be built with."""
        return latent_dim + (feature_dim if writes == "latent+frame" else 0)

    def with_layout(self, layout: Layout) -> GenerativeTemporalModel:
        """The same program, sharing every weight, with its sites laid out otherwise."""
        check_choice(OWNER, "layout", layout, get_args(Layout))
        other = copy.copy(self)
        other.layout = layout
        return other

    def model(
        self,
        frames: Any = None,
        controls: Any = None,
        *,
        mask: Any = None,
        lengths: Any = None,
        num_steps: int | None = None,
        batch_size: int | None = None,
        dataset_size: int | None = None,
        fill_gaps: bool = False,
    ) -> Tensor:
        """The generative program, to be wrapped in a memory.

        Args:
            frames: observed frames x_1.., ``(T, B, *event)``, a tensor, array or list; fewer than
                ``num_steps`` in the per-step layout (the rest is generated), None to generate all.
            controls: c_1..c_T, ``(T, B, control_dim)``.
            mask: frames that there are, ``(T, B)`` of bool.  The others may hold anything: they add
                nothing to the bound, the posterior does not see them (the prior takes its place),
                and with ``writes="latent+frame"`` the memory is given zeros for their features.
            lengths: the same for sequences that end early, ``(B,)`` of integers from 0 to T; what
                controls hold behind the end does not count either.
            num_steps: T; by default that of ``frames`` or ``controls``.
            batch_size: B; by default that of ``frames`` or ``controls``.
            dataset_size: number of sequences this batch stands for, which scales the bound; by
                default the batch itself.
            fill_gaps: in the per-step layout, draw what is missing of the given frames, and write
                it as if it had come: sites ``filled_0, ...`` hold the frames without gaps.  For
                imputation: what is drawn is no part of the bound.

        Returns:
            All frames, given and generated: ``(T, *batch, B, *event)``, ``batch`` being the plates
            around.  A missing frame holds the likelihood's placeholder, which ``gtm.reconstruct``
            imputes; under ``fill_gaps`` it holds what was drawn for it.

        Raises:
            ValueError: an argument is not as above; under Pyro's validation also, frames outside
                the support of the likelihood.
        """
        inputs = self._inputs(frames, controls, mask, lengths, num_steps, batch_size)
        register_module(self.name, self)
        begin()
        with drawing_weights(self), _sequences(inputs.batch_size, dataset_size):
            if self.layout == "per_step":
                return self._per_step(inputs, fill_gaps)
            if fill_gaps:
                raise ValueError(
                    f"{OWNER}: fill_gaps=True given, and the stacked layout draws all frames at "
                    "once; use with_layout('per_step')"
                )
            return self._stacked(inputs)

    def guide(
        self,
        frames: Any,
        controls: Any = None,
        *,
        mask: Any = None,
        lengths: Any = None,
        num_steps: int | None = None,
        batch_size: int | None = None,
        dataset_size: int | None = None,
    ) -> None:
        """The filtering posterior as an ordinary guide function, to be wrapped in the same memory.

        It runs the recurrence of its own, after which SVI runs the model's:
        :class:`pyro_gtm.FilteringGuide` does both at once.  Arguments as in :meth:`model`.
        """
        inputs = self._inputs(frames, controls, mask, lengths, num_steps, batch_size)
        register_module(self.name, self)
        begin()
        with drawing_weights(self), _sequences(inputs.batch_size, dataset_size):
            seen = _Seen(self, inputs)
            if self.layout == "stacked":
                prior = self._process(inputs, seen)
                pyro.sample("z", seen.of_sequence(prior))
                return
            for t in range(inputs.num_steps):
                context = self._read(_at(inputs.controls, t))
                prior = self.prior(context)
                posterior = seen.at(t, context, prior)
                frame, observed = _at(inputs.frames, t), _at(inputs.observed, t)
                fn = prior if posterior is None else _posterior_of_site(posterior, prior, observed)
                latent = pyro.sample(f"z_{t}", fn)
                self._write(latent, frame, observed, posterior)

    def _per_step(self, inputs: Inputs, fill_gaps: bool) -> Tensor:
        seen = _Seen(self, inputs)
        drawn = []
        for t in range(inputs.num_steps):
            context = self._read(_at(inputs.controls, t))
            prior = self.prior(context)
            posterior = seen.at(t, context, prior)
            observed = _at(inputs.observed, t)
            carried = None
            if posterior is not None:
                carried = _posterior_of_site(posterior, prior, observed)
            latent = pyro.sample(f"z_{t}", prior, infer=_carrying(carried))
            emission = self.emission(latent, context)
            counted = emission if observed is None else emission.mask(observed)
            frame = _sample_frames(f"x_{t}", counted, _at(inputs.frames, t))
            if fill_gaps and posterior is not None:
                frame = self.likelihood.fill(frame, emission.sample(), observed)
                event_dim = len(self.likelihood.event_shape)
                pyro.deterministic(f"filled_{t}", frame, event_dim=event_dim)
                if self._writes_posterior:
                    posterior = self._posterior_of_filled(frame, latent, context, prior, observed)
                observed = None
            if posterior is None and self._writes_posterior:
                posterior = self._posterior_of_generated(frame, latent, context, prior)
            self._write(latent, frame, observed, posterior)
            drawn.append(frame)
        return torch.stack(drawn)

    def _stacked(self, inputs: Inputs) -> Tensor:
        if inputs.frames is None and (self.writes != "latent" or self.is_mixture):
            setting = "prior='mixture'" if self.is_mixture else f"writes={self.writes!r}"
            raise ValueError(
                f"{OWNER}: no frames given, and with {setting} the stacked layout needs them; use "
                "with_layout('per_step') to generate"
            )
        seen = _Seen(self, inputs)
        prior = self._process(inputs, seen)
        posterior = None if inputs.frames is None else seen.of_sequence
        latents = pyro.sample("z", prior, infer=_carrying(posterior))  # (*batch, B, T, Z)
        contexts = prior.contexts(latents)
        frames = None if inputs.frames is None else inputs.frames.movedim(0, 1)  # (B, T, *event)
        emission = self._frame_process(latents, contexts, inputs)
        drawn = _sample_frames("x", emission, frames)
        return drawn.movedim(-1 - len(self.likelihood.event_shape), 0)

    def _process(self, inputs: Inputs, seen: _Seen) -> LatentProcess:
        """The prior over all latents."""
        prior = bind_weights(self, self._prior_parameters)
        extra = None
        if self.writes == "latent+frame" and inputs.frames is not None:
            extra = self._extra(inputs.frames, inputs.observed)
        return LatentProcess(
            Dynamics(
                recurrence(),
                inputs.controls,
                extra,
                means=(seen.terms, prior) if self.writes == "mean" else None,
            ),
            prior,
            batch_shape=plate_shape(),
            num_steps=inputs.num_steps,
            latent_dim=self.latent_dim,
            like=self.like,
            mixture=(
                MixtureTerms(bind_weights(self, self.gates), seen.terms, self._prototypes)
                if self.is_mixture
                else None
            ),
        )

    def _prior_parameters(self, context: Tensor) -> Parameters:
        self._check_context(context)
        parameters: Parameters = self.prior_head(context)
        return parameters

    def _posterior_parameters(self, context: Tensor | None, features: Tensor) -> Parameters:
        if context is not None:
            self._check_context(context)
        parameters: Parameters = self.posterior_head(context, features)
        return parameters

    def prior(self, context: Tensor) -> TorchDistribution:
        """p(z_t | Ψ_t), equation 7, for the context just read."""
        gaussian = Normal(*self._prior_parameters(context)).to_event(1)
        if not self.is_mixture:
            return gaussian
        return mixture_prior(gaussian, self.gates(context), self._prototypes)

    @property
    def _prototypes(self) -> Parameters | None:
        return None if self.prototypes is None else self.prototypes()

    def emission(self, latent: Tensor, context: Tensor) -> TorchDistribution:
        """p(x_t | z_t, Ψ_t), or p(x_t | z_t) with ``decoder_input="latent"``."""
        seen = _cat(latent, context) if self.decoder_input == "latent+context" else latent
        with self._autocast(seen):
            parameters: Tensor = self.decoder(seen)
        wanted = self.likelihood.parameter_shape
        if parameters.shape != (*seen.shape[:-1], *wanted):
            given = tuple(parameters.shape[seen.dim() - 1 :])
            raise ValueError(
                f"{OWNER}: decoder with outputs of shape {given} given, "
                f"{type(self.likelihood).__name__} needs {tuple(wanted)}"
            )
        return self.likelihood(parameters.to(seen.dtype))

    def encode(self, frames: Tensor) -> Tensor:
        """The features of frames that the posterior sees: ``(T, B, *event) -> (T, B, F)``."""
        if not frames.is_floating_point():  # as drawn of Pyro's Categorical
            frames = frames.to(self.like)
        with self._autocast(frames):
            features: Tensor = self.encoder(self.likelihood.features(frames))
        return features.to(frames.dtype)

    def _frame_process(self, latents: Tensor, contexts: Tensor, inputs: Inputs) -> FrameProcess:
        observed = None if inputs.observed is None else inputs.observed.T  # (B, T)
        if inputs.frames is None or not self._in_chunks:
            return FrameProcess(self.emission(latents, contexts), observed)
        return ChunkedFrameProcess(
            bind_weights(self, self.emission),
            latents,
            contexts,
            event_shape=self.likelihood.event_shape,
            frame_support=self.likelihood.support,
            steps=self.checkpoint_every,
            observed=observed,
        )

    def _extra(self, frames: Tensor, observed: Tensor | None) -> Tensor:
        """The features of frames that the memory is given: ``(T, B, *event) -> (T, B, F)``."""
        if self._in_chunks:
            encode = bind_weights(self, self.encode)
            features = map_in_chunks(encode, self.checkpoint_every, frames)
        else:
            features = self.encode(frames)
        return _features_of(features, observed)

    def _write(
        self,
        latent: Tensor,
        frame: Tensor | None,
        observed: Tensor | None,
        posterior: TorchDistribution | None,
    ) -> None:
        """Hand the memory what it is to hold of a step."""
        written = latent
        if self.writes == "mean" and posterior is not None:
            written = cast(Any, posterior).base_dist.loc.expand(latent.shape)
            if observed is not None:
                written = torch.where(observed.unsqueeze(-1), written, latent)
        elif self.writes == "latent+frame" and frame is not None:
            written = _cat(latent, _features_of(self.encode(frame), observed))
        if not self.is_mixture or posterior is None:
            write(written)
        else:
            write(written, posterior if observed is None else posterior.mask(observed))

    @property
    def _writes_posterior(self) -> bool:
        return self.is_mixture or self.writes == "mean"

    def _posterior_of_generated(
        self, frame: Tensor, latent: Tensor, context: Tensor, prior: TorchDistribution
    ) -> TorchDistribution:
        """What is stored of a frame that the program made itself.

        A component that was recalled is stored again as it is.  Something new is encoded as a frame
        that was given would be.
        """
        parameters = self._parameters_of_frame(frame, context, prior)
        if isinstance(prior, MixturePrior):
            parameters = prior.component_of(latent, parameters)
        return Normal(*parameters).to_event(1)

    def _posterior_of_filled(
        self,
        frame: Tensor,
        latent: Tensor,
        context: Tensor,
        prior: TorchDistribution,
        observed: Tensor | None,
    ) -> TorchDistribution:
        """What is stored of a frame whose gaps were filled: its own posterior, where some of it was
        given, and else that of a frame that the program made itself."""
        given = Normal(*self._parameters_of_frame(frame, context, prior)).to_event(1)
        if observed is None:
            return given
        made = self._posterior_of_generated(frame, latent, context, prior)
        there = observed.unsqueeze(-1)
        return Normal(
            torch.where(there, given.base_dist.loc, cast(Any, made).base_dist.loc),
            torch.where(there, given.base_dist.scale, cast(Any, made).base_dist.scale),
        ).to_event(1)

    def _parameters_of_frame(
        self, frame: Tensor, context: Tensor, prior: TorchDistribution
    ) -> Parameters:
        """Location and scale of the posterior of a whole frame."""
        features = self.encode(frame)
        terms = PosteriorTerms(
            self._posterior_parameters, features, self.residual, None, self.sees_context
        )
        new = _gaussian_of(prior) if terms.needs_prior() else None
        return terms.parameters(context, features, None, new)

    @property
    def _in_chunks(self) -> bool:
        stacked = self.layout == "stacked"
        return stacked and self.checkpoint_every > 0 and torch.is_grad_enabled()

    @property
    def like(self) -> Tensor:
        """A weight, of the type and on the device that frames are converted to."""
        return next(self.parameters())

    def _autocast(self, like: Tensor) -> AbstractContextManager[object]:
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(like.device.type, torch.bfloat16)

    def _read(self, control: Tensor | None) -> Tensor:
        context = read(control)
        self._check_context(context)
        return context

    def _check_context(self, context: Tensor) -> None:
        if context.shape[-1] != self.context_dim:
            raise ValueError(
                f"{OWNER}: context of size {context.shape[-1]} given by the memory in use, "
                f"context_dim={self.context_dim} needed; build the program with "
                "context_dim=memory.context_dim"
            )

    def _inputs(
        self,
        frames: Any,
        controls: Any,
        mask: Any,
        lengths: Any,
        num_steps: int | None,
        batch_size: int | None,
    ) -> Inputs:
        inputs = prepare_inputs(
            self.likelihood,
            self.like,
            frames,
            controls,
            mask=mask,
            lengths=lengths,
            num_steps=num_steps,
            batch_size=batch_size,
        )
        given = inputs.num_steps if inputs.frames is None else len(inputs.frames)
        if self.layout == "stacked" and given < inputs.num_steps:
            raise ValueError(
                f"{OWNER}: {given} frames given for num_steps={inputs.num_steps}, and the stacked "
                "layout explains whole sequences; use with_layout('per_step')"
            )
        return inputs


class _Seen:
    """The posterior's view of the frames: their features, encoded when first asked for."""

    def __init__(self, program: GenerativeTemporalModel, inputs: Inputs) -> None:
        self.program = program
        self.inputs = inputs
        self._features: Tensor | None = None
        self._terms: PosteriorTerms | None = None

    @property
    def terms(self) -> PosteriorTerms:
        """What makes the posterior of the stacked layout."""
        if self._terms is None:
            program, frames, observed = self.program, self.inputs.frames, self.inputs.observed
            assert frames is not None
            encode = bind_weights(program, program.encode)
            self._terms = PosteriorTerms(
                bind_weights(program, program._posterior_parameters),
                self._features_of_chunks(encode, frames) if program._in_chunks else encode(frames),
                program.residual,
                None if observed is None else observed.unsqueeze(-1),
                program.sees_context,
            )
        return self._terms

    def _features_of_chunks(
        self, encode: Callable[[Tensor], Tensor], frames: Tensor
    ) -> Tensor | LazyMap:
        """In the blocks of the recurrence, or where all are wanted at once, before it."""
        program = self.program
        if program.sees_context and not program.is_mixture:
            return LazyMap(encode, frames)
        return map_in_chunks(encode, program.checkpoint_every, frames)

    def of_sequence(self, prior: LatentProcess) -> LatentProcess:
        """q(z_{1:T} | x_{1:T}) for the prior of the stacked layout."""
        return prior.posterior(self.terms)

    def at(self, t: int, context: Tensor, prior: TorchDistribution) -> Any:
        """q(z_t | Ψ_t, x_t), equation 8; None without a frame."""
        program, inputs = self.program, self.inputs
        if _at(inputs.frames, t) is None:
            return None
        if self._features is None:
            assert inputs.frames is not None
            self._features = program.encode(inputs.frames)
        observed = _at(inputs.observed, t)
        terms = PosteriorTerms(
            program._posterior_parameters,
            self._features,
            program.residual,
            observed,
            program.sees_context,
        )
        parameters = terms.parameters(
            context,
            self._features[t],
            None if observed is None else observed.unsqueeze(-1),
            _gaussian_of(prior) if terms.needs_prior() else None,
        )
        return Normal(*parameters).to_event(1)


def _posterior_of_site(
    posterior: TorchDistribution, prior: TorchDistribution, observed: Tensor | None
) -> TorchDistribution:
    """The posterior; where a frame is missing, a mixture prior itself."""
    if observed is None or not isinstance(prior, MixturePrior):
        return posterior
    return PartlyObserved(posterior, prior, observed)


def _gaussian_of(prior: TorchDistribution) -> Parameters:
    """Location and scale of a Gaussian prior, or of something new in a mixture."""
    if isinstance(prior, MixturePrior):
        return prior.new
    base = cast(Independent, prior).base_dist
    return base.loc, base.scale


def _sequences(batch_size: int, dataset_size: int | None) -> AbstractContextManager[object]:
    refuse_plate_at(-1, OWNER)
    if dataset_size is None:
        return refusing_wide_masks(pyro.plate("sequences", batch_size, dim=-1), OWNER)
    check_positive(OWNER, dataset_size=dataset_size)
    if dataset_size < batch_size:
        raise ValueError(
            f"{OWNER}: dataset_size={dataset_size} given, the batch alone has {batch_size}"
        )
    # The batch was drawn already: which sequences it holds does not matter, only how many.
    subsample = torch.arange(batch_size)
    plate = pyro.plate("sequences", dataset_size, subsample=subsample, dim=-1)
    return refusing_wide_masks(plate, OWNER)


def _carrying(posterior: Callable[..., Any] | TorchDistribution | None) -> Any:
    """The posterior of a site for :class:`pyro_gtm.FilteringGuide`; None: it is drawn as it is."""
    return {"posterior": posterior}


def _sample_frames(name: str, emission: TorchDistribution, frames: Tensor | None) -> Tensor:
    """The site of frames: given, or drawn as they are."""
    if frames is not None:
        return pyro.sample(name, emission, obs=frames)
    # Conditioned on from outside, it would be explained by latents that no posterior looks for.
    infer: Any = {"posterior": None, "observe_by_argument": "frames"}
    return pyro.sample(name, emission, infer=infer)


def _at(sequence: Tensor | None, t: int) -> Tensor | None:
    return sequence[t] if sequence is not None and t < len(sequence) else None


def _features_of(features: Tensor, observed: Tensor | None) -> Tensor:
    """The rectified features of the frames that there are, zeros for the others."""
    features = features.relu()
    return features if observed is None else features * observed.unsqueeze(-1)


def _cat(left: Tensor, right: Tensor) -> Tensor:
    """Concatenate along the last dimension, broadcasting the batch dimensions."""
    batch_shape = broadcast_shapes(left.shape[:-1], right.shape[:-1])
    return torch.cat([left.expand(*batch_shape, -1), right.expand(*batch_shape, -1)], dim=-1)
