"""The mixture prior: its density, its bound, and its program in both layouts."""

from __future__ import annotations

import math
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import RenyiELBO, Trace_ELBO, TraceMeanField_ELBO
from torch import Tensor, nn
from torch.distributions import kl_divergence

import pyro_gtm as gtm
from pyro_gtm.memory import NEVER
from pyro_gtm.model.mixture import PartlyObserved, mix_heads

pytestmark = pytest.mark.usefixtures("float64")

T, B, Z, K, R = 5, 3, 3, 4, 2
RECALLING = ("associative", "introspective", "ntm", "lru", "dnc")


def make_prior(*batch: int) -> gtm.MixturePrior:
    return gtm.MixturePrior(
        (torch.randn(*batch, Z), torch.rand(*batch, Z) + 0.5),
        (torch.randn(*batch, K, Z), torch.rand(*batch, K, Z) + 0.5),
        torch.randn(*batch, K + 1).log_softmax(-1),
    )


def components_of(prior: gtm.MixturePrior, b: int) -> list[Any]:
    slots = zip(prior.components[0][b], prior.components[1][b], strict=True)
    return [dist.Normal(*p).to_event(1) for p in [*slots, (prior.new[0][b], prior.new[1][b])]]


def test_density_is_a_plain_loop():
    prior, value = make_prior(B), torch.randn(B, Z)
    for b in range(B):
        total = sum(
            math.exp(prior.log_weights[b, a].item()) * fn.log_prob(value[b]).exp().item()
            for a, fn in enumerate(components_of(prior, b))
        )
        assert prior.log_prob(value)[b].item() == pytest.approx(math.log(total), abs=1e-10)


def test_density_integrates_to_one():
    prior = gtm.MixturePrior(
        (torch.zeros(1), torch.ones(1)),
        (torch.tensor([[-2.0], [3.0]]), torch.tensor([[0.3], [0.5]])),
        torch.tensor([0.2, 0.5, 0.3]).log(),
    )
    grid = torch.linspace(-12, 12, 24_001)
    total = torch.trapezoid(prior.log_prob(grid.unsqueeze(-1)).exp(), grid)
    assert total.item() == pytest.approx(1, abs=1e-8)


def test_blocks_change_nothing(monkeypatch):
    prior, value = make_prior(6, B), torch.randn(6, B, Z, requires_grad=True)
    whole = prior.log_prob(value)
    (gradient,) = torch.autograd.grad(whole.sum(), value)
    monkeypatch.setattr("pyro_gtm.model.mixture.NUMBERS_AT_ONCE", 2 * B * K * Z)
    blocks = prior.log_prob(value)
    torch.testing.assert_close(blocks, whole, rtol=1e-12, atol=1e-12)
    (other,) = torch.autograd.grad(blocks.sum(), value)
    torch.testing.assert_close(other, gradient, rtol=1e-12, atol=1e-12)


def test_bound_lies_above_the_kl():
    prior = make_prior(B)
    posterior = dist.Normal(torch.randn(B, Z), torch.rand(B, Z) + 0.2).to_event(1)
    draws = posterior.sample((200_000,))
    gap = posterior.log_prob(draws) - prior.log_prob(draws)
    kl, error = gap.mean(0), gap.std(0) / len(draws) ** 0.5
    assert (kl_divergence(posterior, prior) > kl - 3 * error).all()


def test_bound_is_log_of_the_number_of_far_components():
    """One of K equally likely far components costs log K nats to name."""
    locations = 1e3 * torch.arange(8.0).unsqueeze(-1).expand(8, Z)
    prior = gtm.MixturePrior(
        (-1e3 * torch.ones(Z), torch.ones(Z)),
        (locations, torch.ones(8, Z)),
        torch.cat([torch.zeros(8), torch.tensor([-1e9])]).log_softmax(-1),
    )
    posterior = dist.Normal(locations[3], torch.ones(Z)).to_event(1)
    assert kl_divergence(posterior, prior).item() == pytest.approx(math.log(8), abs=1e-10)
    exact = posterior.log_prob(locations[3]) - prior.log_prob(locations[3])
    assert exact.item() == pytest.approx(math.log(8), abs=1e-10)


