"""Every setting of a training run, declared once: its default, check and command-line option.

The record is saved beside the results; three presets give it other values.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

from pyro_gtm.experiments.config_fields import check_settings, setting, settings_of
from pyro_gtm.experiments.curriculum import ADVANCES
from pyro_gtm.experiments.data import BINARISATIONS, SOURCES
from pyro_gtm.experiments.sealed_json import read_sealed, sealed_text
from pyro_gtm.infer.elbo import ELBOS
from pyro_gtm.infer.learning_rate import SCHEDULES
from pyro_gtm.internals.products import PRODUCTS
from pyro_gtm.memory.registry import MEMORIES
from pyro_gtm.model import DecoderInput, Posterior, Precision, Prior, Writes
from pyro_gtm.model.likelihoods import LIKELIHOODS
from pyro_gtm.model.networks import NETWORKS
from pyro_gtm.tasks import task_class
from pyro_gtm.tasks.base import TASKS

__all__ = [
    "MATMUL_PRECISIONS",
    "MAX_SEED",
    "MAY_CHANGE",
    "PRESETS",
    "SETTINGS",
    "Config",
    "make_config",
    "read_config",
]

MATMUL_PRECISIONS = ("highest", "high", "medium")
"""float32; TensorFloat32 where there is; bfloat16 where there is, with sums in float32."""

OF_WHOLE_NUMBERS = ("bernoulli", "categorical", "negative_binomial", "poisson")
"""Likelihoods that explain no grey pixel."""

MAX_SEED = 2**32 - 1
"""The greatest that all generators take (NumPy's is the narrowest)."""

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
        "associative": {"hidden_dim": 16, "heads": 2, "query_dim": 16, "key_dim": 8},
        "vrnn": {"hidden_dim": 16},
        "introspective": {"hidden_dim": 16, "heads": 2},
        "ntm": {"hidden_dim": 16, "heads": 2},
        "lru": {"hidden_dim": 16},
        "dnc": {"hidden_dim": 16, "heads": 2},
    },
    "small": {},
    # Widths that bring every model to the paper's 1.87 million parameters (Table 1), within 1.5 %.
    "paper": {
        "associative": {"hidden_dim": 248, "heads": 5, "query_dim": 256},
        "vrnn": {"hidden_dim": 336},
        "introspective": {"hidden_dim": 317, "heads": 5},
        "ntm": {"hidden_dim": 246, "heads": 4},
        "lru": {"hidden_dim": 296},
        "dnc": {"hidden_dim": 212, "heads": 4},
    },
}

SETTINGS_OF_MEMORY: dict[str, dict[str, Any]] = {
    # Nothing it writes depends on what it reads, so that all steps are taken at once.
    "associative": {"posterior": "frame", "writes": "mean"},
}

SETTINGS_OF_PRIOR: dict[str, dict[str, Any]] = {
    # A frame that comes again has the very posterior that was stored.
    "mixture": {"posterior": "frame", "writes": "mean"},
}

OF_PRESET = "the preset's"
OF_TASK = "the task's"


