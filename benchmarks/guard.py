"""Has a gradient step become slower, against the same mathematics written by hand?

    python benchmarks/guard.py
    python benchmarks/guard.py --all-scans

For each memory, the stacked layout and its rivals (``step_time.py``) take turns, and the ratio of
its time to each of theirs is held against the one in ``guard.json``.  The rivals are a plain
PyTorch loop and, for two memories or with ``--all-scans`` for all, a scan in JAX, which XLA takes
seconds to compile; where JAX is not installed, a sentence says so, and the loop alone is left.

Fails, with exit code 1, when a ratio is worse by more than a fifth in every one of some tries:
noise makes single tries worse, and a slower library all of them.  The clock is that of the process
on one thread, which other processes disturb least.

``--write`` puts what was measured in the place of what was recorded: on an idle machine, with
a reason in the commit.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path

import click
import pyro
import torch

from common.command_line import command, names_option, size_option
from common.measure import ratio
from contestants import backend
from contestants.steps import REFERENCE, SCAN, STACKED
from contestants.turns import time_in_turns
from handwritten import MEMORIES, Sizes
from step_time import Setup

RECORDED = Path(__file__).with_name("guard.json")
SIZES = Sizes(latent_dim=32, width=400, hidden_dim=128, slots=20, heads=3)
DEVICE = torch.device("cpu")
SCANNED = ["introspective", "dnc"]
"""Memories that are held against the scan by default: a simple one and an intricate one."""


def measured_ratios(memory: str, rivals: list[str], turns: int) -> dict[str, float]:
    """Time of a step of the library to that of each rival."""
    pyro.set_rng_seed(0)
    pyro.clear_param_store()
    setup = Setup(memory, SIZES, num_steps=20, batch_size=32, device=DEVICE)
    product, networks = setup.build()
    contestants = {
        label: setup.contestant(label, product, networks) for label in (*rivals, STACKED)
    }
    times = time_in_turns(contestants, setup.draw, turns, clock=time.process_time)
    return {rival: ratio(times[STACKED], times[rival]) for rival in rivals}


def verdicts(
    memory: str, recorded: Mapping[str, float], *, worse: float, turns: int, tries: int
) -> dict[str, tuple[bool, str]]:
    """By rival, whether the memory passes, which the first good try decides, and a sentence.

    Args:
        memory: its name.
        recorded: a ratio for each rival.
        worse: by what share a ratio may grow.
        turns: steps of each in a try.
        tries: at most so many; the rivals of the second are those that no good try decided yet.
    """
    limits = {rival: (1 + worse) * value for rival, value in recorded.items()}
    found: dict[str, list[float]] = {rival: [] for rival in recorded}
    left = list(recorded)
    for _ in range(tries):
        for rival, value in measured_ratios(memory, left, turns).items():
            found[rival].append(value)
        left = [rival for rival in left if found[rival][-1] > limits[rival]]
        if not left:
            break

    def sentence(rival: str) -> str:
        listed = ", ".join(f"{value:.2f}" for value in found[rival])
        return (
            f"{named(memory, rival):30}{listed:>18}  recorded {recorded[rival]:.2f}, "
            f"at most {limits[rival]:.2f}  {'SLOWER' if rival in left else 'ok'}"
        )

    return {rival: (rival not in left, sentence(rival)) for rival in recorded}


def named(memory: str, rival: str) -> str:
    """A ratio, in messages."""
    return f"{memory} to {rival}"


def rivals_of(memories: list[str], all_scans: bool) -> dict[str, list[str]]:
    """By memory; a sentence tells the user where the scan cannot be one of them."""
    scanned = [name for name in memories if all_scans or name in SCANNED]
    if scanned and (reason := backend.why_not(DEVICE)):
        click.echo(f"No {SCAN}: {reason}")
        scanned = []
    return {name: [REFERENCE, SCAN] if name in scanned else [REFERENCE] for name in memories}


@command()
@names_option("--memory", "memories", list(MEMORIES), list(MEMORIES))
@click.option(
    "--all-scans",
    is_flag=True,
    help=f"Against an XLA scan not only {' and '.join(SCANNED)}, but each memory.",
)
@size_option("--turns", default=12, help="Steps of each in a try.")
@size_option("--tries", default=3, help="Of which the best counts.")
@click.option(
    "--worse", type=click.FloatRange(0), default=0.2, help="By what share a ratio may grow."
)
@click.option("--write", is_flag=True, help="Record what is measured instead.")
def main(
    memories: list[str], all_scans: bool, turns: int, tries: int, worse: float, write: bool
) -> None:
    """Hold the time of a step, as a ratio to rivals written by hand, against the recorded one."""
    torch.set_num_threads(1)
    backend.configure(threads=1)
    rivals = rivals_of(memories, all_scans)
    recorded: dict[str, dict[str, float]] = json.loads(RECORDED.read_text())
    if write:
        for name in memories:
            for rival, value in measured_ratios(name, rivals[name], turns).items():
                recorded.setdefault(rival, {})[name] = round(value, 3)
                click.echo(f"{named(name, rival):30}{value:6.3f}")
        RECORDED.write_text(json.dumps(recorded, indent=2, sort_keys=True) + "\n")
        return
    missing = [
        named(name, rival)
        for name in memories
        for rival in rivals[name]
        if name not in recorded.get(rival, {})
    ]
    if missing:
        raise click.ClickException(
            f"{RECORDED.name} has no {', '.join(missing)}: record with --write"
        )
    slower = []
    for name in memories:
        held = {rival: recorded[rival][name] for rival in rivals[name]}
        found = verdicts(name, held, worse=worse, turns=turns, tries=tries)
        for rival, (passed, sentence) in found.items():
            click.echo(sentence)
            if not passed:
                slower.append(named(name, rival))
    if slower:
        raise click.ClickException(
            f"a step has become slower by more than {worse:.0%}: {', '.join(slower)}"
        )


if __name__ == "__main__":
    main()
