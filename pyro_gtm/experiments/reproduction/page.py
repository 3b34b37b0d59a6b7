"""Tables and figures of the results, put into pages between markers.

A page says where a table belongs and which, and everything between the markers is made anew::

    <!-- results: experiment hours mnist_map -->
    ...
    <!-- end of results -->
"""

from __future__ import annotations

import functools
import re
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from pyro_gtm.experiments import plotting
from pyro_gtm.experiments.comparison import compared
from pyro_gtm.experiments.comparison_table import NONE, Result, markdown_table, with_spread
from pyro_gtm.experiments.provenance import is_cpu
from pyro_gtm.experiments.published import DENSITIES, Published
from pyro_gtm.experiments.reproduction.manifest import (
    BUDGETS,
    EXPERIMENTS,
    PUBLISHED_FIVE,
    SETTINGS,
    rows,
)
from pyro_gtm.experiments.reproduction.records import (
    FIGURES,
    Outcome,
    made_with,
    outcomes,
    published_of,
)
from pyro_gtm.experiments.reproduction.walks import TABLE, walks_table
from pyro_gtm.tasks import task_class

__all__ = ["draw_experiments", "fill"]

BLOCK = re.compile(
    r"(?P<begin><!-- results: (?P<what>[a-z0-9_ ]+) -->\n).*?(?P<end><!-- end of results -->)",
    re.DOTALL,
)

WALKS = "walks"
"""The one kind of block that is of no budget: of ``benchmarks/patch_walk.py``."""

ONE_NAT = 1.0

BOUND = "negative_elbo_per_frame"


def fill(text: str, results: Path, page: Path) -> str:
    """A page whose blocks are made anew, but for those of budgets without any record.

    Args:
        text: of the page.
        results: the folder of the results.
        page: where the page is, for its links.

    Raises:
        ValueError: a block of an unknown kind, budget or experiment.
    """

    read = functools.cache(functools.partial(_Results, results, page))

    def made_anew(block: re.Match[str]) -> str:
        kind, *arguments = block["what"].split()
        if kind == WALKS and not arguments:
            if not (results / TABLE).exists():
                return block[0]
            return f"{block['begin']}\n{walks_table(results)}\n\n{block['end']}"
        if kind not in BLOCKS or not arguments or arguments[0] not in BUDGETS:
            raise ValueError(f"{page}: got the block {block['what']!r}, must be KIND BUDGET ...")
        budget, *rest = arguments
        if len(rest) != (kind in OF_AN_EXPERIMENT):
            wanted = "an experiment" if kind in OF_AN_EXPERIMENT else "no experiment"
            raise ValueError(f"{page}: got the block {block['what']!r}, must name {wanted}")
        if any(name not in EXPERIMENTS for name in rest):
            raise ValueError(f"{page}: got {rest[0]!r}, must be one of {', '.join(EXPERIMENTS)}")
        if not read(budget).all:
            return block[0]
        body = BLOCKS[kind](read(budget), *rest)
        return f"{block['begin']}\n{body}\n\n{block['end']}"

    return BLOCK.sub(made_anew, text)


class _Results:
    """The outcomes of a budget, for a page."""

    def __init__(self, folder: Path, page: Path, budget: str) -> None:
        self.folder, self.page, self.budget = folder, page, budget
        self.all = outcomes(folder, budget)

    def of(self, experiment: str) -> list[Outcome]:
        return [outcome for outcome in self.all if outcome.row.experiment == experiment]

    def one(self, experiment: str, contestant: str) -> Outcome | None:
        return next((o for o in self.of(experiment) if o.row.contestant == contestant), None)

    def image(self, name: str, words: str) -> list[str]:
        """Markdown of a figure, if there is one."""
        path = self.folder / FIGURES / f"{self.budget}-{name}.png"
        if not path.exists():
            return []
        up = len(self.page.resolve().parent.relative_to(self.folder.resolve().parent).parts)
        return [f"![{words}]({'../' * up}{self.folder.name}/{FIGURES}/{path.name})"]


def _accuracy(outcome: Outcome | None) -> str:
    if outcome is None:
        return NONE
    accuracy, spread = outcome.result.recall_accuracy, outcome.result.recall_accuracy_spread
    return with_spread(accuracy and 100 * accuracy, spread and 100 * spread, digits=1)


def _bound(result: Result) -> str:
    bound, spread = result.negative_elbo_per_frame, result.negative_elbo_per_frame_spread
    return with_spread(bound, spread, digits=1)


