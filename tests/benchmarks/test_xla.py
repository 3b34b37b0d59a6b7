"""The JAX contestant computes, and learns by, what the hand-written networks do."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

jax = pytest.importorskip("jax", reason="needs the extra 'benchmark': JAX is not installed")

import handwritten  # noqa: E402
import xla  # noqa: E402
from xla.memories import comes_before  # noqa: E402
from xla.training import adam, clip  # noqa: E402

# Programs this small are compiled for longer than they run.
FAST_TO_COMPILE = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}
SIZES = handwritten.Sizes(latent_dim=3, width=7, hidden_dim=6, slots=4, heads=2)
RATE = 0.01
CLIP = 0.5  # far below the norm of these gradients


@pytest.fixture
def doubles(float64):
    """Double precision in PyTorch and in JAX."""
    with jax.enable_x64(True):
        yield


def build(name, sizes=SIZES):
    """The hand-written networks, and the memory in JAX."""
    theirs = handwritten.Networks(name, 11, sizes)
    with torch.no_grad():
        for name_, parameter in theirs.named_parameters():
            if name_ == "memory.starts":
                parameter.mul_(20)  # else all heads start alike, nearly
    return theirs, xla.MEMORIES[name](sizes)


def draw(num_steps=7, batch=3):
    """Frames, by default for more steps than there are slots, and the hand-written loop's noise."""
    frames = torch.rand(num_steps, batch, 11).round()
    torch.manual_seed(1)
    noise = torch.stack([torch.randn(batch, SIZES.latent_dim) for _ in range(num_steps)])
    torch.manual_seed(1)
    return frames, noise


def gradients_of(theirs):
    """Theirs as ours are laid out; the two biases of an LSTM cell have equal gradients."""
    gradients = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    gradients["memory.cell.bias_hh"] = torch.zeros_like(gradients["memory.cell.bias_ih"])
    return xla.as_parameters(gradients)


def parts(tree):
    """The arrays of a tree, by name."""
    return {jax.tree_util.keystr(path): array for path, array in jax.tree.leaves_with_path(tree)}


def differences(ours, theirs):
    """By name, the norm of each difference over the norm of what it should be."""
    norm = jax.numpy.linalg.norm
    ours, theirs = parts(ours), parts(theirs)
    assert ours.keys() == theirs.keys()
    # A key's bias adds the same to all logits of a head: its gradient is zero, rounding aside.
    sizes = {
        name: norm(theirs[name.replace("['key']['bias']", "['key']['kernel']")]) for name in theirs
    }
    return {name: float(norm(ours[name] - theirs[name]) / sizes[name]) for name in theirs}


def compiled(function, *arguments):
    return function.lower(*arguments).compile(compiler_options=FAST_TO_COMPILE)


@pytest.mark.usefixtures("doubles")
@pytest.mark.parametrize(
    ("name", "sizes", "num_steps"),
    [
        *((name, SIZES, 7) for name in handwritten.MEMORIES),
        # More slots than have logits of their own.
        ("associative", SIZES._replace(slots=130), 132),
    ],
)
def test_loss_and_gradients_equal_the_hand_written(name, sizes, num_steps):
    theirs, ours = build(name, sizes)
    frames, noise = draw(num_steps)
    expected = handwritten.negative_elbo(theirs, frames)
    expected.backward()
    arguments = (
        xla.as_parameters(theirs.state_dict()),
        xla.as_array(frames),
        xla.as_array(noise),
    )
    negative_elbo = partial(xla.negative_elbo, ours)
    loss, gradients = compiled(jax.jit(jax.value_and_grad(negative_elbo)), *arguments)(*arguments)
    assert float(loss) == pytest.approx(expected.item(), rel=1e-9)
    apart = differences(gradients, gradients_of(theirs))
    assert {name: share for name, share in apart.items() if not share < 1e-9} == {}


@pytest.mark.usefixtures("doubles")
def test_clip_and_adam_are_those_of_pytorch():
    theirs = nn.Linear(3, 2)
    optimizer = torch.optim.Adam(theirs.parameters(), lr=RATE)
    training = xla.begin({"kernel": xla.as_array(theirs.weight), "bias": xla.as_array(theirs.bias)})
    for size in (3.0, 0.01, 1.0):  # the second is not clipped
        theirs.weight.grad = size * torch.randn(2, 3)
        theirs.bias.grad = size * torch.randn(2)
        gradients = {
            "kernel": xla.as_array(theirs.weight.grad),
            "bias": xla.as_array(theirs.bias.grad),
        }
        training = adam(training, clip(gradients, CLIP), RATE)
        nn.utils.clip_grad_norm_(theirs.parameters(), CLIP)
        optimizer.step()
    expected = {"kernel": xla.as_array(theirs.weight), "bias": xla.as_array(theirs.bias)}
    assert max(differences(training.parameters, expected).values()) < 1e-9


def test_step_learns_draws_new_noise_and_consumes_its_argument():
    theirs, ours = build("introspective")
    frames = xla.as_array(torch.zeros(7, 3, 11))

    def fresh(seed):
        return xla.begin(xla.as_parameters(theirs.state_dict()), seed)

    step = compiled(xla.make_step(ours, rate=0.03), fresh(0), frames)
    first, begun = fresh(0), step(fresh(1), frames)[1]
    training, losses = first, []
    for _ in range(40):
        training, loss = step(training, frames)
        losses.append(float(loss))
    assert losses[0] != float(begun)
    assert int(training.steps) == len(losses)
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])
    assert all(array.is_deleted() for array in jax.tree.leaves(first.second))


@pytest.mark.parametrize(
    ("precision", "named"), [("float32", "HIGHEST, HIGHEST"), ("tensorfloat32", "HIGH, HIGH")]
)
def test_precision_is_asked_of_every_product(precision, named):
    theirs, ours = build("vrnn")
    training = xla.begin(xla.as_parameters(theirs.state_dict()))
    step = xla.make_step(ours, precision=precision)
    program = step.lower(training, xla.as_array(draw()[0])).as_text()
    products = [line for line in program.splitlines() if "dot_general" in line]
    assert products
    assert all(f"precision = [{named}]" in line for line in products)


def test_order_of_slots_is_a_stable_sort():
    order = jax.numpy.array([[2.0, 1.0, 2.0, 0.0, 1.0]])
    assert comes_before(order).sum(-1).tolist() == [[3, 1, 4, 0, 2]]
