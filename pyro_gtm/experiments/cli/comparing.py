"""``pyro-gtm compare``: tasks, memories and seeds, side by side."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from pyro_gtm.experiments.cli.options import (
    COMMAND,
    MODULES,
    NamedPath,
    Refused,
    Registered,
    download_option,
    given_settings,
    import_option,
    length_options,
    named_values_option,
    refusing_bad_input,
    setting_options,
    tensorboard_option,
)
from pyro_gtm.experiments.cli.run_sets import (
    counted,
    say_that_it_stops,
    saying_how_it_stopped,
    tell,
)
from pyro_gtm.experiments.cluster import CLUSTERS, JOB_OPTIONS, Cluster
from pyro_gtm.experiments.comparison import Comparison
from pyro_gtm.experiments.comparison_table import markdown_report
from pyro_gtm.experiments.config import SETTINGS, make_config
from pyro_gtm.experiments.data import SOURCES, load_data, usable_sources
from pyro_gtm.experiments.run import RunError
from pyro_gtm.experiments.run_set import FailedRunsError
from pyro_gtm.experiments.tensorboard import summary_writer
from pyro_gtm.memory import memory_names
from pyro_gtm.memory.registry import MEMORIES
from pyro_gtm.tasks import Task, task_class, task_names
from pyro_gtm.tasks.base import TASKS

__all__ = ["compare"]

ALL = "all"
"""Stands for every task there is."""

RECALLING = {"prior": "mixture"}
"""What ``NAME+mixture`` stands for; posterior and writes follow, unless the options give others."""

SHARED = [setting for setting in SETTINGS.values() if setting.compare]
"""The settings that do not tell the runs of a comparison apart."""


class Contestant(Registered):
    """A memory by its name, or ``NAME+mixture``."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        name = value.removesuffix("+mixture")
        return super().convert(name, param, ctx) + value[len(name) :]


@click.command(context_settings=COMMAND)
@import_option
@click.option(
    "--memory",
    "memories",
    type=Contestant(MEMORIES),
    multiple=True,
    help="A memory to compare, or NAME+mixture for one with --prior mixture and, unless given "
    "otherwise for all, --posterior frame --writes mean; repeatable. [default: all]",
)
@click.option(
    "--task",
    "tasks",
    type=Registered(TASKS, (ALL,)),
    multiple=True,
    default=["perfect_recall"],
    help="A task to compare them on, or all; repeatable.",
)
@click.option(
    "--seeds", type=click.IntRange(1, 1000), default=3, help="Runs of each, seeds 0, 1, ..."
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    help="Runs at a time. [default: 1; all on a cluster]",
)
@click.option(
    "--cluster",
    type=click.Choice(CLUSTERS),
    help="Train each run as a job: on Slurm, or as a process of this machine; needs submitit.",
)
@named_values_option(
    "--cluster-option",
    f"What a job asks for: {', '.join(JOB_OPTIONS)} (time in minutes, memory in GiB); repeatable.",
)
@click.option(
    "--data",
    "sources",
    type=Registered(SOURCES),
    multiple=True,
    help="What is shown; repeatable: each task is made of the first of these that it can be made "
    "of. [default: the task's own]",
)
@click.option(
    "-o",
    "--output",
    type=NamedPath(path_type=Path, file_okay=False),
    default=Path("runs/comparison"),
    help="Folder of the runs, the tables and the figures; given again, finished runs are kept, and "
    "tables and figures made of those asked for.",
)
@tensorboard_option
@setting_options(SHARED)
@length_options("the preset's")
@download_option
@click.pass_context
def compare(ctx: click.Context, /, **flags: Any) -> None:
    """Train several memories with several seeds, and put them side by side.

    Leaves a table, a figure for each task and a folder for each run.  Ctrl-C saves and stops, a
    second Ctrl-C stops at once; the same command continues.  Other options are those of train that
    hold for all its runs.
    """
    with saying_how_it_stopped():
        _compare(ctx, flags)


