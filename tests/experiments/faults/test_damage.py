"""Files that are cut short or have a bit flipped are named, never used as if they were whole."""

from __future__ import annotations

import random
import shutil

import pytest

from pyro_gtm.experiments.checkpoint_file import CheckpointError, checkpoints_in
from pyro_gtm.experiments.run import Run, RunError
from pyro_gtm.experiments.run_folder import summary_in


def cut(content, chance):
    return content[: chance.randrange(len(content))]


def flip(content, chance):
    damaged = bytearray(content)
    damaged[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    return bytes(damaged)


def seen_in(run, bits):
    """All that a loaded run has from its folder."""
    experiment = run.experiment
    state = bits({**experiment.program.state_dict(), **experiment.memory.state_dict()})
    return experiment.config, run.metrics.rows, run.step, state


@pytest.mark.parametrize("tries", [12, pytest.param(200, marks=pytest.mark.slow)])
@pytest.mark.parametrize("damage", [cut, flip])
@pytest.mark.parametrize("name", ["checkpoint", "metrics.jsonl", "config.json", "summary.json"])
def test_damage_is_named(name, damage, tries, tmp_path, reference, as_bits, tally):
    folder = tmp_path / "run"
    shutil.copytree(reference.folder, folder)
    older, newest = checkpoints_in(folder)
    path = newest if name == "checkpoint" else folder / name
    whole, expected = path.read_bytes(), seen_in(Run.load(folder, "cpu"), as_bits)
    summary, chance, named = summary_in(folder), random.Random(tries), 0
    for number in range(tries):
        path.write_bytes(damage(whole, chance))
        try:
            if name == "summary.json":
                assert summary_in(folder) == summary
            else:
                run = (Run.resume if number % 2 else Run.load)(folder, device="cpu")
                assert seen_in(run, as_bits) == expected
        except (ValueError, RunError, CheckpointError) as error:
            sentence = str(error)
            assert str(path) in sentence and "\n" not in sentence
            if name in ("checkpoint", "metrics.jsonl"):
                assert older.name in sentence or "remove metrics.jsonl" in sentence
            named += 1
        path.write_bytes(whole)
    assert named >= 0.9 * tries, "the rest were as good as whole, as without a last line break"
    what = "cut short" if damage is cut else "with a bit flipped"
    tally(f"{name} {what}", tries, f"named {named} times, {tries - named} times as good as whole")


@pytest.mark.parametrize("gone", ["metrics.jsonl", "the newest checkpoint"])
def test_what_the_sentence_says_helps(gone, tmp_path, reference, succeeds, outcome):
    """Metrics damaged in a late row: the checkpoint before has those that are whole."""
    folder = tmp_path / "run"
    shutil.copytree(reference.folder, folder)
    path = folder / "metrics.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]) + lines[-1].replace(b"1", b"2"))
    older, newest = checkpoints_in(folder)
    with pytest.raises(ValueError) as caught:
        Run.load(folder)
    assert str(caught.value).endswith(
        f"its first {len(lines)} rows fail their checksum; those up to {older.name} are whole: "
        f"remove {newest.name} to go on from there, or metrics.jsonl to go on without its rows"
    )
    if gone == "metrics.jsonl":
        path.unlink()
        assert "Note: " in succeeds(f"train --resume {folder}").output
        assert outcome(folder)["state"]["program"] == reference.outcome["state"]["program"]
    else:
        newest.unlink()
        succeeds(f"train --resume {folder}")
        assert outcome(folder) == reference.outcome


def test_a_damaged_summary_is_made_again(tmp_path, reference, succeeds, outcome):
    folder = tmp_path / "run"
    shutil.copytree(reference.folder, folder)
    (folder / "summary.json").write_bytes(b"{")
    said = succeeds(f"train --resume {folder}").output
    assert "Note: " in said and "summary.json is damaged" in said
    assert outcome(folder) == reference.outcome
