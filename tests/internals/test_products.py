"""Linear layers through oneDNN: the same to rounding, and PyTorch's own wherever that must be."""

from __future__ import annotations

import copy
import itertools
import pickle

import pyro
import pytest
import torch
from pyro.infer import Trace_ELBO
from torch import nn
from torch.autograd import forward_ad
from torch.nn import functional as F

import pyro_gtm as gtm
from pyro_gtm.internals import products
from pyro_gtm.internals.products import Choice, Linear, linear, through, why_not_onednn

OURS = "_ThroughOneDNNBackward"


@pytest.fixture
def onednn(monkeypatch):
    """All layers multiply through oneDNN, however small."""
    if reason := why_not_onednn():
        pytest.skip(reason)
    monkeypatch.setattr(products, "SMALLEST", 1)
    with through("onednn"):
        yield


@pytest.fixture(autouse=True)
def as_before():
    """Nothing that a test chooses outlives it."""
    with through("mkl"):
        yield


def layer(*batch, inputs=29, outputs=31, bias=True, dtype=torch.float32):
    """Inputs, weight and bias with gradients."""
    shapes = [(*batch, inputs), (outputs, inputs), *([(outputs,)] if bias else [])]
    made = [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]
    return made if bias else [*made, None]


def used(values):
    """Whether values were made by oneDNN."""
    return type(values.grad_fn).__name__ == OURS


def there_and_back(function, arguments, weighing=None):
    """Values, and the gradients of all arguments."""
    values = function(*arguments)
    given = [argument for argument in arguments if argument is not None]
    weighing = torch.ones_like(values) if weighing is None else weighing.to(values.dtype)
    return [values, *torch.autograd.grad(values, given, weighing)]


def assert_same_to_rounding(arguments, weighing=None):
    found = there_and_back(linear, arguments, weighing)
    assert used(found[0])
    usual = there_and_back(F.linear, arguments, weighing)
    exact = there_and_back(F.linear, [a if a is None else a.double() for a in arguments], weighing)
    for one, other, truth in zip(found, usual, exact, strict=True):
        value, plain, right = one.detach(), other.detach(), truth.detach()
        assert value.shape == plain.shape and value.dtype == torch.float32
        error, allowed = float((value - right).norm()), float((plain - right).norm())
        assert error <= 2 * allowed + 1e-7 * float(right.norm())


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batch", [(64,), (5, 64), (2, 3, 17), (1,)])
def test_values_and_gradients_are_the_same_to_rounding(onednn, batch, bias):
    arguments = layer(*batch, bias=bias)
    assert_same_to_rounding(arguments, torch.randn(*batch, 31))


def test_of_a_size_that_is_sent_there_by_itself():
    if reason := why_not_onednn():
        pytest.skip(reason)
    with through("onednn"):
        assert_same_to_rounding(layer(640, inputs=784, outputs=400), torch.randn(640, 400))


def test_strides_do_not_matter(onednn):
    inputs = torch.randn(29, 64, requires_grad=True).t()
    weight = torch.randn(31, 40, requires_grad=True)[:, 3:32]
    every_other = torch.randn(62, requires_grad=True)[::2]
    assert_same_to_rounding([inputs, weight, every_other], torch.randn(31, 64).t())
    repeated = torch.randn(29, requires_grad=True).expand(64, 29)
    assert_same_to_rounding([repeated, weight, every_other], torch.randn(()).expand(64, 31))


@pytest.mark.parametrize("wanted", list(itertools.product([True, False], repeat=3)))
def test_only_the_gradients_that_are_wanted_are_made(onednn, wanted):
    arguments = [
        tensor.detach().requires_grad_(w) for tensor, w in zip(layer(8), wanted, strict=True)
    ]
    values = linear(*arguments)
    assert values.requires_grad == any(wanted)
    if any(wanted):
        values.sum().backward()
    assert [tensor.grad is not None for tensor in arguments] == list(wanted)


def test_a_second_backward_pass_works(onednn):
    def second(function, arguments):
        first = torch.autograd.grad(function(*arguments).pow(3).sum(), arguments, create_graph=True)
        return torch.autograd.grad(sum(one.pow(2).sum() for one in first), arguments)

    arguments = layer(6, inputs=4, outputs=5)
    for found, plain in zip(second(linear, arguments), second(F.linear, arguments), strict=True):
        torch.testing.assert_close(found, plain, rtol=1e-4, atol=1e-4 * float(plain.norm()))


