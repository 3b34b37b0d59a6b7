"""Beside Pyro's own handlers, guides and samplers: what works step by step works stacked."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.contrib.autoname import scope
from pyro.infer import (
    HMC,
    MCMC,
    NUTS,
    SVI,
    Importance,
    Predictive,
    RenyiELBO,
    Trace_ELBO,
    TraceMeanField_ELBO,
)
from pyro.infer.autoguide import AutoDelta, AutoDiagonalNormal, AutoNormal, AutoNormalMessenger
from pyro.infer.reparam import LocScaleReparam
from pyro.nn import PyroModule, PyroSample
from pyro.nn.module import to_pyro_module_
from torch import Tensor

import pyro_gtm as gtm
from pyro_gtm.handlers import MissingPosteriorError

pytestmark = pytest.mark.usefixtures("float64")

T, B = 4, 3


def stacked_value(values: dict[str, Tensor], site: str) -> Tensor:
    """The values of a site in the stacked layout, ``(B, T, ...)``, from either layout."""
    if site in values:
        return values[site]
    return torch.stack([values[f"{site}_{t}"] for t in range(T)], dim=1)


def laid_out(value: Tensor, layout: str) -> dict[str, Tensor]:
    """Latents ``(B, T, Z)`` as the sites of a layout."""
    return {"z": value} if layout == "stacked" else {f"z_{t}": value[:, t] for t in range(T)}


def trace_of(model: Callable[..., Any], *args: Any) -> poutine.Trace:
    trace = poutine.trace(model).get_trace(*args)
    trace.compute_log_prob()
    return trace


@pytest.mark.thinned(3)
@pytest.mark.parametrize("family", [AutoNormal, AutoDelta, AutoDiagonalNormal, AutoNormalMessenger])
def test_autoguides_have_one_bound_in_both_layouts(memory_name, family, make_model, make_frames):
    """With the same latents, model and guide have the same densities in both layouts."""
    pair, frames = make_model(memory_name), make_frames(T, B)
    for layout in ("stacked", "per_step"):
        model = pair.laid_out(layout).model()
        guide = family(model)
        svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.01}), Trace_ELBO())
        losses = [svi.step(frames) for _ in range(5)]
        assert all(isinstance(loss, float) for loss in losses)
        values = guide(frames)
        latents = stacked_value({n: v.detach() for n, v in values.items() if n[0] == "z"}, "z")
        densities = [
            trace_of(
                poutine.condition(pair.laid_out(other).model(), data=laid_out(latents, other)),
                frames,
            ).log_prob_sum()
            for other in ("stacked", "per_step")
        ]
        torch.testing.assert_close(*densities, rtol=1e-10, atol=0)
        pyro.clear_param_store()


def test_autonormal_learns(layout, make_model, make_frames):
    pair, frames = make_model("introspective", layout=layout), make_frames(T, B)
    guide = AutoNormal(pair.model())
    svi = SVI(pair.model(), guide, pyro.optim.Adam({"lr": 0.02}), Trace_ELBO())
    losses = [svi.step(frames) for _ in range(150)]
    assert sum(losses[-20:]) < sum(losses[:20]) - 20


@pytest.mark.parametrize(
    "kernel",
    [partial(HMC, trajectory_length=0.5), partial(NUTS, max_tree_depth=3)],
    ids=["HMC", "NUTS"],
)
def test_samplers_see_one_potential(memory_name, kernel, make_model, make_frames):
    pair, frames = make_model(memory_name), make_frames(T, B)
    for parameter in pair.modules().parameters():
        parameter.requires_grad_(False)
    start, samples = torch.randn(B, T, 3), {}
    for layout in ("stacked", "per_step"):
        pyro.set_rng_seed(4)
        mcmc = MCMC(
            kernel(pair.laid_out(layout).model(), step_size=0.1, adapt_step_size=False),
            num_samples=2,
            warmup_steps=0,
            initial_params=laid_out(start, layout),
            disable_progbar=True,
        )
        mcmc.run(frames)
        samples[layout] = mcmc.get_samples()
    assert samples["stacked"]["z"].shape == (2, B, T, 3)
    assert samples["per_step"]["z_0"].shape == (2, B, 3)

    latents = start.clone().requires_grad_()
    gradients = []
    for layout in ("stacked", "per_step"):
        model = pair.laid_out(layout).model()
        density = trace_of(
            poutine.condition(model, data=laid_out(latents, layout)), frames
        ).log_prob_sum()
        gradients.append(torch.autograd.grad(density, latents)[0])
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("parallel", [False, True])
def test_predictive(memory_name, layout, parallel, make_model, make_frames):
    pair, frames = make_model(memory_name, layout=layout), make_frames(T, B)
    predictive = Predictive(
        pair.model(), guide=pair.filtering_guide(), num_samples=2, parallel=parallel
    )
    samples = predictive(frames)
    for site, shape in (("z", (3,)), ("x", (1, 5, 5))):
        if layout == "stacked":
            assert samples[site].shape == (2, B, T, *shape)
        else:
            assert samples[f"{site}_{T - 1}"].shape == (2, B, *shape)


def test_predictive_from_posterior_samples(memory_name, make_model):
    pair, latents = make_model(memory_name), torch.randn(6, B, T, 3)
    means = []
    for layout in ("stacked", "per_step"):
        given = (
            {"z": latents}
            if layout == "stacked"
            else {f"z_{t}": latents[:, :, t] for t in range(T)}
        )
        predictive = Predictive(
            pair.laid_out(layout).model(), posterior_samples=given, parallel=True
        )
        trace = predictive.get_vectorized_trace(num_steps=T, batch_size=B)
        if layout == "stacked":
            means.append(trace.nodes["x"]["fn"].frames.mean)
        else:
            means.append(torch.stack([trace.nodes[f"x_{t}"]["fn"].mean for t in range(T)], dim=2))
    torch.testing.assert_close(*means, rtol=1e-10, atol=1e-12)


def test_condition_replay_and_block(memory_name, make_model, make_frames):
    pair, frames, latents = make_model(memory_name), make_frames(T, B), torch.randn(B, T, 3)
    densities = {}
    for layout in ("stacked", "per_step"):
        model = pair.laid_out(layout).model()
        conditioned = trace_of(poutine.condition(model, data=laid_out(latents, layout)), frames)
        drawn = trace_of(model, frames)
        replayed = trace_of(poutine.replay(model, trace=drawn), frames)
        blocked = trace_of(poutine.block(model, hide_types=["param"]), frames)
        hidden = trace_of(
            poutine.block(model, hide_fn=lambda site: str(site["name"]).startswith("z")), frames
        )
        assert drawn.log_prob_sum() == replayed.log_prob_sum()
        assert {name[0] for name in blocked.nodes} >= {"z", "x"}
        assert not any(name.startswith("z") for name in hidden.nodes)
        densities[layout] = conditioned.log_prob_sum()
    torch.testing.assert_close(densities["stacked"], densities["per_step"], rtol=1e-10, atol=0)


@pytest.mark.parametrize("handler", ["scale", "mask", "number"])
def test_scale_and_mask_of_sequences(memory_name, handler, make_model, make_frames):
    pair, frames, losses = make_model(memory_name), make_frames(T, B), []
    wrap = {
        "scale": lambda model: poutine.scale(model, scale=torch.tensor([1.0, 2.0, 0.5])),
        "mask": lambda model: poutine.mask(model, mask=torch.tensor([True, False, True])),
        "number": lambda model: poutine.scale(model, scale=0.25),
    }[handler]
    for layout in ("stacked", "per_step"):
        model = wrap(pair.laid_out(layout).model())
        pyro.set_rng_seed(2)
        losses.append(Trace_ELBO().loss(model, gtm.FilteringGuide(model), frames))
    assert losses[0] == pytest.approx(losses[1], rel=1e-10)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda model: poutine.mask(model, mask=torch.ones(T, B, dtype=torch.bool)),
        lambda model: poutine.scale(model, scale=torch.ones(T, B)),
    ],
    ids=["mask", "scale"],
)
def test_masks_of_frames_are_refused_by_name(layout, wrap, make_model, make_frames):
    model = wrap(make_model("vrnn", layout=layout).model())
    with pytest.raises(ValueError, match=r"of shape \(4, 3\).*argument mask.*'per_step'"):
        gtm.FilteringGuide(model)(make_frames(T, B))


def test_loc_scale_reparam_works_step_by_step_and_says_so(memory_name, make_model, make_frames):
    pair, frames = make_model(memory_name), make_frames(T, B)
    sites = {"stacked": ["z"], "per_step": [f"z_{t}" for t in range(T)]}

    def losses(layout: str) -> float:
        config = {site: LocScaleReparam(0.0) for site in sites[layout]}
        model = poutine.reparam(pair.laid_out(layout).model(), config=config)
        return SVI(model, AutoNormal(model), pyro.optim.Adam({"lr": 0.01}), Trace_ELBO()).step(
            frames
        )

    assert losses("per_step") > 0
    with pytest.raises(AttributeError, match=r"no loc and no scale.*with_layout"):
        losses("stacked")


BOUNDS = {
    "trace": lambda: Trace_ELBO(),
    "mean-field": lambda: TraceMeanField_ELBO(),
    "renyi": lambda: RenyiELBO(alpha=0, num_particles=3),
    "renyi-particles": lambda: RenyiELBO(
        alpha=0, num_particles=3, vectorize_particles=True, max_plate_nesting=1
    ),
    "particles": lambda: Trace_ELBO(num_particles=3, vectorize_particles=True, max_plate_nesting=1),
}


@pytest.mark.parametrize("bound", BOUNDS)
def test_bounds_agree(memory_name, bound, make_model, make_frames):
    pair, frames, losses = make_model(memory_name), make_frames(T, B), []
    for layout in ("stacked", "per_step"):
        one = pair.laid_out(layout)
        pyro.set_rng_seed(2)
        losses.append(BOUNDS[bound]().loss(one.model(), one.filtering_guide(), frames))
    assert losses[0] == pytest.approx(losses[1], rel=1e-10)


def test_importance_sampling(layout, make_model, make_frames):
    pair = make_model("dnc", layout=layout)
    importance = Importance(pair.model(), guide=pair.filtering_guide(), num_samples=3)
    importance.run(make_frames(T, B))
    assert 0 < float(importance.get_ESS()) <= 3


@pytest.mark.parametrize("rename", ["scope", "prefix"])
def test_two_programs_in_one_model_give_the_sum(rename, layout, make_model, make_frames):
    """However their sites are called, each has its posterior."""
    frames, alone = make_frames(T, B), []
    pairs = [make_model("dnc", layout=layout), make_model("vrnn", layout=layout)]
    for number, pair in enumerate(pairs):
        pair.program.name = f"program{number}"
    models = [
        gtm.use_memory(pair.memory, name=f"memory{number}")(pair.program.model)
        for number, pair in enumerate(pairs)
    ]

    def both(frames: Tensor) -> None:
        for name, model in zip("ab", models, strict=True):
            with scope(prefix=name) if rename == "scope" else Prefix(name):
                model(frames)

    pyro.set_rng_seed(3)
    guide = gtm.FilteringGuide(both)
    together = TraceMeanField_ELBO().loss(both, guide, frames)
    assert {name[0] for name in guide.trace.nodes} >= {"a", "b"}
    pyro.set_rng_seed(3)
    for model in models:
        alone.append(TraceMeanField_ELBO().loss(model, gtm.FilteringGuide(model), frames))
    assert together == pytest.approx(sum(alone), rel=1e-10)


class Prefix(poutine.messenger.Messenger):
    """A prefix to the names of all sample sites."""

    def __init__(self, prefix: str) -> None:
        super().__init__()
        self.prefix = prefix

    def _pyro_sample(self, msg: Any) -> None:
        msg["name"] = f"{self.prefix}_{msg['name']}"


def test_a_site_without_a_posterior_is_an_error():
    def model(frames: Tensor) -> None:
        pyro.sample("theta", dist.Normal(0.0, 1.0))

    with pytest.raises(MissingPosteriorError, match="latent site 'theta' carries no posterior"):
        gtm.FilteringGuide(model)(torch.zeros(1))


def test_a_program_of_the_users_carries_its_posteriors(make_frames):
    def model(data: Tensor) -> None:
        with pyro.plate("data", len(data)):
            z = pyro.sample(
                "anything", dist.Normal(0.0, 1.0), infer={"posterior": dist.Normal(data / 2, 0.5)}
            )
            w = pyro.sample(
                "shifted",
                dist.Normal(z, 1.0),
                infer={"posterior": lambda prior: dist.Normal(prior.loc + 0.1, 0.5)},
            )
            pyro.sample("x", dist.Normal(w, 1.0), obs=data)

    guide = gtm.FilteringGuide(model)
    guide(torch.arange(3.0))
    _, trace = guide.get_traces()
    torch.testing.assert_close(trace.nodes["anything"]["fn"].loc, torch.arange(3.0) / 2)
    shifted = trace.nodes["shifted"]["fn"].loc - trace.nodes["anything"]["value"]
    torch.testing.assert_close(shifted, torch.full((3,), 0.1))


def test_a_plate_around(memory_name, make_model, make_frames):
    pair, frames, losses = make_model(memory_name), make_frames(T, B), []
    for layout in ("stacked", "per_step"):
        model = pair.laid_out(layout).model()

        def outer(frames: Tensor, model: Any = model) -> Tensor:
            with pyro.plate("copies", 2, dim=-2):
                return model(frames)

        pyro.set_rng_seed(2)
        losses.append(Trace_ELBO().loss(outer, gtm.FilteringGuide(outer), frames))
        assert outer(frames).shape[0] == T
    assert losses[0] == pytest.approx(losses[1], rel=1e-10)


def test_a_plate_in_the_place_of_the_sequences_is_refused(layout, make_model, make_frames):
    model = make_model("vrnn", layout=layout).model()
    with (
        pyro.plate("mine", 2),
        pytest.raises(ValueError, match=r"plate .mine. around it is at dim -1.*dim=-2"),
    ):
        model(make_frames(T, B))


def test_memories_and_programs_as_pyro_modules(memory_name, layout, make_model, make_frames):
    pair, frames = make_model(memory_name, layout=layout), make_frames(T, B)
    plain = Trace_ELBO()
    pyro.set_rng_seed(1)
    expected = plain.loss(pair.model(), pair.filtering_guide(), frames)
    to_pyro_module_(pair.memory)
    to_pyro_module_(pair.program)
    pyro.clear_param_store()
    pyro.set_rng_seed(1)
    assert plain.loss(pair.model(), pair.filtering_guide(), frames) == expected
    assert isinstance(PyroModule[type(pair.memory)], type)


def make_random(pair: Any, where: str) -> tuple[str, Tensor]:
    """Give a layer a random weight, N(location, 0.1); its site's name and the location."""
    owner, path = {
        "memory": (pair.memory, "controller.gates"),
        "prior": (pair.program, "prior_head.hidden"),
        "posterior": (pair.program, "posterior_head.parameters_of"),
        "encoder": (pair.program, "encoder.layers.0"),
        "decoder": (pair.program, "decoder.layers.0"),
    }[where]
    to_pyro_module_(owner)
    layer = owner.get_submodule(path)
    location = layer.weight.detach().clone().requires_grad_()
    layer.weight = PyroSample(lambda _: dist.Normal(location, 0.1).to_event(2))
    return f"{path}.weight", location