def _minutes(outcome: Outcome, share: float = 1.0, digits: int = 0) -> str:
    """Those of a share of a run, on each kind of machine that it was trained on."""
    cpu, gpu = (outcome.minutes(cpu=cpu) for cpu in (True, False))
    said = [] if cpu is None else [_at_least(share * cpu, digits)]
    said += [] if gpu is None else [f"{_at_least(share * gpu, 1)} (GPU)"]
    return ", ".join(said) or NONE


def _at_least(number: float, digits: int) -> str:
    """Rounded, and never to nothing."""
    least = 10**-digits
    return f"{number:.{digits}f}" if number >= least else f"< {least:g}"


def _chance(outcome: Outcome) -> str:
    chance = outcome.result.recall_accuracy_chance
    return NONE if chance is None else f"{100 * chance:.1f}"


def _experiment(results: _Results, name: str) -> str:
    """The table of an experiment, a row a contestant, and its figures."""
    found = results.of(name)
    if not found:
        return "*Not run yet.*"
    lines = []
    for outcome in found:
        result, published = outcome.result, outcome.published
        bound = "≤ " if result.prior == "mixture" else ""
        lines.append(
            [
                outcome.row.contestant,
                f"{_accuracy(outcome)} ({_chance(outcome)})",
                with_spread(result.recall_kl, result.recall_kl_spread, bound),
                with_spread(result.last_frame_kl, result.last_frame_kl_spread, bound),
                with_spread(published and published.last_frame_kl),
                with_spread(result.last_frame_oracle_kl),
                with_spread(result.new_frame_kl, prefix=bound, digits=1),
                _bound(result),
                with_spread(published and published.negative_elbo_per_frame, digits=1),
                with_spread(
                    result.negative_iwae_bound_per_frame,
                    result.negative_iwae_bound_per_frame_spread,
                    digits=1,
                ),
                _minutes(outcome),
                str(result.seeds),
            ]
        )
    head = (
        "memory",
        "recall accuracy, % (chance)",
        "recall KL",
        "last-frame KL",
        "paper",
        "oracle",
        "new frame",
        "negative ELBO",
        "paper",
        "negative IWAE bound",
        "minutes",
        "seeds",
    )
    left = [row.contestant for row in rows(results.budget) if row.experiment == name]
    left = [contestant for contestant in left if results.one(name, contestant) is None]
    parts = [markdown_table(head, lines)]
    steps, data = found[0].result.num_steps, found[0].result.data
    folder = f" --{data} DIR" if data in BUDGETS[results.budget].data.values() else ""
    said = f"*{steps:,} updates on {data}; held-out sequences, in nats (a frame)."
    if best := _best_published(found[0]):
        said += f" The paper's best: {best}."
    if left:
        said += f" Not run: {', '.join(left)}."
    parts.append(f"{said}*")
    parts.append(
        f"```bash\npyro-gtm reproduce --budget {results.budget} --row '{name}-*'{folder}\n```"
    )
    parts += results.image(name, f"{name}: KL of each frame, last-frame KL and negative ELBO")
    parts += results.image(f"{name}-mixture", f"{name}: the same with mixture priors, a bound")
    return "\n\n".join(parts)


def _memories(results: _Results, name: str) -> str:
    """The Gaussian priors of an experiment in a few columns, and their figure."""
    lines = [
        [
            f"`{outcome.row.contestant}`",
            f"{_accuracy(outcome)}",
            with_spread(outcome.result.recall_kl, outcome.result.recall_kl_spread),
            with_spread(outcome.result.last_frame_kl, outcome.result.last_frame_kl_spread),
            _bound(outcome.result),
            f"{outcome.result.parameters:,}",
        ]
        for outcome in results.of(name)
        if outcome.result.prior == "gaussian"
    ]
    if not lines:
        return "*Not run yet.*"
    head = ["memory", "recall accuracy, %", "recall KL", "last-frame KL", "negative ELBO a frame"]
    steps = BUDGETS[results.budget].num_steps
    said = f"*Held-out sequences, nats; {steps:,} updates. {_provenance(results.of(name))}*"
    image = results.image(name, f"{name}: KL of each frame, last-frame KL and negative ELBO")
    return "\n\n".join([markdown_table([*head, "parameters"], lines), said, *image])


def _best_published(outcome: Outcome) -> str:
    """The lowest that the paper plots for this experiment, in words."""
    published = published_of(next(iter(outcome.records.values()))["summary"])
    kl, bound = (_least(published, figure) for figure in ("last_frame_kl", BOUND))
    if kl is None or outcome.result.task in DENSITIES:
        return ""
    said = [f"last-frame KL {kl.value:g} ({kl.memory})"]
    if bound is not None:
        said.append(f"negative ELBO {bound.value:g} ({bound.memory})")
    return ", ".join(said) + f", after {kl.updates:,} updates"


