"""Likelihoods against closed forms and SciPy, in nats a frame."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from scipy import stats
from torch.nn import functional as F

import pyro_gtm as gtm
from pyro_gtm.infer import FusedAdam, training_steps
from pyro_gtm.model.gaps import PartialFramesLikelihood
from pyro_gtm.model.likelihoods import LIKELIHOODS, Likelihood, point_estimate
from pyro_gtm.model.networks import MLPDecoder, MLPEncoder, make_networks

SHAPES = [(1, 5, 5), (3, 4, 6), (7,)]
K = 5

OPTIONS = {"categorical": {"num_categories": K}}
"""Of families whose defaults would leave something untested."""

COUNTS = ("poisson", "negative_binomial")


@pytest.fixture(params=LIKELIHOODS.names())
def name(request):
    return request.param


@pytest.fixture
def family(name):
    return LIKELIHOODS.find(name)


def make(name, event):
    return LIKELIHOODS.make(name, event, **OPTIONS.get(name, {}))


@pytest.mark.parametrize("event", SHAPES, ids=str)
@pytest.mark.parametrize("batch", [(), (2,), (4, 2, 3)], ids=str)
def test_a_frame_is_one_event(name, event, batch):
    likelihood = make(name, event)
    parameters = torch.randn(*batch, *likelihood.parameter_shape)
    frames = likelihood(parameters)
    assert (tuple(frames.batch_shape), tuple(frames.event_shape)) == (batch, event)
    assert frames.sample().shape == (*batch, *event)
    assert frames.sample().dtype == parameters.dtype
    assert frames.log_prob(frames.sample()).shape == batch


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("event", SHAPES, ids=str)
def test_bernoulli_is_binary_cross_entropy(event):
    logits, frames = 3 * torch.randn(4, *event), torch.rand(4, *event).round()
    log_prob = gtm.BernoulliLikelihood(event)(logits).log_prob(frames)
    expected = -F.binary_cross_entropy_with_logits(logits, frames, reduction="none")
    torch.testing.assert_close(log_prob, expected.flatten(1).sum(-1))


def test_bernoulli_mean_is_the_probability_of_a_one():
    logits = torch.randn(2, 1, 5, 5)
    torch.testing.assert_close(gtm.BernoulliLikelihood((1, 5, 5))(logits).mean, logits.sigmoid())


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("event", SHAPES, ids=str)
def test_gaussian_is_the_gaussian_density(event):
    """Means first, then raw scales, along the first dimension of a frame."""
    low, high = 0.1, 2.0
    means, raw, frames = torch.randn(3, 4, *event)
    distribution = gtm.GaussianLikelihood(event, min_scale=low, max_scale=high)(
        torch.cat([means, raw], 1)
    )
    scales = torch.exp(math.log(low) + raw.sigmoid() * (math.log(high) - math.log(low)))
    density = torch.exp(-((frames - means) ** 2) / (2 * scales**2)) / (
        scales * math.sqrt(2 * math.pi)
    )
    torch.testing.assert_close(distribution.log_prob(frames), density.log().flatten(1).sum(-1))
    torch.testing.assert_close(distribution.mean, means)


@pytest.mark.parametrize("raw, expected", [(-1e6, 0.05), (1e6, 1.0), (0.0, math.sqrt(0.05))])
def test_gaussian_scale_is_bounded(raw, expected):
    parameters = torch.cat([torch.zeros(1, 3, 3), torch.full((1, 3, 3), raw)])
    parameters.requires_grad_()
    frames = gtm.GaussianLikelihood((1, 3, 3))(parameters)
    torch.testing.assert_close(frames.stddev, torch.full((1, 3, 3), expected))
    frames.log_prob(torch.ones(1, 3, 3)).backward()
    assert parameters.grad.isfinite().all()


def logistic(numbers):
    return 1 / (1 + np.exp(-numbers))


def bounded(numbers, most):
    """A logarithm kept between -log(most) and log(most)."""
    return math.log(most) * np.tanh(numbers / math.log(most))


def student_t(outputs):
    location, raw_scale, raw_df = outputs
    scale = 0.05 * 20 ** logistic(raw_scale)
    return stats.t(2 + 0.1 * 1000 ** logistic(raw_df), location, scale)


def poisson(outputs):
    return stats.poisson(np.exp(bounded(outputs[0], 1e6)))


def negative_binomial(outputs):
    mean, total = np.exp(bounded(outputs[0], 1e6)), np.exp(bounded(outputs[1], 1e3))
    return stats.nbinom(total, total / (total + mean))


SCIPY = {
    "student_t": (student_t, 3),
    "poisson": (poisson, 1),
    "negative_binomial": (negative_binomial, 2),
}


@pytest.fixture(params=SCIPY)
def oracle(request):
    """A name, its distribution in SciPy, and how many numbers an element takes."""
    return request.param, *SCIPY[request.param]


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("event", SHAPES, ids=str)
def test_density_is_scipys(event, oracle):
    """Each number of an element is a block along the first dimension of the decoder's output."""
    name, scipys, count = oracle
    outputs = 2 * torch.randn(count, 6, *event)  # each of its numbers, of six frames
    frames = 4 * torch.randn(6, *event)
    if name in COUNTS:
        frames = frames.exp().floor()
    log_prob = LIKELIHOODS.make(name, event)(torch.cat(list(outputs), 1)).log_prob(frames)
    there = scipys(outputs.numpy())
    density = there.logpmf if name in COUNTS else there.logpdf
    expected = torch.from_numpy(density(frames.numpy())).flatten(1).sum(-1)
    torch.testing.assert_close(log_prob, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.usefixtures("float64")
def test_moments_are_scipys(oracle):
    name, scipys, count = oracle
    outputs = 2 * torch.randn(count, 6, 7)
    frames = LIKELIHOODS.make(name, (7,))(torch.cat(list(outputs), 1))
    there = scipys(outputs.numpy())
    for found, expected in ((frames.mean, there.mean()), (frames.variance, there.var())):
        torch.testing.assert_close(found, torch.from_numpy(expected), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(point_estimate(frames), frames.mean)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("event", SHAPES, ids=str)
def test_a_mixture_is_the_sum_of_its_components(event):
    """Logits, means and raw scales, of component 0 for the whole frame first."""
    logits, means, raw = torch.randn(3, 4, 2, *event)
    frames = torch.randn(4, *event)
    likelihood = gtm.GaussianMixtureLikelihood(event, components=2, min_scale=0.1, max_scale=2.0)
    found = likelihood(torch.cat([part.flatten(1, 2) for part in (logits, means, raw)], 1))
    weights, density = logits.softmax(1), torch.zeros_like(frames)
    mean = torch.zeros_like(frames)
    for k, place in enumerate((-1.0, 1.0)):
        scale = 0.1 * 20 ** raw[:, k].sigmoid()
        centered = (frames - means[:, k] - place) / scale
        density += weights[:, k] * (-(centered**2) / 2).exp() / (scale * math.sqrt(2 * math.pi))
        mean += weights[:, k] * (means[:, k] + place)
    torch.testing.assert_close(found.log_prob(frames), density.log().flatten(1).sum(-1))
    torch.testing.assert_close(point_estimate(found), mean)


def test_the_mode_of_a_mixture_is_its_highest_place():
    """Of two places far apart, the one with the greater share of its width."""
    likelihood = gtm.GaussianMixtureLikelihood((1,), components=2, max_scale=2.0)
    outputs = torch.tensor([0.0, 1.0, -10.0, 10.0, 0.0, 0.0])  # logits, means, scales
    assert likelihood(outputs).mode.item() == pytest.approx(11.0)
    outputs[:2] = outputs[:2].flip(0)
    assert likelihood(outputs).mode.item() == pytest.approx(-11.0)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("event", SHAPES, ids=str)
def test_categories_are_a_softmax(event):
    """Logits of category 0 for the whole frame first; the mode is the likeliest of each element."""
    logits = torch.randn(4, K, *event)
    frames = torch.randint(K, (4, *event))
    found = gtm.CategoricalLikelihood(event, num_categories=K)(logits.flatten(1, 2))
    expected = -F.cross_entropy(logits, frames, reduction="none").flatten(1).sum(-1)
    torch.testing.assert_close(found.log_prob(frames.double()), expected)
    assert point_estimate(found).equal(logits.argmax(1).double())


@pytest.mark.usefixtures("float64")
def test_probabilities_of_all_frames_sum_to_one():
    likelihood = gtm.CategoricalLikelihood((2,), num_categories=3)
    frames = torch.tensor(list(itertools.product(range(3), repeat=2))).double()
    distribution = likelihood(torch.randn(6).expand(9, 6))
    torch.testing.assert_close(distribution.log_prob(frames).exp().sum().item(), 1.0)


def test_counts_have_the_likeliest_for_their_mode():
    counts = torch.arange(200.0).unsqueeze(-1)
    for name, outputs in (("poisson", [2.2]), ("negative_binomial", [3.0, 1.5])):
        frames = LIKELIHOODS.make(name, (1,))(torch.tensor(outputs))
        assert frames.mode.item() == frames.log_prob(counts).argmax().item()


@pytest.mark.parametrize(
    "name, ends",
    [
        ("student_t", (0.05, 1.0)),
        ("poisson", (1e-6, 1e6)),
        ("negative_binomial", (1e-6, 1e6)),
    ],
)
def test_parameters_are_bounded(name, ends):
    """Scales, rates and means; options move the bounds."""
    likelihood = LIKELIHOODS.make(name, (2,))
    for raw, expected in zip((-1e4, 1e4), ends, strict=True):
        elements = likelihood(torch.full(likelihood.parameter_shape, raw)).base_dist
        found = elements.scale if name == "student_t" else elements.mean
        torch.testing.assert_close(found, torch.full((2,), expected), rtol=1e-3, atol=0)
        assert elements.variance.isfinite().all()


def test_degrees_of_freedom_are_above_two():
    for raw, expected in ((-1e4, 2.1), (0.0, 2 + math.sqrt(10)), (1e4, 102.0)):
        elements = gtm.StudentTLikelihood((1,))(torch.tensor([0.0, 0.0, raw])).base_dist
        assert elements.df.item() == pytest.approx(expected)


def test_bounds_can_be_chosen_from_the_registry():
    wide = {"min_scale": 0.5, "max_scale": 30.0}
    for name, output in (("gaussian", [0.0, 1e4]), ("student_t", [0.0, 1e4, 0.0])):
        elements = LIKELIHOODS.make(name, (1,), **wide)(torch.tensor(output)).base_dist
        assert elements.scale.item() == pytest.approx(30.0)
    rate = LIKELIHOODS.make("poisson", (1,), max_rate=50.0)(torch.tensor([1e4])).mean
    assert rate.item() == pytest.approx(50.0)
    mean = LIKELIHOODS.make("negative_binomial", (1,), max_mean=50.0)(torch.tensor([1e4, 0.0])).mean
    assert mean.item() == pytest.approx(50.0, rel=1e-4)


@pytest.mark.parametrize("extreme", [-1e4, 1e4])
def test_extreme_outputs_have_finite_densities_and_gradients(name, extreme):
    """In float32, of the frame least expected too."""
    likelihood = make(name, (2,))
    parameters = torch.full(likelihood.parameter_shape, extreme)
    parameters[::2] *= -1  # also against each other
    parameters.requires_grad_()
    values = {"bernoulli": (0.0, 1.0), "categorical": (0.0, K - 1.0)}.get(name, (0.0, 1e4))
    distribution = likelihood(parameters)
    for value in values:
        log_prob = distribution.log_prob(torch.full((2,), value))
        (gradient,) = torch.autograd.grad(log_prob, parameters, retain_graph=True)
        assert log_prob.isfinite() and gradient.isfinite().all()
    assert distribution.sample((100,)).isfinite().all()


def test_extreme_logits_are_finite():
    logits = torch.tensor([-1e4, 1e4]).requires_grad_()
    log_prob = gtm.BernoulliLikelihood((2,))(logits).log_prob(torch.tensor([0.0, 0.0]))
    assert log_prob.item() == -1e4
    log_prob.backward()
    torch.testing.assert_close(logits.grad, torch.tensor([0.0, -1.0]))


@pytest.mark.usefixtures("float64")
def test_gradients_are_those_of_finite_differences(name):
    likelihood = make(name, (3,))
    frames = likelihood(torch.zeros(likelihood.parameter_shape)).sample()
    parameters = torch.randn(likelihood.parameter_shape, requires_grad=True)
    assert torch.autograd.gradcheck(lambda p: likelihood(p).log_prob(frames), parameters)


@pytest.mark.usefixtures("float64")
def test_samples_are_of_the_support_and_have_the_mean(name):
    """Within five standard errors of 40,000 draws; of categories their frequencies."""
    likelihood = make(name, (3,))
    distribution = likelihood(torch.randn(likelihood.parameter_shape))
    samples = distribution.sample((40_000,))
    assert likelihood.support.check(samples).all()
    if name == "categorical":
        one_hot = F.one_hot(samples.long(), K).double()
        probabilities = distribution.base_dist.probs
        error = (probabilities * (1 - probabilities) / len(samples)).sqrt()
        assert ((one_hot.mean(0) - probabilities).abs() < 5 * error).all()
    else:
        error = (distribution.variance / len(samples)).sqrt()
        assert ((samples.mean(0) - distribution.mean).abs() < 5 * error).all()


def test_the_placeholder_is_in_the_support(name):
    likelihood = make(name, (2, 3))
    frame = torch.zeros(2, 3) + torch.as_tensor(likelihood.placeholder)
    assert likelihood.support.check(frame).all()


@pytest.mark.parametrize("event", SHAPES, ids=str)
def test_features_have_their_shape(name, event):
    likelihood = make(name, event)
    frames = likelihood(torch.zeros(2, 4, *likelihood.parameter_shape)).sample()
    features = likelihood.features(frames)
    assert features.shape == (2, 4, *likelihood.feature_shape)
    assert features.dtype == frames.dtype


def test_features_are_the_frames_unless_said_otherwise():
    frames = torch.randn(2, 3)
    for name in ("bernoulli", "gaussian", "student_t"):
        assert LIKELIHOODS.make(name, (3,)).features(frames) is frames


def test_counts_are_seen_by_their_logarithm():
    frames = torch.tensor([0.0, 1.0, 99.0])
    for name in COUNTS:
        features = LIKELIHOODS.make(name, (3,)).features(frames)
        torch.testing.assert_close(features.exp(), torch.tensor([1.0, 2.0, 100.0]))


def test_categories_are_seen_one_hot():
    """Category 0 of the whole frame first, as the logits are."""
    frames = torch.tensor([[0.0, 2.0], [1.0, 1.0]])
    features = gtm.CategoricalLikelihood((2,), num_categories=3).features(frames)
    assert features.tolist() == [[1, 0, 0, 0, 0, 1], [0, 0, 1, 1, 0, 0]]
    image = torch.randint(K, (4, 2, 3, 3)).float()
    features = gtm.CategoricalLikelihood((2, 3, 3), num_categories=K).features(image)
    assert features.unflatten(1, (K, 2)).argmax(1).equal(image.long())
    assert features.sum(1).eq(2).all()


def model_of(likelihood, memory="vrnn", layout="stacked", writes="latent+frame", **options):
    """A small model of frames of one dimension: the program, and its memory."""
    written = gtm.GenerativeTemporalModel.written_dim(4, 8, writes)
    memory = gtm.make_memory(memory, latent_dim=written, hidden_dim=16, **options)
    encoder, decoder = make_networks(
        "mlp", likelihood, hidden_dim=8, decoder_input_dim=4 + memory.context_dim
    )
    program = gtm.GenerativeTemporalModel(
        context_dim=memory.context_dim,
        latent_dim=4,
        encoder=encoder,
        decoder=decoder,
        likelihood=likelihood,
        writes=writes,
        layout=layout,
    )
    return program, memory


def frames_of(likelihood, steps=6, count=3):
    """Frames inside the support, ``(T, B, *event)``."""
    return likelihood(torch.zeros(steps, count, *likelihood.parameter_shape)).sample()


@pytest.mark.usefixtures("float64")
def test_layouts_agree_with_gaps(name, feed):
    """What stands in the gap does not matter, nor in which layout."""
    likelihood = make(name, (2,))
    program, memory = model_of(likelihood)
    frames, latents, mask = frames_of(likelihood), torch.randn(6, 3, 4), torch.rand(6, 3) < 0.7
    losses = []
    for layout, garbage in (("stacked", torch.nan), ("per_step", -7.5)):
        guide = gtm.FilteringGuide(gtm.use_memory(memory)(program.with_layout(layout).model))
        sites = (
            {"z": latents.movedim(0, 1)}
            if layout == "stacked"
            else {f"z_{t}": latent for t, latent in enumerate(latents)}
        )
        with feed(sites):
            holed = frames.masked_fill(~mask.unsqueeze(-1), garbage)
            losses.append(Trace_ELBO().differentiable_loss(guide.model, guide, holed, mask=mask))
    torch.testing.assert_close(*losses, rtol=1e-10, atol=0)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("event", SHAPES, ids=str)
def test_elements_may_be_missing(name, event):
    """The density is that of the elements there are, and the encoder is told which they are."""
    likelihood = make(name, event)
    partial = PartialFramesLikelihood(likelihood)
    distribution = likelihood(torch.randn(4, *likelihood.parameter_shape))
    frames, there = distribution.sample(), torch.rand(4, *event) < 0.6
    joined = partial.join(frames.masked_fill(~there, torch.nan))
    parameters = torch.randn(4, *likelihood.parameter_shape)
    found = partial(parameters).log_prob(joined)
    elements = likelihood(parameters).base_dist.log_prob(frames)
    torch.testing.assert_close(found, (elements * there).flatten(1).sum(-1))
    features = partial.features(joined)
    assert features.shape == (4, *partial.feature_shape)
    first = likelihood.feature_shape[0]
    assert features[:, first:].equal(there.double())
    whole = partial.features(partial.join(frames))[:, :first]
    assert whole.equal(likelihood.features(frames))


@pytest.mark.parametrize("writes", ["latent", "latent+frame"])
def test_frames_are_reconstructed_and_continued(name, writes, layout):
    likelihood = make(name, (2,))
    program, memory = model_of(likelihood, writes=writes, layout=layout)
    frames = frames_of(likelihood)
    assert gtm.reconstruct(program, memory, frames).shape == frames.shape
    for sample in (False, True):
        output = gtm.continue_frames(program, memory, frames[:2], num_steps=6, sample=sample)
        assert output.shape == frames.shape and output.dtype == frames.dtype
        assert output[:2].equal(frames[:2])
        assert output.isfinite().all()
    assert likelihood.support.check(output).all()
    dreamt = gtm.use_memory(memory)(program.with_layout("per_step").model)(
        num_steps=3, batch_size=2
    )
    assert likelihood.support.check(dreamt).all()


def test_a_short_training_lowers_the_bound(name):
    """Sequences that stay near one of two frames: what is seen first tells the rest."""
    likelihood = make(name, (2,))
    low, high = {"bernoulli": (0, 1), "categorical": (1, 4), "poisson": (1, 9)}.get(name, (0, 5))
    starts = torch.tensor([low, high])[torch.randint(2, (16, 1))]
    frames = starts.float().expand(8, 16, 2)
    program, memory = model_of(likelihood)
    guide = gtm.FilteringGuide(gtm.use_memory(memory)(program.model))
    before = gtm.evaluate(guide, frames).negative_elbo.mean()
    svi = SVI(guide.model, guide, FusedAdam(lr=1e-2, clip_norm=10.0), Trace_ELBO())
    for _ in training_steps(svi, lambda: (frames, None), num_steps=80):
        pass
    after = gtm.evaluate(guide, frames).negative_elbo.mean()
    assert after < before - 0.5


class Indices(Likelihood):
    """Of a project of one's own, with Pyro's integers and no features."""

    @property
    def parameter_shape(self):
        return (*self.event_shape, K)

    def __call__(self, parameters):
        return dist.Categorical(logits=parameters).to_event(1)


def test_a_likelihood_without_features_has_an_encoder_of_frames():
    """Integers that it draws are encoded too."""
    likelihood = Indices((2,))
    assert likelihood.feature_shape == (2,)
    program, memory = model_of(likelihood)
    frames = torch.randint(K, (3, 4, 2))
    output = gtm.continue_frames(program, memory, frames, num_steps=5, sample=True)
    assert output[:3].equal(frames.float())


def test_an_encoder_for_other_frames_is_refused():
    likelihood = gtm.CategoricalLikelihood((2,), num_categories=K)
    parts = {"context_dim": 3, "latent_dim": 4, "likelihood": likelihood}
    decoder = MLPDecoder(7, 6, likelihood.parameter_shape)
    with pytest.raises(ValueError, match=r"encoder for frames of shape \(2,\).*shape \(10,\)"):
        gtm.GenerativeTemporalModel(encoder=MLPEncoder((2,), 6, 5), decoder=decoder, **parts)
    gtm.GenerativeTemporalModel(encoder=MLPEncoder((10,), 6, 5), decoder=decoder, **parts)


@pytest.mark.parametrize("network", ["conv", "small_conv"])
def test_convolutions_fit_every_likelihood(name, network):
    likelihood = make(name, (2, 8, 8))
    encoder, decoder = make_networks(network, likelihood, hidden_dim=8, decoder_input_dim=5)
    frames = likelihood(decoder(torch.randn(3, 5))).sample()
    assert encoder(likelihood.features(frames)).shape == (3, 8)


@pytest.mark.parametrize(
    "name, bad, sentence",
    [
        (
            "poisson",
            1.5,
            r"1\.5 among them, and PoissonLikelihood allows .* in \{0, 1, 2, \.\.\.\}",
        ),
        ("negative_binomial", -1.0, r"-1 among them, and .* in \{0, 1, 2, \.\.\.\}"),
        ("categorical", 5.0, r"5 among them, and .* finite values in \{0, 1, \.\.\., 4\}"),
        ("student_t", math.inf, r"StudentTLikelihood allows finite values in the real numbers"),
    ],
)
def test_frames_outside_the_support_are_named(name, bad, sentence):
    likelihood = make(name, (2,))
    program, memory = model_of(likelihood)
    frames = torch.zeros(3, 4, 2)
    frames[1, 2, 0] = bad
    with pytest.raises(gtm.model.InvalidFramesError, match=sentence):
        gtm.use_memory(memory)(program.model)(frames)


@pytest.mark.parametrize(
    "count, words", [(2, "{0, 1}"), (3, "{0, 1, 2}"), (4, "{0, 1, 2, 3}"), (9, "{0, 1, ..., 8}")]
)
def test_categories_are_listed(count, words):
    likelihood = gtm.CategoricalLikelihood((1,), num_categories=count)
    program, memory = model_of(likelihood)
    with pytest.raises(gtm.model.InvalidFramesError) as caught:
        gtm.use_memory(memory)(program.model)(torch.full((2, 1, 1), -1.0))
    assert str(caught.value).endswith(f"CategoricalLikelihood allows finite values in {words}")


@pytest.mark.parametrize(
    "event, sentence",
    [
        ((), "event_shape must have at least one size"),
        ((0,), "event_shape must be a positive integer, got 0"),
        ((1, -2), "event_shape must be a positive integer, got -2"),
    ],
    ids=str,
)
def test_impossible_event_shape_is_named(family, event, sentence):
    with pytest.raises(ValueError, match=f"^{family.__name__}: {sentence}$"):
        family(event)


@pytest.mark.parametrize("family", [gtm.GaussianLikelihood, gtm.StudentTLikelihood])
@pytest.mark.parametrize("low, high", [(0.0, 1.0), (-1.0, 1.0), (1.0, 1.0), (2.0, 1.0)])
def test_impossible_scales_are_named(family, low, high):
    with pytest.raises(ValueError, match=f"^{family.__name__}: .*0 < min_scale < max_scale"):
        family((2,), min_scale=low, max_scale=high)


@pytest.mark.parametrize(
    "name, option, given, allowed",
    [
        ("poisson", "max_rate", 1.0, "a finite number above 1"),
        ("negative_binomial", "max_mean", math.inf, "a finite number above 1"),
        ("categorical", "num_categories", 1, "at least 2"),
        ("categorical", "num_categories", 2.5, "a positive integer"),
    ],
)
def test_impossible_options_are_named(name, option, given, allowed):
    with pytest.raises(ValueError, match=f": {option} must be {allowed}, got {given}$"):
        LIKELIHOODS.make(name, (2,), **{option: given})


def test_a_size_is_no_shape():
    with pytest.raises(TypeError, match="event_shape must be a tuple of sizes, got 28"):
        gtm.BernoulliLikelihood(28)
