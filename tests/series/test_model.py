"""Fitting, saving and the verbs, on small series."""

import numpy as np
import pyro
import pytest
import torch

from pyro_gtm import series
from pyro_gtm.model import GaussianLikelihood
from pyro_gtm.model.gaps import PartialFramesLikelihood
from pyro_gtm.series import Series
from pyro_gtm.series.fitting import resume

CHANNELS = ["level", "load", "drift"]


def test_partial_frames_count_the_values_that_there_are(float64):
    partial = PartialFramesLikelihood(GaussianLikelihood((3,)))
    parameters = torch.randn(5, 6, requires_grad=True)
    values = torch.randn(5, 3)
    values[2, 1] = values[4] = torch.nan
    frames = partial.join(values)
    log_prob = partial(parameters).log_prob(frames)
    base = GaussianLikelihood((3,))(parameters).base_dist
    mean, scale = base.loc.detach(), base.scale.detach()
    for i in range(5):
        expected = sum(
            torch.distributions.Normal(mean[i, c], scale[i, c]).log_prob(values[i, c])
            for c in range(3)
            if not values[i, c].isnan()
        )
        assert float(log_prob[i].detach()) == pytest.approx(float(expected), abs=1e-12)
    log_prob.sum().backward()
    assert parameters.grad.isfinite().all()
    assert torch.equal(parameters.grad[4], torch.zeros(6)), "a missing frame teaches nothing"
    assert torch.allclose(partial.split(frames), values, equal_nan=True)
    assert partial.support.check(frames).all()
    assert partial(parameters).sample()[:, 3:].eq(1).all(), "what is drawn has no gaps"


def test_padded_series_are_as_each_by_itself(float64, fit, waves):
    values = waves(3, 20)
    data = Series.of([values[0], values[1, :13], values[2, :5]], channels=CHANNELS)
    model = fit(data, memory_options={"hidden_dim": 8})
    # Of the posterior's mean there is one: the noise of the samples is what differs.
    together = _without_noise(model, data)
    for n in range(3):
        alone = _without_noise(model, data.select([n]))
        length = int(data.lengths[n])
        for one, other in zip(together, alone, strict=True):
            assert torch.allclose(one[:length, n], other[:, 0], atol=1e-10, rtol=0)
            assert one[length:, n].isnan().all()


def _without_noise(model, data):
    """Both terms of the bound with every latent at its location."""
    normal = torch.Tensor.normal_
    torch.Tensor.normal_ = lambda tensor, *args, **kwargs: tensor.zero_()
    try:
        result = model.surprise(data, num_samples=1)
    finally:
        torch.Tensor.normal_ = normal
    return result.kl, result.reconstruction


@pytest.mark.parametrize("memory", ["vrnn", "associative", "introspective", "ntm", "lru", "dnc"])
def test_every_memory_serves_every_verb(memory, data, fit):
    options = {"hidden_dim": 8} if memory == "vrnn" else {"hidden_dim": 8, "slots": 4}
    model = fit(data, memory, num_steps=2, window=10, memory_options=options)
    made = model.forecast(data, 5, num_samples=3)
    assert made.samples.shape == (3, 5, 4, 3) and made.samples.isfinite().all()
    assert model.generate(2, 7).series.values.shape == (7, 2, 3)
    assert model.surprise(data, num_samples=1).kl.shape == (30, 4)


def test_forecast_starts_where_it_should_and_is_in_units(model, data):
    made = model.forecast(data, 6, num_samples=50, origin=[10, 12, 30, 24], seed=3)
    assert made.actual[:, 0].tolist() == data.values[10:16, 0].tolist()
    assert made.actual[:, 2].isnan().all()
    location = made.mean.mean((0, 1))
    assert abs(location[1] - 900) < 100 and abs(location[2] + 3) < 0.1
    again = model.forecast(data, 6, num_samples=50, origin=[10, 12, 30, 24], seed=3)
    assert torch.equal(made.samples, again.samples)
    rows = made.rows((0.1, 0.9))
    assert list(rows[0]) == [
        "id", "time", "step", "horizon", "channel", "mean", "q0.1", "q0.9", "actual",
    ]  # fmt: skip
    assert len(rows) == 6 * 4 * 3 and rows[0]["step"] == 10 and rows[0]["horizon"] == 1


def test_a_forecast_does_not_see_what_comes_after_its_origin(model, data):
    changed = Series.of(
        torch.where(torch.arange(30)[:, None, None] >= 12, 1e3, data.values),
        channels=data.channels,
        layout="time_first",
    )
    one, other = (model.forecast(d, 4, num_samples=5, origin=12) for d in (data, changed))
    assert torch.equal(one.samples, other.samples)