def test_bound_is_exact_for_one_component():
    location, scale = torch.randn(Z), torch.rand(Z) + 0.5
    nothing = torch.zeros(0, Z)
    prior = gtm.MixturePrior((location, scale), (nothing, nothing), torch.zeros(1))
    posterior = dist.Normal(torch.randn(Z), torch.rand(Z) + 0.5).to_event(1)
    wanted = kl_divergence(posterior, dist.Normal(location, scale).to_event(1))
    torch.testing.assert_close(kl_divergence(posterior, prior), wanted, rtol=1e-10, atol=1e-10)


def test_draws_have_its_moments():
    prior = make_prior(B)
    draws = prior.sample((100_000,))
    weights = prior.log_weights.exp().unsqueeze(-1)
    locations = torch.cat([prior.components[0], prior.new[0].unsqueeze(-2)], dim=-2)
    mean = (weights * locations).sum(-2)
    error = draws.std(0) / len(draws) ** 0.5
    assert ((draws.mean(0) - mean).abs() < 5 * error).all()


def test_weights_are_a_distribution_and_the_unknown_is_new():
    shares = torch.full((B, R, K), NEVER)
    shares[:, 0, 1], shares[:, 0, 2] = math.log(0.25), math.log(0.25)  # half of it is known
    weights = mix_heads(shares, torch.tensor([0.5, 0.3, 0.2]).log().expand(B, -1)).exp()
    wanted = torch.tensor([0, 0.125, 0.125, 0, 0.75]).expand(B, -1)
    torch.testing.assert_close(weights, wanted, rtol=1e-10, atol=1e-12)


def test_gates_must_fit():
    with pytest.raises(ValueError, match=r"gate_logits of size 2 given, 3 needed"):
        mix_heads(torch.zeros(B, R, K), torch.zeros(B, 2))


@pytest.mark.thinned(3)
@pytest.mark.parametrize("name", RECALLING)
@pytest.mark.parametrize("posterior", ["residual", "direct", "frame"])
@pytest.mark.parametrize("writes", ["latent", "mean", "latent+frame"])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("bound", [Trace_ELBO, TraceMeanField_ELBO])
def test_layouts_agree(
    name, posterior, writes, masked, bound, make_model, make_frames, assert_same_gradients, feed
):
    """More frames than slots among them."""
    pair = make_model(name, prior="mixture", posterior=posterior, writes=writes, control_dim=2)
    frames, controls, steps = make_frames(7, B), torch.randn(7, B, 2), torch.randn(7, B, Z)
    mask = torch.rand(7, B) < 0.7 if masked else None
    results = []
    for layout in ("stacked", "per_step"):
        values = {"z": steps.movedim(0, 1)} | {f"z_{t}": z for t, z in enumerate(steps)}
        laid = pair.laid_out(layout)
        guides = [laid.filtering_guide()]
        if bound is Trace_ELBO:  # an ordinary guide would draw latents of its own for a KL
            guides.append(laid.ordinary_guide())
        for guide in guides:
            with feed(values):
                loss = bound().differentiable_loss(laid.model(), guide, frames, controls, mask=mask)
            results.append((loss, pair.gradients(loss)))
    for loss, gradients in results[1:]:
        torch.testing.assert_close(loss, results[0][0], rtol=1e-10, atol=0)
        assert_same_gradients(gradients, results[0][1])


@pytest.mark.parametrize("name", RECALLING)
def test_sampled_layouts_agree(name, make_model, make_frames):
    pair, frames, losses = make_model(name, prior="mixture"), make_frames(T, B), []
    for layout in ("stacked", "per_step"):
        pyro.set_rng_seed(1)
        laid = pair.laid_out(layout)
        losses.append(Trace_ELBO().loss(laid.model(), laid.filtering_guide(), frames))
    assert losses[0] == pytest.approx(losses[1], rel=1e-10)


