"""One fused Adam with one clip, behind Pyro's interface."""

from __future__ import annotations

import math

import pyro
import pytest
import torch
from pyro.distributions import Normal
from pyro.infer import SVI, Trace_ELBO

from pyro_gtm.infer import FusedAdam, NonFiniteGradientError

pytestmark = pytest.mark.usefixtures("float64")

SHAPES = {"a": (3,), "b": (2, 4), "c": ()}


@pytest.fixture
def parameters():
    """Parameters as SVI hands them over: those of the store."""
    return {
        name: pyro.param(name, torch.randn(shape)).unconstrained() for name, shape in SHAPES.items()
    }


def copies(parameters):
    return {name: p.detach().clone().requires_grad_() for name, p in parameters.items()}


def set_gradients(parameters, step, scale=1.0):
    """Some gradient that changes from step to step."""
    for i, parameter in enumerate(parameters.values()):
        generator = torch.Generator().manual_seed(100 * step + i)
        parameter.grad = scale * torch.randn(parameter.shape, generator=generator)


def assert_equal(one, other):
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-12, atol=1e-14)


def test_without_clip_it_is_torchs_adam(parameters):
    options = {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-6}
    expected, ours = copies(parameters), FusedAdam(**options, clip_norm=None)
    plain = torch.optim.Adam(expected.values(), **options)
    for step in range(20):
        set_gradients(parameters, step)
        set_gradients(expected, step)
        ours(parameters.values())
        plain.step()
    assert_equal(parameters, expected)


@pytest.mark.parametrize("scale", [1e-3, 30.0])
def test_clips_the_global_norm(parameters, scale):
    """As torch.nn.utils.clip_grad_norm_ does; gradients below the limit are left alone."""
    expected, ours = copies(parameters), FusedAdam(lr=0.02, clip_norm=0.5)
    plain = torch.optim.Adam(expected.values(), lr=0.02)
    for step in range(10):
        # Adam forgets a constant factor: vary it, so that a clip can be seen.
        set_gradients(parameters, step, scale * (1 + step))
        set_gradients(expected, step, scale * (1 + step))
        norm = torch.nn.utils.clip_grad_norm_(expected.values(), 0.5)
        ours(parameters.values())
        plain.step()
        assert ours.gradient_norm == pytest.approx(norm.item(), rel=1e-12)
    assert_equal(parameters, expected)


def test_gradients_are_dropped_after_a_step(parameters):
    set_gradients(parameters, 0)
    FusedAdam()(parameters.values())
    assert all(parameter.grad is None for parameter in parameters.values())


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_non_finite_gradient_changes_nothing(parameters, value):
    """Neither the parameters nor the moments: what follows is as if it had not been."""
    expected = copies(parameters)
    ours, plain = FusedAdam(lr=0.02), FusedAdam(lr=0.02)
    set_gradients(parameters, 0)
    ours(parameters.values())
    before = copies(parameters)

    set_gradients(parameters, 1)
    parameters["b"].grad[0, 1] = value
    with pytest.raises(NonFiniteGradientError, match=r"norm is (nan|inf)"):
        ours(parameters.values())
    for name, parameter in parameters.items():
        assert parameter.equal(before[name])
        assert parameter.grad is None

    set_gradients(parameters, 2)
    ours(parameters.values())
    after = copies(parameters)
    for name, parameter in parameters.items():
        parameter.data.copy_(expected[name])
    for step in (0, 2):
        set_gradients(parameters, step)
        plain(parameters.values())
    assert_equal(parameters, after)


def test_goes_on_exactly_from_its_state(parameters, tmp_path):
    straight, first = FusedAdam(lr=0.02), FusedAdam(lr=0.02)
    start = copies(parameters)
    for step in range(8):
        set_gradients(parameters, step)
        straight(parameters.values())
    expected = copies(parameters)

    for name, parameter in parameters.items():
        parameter.data.copy_(start[name])
    for step in range(4):
        set_gradients(parameters, step)
        first(parameters.values())
    torch.save(first.get_state(), tmp_path / "state")
    second = FusedAdam(lr=0.02)
    second.set_state(torch.load(tmp_path / "state", weights_only=True))
    for step in range(4, 8):
        set_gradients(parameters, step)
        second(parameters.values())
    for name, parameter in parameters.items():
        assert parameter.equal(expected[name])


def test_state_before_the_first_step_is_kept(parameters):
    """Saved again at once, as by a run that is stopped while it resumes."""
    first = FusedAdam()
    set_gradients(parameters, 0)
    first(parameters.values())
    state, second = first.get_state(), FusedAdam()
    assert set(state) == set(SHAPES)
    second.set_state(state)
    torch.testing.assert_close(second.get_state(), state)


