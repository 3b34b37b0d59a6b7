"""The two terms of the bound, frame by frame."""

from __future__ import annotations

import math

import pyro
import pytest
import torch
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO

import pyro_gtm as gtm

pytestmark = pytest.mark.usefixtures("float64")


def evaluated(pair, frames, controls=None):
    pyro.set_rng_seed(1)
    return gtm.evaluate(pair.filtering_guide(), frames, controls)


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
@pytest.mark.parametrize("control_dim", [0, 2])
def test_terms_sum_to_the_bound(
    memory_name, layout, likelihood, control_dim, make_model, make_frames
):
    pair = make_model(memory_name, likelihood, layout=layout, control_dim=control_dim)
    frames = make_frames(likelihood=likelihood)
    controls = torch.randn(5, 3, 2) if control_dim else None
    terms = evaluated(pair, frames, controls)
    pyro.set_rng_seed(1)
    loss = TraceMeanField_ELBO().loss(pair.model(), pair.filtering_guide(), frames, controls)
    assert terms.kl.shape == terms.reconstruction.shape == (5, 3)
    assert (terms.kl + terms.reconstruction).sum().item() == pytest.approx(loss, rel=1e-11)
    assert terms.negative_elbo.equal(terms.kl + terms.reconstruction)
    assert (terms.kl > 0).all()
    assert not terms.kl.requires_grad


def test_negative_elbo_is_the_training_loss_in_expectation(memory_name, make_model, make_frames):
    """Trace_ELBO has no analytic KL: with the same draws it differs by noise of mean zero.

    There are draws enough for that noise to be small against the KL of any frame, so that a term
    left out or counted twice would be seen.
    """
    pair, num_losses, copies = make_model(memory_name), 8, 700
    frames = make_frames(4, 1).expand(-1, copies, -1, -1, -1)
    differences, kls = torch.empty(num_losses), torch.empty(num_losses, 4)
    for i in range(num_losses):
        pyro.set_rng_seed(i)
        terms = gtm.evaluate(pair.filtering_guide(), frames)
        pyro.set_rng_seed(i)
        loss = Trace_ELBO().loss(pair.model(), pair.filtering_guide(), frames) / copies
        differences[i] = terms.negative_elbo.sum(0).mean() - loss
        kls[i] = terms.kl.mean(1)
    tolerance = 4 * differences.std().item() / math.sqrt(num_losses)
    assert 0 < abs(differences.mean().item()) < tolerance
    assert tolerance < 0.5 * kls.mean(0).min().item()


@pytest.mark.parametrize("writes", ["latent", "latent+frame"])
def test_layouts_agree(memory_name, writes, make_model, make_frames):
    pair, frames = make_model(memory_name, writes=writes), make_frames()
    one, two = (evaluated(pair.laid_out(name), frames) for name in ("stacked", "per_step"))
    torch.testing.assert_close(one.kl, two.kl, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(one.reconstruction, two.reconstruction, rtol=1e-10, atol=1e-12)


def test_each_term_belongs_to_its_frame(memory_name, layout, make_model, make_frames):
    """A change of frame 3 leaves the terms of frames 0 to 2 as they were."""
    pair, frames = make_model(memory_name, layout=layout), make_frames()
    other = frames.clone()
    other[3, 1] = 1 - other[3, 1]
    one, two = evaluated(pair, frames), evaluated(pair, other)
    for before, after in ((one.kl, two.kl), (one.reconstruction, two.reconstruction)):
        changed = (before - after).abs() > 1e-12
        assert not changed[:3].any() and not changed[:, [0, 2]].any()
        assert changed[3, 1]


KL = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 7.0]])
PREDICTABLE = torch.tensor([[False, False], [False, True], [True, True]])


def test_summary():
    reconstruction = torch.tensor([[10.0, 12.0], [9.0, 10.0], [8.0, 11.0]])
    summary = gtm.infer.Evaluation(KL, reconstruction).summary(PREDICTABLE)
    expected = {
        "negative_elbo_per_frame": 10 + 22 / 6,
        "negative_elbo_per_sequence": 30 + 11,
        "reconstruction_per_frame": 10,
        "reconstruction_by_frame": [11, 9.5, 9.5],
        "negative_elbo_by_frame": [12.5, 13.0, 15.5],
        "kl_per_frame": [1.5, 3.5, 6.0],
        "predictable_by_frame": [0.0, 0.5, 1.0],
        "recall_kl": 16 / 3,
        "last_frame_kl": 6,
    }
    assert summary.keys() == expected.keys()
    for name, value in expected.items():
        assert summary[name] == pytest.approx(value), name


def test_new_frame_kl_is_the_mean_over_new_frames():
    """In all, and of each class; a class that is never new has none."""
    labels = torch.tensor([[7, 2], [7, 0], [7, 9]])
    mean, by_class = gtm.infer.Evaluation(KL, torch.zeros(3, 2)).new_frame_kl(labels, ~PREDICTABLE)
    assert mean == pytest.approx((1 + 2 + 3) / 3)
    assert by_class == pytest.approx({2: 2.0, 7: (1 + 3) / 2})
    assert all(type(label) is int for label in by_class)


def test_particles_are_refused(make_model, make_frames, layout):
    """In a plate of particles there is no one term a frame."""
    pair, frames = make_model("vrnn", layout=layout), make_frames(4, 3)
    guide = pair.filtering_guide()
    in_plate = pyro.plate("particles", 2, dim=-2)(guide)
    in_plate.get_traces = guide.get_traces
    with pytest.raises(ValueError, match="evaluate: the program must have"):
        gtm.evaluate(in_plate, frames)


def test_nothing_predictable_is_no_number():
    evaluation = gtm.infer.Evaluation(torch.ones(3, 2), torch.ones(3, 2))
    assert evaluation.summary(torch.zeros(3, 2, dtype=torch.bool))["recall_kl"] is None


def test_nothing_new_is_no_number():
    evaluation = gtm.infer.Evaluation(torch.ones(3, 2), torch.ones(3, 2))
    labels, new = torch.zeros(3, 2, dtype=torch.int64), torch.zeros(3, 2, dtype=torch.bool)
    assert evaluation.new_frame_kl(labels, new) == (None, {})