def test_many_gradients_at_once_work(onednn):
    arguments, weighings = layer(6), torch.randn(3, 6, 31)
    values = linear(*arguments)
    at_once = torch.autograd.grad(values, arguments, weighings, is_grads_batched=True)
    for found, plain in zip(
        at_once,
        zip(*(there_and_back(F.linear, arguments, w)[1:] for w in weighings), strict=True),
        strict=True,
    ):
        torch.testing.assert_close(found, torch.stack(plain))


def test_two_runs_are_bit_identical(onednn):
    arguments = layer(64)
    one, again = (there_and_back(linear, arguments) for _ in range(2))
    assert all(map(torch.equal, one, again))


class Subclass(torch.Tensor):
    """Somebody's own tensors."""


class TestWhereItIsPyTorchsOwn:
    """There, values are those of ``F.linear`` to the last bit."""

    @pytest.fixture(autouse=True)
    def chosen(self, onednn): ...

    def same(self, arguments):
        found, plain = there_and_back(linear, arguments), there_and_back(F.linear, arguments)
        assert not used(found[0])
        return all(map(torch.equal, found, plain))

    def test_small_layers(self, monkeypatch):
        monkeypatch.setattr(products, "SMALLEST", 64 * 29 * 31 + 1)
        assert self.same(layer(64))
        assert used(linear(*layer(65)))

    @pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
    def test_other_types(self, dtype):
        assert self.same(layer(64, dtype=dtype))

    def test_lone_vectors_and_nothing_at_all(self):
        assert self.same(layer())
        assert self.same(layer(0))

    def test_subclasses(self):
        inputs, weight, bias = layer(8)
        assert type(linear(inputs.as_subclass(Subclass), weight, bias)) is Subclass

    def test_another_device(self):
        assert linear(*(tensor.to("meta") for tensor in layer(8))).device.type == "meta"

    def test_autocast(self):
        with torch.autocast("cpu", torch.bfloat16):
            assert self.same(layer(64))
            assert linear(*layer(8)).dtype == torch.bfloat16

    def test_vmap_and_functional_gradients(self):
        inputs, weight, bias = (tensor.detach() for tensor in layer(3, 8))
        mapped = torch.func.vmap(linear, in_dims=(0, None, None))(inputs, weight, bias)
        torch.testing.assert_close(mapped, F.linear(inputs, weight, bias))

        def loss(function):
            return lambda w: function(inputs, w, bias).pow(2).sum()

        found, plain = (torch.func.grad(loss(f))(weight) for f in (linear, F.linear))
        assert torch.equal(found, plain)

    @pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # PyTorch's own use
    def test_forward_gradients(self):
        inputs, weight, bias = (tensor.detach() for tensor in layer(8))
        tangent = torch.randn_like(weight)
        with forward_ad.dual_level():
            values = linear(inputs, forward_ad.make_dual(weight, tangent), bias)
            found = forward_ad.unpack_dual(values).tangent
        torch.testing.assert_close(found, inputs @ tangent.t())

    def test_compiled_code(self):
        arguments = layer(8)
        compiled = torch.compile(linear, backend="eager", fullgraph=True)
        found = there_and_back(compiled, arguments)
        assert all(map(torch.equal, found, there_and_back(F.linear, arguments)))

    @pytest.mark.filterwarnings("ignore:`torch.jit.trace` is deprecated")  # and Pyro has it yet
    def test_traced_code(self):
        arguments = [tensor.detach() for tensor in layer(8)]
        traced = torch.jit.trace(linear, arguments, check_trace=False)
        assert "aten::linear" in str(traced.graph)