def test_state_of_a_parameter_not_yet_seen_is_kept(parameters):
    """It belongs to a part of the model that a later step will use."""
    first = FusedAdam()
    set_gradients(parameters, 0)
    first(parameters.values())
    second = FusedAdam()
    second.set_state(first.get_state())
    set_gradients(parameters, 1)
    second([parameters["a"], parameters["b"]])
    assert set(second.get_state()) == set(SHAPES)


def test_parameters_seen_later_join(parameters):
    """Each has moments and step counts of its own, as in an optimiser for each."""
    ours, expected = FusedAdam(lr=0.02, clip_norm=None), copies(parameters)
    plain = {name: torch.optim.Adam([p], lr=0.02) for name, p in expected.items()}
    for step in range(6):
        seen = ["a"] if step < 2 else ["a", "c"] if step < 4 else ["a", "b", "c"]
        set_gradients({name: parameters[name] for name in seen}, step)
        set_gradients({name: expected[name] for name in seen}, step)
        ours([parameters[name] for name in seen])
        for name in seen:
            plain[name].step()
    assert_equal(parameters, expected)


def test_parameter_without_gradient_rests(parameters):
    ours, before = FusedAdam(), copies(parameters)
    set_gradients(parameters, 0)
    parameters["b"].grad = None
    ours(parameters.values())
    assert parameters["b"].equal(before["b"])
    assert not parameters["a"].equal(before["a"])


def test_another_learning_rate_keeps_the_moments(parameters):
    """Set before and between steps, it is what PyTorch's own schedulers do to its Adam."""
    rates = [0.003, 0.02, 0.02, 1e-4, 0.05]
    expected, ours = copies(parameters), FusedAdam(lr=0.7, clip_norm=None)
    plain = torch.optim.Adam(expected.values(), lr=0.7)
    for step, rate in enumerate(rates):
        set_gradients(parameters, step)
        set_gradients(expected, step)
        ours.lr = plain.param_groups[0]["lr"] = rate
        ours(parameters.values())
        plain.step()
    assert ours.lr == ours.pt_optim_args["lr"] == rates[-1]
    assert_equal(parameters, expected)


