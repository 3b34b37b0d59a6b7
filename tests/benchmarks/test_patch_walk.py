"""The walk over patches, and the contestants of other papers, against plain loops."""

from __future__ import annotations

import csv
import math

import pyro
import pytest
import torch
from click.testing import CliRunner

import patch_walk
from patch_walk import errors_by_bin, main
from peers import gtm_sm, rssm
from peers.contestants import CONTESTANTS
from peers.walks import PATCH, PLACES, STRIDE, PatchWalk, Walks, steps_since

T, GIVEN, B = 14, 9, 3


@pytest.fixture(scope="module")
def task():
    return PatchWalk(7, T, seed=0)


@pytest.fixture
def walks(task):
    return task.sample(B, torch.Generator().manual_seed(3))


def test_steps_since_a_place_was_seen():
    place = torch.tensor([[4], [2], [4], [4], [1], [2]])
    assert steps_since(place).flatten().tolist() == [0, 0, 2, 1, 0, 4]


def test_the_same_place_shows_the_same_patch_and_moves_lead_there(walks):
    moves = torch.tensor([(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)])
    place = moves[walks.controls.argmax(-1)].cumsum(0)  # (T, B, 2), from where the walk began
    for b in range(B):
        seen = {}
        for t in range(T):
            here = tuple(place[t, b].tolist())
            last = seen.get(here)
            assert walks.since[t, b] == (0 if last is None else t - last)
            if last is not None:
                assert walks.frames[t, b].equal(walks.frames[last, b])
            seen[here] = t


def test_neighbouring_patches_share_half_of_their_pixels(task):
    left, right = task.patches[0, 0], task.patches[0, 1]
    assert left[:, :, STRIDE:].equal(right[:, :, : PATCH - STRIDE])
    below = task.patches[0, PLACES]
    assert left[:, STRIDE:].equal(below[:, : PATCH - STRIDE])


@pytest.mark.parametrize("name", CONTESTANTS)
def test_every_contestant_learns_and_predicts_without_a_look_at_what_comes(name, task, walks):
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    contestant = CONTESTANTS[name](T, GIVEN)
    draws = torch.Generator().manual_seed(0)
    losses = [contestant.step(task.sample(8, draws)) for _ in range(12)]
    assert all(map(math.isfinite, losses))
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3])
    assert contestant.num_parameters > 0

    later = walks.frames.clone()
    later[GIVEN:] = math.nan
    predictions = []
    for frames in (walks.frames, later):
        torch.manual_seed(1)
        predictions.append(contestant.predict(walks._replace(frames=frames), GIVEN))
    assert predictions[0].shape == (T - GIVEN, B, 3, PATCH, PATCH)
    assert predictions[0].isfinite().all()
    assert predictions[0].equal(predictions[1])


def test_spatial_memory_is_the_mixture_of_its_equations(walks):
    """Against loops over steps, sequences and neighbours."""
    torch.manual_seed(0)
    model = gtm_sm.SpatialMemory(T, GIVEN).double()
    walks = Walks(walks.frames.double(), walks.controls.double(), walks.since)
    torch.manual_seed(5)
    loss = model.negative_elbo(walks)

    torch.manual_seed(5)
    posterior = model.posterior(model.encoder(walks.frames))
    z = posterior.rsample()
    positions = model.positions(walks.controls)
    total = 0.0
    for b in range(B):
        for t in range(T):
            q = torch.distributions.Normal(posterior.loc[t, b], posterior.scale[t, b])
            fit = model.likelihood(model.decoder(z[t, b])).log_prob(walks.frames[t, b])
            if t < GIVEN:
                standard = torch.distributions.Normal(torch.zeros_like(q.loc), 1.0)
                kl = torch.distributions.kl_divergence(q, standard).sum()
            else:
                distances = [
                    ((positions[t, b] - positions[k, b]) ** 2).sum().item() for k in range(GIVEN)
                ]
                nearest = sorted(range(GIVEN), key=distances.__getitem__)[: gtm_sm.NEAREST]
                weights = [1 / (distances[k] + gtm_sm.DELTA) for k in nearest]
                density = sum(
                    w
                    / sum(weights)
                    * torch.distributions.Normal(posterior.loc[k, b], posterior.scale[k, b])
                    .log_prob(z[t, b])
                    .sum()
                    .exp()
                    for w, k in zip(weights, nearest, strict=True)
                )
                kl = q.log_prob(z[t, b]).sum() - density.log()
            total += kl - fit
    assert loss.item() == pytest.approx((total / (T * B)).item(), rel=1e-10)