@pytest.mark.parametrize("posterior", ["direct", "frame"])
def test_stacked_prior_is_a_plain_loop(posterior, make_model, make_frames, feed):
    """Over steps, slots and heads, from the memory's own read weights."""
    pair = make_model("associative", prior="mixture", posterior=posterior, writes="mean")
    program, memory = pair
    frames, z = make_frames(T, B), torch.randn(B, T, Z)
    features = program.encode(frames)
    with feed({"z": z}):
        trace = pyro.poutine.trace(pair.model()).get_trace(frames)
    trace.compute_log_prob()
    for b in range(B):
        state, written, stored, total = memory.initial_state(()), torch.zeros(Z), [], 0.0
        for t in range(T):
            state, context, details = memory.step(state, written)
            gates = program.gates(context).softmax(-1)
            location, scale = program.prior_head(context)
            left, density = gates[-1], torch.zeros(())
            for age, (m, s) in enumerate(reversed(stored)):
                if age < memory.slots:
                    weight = (gates[:-1] * details["read_weights"][:, age]).sum()
                    density = density + weight * dist.Normal(m, s).log_prob(z[b, t]).sum().exp()
            if not stored:
                left = torch.ones(())
            density = density + left * dist.Normal(location, scale).log_prob(z[b, t]).sum().exp()
            total = total + density.log()
            seen = context if posterior == "direct" else None
            m, s = program.posterior_head(seen, features[t, b])
            stored.append((m, s))
            written = m
        assert trace.nodes["z"]["log_prob"][b].item() == pytest.approx(total.item(), abs=1e-10)


@pytest.mark.parametrize("layout", ["stacked", "per_step"])
@pytest.mark.parametrize("name", RECALLING)
def test_padded_batch_is_its_sequences_one_by_one(name, layout, make_model, make_frames, feed):
    pair = make_model(name, layout=layout, prior="mixture", posterior="frame", writes="mean")
    frames, z, lengths = make_frames(T, B), torch.randn(T, B, Z), (5, 2, 3)

    def values(steps: Tensor) -> dict[str, Tensor]:
        return {"z": steps.movedim(0, 1)} | {f"z_{t}": s for t, s in enumerate(steps)}

    for bound in (Trace_ELBO(), TraceMeanField_ELBO()):
        with feed(values(z)):
            together = bound.loss(pair.model(), pair.filtering_guide(), frames, lengths=lengths)
        alone = 0.0
        for b, length in enumerate(lengths):
            with feed(values(z[:length, b : b + 1])):
                alone += bound.loss(
                    pair.model(), pair.filtering_guide(), frames[:length, b : b + 1]
                )
        assert together == pytest.approx(alone, rel=1e-10)


@pytest.mark.parametrize("layout", ["stacked", "per_step"])
def test_other_bounds_and_particles(layout, make_model, make_frames):
    pair = make_model("associative", layout=layout, prior="mixture", posterior="frame")
    frames = make_frames(T, B)
    for bound in (RenyiELBO(0.5, 2), Trace_ELBO(3, 1, vectorize_particles=True)):
        assert math.isfinite(bound.loss(pair.model(), pair.filtering_guide(), frames))
    weights = gtm.infer.importance_weighted_bound(pair.filtering_guide(), frames, num_particles=4)
    assert weights.isfinite().all()


def test_renyi_of_one_particle_is_the_elbo(make_model, make_frames):
    pair, frames = make_model("associative", prior="mixture"), make_frames(T, B)
    losses = []
    for bound in (RenyiELBO(0.0, num_particles=1), Trace_ELBO()):
        pyro.set_rng_seed(0)
        losses.append(bound.loss(pair.model(), pair.filtering_guide(), frames))
    assert losses[0] == pytest.approx(losses[1], rel=1e-10)