def test_parameters_seen_later_join_at_the_present_learning_rate(parameters):
    ours, expected = FusedAdam(lr=0.02, clip_norm=None), copies(parameters)
    for seen, rate in ((["a"], 0.01), (["a", "b", "c"], 0.05)):
        ours.lr = rate
        set_gradients(parameters, 0)
        ours([parameters[name] for name in seen])
    plain = torch.optim.Adam([expected["b"]], lr=0.05)
    set_gradients(expected, 0)
    plain.step()
    torch.testing.assert_close(parameters["b"], expected["b"], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_an_impossible_learning_rate_is_refused_and_the_last_stays(value):
    ours = FusedAdam(lr=0.02)
    with pytest.raises(ValueError, match="lr must be a positive number"):
        ours.lr = value
    assert ours.lr == 0.02


FINE = torch.zeros(())


def flag():
    return torch.zeros((), dtype=torch.float32)


@pytest.mark.parametrize("clip_norm", [None, 0.5])
def test_a_step_on_the_device_is_the_same_step(parameters, clip_norm):
    """Steps of both kinds, mixed, are steps of either."""
    start, failed = copies(parameters), flag()
    plain, ours = FusedAdam(lr=0.02, clip_norm=clip_norm), FusedAdam(lr=0.02, clip_norm=clip_norm)
    norms = []
    for step in range(8):
        set_gradients(parameters, step, 1 + step)
        plain(parameters.values())
        norms.append(plain.gradient_norm)
    expected = copies(parameters)

    for name, parameter in parameters.items():
        parameter.data.copy_(start[name])
    for step in range(8):
        set_gradients(parameters, step, 1 + step)
        if step % 3 == 1:
            ours(parameters.values())
        else:
            norm = ours.step_on_device(parameters.values(), FINE, failed)
            assert norm.item() == norms[step]
        assert ours.gradient_norm == norms[step]
        assert all(parameter.grad is None for parameter in parameters.values())
    for name, parameter in parameters.items():
        assert parameter.equal(expected[name])
    torch.testing.assert_close(ours.get_state(), plain.get_state(), rtol=0, atol=0)
    assert failed == 0


def test_a_step_on_the_device_takes_its_learning_rate_from_a_tensor(parameters):
    """The same tensor with another value, as replays find it; without it, the optimiser's own."""
    start, failed, rate = copies(parameters), flag(), torch.zeros(())
    plain, ours = FusedAdam(lr=0.02), FusedAdam(lr=0.02)
    rates = [0.01, 0.05, None, 0.003]
    for step, value in enumerate(rates):
        set_gradients(parameters, step)
        plain.lr = 0.02 if value is None else value
        plain(parameters.values())
    expected = copies(parameters)

    for name, parameter in parameters.items():
        parameter.data.copy_(start[name])
    for step, value in enumerate(rates):
        set_gradients(parameters, step)
        if value is not None:
            rate.fill_(value)
        ours.step_on_device(parameters.values(), FINE, failed, None if value is None else rate)
        assert ours.lr == 0.02
    for name, parameter in parameters.items():
        assert parameter.equal(expected[name])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_from_the_first_failure_on_a_step_on_the_device_changes_nothing(parameters, value, what):
    """Neither parameters nor moments nor step counts; good gradients after it included."""
    ours, failed = FusedAdam(lr=0.02), flag()
    set_gradients(parameters, 0)
    ours.step_on_device(parameters.values(), FINE, failed)
    before, state = copies(parameters), ours.get_state()
    assert failed == 0

    set_gradients(parameters, 1)
    loss = FINE
    if what == "gradient":
        parameters["b"].grad[0, 1] = value
    else:
        loss = torch.tensor(value)
    norm = ours.step_on_device(parameters.values(), loss, failed)
    assert failed == 1
    assert norm.isfinite() == (what == "loss")
    for step in (2, 3):
        set_gradients(parameters, step)
        assert ours.step_on_device(parameters.values(), FINE, failed).isfinite()
    assert failed == 1
    for name, parameter in parameters.items():
        assert parameter.equal(before[name])
    torch.testing.assert_close(ours.get_state(), state, rtol=0, atol=0)


def test_after_a_failure_a_plain_step_goes_on(parameters):
    """The failure is the caller's to forget: the optimiser keeps none."""
    ours, failed = FusedAdam(lr=0.02), flag()
    set_gradients(parameters, 0)
    ours.step_on_device(parameters.values(), torch.tensor(math.nan), failed)
    before = copies(parameters)
    set_gradients(parameters, 1)
    ours(parameters.values())
    for name, parameter in parameters.items():
        assert not parameter.equal(before[name])


def test_a_loss_that_is_not_finite_fails_without_any_gradient(parameters):
    failed = flag()
    norm = FusedAdam().step_on_device(parameters.values(), torch.tensor(math.inf), failed)
    assert norm == 0 and failed == 1


def test_a_step_on_the_device_goes_on_from_a_state(parameters):
    first, failed = FusedAdam(lr=0.02), flag()
    set_gradients(parameters, 0)
    first(parameters.values())
    state, middle = first.get_state(), copies(parameters)
    set_gradients(parameters, 1)
    first(parameters.values())
    expected = copies(parameters)

    for name, parameter in parameters.items():
        parameter.data.copy_(middle[name])
    second = FusedAdam(lr=0.02)
    second.set_state(state)
    set_gradients(parameters, 1)
    second.step_on_device(parameters.values(), FINE, failed)
    for name, parameter in parameters.items():
        assert parameter.equal(expected[name])


def test_trains_inside_svi():
    """A conjugate Gaussian: the posterior of a mean, in closed form."""
    data = torch.tensor([1.0, 2.0, 4.0])

    def model():
        mean = pyro.sample("mean", Normal(0.0, 1.0))
        with pyro.plate("data", 3):
            pyro.sample("x", Normal(mean, 1.0), obs=data)

    def guide():
        scale = pyro.param("scale", torch.tensor(1.0), pyro.distributions.constraints.positive)
        pyro.sample("mean", Normal(pyro.param("location", torch.tensor(0.0)), scale))

    svi = SVI(
        model, guide, FusedAdam(lr=0.05), Trace_ELBO(num_particles=10, vectorize_particles=True)
    )
    for _ in range(300):
        svi.step()
    assert pyro.param("location").item() == pytest.approx(7 / 4, abs=0.1)
    assert pyro.param("scale").item() == pytest.approx(0.5, abs=0.1)


def test_steps_of_a_model_equal_pyros_adam(memory_name, make_model, make_frames):
    """The same training, with the optimiser that Pyro would use."""
    pair, frames = make_model(memory_name), make_frames()
    start = {name: value.clone() for name, value in pair.modules().state_dict().items()}
    ends = []
    for optimiser in (FusedAdam(lr=0.01, clip_norm=None), pyro.optim.Adam({"lr": 0.01})):
        pair.modules().load_state_dict(start)
        pyro.clear_param_store()
        pyro.set_rng_seed(1)
        svi = SVI(pair.model(), pair.filtering_guide(), optimiser, Trace_ELBO())
        for _ in range(5):
            svi.step(frames)
        ends.append({name: value.clone() for name, value in pair.modules().state_dict().items()})
    assert any(not ends[0][name].equal(start[name]) for name in start)
    for name in start:
        torch.testing.assert_close(ends[0][name], ends[1][name], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("option", ["lr", "eps", "clip_norm"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_impossible_options_are_named(option, value):
    with pytest.raises(ValueError, match=f"{option} must be a positive number"):
        FusedAdam(**{option: value})
