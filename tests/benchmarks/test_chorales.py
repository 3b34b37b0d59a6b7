"""Chorales: batches, the deep Markov model against plain loops, contestants, the table."""

from __future__ import annotations

import csv
import json
import math

import pyro
import pytest
import torch
from click.testing import CliRunner

import chorales
from chorales import CONTESTANTS, main
from music.dmm import DMM, DeepMarkovModel, Sizes, reversed_in_time
from pyro_gtm.experiments.pieces import NUM_KEYS, Pieces

SMALL = Sizes(latent=5, emission=7, transition=6, recurrence=9)


def random_pieces(lengths, seed=0):
    frames = torch.rand(max(lengths), len(lengths), NUM_KEYS, dtype=torch.float64,
                        generator=torch.Generator().manual_seed(seed)) < 0.05  # fmt: skip
    pieces = Pieces(frames.double(), torch.tensor(lengths))
    return pieces._replace(frames=pieces.frames * pieces.mask.unsqueeze(-1))


@pytest.fixture
def dmm():
    pyro.clear_param_store()
    torch.manual_seed(0)
    model = DeepMarkovModel(SMALL).double()
    for parameter in model.parameters():  # those that begin at zero too
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model


class NoNoise:
    """Draws of every Gaussian are its location."""

    def __enter__(self):
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(torch.distributions.Normal, "rsample", lambda fn, size=(): fn.loc)
        self.patch.setattr(torch.Tensor, "normal_", torch.Tensor.zero_)  # what ours draw with

    def __exit__(self, *exception):
        self.patch.undo()


def plain_bound(dmm, piece):
    """KL and reconstruction of one piece ``(length, 88)`` along the posterior's means."""
    hidden, h = [], dmm.last_hidden
    weights = dmm.rnn
    for x in reversed(piece):
        h = (
            weights.weight_ih_l0 @ x
            + weights.bias_ih_l0
            + weights.weight_hh_l0 @ h
            + weights.bias_hh_l0
        ).clamp(min=0)
        hidden.insert(0, h)
    kl = reconstruction = 0.0
    of_model, of_guide = dmm.first_latent, dmm.first_of_guide
    for x, h in zip(piece, hidden, strict=True):
        gate = torch.sigmoid(dmm.transition.gate(of_model))
        proposed = dmm.transition.proposal(of_model)
        location = (1 - gate) * dmm.transition.linear(of_model) + gate * proposed
        scale = torch.nn.functional.softplus(dmm.transition.scale(proposed.clamp(min=0)))
        combined = 0.5 * (torch.tanh(dmm.combiner.of_latent(of_guide)) + h)
        mean = dmm.combiner.location(combined)
        deviation = torch.nn.functional.softplus(dmm.combiner.scale(combined))
        kl += (
            (scale / deviation).log()
            + (deviation**2 + (mean - location) ** 2) / (2 * scale**2)
            - 0.5
        ).sum()
        p = torch.sigmoid(dmm.emitter(mean))
        reconstruction -= (x * p.log() + (1 - x) * (1 - p).log()).sum()
        of_model = of_guide = mean
    return kl, reconstruction


def test_dmm_is_its_equations(dmm):
    pieces = random_pieces([6, 3, 4])
    with NoNoise():
        kl, reconstruction = dmm.bound(*pieces)
    for n in range(3):
        expected = plain_bound(dmm, pieces.piece(n))
        assert kl[n].item() == pytest.approx(expected[0].item(), rel=1e-10)
        assert reconstruction[n].item() == pytest.approx(expected[1].item(), rel=1e-10)


