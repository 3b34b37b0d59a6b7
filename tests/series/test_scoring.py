"""Scores against closed forms, and forecasts of a series whose exact forecast is known."""

import math

import numpy as np
import pytest
import torch

from pyro_gtm import series
from pyro_gtm.series import Series, fair_crps, naive_forecast, score


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


def plain_score(samples, value, distance):
    """E d(X, x) - E d(X, X') / 2 over pairs of different samples."""
    error = sum(distance(x, value) for x in samples) / len(samples)
    pairs = [distance(x, y) for i, x in enumerate(samples) for y in samples[:i]]
    return error - (sum(pairs) / len(pairs) / 2 if pairs else 0.0)


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_crps_is_fair_to_few_samples(count):
    generator = torch.Generator().manual_seed(count)
    samples = torch.randn(count, 5, generator=generator, dtype=torch.float64)
    actual = torch.randn(5, generator=generator, dtype=torch.float64)
    for n, value in enumerate(actual.tolist()):
        expected = plain_score(samples[:, n].tolist(), value, lambda x, y: abs(x - y))
        assert fair_crps(samples, actual)[n].item() == pytest.approx(expected, abs=1e-12)


def test_few_samples_are_worth_as_much_as_many_on_average():
    generator = torch.Generator().manual_seed(0)
    came = torch.randn(1, 20_000, 1, generator=generator)
    few, many = (
        score(
            [torch.randn(count, 1, 20_000, 1, generator=generator)], [came], [came], channels=("a",)
        )
        for count in (9, 400)
    )
    assert few.summary()["crps"] == pytest.approx(many.summary()["crps"], rel=0.01)
    assert few.coverage[0.8] == pytest.approx(0.8, abs=0.01)
    assert math.isnan(few.coverage[0.95])  # nine samples have no such interval


def test_categories_have_shares_and_no_means():
    generator = torch.Generator().manual_seed(0)
    samples = torch.randint(3, (6, 2, 4, 1), generator=generator).double()  # (S, H, N, C)
    came = torch.randint(3, (2, 4, 1), generator=generator).double()
    naive = (came + 1) % 3
    result = score([samples], [came], [naive], channels=("a",), num_categories=3)
    for h in range(2):
        expected = [
            plain_score(
                samples[:, h, n, 0].tolist(), came[h, n, 0].item(), lambda x, y: float(x != y)
            )
            for n in range(4)
        ]
        assert result.crps[h, 0].item() == pytest.approx(sum(expected) / 4, abs=1e-12)
    assert result.naive_crps.tolist() == [[1.0], [1.0]]
    assert result.coverage == {} and result.values == 8
    assert result.score_name == "half the Brier score"


@pytest.fixture(scope="module")
def model():
    data = Series.of(np.random.default_rng(0).standard_normal((6, 30, 2)))
    return series.fit(data, num_steps=3, hidden_dim=8, latent_dim=2, batch_size=4, window=20)


def test_an_origin_is_counted_once(model):
    values = [np.arange(20.0).reshape(-1, 2) for _ in range(2)] + [np.ones((40, 2))]
    data = Series.of(values)
    forecasts = series.backtest(model, data, 3, origins=9, num_samples=4)
    seen = [
        (name, origin)
        for made in forecasts
        for name, origin in zip(made.series.ids, made.origins.tolist(), strict=True)
    ]
    assert len(seen) == len(set(seen))
    assert sorted(origin for name, origin in seen if name == "0") == [5, 6, 7]
    assert len([origin for name, origin in seen if name == "2"]) == 9
    compared = model.evaluate(data, 3, origins=9, num_samples=4).values
    assert compared == (3 + 3 + 9) * 3 * 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"origins": 10**7}, "origins must be at most 10,000"),
        ({"origins": 10_000, "num_samples": 90_000}, "num_samples=90000, horizon=3 and origins"),
        ({"first": [3, 4]}, "first must be a whole number, or 6, one a series"),
        ({"first": 2.5}, "first must be a whole number"),
    ],
)
def test_absurd_evaluations_are_refused_at_once(model, arguments, words):
    data = Series.of(np.zeros((6, 20_000, 2)))
    with pytest.raises(ValueError, match=words):
        model.evaluate(data, 3, **arguments)


@pytest.mark.parametrize("origin", [[3, 4], 2.5, True, "end"])
def test_an_origin_is_a_whole_number_for_each(model, origin):
    with pytest.raises(ValueError, match="forecast: origin must be a whole number, or 6"):
        model.forecast(Series.of(np.zeros((6, 10, 2))), 2, origin=origin)


def test_frames_with_gaps_are_compared_by_value(model):
    values = np.random.default_rng(1).standard_normal((2, 12, 2))
    values[0, 5, 1] = np.nan
    values[1, 7] = np.nan
    found = model.surprise(Series.of(values))
    assert found.values[5].tolist() == [1, 2] and found.values[7].tolist() == [2, 0]
    assert found.per_value[5, 0] == found.negative_elbo[5, 0]
    assert found.per_value[5, 1] == found.negative_elbo[5, 1] / 2
    assert found.per_value[7, 1].isnan()
    row = found.rows()[5]
    assert (row["values"], row["negative_elbo_per_value"]) == (1, row["negative_elbo"])


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


def against_kalman(memory, num_steps, seed=0, number=300, num_samples=400):
    """CRPS over the exact forecast's, and coverage of 80 % intervals."""
    frames, dynamics = damped_oscillation(300, 60, seed)
    test, _ = damped_oscillation(number, 72, 1000 + seed)
    model = series.fit(Series.of(frames), memory, num_steps=num_steps, seed=seed)
    made = model.forecast(Series.of(test), 12, origin=60, num_samples=num_samples, seed=seed)
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
    ratio, coverage = against_kalman("vrnn", 150, number=100, num_samples=100)
    assert ratio < 1.35 and 0.6 < coverage < 0.97
