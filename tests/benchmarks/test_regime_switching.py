"""Processes of known likelihood against sums over all paths and NumPy, and the script's table."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from scipy import integrate, stats

import processes
import regime_switching
from processes import PROCESSES, Autoregression, Marginal, Regimes, Sample, Sines
from processes.regimes import DECAY, MEANS, NOISE, REDRAWN, START, exact_log_likelihood
from regime_switching import Recipe, Run, main, references


def test_exact_likelihood_is_the_sum_over_all_paths_of_regimes():
    """A path has a regime before the first step; x_0 is integrated out numerically."""
    frames = Regimes().draw(2, seed=3).frames[:4]
    total = exact_log_likelihood(frames).sum(0)
    starts = np.linspace(-5, 5, 4001)  # of x_0, about its mean
    means = np.array(MEANS)
    for b in range(2):
        series, found = frames[:, b].numpy(), 0.0
        for path in itertools.product(range(3), repeat=5):
            chance = 1 / 3
            for last, regime in itertools.pairwise(path):
                chance *= (1 - REDRAWN) * (last == regime) + REDRAWN / 3
            density = 1.0
            for channel in range(3):
                started, first = means[path[0], channel], means[path[1], channel]
                centre = first + DECAY * (started + starts - first)
                there = stats.norm.pdf(starts, 0, START) * stats.norm.pdf(
                    series[0, channel], centre, NOISE
                )
                density *= integrate.trapezoid(there, starts)
            for t in range(1, 4):
                mean = means[path[t + 1]]
                centre = mean + DECAY * (series[t - 1] - mean)
                density *= stats.norm.pdf(series[t], centre, NOISE).prod()
            found += chance * density
        assert total[b].item() == pytest.approx(math.log(found), rel=1e-9)


def test_series_are_drawn_from_the_process(monkeypatch):
    """With so little noise that every frame tells its regime."""
    monkeypatch.setattr(processes.regimes, "NOISE", 1e-3)
    frames = Regimes().draw(2_000, seed=0).frames
    means = torch.tensor(MEANS, dtype=torch.float64)
    errors = frames[1:].unsqueeze(2) - (means + DECAY * (frames[:-1].unsqueeze(2) - means))
    squared, regime = errors.square().sum(-1).min(-1)  # (T - 1, B)
    assert squared.mean().item() == pytest.approx(3e-6, rel=0.01)
    assert regime.double().mean().item() == pytest.approx(1.0, abs=0.03)  # each a third
    changed = (regime[1:] != regime[:-1]).double().mean().item()
    assert changed == pytest.approx(REDRAWN * 2 / 3, abs=0.003)


@pytest.mark.parametrize("name", PROCESSES)
def test_seeds_decide(name):
    process = PROCESSES[name]()
    one, again, other = (process.draw(4, seed) for seed in (1, 1, 2))
    assert one.frames.equal(again.frames) and one.there.equal(again.there)
    assert not one.frames.equal(other.frames)
    assert one.frames.shape == (process.num_steps, 4, 3)


def test_sines_have_gaps_and_noise():
    sample = Sines().draw(500, seed=0)
    missing = (~sample.there).sum(0)
    assert missing.min() == 0 and missing.max() == 9
    for b in range(20):  # in a row
        gap = (~sample.there[:, b]).nonzero().flatten()
        assert len(gap) == 0 or gap[-1] - gap[0] == len(gap) - 1
    assert sample.frames[:, :, 0].std().item() == pytest.approx(math.sqrt(0.5 + 0.01), rel=0.01)
    lag = 12  # a period of the first channel
    apart = sample.frames[lag:, :, 0] - sample.frames[:-lag, :, 0]
    assert apart.std().item() == pytest.approx(math.sqrt(2) * 0.1, rel=0.02)


@pytest.fixture
def gapped():
    sample = Regimes().draw(30, seed=5)
    return Sample(sample.frames, torch.rand(sample.there.shape) < 0.8)


def test_simple_models_are_numpys(gapped):
    """The autoregression by a plain loop over pairs that are there."""
    frames, there = gapped.frames.numpy(), gapped.there.numpy()
    seen = frames[there]
    one = stats.multivariate_normal(seen.mean(0), np.cov(seen.T))
    rows, answers = [], []
    for t in range(1, len(frames)):
        for b in range(frames.shape[1]):
            if there[t, b] and there[t - 1, b]:
                rows.append([*frames[t - 1, b], 1.0])
                answers.append(frames[t, b])
    rows, answers = np.array(rows), np.array(answers)
    weights = np.linalg.solve(rows.T @ rows, rows.T @ answers)
    errors = answers - rows @ weights
    noise = stats.multivariate_normal(np.zeros(3), errors.T @ errors / len(errors))

    marginal = Marginal(gapped).log_prob(gapped)
    linear = Autoregression(gapped).log_prob(gapped)
    for t in range(len(frames)):
        for b in range(frames.shape[1]):
            plain = one.logpdf(frames[t, b]) if there[t, b] else 0.0
            assert marginal[t, b].item() == pytest.approx(plain, abs=1e-9)
            if t > 0 and there[t, b] and there[t - 1, b]:
                plain = noise.logpdf(frames[t, b] - [*frames[t - 1, b], 1.0] @ weights)
            assert linear[t, b].item() == pytest.approx(plain, abs=1e-8)


def test_knowing_more_is_worth_more():
    process = Regimes()
    found = references(process, process.draw(512, 1), process.draw(256, 2))
    assert list(found) == ["marginal", "AR(1)", "exact", "regime known"]
    assert sorted(found.values(), reverse=True) == list(found.values())
    assert found["regime known"] == pytest.approx(3 * stats.norm(0, NOISE).entropy())


def test_units_do_not_matter_to_a_score():
    """Standardised or not, the bound is in the units of the data: so it is of one and the same
    model, an untrained one whose scale is chosen to fit."""
    process = Regimes()
    sample = process.draw(8, 0)
    scaled = Sample(10 * sample.frames, sample.there)
    scores = [Run("vrnn", Recipe(), data, data, seed=0).score() for data in (sample, scaled)]
    assert scores[1].kl == pytest.approx(scores[0].kl, rel=1e-4)
    difference = scores[1].negative_elbo - scores[0].negative_elbo
    assert difference == pytest.approx(3 * math.log(10), rel=1e-4)


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("options", ["", "--raw --writes latent --posterior direct --elbo trace"])
def test_the_table_has_a_line_a_memory(process, options, monkeypatch):
    monkeypatch.setattr(regime_switching, "TRAINED_ON", 8)
    monkeypatch.setattr(regime_switching, "HELD_OUT", 4)
    arguments = f"--series {process} --memory vrnn --memory associative -n 1 --seeds 2 {options}"
    result = CliRunner().invoke(main, arguments.split(), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    heads = [line.split("  ")[0] for line in lines[3:]]
    floors = ["exact", "regime known"] if process == "regimes" else ["noise alone"]
    assert heads == ["marginal", "AR(1)", *floors, "vrnn", "associative"]
    assert all("±" in line for line in lines[-2:])


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        ("--memory nobody", "Invalid value for '--memory'"),
        ("--series nothing", "Invalid value for '--series'"),
        ("--steps 0", "Invalid value for '-n' / '--steps'"),
        ("--max-scale 0", "Invalid value for '--max-scale'"),
        ("--learning-rate nan", "must be a positive number, got nan"),
    ],
)
def test_bad_options_are_refused(arguments, sentence):
    result = CliRunner().invoke(main, arguments.split())
    assert result.exit_code == 2
    assert sentence in result.output