def test_imputation_keeps_what_there_is_and_fills_the_rest(model, data):
    values = data.values.clone()
    values[5:9, 0, 1] = values[20:23, 2] = torch.nan
    gaps = Series.of(values, channels=data.channels, layout="time_first")
    made = model.impute(gaps, num_samples=7)
    there = ~values.isnan()
    assert torch.equal(made.samples[:, there], values[there].expand(7, -1))
    assert made.samples.isfinite().all() and made.filled.values.isfinite().all()
    assert made.samples[:, 6, 0, 1].std() > 0
    assert len(made.rows()) == 4 + 9
    assert {row["channel"] for row in made.rows()[:4]} == {"load"}


def test_surprise_is_in_units_of_the_data(data, fit):
    """The same series in other units: densities differ by the units' ratio, to the digit."""
    factor = torch.tensor([10.0, 0.1, 1000.0], dtype=torch.float64)
    larger = Series.of(data.values * factor, channels=data.channels, layout="time_first")
    one, other = (fit(d).surprise(d, num_samples=1).negative_elbo for d in (data, larger))
    assert torch.allclose(other - one, factor.log().sum().expand_as(one), atol=2e-3)


def test_the_importance_weighted_bound_is_above_the_elbo(data, fit):
    short = data.steps(0, 10)
    model = fit(short, num_steps=50)
    made = model.surprise(short, num_samples=50, num_particles=100)
    assert (made.evidence > -made.negative_elbo.sum(0) - 0.5).all()
    with pytest.raises(ValueError, match="num_particles=5 given for a series of 30"):
        model.surprise(data, num_particles=5)


def test_saved_and_loaded_is_the_same(model, data, tmp_path):
    model.save(tmp_path / "m")
    again = series.load(tmp_path / "m", "cpu")
    one, other = (m.forecast(data, 3, num_samples=4) for m in (model, again))
    assert torch.equal(one.samples, other.samples)
    assert again.settings == model.settings and again.step == 5
    with pytest.raises(ValueError, match="holds no model of series"):
        series.load(tmp_path)
    (tmp_path / "m" / "series.json").write_text("{")
    with pytest.raises(ValueError, match="is damaged"):
        series.load(tmp_path / "m")


@pytest.mark.parametrize("stop_at", [2, 5])
def test_a_resumed_fit_ends_as_one_that_was_not_stopped(data, tmp_path, stop_at, fit):
    whole = fit(data, num_steps=8)
    fit(data, num_steps=8, folder=tmp_path, progress=lambda step, loss: step == stop_at)
    resumed = resume(tmp_path, data)
    for name, weight in whole.program.state_dict().items():
        assert torch.equal(weight, resumed.program.state_dict()[name]), name
    for name, weight in whole.memory.state_dict().items():
        assert torch.equal(weight, resumed.memory.state_dict()[name]), name
    with pytest.raises(ValueError, match="8 steps were taken already"):
        resume(tmp_path, data, num_steps=4)


def test_a_fit_leaves_random_numbers_and_parameters_alone(data, fit):
    pyro.param("mine", torch.ones(1))
    torch.manual_seed(5)
    expected = torch.randn(3)
    torch.manual_seed(5)
    model = fit(data)
    model.forecast(data, 2, num_samples=2)
    assert torch.equal(torch.randn(3), expected)
    assert list(pyro.get_param_store().keys()) == ["mine"]


def test_the_same_seed_fits_the_same_model(data, fit):
    one, other, third = fit(data), fit(data), fit(data, seed=1)
    weights = (made.weights()["program"].values() for made in (one, other))
    same = [torch.equal(*pair) for pair in zip(*weights, strict=True)]
    assert all(same)
    assert one.memory.state_dict().keys() == third.memory.state_dict().keys()
    assert not torch.equal(next(one.program.parameters()), next(third.program.parameters()))


def test_fitting_lowers_the_bound(data, fit):
    losses = []
    fit(data, num_steps=120, progress=lambda step, loss: losses.append(loss))
    assert np.mean(losses[-10:]) < np.mean(losses[:10]) - 1


def test_controls_are_learned_from_and_needed(tmp_path, fit):
    control = np.random.default_rng(0).integers(0, 2, (4, 30, 1)).astype(float)
    values = control + 0.05 * np.random.default_rng(1).standard_normal((4, 30, 1))
    data = Series.of(values[:, :26], controls=control, control_names=["switch"])
    model = fit(data, num_steps=300, learning_rate=1e-2, window=26)
    made = model.forecast(data, 4, num_samples=50)
    expected = torch.as_tensor(control[:, 26:, 0].T)
    assert (made.mean[..., 0] - expected).abs().mean() < 0.25, "it follows what is known"
    with pytest.raises(ValueError, match="controls for 30 steps given, 31 needed"):
        model.forecast(data, 5)
    with pytest.raises(ValueError, match="the model was fitted with switch"):
        model.forecast(Series.of(values[:, :26]), 2)