class _Least(NamedTuple):
    """The lowest of the paper's values, and whose it is: a memory's, or of ``all alike``."""

    value: float
    memory: str
    updates: int


def _least(published: Mapping[str, Published], figure: str) -> _Least | None:
    """The lowest value of a figure; None where there is none."""
    values = {m: v for m, p in published.items() if (v := getattr(p, figure)) is not None}
    if not values:
        return None
    memory = min(values, key=values.__getitem__)
    of = "all alike" if len(set(values.values())) == 1 else memory
    return _Least(values[memory], of, published[memory].updates)


def _pictures(results: _Results, name: str) -> str:
    """What each memory generates, and what it attends to: of the first in sight, of the others
    to be opened."""
    parts: list[str] = []
    for outcome in results.of(name):
        contestant = outcome.row.contestant
        images = [
            *results.image(f"{name}-{contestant}-samples", f"{name}: what {contestant} generates"),
            *results.image(f"{name}-{contestant}-attention", f"{name}: where {contestant} reads"),
        ]
        if not images:
            continue
        if parts:
            summary = f"<details><summary>{contestant}</summary>"
            parts += [summary, *images, "</details>"]
        else:
            parts += [f"**{contestant}**", *images]
    return "\n\n".join(parts) or "*Not run yet.*"


def _cells(results: _Results) -> str:
    """Experiments by the paper's memories: our last-frame KL beside the paper's."""
    lines, at_or_under, both, updates = [], 0, 0, set()
    for name in EXPERIMENTS:
        cells = [f"`{name}`"]
        for memory in PUBLISHED_FIVE:
            outcome = results.one(name, memory)
            if outcome is None or outcome.published is None:
                cells.append(NONE)
                continue
            ours, paper = outcome.result.last_frame_kl, outcome.published.last_frame_kl
            reached = round(ours, 2) <= paper
            both, at_or_under = both + 1, at_or_under + reached
            updates.add(f"{outcome.published.updates:,}")
            mark = "**" if reached else ""
            cells.append(f"{mark}{ours:.2f}{mark} / {paper:g}")
        if any(cell != NONE for cell in cells[1:]):
            lines.append(cells)
    steps = BUDGETS[results.budget].num_steps
    return (
        markdown_table(["last-frame KL, ours / paper's", *PUBLISHED_FIVE], lines)
        + f"\n\n*Bold: at or under the paper's, **{at_or_under} of {both}** cells, after "
        f"{steps:,} updates where the paper has {' or '.join(sorted(updates))}. –: not run; "
        "experiments of which none was are left out.*"
    )


def _one_nat(results: _Results) -> str:
    """Updates, and minutes, until the recall KL is below one nat."""
    lines = []
    where_it_tells = [o for o in results.all if not _by_class(o.row.experiment)]
    for outcome in where_it_tells:
        reached = outcome.updates_to(ONE_NAT)
        known = [updates for updates in reached if updates is not None]
        if not known:
            continue
        share = statistics.fmean(known) / outcome.result.num_steps
        lines.append(
            [
                f"`{outcome.row.experiment}`",
                outcome.row.contestant,
                ", ".join("not reached" if u is None else f"{u:,}" for u in reached),
                _minutes(outcome, share, digits=1),
            ]
        )
    return (
        markdown_table(["experiment", "memory", "updates, by seed", "minutes"], lines)
        + "\n\n*The first evaluation from which on the recall KL is less than one nat above the "
        f"oracle's; a mixture's is a bound. The other {len(where_it_tells) - len(lines)} rows did "
        "not get there. Parity recall is left out, where a memory is worth less than that.*"
    )


def _by_class(experiment: str) -> bool:
    """Whether only the class of a frame can be told, which is worth less than a nat."""
    return bool(task_class(EXPERIMENTS[experiment]["task"]).target_classes)


