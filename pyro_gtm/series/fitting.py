"""Fitting a model to series: windows of them, standardised, under SVI."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyro
import torch
from pyro.infer import SVI
from torch import Tensor

from pyro_gtm.experiments.machine import bytes_of_memory, pick_device
from pyro_gtm.infer import Batch, FusedAdam, LearningRate, training_steps
from pyro_gtm.infer.elbo import ELBOS
from pyro_gtm.model.likelihoods import LIKELIHOODS
from pyro_gtm.model.likelihoods.support import support_of_elements, words_of_support
from pyro_gtm.series.data import Series
from pyro_gtm.series.model import Frames, SeriesModel, decided, load_with_training
from pyro_gtm.series.scaling import Scaling
from pyro_gtm.series.settings import Settings
from pyro_gtm.series.validation import validation_split

__all__ = ["Progress", "fit", "resume"]

MOST_COUNTED = 2**24
"""Of values that are not standardised: float32 holds all whole numbers up to it."""

LOOKS = 20
"""How often a fit looks at what is set apart."""

Progress = Callable[[int, float], bool | None]
"""Is given the number of each step and its negative ELBO in nats a frame, in the units of the data;
training ends early where it returns True."""


def fit(
    series: Series,
    memory: str = "vrnn",
    *,
    device: str = "auto",
    progress: Progress = lambda step, loss: None,
    folder: str | Path | None = None,
    save_every: int = 500,
    **settings: Any,
) -> SeriesModel:
    """Fit a generative temporal model with a memory to series.

    Each step of training sees a batch of windows, cut out at random; values are standardised.  The
    objective is the negative ELBO of the values that there are.

    Args:
        series: to learn from, all of it: split off beforehand what is to judge the model.
        memory: name of the memory; ``vrnn`` is a recurrent network without one.
        device: ``auto`` is CUDA where there is one.
        progress: see :data:`Progress`.
        folder: where the model is saved from time to time, so that :func:`resume` can go on.
        save_every: steps between these times.
        **settings: those of :class:`Settings`.

    Raises:
        ValueError: impossible settings, or series that cannot be learned from.
        NonFiniteLossError: training diverged.
    """
    wanted = decided(Settings.of({"memory": memory, **settings}), series)
    has_units = LIKELIHOODS.find(wanted.likelihood).has_units
    scaling = (Scaling.fit if has_units else Scaling.none)(series)
    there = series.there.flatten(2)
    has_gaps_inside = bool((there.any(-1) & ~there.all(-1)).any())
    several = math.prod(series.event_shape) > 1
    model = SeriesModel(
        wanted,
        scaling,
        channels=series.channels,
        event_shape=series.event_shape,
        control_names=series.control_names,
        spacing=series.spacing,
        partial=has_gaps_inside or (several and wanted.drop > 0 and len(series.event_shape) == 1),
        device=pick_device(device),
    )
    _check_support(model, series)
    windows = 8 * wanted.batch_size * wanted.window * math.prod(series.event_shape)
    available = bytes_of_memory(torch.device("cpu"))
    if available is not None and 4 * windows > available:
        raise ValueError(
            f"fit: batch_size={wanted.batch_size} and window={wanted.window} given, whose frames "
            f"take {windows / 2**30:,.0f} GiB; choose fewer or shorter ones"
        )
    return _Training(model, series, folder, save_every).run(progress)


def resume(
    folder: str | Path,
    series: Series,
    *,
    num_steps: int | None = None,
    device: str = "auto",
    progress: Progress = lambda step, loss: None,
    save_every: int = 500,
) -> SeriesModel:
    """Go on with a fit that was stopped, exactly as it would have gone on.

    Args:
        folder: what :func:`fit` was given.
        series: the same as then.
        num_steps: the last step, if another than then.
        device, progress, save_every: as for :func:`fit`.

    Raises:
        ValueError: the folder holds no model, or no state of training, or the series are others.
    """
    model, training = load_with_training(folder, device)
    if not training:
        raise ValueError(f"resume: {folder} holds a model without the state of its training")
    if num_steps is not None:
        if num_steps < model.step:
            raise ValueError(
                f"resume: num_steps={num_steps} given, {model.step} steps were taken already"
            )
        annealing = model.settings.annealing  # that of the fit which goes on
        model.settings = replace(model.settings, num_steps=num_steps, kl_annealing=annealing)
    model.check(series)
    if training.get("data", series.fingerprint) != series.fingerprint:
        raise ValueError(
            f"resume: other series given than the fit in {folder} has learned from; the same are "
            "needed, split in the same way"
        )
    return _Training(model, series, folder, save_every, training).run(progress)


class _Training:
    """A fit in the making."""

    def __init__(
        self,
        model: SeriesModel,
        series: Series,
        folder: str | Path | None,
        save_every: int,
        state: dict[str, Any] | None = None,
    ) -> None:
        self.model = model
        self.folder = None if folder is None else Path(folder)
        self.save_every = save_every
        self.state = state
        self.series = series
        train, self.validation = validation_split(
            series, model.settings.validation, model.window, model.settings.seed
        )
        self.windows = _Windows(model, train)
        self.best: dict[str, Any] | None = None
        """Weights of the least bound on what is set apart, with that bound and their step."""
        self.draws = torch.Generator().manual_seed(model.settings.seed)
        self.optimizer = FusedAdam(
            lr=model.settings.learning_rate, clip_norm=model.settings.clip_norm
        )
        self.frames = 1.0
        self.log_scale = 0.0

    def run(self, progress: Progress) -> SeriesModel:
        """Train to the last step."""
        model, settings = self.model, self.model.settings
        with model.seeded(settings.seed):
            if self.state is not None:
                self.optimizer.set_state(self.state["optimizer"])
                model.set_weights(self.state["weights"])
                model.best_step = None
                self.best = self.state["best"]
                self.draws.set_state(self.state["draws"].cpu())
                torch.set_rng_state(self.state["random"].cpu())
                if model.device.type == "cuda" and self.state["device_random"] is not None:
                    torch.cuda.set_rng_state(self.state["device_random"].cpu(), model.device)
            svi = SVI(model.model(), model.guide(), self.optimizer, ELBOS.make(settings.elbo))
            rate = LearningRate(
                settings.learning_rate,
                num_steps=settings.num_steps,
                schedule=settings.schedule,  # type: ignore[arg-type]
            )
            steps = training_steps(
                svi,
                self.draw,
                num_steps=settings.num_steps,
                start=model.step,
                kl_annealing=settings.annealing,
                learning_rate=rate,
            )
            with closing(steps):
                for step, loss in steps:
                    model.step = step
                    finished = step == settings.num_steps
                    self._look_at(step, finished)
                    stop = progress(step, loss / self.frames + self.log_scale)
                    saves = finished or stop or step % self.save_every == 0
                    state = self._state() if saves else {}
                    if finished:
                        self._take_best()
                    if saves and self.folder is not None:
                        model.save(self.folder, state)
                    if stop:
                        break
        if model.step == settings.num_steps:  # also where every step was taken before
            self._take_best()
        return model

    def _take_best(self) -> None:
        """End with the best weights, where some were looked at."""
        if self.best is not None:
            self.model.set_weights(self.best)
            self.model.best_step = self.best["step"]

    def _look_at(self, step: int, finished: bool) -> None:
        """Keep the weights if they are the best so far, once the KL counts in full."""
        settings = self.model.settings
        every = max(1, settings.num_steps // LOOKS)
        if self.validation is None or step < settings.annealing:
            return
        if not finished and step % every:
            return
        with pyro.validation_enabled(False):
            bound = self.validation.bound(self.model)
        if self.best is None or bound < self.best["bound"]:
            self.best = {"bound": bound, "step": step, **copy.deepcopy(self.model.weights())}

    def draw(self) -> Batch:
        """The next batch of windows."""
        drawn = self.windows.draw(self.model.settings.batch_size, self.draws)
        batch = self.model.frames(drawn)
        self.frames = float(batch.mask.sum().clamp(min=1))
        # Without a mask, a memory that can takes all steps at once.
        mask = None if bool(batch.mask.all()) else batch.mask
        there = drawn.there
        logs = self.model.scaling.log_scale(drawn.values)
        self.log_scale = float(logs[there].sum()) / self.frames
        return Batch(batch.frames, _covering(batch), mask)

    def _state(self) -> dict[str, Any]:
        return {
            "weights": copy.deepcopy(self.model.weights()),
            "best": self.best,
            "data": self.series.fingerprint,
            "optimizer": self.optimizer.get_state(),
            "draws": self.draws.get_state(),
            "random": torch.get_rng_state(),
            "device_random": (
                torch.cuda.get_rng_state(self.model.device)
                if self.model.device.type == "cuda"
                else None
            ),
        }


class _Windows:
    """Windows of series, cut out at random, some with values hidden."""

    def __init__(self, model: SeriesModel, series: Series) -> None:
        self.model = model
        self.series = series
        size = model.window
        self.starts = (series.lengths - size).clamp(min=0) + 1  # how many windows each has
        self.cumulative = self.starts.cumsum(0)

    def draw(self, count: int, generator: torch.Generator) -> Series:
        """So many windows, each equally likely."""
        series, size = self.series, self.model.window
        total = int(self.cumulative[-1])
        picked = torch.randint(total, (count,), generator=generator)
        which = torch.searchsorted(self.cumulative, picked, right=True)  # (B,)
        start = picked - (self.cumulative - self.starts)[which]
        lengths = (series.lengths[which] - start).clamp(max=size)
        steps = start + torch.arange(int(lengths.max())).unsqueeze(1)  # (W, B)
        values = series.values[steps.clamp(max=series.num_steps - 1), which]  # (W, B, *event)
        ended = torch.arange(len(steps)).unsqueeze(1) >= lengths
        values = torch.where(_to_frames(ended, values), torch.nan, values)
        controls = series.controls
        if controls is not None:
            controls = controls[steps.clamp(max=len(controls) - 1), which]
        values = self._hidden(values, lengths, generator)
        return replace(series, values=values, lengths=lengths, controls=controls)

    def _hidden(self, values: Tensor, lengths: Tensor, generator: torch.Generator) -> Tensor:
        """With some channels of some windows hidden over a span of steps."""
        share = self.model.settings.drop
        if not self.model.partial or share == 0:
            return values
        steps, count, channels = values.shape[:3]

        def uniform(*shape: int) -> Tensor:
            return torch.rand(shape, generator=generator)

        chosen = uniform(count) < share  # (B,)
        begin = uniform(count) * lengths
        end = begin + uniform(count) * 0.5 * lengths
        clock = torch.arange(steps).unsqueeze(1)
        span = (clock >= begin) & (clock < end) & chosen  # (W, B)
        chances = uniform(count, channels)
        of_channels = (chances < 0.5) & (chances < chances.amax(1, keepdim=True))  # never all
        whole = uniform(count, 1) < 0.5
        if self.model.settings.posterior == "frame":
            # It sees the frame alone, so that there is nothing to learn from gaps of whole frames;
            # and without them a memory that can takes all steps at once.
            whole = torch.zeros_like(whole)
        hidden = span.unsqueeze(-1) & (whole | of_channels)  # (W, B, C)
        return torch.where(_to_frames(hidden, values), torch.nan, values)


def _to_frames(condition: Tensor, values: Tensor) -> Tensor:
    """A condition on the first dimensions of values, to broadcast over the others."""
    return condition.reshape(*condition.shape, *[1] * (values.dim() - condition.dim()))


def _covering(batch: Frames) -> Tensor | None:
    """The controls of the steps that there are."""
    return None if batch.controls is None else batch.controls[: len(batch.frames)]


def _check_support(model: SeriesModel, series: Series) -> None:
    """Refuse values that the likelihood gives no density, before anything is trained."""
    whole = getattr(model.likelihood, "base", model.likelihood)
    values = series.values[series.there]
    support = support_of_elements(whole.support)
    fine = support.check(values)
    if not bool(fine.all()):
        bad = values[~fine]
        raise ValueError(
            f"likelihood: {model.settings.likelihood!r} given, and the data holds {len(bad):,} "
            f"values outside of what it allows ({words_of_support(support)}), such as "
            f"{bad[0].item():g}"
        )
    if not whole.has_units and bool((values.abs() > MOST_COUNTED).any()):
        raise ValueError(
            f"likelihood: {model.settings.likelihood!r} given, and the data holds "
            f"{values.abs().max().item():.0f}; at most {MOST_COUNTED:,} is allowed, up to which "
            "float32 tells one number from the next: count in greater units"
        )