def _compare(ctx: click.Context, flags: dict[str, Any]) -> None:
    given = given_settings(ctx, flags)
    download = given.pop("download", False)
    given = {setting.name: given[setting.name] for setting in SHARED if setting.name in given}
    output, failed = flags["output"], None
    with refusing_bad_input():
        tasks = task_names() if ALL in flags["tasks"] else flags["tasks"]
        _check_sources(tasks, flags["sources"])
        settings = _settings_of(tasks, given)
        for task in settings:
            settings[task] |= {**_source(task, flags["sources"]), "task": task}
        configs = [
            make_config(**_settings_of_contestant(memory, settings[task]), seed=seed)
            for task in tasks
            for memory in flags["memories"] or memory_names()
            for seed in range(flags["seeds"])
        ]
        if download:
            fetchable = {c.data: c for c in configs if SOURCES.find(c.data).from_folder}
            for config in fetchable.values() or configs[:1]:  # which refuses, by name
                load_data(config.data, config.data_dir, download=True, binarise=config.binarise)
        comparison = Comparison(output, configs)
        place = _place(flags["cluster"], output / "jobs", flags["cluster_options"])
        if flags["tensorboard"]:
            summary_writer()  # refuses what is not installed
        output.mkdir(parents=True, exist_ok=True)
    waiting = sum(not comparison.finished(name) for name in comparison.configs)
    click.echo(f"{counted(len(configs), 'run')}, {waiting} of them to be trained, in {output}")
    try:
        follow = functools.partial(tell, comparison.configs)
        jobs = flags["jobs"] or (len(configs) if flags["cluster"] else 1)
        modules = ctx.meta[MODULES]
        comparison.train(jobs, follow, say_that_it_stops, modules, place, flags["tensorboard"])
    except FailedRunsError as error:
        failed = error
    except RunError as error:  # another process trains in the folder
        raise Refused(str(error)) from error
    with refusing_bad_input():
        if results := comparison.results():
            paths = comparison.write()
            click.echo("\n" + markdown_report(results) + "\n")
            for path in paths:
                click.echo(f"  {path}")
    if failed is not None:
        raise click.ClickException(str(failed)) from failed


def _place(cluster: str | None, folder: Path, options: dict[str, Any]) -> Cluster | None:
    """Where the runs are trained; None for processes of this machine."""
    if cluster is not None:
        return Cluster(cluster, folder, options)
    if options:
        raise ValueError("--cluster-option: must be left out without --cluster")
    return None


def _settings_of_contestant(name: str, given: dict[str, Any]) -> dict[str, Any]:
    memory = name.removesuffix("+mixture")
    if memory == name:
        return {**given, "memory": memory}
    return {**RECALLING, **given, "memory": memory}


def _check_sources(tasks: Sequence[str], wanted: Sequence[str]) -> None:
    """Refuse sources of which no task can be made."""
    can = {source for task in tasks for source in usable_sources(task_class(task).sources)}
    for source in wanted:
        if source not in can:
            raise ValueError(
                f"--data: got {source!r}, must be one of {', '.join(sorted(can))} for "
                f"{', '.join(tasks)}"
            )


def _source(task: str, wanted: Sequence[str]) -> dict[str, Any]:
    """The data of a task: the first of the wanted sources that it can be made of."""
    can = usable_sources(task_class(task).sources)
    chosen = next((source for source in wanted if source in can), can[0])
    if wanted and chosen not in wanted:
        click.echo(f"{task} cannot be made of {' or '.join(wanted)}: it is made of {chosen}")
    elsewhere = chosen not in wanted or len(wanted) > 1  # then a folder is meant for the others
    if wanted and elsewhere and not SOURCES.find(chosen).from_folder:
        return {"data": chosen, "data_dir": None}
    return {"data": chosen}


def _settings_of(tasks: Sequence[str], given: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """For each task the given settings, less those that it does not take and another does."""
    settings = {
        task: {**given, "task_options": {**given.get("task_options", {})}} for task in tasks
    }
    for option in given.get("task_options", {}):
        without = [
            task
            for task in settings
            if option not in inspect.signature(task_class(task)).parameters
        ]
        for task in _told_of_what_is_left_out(option, without, len(settings)):
            del settings[task]["task_options"][option]
    for name in given.keys() & {"binarise", "likelihood"}:
        without = [task for task in settings if name in task_class(task).settings]
        for task in _told_of_what_is_left_out(name, without, len(settings)):
            del settings[task][name]
    if given.get("curriculum", "none") != "none":
        without = [task for task in settings if task_class(task).curriculum is Task.curriculum]
        for task in _told_of_what_is_left_out("curriculum", without, len(settings)):
            del settings[task]["curriculum"]
    return settings


def _told_of_what_is_left_out(name: str, tasks: list[str], of: int) -> list[str]:
    """The tasks, for which an option is left out: none, if it would be left out for all."""
    if not tasks or len(tasks) == of:
        return []
    click.echo(f"--{name.replace('_', '-')} is left out for {', '.join(tasks)}")
    return tasks
