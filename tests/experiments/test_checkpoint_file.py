"""A checkpoint is whole, or refused by name; and it never runs code."""

from __future__ import annotations

import hashlib
import io
import os
import pickle

import pytest
import torch

from pyro_gtm.experiments import checkpoint_file
from pyro_gtm.experiments.checkpoint_file import CheckpointError, load_checkpoint, save_checkpoint
from pyro_gtm.internals import files


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state.ckpt"


CONTENT = {
    "step": 7,
    "loss": 1.5,
    "name": "vrnn",
    "nothing": None,
    "nested": {"weights": torch.arange(6.0).reshape(2, 3), "list": [torch.tensor(3), 2, "b"]},
    "bytes of a generator": torch.get_rng_state(),
    "double": torch.tensor([1e-300], dtype=torch.float64),
}


def assert_equal(one, other):
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            assert_equal(one[key], other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_equal(a, b)
    elif isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype and one.equal(other)
    else:
        assert one == other


def test_round_trip(path):
    save_checkpoint(path, CONTENT)
    assert_equal(load_checkpoint(path), CONTENT)
    assert os.listdir(path.parent) == [path.name]


def test_writing_again_replaces(path):
    save_checkpoint(path, {"step": 1})
    save_checkpoint(path, {"step": 2})
    assert load_checkpoint(path) == {"step": 2}


def test_any_changed_byte_is_noticed(path):
    """Every byte of the header, and bytes all over the rest."""
    save_checkpoint(path, {"w": torch.ones(3)})
    whole = path.read_bytes()
    header = whole.index(b"\n") + 1
    for position in (*range(header), *range(header, len(whole), 9), len(whole) - 1):
        for flip in (1, 0x80):
            damaged = bytearray(whole)
            damaged[position] ^= flip
            path.write_bytes(damaged)
            with pytest.raises(CheckpointError, match=r"state\.ckpt"):
                load_checkpoint(path)


def test_any_cut_is_noticed(path):
    save_checkpoint(path, {"w": torch.ones(3)})
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"state\.ckpt"):
            load_checkpoint(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(CheckpointError, match=r"state\.ckpt.*damaged"):
        load_checkpoint(path)


@pytest.mark.parametrize("content", [b"", b"\n", b"some text\n", bytes(range(256))])
def test_another_file_is_refused(path, content):
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"state\.ckpt.*damaged or no pyro_gtm checkpoint"):
        load_checkpoint(path)


def test_a_plain_torch_file_is_refused(path):
    torch.save({"w": torch.ones(2)}, path)
    with pytest.raises(CheckpointError, match=r"state\.ckpt"):
        load_checkpoint(path)


def test_missing_file_is_named(path):
    with pytest.raises(CheckpointError, match=r"state\.ckpt cannot be read: No such file"):
        load_checkpoint(path)


def test_other_version_is_refused(path, monkeypatch):
    monkeypatch.setattr(checkpoint_file, "FORMAT_VERSION", checkpoint_file.FORMAT_VERSION + 1)
    save_checkpoint(path, CONTENT)
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match=r"state\.ckpt has format version 2.*reads version 1"):
        load_checkpoint(path)


class Malicious:
    """Unpickling it makes a folder: something the test can see."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_code_is_never_run(path, tmp_path):
    """Even where header and checksum are right, as from someone who knows the format."""
    buffer = io.BytesIO()
    torch.save({"w": Malicious(tmp_path / "harm")}, buffer)
    payload = buffer.getvalue()
    digest = hashlib.sha256(payload).hexdigest()
    header = b"%s %d %s\n" % (
        checkpoint_file.MAGIC,
        checkpoint_file.FORMAT_VERSION,
        digest.encode(),
    )
    path.write_bytes(header + payload)

    with pytest.raises((CheckpointError, pickle.UnpicklingError)):
        load_checkpoint(path)
    assert not (tmp_path / "harm").exists()
    torch.load(io.BytesIO(payload), weights_only=False)  # it would have worked
    assert (tmp_path / "harm").exists()


@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_interrupted_write_leaves_the_file_before(path, monkeypatch, moment):
    save_checkpoint(path, {"step": 1})

    def power_cut(*args):
        raise OSError("no power")

    monkeypatch.setattr(files.os, moment, power_cut)
    with pytest.raises(OSError, match="no power"):
        save_checkpoint(path, {"step": 2})
    monkeypatch.undo()
    assert load_checkpoint(path) == {"step": 1}
    save_checkpoint(path, {"step": 3})  # what the interruption left behind is no hindrance
    assert load_checkpoint(path) == {"step": 3}
    assert os.listdir(path.parent) == [path.name]


def test_bytes_are_on_the_disk_before_the_name_is(path, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(
            files.os, name, lambda *a, name=name, real=real: calls.append(name) or real(*a)
        )
    save_checkpoint(path, {"step": 1})
    assert calls[:2] == ["fsync", "replace"]