@dataclass(frozen=True)
class Config:
    """Everything that determines a run, bar the machine.

    The defaults are the ``small`` preset of a task that shows digits; :func:`make_config` knows
    what other tasks want.  Sizes the task decides (frame shape, control size, a memory's slots
    unless given) are not here.  To add a setting, declare it here and use it in
    :func:`pyro_gtm.experiments.build.build_experiment`.

    Raises:
        ValueError: an impossible value.
    """

    memory: str = setting("introspective", help="Memory.", registry=MEMORIES, compare=False)
    memory_options: dict[str, Any] = setting(
        {},
        help="An argument of the memory's class, such as slots=20; repeatable.",
        compare=False,
    )
    task: str = setting("perfect_recall", help="Task.", registry=TASKS, compare=False)
    task_options: dict[str, Any] = setting(
        {}, help="An argument of the task's class, such as list_length=20; repeatable."
    )
    preset: str = setting(
        "small",
        help="Seconds, minutes, or as published (which wants a GPU).",
        choices=tuple(PRESETS),
    )
    num_steps: int = setting(
        2_500,
        help="Gradient steps.",
        default_help=OF_PRESET,
        flags=("-n",),
        minimum=1,
        may_change=True,
    )
    batch_size: int = setting(
        32, help="Sequences in a step.", default_help=OF_PRESET, flags=("-b",), minimum=1
    )
    ranks: int = setting(
        1,
        help="Processes that train together, each on batch_size sequences of its own.",
        minimum=1,
        compare=False,
        option=False,
    )
    learning_rate: float = setting(
        2e-3, help="Of Adam.", default_help=OF_PRESET, flags=("-lr",), positive=True
    )
    warmup: int = setting(
        0,
        help="Steps over which the learning rate grows from 0.",
        minimum=0,
    )
    schedule: str = setting(
        "constant",
        help="Of the learning rate after that: cosine falls to a hundredth at the last step, and "
        "takes another course where a resumed run is given another --num-steps.",
        choices=SCHEDULES,
    )
    # The loss is a sum over frames and sequences and its gradient's norm lies in the thousands, so
    # Adam sees normalised gradients from start to end.
    clip_norm: float = setting(10.0, help="Greatest global norm of the gradient.", positive=True)
    elbo: str = setting(
        "trace",
        help="ELBO: its KL sampled (Trace_ELBO) or in closed form (TraceMeanField_ELBO).",
        registry=ELBOS,
    )
    kl_annealing: int = setting(
        0, help="Steps over which the weight of the KL grows from 0 to 1.", minimum=0
    )
    network: str = setting(
        "mlp",
        help="Encoder and decoder; conv wants a GPU: on two CPU cores it takes about 5 s a step "
        "and 30 s an evaluation, hours for the preset small.",
        default_help="the preset's, small_conv for rooms",
        registry=NETWORKS,
    )
    curriculum: str = setting(
        "none",
        help="Smaller sizes of the task first: each for its share of the first half of the steps "
        "(another course where a resumed run is given another --num-steps), or until its recall "
        "costs half of what new frames do.",
        choices=("none", *ADVANCES),
    )
    likelihood: str = setting(
        "bernoulli",
        help="Of a frame.",
        default_help="the task's, bernoulli for digits and characters",
        registry=LIKELIHOODS,
    )
    writes: str = setting(
        "latent",
        help="What is written into the memory: the latent, its posterior's mean, or the latent "
        "and the frame.",
        default_help="latent; mean for the associative memory and for the mixture prior",
        choices=get_args(Writes),
    )
    decoder_input: str = setting(
        "latent+context",
        help="What the decoder sees.",
        default_help=OF_PRESET,
        choices=get_args(DecoderInput),
    )
    posterior: str = setting(
        "residual",
        help="A residual Gaussian on the prior, networks of its own, or of the frame alone.",
        default_help="the preset's; frame for the associative memory and for the mixture prior",
        choices=get_args(Posterior),
    )
    prior: str = setting(
        "gaussian",
        help="A Gaussian, or a mixture of the posteriors that the memory recalls.",
        choices=get_args(Prior),
        compare=False,
    )
    prototypes: int = setting(
        0,
        help="Learned Gaussians that a mixture prior has besides: for tasks in which the kind of a "
        "frame can be told, and the frame itself cannot.",
        minimum=0,
        compare=False,
    )
    latent_dim: int = setting(
        32, help="Size of z.", default_help="the preset's, 64 for rooms", minimum=1
    )
    hidden_dim: int = setting(
        256,
        help="Width of the encoder, decoder, prior and posterior networks; the memory's is "
        "--memory-option hidden_dim=N.",
        default_help=OF_PRESET,
        minimum=1,
    )
    init_from: str | None = setting(
        None,
        help="Folder of a run, perhaps of another task or memory, whose weights are taken where "
        "name and shape fit.",
        default_help="random weights",
        folder=True,
        compare=False,
    )
    data: str = setting(
        "digits",
        help="What is shown: digits come with a package, strokes and rooms are drawn on the spot, "
        "the others are read from a folder.",
        default_help=OF_TASK,
        registry=SOURCES,
        compare=False,
    )
    data_dir: str | None = setting(
        None, help="Folder of mnist, omniglot or recorded.", folder=True, may_change=True
    )
    binarise: str = setting(
        "threshold",
        help="How grey images become binary.",
        default_help="threshold, none for rooms",
        choices=BINARISATIONS,
    )
    seed: int = setting(0, help="Of everything random.", minimum=0, maximum=MAX_SEED, compare=False)
    device: str = setting(
        "auto", help="auto (CUDA where there is one), cpu, cuda, cuda:1, ...", may_change=True
    )
    log_every: int = setting(
        50, help="Steps between rows of metrics.", default_help=OF_PRESET, minimum=1
    )
    eval_every: int = setting(
        250, help="Steps between evaluations on held-out data.", default_help=OF_PRESET, minimum=1
    )
    eval_sequences: int = setting(
        256, help="Held-out sequences of an evaluation.", default_help=OF_PRESET, minimum=1
    )
    save_every: int = setting(
        500,
        help="Steps between checkpoints in the run's folder.",
        default_help=OF_PRESET,
        minimum=1,
    )
    precision: str = setting(
        "float32",
        help="Of the encoder's and decoder's matrix products.",
        choices=get_args(Precision),
    )
    matmul_precision: str = setting(
        "highest",
        help="Of float32 matrix products everywhere, as PyTorch takes it: high lets a GPU use "
        "TensorFloat32.",
        choices=MATMUL_PRECISIONS,
    )
    # The last three change a run's numbers by rounding at most.
    checkpoint_every: int = setting(
        0,
        help="Keep only the state between blocks of so many time steps, and compute the rest again "
        "for the gradients: less memory for long sequences.",
        default_help="0, keep all",
        minimum=0,
        may_change=True,
    )
    compile_steps: int = setting(
        0,
        help="Time steps that torch.compile makes one piece of; needs a C++ compiler and takes up "
        "to minutes before the first step.",
        default_help="0, none",
        minimum=0,
        may_change=True,
    )
    products: str = setting(
        "auto",
        help="What multiplies in linear layers on a CPU: MKL (or what PyTorch has in its place) or "
        "oneDNN; auto measures which is faster when a run begins, and leaves a run that has begun "
        "as it is.",
        choices=PRODUCTS,
        may_change=True,
    )

    def __post_init__(self) -> None:
        check_settings(self)
        if self.warmup >= self.num_steps:
            raise ValueError(
                f"warmup: got {self.warmup}, must be less than num_steps={self.num_steps}"
            )
        if self.likelihood in OF_WHOLE_NUMBERS and self.binarise == "none":
            raise ValueError(
                f"binarise: got 'none', must be another for likelihood={self.likelihood!r}, which "
                "explains whole numbers (likelihood='gaussian' explains grey images)"
            )

    def to_json(self) -> str:
        """The record as JSON, one key a line, with a checksum."""
        return sealed_text(asdict(self))