def test_binary_frames_and_images(tmp_path, fit):
    flags = Series.of((np.random.default_rng(0).random((3, 12, 5)) < 0.5).astype(float))
    model = fit(flags)
    assert model.settings.likelihood == "bernoulli"
    drawn = model.forecast(flags, 3, num_samples=4).samples
    assert set(drawn.unique().tolist()) <= {0.0, 1.0}
    images = Series.of(np.random.default_rng(0).random((2, 6, 1, 8, 8)))
    model = fit(images, window=6)
    assert model.settings.network == "small_conv"
    made = model.forecast(images, 2, num_samples=3)
    assert made.samples.shape == (3, 2, 2, 1, 8, 8)
    assert len(made.rows()) == 2 * 2 * 64
    made.plot(tmp_path / "images.png")
    model.evaluate(images, 2, origins=1, num_samples=3).save(tmp_path / "scores.csv")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"memory": "tape"}, "memory must be one of"),
        ({"likelihood": "cauchy"}, "likelihood must be one of"),
        ({"likelihood": "bernoulli"}, "outside of what it allows"),
        ({"num_steps": 0}, "num_steps must be a positive integer"),
        ({"learning_rate": -1.0}, "learning_rate must be a positive number"),
        ({"drop": 2}, "drop must lie from 0 to 1"),
        ({"window": 1}, "window must be at least 2"),
        ({"prior": "mixture"}, "must be 'gaussian' for memory 'vrnn'"),
        ({"latent_dim": 10**9}, "layers that this machine's"),
        ({"memory_options": {"hidden_dim": 10**10}}, "a model that can be built here"),
        ({"colour": "red"}, "setting 'colour' given"),
    ],
)
def test_impossible_settings_are_refused(settings, words, data, fit):
    with pytest.raises(ValueError, match=words):
        fit(data, **{"num_steps": 1, **settings})


def test_impossible_questions_are_refused(model, data, waves):
    with pytest.raises(ValueError, match="horizon must be a positive integer"):
        model.forecast(data, 0)
    with pytest.raises(ValueError, match="origin must lie from 1"):
        model.forecast(data, 2, origin=31)
    with pytest.raises(ValueError, match="channels a, b, c given"):
        model.forecast(Series.of(waves(), channels=["a", "b", "c"]), 2)
    with pytest.raises(ValueError, match="channels channel 0 given, the model was fitted to"):
        model.impute(Series.of(np.zeros(5)))
    with pytest.raises(ValueError, match="no series is long enough"):
        model.evaluate(data, 25)
    with pytest.raises(ValueError, match="num_samples=100000 and horizon=1000000 given"):
        model.forecast(data, 10**6, num_samples=10**5)
    with pytest.raises(ValueError, match="num_series=1000000000 and num_steps=7 given"):
        model.generate(10**9, 7)
    with pytest.raises(ValueError, match="quantiles"):
        model.forecast(data, 2, num_samples=2).quantiles((0.5, 1.5))
    with pytest.raises(ValueError, match=r"must end in \.csv or \.parquet"):
        model.generate(1, 2).save("x.txt")


def test_a_channel_far_from_zero_keeps_its_digits(fit, waves):
    """A small change of a large number, such as a height above the centre of the earth."""
    small = Series.of(waves()[..., :1])
    far = Series.of(waves()[..., :1] + 1e9)
    one, other = (fit(d).forecast(d, 3, num_samples=5).mean for d in (small, far))
    assert torch.allclose(one, other - 1e9, atol=1e-3)


def test_a_gap_longer_than_the_window_is_gone_through_in_one_piece(fit):
    """Levels that stay: what was drawn before the boundary of two windows is known after it."""
    level = np.where(np.arange(40) % 2, 3.0, -3.0)[:, None, None] * np.ones((40, 60, 1))
    level += 0.05 * np.random.default_rng(0).standard_normal(level.shape)
    model = fit(Series.of(level), num_steps=250, window=16, learning_rate=1e-2, batch_size=16)
    values = level.copy()
    values[:, 10:50] = np.nan
    made = model.impute(Series.of(values), num_samples=10).samples  # (10, 60, 40, 1)
    error = (made[:, 10:50] - torch.as_tensor(level).movedim(0, 1)[10:50]).abs()
    assert error.median() < 1, "no sample falls back to the middle of all levels"


def test_what_is_asked_changes_no_model(data, fit):
    model = fit(
        Series.of(np.random.default_rng(0).random((3, 8, 1, 8, 8))), network="conv", window=6
    )
    images = Series.of(np.random.default_rng(1).random((3, 8, 1, 8, 8)))
    before = {name: one.clone() for name, one in model.program.state_dict().items()}
    model.forecast(images, 1, num_samples=2), model.surprise(images, num_samples=1)
    assert all(torch.equal(before[n], one) for n, one in model.program.state_dict().items())
    assert model.program.training


