"""Report of a trained run: its figures and its table."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from pyro_gtm.experiments import plotting
from pyro_gtm.experiments.comparison_table import contestant
from pyro_gtm.experiments.experiment import Experiment, eval_mode
from pyro_gtm.experiments.metrics import LEAST_LOG_WEIGHT, generate, kl_name, new_frame_kl
from pyro_gtm.experiments.run import Run
from pyro_gtm.handlers import record_memory
from pyro_gtm.infer.addressing import addresses
from pyro_gtm.infer.evaluation import Evaluation
from pyro_gtm.infer.generation import reconstruct
from pyro_gtm.internals.files import make_writable_folder
from pyro_gtm.tasks import Sequences

__all__ = [
    "draw_evaluation",
    "draw_figures",
    "draw_sequences",
    "figure_names",
    "summary_table",
]

SHOWN_SEQUENCES = 3

ATTENTION = ("read_weights", "write_weights")
"""Details that a memory with slots must record for its figure."""


def figure_names(experiment: Experiment) -> list[str]:
    """The names of the figures of a run, in the order in which they are drawn; none is.

    What the memory records is seen in a single sequence.
    """
    batch = experiment.held_out(1)
    with record_memory() as tape:
        experiment.evaluate(batch)
    names = ["training", "kl_per_frame", "frames", *experiment.test_task.figure_names]
    if experiment.config.prior == "mixture":
        names.append("addresses")
    if _kind_of_attention(experiment, tape) is not None:
        names.append("attention")
    return names


def draw_figures(run: Run, folder: Path | None = None, names: Sequence[str] = ()) -> list[Path]:
    """Draw the figures of a trained run.

    Args:
        run: with its trained model.
        folder: where to, made if it is not there; by default the one for them in the run's.
        names: of those to be drawn; all, where none is given.

    Returns:
        The paths of ``training.png``, where there are rows of metrics, and of those of
        :func:`draw_evaluation`.

    Raises:
        ValueError: the run has no figure of such a name, or the folder that was given cannot be
            written to; nothing is drawn then.
    """
    trained, held_out = run.split("train"), run.split("test")
    logged = bool(trained or held_out)  # not by an exported model
    known = figure_names(run.experiment) if names else []
    known = [name for name in known if logged or name != "training"]
    for name in names:
        if name not in known:
            raise ValueError(f"figure: got {name!r}, must be one of {', '.join(known)}")
    if folder is None:
        folder = run.folder / "figures"
        folder.mkdir(exist_ok=True)
    else:
        make_writable_folder(folder, "output")
    figures = {}
    if logged and (not names or "training" in names):
        kl = kl_name(run.experiment.config.prior)
        figures["training"] = plotting.training_curves(trained, held_out, kl=kl)
    if not names or set(names) != {"training"}:
        figures |= draw_evaluation(run.experiment, run.experiment.held_out(), names)
    paths = []
    for name in names or figures:
        paths.append(folder / f"{name}.png")
        plotting.save(figures[name], paths[-1])
    return paths


def draw_evaluation(
    experiment: Experiment, batch: Sequences, names: Collection[str] = ()
) -> dict[str, Figure]:
    """Figures of a trained model on some sequences, by name.

    Args:
        experiment: with its trained model.
        batch: B sequences.
        names: of those to be drawn; all, where none is given.

    Returns:
        ``kl_per_frame``, with the oracle KL of the task; those of :func:`draw_sequences`; and
        ``attention`` for a memory that attends: averaged over sequences for one that does so by
        position; for one that records what it writes too, or why it reads, in the first sequence;
        and ``addresses`` for a mixture prior.
    """
    task = experiment.test_task

    def wanted(*some: str) -> bool:
        return not names or any(name in names for name in some)

    figures = {}
    if wanted("kl_per_frame", "attention"):
        with record_memory() as tape:
            evaluation = experiment.evaluate(batch)
    if wanted("kl_per_frame"):
        figures["kl_per_frame"] = _draw_kl(experiment, evaluation, batch)
    if wanted("frames", *task.figure_names):
        figures |= draw_sequences(experiment, batch, task.num_given, names=names)
    if wanted("addresses") and experiment.config.prior == "mixture":
        with eval_mode(experiment):
            found = addresses(experiment.guide, batch.frames, batch.controls)
        figures["addresses"] = plotting.addresses_over_time(
            found.log_weights.exp(),
            found.log_responsibilities.exp(),
            batch.predictable,
            batch.repeats,
            rest="new or a prototype" if experiment.config.prototypes else "new",
        )
    if wanted("attention") and _kind_of_attention(experiment, tape) is not None:
        figures["attention"] = _draw_attention(experiment, tape, batch)
    return figures


def _draw_kl(experiment: Experiment, evaluation: Evaluation, batch: Sequences) -> Figure:
    kl = evaluation.kl  # (T, B)
    name = contestant(experiment.config.memory, experiment.config.prior)
    new_frame = new_frame_kl(experiment.test_task, evaluation, batch)
    return plotting.kl_per_frame(
        {name: kl.mean(1)},
        batch.predictable.float().mean(1),
        spread={name: kl.std(1)} if kl.shape[1] > 1 else None,
        oracle_kl=None if new_frame is None else experiment.test_task.oracle_kl(new_frame),
        kl=kl_name(experiment.config.prior),
    )


def _kind_of_attention(experiment: Experiment, tape: record_memory) -> str | None:
    """How the memory that a tape is of attends; None if it does not."""
    if any(name.startswith("logits_") for name in tape):
        return "by what was asked"
    if experiment.memory.reads_by_age:
        return "by age"
    slots = all(name in tape.names and tape[name].dim() == 4 for name in ATTENTION)  # (T, B, R, N)
    return "by slot" if slots else None


def _draw_attention(experiment: Experiment, tape: record_memory, batch: Sequences) -> Figure:
    kind = _kind_of_attention(experiment, tape)
    if kind == "by what was asked":
        # What is recalled is in another slot in each sequence.
        return plotting.association_over_time(
            {name: tape[name][:, 0] for name in tape}, batch.predictable[:, 0], batch.repeats[:, 0]
        )
    if kind == "by age":
        gates = tape["read_gates"].mean(1) if "read_gates" in tape.names else None
        recalled = batch.predictable.float().mean(1)  # (T,)
        return plotting.attention_over_time(tape["read_weights"].mean(1), recalled, gates)
    # Each sequence may use slots of its own, so that an average would blur them.
    return plotting.memory_over_time(
        {name: tape[name][:, 0] for name in tape.names}, batch.predictable[:, 0]
    )


def draw_sequences(
    experiment: Experiment,
    batch: Sequences,
    num_given: int,
    *,
    num_sequences: int = SHOWN_SEQUENCES,
    sample: bool = False,
    seed: int = 0,
    names: Collection[str] = (),
) -> dict[str, Figure]:
    """Figures of sequences as given, as reconstructed and as generated.

    Args:
        experiment: with its trained model.
        batch: B sequences.
        num_given: the number of frames given; all others are generated.
        num_sequences: the number of sequences shown, at most.
        sample: generate samples rather than means.
        seed: of the reconstruction and the generation.
        names: of those to be drawn; all, where none is given.

    Returns:
        ``frames``, rows of frames, and what the task has of its own: ``map`` for a walk on a map,
        ``turn`` for a turn in a room.
    """
    task = experiment.test_task
    batch = batch.first(num_sequences)
    generated = generate(experiment, batch, num_given, sample=sample, seed=seed)
    figures = {}
    if not names or "frames" in names:
        with eval_mode(experiment, seed):
            reconstructed = reconstruct(
                experiment.program, experiment.memory, batch.frames, batch.controls
            )
        figures["frames"] = plotting.frame_strips(
            batch.frames,
            reconstructed,
            generated,
            batch.predictable,
            num_given,
            num_sequences=batch.frames.shape[1],
            notes=task.notes(batch),
        )
    if not names or any(name in names for name in task.figure_names):
        own = task.figures(batch, generated, num_given)
        figures |= {name: figure for name, figure in own.items() if not names or name in names}
    return figures


def summary_table(summary: dict[str, Any]) -> str:
    """The metrics worth reading first, as aligned text."""
    kl, is_mixture = kl_name(summary["prior"]), summary["prior"] == "mixture"
    rows = [
        ("negative ELBO", f"{summary['negative_elbo_per_frame']:.2f} nats a frame"),
        ("", f"{summary['negative_elbo_per_sequence']:.1f} nats a sequence"),
        (
            f"negative IWAE bound (K={summary['particles']})",
            f"{summary['negative_iwae_bound_per_frame']:.2f} nats a frame",
        ),
        (f"{kl} of a new frame", _nats(summary["new_frame_kl"], "nats")),
        (f"recall {kl}", _beside_oracle(summary, "recall_kl", "recall_oracle_kl", "nats a frame")),
        (
            f"last-frame {kl}",
            _beside_oracle(summary, "last_frame_kl", "last_frame_oracle_kl", "nats"),
        ),
    ]
    if is_mixture and (log_weight := summary["right_slot_log_weight"]) is not None:
        least = " (the least that is told: in no slot)" * (log_weight <= LEAST_LOG_WEIGHT)
        rows.append(("log w of the right slot", _nats(log_weight, "nats") + least))
    rows += [
        ("recall accuracy", _recall_accuracy(summary)),
        ("parameters", f"{summary['parameters']:,}"),
    ]
    if summary.get("steps_per_second") is not None:
        pace = f"{summary['steps_per_second']:.1f} steps a second on {summary['device']}"
        rows.append(("speed", pace))
    title = (
        f"{summary['task']}, {summary['memory']} memory, {'mixture prior, ' * is_mixture}"
        f"{summary['num_steps']:,} steps, "
        f"seed {summary['seed']}; held-out sequences of {len(summary['kl_per_frame'])} frames"
    )
    lines = [title, *(f"  {name:<28}{value}" for name, value in rows)]
    if is_mixture:
        lines.append(
            "  (KL bound: of the mixture prior; not to be compared with the KL of a Gaussian prior)"
        )
    return "\n".join(lines)


def _beside_oracle(summary: dict[str, Any], metric: str, oracle: str, unit: str) -> str:
    text = _nats(summary[metric], unit)
    return text if summary[oracle] is None else f"{text} (oracle KL {summary[oracle]:.2f})"


def _nats(value: float | None, unit: str) -> str:
    return "none" if value is None else f"{round(value, 2) + 0.0:.2f} {unit}"  # not -0.00


def _recall_accuracy(summary: dict[str, Any]) -> str:
    if summary["recall_accuracy"] is None:
        return "cannot be judged in these sequences"
    accuracy = summary["classifier_accuracy"]
    what = (
        "show the right image again"
        if accuracy is None
        else f"are read as of the right class (by a classifier of accuracy {accuracy:.1%})"
    )
    share = f"{summary['recall_accuracy']:.1%} of {summary['recall_accuracy_frames']:,}"
    return f"{share} generated frames {what}; chance is {summary['recall_accuracy_chance']:.1%}"