@pytest.mark.parametrize("mode", ["lesion", "freeze", "swap"])
@pytest.mark.parametrize("name", RECALLING)
def test_layouts_agree_under_interventions(name, mode, make_model, make_frames, feed):
    pair = make_model(name, prior="mixture", posterior="frame", writes="mean")
    frames, z, found = make_frames(T, B), torch.randn(T, B, Z), []
    for layout in ("stacked", "per_step"):
        handler = {
            "lesion": gtm.lesion_memory(steps=[2, 4], heads=[0]),
            "freeze": gtm.freeze_writes(3),
            "swap": gtm.swap_contents(0, 2, at_step=3),
        }[mode]
        laid = pair.laid_out(layout)
        values = {"z": z.movedim(0, 1)} | {f"z_{t}": s for t, s in enumerate(z)}
        with feed(values), handler:
            found.append(gtm.evaluate(laid.filtering_guide(), frames))
    torch.testing.assert_close(found[0].kl, found[1].kl, rtol=1e-10, atol=1e-10)
    with feed({"z": z.movedim(0, 1)}):
        untouched = gtm.evaluate(pair.filtering_guide(), frames)
    assert not torch.allclose(found[0].kl[-1], untouched.kl[-1])


def test_a_memory_without_slots_is_refused(make_model, make_frames):
    made = make_model("vrnn", prior="mixture")
    for layout in ("stacked", "per_step"):
        pair = made.laid_out(layout)
        with pytest.raises(RuntimeError, match=r"does not tell what its reads are made of"):
            Trace_ELBO().loss(pair.model(), pair.filtering_guide(), make_frames(T, B))


def test_generation_wants_steps(make_model):
    pair = make_model("associative", prior="mixture")
    with pytest.raises(ValueError, match=r"prior='mixture' the stacked layout needs them"):
        pair.model()(num_steps=3, batch_size=2)
    frames = pair.laid_out("per_step").model()(num_steps=6, batch_size=2)
    assert frames.shape[:2] == (6, 2)


def test_what_was_recalled_is_stored_as_it_is():
    prior = make_prior(B)
    encoded = torch.zeros(B, Z), torch.ones(B, Z)
    near = prior.components[0][:, 2] + 1e-6
    sharp = gtm.MixturePrior(
        prior.new, (prior.components[0], torch.full((B, K, Z), 1e-3)), prior.log_weights
    )
    location, scale = sharp.component_of(near, encoded)
    torch.testing.assert_close(location, prior.components[0][:, 2])
    assert (scale == 1e-3).all()
    location, scale = sharp.component_of(prior.new[0], encoded)
    assert torch.equal(location, encoded[0]) and torch.equal(scale, encoded[1])


def test_a_program_of_the_users_own():
    """One line for the prior, one argument of the write."""
    memory = gtm.IntrospectiveMemory(latent_dim=Z, slots=4, heads=R)
    new, gates = nn.Linear(memory.context_dim, Z), nn.Linear(memory.context_dim, R + 1)
    seen = torch.randn(T, B, Z)

    def program(told: bool = True) -> None:
        with pyro.plate("sequences", B, dim=-1):
            for t in range(T):
                context = gtm.read()
                fn = dist.Normal(new(context), 1.0).to_event(1)
                posterior = dist.Normal(seen[t], 0.5).to_event(1)
                prior = gtm.mixture_prior(fn, gates(context))
                z = pyro.sample(f"z_{t}", prior, infer={"posterior": posterior})
                pyro.sample(f"x_{t}", dist.Normal(z, 1.0).to_event(1), obs=seen[t])
                gtm.write(z, posterior) if told else gtm.write(z)

    model = gtm.use_memory(memory)(program)
    assert math.isfinite(TraceMeanField_ELBO().loss(model, gtm.FilteringGuide(model)))
    # Without distributions all is new, and the mixture is the one Gaussian.
    guide = gtm.FilteringGuide(model)
    guide(told=False)
    trace, _ = guide.get_traces()
    fn = trace.nodes["z_4"]["fn"]
    torch.testing.assert_close(
        fn.log_prob(seen[4]), dist.Normal(*fn.new).to_event(1).log_prob(seen[4])
    )


def test_recall_wants_a_read():
    memory = gtm.IntrospectiveMemory(latent_dim=Z, slots=4)
    with gtm.use_memory(memory), pytest.raises(RuntimeError, match=r"nothing was read yet"):
        gtm.recall()


def test_write_wants_a_gaussian():
    memory = gtm.IntrospectiveMemory(latent_dim=Z, slots=4)
    with gtm.use_memory(memory):
        gtm.read()
        with pytest.raises(TypeError, match=r"must be a diagonal Gaussian"):
            gtm.write(torch.zeros(Z), dist.Laplace(torch.zeros(Z), 1.0).to_event(1))


