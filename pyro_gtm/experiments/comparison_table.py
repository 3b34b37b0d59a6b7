"""Table of a comparison: one line for each task and contestant, over the seeds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from pyro_gtm.experiments.published import Published

__all__ = [
    "FACTS",
    "METRICS",
    "NONE",
    "REFERENCES",
    "Result",
    "contestant",
    "markdown_report",
    "markdown_table",
    "over_seeds",
    "with_spread",
]

Row = dict[str, Any]

FACTS = ("task", "data", "memory", "prior", "posterior", "writes", "num_steps", "parameters")
"""What a run's summary says of the run, and its seeds have in common."""

METRICS = (
    "recall_kl",
    "last_frame_kl",
    "negative_elbo_per_frame",
    "negative_iwae_bound_per_frame",
    "recall_accuracy",
)
"""Metrics of a run's summary that are compared: the mean over seeds, and its spread."""

REFERENCES = (
    "new_frame_kl",
    "recall_oracle_kl",
    "last_frame_oracle_kl",
    "recall_accuracy_chance",
    "classifier_accuracy",
)
"""Metrics of a run's summary to be held against these: the mean over seeds."""


def contestant(memory: str, prior: str) -> str:
    """The name in a comparison: ``"associative+mixture"`` for a memory with the mixture prior."""
    return memory if prior == "gaussian" else f"{memory}+{prior}"


@dataclass(frozen=True, kw_only=True)
class Result:
    """One contestant on one task, over the seeds; KL, negative ELBO and IWAE bound in nats.

    With ``prior="mixture"`` every KL is a bound on it, not to be compared with that of a Gaussian.

    A metric is None where it cannot be had (no frame can be predicted, say), a spread is the
    standard deviation over seeds and None for one seed, and what is published None for sizes that
    the paper does not have.
    """

    task: str
    data: str
    memory: str
    prior: str
    posterior: str
    writes: str
    num_steps: int
    parameters: int
    seeds: int
    new_frame_kl: float | None
    """KL of a frame of which the past tells nothing, to hold a recall KL against."""
    recall_kl: float | None
    recall_kl_spread: float | None
    recall_oracle_kl: float | None
    last_frame_kl: float
    last_frame_kl_spread: float | None
    last_frame_oracle_kl: float | None
    negative_elbo_per_frame: float
    negative_elbo_per_frame_spread: float | None
    negative_iwae_bound_per_frame: float
    negative_iwae_bound_per_frame_spread: float | None
    recall_accuracy: float | None
    """Share of generated frames that are right, see :func:`pyro_gtm.experiments.metrics.assess`."""
    recall_accuracy_spread: float | None
    recall_accuracy_chance: float | None
    classifier_accuracy: float | None
    published_last_frame_kl: float | None
    published_negative_elbo_per_frame: float | None
    published_updates: int | None


NONE = "–"
"""In a cell of which there is nothing to say."""

COLUMNS = (
    "task",
    "memory",
    "KL of a new frame",
    "recall KL (oracle KL)",
    "last-frame KL (oracle KL)",
    "in the paper",
    "negative ELBO",
    "negative IWAE bound",
    "in the paper",
    "recall accuracy (chance)",
    "seeds",
)


