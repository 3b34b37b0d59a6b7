"""What may come of reading a file, and nothing else: thousands of cases are held to it."""

from __future__ import annotations

import resource
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType
from typing import Any, ClassVar

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyro_gtm.experiments.data import MissingDataError
from pyro_gtm.series import DataFileError

MOST_MEMORY = 2**27  # bytes that reading a file may add to what the process has
LINUX = sys.platform == "linux"

RUNS_CODE = {"os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "pickle.find_class"}


class Watch:
    """What code ran from elsewhere than a file of Python while a file of data was read."""

    on = False
    seen: ClassVar[list[str]] = []

    @classmethod
    def hook(cls, event: str, arguments: tuple[Any, ...]) -> None:
        if not cls.on:
            return
        code = arguments[0] if event == "exec" else None
        from_text = isinstance(code, CodeType) and code.co_filename.startswith("<")
        literal = event == "compile" and str(arguments[1]).startswith("<")
        if event in RUNS_CODE or from_text or literal:
            cls.seen.append(event)


sys.addaudithook(Watch.hook)  # for good, but it is off most of the time


@contextmanager
def guarded() -> Iterator[None]:
    """Within it no code runs but Python's own files, and memory is short (on Linux)."""
    before = resource.getrlimit(resource.RLIMIT_AS) if LINUX else (0, 0)
    if LINUX:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + MOST_MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, before[1]))
    Watch.on = True
    try:
        yield
    finally:
        Watch.on = False
        if LINUX:
            resource.setrlimit(resource.RLIMIT_AS, before)
        assert not Watch.seen, f"code was run: {Watch.seen}"


class Trial:
    """Draws cases and reads each in a folder of its own."""

    def __init__(self, folder: Path, num_cases: int) -> None:
        self.folder = folder
        self.num_cases = num_cases
        self.outcomes = {"read": 0, "refused": 0}

    def run(self, cases: st.SearchStrategy[Any], put_and_load: Callable[[Path, Any], bool]) -> None:
        """Try cases; ``put_and_load`` puts one in a folder, and says whether it could be read."""

        @settings(
            max_examples=self.num_cases,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        )
        @given(cases)
        def try_one(case: Any) -> None:
            folder = Path(tempfile.mkdtemp(dir=self.folder))
            try:
                self.outcomes["read" if put_and_load(folder, case) else "refused"] += 1
            finally:
                shutil.rmtree(folder)

        try_one()
        print(f"{sum(self.outcomes.values())} cases: {self.outcomes}")
        assert sum(self.outcomes.values()) >= self.num_cases
        assert all(self.outcomes.values()), "cases of one kind only show nothing of the other"


def read_or_refused(load: Callable[[Path], Any], path: Path, name: str | None = None) -> Any:
    """What is read; None where it is refused, in a sentence that names the file or its folder.

    Args:
        load: reads it.
        path: the file or its folder.
        name: what the sentence calls it, if not by its path.
    """
    try:
        with guarded():
            return load(path)
    except (MissingDataError, DataFileError) as error:
        sentence = str(error)
    assert (name or str(path)) in sentence, sentence
    assert sentence.isprintable() and len(sentence) < 1000, sentence
    assert "more than is left" not in sentence, "memory was asked for before sizes were looked at"
    return None
