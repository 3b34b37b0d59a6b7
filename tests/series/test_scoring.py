"""Scores against closed forms, and forecasts of a series whose exact forecast is known."""

import math

import numpy as np
import pytest
import torch

from pyro_gtm import series
from pyro_gtm.series import Series, naive_forecast, score


def gaussian_crps(location, scale, value):
    """Gneiting and Raftery 2007, equation 21."""
    standard = torch.distributions.Normal(0.0, 1.0)
    z = (value - location) / scale
    density = standard.log_prob(z).exp()
    return scale * (z * (2 * standard.cdf(z) - 1) + 2 * density - 1 / math.sqrt(math.pi))


def test_scores_of_calibrated_and_of_overconfident_forecasts():
    generator = torch.Generator().manual_seed(0)
    came = torch.randn(4, 500, 2, generator=generator)  # (H, N, C)
    samples = torch.randn(400, 4, 500, 2, generator=generator)
    naive = torch.zeros_like(came)
    right = score([samples], [came], [naive], channels=("a", "b"))
    closed = gaussian_crps(torch.zeros(()), torch.ones(()), came).mean((1,))
    assert right.crps.shape == (4, 2)
    assert torch.allclose(right.crps, closed, atol=0.01)
    assert torch.allclose(right.naive_crps, came.abs().mean(1))
    for level, share in right.coverage.items():
        assert share == pytest.approx(level, abs=0.03)
    assert right.pit.mean() == pytest.approx(0.5, abs=0.02)
    narrow = score([0.3 * samples], [came], [naive], channels=("a", "b"))
    assert narrow.coverage[0.8] < 0.4 and narrow.crps.mean() > right.crps.mean()


def test_what_did_not_come_does_not_count():
    came = torch.zeros(2, 3, 1)
    came[1] = torch.nan
    result = score([torch.ones(5, 2, 3, 1)], [came], [came], channels=("a",))
    assert result.crps[0].tolist() == [1.0] and result.crps[1].isnan().all()
    assert len(result.pit) == 3 and result.summary()["crps"] == 1.0


def test_naive_forecasts():
    data = Series.of(np.arange(1.0, 9.0))
    origins = torch.tensor([6])
    assert naive_forecast(data, origins, 3)[:, 0, 0].tolist() == [6, 6, 6]
    assert naive_forecast(data, origins, 5, season=3)[:, 0, 0].tolist() == [4, 5, 6, 4, 5]
    gap = Series.of([1.0, 2.0, np.nan])
    assert naive_forecast(gap, torch.tensor([3]), 1)[0, 0, 0] == 2


def damped_oscillation(number, steps, seed):
    """y_t = x_t[0] + e, x_t a noisy damped rotation: ``(N, T, 1)``."""
    generator = np.random.default_rng(seed)
    turn = 2 * np.pi / 9
    dynamics = 0.95 * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    state = generator.standard_normal((number, 2)) * 0.3 / math.sqrt(1 - 0.95**2)
    frames = np.zeros((number, steps, 1))
    for t in range(steps):
        frames[:, t, 0] = state[:, 0] + 0.3 * generator.standard_normal(number)
        state = state @ dynamics.T + 0.3 * generator.standard_normal((number, 2))
    return frames, dynamics


def exact_forecast(frames, dynamics, horizon):
    """The Kalman filter's: means ``(H, N)`` and scales ``(H,)``."""
    number, steps, _ = frames.shape
    noise = 0.09 * np.eye(2)
    mean, covariance = np.zeros((number, 2)), noise / (1 - 0.95**2)
    means, scales = [], []
    for t in range(steps + horizon):
        if t >= steps:
            means.append(mean[:, 0])
            scales.append(math.sqrt(covariance[0, 0] + 0.09))
        else:
            gain = covariance[:, 0] / (covariance[0, 0] + 0.09)
            mean = mean + np.outer(frames[:, t, 0] - mean[:, 0], gain)
            covariance = covariance - np.outer(gain, covariance[0])
        mean, covariance = mean @ dynamics.T, dynamics @ covariance @ dynamics.T + noise
    return torch.tensor(np.array(means)), torch.tensor(scales)


def against_kalman(memory, num_steps, seed=0):
    """CRPS over the exact forecast's, and coverage of 80 % intervals."""
    frames, dynamics = damped_oscillation(300, 60, seed)
    test, _ = damped_oscillation(300, 72, 1000 + seed)
    model = series.fit(Series.of(frames), memory, num_steps=num_steps, seed=seed)
    made = model.forecast(Series.of(test), 12, origin=60, num_samples=400, seed=seed)
    means, scales = exact_forecast(test[:, :60], dynamics, 12)
    came = torch.tensor(test[:, 60:, 0].T)
    exact = gaussian_crps(means, scales[:, None], came).mean().item()
    result = score([made.samples], [made.actual], [made.mean], channels=("y",))
    return result.crps.mean().item() / exact, result.coverage[0.8]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_forecasts_of_a_linear_gaussian_series_are_nearly_exact(seed):
    ratio, coverage = against_kalman("vrnn", 1500, seed)
    print(f"vrnn, seed {seed}: CRPS {ratio:.3f} of exact, 80 % intervals hold {coverage:.1%}")
    assert ratio < 1.05 and 0.7 < coverage < 0.9


def test_forecasts_of_a_linear_gaussian_series_have_learned_something():
    ratio, coverage = against_kalman("vrnn", 300)
    assert ratio < 1.35 and 0.6 < coverage < 0.97