SETTINGS = settings_of(Config)
"""The settings by name."""

MAY_CHANGE = tuple(name for name, declared in SETTINGS.items() if declared.may_change)
"""Settings that a resumed run may be given anew."""


def make_config(preset: str = "small", **overrides: Any) -> Config:
    """A preset with some of its values replaced; nested options are merged.

    Raises:
        ValueError: an unknown preset or key, or an impossible value.
    """
    if not SETTINGS["preset"].allows(preset):
        raise ValueError(f"preset: {SETTINGS['preset'].refusal(preset)}")
    _check_names(overrides, "make_config")
    memory = overrides.get("memory", Config.memory)
    prior = overrides.get("prior", Config.prior)
    task = task_class(overrides.get("task", Config.task))
    base = Config(
        **{
            "preset": preset,
            "data": task.sources[0],
            **task.settings,
            "task_options": dict(task.debug_options) if preset == "debug" else {},
            "memory_options": deepcopy(MEMORY_OPTIONS[preset].get(memory, {})),
            **deepcopy(PRESETS[preset]),
            **SETTINGS_OF_MEMORY.get(memory, {}),
            **SETTINGS_OF_PRIOR.get(prior, {}),
        }
    )
    for nested in ("memory_options", "task_options"):
        if nested in overrides:
            overrides = {**overrides, nested: {**getattr(base, nested), **overrides[nested]}}
    return replace(base, **overrides)


def read_config(path: Path) -> Config:
    """The record that :meth:`Config.to_json` wrote.

    Raises:
        ValueError: the file is missing, no JSON, not as it was written, has keys this version does
            not know, or impossible values.
    """
    content = read_sealed(path, "configuration").content
    _check_names(content, str(path))
    try:
        return Config(**{"products": "mkl", **content})  # the only ones before there was a choice
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def _check_names(given: Mapping[str, Any], where: str) -> None:
    for name in given:
        if name not in SETTINGS:
            raise ValueError(f"{where}: got {name!r}, must be one of {', '.join(SETTINGS)}")