def _short(results: _Results) -> str:
    """Accuracy of the best of the five and of the associative memory, a line an experiment."""
    lines = []
    for name in EXPERIMENTS:
        ours = results.one(name, "associative+mixture")
        if ours is None:
            continue
        five = [o for o in results.of(name) if o.row.contestant in PUBLISHED_FIVE]
        best = max(five, key=lambda o: o.result.recall_accuracy or 0.0, default=None)
        lines.append(
            [
                f"`{name}`",
                f"{_chance(ours)} %",
                NONE if best is None else f"{_accuracy(best)} % ({best.row.contestant})",
                f"{_accuracy(results.one(name, 'associative'))} %".replace(f"{NONE} %", NONE),
                f"{_accuracy(ours)} %",
            ]
        )
    head = [
        "experiment",
        "a guess",
        "best of the paper's five",
        "associative memory",
        "the same with the mixture prior",
    ]
    steps = BUDGETS[results.budget].num_steps
    said = f"*{steps:,} updates of {SETTINGS['batch_size']} sequences. {_provenance(results.all)}*"
    return f"{markdown_table(head, lines)}\n\n{said}"


def _bounds(results: _Results) -> str:
    """Bounds of the associative memory with the mixture prior beside the paper's best: the one
    figure of a mixture that may be held against a Gaussian's."""
    lines = []
    for outcome in results.all:
        published = published_of(next(iter(outcome.records.values()))["summary"])
        best = _least(published, BOUND)
        if outcome.row.contestant != "associative+mixture" or best is None:
            continue
        lines.append(
            [
                f"`{outcome.row.experiment}`",
                _bound(outcome.result),
                f"{outcome.result.num_steps:,}",
                str(outcome.result.seeds),
                f"{best.value:g} ({best.memory})",
                f"{best.updates:,}",
            ]
        )
    head = ["experiment", "negative ELBO", "updates", "seeds", "best of the paper", "its updates"]
    said = f"*Held-out sequences, nats a frame. {_provenance(results.all)}*"
    return f"{markdown_table(head, lines)}\n\n{said}"


def _seeds(those: Iterable[Outcome]) -> str:
    counts = sorted({len(outcome.records) for outcome in those})
    least, most = counts[0], counts[-1]
    return f"{least} to {most} seeds" if least < most else f"seeds: {most}"


def _provenance(those: Iterable[Outcome]) -> str:
    """Seeds, dates, commits and machines of all their records, in a sentence."""
    outcomes = list(those)
    records = [record for outcome in outcomes for record in outcome.records.values()]
    if not records:
        return "Not run yet."
    said = {what: made_with(records, what) for what in ("date", "commit", "torch")}
    machines = Counter(record["summary"]["provenance"]["machine"] for record in records)
    return (
        f"{len(records)} runs, {_seeds(outcomes)} a row: "
        + ", ".join(f"{number} on {machine}" for machine, number in machines.most_common())
        + f"; PyTorch {', '.join(said['torch'])}; {', '.join(said['date'])}; "
        f"commit {', '.join(said['commit'])}."
    )


def _hours(those: Iterable[Outcome]) -> str:
    """How long all of these took, in a sentence."""
    hours = {True: 0.0, False: 0.0}
    for outcome in those:
        for record in outcome.records.values():
            speed = record["summary"]["steps_per_second"]
            on_cpu = is_cpu(record["summary"]["provenance"]["machine"])
            hours[on_cpu] += outcome.result.num_steps / speed / 3600 if speed else 0.0
    said = f"In all {hours[True]:.1f} hours of runs on a CPU"
    return said + (f" and {hours[False]:.1f} on a GPU." if hours[False] else ".")


BLOCKS: dict[str, Callable[..., str]] = {
    "experiment": _experiment,
    "memories": _memories,
    "pictures": _pictures,
    "cells": _cells,
    "one_nat": _one_nat,
    "short": _short,
    "bounds": _bounds,
    "provenance": lambda results: f"{_provenance(results.all)} {_hours(results.all)}",
}


OF_AN_EXPERIMENT = ("experiment", "memories", "pictures")
"""The kinds of block that name one; the others are of all."""


def draw_experiments(results: Path, budget: str) -> list[Path]:
    """Draw the paper's three panels for each experiment of a budget, of its records: one for the
    Gaussian priors and one for the mixtures, whose KL is another.  The paths."""
    paths = []
    found = outcomes(results, budget)
    for name in dict.fromkeys(outcome.row.experiment for outcome in found):
        here = [outcome for outcome in found if outcome.row.experiment == name]
        for suffix, prior in (("", "gaussian"), ("-mixture", "mixture")):
            those = [outcome for outcome in here if outcome.result.prior == prior]
            if not those:
                continue
            path = results / FIGURES / f"{budget}-{name}{suffix}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            records = [record for outcome in those for record in outcome.records.values()]
            runs = [(record["summary"], record["evaluations"]) for record in records]
            plotting.save(compared(runs, published_of(runs[0][0])), path)
            paths.append(path)
    return paths
