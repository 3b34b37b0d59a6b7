"""Has a gradient step become slower, against the same mathematics in a plain PyTorch loop?

    python benchmarks/guard.py

For each memory, the stacked layout and the hand-written loop (``step_time.py``) take turns, and
the ratio of their times is held against the one in ``guard.json``.  Fails, with exit code 1, when a
ratio is worse by more than a fifth in every one of some tries: noise makes single tries worse, and
a slower library all of them.  The clock is that of the process on one thread, which other processes
disturb least.

``--write`` puts what was measured in the place of what was recorded: on an idle machine, with
a reason in the commit.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import click
import pyro
import torch

from common.command_line import command, names_option, size_option
from common.measure import ratio
from contestants.steps import REFERENCE, STACKED, in_pytorch
from contestants.turns import time_in_turns
from handwritten import MEMORIES, Sizes
from step_time import Setup

RECORDED = Path(__file__).with_name("guard.json")
SIZES = Sizes(latent_dim=32, width=400, hidden_dim=128, slots=20, heads=3)


def measured_ratio(memory: str, turns: int) -> float:
    """Time of a step of the library to that of the hand-written one."""
    pyro.set_rng_seed(0)
    pyro.clear_param_store()
    setup = Setup(memory, SIZES, num_steps=20, batch_size=32, device=torch.device("cpu"))
    product, networks = setup.build()
    contestants = {label: in_pytorch(label, product, networks) for label in (REFERENCE, STACKED)}
    times = time_in_turns(contestants, setup.draw, turns, clock=time.process_time)
    return ratio(times[STACKED], times[REFERENCE])


def verdict(
    memory: str, recorded: float, *, worse: float, turns: int, tries: int
) -> tuple[bool, str]:
    """Whether the memory passes, which the first good try decides, and a sentence."""
    limit = (1 + worse) * recorded
    found: list[float] = []
    while len(found) < tries and (not found or found[-1] > limit):
        found.append(measured_ratio(memory, turns))
    passed = found[-1] <= limit
    listed = ", ".join(f"{value:.2f}" for value in found)
    return passed, (
        f"{memory:15}{listed:>18}  recorded {recorded:.2f}, at most {limit:.2f}  "
        f"{'ok' if passed else 'SLOWER'}"
    )


@command()
@names_option("--memory", "memories", list(MEMORIES), list(MEMORIES))
@size_option("--turns", default=12, help="Steps of each in a try.")
@size_option("--tries", default=3, help="Of which the best counts.")
@click.option(
    "--worse", type=click.FloatRange(0), default=0.2, help="By what share a ratio may grow."
)
@click.option("--write", is_flag=True, help="Record what is measured instead, of all memories.")
def main(memories: list[str], turns: int, tries: int, worse: float, write: bool) -> None:
    """Hold the time of a step, as a ratio to a hand-written loop, against the recorded one."""
    torch.set_num_threads(1)
    if write:
        measured = {name: round(measured_ratio(name, turns), 3) for name in MEMORIES}
        RECORDED.write_text(json.dumps(measured, indent=2) + "\n")
        click.echo(f"wrote {RECORDED.name}: {measured}")
        return
    recorded = json.loads(RECORDED.read_text())
    if missing := [name for name in memories if name not in recorded]:
        raise click.ClickException(
            f"{RECORDED.name} has no {', '.join(missing)}: record with --write"
        )
    slower = []
    for name in memories:
        passed, line = verdict(name, recorded[name], worse=worse, turns=turns, tries=tries)
        click.echo(line)
        if not passed:
            slower.append(name)
    if slower:
        raise click.ClickException(
            f"a step with {', '.join(slower)} has become slower by more than {worse:.0%} "
            "against the hand-written loop"
        )


if __name__ == "__main__":
    main()
