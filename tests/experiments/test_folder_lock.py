"""One process at a time in a folder; what a killed one has left is taken over, with a note."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from pyro_gtm.experiments import folder_lock
from pyro_gtm.experiments.folder_lock import LOCK, LockedError, is_locked, locked_folder

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no such locks")

HOLD = """
import sys, time
from pathlib import Path
from pyro_gtm.experiments.folder_lock import locked_folder
with locked_folder(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process, that has the folder."""
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_process_is_refused_and_a_killed_one_succeeded(tmp_path, holder):
    sentence = rf"^{tmp_path} is in use by process {holder.pid} on \S+ since \S+: wait for its end"
    with pytest.raises(LockedError, match=sentence), locked_folder(tmp_path):
        pass
    assert (tmp_path / LOCK).exists(), "the refused one has left it"
    assert is_locked(tmp_path)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert not is_locked(tmp_path)
    with locked_folder(tmp_path) as note:
        assert note.startswith(f"{tmp_path} was left locked by process {holder.pid} on ")
        assert note.endswith("the lock is taken over")
        assert f'"pid": {os.getpid()}' in (tmp_path / LOCK).read_text()
    assert os.listdir(tmp_path) == []


def test_it_waits_for_the_end_of_another(tmp_path):
    had, free = threading.Event(), threading.Event()

    def hold():
        with locked_folder(tmp_path):
            had.set()
            free.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    had.wait()
    with pytest.raises(LockedError), locked_folder(tmp_path):
        pass
    threading.Timer(0.2, free.set).start()
    begun = time.monotonic()
    with locked_folder(tmp_path, wait=60) as note:
        assert note is None
    assert 0.1 < time.monotonic() - begun < 30
    thread.join()


def test_of_many_at_once_each_has_it_alone(tmp_path):
    """Each takes the file away at its end, which another may just have opened."""
    inside, most = [], []

    def enter():
        for _ in range(20):
            with locked_folder(tmp_path, wait=60):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=enter) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(most), max(most)) == (80, 1)
    assert os.listdir(tmp_path) == []


def test_a_fork_has_no_part_in_it(tmp_path):
    """It may outlive a process that is killed: here the process closes what would end with it."""
    forked, begun = os.pipe()
    waiting, end = os.pipe()
    with locked_folder(tmp_path):
        child = os.fork()
        if child == 0:
            os.close(end)
            os.write(begun, b"1")
            os.read(waiting, 1)  # or the end of the process that forked it
            os._exit(0)
        os.read(forked, 1)
        (descriptor,) = folder_lock._held
        folder_lock._held.clear()
    os.close(descriptor)
    with locked_folder(tmp_path) as note:
        assert note.startswith(f"{tmp_path} was left locked by process {os.getpid()} on ")
    os.write(end, b"1")
    assert os.waitpid(child, 0)[1] == 0
    for end_of_pipe in (forked, begun, waiting, end):
        os.close(end_of_pipe)


def test_where_there_are_no_locks_a_note_says_so(tmp_path, monkeypatch):
    def refuse(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(folder_lock.fcntl, "flock", refuse)
    with locked_folder(tmp_path) as note:
        assert note == (
            f"{tmp_path} lies where there are no locks: see that no other process trains in it"
        )


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"pid": 3}', b"\xff"])
def test_a_lock_that_says_nothing_is_no_hindrance(content, tmp_path):
    (tmp_path / LOCK).write_bytes(content)
    with locked_folder(tmp_path) as note:
        assert note is None


def test_a_folder_that_goes_away(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    with locked_folder(folder):
        (folder / LOCK).unlink()
        folder.rmdir()
    with pytest.raises(FileNotFoundError), locked_folder(folder):
        pass
