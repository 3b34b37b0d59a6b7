"""The package as others install it: from a wheel, and editable.

`pyro_gtm.tasks` lies in the top-level folder `tasks/`, outside `pyro_gtm/`, so an import that works
in the checkout proves nothing. The tests install a copy of the checkout and import that from
another folder. Nothing here needs a network, and no build touches the checkout.
"""

import importlib.metadata
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# The tests come along to show that a wheel leaves them out.
SOURCES = ("LICENSE", "README.md", "pyproject.toml", "setup.cfg", "pyro_gtm", "tasks", "tests")
# No index, no download of build tools, no dependencies: the current environment has them all.
OFFLINE = ("--quiet", "--no-index", "--no-deps", "--no-build-isolation")

REPORT_WHERE_FOUND = """
import importlib.metadata
import pyro_gtm
import pyro_gtm.tasks

(script,) = importlib.metadata.distribution("pyro_gtm").entry_points
assert script.name == "pyro-gtm", script
assert callable(script.load())
print(pyro_gtm.__file__)
print(pyro_gtm.tasks.__file__)
"""


def _missing_tool() -> str:
    """Names what an offline build lacks here, or nothing."""
    for name, oldest in (("pip", 23), ("setuptools", 77)):
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            return f"{name} is not installed"
        if int(version.split(".")[0]) < oldest:
            return f"{name} {version} is older than {oldest}"
    return ""


pytestmark = pytest.mark.skipif(bool(_missing_tool()), reason=f"cannot build: {_missing_tool()}")


def _run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """Runs a command in `cwd` and returns what it printed; fails with all of its output."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=inherited | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _where_found(python: str | Path, elsewhere: Path, **environment: str) -> list[Path]:
    """Imports the installed package in `elsewhere`: the files of pyro_gtm and pyro_gtm.tasks."""
    elsewhere.mkdir()
    printed = _run(python, "-c", REPORT_WHERE_FOUND, cwd=elsewhere, **environment)
    return [Path(line).resolve() for line in printed.splitlines()[-2:]]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout to build in."""
    copy = tmp_path_factory.mktemp("packaging") / "checkout"
    copy.mkdir()
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, copy / name)
    return copy


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    dist = tmp_path_factory.mktemp("dist")
    pip = (sys.executable, "-m", "pip")
    _run(*pip, "wheel", *OFFLINE, "--wheel-dir", dist, checkout, cwd=dist)
    (built,) = dist.glob("pyro_gtm-*.whl")
    return built


def test_wheel_holds_the_whole_package_and_nothing_else(checkout: Path, wheel: Path) -> None:
    folders = {"pyro_gtm": checkout / "pyro_gtm", "pyro_gtm/tasks": checkout / "tasks"}
    expected = {
        f"{prefix}/{path.relative_to(folder).as_posix()}"
        for prefix, folder in folders.items()
        for path in folder.rglob("*")
        if path.is_file() and (path.suffix != ".md" or "pretrained" in path.parts)  # their cards
    }
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}

    assert "pyro_gtm/py.typed" in packed
    assert "pyro_gtm/tasks/__init__.py" in packed
    # A file that is missing here needs a line in setup.cfg: `packages` or `options.package_data`.
    assert packed == expected


def test_wheel_states_name_licence_and_console_script(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        text = archive.read(metadata).decode()
        scripts = archive.read(metadata.replace("METADATA", "entry_points.txt")).decode()
        licences = [n for n in archive.namelist() if n.endswith(".dist-info/licenses/LICENSE")]

    header, _, description = text.partition("\n\n")
    assert "Name: pyro_gtm" in header.splitlines()
    assert "License-Expression: Apache-2.0" in header.splitlines()
    assert description.strip() == (ROOT / "README.md").read_text(encoding="utf-8").strip()
    assert "pyro-gtm = pyro_gtm.experiments.cli:main" in scripts.splitlines()
    assert len(licences) == 1


def test_installed_wheel_imports_tasks_from_another_folder(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    pip = (sys.executable, "-m", "pip")
    _run(*pip, "install", *OFFLINE, "--target", target, wheel, cwd=tmp_path)

    found = _where_found(sys.executable, tmp_path / "elsewhere", PYTHONPATH=str(target))

    package = target.resolve() / "pyro_gtm"
    assert found == [package / "__init__.py", package / "tasks" / "__init__.py"]


def test_editable_install_imports_tasks_from_another_folder(checkout: Path, tmp_path: Path) -> None:
    python = _environment_with_our_dependencies(tmp_path / "venv", tmp_path / "dependencies")
    pip = (sys.executable, "-m", "pip", "--python", python)
    _run(*pip, "install", *OFFLINE, "--editable", checkout, cwd=tmp_path)

    found = _where_found(python, tmp_path / "elsewhere")

    copy = checkout.resolve()
    assert found == [copy / "pyro_gtm" / "__init__.py", copy / "tasks" / "__init__.py"]


def _environment_with_our_dependencies(folder: Path, dependencies: Path) -> Path:
    """Makes a virtual environment that sees what is installed here, save pyro_gtm itself.

    The installed pyro_gtm, if any, must stay out: it would be imported in place of the one under
    test. Hence a folder of links instead of `system_site_packages`. Returns the interpreter.
    """
    dependencies.mkdir()
    for site in sys.path:
        if Path(site).name not in ("site-packages", "dist-packages") or not Path(site).is_dir():
            continue
        for entry in Path(site).iterdir():
            ours = "pyro_gtm" in entry.name
            link = dependencies / entry.name
            if not ours and entry.suffix != ".pth" and not link.exists():
                link.symlink_to(entry)

    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(f"{dependencies}\n")
    return python
