"""Importance-weighted bounds: the plain loop's numbers, and what they must be in expectation."""

from __future__ import annotations

import importlib.util
import math
from functools import partial
from pathlib import Path
from types import ModuleType

import pyro
import pytest
import torch
from pyro.distributions import Normal
from pyro.poutine.guide import GuideMessenger
from pyro.poutine.messenger import Messenger

import pyro_gtm as gtm
from pyro_gtm.infer.importance import importance_weighted_bound

pytestmark = pytest.mark.usefixtures("float64")

K = 6


def oracles(name: str) -> ModuleType:
    """A test file, which ``--import-mode=importlib`` leaves off the path."""
    path = Path(__file__).parents[1] / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"oracles_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


particles, kalman = oracles("infer/test_particles"), oracles("model/test_kalman")
T, B = particles.T, particles.B
system, frames = kalman.system, kalman.frames  # fixtures


class Keep(Messenger):
    """The latents of all particles by name, ``(K, ..., Z)``, and how many were drawn at once."""

    def __init__(self, layout):
        super().__init__()
        self.dim = 3 if layout == "stacked" else 2  # of one particle's latents
        self.kept, self.sizes = {}, []

    def _pyro_post_sample(self, msg):
        if msg["name"].startswith("z"):
            value = msg["value"] if msg["value"].dim() > self.dim else msg["value"].unsqueeze(0)
            self.kept.setdefault(msg["name"], []).append(value)
            self.sizes.append(len(value))

    def particles(self):
        return {name: torch.cat(values) for name, values in self.kept.items()}


@pytest.mark.parametrize("chunk", [None, 4])
def test_equals_a_plain_loop(memory_name, layout, chunk, make_model, make_frames):
    """Every particle alone, one step after the other; each sequence has its own mean."""
    pair, frames = make_model(memory_name, layout=layout), make_frames(T, B)
    with Keep(layout) as keep:
        bound = importance_weighted_bound(
            pair.filtering_guide(), frames, num_particles=K, chunk=chunk
        )
    weights = particles.log_weights(pair, layout, keep.particles(), frames)
    assert weights.shape == (K, B)
    assert bound.shape == (B,) and not bound.requires_grad
    expected = weights.logsumexp(0) - math.log(K)
    torch.testing.assert_close(bound, expected, rtol=1e-10, atol=0)
    assert max(keep.sizes) <= (chunk or K)


@pytest.mark.parametrize("posterior", ["residual", "direct"])
@pytest.mark.parametrize("writes", ["latent", "latent+frame"])
def test_layouts_agree(memory_name, posterior, writes, make_model, make_frames):
    pair = make_model(memory_name, "gaussian", control_dim=2, posterior=posterior, writes=writes)
    frames, controls, bounds = make_frames(T, B, "gaussian"), torch.randn(T, B, 2), []
    for layout in ("stacked", "per_step"):
        guide = pair.laid_out(layout).filtering_guide()
        pyro.set_rng_seed(3)
        bounds.append(importance_weighted_bound(guide, frames, controls, num_particles=K, chunk=2))
    torch.testing.assert_close(*bounds, rtol=1e-10, atol=0)


def test_weights_that_single_numbers_cannot_hold(make_model, make_frames):
    pair, frames = make_model("vrnn", "gaussian"), 100 * make_frames(T, B, "gaussian")
    with Keep("stacked") as keep:
        bound = importance_weighted_bound(pair.filtering_guide(), frames, num_particles=K)
    weights = particles.log_weights(pair, "stacked", keep.particles(), frames)
    assert (weights.exp() == 0).all()
    greatest = weights.amax(0)
    expected = greatest + (weights - greatest).exp().mean(0).log()
    torch.testing.assert_close(bound, expected, rtol=1e-10, atol=0)


def copies(frames, count):
    """The first sequence many times over: as many independent bounds of the same frames."""
    return frames[:, :1].expand(-1, count, *frames.shape[2:])


def standard_error(values):
    return values.std().item() / math.sqrt(len(values))


