"""Pieces and their MIDI files, the networks of chorales, and the example that uses them."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pyro
import pytest
import torch
from click.testing import CliRunner

import pyro_gtm as gtm
from pyro_gtm.experiments.chorales import ChoraleModel, KeyDecoder, KeyEncoder, WithLastWrite
from pyro_gtm.experiments.pieces import (
    NUM_KEYS,
    TICKS,
    Excerpts,
    longest_repeat,
    midi,
    read_pieces,
    transposed,
)

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "chorales.py"


def roll(*steps):
    frames = torch.zeros(len(steps), NUM_KEYS)
    for t, notes in enumerate(steps):
        frames[t, [note - 21 for note in notes]] = 1.0
    return frames


def parsed(content):
    """Tempo and notes of a MIDI file of one track: ``[(begin, end, note)]`` in quarter notes."""
    assert content[:4] == b"MThd" and content[8:12] == b"\0\0\0\1", "format 0, one track"
    division = int.from_bytes(content[12:14], "big")
    assert content[14:18] == b"MTrk"
    assert int.from_bytes(content[18:22], "big") == len(content) - 22
    at, time, sounding, notes, tempo = 22, 0, {}, [], None
    while True:
        delta = 0
        while content[at] & 0x80:
            delta, at = delta << 7 | content[at] & 0x7F, at + 1
        delta, at = delta << 7 | content[at], at + 1
        time += delta
        status = content[at]
        if status == 0xFF:
            kind, size = content[at + 1 : at + 3]
            body = content[at + 3 : at + 3 + size]
            at += 3 + size
            if kind == 0x2F:
                assert at == len(content) and not sounding
                return tempo, time / division, sorted(notes)
            tempo = int.from_bytes(body, "big")
            continue
        note = content[at + 1]
        if status == 0x90:
            assert note not in sounding, "a note that sounds already"
            sounding[note] = time
        else:
            assert status == 0x80
            notes.append((sounding.pop(note) / division, time / division, note))
        at += 3


def test_midi_can_be_read():
    frames = roll([60, 64], [60, 67], [], [60], [108, 21], [])
    tempo, end, notes = parsed(midi(frames, steps_a_minute=120))
    assert tempo == 500_000
    assert end == 6
    assert notes == [(0, 1, 64), (0, 2, 60), (1, 2, 67), (3, 4, 60), (4, 5, 21), (4, 5, 108)]


def test_midi_of_a_long_silence():
    frames = torch.cat([torch.zeros(200, NUM_KEYS), roll([60])])
    assert 200 * TICKS > 2**14, "a time of three bytes"
    assert parsed(midi(frames))[1:] == (201, [(200, 201, 60)])


@pytest.mark.parametrize("semitones", [-7, -1, 0, 1, 12])
def test_transposition_keeps_intervals(semitones):
    frames = roll([60, 64, 67], [48, 72])
    moved = transposed(frames, semitones)
    for before, after in zip(frames, moved, strict=True):
        assert (before.nonzero() + semitones).equal(after.nonzero())


def test_notes_that_leave_the_piano_are_lost():
    assert transposed(roll([21, 60, 108]), 1).equal(roll([22, 61]))
    assert transposed(roll([21, 60, 108]), -1).equal(roll([59, 107]))


@pytest.mark.parametrize(
    ("notes", "expected"),
    [
        ("abcdabcd", (0, 4, 4)),
        ("xabcyabcz", (1, 5, 3)),
        ("aaaa", (0, 2, 2)),
        ("abcd", (0, 0, 0)),
        ("a", (0, 0, 0)),
    ],
)
def test_longest_repeat(notes, expected):
    assert longest_repeat(roll(*([ord(note) - 40] for note in notes))) == expected


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    parts = {}
    for number, part in enumerate(("train", "valid", "test")):
        phrase = [[60 + number, 64, 67], [60, 65, 69], [59, 62, 67], [60, 64, 67], []]
        parts[part] = [phrase + phrase, [*phrase, [72]], phrase[1:]]
    path = tmp_path_factory.mktemp("data") / "notes.json"
    path.write_text(json.dumps(parts))
    return path


def test_excerpts_are_of_the_pieces(data):
    pieces = read_pieces(data)["train"]
    excerpts = Excerpts(pieces, batch_size=2, longest=3, semitones=2)
    all_runs = {
        tuple(transposed(pieces.piece(n)[t : t + 3], shift).flatten().tolist())
        for n in range(3)
        for t in range(len(pieces.piece(n)) - 2)
        for shift in range(-2, 3)
    }
    shifted = 0
    for _ in range(30):
        batch = excerpts.draw()
        assert batch.shape == (3, 2, NUM_KEYS)
        for b in range(2):
            assert tuple(batch[:, b].flatten().tolist()) in all_runs
        shifted += int((batch[0].nonzero()[:, 1] != 39).any())
    assert shifted


def test_decoder_moves_with_the_notes():
    """What the sliding layers say of a key goes along when all frames are transposed."""
    torch.manual_seed(0)
    decoder = KeyDecoder(2, 3 + NUM_KEYS, [3], hidden_dim=8).double()
    with torch.no_grad():
        for part in (decoder.of_key, decoder.steer):
            part.weight.zero_()
            part.bias.zero_()
    frames = roll([57, 60, 64]).double()
    rest = torch.zeros(1, 5, dtype=torch.float64)
    one = decoder(torch.cat([rest, frames], -1))
    other = decoder(torch.cat([rest, transposed(frames, 5)], -1))
    middle = slice(25, 60)
    torch.testing.assert_close(one[0, middle], other[0, 30:65], rtol=1e-12, atol=1e-12)


def test_encoder_shows_keys_and_pitch_classes():
    encoder = KeyEncoder(4)
    low, high = roll([48, 60 + 7]), roll([60, 48 + 7])
    assert encoder(low)[:, 4:].equal(low)
    with torch.no_grad():
        encoder.layers[0].weight[:, :NUM_KEYS] = 0  # pitch classes alone are left
    torch.testing.assert_close(encoder(low)[:, :4], encoder(high)[:, :4])
    assert not encoder(roll([49]))[:, :4].allclose(encoder(roll([48]))[:, :4])


@pytest.mark.parametrize("name", ["vrnn", "introspective", "dnc", "associative"])
def test_context_holds_what_was_written_last(name):
    torch.manual_seed(0)
    inner = gtm.make_memory(name, latent_dim=3)
    memory = WithLastWrite(inner)
    state = memory.initial_state((2,))
    of_inner = inner.initial_state((2,))
    latents = torch.randn(4, 2, 3)
    contexts = []
    for latent in latents:
        result, expected = memory.step(state, latent), inner.step(of_inner, latent)
        assert result.context.equal(torch.cat([expected.context, latent], -1))
        state, of_inner = result.state, expected.state
        contexts.append(result.context)
    _, lesioned = memory.zero_reads(state, contexts[-1])
    heads, width = memory.read_shape
    assert not lesioned[:, : heads * width].any()
    assert lesioned[:, -3:].equal(latents[-1])


@pytest.mark.parametrize("reads", [True, False])
def test_all_steps_at_once_are_the_steps_in_turn(reads):
    torch.manual_seed(0)
    memory = WithLastWrite(gtm.AssociativeMemory(3, slots=4), reads).double()
    latents = torch.randn(5, 2, 3, dtype=torch.float64)
    state, last = memory.initial_state((2,)), torch.zeros(2, 3, dtype=torch.float64)
    at_once = memory.unroll(state, last, latents).contexts
    for t in range(5):
        result = memory.step(state, last)
        torch.testing.assert_close(at_once[t], result.context, rtol=1e-10, atol=1e-10)
        state, last = result.state, latents[t]


def test_a_model_without_reads_sees_one_step_back_and_its_controller_alone():
    pyro.set_rng_seed(0)
    model, blind = ChoraleModel("associative"), ChoraleModel("associative", reads=False)
    blind.networks.load_state_dict(model.networks.state_dict())
    frames = (torch.rand(6, 2, NUM_KEYS) < 0.05).float()
    found = []
    for each in (model, blind):
        each.networks.eval()
        pyro.set_rng_seed(1)
        with gtm.lesion_memory():
            lesioned = gtm.evaluate(each.guide, frames)
        pyro.set_rng_seed(1)
        found.append((gtm.evaluate(each.guide, frames), lesioned))
    (whole, lesioned), (unread, twice) = found
    for one in (unread, twice):
        torch.testing.assert_close(one.reconstruction, lesioned.reconstruction)
        torch.testing.assert_close(one.kl, lesioned.kl)
    assert not whole.kl.allclose(unread.kl)


def test_no_frame_sees_itself_or_what_comes():
    """The prior and the emission of a step, of what was written before alone."""
    pyro.set_rng_seed(0)
    model = ChoraleModel("associative")
    model.networks.eval()
    frames = (torch.rand(6, 1, NUM_KEYS) < 0.05).float()
    changed = frames.clone()
    changed[4] = 1 - changed[4]
    found = []
    for given in (frames, changed):
        pyro.set_rng_seed(1)
        found.append(gtm.evaluate(model.guide, given))
    assert found[0].kl[:4].equal(found[1].kl[:4])
    assert found[0].reconstruction[:4].equal(found[1].reconstruction[:4])
    assert not found[0].reconstruction[5].equal(found[1].reconstruction[5])


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("example_of_chorales", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_attention_is_told_by_step(example):
    weights = torch.tensor([[[0.0, 0.0]], [[1.0, 0.0]], [[0.3, 0.7]], [[0.6, 0.4]]])
    assert torch.allclose(
        example.attention_by_step(weights)[:, 0],
        torch.tensor(
            [
                [0.0, 0.0, 0.0, 0.0],
                [1.0, 0.0, 0.0, 0.0],
                [0.7, 0.3, 0.0, 0.0],
                [0.0, 0.4, 0.6, 0.0],
            ]
        ),
    )


@pytest.mark.parametrize("memory", ["associative", "vrnn"])
def test_example_draws_and_writes(memory, example, data, tmp_path):
    line = ["--data", str(data), "--memory", memory, "--minutes", "0.001", "-o", str(tmp_path)]
    result = CliRunner().invoke(example.main, line)
    assert result.exit_code == 0, result.output
    assert "nats a step" in result.output
    for name in ("repeat.png", "continuation.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    _, end, notes = parsed((tmp_path / "continuation.mid").read_bytes())
    assert notes and end >= example.GENERATED


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "does not exist"),
        ("[[[60]]]", "holds no parts"),
        ('{"train": [[[60]]], "valid": [[[60]]], "test": [[["c"]]]}', "no list of MIDI notes"),
        ('{"train": [[[60]]], "valid": [[[60]]], "test": [[[120]]]}', "no piano has"),
    ],
)
def test_bad_files_are_refused_in_a_sentence(content, words, example, tmp_path):
    path = tmp_path / "notes.json"
    if content is not None:
        path.write_text(content)
    result = CliRunner().invoke(example.main, ["--data", str(path), "-o", str(tmp_path / "new")])
    assert result.exit_code == 2
    assert words in result.output


def test_without_data_it_says_where_to_have_it_from(example, tmp_path, monkeypatch):
    monkeypatch.delenv("PYRO_GTM_DATA", raising=False)
    result = CliRunner().invoke(example.main, ["-o", str(tmp_path / "new")])
    assert result.exit_code == 2
    assert "set PYRO_GTM_DATA" in result.output