def test_dmm_trains_on_the_gradient_of_its_bound(dmm):
    """Trace_ELBO of model and guide, against log densities of a plain loop."""
    pieces = random_pieces([4, 4])
    svi = pyro.infer.Trace_ELBO()
    with NoNoise():
        loss = svi.differentiable_loss(dmm.model, dmm.guide, *pieces, kl_weight=0.3)
        gradients = torch.autograd.grad(loss, list(dmm.parameters()))
        expected = 0.0
        for n in range(2):
            kl, reconstruction = plain_log_ratio(dmm, pieces.piece(n))
            expected += 0.3 * kl + reconstruction
    assert loss.item() == pytest.approx(expected.item(), rel=1e-10)
    for ours, theirs in zip(
        gradients, torch.autograd.grad(expected, list(dmm.parameters())), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def plain_log_ratio(dmm, piece):
    """log q - log p at the posterior's means, and the reconstruction."""
    normal = torch.distributions.Normal
    hidden = dmm.hidden(piece.unsqueeze(1), torch.tensor([len(piece)]))[:, 0]
    ratio = reconstruction = 0.0
    of_model, of_guide = dmm.first_latent, dmm.first_of_guide
    for x, h in zip(piece, hidden, strict=True):
        prior, posterior = normal(*dmm.transition(of_model)), normal(*dmm.combiner(of_guide, h))
        z = posterior.loc
        ratio += (posterior.log_prob(z) - prior.log_prob(z)).sum()
        reconstruction += torch.nn.functional.binary_cross_entropy_with_logits(
            dmm.emitter(z), x, reduction="sum"
        )
        of_model = of_guide = z
    return ratio, reconstruction


def test_dmm_is_blind_to_what_is_behind_the_end(dmm):
    pieces = random_pieces([6, 3, 4])
    padded = pieces._replace(frames=pieces.frames.where(pieces.mask.unsqueeze(-1), 1.0))
    with NoNoise():
        of_all = dmm.bound(*padded)
        for n in range(3):
            alone = Pieces(pieces.piece(n).unsqueeze(1), pieces.lengths[n : n + 1])
            for part, expected in zip(of_all, dmm.bound(*alone), strict=True):
                assert part[n].item() == pytest.approx(expected.item(), rel=1e-10)


def test_pieces_are_reversed_from_their_own_end():
    sequence = torch.arange(8.0).view(4, 2, 1)
    assert reversed_in_time(sequence, torch.tensor([4, 2]))[..., 0].tolist() == [
        [6.0, 3.0],
        [4.0, 1.0],
        [2.0, 5.0],
        [0.0, 7.0],
    ]


def test_importance_weighted_bound_of_the_dmm_is_above_its_elbo(dmm):
    contestant = DMM(SMALL)
    contestant.dmm.double()
    pieces = random_pieces([6, 5, 4, 6])
    pyro.set_rng_seed(0)
    one = sum(contestant.importance_weighted(pieces, 1) for _ in range(40)) / 40
    elbo = sum(contestant.bound(pieces).negative_elbo for _ in range(40)) / 40
    many = contestant.importance_weighted(pieces, 200)
    assert one == pytest.approx(elbo, abs=0.3)
    assert many < one


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Pieces of a scale and of its return, three notes at once."""
    generator = torch.Generator().manual_seed(0)
    parts = {}
    for part, count in (("train", 8), ("valid", 3), ("test", 3)):
        pieces = []
        for _ in range(count):
            length = int(torch.randint(6, 12, (), generator=generator))
            roots = [60 + t % 5 for t in range(length)]
            pieces.append([[root, root + 4, root + 7] for root in roots])
        parts[part] = pieces
    path = tmp_path_factory.mktemp("data") / "notes.json"
    path.write_text(json.dumps(parts))
    return path


@pytest.mark.parametrize("name", CONTESTANTS)
def test_every_contestant_learns_and_minds_lengths(name, data):
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    contestant = CONTESTANTS[name]()
    frames = chorales.read_pieces(data)["train"].frames[:6]
    losses = [contestant.step(frames, 0.0) for _ in range(20)]
    assert all(map(math.isfinite, losses))
    assert losses[-1] < losses[0] - 0.2

    contestant.networks.double()
    pieces = random_pieces([7, 3, 5])
    with NoNoise():
        of_all = contestant.bound(pieces)
        alone = [
            contestant.bound(Pieces(pieces.piece(n).unsqueeze(1), pieces.lengths[n : n + 1]))
            for n in range(3)
        ]
    weighed = sum(b.negative_elbo * int(n) for b, n in zip(alone, pieces.lengths, strict=True))
    assert of_all.negative_elbo == pytest.approx(weighed / 15, rel=1e-10)


TINY = ["--minutes", "0.001", "--seeds", "2", "--evaluations", "1", "--contestant", "vrnn"]


def test_the_table_has_its_columns(data, tmp_path):
    table, figure = tmp_path / "new" / "bounds.csv", tmp_path / "bounds.png"
    line = [*TINY, "--contestant", "associative", "--data", str(data), "--particles", "2"]
    result = CliRunner().invoke(main, [*line, "--table", str(table), "--figure", str(figure)])
    assert result.exit_code == 0, result.output
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [(row["contestant"], row["seed"]) for row in rows] == [
        ("vrnn", "0"),
        ("vrnn", "1"),
        ("associative", "0"),
        ("associative", "1"),
    ]
    for row in rows:
        assert float(row["test"]) > float(row["kl"]) >= 0
        assert int(row["updates"]) >= 1 and row["machine"].endswith("cores")
        assert (row["lesion"] == "") == (row["contestant"] == "vrnn")
        assert float(row["iwae"]) > 0
    assert figure.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("line", "content", "words"),
    [
        ([], "{}", "holds the parts none"),
        ([], '{"train": [[[60]]], "valid": [[[60]]], "test": [[[110]]]}', "no piano has"),
        ([], "[", "is no JSON"),
        ([], None, "does not exist"),
        (["--minutes", "nan"], "{}", "finite"),
        (["--table", "notes.json/x.csv"], "{}", "cannot be written to"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(line, content, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / "notes.json").write_text(content)
    result = CliRunner().invoke(main, [*TINY, "--data", "notes.json", *line])
    assert result.exit_code == 2, result.output
    assert words in result.output
    assert "updates" not in result.output


def test_what_is_finished_is_told_when_it_is_stopped(data, tmp_path, monkeypatch):
    run = chorales.run

    def stopped_in_the_second(name, seed, *more):
        if seed == 1:
            raise KeyboardInterrupt
        return run(name, seed, *more)

    monkeypatch.setattr(chorales, "run", stopped_in_the_second)
    table = tmp_path / "bounds.csv"
    result = CliRunner().invoke(main, [*TINY, "--data", str(data), "--table", str(table)])
    assert "Stopped: 1 of 2 runs" in result.output
    assert not table.exists(), "a part would be taken for the whole"
