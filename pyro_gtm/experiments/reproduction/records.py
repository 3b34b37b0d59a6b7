"""Records of finished runs: small files that are kept, where run folders are not.

::

    results/
      minutes/  hours/  full/      a budget each
        perfect_recall_10-dnc-0.json   a record: settings, final figures, evaluations, provenance
      minutes.csv  hours.csv  full.csv   one line a row, over its seeds
      figures/                     of rows and of experiments
"""

from __future__ import annotations

import csv
import io
import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from pyro_gtm.experiments.comparison_table import FACTS, METRICS, REFERENCES, Result, over_seeds
from pyro_gtm.experiments.config import Config
from pyro_gtm.experiments.metrics_log import Row
from pyro_gtm.experiments.provenance import is_cpu
from pyro_gtm.experiments.published import Published, published_results
from pyro_gtm.experiments.reproduction.manifest import ReproducedRow, rows
from pyro_gtm.internals.files import write_atomically

__all__ = [
    "FIGURES",
    "Outcome",
    "keep_figures",
    "made_with",
    "outcomes",
    "published_of",
    "read_record",
    "write_record",
    "write_table",
]

FIGURES = "figures"
"""The folder of figures in that of the results."""

CURVE = ("step", "recall_kl", "last_frame_kl", "negative_elbo_per_frame", "kl_per_frame")
"""What is kept of an evaluation in the course of training."""

OF_A_MACHINE = ("data_dir", "device", "init_from", "products", "metrics")
"""Settings, and what a summary has of a file beside it, that are not kept."""

DIGITS = 4
"""Decimals that are kept: nats and shares are not known better."""

SAMPLES = ("map", "turn", "frames")
"""The figures of a run that show what it generates, the one that tells most first."""

COLOURS = 96
"""Of a figure that is kept: it is a few tenths of the size then, and looks the same."""


@dataclass(frozen=True)
class Outcome:
    """What came out of a row, over its seeds.

    Attributes:
        row: which.
        records: of its finished runs, by seed.
        published: the paper's for this memory, if there is any.
        result: the mean over seeds, and its spread.
    """

    row: ReproducedRow
    records: Mapping[int, Row]
    published: Published | None
    result: Result

    def minutes(self, *, cpu: bool) -> float | None:
        """Of a run, evaluations included: the mean over those on a CPU, or over those on a GPU;
        None where there is none."""
        summaries = [record["summary"] for record in self.records.values()]
        speeds = [
            summary["steps_per_second"]
            for summary in summaries
            if is_cpu(summary["provenance"]["machine"]) == cpu
            and summary["steps_per_second"] is not None
        ]
        if not speeds:
            return None
        return statistics.fmean(self.result.num_steps / speed / 60 for speed in speeds)

    def updates_to(self, nats: float) -> list[int | None]:
        """For each seed the first evaluation from which on the recall KL, less that of the oracle,
        is below so many nats; None where it is not at the end."""
        return [_updates_to(record, nats) for record in self.records.values()]


def _updates_to(record: Row, nats: float) -> int | None:
    oracle, first = record["summary"]["recall_oracle_kl"], None
    for evaluation in record["evaluations"]:
        if evaluation["recall_kl"] is None or evaluation["recall_kl"] - (oracle or 0.0) >= nats:
            first = None
        elif first is None:
            first = evaluation["step"]
    return first


def write_record(
    folder: Path, row: ReproducedRow, config: Config, summary: Row, evaluations: Sequence[Row]
) -> Path:
    """Keep what came out of a run.

    Args:
        folder: of the results.
        row: the run is of.
        config: of the run.
        summary: its final figures.
        evaluations: the rows of its metrics of held-out sequences.

    Returns:
        The path of the record.
    """
    settings = {name: value for name, value in asdict(config).items() if name not in OF_A_MACHINE}
    record = {
        "experiment": row.experiment,
        "contestant": row.contestant,
        "config": settings,
        "summary": _rounded({k: v for k, v in summary.items() if k not in OF_A_MACHINE}),
        "evaluations": [_rounded({name: e[name] for name in CURVE}) for e in evaluations],
    }
    path = folder / row.budget / f"{row.run_name(config.seed)}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, _as_text(record).encode())
    return path


