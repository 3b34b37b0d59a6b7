"""What a training run is: one flat record, three presets, saved beside the results."""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from pyro_gtm.tasks import task_class

__all__ = ["ELBOS", "MATMUL_PRECISIONS", "PRESETS", "Config", "make_config", "read_config"]

ELBOS = ("trace", "mean-field")
"""``trace`` samples the KL (Trace_ELBO), ``mean-field`` has it in closed form."""

MATMUL_PRECISIONS = ("highest", "high", "medium")
"""float32; TensorFloat32 where there is; bfloat16 where there is, with sums in float32."""

MAX_SEED = 2**32 - 1
"""The greatest that all generators take (NumPy's is the narrowest)."""

KINDS: dict[str, tuple[tuple[type, ...], str]] = {
    "str": ((str,), "text"),
    "str | None": ((str, type(None)), "text"),
    "int": ((int,), "a whole number"),
    "float": ((int, float), "a number"),
    "dict[str, Any]": ((dict,), "a table of options"),
}


@dataclass(frozen=True)
class Config:
    """Everything that determines a run, bar the machine.

    The defaults are the ``small`` preset of a task that shows digits; :func:`make_config` knows
    what other tasks want.  Sizes the task decides (frame shape, control size, a memory's slots
    unless given) are not here.
    """

    preset: str = "small"
    memory: str = "introspective"
    memory_options: dict[str, Any] = field(default_factory=dict)
    """Arguments of the memory's class; those given on top of the preset's."""
    task: str = "perfect_recall"
    task_options: dict[str, Any] = field(default_factory=dict)
    """Arguments of the task's class, such as ``list_length``."""
    data: str = "digits"
    """What the frames are taken from; by default the task's first choice."""
    data_dir: str | None = None
    binarise: str = "threshold"
    network: str = "mlp"
    likelihood: str = "bernoulli"
    decoder_input: str = "latent+context"
    writes: str = "latent"
    posterior: str = "residual"
    latent_dim: int = 32
    hidden_dim: int = 256
    """Width of the encoder, decoder, prior and posterior networks."""
    elbo: str = "trace"
    kl_warmup: int = 0
    """Steps over which the weight of the KL grows from 0 to 1."""
    num_steps: int = 2_500
    batch_size: int = 32
    learning_rate: float = 2e-3
    clip_norm: float = 10.0
    """Greatest global norm of the gradient.  The loss is a sum over frames and sequences and its
    gradient's norm lies in the thousands, so Adam sees normalised gradients from start to end."""
    seed: int = 0
    device: str = "auto"
    log_every: int = 50
    eval_every: int = 250
    """Steps between evaluations on held-out images."""
    eval_sequences: int = 256
    save_every: int = 500
    """Steps between checkpoints in the run's folder."""
    precision: str = "float32"
    """``bfloat16`` has the encoder and the decoder multiply in it."""
    matmul_precision: str = "highest"
    """Of float32 matrix products, as ``torch.set_float32_matmul_precision`` takes it."""
    checkpoint_every: int = 0
    """Time steps between the states that are kept for the backward pass; 0 keeps everything."""
    truncate_every: int = 0
    """Time steps between which gradients stop; 0 for none."""
    compile_steps: int = 0
    """Time steps compiled as one piece; 0 compiles nothing."""

    def __post_init__(self) -> None:
        for entry in fields(self):
            kinds, article = KINDS[str(entry.type)]
            value = getattr(self, entry.name)
            if not isinstance(value, kinds) or isinstance(value, bool):
                raise ValueError(f"{entry.name} must be {article}, got {value!r}")
        for name in (
            "latent_dim",
            "hidden_dim",
            "num_steps",
            "batch_size",
            "log_every",
            "eval_every",
            "eval_sequences",
            "save_every",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("learning_rate", "clip_norm"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be a positive number, got {getattr(self, name)}")
        for name in ("kl_warmup", "checkpoint_every", "truncate_every", "compile_steps"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        if not 0 <= self.seed <= MAX_SEED:
            raise ValueError(f"seed must be from 0 to {MAX_SEED}, got {self.seed}")
        for name, allowed in (("elbo", ELBOS), ("matmul_precision", MATMUL_PRECISIONS)):
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name} must be one of {', '.join(allowed)}; got {getattr(self, name)!r}"
                )
        if self.likelihood == "bernoulli" and self.binarise == "none":
            raise ValueError(
                "likelihood='bernoulli' explains binary images, and binarise='none' keeps them "
                "grey: use likelihood='gaussian' or another binarise"
            )

    def to_json(self) -> str:
        """The record as JSON, one key a line."""
        return json.dumps(asdict(self), indent=2) + "\n"


PRESETS: dict[str, dict[str, Any]] = {
    # Seconds on any machine: does everything run?
    "debug": {
        "latent_dim": 8,
        "hidden_dim": 32,
        "num_steps": 40,
        "batch_size": 8,
        "log_every": 10,
        "eval_every": 20,
        "eval_sequences": 16,
        "save_every": 20,
    },
    # Minutes on two cores: what does a memory change?
    "small": {},
    # As published, as far as that is known: networks, likelihood, budget of updates.
    "paper": {
        "network": "conv",
        "decoder_input": "latent",
        "posterior": "direct",
        "hidden_dim": 128,
        "num_steps": 1_000_000,
        "batch_size": 16,
        "learning_rate": 1e-4,
        "log_every": 100,
        "eval_every": 5_000,
        "save_every": 5_000,
    },
}

MEMORY_OPTIONS: dict[str, dict[str, dict[str, Any]]] = {
    "debug": {
        "vrnn": {"hidden_dim": 16},
        "introspective": {"hidden_dim": 16, "heads": 2},
        "ntm": {"hidden_dim": 16, "heads": 2},
        "lru": {"hidden_dim": 16},
        "dnc": {"hidden_dim": 16, "heads": 2},
    },
    "small": {},
    # Widths that bring every model to the paper's 1.87 million parameters (Table 1), within 1.5 %.
    "paper": {
        "vrnn": {"hidden_dim": 336},
        "introspective": {"hidden_dim": 317, "heads": 5},
        "ntm": {"hidden_dim": 246, "heads": 4},
        "lru": {"hidden_dim": 296},
        "dnc": {"hidden_dim": 212, "heads": 4},
    },
}


def make_config(preset: str = "small", **overrides: Any) -> Config:
    """A preset with some of its values replaced; nested options are merged.

    Raises:
        ValueError: an unknown preset or key, or an impossible value.
    """
    if preset not in PRESETS:
        raise ValueError(f"preset must be one of {', '.join(PRESETS)}; got {preset!r}")
    _check_keys(overrides, "make_config")
    memory = overrides.get("memory", Config.memory)
    task = task_class(overrides.get("task", Config.task))
    base = Config(
        **{
            "preset": preset,
            "data": task.sources[0],
            **task.settings,
            "task_options": dict(task.debug_options) if preset == "debug" else {},
            "memory_options": deepcopy(MEMORY_OPTIONS[preset].get(memory, {})),
            **deepcopy(PRESETS[preset]),
        }
    )
    for nested in ("memory_options", "task_options"):
        if nested in overrides:
            overrides = {**overrides, nested: {**getattr(base, nested), **overrides[nested]}}
    return replace(base, **overrides)


def read_config(path: Path) -> Config:
    """The record that :meth:`Config.to_json` wrote.

    Raises:
        ValueError: the file is missing, no JSON, has keys this version does not know, or
            impossible values.
    """
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:  # not JSON, or not even text
        raise ValueError(f"{path} is damaged: it is not valid JSON ({error})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is damaged: it holds no configuration")
    if "checkpoint_every" in content and "save_every" not in content:  # as 0.1.0 called it
        content["save_every"] = content.pop("checkpoint_every")
    _check_keys(content, str(path))
    try:
        return Config(**content)
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def _check_keys(given: Mapping[str, Any], where: str) -> None:
    known = [entry.name for entry in fields(Config)]
    for key in given:
        if key not in known:
            raise ValueError(f"{where}: unknown setting {key!r}; known are {', '.join(known)}")
