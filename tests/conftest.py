"""What every test starts from, and tiny models to test with."""

from __future__ import annotations

import gc
import multiprocessing
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyro
import pytest
import torch
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import _PYRO_STACK
from torch import Tensor, nn

import pyro_gtm as gtm
from pyro_gtm.infer.ranks import Ranks, joined
from pyro_gtm.model.likelihoods import LIKELIHOODS
from pyro_gtm.model.networks import MLPDecoder, MLPEncoder

EVENT_SHAPE = (1, 5, 5)
LATENT_DIM = 3
HIDDEN_DIM = 6
FEATURE_DIM = 5

# Sizes that keep a memory tiny, where it has more than latent_dim and hidden_dim to choose.
SMALL: dict[str, dict[str, Any]] = {
    "associative": {"slots": 4, "heads": 2, "query_dim": 7, "key_dim": 3, "positions": 3},
    "introspective": {"slots": 3, "heads": 2},
    "ntm": {"slots": 4, "heads": 2, "word_size": 5},
    "lru": {"slots": 4, "heads": 2, "word_size": 5},
    "dnc": {"slots": 4, "heads": 2, "word_size": 5},
}

RECALL_ON_DEMAND = ("ntm", "lru", "dnc")
"""Memories that tell what their reads are made of where they are asked to."""


# These tensors are too small for two threads to share: one is faster, and leaves a core to others.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the scripts that tests start


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of a test marked ``thinned(n)`` about one case in n runs by default, the others are slow.

    They are spread as multiples of the golden ratio are, so that cases which are products of
    memories, layouts and the like keep each of these where they are enough, whatever changes
    fastest.  Every test begins elsewhere, so that not all leave out the same memories.
    """
    counts: dict[str, int] = {}
    for item in items:
        if mark := item.get_closest_marker("thinned"):
            test = item.nodeid.partition("[")[0]
            number = counts[test] = counts.get(test, -1) + 1
            begun = zlib.crc32(test.partition("::")[2].encode()) / 2**32
            if (begun + number * 0.6180339887) % 1 >= 1 / mark.args[0]:
                item.add_marker(pytest.mark.slow)


def pytest_collection_finish() -> None:
    """What was imported and collected stays to the end: no garbage collection looks through it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def fresh_pyro() -> Iterator[None]:
    """An empty parameter store, fixed seeds, validation on; and no handler left behind."""
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    with pyro.validation_enabled():
        yield
    left_behind = list(_PYRO_STACK)
    _PYRO_STACK.clear()
    assert not left_behind, "the test left handlers on Pyro's stack"


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data: PYRO_GTM_DATA, else ../shared/data beside the repository.

    A wrong PYRO_GTM_DATA fails the tests that need it; only where nothing is set nor found are
    they skipped.
    """
    if named := os.environ.get("PYRO_GTM_DATA"):
        return Path(named)
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not beside.is_dir():
        pytest.skip("needs the real data: set PYRO_GTM_DATA to the folder that holds MNIST/raw")
    return beside


@pytest.fixture
def float64() -> Iterator[None]:
    """Double precision by default."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture(params=gtm.memory.memory_names())
def memory_name(request: pytest.FixtureRequest) -> str:
    """Every memory there is, those added later included."""
    return request.param