def read_record(path: Path) -> Row:
    """A record that :func:`write_record` wrote.

    Raises:
        ValueError: it is damaged, or of another version.
    """
    try:
        record = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is damaged: it is not valid JSON ({error})") from error
    needed = {*FACTS, *METRICS, *REFERENCES, "steps_per_second", "provenance"}
    summary = record.get("summary") if isinstance(record, dict) else None
    if (
        not isinstance(summary, dict)
        or not needed <= summary.keys()
        or not _tells_of(summary["provenance"])
        or not isinstance(record.get("evaluations"), list)
    ):
        raise ValueError(f"{path} is damaged, or of another version: make it again")
    return record


def _tells_of(provenance: Any) -> bool:
    known = {"commit", "date", "machine", "torch"}
    return isinstance(provenance, dict) and known <= provenance.keys()


def outcomes(folder: Path, budget: str) -> list[Outcome]:
    """Of each row of a budget that has a record, in the order of the manifest.

    Args:
        folder: of the results.
        budget: one of the manifest's.

    Raises:
        ValueError: a record is damaged.
    """
    found = []
    for row in rows(budget):
        paths = {seed: folder / budget / f"{row.run_name(seed)}.json" for seed in row.seeds}
        records = {seed: read_record(path) for seed, path in paths.items() if path.exists()}
        if not records:
            continue
        summaries = [record["summary"] for record in records.values()]
        published = published_of(summaries[0]).get(row.contestant)  # which has no mixtures
        found.append(Outcome(row, records, published, over_seeds(summaries, published)))
    return found


def published_of(summary: Row) -> dict[str, Published]:
    """The paper's results for the experiment of a summary, by memory.  Experiments are of its
    sizes, which the number of frames tells apart."""
    frames = {"frames": len(summary["kl_per_frame"])}
    return published_results(summary["task"], frames, summary["data"])


def write_table(folder: Path, budget: str) -> Path:
    """One line for each row that has a record, as CSV; the path of the table."""
    lines = io.StringIO()
    writer = None
    for outcome in outcomes(folder, budget):
        line = {
            "experiment": outcome.row.experiment,
            "contestant": outcome.row.contestant,
            **_rounded(asdict(outcome.result)),
            "cpu_minutes": _rounded(outcome.minutes(cpu=True)),
            "gpu_minutes": _rounded(outcome.minutes(cpu=False)),
            "commits": " ".join(made_with(outcome.records.values(), "commit")),
            "dates": " ".join(made_with(outcome.records.values(), "date")),
            "machines": "; ".join(made_with(outcome.records.values(), "machine")),
        }
        if writer is None:
            writer = csv.DictWriter(lines, list(line), lineterminator="\n")
            writer.writeheader()
        writer.writerow(line)
    path = folder / f"{budget}.csv"
    write_atomically(path, lines.getvalue().encode())
    return path


def made_with(records: Iterable[Row], what: str) -> list[str]:
    """Each value of one entry of the provenance of records, once."""
    return sorted({str(record["summary"]["provenance"][what]) for record in records})


def keep_figures(folder: Path, row: ReproducedRow, run: Path) -> list[Path]:
    """Keep what a run generates and what it attends to, in few colours.

    Args:
        folder: of the results.
        row: the run is of.
        run: its folder.

    Returns:
        The paths, of ``...-samples.png`` and, for a memory that attends, ``...-attention.png``.
    """
    kept = []
    drawn = {name: run / "figures" / f"{name}.png" for name in (*SAMPLES, "attention")}
    samples = next((drawn[name] for name in SAMPLES if drawn[name].exists()), None)
    for name, source in (("samples", samples), ("attention", drawn["attention"])):
        if source is not None and source.exists():
            path = folder / FIGURES / f"{row.budget}-{row.name}-{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            _copy_in_few_colours(source, path)
            kept.append(path)
    return kept


def _copy_in_few_colours(source: Path, path: Path) -> None:
    with Image.open(source) as image, io.BytesIO() as buffer:
        image.convert("RGB").quantize(COLOURS).save(buffer, format="png", optimize=True)
        write_atomically(path, buffer.getvalue())


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, DIGITS)
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    return value


def _as_text(record: Row) -> str:
    """JSON with a line for each setting, figure and evaluation."""

    def part(value: Any) -> str:
        if isinstance(value, dict):
            entries = [f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in value.items()]
            return "{\n " + ",\n ".join(entries) + "\n }"
        if isinstance(value, list):
            return "[\n  " + ",\n  ".join(json.dumps(each) for each in value) + "\n ]"
        return json.dumps(value)

    return "{\n" + ",\n".join(f" {json.dumps(k)}: {part(v)}" for k, v in record.items()) + "\n}\n"