@pytest.mark.parametrize("posterior", ["residual", "direct"])
@pytest.mark.parametrize("where", ["memory", "prior", "posterior", "encoder", "decoder"])
def test_random_weights_are_the_same_in_both_layouts(
    memory_name, where, posterior, make_model, make_frames, feed
):
    """Drawn once a run, as the noise of N(location, 0.1): loss and gradient of the location."""
    pair, frames = make_model(memory_name, posterior=posterior), make_frames(T, B)
    name, location = make_random(pair, where)
    noise, latents = 0.1 * torch.randn_like(location), torch.randn(B, T, 3)

    class Guide(gtm.FilteringGuide):
        def get_posterior(self, site: str, prior: Any) -> Tensor:
            assert site == name
            return location + noise

    results = []
    for layout in ("stacked", "per_step"):
        one = pair.laid_out(layout)
        model = gtm.use_memory(one.memory)(one.program.model)
        guide = Guide(model)
        with feed(laid_out(latents, layout)):
            loss = Trace_ELBO().differentiable_loss(model, guide, frames)
        model_trace, _ = guide.get_traces()
        assert model_trace.nodes[name]["value"].shape == location.shape  # not one a sequence
        results.append((loss, torch.autograd.grad(loss, location)[0]))
    torch.testing.assert_close(results[0], results[1], rtol=1e-10, atol=1e-10)