class TestWhatIsChosen:
    @pytest.fixture(autouse=True)
    def measured_anew(self):
        products.why_not_onednn.cache_clear(), products._ratio.cache_clear()
        yield
        products.why_not_onednn.cache_clear(), products._ratio.cache_clear()

    @pytest.mark.parametrize(
        ("ratio", "backend"), [(0.45, "onednn"), (0.84, "onednn"), (0.86, "mkl"), (1.25, "mkl")]
    )
    def test_auto_takes_what_is_clearly_faster(self, monkeypatch, ratio, backend):
        if reason := why_not_onednn():
            pytest.skip(reason)
        monkeypatch.setattr(products, "_ratio", lambda precision: ratio)
        choice = gtm.set_products("auto")
        assert choice == products.present_products()
        assert choice == Choice(
            backend, f"as through oneDNN a layer takes {ratio} times as long here"
        )

    def test_what_disturbs_the_measurement_does_not_count(self, monkeypatch):
        """Turns of oneDNN take half the time of the others, but for those that are disturbed."""
        if reason := why_not_onednn():
            pytest.skip(reason)
        now, seconds = 0.0, []
        for turn in range(products.ROUNDS):
            for usual in (2.0, 1.0):
                seconds += [now, now + usual * (1 if turn == 4 else 7 + turn)]
                now = seconds[-1] + 1.0
        clock = iter(seconds)
        monkeypatch.setattr(products.time, "thread_time", lambda: next(clock))
        assert products._ratio("highest") == 0.5

    def test_the_measurement_leaves_no_trace(self):
        if reason := why_not_onednn():
            pytest.skip(reason)
        generator, threads = torch.get_rng_state(), torch.get_num_threads()
        torch.set_num_threads(2)
        try:
            with torch.no_grad():
                assert products._ratio("highest") > 0
            assert torch.get_num_threads() == 2
        finally:
            torch.set_num_threads(threads)
        assert torch.get_rng_state().equal(generator)

    @pytest.mark.parametrize("name", ["auto", "onednn"])
    @pytest.mark.parametrize(
        ("operator", "reason"),
        [
            ("none", "this PyTorch has no such operator of oneDNN"),
            ("refuses", "oneDNN's operator does not work in this PyTorch"),
            ("rounds", "oneDNN's operator rounds more than PyTorch's own products here"),
        ],
    )
    def test_where_there_is_no_operator_all_is_as_ever(self, monkeypatch, name, operator, reason):
        class Refuses:
            def default(self, *arguments):
                raise RuntimeError("ATen not compiled with MKLDNN support")

        class Rounds:
            def default(self, inputs, weight, bias, *others):
                return F.linear(inputs.bfloat16(), weight.bfloat16()).float()

        there_is = {"none": None, "refuses": Refuses(), "rounds": Rounds()}[operator]
        monkeypatch.setattr(products, "_operator", there_is)
        monkeypatch.setattr(products, "SMALLEST", 0)
        assert gtm.set_products(name) == Choice("mkl", f"as {reason}")
        assert not used(linear(*layer(8)))

    def test_another_name_is_refused_and_changes_nothing(self):
        before = products.present_products()
        with pytest.raises(ValueError) as refusal:
            gtm.set_products("blas")
        assert str(refusal.value) == "products: got 'blas', must be one of auto, mkl, onednn"
        assert products.present_products() == before


class TestModules:
    def test_weights_are_those_of_any_linear_layer(self):
        ours, plain = Linear(4, 3), nn.Linear(4, 3)
        assert isinstance(ours, nn.Linear) and repr(ours) == repr(plain)
        assert list(ours.state_dict()) == list(plain.state_dict())
        ours.load_state_dict(plain.state_dict())
        inputs = torch.randn(2, 4)
        assert torch.equal(ours(inputs), plain(inputs))

    def test_copies(self, onednn):
        ours, inputs = Linear(4, 3), torch.randn(2, 4)
        for copied in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
            assert torch.equal(copied(inputs), ours(inputs)) and used(copied(inputs))

    def test_a_model_has_the_same_loss_and_gradients(
        self, onednn, memory_name, make_model, make_frames
    ):
        pair, frames = make_model(memory_name), make_frames()
        counted = []

        def gradients(name):
            with through(name):
                pyro.set_rng_seed(1)
                model = gtm.use_memory(pair.memory)(pair.program.model)
                guide = gtm.FilteringGuide(model)
                loss = Trace_ELBO().differentiable_loss(model, guide, frames)
                counted.append(nodes_of(loss).count(OURS))
                return flat(pair, loss)

        plain, found = gradients("mkl"), gradients("onednn")
        assert counted[0] == 0 and counted[1] > 5
        assert float((found - plain).norm()) <= 1e-5 * float(plain.norm())
        assert torch.equal(gradients("onednn"), found)

    def test_blocks_that_are_checkpointed(self, onednn, make_model, make_frames):
        pair, frames = make_model("dnc"), make_frames()

        def gradients(every):
            pyro.set_rng_seed(1)
            pair.program.checkpoint_every = every
            unrolling = gtm.Unrolling(checkpoint_every=every)
            model = gtm.use_memory(pair.memory, unrolling=unrolling)(pair.program.model)
            loss = Trace_ELBO().differentiable_loss(model, gtm.FilteringGuide(model), frames)
            return flat(pair, loss)

        plain, found = gradients(0), gradients(2)
        assert float((found - plain).norm()) <= 1e-5 * float(plain.norm())


def flat(pair, loss):
    """The loss and all its gradients, in a row."""
    gradients = pair.gradients(loss).values()
    return torch.cat([loss.detach().reshape(1), *map(torch.flatten, gradients)])


def nodes_of(loss):
    """The names of all nodes of a graph."""
    seen, waiting = set(), [loss.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting.extend(following for following, _ in node.next_functions)
    return [type(node).__name__ for node in seen]
