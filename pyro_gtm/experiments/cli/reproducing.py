"""``pyro-gtm reproduce``: the page of results, or a row of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

from pyro_gtm.experiments.cli.options import (
    COMMAND,
    NamedPath,
    device_option,
    refusing_bad_input,
)
from pyro_gtm.experiments.cli.run_sets import (
    counted,
    say_that_it_stops,
    saying_how_it_stopped,
    tell,
)
from pyro_gtm.experiments.config import Config
from pyro_gtm.experiments.data import MissingDataError, load_data
from pyro_gtm.experiments.machine import pick_device
from pyro_gtm.experiments.metrics_log import Row
from pyro_gtm.experiments.reproduction.manifest import BUDGETS, ReproducedRow, select
from pyro_gtm.experiments.reproduction.page import draw_experiments, fill
from pyro_gtm.experiments.reproduction.records import (
    FIGURES,
    keep_figures,
    outcomes,
    write_record,
    write_table,
)
from pyro_gtm.experiments.run_set import FailedRunsError, RunSet, Stopped
from pyro_gtm.internals.files import make_writable_folder, write_atomically

__all__ = ["reproduce"]

PAGES = ("README.md", "docs/results.md")
"""Beside the folder of results, those whose tables are made anew."""


@click.command(context_settings=COMMAND)
@click.option(
    "--budget",
    type=click.Choice(list(BUDGETS)),
    default="minutes",
    help="Updates and data: 1,000 on digits that come with the package; 5,000 or 50,000 on those "
    "of the paper.",
)
@click.option(
    "--row",
    "patterns",
    multiple=True,
    metavar="PATTERN",
    help="A row, or those that match, such as 'mnist_map-*'; repeatable. [default: all]",
)
@click.option("--list", "list_only", is_flag=True, help="Show the rows and how far they are.")
@click.option(
    "--write", "write_only", is_flag=True, help="Train nothing; write what is finished already."
)
@click.option("--jobs", type=click.IntRange(min=1), default=1, help="Runs at a time.")
@device_option
@click.option("--mnist", type=NamedPath(file_okay=False), help="Folder of MNIST.")
@click.option("--omniglot", type=NamedPath(file_okay=False), help="Folder of Omniglot.")
@click.option("--download", is_flag=True, help="Fetch what these lack; needs pooch.")
@click.option(
    "-o",
    "--output",
    type=NamedPath(path_type=Path, file_okay=False),
    default=Path("runs/reproduce"),
    help="Folder of the runs; given again, finished ones are kept and begun ones go on.",
)
@click.option(
    "--results",
    type=NamedPath(path_type=Path, file_okay=False),
    default=Path("results"),
    help="Folder of the records, tables and figures. Pages beside it, README.md and docs/, get "
    "their tables from them.",
)
def reproduce(
    budget: str,
    patterns: tuple[str, ...],
    list_only: bool,
    write_only: bool,
    jobs: int,
    device: str,
    mnist: str | None,
    omniglot: str | None,
    download: bool,
    output: Path,
    results: Path,
) -> None:
    """Train what the page of results is made of, or some rows of it, and write the page.

    Stopped at any moment, with Ctrl-C, the same command goes on.
    """
    given = {"mnist": mnist, "omniglot": omniglot}
    folders = {name: folder for name, folder in given.items() if folder is not None}
    with refusing_bad_input():
        chosen = select(budget, patterns)
        if list_only and write_only:
            raise ValueError("--list and --write: got both, must be one of them")
        if write_only and patterns:
            raise ValueError(
                "--write and --row: got both, must be one: all that is there is written"
            )
        if list_only:
            _list(chosen, results)
            return
        if write_only:
            _write(results, budget)
            return
        rows: dict[str, tuple[ReproducedRow, int]] = {
            row.run_name(seed): (row, seed) for row in chosen for seed in row.seeds
        }
        configs = {name: row.config(seed, folders, device) for name, (row, seed) in rows.items()}
        pick_device(device)
        _check_data(configs, download)
        runs = RunSet(output / budget, configs)
        make_writable_folder(runs.folder, "--output")
        for folder in (results, results / budget, results / FIGURES):
            make_writable_folder(folder, "--results")
        _pages(results)

    not_kept = []

    def keep(name: str) -> None:
        try:
            _keep(runs, name, *rows[name], results)
        except OSError as error:  # the others are trained all the same
            not_kept.append(name)
            click.echo(f"{name}: its record cannot be written ({error})", err=True)

    def follow(name: str, event: str, told: Row) -> None:
        tell(configs, name, event, told)
        if event == "finished":
            keep(name)

    for name in configs:
        if runs.finished(name):
            keep(name)
    waiting = sum(not runs.finished(name) for name in configs)
    click.echo(
        f"{counted(len(chosen), 'row')}, {counted(len(configs), 'run')}, {waiting} of them to be "
        f"trained, in {runs.folder}"
    )
    failed = None
    with saying_how_it_stopped(), refusing_bad_input():
        try:
            runs.train(jobs, follow, say_that_it_stops)
        except Stopped:
            _write_what_can_be(results, budget)
            raise
        except FailedRunsError as error:
            failed = error
            _write_what_can_be(results, budget)
        else:
            _write(results, budget)
    if failed is not None:
        raise click.ClickException(str(failed)) from failed
    if not_kept:
        raise click.ClickException(
            f"{counted(len(not_kept), 'record')} could not be written to {results}: make room, and "
            "give the same command again"
        )


def _check_data(configs: Mapping[str, Config], download: bool) -> None:
    """Load each source once, so that what is missing is said before anything starts."""
    for config in {config.data: config for config in configs.values()}.values():
        fetched = download and config.data_dir is not None
        try:
            load_data(config.data, config.data_dir, download=fetched, binarise=config.binarise)
        except MissingDataError as error:
            if config.data_dir is None:
                raise
            raise ValueError(
                f"--{config.data}: got {config.data_dir}, must be the folder of its files, or come "
                f"with --download: {str(error).partition(': ')[0]}"
            ) from error


def _keep(runs: RunSet, name: str, row: ReproducedRow, seed: int, results: Path) -> None:
    """Write the record of a finished run, and the figures of a row's first."""
    summary = runs.final(name)
    if summary is None:  # it cannot be read, and will be made again
        return
    config = runs.configs[name]
    write_record(results, row, config, summary, runs.metrics(name).split("test"))
    if seed == row.seeds[0]:
        keep_figures(results, row, runs.folder / name)