def test_one_particle_gives_the_evidence_lower_bound(memory_name, layout, make_model, make_frames):
    """The same draws with an analytic KL differ by noise that is small against any term."""
    pair, frames = make_model(memory_name, layout=layout), copies(make_frames(T, 1), 4000)
    guide = pair.filtering_guide()
    pyro.set_rng_seed(1)
    terms = gtm.evaluate(guide, frames)
    pyro.set_rng_seed(1)
    bound = importance_weighted_bound(guide, frames, num_particles=1)
    difference = bound + terms.negative_elbo.sum(0)
    tolerance = 4 * standard_error(difference)
    assert abs(difference.mean().item()) < tolerance
    assert tolerance < terms.kl.mean(1).min().item()


def test_more_particles_are_tighter(make_model, make_frames):
    pair, frames = make_model("introspective"), copies(make_frames(T, 1), 1000)
    guide = pair.filtering_guide()
    bounds = {
        count: importance_weighted_bound(guide, frames, num_particles=count)
        for count in (1, 4, 16, 64)
    }
    for fewer, more in ((1, 4), (4, 16), (16, 64)):
        margin = 4 * math.hypot(standard_error(bounds[fewer]), standard_error(bounds[more]))
        assert bounds[more].mean() > bounds[fewer].mean() + margin


def linear_guide(system, wrong):
    """A linear-Gaussian model with its exact posterior, or that of a system with another C."""
    program = partial(system.model, posterior_of=system._replace(C=wrong * system.C))
    return gtm.FilteringGuide(gtm.use_memory(kalman.LinearMemory(system.A))(program))


@pytest.mark.parametrize("count", [1, 7])
def test_exact_posterior_gives_the_evidence_of_each_sequence(system, frames, count):
    bound = importance_weighted_bound(linear_guide(system, 1.0), frames, num_particles=count)
    expected = kalman.log_evidence(system, frames)
    torch.testing.assert_close(bound, expected, rtol=1e-9, atol=0)


def test_another_posterior_stays_below_the_evidence_and_comes_near_it(system, frames, monkeypatch):
    evidence = kalman.log_evidence(system, frames)[0].item()
    monkeypatch.setattr(kalman, "B", 1000)
    guide, frames = linear_guide(system, 1.4), copies(frames, 1000)
    gaps, errors = {}, {}
    for count in (1, 4, 16, 64):
        gap = evidence - importance_weighted_bound(guide, frames, num_particles=count)
        gaps[count], errors[count] = gap.mean().item(), standard_error(gap)
    for fewer, more in ((1, 4), (4, 16), (16, 64)):
        assert gaps[more] < gaps[fewer] - 4 * math.hypot(errors[more], errors[fewer])
    assert 4 * errors[64] < gaps[64] < 0.1 * gaps[1]
    # The mean weight itself is p(x) without bias, whatever the number of particles.
    assert (-gap).exp().mean().item() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("name", ["num_particles", "chunk"])
@pytest.mark.parametrize("given", [0, -1, True, 2.5], ids=repr)
def test_no_count_is_refused(name, given, make_model, make_frames):
    guide, counts = make_model("vrnn").filtering_guide(), {"num_particles": 2, name: given}
    with pytest.raises(
        ValueError, match=f"importance_weighted_bound: {name} must be a positive integer"
    ):
        importance_weighted_bound(guide, make_frames(T, B), **counts)


class Prior(GuideMessenger):
    """A guide that leaves every site as it is."""

    def get_posterior(self, name, prior):
        return prior


def test_a_latent_that_sequences_share_is_refused():
    """It has no part in the evidence of any one sequence."""

    def model(frames):
        mean = pyro.sample("mean", Normal(0.0, 1.0))
        with pyro.plate("sequences", frames.shape[1]):
            pyro.sample("x", Normal(mean, 1.0), obs=frames[0])

    with pytest.raises(ValueError, match=r"plate of the 3 sequences at dim -1, and site 'mean'"):
        importance_weighted_bound(Prior(model), torch.zeros(1, 3), num_particles=2)


def test_a_program_of_ones_own_with_deeper_plates():
    """Dimensions between the sequences and the particles belong to a sequence's weight."""

    def model(frames):
        with pyro.plate("sequences", 2), pyro.plate("a", 3), pyro.plate("b", 4):
            pyro.sample("z", Normal(0.0, 1.0))  # plays no part in x
            pyro.sample("x", Normal(0.0, 1.0), obs=frames.transpose(1, 2))

    frames = torch.randn(4, 2, 3)
    bound = importance_weighted_bound(Prior(model), frames, num_particles=5)
    torch.testing.assert_close(bound, Normal(0.0, 1.0).log_prob(frames).sum((0, 2)))