@pytest.mark.thinned(3)
def test_random_weights_train_with_an_autoguide(memory_name, layout, make_model, make_frames):
    pair, frames = make_model(memory_name, layout=layout), make_frames(T, B)
    make_random(pair, "prior")

    class Guide(gtm.FilteringGuide, AutoNormalMessenger):
        pass

    guide = Guide(pair.model())
    svi = SVI(pair.model(), guide, pyro.optim.Adam({"lr": 0.05}), Trace_ELBO())
    losses = [svi.step(frames) for _ in range(40)]
    assert sum(losses[-10:]) < sum(losses[:10])
    with (
        pyro.plate("particles", 2, dim=-2),
        pytest.raises(ValueError, match=r"random weight .* inside the plate 'particles'"),
    ):
        guide(frames)


def test_a_process_with_random_weights_keeps_them(memory_name, make_model, make_frames):
    """Its densities are those of the weights drawn in its run, also when that is over."""
    pair = make_model(memory_name)
    make_random(pair, "memory")
    make_random(pair, "prior")
    trace = poutine.trace(pair.model()).get_trace(make_frames(T, B))
    process, latents = trace.nodes["z"]["fn"], trace.nodes["z"]["value"]
    for value in (latents.clone(), latents, latents.clone()):
        torch.testing.assert_close(process.log_prob(value), process.log_prob(latents))