def _list(chosen: list[ReproducedRow], results: Path) -> None:
    done = {o.row: len(o.records) for o in outcomes(results, chosen[0].budget)}
    width = max(len(row.name) for row in chosen)
    for row in chosen:
        click.echo(f"{row.name:<{width}}  {done.get(row, 0)} of {len(row.seeds)} seeds recorded")


def _write(results: Path, budget: str) -> None:
    """Make the table and the figures of a budget, and the pages that show them."""
    if not outcomes(results, budget):
        click.echo(f"No run of the budget {budget} is finished: nothing is written")
        return
    paths = [write_table(results, budget), *draw_experiments(results, budget)]
    for page, (text, filled) in _pages(results).items():
        if filled != text:
            write_atomically(page, filled.encode())
            paths.append(page)
    click.echo("Written:")
    for path in paths:
        click.echo(f"  {path}")


def _write_what_can_be(results: Path, budget: str) -> None:
    """Write after something went wrong, which is to be told whatever becomes of this."""
    try:
        _write(results, budget)
    except (OSError, ValueError) as error:
        click.echo(f"Tables and pages could not be written: {error}", err=True)


def _pages(results: Path) -> dict[Path, tuple[str, str]]:
    """The pages beside the results as they are, and as they are to be.

    Raises:
        ValueError: one is no text, or asks for something unknown; or a record is damaged.
    """
    pages = {}
    for page in (results.parent / name for name in PAGES):
        if not page.is_file():
            continue
        try:
            text = page.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{page} is not UTF-8, and cannot be given its tables") from error
        pages[page] = (text, fill(text, results, page))
    return pages