@pytest.fixture(params=["stacked", "per_step"])
def layout(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def build_memory() -> Callable[..., gtm.MemoryModule]:
    """A tiny memory by name."""

    def build(name: str, latent_dim: int = LATENT_DIM, **options: Any) -> gtm.MemoryModule:
        sizes = {"hidden_dim": HIDDEN_DIM, **SMALL.get(name, {}), **options}
        return gtm.make_memory(name, latent_dim=latent_dim, **sizes)

    return build


@pytest.fixture
def in_ranks(tmp_path: Path) -> Callable[..., list[Any]]:
    """Call ``work(ranks)`` in each of several processes that have joined; what each returns.

    They are forks of this one, which is quick and takes what a test has made along.  The errors
    of some are raised here as their text; a rank that was killed has returned None.
    """

    def run(work: Callable[[Ranks], Any], size: int = 2, timeout: float = 60.0) -> list[Any]:
        place, meeting = multiprocessing.get_context("fork"), tmp_path / os.urandom(4).hex()

        def one(rank: int) -> None:
            where, value, error = f"file://{meeting}", None, None
            try:
                with joined(timeout, init_method=where, rank=rank, world_size=size) as ranks:
                    value = work(ranks)
            except Exception as raised:
                error = f"rank {rank}: {type(raised).__name__}: {raised}"
            torch.save((value, error), f"{meeting}-{rank}.pt")

        started = [place.Process(target=one, args=(rank,)) for rank in range(size)]
        for process in started:
            process.start()
        for process in started:
            process.join()
        told = [
            (None, None)
            if process.exitcode < 0
            else torch.load(f"{meeting}-{rank}.pt", weights_only=False)
            for rank, process in enumerate(started)
        ]
        errors = [error for _, error in told if error is not None]
        assert not errors, "; ".join(errors)
        return [value for value, _ in told]

    return run


class Feed(Messenger):
    """Latent sites get the values given, whoever draws them."""

    def __init__(self, values: dict[str, Tensor]) -> None:
        super().__init__()
        self.values = values

    def _pyro_sample(self, msg: Any) -> None:
        if not msg["is_observed"] and msg["name"] in self.values:
            msg["value"], msg["done"] = self.values[msg["name"]], True


@pytest.fixture
def feed() -> type[Feed]:
    """A handler that gives latent sites their values."""
    return Feed


class Model(NamedTuple):
    """A tiny program and the memory that fits it."""

    program: gtm.GenerativeTemporalModel
    memory: gtm.MemoryModule

    def model(self) -> Callable[..., Any]:
        return gtm.use_memory(self.memory)(self.program.model)

    def ordinary_guide(self) -> Callable[..., Any]:
        return gtm.use_memory(self.memory)(self.program.guide)

    def filtering_guide(self) -> gtm.FilteringGuide:
        return gtm.FilteringGuide(self.model())

    def laid_out(self, layout: str) -> Model:
        """The same weights, the sites in another layout."""
        return Model(self.program.with_layout(layout), self.memory)

    def modules(self) -> nn.ModuleDict:
        return nn.ModuleDict({"program": self.program, "memory": self.memory})

    def gradients(self, loss: Tensor) -> dict[str, Tensor | None]:
        """The gradient of every parameter, None where the loss does not depend on it."""
        names, parameters = zip(*self.modules().named_parameters(), strict=True)
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        return dict(zip(names, gradients, strict=True))


@pytest.fixture
def make_model(build_memory: Callable[..., gtm.MemoryModule]) -> Callable[..., Model]:
    """A tiny model with random weights, MLP networks and frames of shape (1, 5, 5)."""

    def make(
        memory_name: str,
        likelihood: str = "bernoulli",
        *,
        layout: str = "stacked",
        writes: str = "latent",
        decoder_input: str = "latent+context",
        posterior: str = "residual",
        prior: str = "gaussian",
        prototypes: int = 0,
        control_dim: int = 0,
    ) -> Model:
        written = gtm.GenerativeTemporalModel.written_dim(LATENT_DIM, FEATURE_DIM, writes)
        tells = {"recall": True} if prior == "mixture" and memory_name in RECALL_ON_DEMAND else {}
        memory = build_memory(memory_name, latent_dim=written, control_dim=control_dim, **tells)
        family = LIKELIHOODS.make(likelihood, EVENT_SHAPE)
        seen = LATENT_DIM + (memory.context_dim if decoder_input == "latent+context" else 0)
        program = gtm.GenerativeTemporalModel(
            context_dim=memory.context_dim,
            latent_dim=LATENT_DIM,
            encoder=MLPEncoder(EVENT_SHAPE, HIDDEN_DIM, FEATURE_DIM),
            decoder=MLPDecoder(seen, HIDDEN_DIM, family.parameter_shape),
            likelihood=family,
            decoder_input=decoder_input,
            posterior=posterior,
            prior=prior,
            recall_heads=memory.read_shape[0],
            prototypes=prototypes,
            writes=writes,
            layout=layout,
        )
        return Model(program, memory)

    return make


@pytest.fixture
def make_frames() -> Callable[..., Tensor]:
    """Random frames, binary or real: (T, B, 1, 5, 5)."""

    def make(num_steps: int = 5, batch_size: int = 3, likelihood: str = "bernoulli") -> Tensor:
        shape = (num_steps, batch_size, *EVENT_SHAPE)
        return torch.rand(shape).round() if likelihood == "bernoulli" else torch.randn(shape)

    return make


@pytest.fixture
def assert_same_gradients() -> Callable[..., None]:
    """Equal to 1e-10 of the whole gradient's norm, and absent for the same parameters."""

    def check(one: dict[str, Tensor | None], other: dict[str, Tensor | None]) -> None:
        assert one.keys() == other.keys()
        present = [gradient for gradient in other.values() if gradient is not None]
        size = torch.cat([gradient.flatten() for gradient in present]).norm().item()
        assert size > 0
        for name in one:
            if other[name] is None:
                assert one[name] is None, f"{name} has a gradient in one only"
            else:
                assert one[name] is not None, f"{name} has a gradient in one only"
                torch.testing.assert_close(
                    one[name], other[name], rtol=1e-10, atol=1e-10 * size, msg=name
                )

    return check
