"""A model of one's own series: a program, its memory, and the units it was fitted in."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pyro
import torch
from torch import Tensor, nn

from pyro_gtm.experiments.checkpoint_file import CheckpointError, load_checkpoint, save_checkpoint
from pyro_gtm.experiments.machine import bytes_of_memory, pick_device
from pyro_gtm.handlers import FilteringGuide, use_memory
from pyro_gtm.internals.files import write_atomically
from pyro_gtm.memory import MemoryModule, make_memory
from pyro_gtm.memory.registry import memory_class
from pyro_gtm.model import GenerativeTemporalModel
from pyro_gtm.model.gaps import PartialFramesLikelihood
from pyro_gtm.model.likelihoods import LIKELIHOODS, Likelihood
from pyro_gtm.model.networks import make_networks
from pyro_gtm.series.clock import Spacing
from pyro_gtm.series.data import Series, abridged
from pyro_gtm.series.forecasting import Forecast, forecast
from pyro_gtm.series.generating import Generated, generate
from pyro_gtm.series.imputing import Imputation, impute
from pyro_gtm.series.scaling import Scaling
from pyro_gtm.series.scoring import Scores, evaluate
from pyro_gtm.series.settings import Settings
from pyro_gtm.series.surprising import Surprise, surprise
from pyro_gtm.series.validation import longest_window

__all__ = ["Frames", "SeriesModel", "load"]

DESCRIPTION = "series.json"
WEIGHTS = "weights.pt"
SCORES = "scores.csv"
FORMAT = 1

AT_ONCE = ("associative",)
"""Memories that take all steps at once where nothing that is written depends on what is read."""

MOST_SLOTS = 32
"""Of memories with slots to write to, whose time grows with them; buffers hold a whole window."""

BUFFERS = ("associative", "introspective")

LIKELIHOOD_OPTIONS: dict[str, dict[str, Any]] = {
    # Of standardised values, whose own scale is 1.
    "gaussian": {"min_scale": 0.02, "max_scale": 3.0},
    "student_t": {"min_scale": 0.02, "max_scale": 3.0},
    "gaussian_mixture": {"min_scale": 0.02, "max_scale": 3.0},
}


@dataclass(frozen=True, eq=False)
class Frames:
    """What the program is given: frames in its own units, and which of them there are."""

    frames: Tensor
    """``(T, B, *event)``."""

    mask: Tensor
    """``(T, B)`` of bool."""

    controls: Tensor | None
    """``(T', B, K)`` with T' >= T."""


class SeriesModel:
    """A generative temporal model of series in their own units.

    Made by :func:`pyro_gtm.series.fit` or :func:`pyro_gtm.series.load`.  Its program and memory are
    the library's own, to be used with Pyro as any other (``model.program``, ``model.memory``).

    Args:
        settings: all of them decided: no ``auto``.
        scaling: fitted on the training part.
        channels: names along a frame's first dimension.
        event_shape: of a frame of the data.
        control_names: of the controls.
        partial: whether frames may have gaps inside.
        spacing: of the clock of the data.
        device: where it lives.
    """

    def __init__(
        self,
        settings: Settings,
        scaling: Scaling,
        *,
        channels: tuple[str, ...],
        event_shape: tuple[int, ...],
        control_names: tuple[str, ...] = (),
        partial: bool,
        spacing: Spacing | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.settings = settings
        self.scaling = scaling
        self.channels = channels
        self.event_shape = event_shape
        self.control_names = control_names
        self.spacing = spacing
        self.device = torch.device(device)
        """Where the weights are."""
        self.step = 0
        """Gradient steps taken."""
        self.best_step: int | None = None
        """The step of these weights, where a fit has kept the best of several."""
        whole: Likelihood = LIKELIHOODS.make(
            settings.likelihood, event_shape, **settings.likelihood_options
        )
        self.likelihood = PartialFramesLikelihood(whole) if partial else whole
        _check_sizes(settings)
        with self.seeded(settings.seed), _refusing_sizes(settings):
            self.memory = self._build_memory()
            self.program = self._build_program()
            self.to(device)

    def _build_memory(self) -> MemoryModule:
        settings = self.settings
        options: dict[str, Any] = {"hidden_dim": 64, **settings.memory_options}
        options["latent_dim"] = GenerativeTemporalModel.written_dim(
            settings.latent_dim, settings.hidden_dim, cast(Any, settings.writes)
        )
        if self.control_names:
            options["control_dim"] = len(self.control_names)
        taken = inspect.signature(memory_class(settings.memory)).parameters
        if "recall" in taken and settings.prior == "mixture":
            options.setdefault("recall", True)
        if "slots" in taken:
            most = settings.window if settings.memory in BUFFERS else MOST_SLOTS
            options.setdefault("slots", min(settings.window, most))
        return make_memory(settings.memory, **options)

    def _build_program(self) -> GenerativeTemporalModel:
        settings, memory = self.settings, self.memory
        if settings.prior == "mixture" and not memory.recall_length:
            raise ValueError(
                f"fit: prior='mixture' given, must be 'gaussian' for memory {settings.memory!r}, "
                "which has no slots to recall from"
            )
        encoder, decoder = make_networks(
            settings.network,
            self.likelihood,
            hidden_dim=settings.hidden_dim,
            decoder_input_dim=settings.latent_dim + memory.context_dim,
        )
        return GenerativeTemporalModel(
            context_dim=memory.context_dim,
            latent_dim=settings.latent_dim,
            encoder=encoder,
            decoder=decoder,
            likelihood=self.likelihood,
            writes=cast(Any, settings.writes),
            posterior=cast(Any, settings.posterior),
            prior=cast(Any, settings.prior),
            recall_heads=memory.read_shape[0],
        )

    @property
    def partial(self) -> bool:
        """Whether frames may have gaps inside."""
        return isinstance(self.likelihood, PartialFramesLikelihood)

    @property
    def window(self) -> int:
        """The most steps that the model sees at once."""
        return self.settings.window

    @property
    def size_of_one(self) -> int:
        """About how many numbers are held for one series: its frames and its memory."""
        written = GenerativeTemporalModel.written_dim(
            self.settings.latent_dim, self.settings.hidden_dim, cast(Any, self.settings.writes)
        )
        return self.window * (2 * math.prod(self.event_shape) + written)

    @property
    def num_parameters(self) -> int:
        """Of the networks and the memory."""
        modules = (self.program, self.memory)
        return sum(p.numel() for module in modules for p in module.parameters())

    def to(self, device: torch.device | str) -> SeriesModel:
        """Move it, in place."""
        self.program.to(device), self.memory.to(device)
        self.device = torch.device(device)
        return self

    def model(self) -> Any:
        """The Pyro model, with its memory."""
        return use_memory(self.memory)(self.program.model)

    def guide(self) -> FilteringGuide:
        """The Pyro guide, with its memory."""
        return FilteringGuide(self.model())

    def frames(self, series: Series) -> Frames:
        """Series in the program's own units, on its device.

        Raises:
            ValueError: they are of another shape, have gaps that the model cannot have, or no
                controls where it has learned with some.
        """
        self.check(series)
        frames, mask = self.framed(series.values)
        controls = None if not self.control_names else series.controls
        # Behind a series' own controls nothing is asked of them: see forecast.
        return Frames(frames, mask, None if controls is None else controls.nan_to_num().to(frames))

    def framed(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Frames of the program and which of them there are, ``(T, B)``, of values in the units of
        the data, ``(T, B, *event)``, NaN where missing."""
        values = self.scaling.apply(values.to(self.device)).to(self.program.like.dtype)
        there = ~values.isnan()
        mask = there.flatten(2).any(-1)  # (T, B)
        if isinstance(self.likelihood, PartialFramesLikelihood):
            frames = self.likelihood.join(values)
        else:
            frames = torch.where(
                there, values, torch.as_tensor(self.likelihood.placeholder).to(values)
            )
        return frames, mask

    def values(self, frames: Tensor) -> Tensor:
        """Frames of the program, which it has made itself, in the units of the data."""
        if isinstance(self.likelihood, PartialFramesLikelihood):
            frames = self.likelihood.split(frames)
        return self.scaling.undo(frames.double())

    def check(self, series: Series) -> None:
        """Refuse series that this model cannot take; see :meth:`frames`."""
        if series.channels != self.channels:
            raise ValueError(
                f"data: channels {abridged(series.channels)} given, the model was fitted to "
                f"{abridged(self.channels)}"
            )
        if series.event_shape != self.event_shape:
            raise ValueError(
                f"data: frames of shape {series.event_shape} given, the model was fitted to "
                f"{self.event_shape}"
            )
        if self.control_names and series.control_names != self.control_names:
            raise ValueError(
                f"data: controls {', '.join(series.control_names) or 'none'} given, the model was "
                f"fitted with {', '.join(self.control_names)}"
            )
        there = series.there.flatten(2)
        if not self.partial and bool((there.any(-1) & ~there.all(-1)).any()):
            raise ValueError(
                "data: frames with gaps inside given, and the model was fitted with drop=0 to "
                "series without such; fit it again with drop above 0"
            )

    @contextmanager
    def seeded(self, seed: int) -> Iterator[None]:
        """Within it, random numbers follow from a seed, and Pyro's parameter store is its own."""
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
            raise ValueError(f"seed: got {seed!r}, must be a whole number from 0 to {2**32 - 1}")
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices), pyro.get_param_store().scope():
            torch.manual_seed(seed)
            yield

    @contextmanager
    def asked(self, seed: int) -> Iterator[None]:
        """The same, with networks as they are used: nothing that is asked changes the model."""
        modules: tuple[nn.Module, ...] = (self.program, self.memory)
        training = [module.training for module in modules]
        for module in modules:
            module.eval()
        try:
            with self.seeded(seed):
                yield
        finally:
            for each, mode in zip(modules, training, strict=True):
                each.train(mode)

    def forecast(self, series: Series, horizon: int, **options: Any) -> Forecast:
        """See :func:`pyro_gtm.series.forecast`."""
        return forecast(self, series, horizon, **options)

    def impute(self, series: Series, **options: Any) -> Imputation:
        """See :func:`pyro_gtm.series.impute`."""
        return impute(self, series, **options)

    def surprise(self, series: Series, **options: Any) -> Surprise:
        """See :func:`pyro_gtm.series.surprise`."""
        return surprise(self, series, **options)

    def generate(self, num_series: int, num_steps: int, **options: Any) -> Generated:
        """See :func:`pyro_gtm.series.generate`."""
        return generate(self, num_series, num_steps, **options)

    def evaluate(self, series: Series, horizon: int, **options: Any) -> Scores:
        """See :func:`pyro_gtm.series.evaluate`."""
        return evaluate(self, series, horizon, **options)

    def description(self) -> dict[str, Any]:
        """All but the weights, as plain values."""
        return {
            "format": FORMAT,
            "step": self.step,
            "best_step": self.best_step,
            "settings": self.settings.to_dict(),
            "scaling": self.scaling.to_dict(),
            "channels": list(self.channels),
            "event_shape": list(self.event_shape),
            "control_names": list(self.control_names),
            "partial": self.partial,
            "spacing": None if self.spacing is None else list(self.spacing),
        }

    def weights(self) -> dict[str, Any]:
        """Of the networks and the memory."""
        return {"program": self.program.state_dict(), "memory": self.memory.state_dict()}

    def set_weights(self, weights: dict[str, Any]) -> None:
        """Take up what :meth:`weights` gave."""
        self.program.load_state_dict(weights["program"])
        self.memory.load_state_dict(weights["memory"])

    def save(self, folder: str | Path, training: dict[str, Any] | None = None) -> None:
        """Write the model to a folder, which is made: ``series.json`` and ``weights.pt``.

        Args:
            folder: where.
            training: the state of training besides, to be resumed.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        content = {"step": self.step, **self.weights(), "training": training or {}}
        save_checkpoint(folder / WEIGHTS, content)
        text = json.dumps(self.description(), indent=2) + "\n"
        write_atomically(folder / DESCRIPTION, text.encode())


def load(folder: str | Path, device: str = "auto") -> SeriesModel:
    """A model that was saved, by :meth:`SeriesModel.save` or ``pyro-gtm series fit``.

    Args:
        folder: where it is.
        device: where it is to live.

    Raises:
        ValueError: the folder holds no model, or a damaged one.
    """
    return load_with_training(folder, device)[0]


def load_with_training(
    folder: str | Path, device: str = "auto"
) -> tuple[SeriesModel, dict[str, Any]]:
    """A model, and the state of its training."""
    folder = Path(folder)
    path = folder / DESCRIPTION
    if not path.is_file():
        raise ValueError(
            f"model: {folder} holds no model of series; pyro-gtm series fit, or model.save, makes "
            "one"
        )
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        if told["format"] != FORMAT:
            raise ValueError(
                f"model: {path} has format {told['format']}, this pyro_gtm reads {FORMAT}"
            )
        model = SeriesModel(
            Settings.of(told["settings"]),
            Scaling(*(tuple(told["scaling"][name]) for name in ("location", "scale"))),
            channels=tuple(told["channels"]),
            event_shape=tuple(told["event_shape"]),
            control_names=tuple(told["control_names"]),
            partial=told["partial"],
            # Models of earlier versions have none.
            spacing=None if told.get("spacing") is None else Spacing(*told["spacing"]),
            device=pick_device(device),
        )
    except (KeyError, TypeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"model: {path} is damaged ({type(error).__name__}: {error})") from error
    try:
        content = load_checkpoint(folder / WEIGHTS, model.device)
        model.set_weights(content)
        model.step, model.best_step = int(content["step"]), told.get("best_step")
    except (CheckpointError, RuntimeError, KeyError) as error:
        raise ValueError(f"model: the weights in {folder} cannot be used: {error}") from error
    return model, content["training"]


def decided(settings: Settings, series: Series) -> Settings:
    """Settings with every ``auto`` decided for the data, and no window longer than it.

    Raises:
        ValueError: there is nothing to learn from.
    """
    values = series.values[series.there]
    if values.numel() == 0:
        raise ValueError("data: there is no value in it")
    likelihood = settings.likelihood
    if likelihood == "auto":
        binary = bool(((values == 0) | (values == 1)).all())
        likelihood = "bernoulli" if binary else "gaussian"
    options = {**LIKELIHOOD_OPTIONS.get(likelihood, {}), **settings.likelihood_options}
    if likelihood == "categorical":
        options.setdefault("num_categories", int(values.max()) + 1)
    network = settings.network
    if network == "auto":
        network = "small_conv" if len(series.event_shape) == 3 else "mlp"
    window = min(settings.window, longest_window(series, settings.validation))
    if window < 2:
        raise ValueError("data: every series has a single step, and at least 2 are needed")
    at_once = settings.memory in AT_ONCE
    posterior, writes = settings.posterior, settings.writes
    return replace(
        settings,
        posterior=("frame" if at_once else "residual") if posterior == "auto" else posterior,
        writes=("mean" if at_once else "latent+frame") if writes == "auto" else writes,
        likelihood=likelihood,
        likelihood_options=options,
        network=network,
        window=window,
    )


def _check_sizes(settings: Settings) -> None:
    """Refuse layers that would fill the machine before PyTorch says that it is full."""
    available = bytes_of_memory(torch.device("cpu"))
    slots = settings.memory_options.get("slots", 0)
    if available is not None and isinstance(slots, int):
        held = 4 * slots * settings.batch_size * settings.latent_dim
        if held > available:
            raise ValueError(
                f"fit: slots={slots} in memory_options and batch_size={settings.batch_size} given, "
                f"which take {held / 2**30:,.0f} GiB; this machine has {available / 2**30:,.0f}"
            )
    widest = settings.latent_dim + settings.hidden_dim
    # Weights, gradients and two moments of one layer between the widest.
    if available is not None and 16 * widest * widest > available:
        raise ValueError(
            f"fit: latent_dim={settings.latent_dim} and hidden_dim={settings.hidden_dim} given, "
            f"layers that this machine's {available / 2**30:,.0f} GiB can hold are allowed"
        )


@contextmanager
def _refusing_sizes(settings: Settings) -> Iterator[None]:
    """What PyTorch says of sizes that no machine holds, as a sentence."""
    try:
        yield
    except (RuntimeError, OverflowError, TypeError) as error:
        raise ValueError(
            f"fit: latent_dim={settings.latent_dim}, hidden_dim={settings.hidden_dim}, "
            f"memory_options={settings.memory_options} given, a model that can be built here is "
            f"allowed ({str(error).splitlines()[0]})"
        ) from error
