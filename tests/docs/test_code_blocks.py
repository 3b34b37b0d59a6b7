"""The code on the pages of docs/ runs as it stands, and its commands are commands there are.

Blocks of a page share one namespace, as for a reader who pastes them one after the other, and a
folder of their own.  A block that cannot run stands below ``<!-- not run: REASON -->``.
"""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
import matplotlib
import pyro
import pytest
import torch

from pyro_gtm.experiments import cli
from pyro_gtm.experiments.data.sources import SOURCES
from pyro_gtm.infer.elbo import ELBOS
from pyro_gtm.memory.registry import MEMORIES
from pyro_gtm.model.likelihoods import LIKELIHOODS
from pyro_gtm.model.networks import NETWORKS
from pyro_gtm.tasks.base import TASKS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))
NOTEBOOKS = [page for page in PAGES if page.startswith("notebooks/")]

FENCE = re.compile(
    r"(?:<!-- not run: (?P<reason>[^>]+?) -->\s*)?"
    r"^```(?P<language>\{?[\w-]*\}?)[^\n]*\n(?P<code>.*?)^```$",
    flags=re.DOTALL | re.MULTILINE,
)


class Block(NamedTuple):
    line: int
    """Of its first line, from 1."""
    language: str
    code: str
    reason: str | None
    """Why it does not run."""


def blocks(page: str, *languages: str) -> list[Block]:
    text = (DOCS / page).read_text(encoding="utf-8")
    found = [
        Block(
            text.count("\n", 0, match.start("code")) + 1, *match.group("language", "code", "reason")
        )
        for match in FENCE.finditer(text)
    ]
    return [block for block in found if block.language in languages]


def run_blocks(page: str, *languages: str) -> None:
    matplotlib.use("Agg")
    names: dict[str, Any] = {"__name__": page}
    for block in blocks(page, *languages):
        if block.reason is None:
            above = "\n" * (block.line - 1)  # so that a traceback names the line of the page
            exec(compile(above + block.code, str(DOCS / page), "exec"), names)


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """With what a page may set put back, and what it registers forgotten."""
    monkeypatch.chdir(tmp_path)
    for registry in (ELBOS, LIKELIHOODS, MEMORIES, NETWORKS, SOURCES, TASKS):
        monkeypatch.setattr(registry, "classes", dict(registry.classes))
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    yield
    torch.set_num_threads(threads)
    torch.set_default_dtype(dtype)
    pyro.clear_param_store()


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")])
def test_python_runs(page: str) -> None:
    run_blocks(page, "python")


@pytest.mark.slow
@pytest.mark.parametrize("page", NOTEBOOKS)
def test_notebooks_run(page: str) -> None:
    assert blocks(page, "{code-cell}")
    run_blocks(page, "{code-cell}")


def test_a_block_without_a_language_would_go_unchecked() -> None:
    """It is text then, and said to be."""
    unnamed = [(page, block.line) for page in PAGES for block in blocks(page, "")]
    allowed = {"design.md"}  # a tree of files
    assert [place for place in unnamed if place[0] not in allowed] == []


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "bash")])
def test_commands_and_their_options_are_there(page: str) -> None:
    for block in blocks(page, "bash"):
        if block.reason is None:
            for command in commands(block.code):
                check_command(command, f"{page}:{block.line}")


def test_an_unknown_option_is_found() -> None:
    for wrong in (
        "pyro-gtm train --memori dnc",
        "pyro-gtm train --memory dcn",
        "pyro-gtm trian",
        "python examples/train.py --seed 1 left over",
        "python examples/nothing.py",
    ):
        with pytest.raises(AssertionError):
            check_command(shlex.split(wrong), "here")


def commands(code: str) -> Iterator[list[str]]:
    """Each simple command of a block, as words."""
    for line in code.replace("\\\n", " ").splitlines():
        words: list[str] = []
        for word in [*shlex.split(line, comments=True), ";"]:
            if word in ("&&", ";", "|"):
                if words:
                    yield words
                words = []
            else:
                words.append(word)


def check_command(words: list[str], where: str) -> None:
    """That the command, where it is one of ours, would not be refused by its parser."""
    place = f"{where}: {' '.join(words)}"
    if words[0] == "pyro-gtm":
        check_options(cli.main, words[1:], place)
    elif words[0] == "python" and words[1].startswith(("examples/", "benchmarks/")):
        assert (ROOT / words[1]).is_file(), f"{place}: there is no such file"
        check_options(command_of(ROOT / words[1]), words[2:], place)
    elif words[0] == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
        assert words[1] in targets, f"{place}: there is no such target"


def command_of(script: Path) -> click.Command:
    spec = importlib.util.spec_from_file_location(f"page_{script.stem}", script)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    named = [value for value in vars(module).values() if isinstance(value, click.Command)]
    main = getattr(module, "main", None)
    return main if isinstance(main, click.Command) else named[0]


def check_options(command: click.Command, words: list[str], place: str) -> None:
    context = click.Context(command, **command.context_settings)
    if isinstance(command, click.Group):
        if not words or words[0] in context.help_option_names:
            return
        inner = command.get_command(context, words[0])
        assert inner is not None, f"{place}: there is no command {words[0]}"
        check_options(inner, words[1:], place)
        return
    known = {name: option for option in command.params for name in option.opts}
    arguments = [param for param in command.params if isinstance(param, click.Argument)]
    own = "--import" in words  # brings names of its own
    rest, count = iter(words), 0
    for word in rest:
        name, _, value = word.partition("=")
        if word.startswith("-") and not re.fullmatch(r"-\d[\d.]*", word):
            if name in context.help_option_names:
                continue
            assert name in known, f"{place}: there is no option {name}"
            option = known[name]
            if isinstance(option, click.Option) and not option.is_flag:
                check_value(option, value or next(rest, ""), place, own)
        else:
            count += 1
    most = sum(max(argument.nargs, 1) for argument in arguments)
    unbounded = any(argument.nargs < 0 for argument in arguments)
    assert unbounded or count <= most, f"{place}: {count} arguments given, {most} allowed"


def check_value(option: click.Option, value: str, place: str, own: bool) -> None:
    """Of choices and numbers; words in capitals stand for what the reader puts there."""
    assert value, f"{place}: {option.opts[0]} has no value"
    placeholder = value.isupper() and not value.isdigit()
    if placeholder or own or isinstance(option.type, click.Path):
        return
    try:
        option.type.convert(value, option, click.Context(click.Command("page")))
    except click.BadParameter as error:
        raise AssertionError(f"{place}: {error.message}") from error
