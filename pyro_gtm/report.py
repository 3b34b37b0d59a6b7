"""What a run shows when it is done: its figures and its table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pyro_gtm import plotting
from pyro_gtm.experiment import frozen
from pyro_gtm.handlers import record_memory
from pyro_gtm.infer.generation import continue_frames, reconstruct
from pyro_gtm.run import Run
from pyro_gtm.tasks import Sequences

__all__ = ["draw_figures", "draw_strips", "frames_before_recall", "summary_table"]

SHOWN_SEQUENCES = 3


ATTENTION = ("read_weights", "write_weights")
"""What a memory with slots must record for its figure."""


def draw_figures(run: Run) -> list[Path]:
    """Draw all figures of a trained run into its folder.

    Returns:
        ``training.png``, ``kl_per_frame.png``, ``frames.png`` and ``attention.png``, this for a
        memory that attends: averaged over sequences for one that does so by position; for one
        that records what it writes too, in the first sequence.
    """
    experiment = run.experiment
    folder = run.folder / "figures"
    folder.mkdir(exist_ok=True)
    batch = experiment.held_out()
    recalled = batch.predictable.float().mean(1)  # (T,)

    with record_memory() as tape:
        kl = experiment.evaluate(batch).kl  # (T, B)
    figures = {
        "training": plotting.training_curves(run.split("train"), run.split("test")),
        "kl_per_frame": plotting.kl_per_frame(
            {experiment.config.memory: kl.mean(1)},
            recalled,
            spread={experiment.config.memory: kl.std(1)} if kl.shape[1] > 1 else None,
        ),
        "frames": draw_strips(run, batch, frames_before_recall(batch)),
    }
    if experiment.memory.reads_by_age:
        gates = tape["read_gates"].mean(1) if "read_gates" in tape.names else None
        figures["attention"] = plotting.attention_over_time(
            tape["read_weights"].mean(1), recalled, gates
        )
    elif all(name in tape.names and tape[name].dim() == 4 for name in ATTENTION):  # (T, B, R, N)
        # Each sequence may use slots of its own, so that an average would blur them.
        figures["attention"] = plotting.memory_over_time(
            {name: tape[name][:, 0] for name in tape.names}, batch.predictable[:, 0]
        )
    paths = []
    for name, figure in figures.items():
        paths.append(folder / f"{name}.png")
        plotting.save(figure, paths[-1])
    return paths


def draw_strips(
    run: Run,
    batch: Sequences,
    num_given: int,
    num_sequences: int = SHOWN_SEQUENCES,
    sample: bool = False,
    seed: int = 0,
) -> Any:
    """Frames as given, as reconstructed, and as generated after the first ``num_given``."""
    experiment = run.experiment
    frames = batch.frames[:, :num_sequences]
    controls = None if batch.controls is None else batch.controls[:, :num_sequences]
    with frozen(experiment, seed):
        reconstructed = reconstruct(experiment.program, experiment.memory, frames, controls)
        generated = continue_frames(
            experiment.program,
            experiment.memory,
            frames[:num_given],
            num_steps=len(frames),
            controls=controls,
            sample=sample,
        )
    return plotting.frame_strips(
        frames,
        reconstructed,
        generated,
        batch.predictable.float().mean(1),
        num_given,
        num_sequences=frames.shape[1],
    )


def frames_before_recall(batch: Sequences) -> int:
    """How many frames come before the first that a memory could predict; at least one."""
    predictable = batch.predictable.any(1)
    return max(1, int(predictable.int().argmax())) if predictable.any() else 1


def summary_table(summary: dict[str, Any]) -> str:
    """The figures worth reading first, as aligned text."""
    pace = summary["steps_per_second"]
    speed = "not known" if pace is None else f"{pace:.1f} steps a second"
    recall = "no" if summary["recall_kl"] is None else f"{summary['recall_kl']:.2f}"
    rows = [
        ("negative bound", f"{summary['negative_elbo_per_frame']:.2f} nats a frame"),
        ("", f"{summary['negative_elbo_per_sequence']:.1f} nats a sequence"),
        ("recall KL", f"{recall} nats a frame"),
        ("last-frame KL", f"{summary['last_frame_kl']:.2f} nats"),
        ("parameters", f"{summary['parameters']:,}"),
        ("speed", f"{speed} on {summary['device']}"),
    ]
    title = (
        f"{summary['task']}, {summary['memory']} memory, {summary['num_steps']:,} steps, "
        f"seed {summary['seed']}; held-out images"
    )
    return "\n".join([title, *(f"  {name:<24}{value}" for name, value in rows)])
