"""Every summary says what code, machine and versions it was made with."""

from __future__ import annotations

import subprocess
from datetime import datetime, timezone
from pathlib import Path

import pytest
import torch

import pyro_gtm as gtm
from pyro_gtm.experiments import provenance as provenance_module
from pyro_gtm.experiments.provenance import PACKAGES, provenance


@pytest.fixture(autouse=True)
def forgotten():
    provenance_module._commit.cache_clear()
    yield
    provenance_module._commit.cache_clear()


def git(*arguments, at):
    identity = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.org"]
    subprocess.run(["git", *identity, *arguments], cwd=at, check=True, capture_output=True)


def test_it_names_versions_day_and_kind_of_machine():
    made = provenance(torch.device("cpu"))
    assert made["version"] == gtm.__version__
    assert torch.__version__.startswith(made["torch"])
    assert {*PACKAGES, "python", "threads"} <= made.keys()
    assert made["date"] == datetime.now(timezone.utc).date().isoformat()
    assert made["machine"].endswith("cores")


def test_it_names_the_commit_and_whether_files_differ_from_it(tmp_path, monkeypatch):
    (tmp_path / "pyro_gtm").mkdir()
    source = tmp_path / "pyro_gtm" / "__init__.py"
    source.write_text("# as committed\n")
    monkeypatch.setattr(gtm, "__file__", str(source))
    assert provenance(torch.device("cpu"))["commit"] is None  # no clone

    provenance_module._commit.cache_clear()
    git("init", "-q", at=tmp_path)
    git("add", ".", at=tmp_path)
    git("commit", "-qm", "first", at=tmp_path)
    committed = provenance(torch.device("cpu"))["commit"]
    assert len(committed) >= 7 and not committed.endswith("+")

    provenance_module._commit.cache_clear()
    (tmp_path / "results.csv").write_text("another,figure\n")
    git("add", ".", at=tmp_path)
    assert provenance(torch.device("cpu"))["commit"] == committed

    provenance_module._commit.cache_clear()
    source.write_text("# changed\n")
    assert provenance(torch.device("cpu"))["commit"] == committed + "+"


def test_it_does_without_git(tmp_path, monkeypatch):
    (tmp_path / ".git").mkdir()
    monkeypatch.setattr(gtm, "__file__", str(Path(tmp_path, "pyro_gtm", "__init__.py")))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance(torch.device("cpu"))["commit"] is None
