"""What the pages say can be done: their Python runs, and the files they name are there."""

from __future__ import annotations

import re
from pathlib import Path

import pyro
import pytest
import torch

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", "CONTRIBUTING.md", *(f"docs/{page.name}" for page in ROOT.glob("docs/*.md"))]


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def run_blocks(page: str) -> dict[str, object]:
    """All names that the page's Python defines; each block alone, as a reader would paste it."""
    defined: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", read(page), flags=re.DOTALL):
        names: dict[str, object] = {}
        pyro.clear_param_store()
        exec(compile(block, page, "exec"), names)
        defined |= names
    return defined


def test_python_of_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # it leaves a picture
    defined = run_blocks("README.md")
    defined["my_model"](torch.zeros(3, 2, 2))  # type: ignore[operator]
    assert isinstance(defined["loss"], float)
    assert defined["dreamt"].shape == (20, 8, 1, 28, 28)  # type: ignore[attr-defined]


def test_python_of_the_page_on_performance() -> None:
    assert callable(run_blocks("docs/performance.md")["handler"])


@pytest.mark.parametrize("page", PAGES)
def test_links_and_scripts_are_there(page: str) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", read(page))
    scripts = re.findall(r"python ((?:examples|benchmarks)/\w+\.py)", read(page))
    missing = [link for link in links if not (ROOT / page).parent.joinpath(link).exists()]
    assert missing + [script for script in scripts if not (ROOT / script).exists()] == []


def test_files_that_a_contributor_is_sent_to_are_there() -> None:
    paths = re.findall(r"`([\w./]+/[\w.]*)`", read("CONTRIBUTING.md"))
    assert len(paths) > 20
    assert [path for path in paths if "NAME" not in path and not (ROOT / path).exists()] == []