@pytest.mark.parametrize("where", ["memory", "prior", "decoder"])
def test_checkpointing_random_weights_is_refused_or_right(where, make_model, make_frames, feed):
    pair, frames = make_model("dnc"), make_frames(T, B)
    _, location = make_random(pair, where)
    noise, latents = 0.1 * torch.randn_like(location), torch.randn(B, T, 3)

    class Guide(gtm.FilteringGuide):
        def get_posterior(self, site: str, prior: Any) -> Tensor:
            return location + noise

    gradients = []
    for every in (0, 2):
        pair.program.checkpoint_every = every
        unrolling = gtm.Unrolling(checkpoint_every=0 if where == "decoder" else every)
        model = gtm.use_memory(pair.memory, unrolling=unrolling)(pair.program.model)
        with feed({"z": latents}):
            try:
                loss = Trace_ELBO().differentiable_loss(model, Guide(model), frames)
            except RuntimeError as error:
                assert "checkpoint_every must be 0" in str(error)
                assert every and where != "decoder"
                return
        gradients.append(torch.autograd.grad(loss, location)[0])
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-10)


def test_frames_conditioned_on_from_outside_are_an_error(layout, make_model, make_frames):
    """No posterior would look at them."""
    pair, frames = make_model("vrnn", layout=layout), make_frames(T, B)
    data = {"x": frames.movedim(0, 1)} if layout == "stacked" else {"x_1": frames[1]}
    guide = gtm.FilteringGuide(poutine.condition(pair.model(), data=data))
    with pytest.raises(MissingPosteriorError, match="conditioned on values that no posterior sees"):
        guide(num_steps=T, batch_size=B)