def test_missing_frames_are_drawn_from_the_mixture(make_model, make_frames):
    pair = make_model("associative", prior="mixture", posterior="frame", writes="mean")
    frames, mask = make_frames(T, B), torch.ones(T, B, dtype=torch.bool)
    mask[3, 1] = False
    found = gtm.evaluate(pair.filtering_guide(), frames, mask=mask)
    assert found.kl[3, 1] == 0 and found.reconstruction[3, 1] == 0
    assert gtm.reconstruct(*pair, frames, mask=mask).isfinite().all()


def test_partly_observed_counts_the_prior_where_nothing_is_seen():
    prior, observed = make_prior(B), torch.tensor([True, False, True])
    posterior = dist.Normal(torch.randn(B, Z), 0.5).to_event(1)
    partly, value = PartlyObserved(posterior, prior, observed), torch.randn(B, Z)
    assert partly.log_prob(value)[1] == prior.log_prob(value)[1]
    assert partly.log_prob(value)[0] == posterior.log_prob(value)[0]
    kl = kl_divergence(partly, prior)
    assert kl[1] == 0 and kl[0] == kl_divergence(posterior, prior)[0]


@pytest.mark.parametrize("layout", ["stacked", "per_step"])
@pytest.mark.parametrize("prior", ["gaussian", "mixture"])
@pytest.mark.parametrize("posterior", ["residual", "direct", "frame"])
def test_what_is_drawn_has_the_density_of_what_is_given(
    layout, prior, posterior, make_model, make_frames, feed
):
    """The model as its own proposal: what was written on the way is the same either time."""
    pair = make_model("associative", layout=layout, prior=prior, posterior=posterior, writes="mean")
    frames = make_frames(T, B)
    drawn = pyro.poutine.trace(pair.model()).get_trace(frames)
    names = ["z"] if layout == "stacked" else [f"z_{t}" for t in range(T)]
    with feed({name: drawn.nodes[name]["value"].clone() for name in names}):
        given = pyro.poutine.trace(pair.model()).get_trace(frames)
    torch.testing.assert_close(drawn.log_prob_sum(), given.log_prob_sum(), rtol=1e-10, atol=0)


def test_two_swaps_in_one_step_are_both_followed(make_model, make_frames, feed):
    """Contents and components alike: two swaps that undo each other are none."""
    pair = make_model("associative", prior="mixture", posterior="frame", writes="mean")
    frames, z = make_frames(T, 4), torch.randn(4, T, Z)
    with feed({"z": z}):
        untouched = gtm.evaluate(pair.filtering_guide(), frames).kl
        with gtm.swap_contents(0, 2, at_step=3), gtm.swap_contents(2, 0, at_step=3):
            undone = gtm.evaluate(pair.filtering_guide(), frames).kl
        with gtm.swap_contents(0, 2, at_step=3), gtm.swap_contents(1, 3, at_step=3):
            swapped = gtm.evaluate(pair.filtering_guide(), frames).kl
    torch.testing.assert_close(undone, untouched, rtol=1e-10, atol=1e-12)
    assert not torch.allclose(swapped[-1], untouched[-1])


def test_a_memory_that_breaks_its_promise_is_told():
    class Promising(gtm.RecurrentMemory):
        def __init__(self) -> None:
            super().__init__(Z)
            self.recall_length = 4

    with gtm.use_memory(Promising()), pytest.raises(ValueError, match=r"log_shares of size"):
        gtm.unroll(torch.zeros(T, B, Z))


@pytest.mark.parametrize("layout", ["stacked", "per_step"])
def test_a_memory_without_slots_is_refused_with_missing_frames_too(layout, make_model, make_frames):
    pair, mask = make_model("vrnn", layout=layout, prior="mixture"), torch.rand(T, B) < 0.5
    with pytest.raises(RuntimeError, match=r"does not tell what its reads are made of"):
        Trace_ELBO().loss(pair.model(), pair.filtering_guide(), make_frames(T, B), mask=mask)