def test_recurrent_state_space_is_its_equations(walks):
    torch.manual_seed(0)
    model = rssm.RecurrentStateSpace(T, GIVEN)
    torch.manual_seed(5)
    loss = model.negative_elbo(walks)
    torch.manual_seed(5)
    h, z, total = torch.zeros(B, rssm.STATE_DIM), torch.zeros(B, 16), torch.zeros(B)
    for t in range(T):
        h = model.recurrence(torch.cat([z, walks.controls[t]], 1), h)
        p = model.prior(h)
        q = model.posterior(torch.cat([h, model.encoder(walks.frames[t])], 1))
        z = q.rsample()
        parameters = model.decoder(torch.cat([h, z], 1))
        total += torch.distributions.kl_divergence(q, p).sum(1)
        total -= model.likelihood(parameters).log_prob(walks.frames[t])
    assert loss.item() == pytest.approx((total / T).mean().item(), rel=1e-5)


def test_those_with_a_state_are_of_one_size_at_the_default_lengths():
    names = ["associative", "rssm", "vrnn"]
    sizes = [CONTESTANTS[name](288, 64).num_parameters for name in names]
    assert max(sizes) < 1.03 * min(sizes)


def test_errors_are_counted_by_how_long_ago_the_place_was_seen(walks):
    since = torch.zeros(T, B, dtype=torch.int64)
    since[GIVEN] = torch.tensor([1, 8, 9])
    since[GIVEN + 1] = torch.tensor([200, 0, 40])
    walks = walks._replace(since=since)
    predicted = walks.frames[GIVEN:].clone()
    predicted[0, 0] += 0.1  # seen a step ago
    predicted[1, 0] += 0.2  # 200 steps ago
    errors, overall = errors_by_bin(predicted, walks, GIVEN)
    assert errors == pytest.approx([5.0, 0.0, 0.0, 40.0, 0.0], abs=1e-4)
    assert overall == pytest.approx((10 + 40) / ((T - GIVEN) * B), rel=1e-4)


TINY = ["--contestant", "gtm-sm", "-n", "2", "--observe", "16", "--train-observe", "16"]
TINY += ["--predict", "8", "--seeds", "2", "--images", "20", "--walks", "2"]


@pytest.mark.parametrize(
    "line",
    [["--minutes", "nan"], ["--minutes", "inf"], ["--table", "."], ["--figure", "file/x.png"]],
)
def test_what_cannot_be_is_refused_before_training(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    result = CliRunner().invoke(main, [*TINY, *line])
    assert result.exit_code == 2, result.output
    assert "step" not in result.output


def test_what_is_finished_is_told_when_it_is_stopped(tmp_path, monkeypatch):
    train = patch_walk.train

    def stopped_in_the_second(name, seed, *more):
        if seed == 1:
            raise KeyboardInterrupt
        return train(name, seed, *more)

    monkeypatch.setattr(patch_walk, "train", stopped_in_the_second)
    table = tmp_path / "errors.csv"
    result = CliRunner().invoke(main, [*TINY, "--table", str(table)])
    assert "Stopped: 1 of 2 runs" in result.output
    assert "gtm-sm          0" in result.output
    assert not table.exists(), "a part would be taken for the whole"


def test_the_table_says_where_it_comes_from(tmp_path):
    table = tmp_path / "errors.csv"
    result = CliRunner().invoke(main, [*TINY, "--seeds", "1", "--table", str(table)])
    assert result.exit_code == 0, result.output
    line, mean = csv.DictReader(table.read_text().splitlines())
    assert line["contestant"] == "gtm-sm" and line["steps"] == "2"
    assert line["machine"].endswith("cores")
    assert mean["contestant"] == "mean patch" and float(mean["overall"]) > 0


def test_minutes_take_the_place_of_steps():
    budget = patch_walk.Budget(steps=100, minutes=None)
    assert budget.used(steps=50, minutes=3.0) == 0.5
    assert patch_walk.Budget(steps=100, minutes=4.0).used(steps=50, minutes=3.0) == 0.75