def markdown_report(results: Sequence[Result]) -> str:
    """A paragraph and a Markdown table: mean ± standard deviation over the seeds."""
    first = results[0]
    lines = [
        f"{first.num_steps:,} steps, held-out sequences, nats a frame: less is better, but of "
        "recall accuracy, the share of generated frames that are right. *KL of a new frame*: of "
        "one of which the past tells nothing. *Oracle KL*: of a perfect memory to which new frames "
        "cost as much." + _of_mixtures(results) + _of_the_paper(results),
        "",
    ]
    rows = []
    for result in results:
        bound = "≤ " if result.prior == "mixture" else ""
        cells = [
            f"{result.task} ({result.data})",
            contestant(result.memory, result.prior),
            with_spread(result.new_frame_kl, prefix=bound),
            _beside(
                with_spread(result.recall_kl, result.recall_kl_spread, bound),
                result.recall_oracle_kl,
            ),
            _beside(
                with_spread(result.last_frame_kl, result.last_frame_kl_spread, bound),
                result.last_frame_oracle_kl,
            ),
            _as_published(result.published_last_frame_kl),
            with_spread(result.negative_elbo_per_frame, result.negative_elbo_per_frame_spread),
            with_spread(
                result.negative_iwae_bound_per_frame, result.negative_iwae_bound_per_frame_spread
            ),
            _as_published(result.published_negative_elbo_per_frame),
            _beside(
                with_spread(result.recall_accuracy, result.recall_accuracy_spread),
                result.recall_accuracy_chance,
            ),
            str(result.seeds),
        ]
        rows.append(cells)
    return "\n".join([*lines, markdown_table(COLUMNS, rows)])


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of cells."""
    lines = [columns, *rows]
    head, *rest = [f"| {' | '.join(cells)} |" for cells in lines]
    return "\n".join([head, "|---" * len(columns) + "|", *rest])


def _of_mixtures(results: Sequence[Result]) -> str:
    """What a mixture prior is and, where others differ in more than it, in what."""
    settings: dict[str, list[str]] = {}
    for result in results:
        said = f"posterior {result.posterior}, writes {result.writes}"
        if said not in settings.setdefault(result.prior, []):
            settings[result.prior].append(said)
    each = "; ".join(f"{prior}: {' or '.join(said)}" for prior, said in settings.items())
    if "mixture" not in settings:
        alike = all(len(said) == 1 for said in settings.values())
        return "" if alike else f" Contestants differ in more than the memory: {each}."
    return (
        f" *+mixture*: with the mixture prior ({each}). Its KL is a bound, marked ≤, and not to be "
        "compared with the KL of a Gaussian prior; negative ELBO, negative IWAE bound and recall "
        "accuracy can be."
    )


def _of_the_paper(results: Sequence[Result]) -> str:
    updates = [r.published_updates for r in results if r.published_updates is not None]
    if not updates:
        return ""
    least, most = min(updates), max(updates)
    after = f"{least:,}" if least == most else f"{least:,} to {most:,}"
    sentence = (
        f" *In the paper*: read off the plots of arXiv 1702.04649, after {after} updates of larger "
        "networks, to about 0.5 nats for a KL and 1 nat for a negative ELBO"
    )
    if any(r.task == "rotation_3d" and r.published_updates is not None for r in results):
        sentence += "; of rotation_3d the mean KL of the second turn"
    return f"{sentence}."


def with_spread(
    mean: float | None, spread: float | None = None, prefix: str = "", digits: int = 2
) -> str:
    """A mean and, of several seeds, its standard deviation; a dash for none."""
    if mean is None:
        return NONE
    return f"{prefix}{mean:.{digits}f}" + ("" if spread is None else f" ± {spread:.{digits}f}")


def _beside(figure: str, other: float | None) -> str:
    return figure if other is None else f"{figure} ({other:.2f})"


def _as_published(value: float | None) -> str:
    return NONE if value is None else f"{value:g}"


def over_seeds(summaries: Sequence[Row], published: Published | None) -> Result:
    """The result of runs that differ in their seeds, from their summaries."""
    first = summaries[0]
    figures: dict[str, float | None] = {}
    for name in (*METRICS, *REFERENCES):
        values = [summary[name] for summary in summaries]
        known = None not in values
        figures[name] = statistics.fmean(values) if known else None
        if name in METRICS:
            spread = statistics.stdev(values) if known and len(values) > 1 else None
            figures[f"{name}_spread"] = spread
    return Result(
        seeds=len(summaries),
        **cast(Any, {name: first[name] for name in FACTS}),
        **cast(Any, figures),
        **cast(Any, {f"published_{f}": getattr(published, f, None) for f in Published._fields}),
    )