def test_controls_that_end_early_are_missed(fit):
    """Of one series alone."""
    values = [np.zeros((10, 1)), np.zeros((10, 1))]
    controls = [np.ones((14, 1)), np.ones((11, 1))]
    data = Series.of(values, controls=controls, ids=["long", "short"])
    model = fit(data, window=8)
    with pytest.raises(ValueError, match="the controls of 'short' end before horizon=3"):
        model.forecast(data, 3)
    assert model.forecast(data.select([0]), 3, num_samples=2).horizon == 3


def test_resuming_a_finished_fit_gives_the_weights_that_it_gave(fit, waves, tmp_path):
    data = Series.of(waves(25, 20))
    model = fit(data, num_steps=40, kl_annealing=0, folder=tmp_path, learning_rate=5e-2)
    again = resume(tmp_path, data)
    assert model.best_step == again.best_step
    for name, weight in model.program.state_dict().items():
        assert torch.equal(weight, again.program.state_dict()[name]), name


def test_a_likelihood_of_ones_own_says_whether_it_has_units(fit, data):
    from pyro_gtm.model.likelihoods import LIKELIHOODS, GaussianLikelihood

    class Plain(GaussianLikelihood):
        has_units = False

    LIKELIHOODS.classes |= {"plain": Plain, "in_units": type("Own", (GaussianLikelihood,), {})}
    try:
        assert fit(data, likelihood="in_units").scaling.scale[0] != 1
        assert set(fit(data, likelihood="plain").scaling.scale) == {1.0}
    finally:
        del LIKELIHOODS.classes["plain"], LIKELIHOODS.classes["in_units"]


def test_categories_are_told_by_their_shares(fit, tmp_path):
    values = np.random.default_rng(0).integers(0, 4, (8, 20, 2)).astype(float)
    values[0, 5:8, 1] = np.nan
    data = Series.of(values)
    model = fit(data, likelihood="categorical")
    forecast = model.forecast(data, 3, origin=15, num_samples=10)
    row = forecast.rows()[0]
    shares = [row[f"share_{k}"] for k in range(4)]
    assert sum(shares) == pytest.approx(1) and "mean" not in row and "q0.5" not in row
    assert shares[int(row["likeliest"])] == max(shares)
    assert set(forecast.mean.flatten().tolist()) <= {0.0, 1.0, 2.0, 3.0}
    filled = model.impute(data, num_samples=10).filled.values
    assert set(filled[5:8, 0, 1].tolist()) <= {0.0, 1.0, 2.0, 3.0}
    for made in (forecast, model.impute(data, num_samples=4), model.evaluate(data, 3)):
        made.plot(tmp_path / "figure.png")
        made.save(tmp_path / "table.csv")


def test_a_notebook_shows_a_figure(model, data):
    png = model.forecast(data, 3, num_samples=4).plot()._repr_png_()
    assert png.startswith(b"\x89PNG")


def test_two_days_of_hours_have_a_time_axis(fit, tmp_path):
    times = np.datetime64("2026-01-01T00", "s") + np.arange(80) * np.timedelta64(3600, "s")
    data = Series.of(np.sin(np.arange(80.0)), times=times)
    fit(data).forecast(data, 20, origin=50, num_samples=4).plot(tmp_path / "figure.png")


def test_a_fit_goes_on_with_the_series_it_began_with(fit, tmp_path, waves):
    data = Series.of(waves(), channels=CHANNELS)
    fit(data, folder=tmp_path, num_steps=2)
    with pytest.raises(ValueError, match="resume: other series given"):
        resume(tmp_path, Series.of(waves(seed=1), channels=CHANNELS), num_steps=3)
    assert resume(tmp_path, Series.of(waves(), channels=CHANNELS), num_steps=3).step == 3


def test_few_series_are_seen_in_windows_that_differ(fit, waves):
    one = Series.of(waves(1, 60)[0])
    assert fit(one, window=100).window == 36  # two thirds of what validation leaves
    many = Series.of(waves(25, 30))
    assert fit(many, window=100).window == 30


def test_counts_that_float32_would_round_are_refused(fit):
    with pytest.raises(ValueError, match="at most 16,777,216 is allowed"):
        fit(Series.of([1.0, 2.0, 2.0**24 + 1, 3.0]), likelihood="poisson")


def test_the_picture_of_gaps_shows_the_series_that_have_some(model, waves):
    values = waves(6, 30)
    values[4, 10:14, 0] = np.nan
    made = model.impute(Series.of(values, channels=CHANNELS), num_samples=4)
    titles = [axes.get_title() for axes in made.plot().axes]
    assert len(titles) == 3, "of the one series with gaps, a panel a channel"