def test_posteriors_that_do_not_fit_are_named_and_values_taken():
    def model(posterior: Any) -> None:
        pyro.sample(
            "z", dist.Normal(torch.zeros(3), 1.0).to_event(1), infer={"posterior": posterior}
        )

    guide = gtm.FilteringGuide(model)
    assert guide(torch.ones(3))["z"].tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match=r"'z' carries a posterior of event shape \(\)"):
        guide(dist.Normal(torch.zeros(3), 1.0))


def test_masked_sites_of_a_users_program(make_frames):
    """``evaluate`` heeds ``poutine.mask``; a scaled density is no bound."""
    there = torch.tensor([[True, False], [True, True]])

    def model(data: Tensor) -> None:
        with pyro.plate("data", 2):
            for t in range(2):
                q = dist.Normal(data[t], 0.5)
                z = pyro.sample(f"z_{t}", dist.Normal(0.0, 1.0), infer={"posterior": q})
                with poutine.mask(mask=there[t]):
                    pyro.sample(f"x_{t}", dist.Normal(z, 1.0), obs=data[t])

    guide, data = gtm.FilteringGuide(model), torch.randn(2, 2)
    data[0, 1] = torch.nan
    with pyro.validation_enabled(False):
        evaluation = gtm.evaluate(guide, data.nan_to_num())
        assert (evaluation.reconstruction == 0).tolist() == (~there).tolist()
        with pytest.raises(ValueError, match="the site 'z_0' is scaled"):
            gtm.evaluate(gtm.FilteringGuide(poutine.scale(model, scale=2.0)), data.nan_to_num())


def test_generation_draws_without_a_guide(layout, make_model):
    frames = make_model("dnc", layout=layout).model()(num_steps=T, batch_size=B)
    assert frames.shape == (T, B, 1, 5, 5)


def test_nothing_here_warns(make_model, make_frames):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pair, frames = make_model("lru"), make_frames(T, B)
        SVI(pair.model(), pair.filtering_guide(), pyro.optim.Adam({"lr": 0.01}), Trace_ELBO()).step(
            frames
        )
