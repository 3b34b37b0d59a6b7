"""A linear-Gaussian model under its exact posterior gives the Kalman filter's evidence.

The program, its memory and its guides are a user's own: they use nothing of the library but
``read`` and ``write``, ``use_memory`` and ``FilteringGuide``.  Under the exact posterior the bound
is tight for every single draw, so these are equalities and no statistics.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import pyro
import pytest
import torch
from pyro.distributions import MultivariateNormal
from pyro.infer import RenyiELBO, Trace_ELBO
from torch import Tensor

import pyro_gtm as gtm

pytestmark = pytest.mark.usefixtures("float64")

T, B, Z, X = 6, 3, 2, 3


class LinearState(NamedTuple):
    last: Tensor


class LinearMemory(gtm.MemoryModule):
    """Remembers z_{t-1} alone, and gives A z_{t-1}."""

    def __init__(self, transition: Tensor) -> None:
        super().__init__(latent_dim=Z, context_dim=Z, read_shape=(1, Z))
        self.transition = torch.nn.Parameter(transition)

    def initial_state(self, batch_shape=()):
        return LinearState(self.transition.new_zeros(*batch_shape, Z))

    def step(self, state, latent, control=None):
        return gtm.memory.MemoryStep(LinearState(latent), latent @ self.transition.T, {})


class System(NamedTuple):
    """z_t = A z_{t-1} + N(0, Q), x_t = C z_t + N(0, R), z_{-1} = 0."""

    A: Tensor
    Q: Tensor
    C: Tensor
    R: Tensor

    def model(self, frames, posterior_of=None):
        """Its latent sites carry the exact posterior of a system: z_{t-1} = A^-1 context."""
        smoothing = None if posterior_of is None else Posterior(posterior_of, frames)
        with pyro.plate("sequences", B):
            for t in range(T):
                context = gtm.read()
                before = context @ torch.linalg.inv(self.A).T
                infer = {"posterior": smoothing and smoothing.step(t, before)}
                z = pyro.sample(f"z_{t}", MultivariateNormal(context, self.Q), infer=infer)
                gtm.write(z)
                pyro.sample(f"x_{t}", MultivariateNormal(z @ self.C.T, self.R), obs=frames[t])


@pytest.fixture
def system() -> System:
    def covariance(size: int) -> Tensor:
        root = torch.randn(size, size)
        return root @ root.T + 0.3 * torch.eye(size)

    return System(torch.randn(Z, Z), covariance(Z), torch.randn(X, Z), covariance(X))


@pytest.fixture
def frames(system: System) -> Tensor:
    return 3 * torch.randn(T, B, X)


def log_evidence(system: System, frames: Tensor) -> Tensor:
    """The Kalman filter, one sequence at a time: log p(x_{1:T}), ``(B,)``."""
    A, Q, C, R = system
    total = torch.zeros(B)
    for b in range(B):
        mean, cov = torch.zeros(Z), torch.zeros(Z, Z)
        for t in range(T):
            mean, cov = A @ mean, A @ cov @ A.T + Q
            S = C @ cov @ C.T + R
            error = frames[t, b] - C @ mean
            whitened = torch.linalg.solve(S, error)
            total[b] -= 0.5 * (error @ whitened + torch.logdet(2 * torch.pi * S))
            gain = cov @ C.T @ torch.linalg.inv(S)
            mean, cov = mean + gain @ error, cov - gain @ C @ cov
    return total


class Posterior:
    """p(z_t | z_{t-1}, x_{t:T}), by conditioning the dense joint Gaussian of all z and x."""

    def __init__(self, system: System, frames: Tensor) -> None:
        A, Q, C, R = system
        # z = G w with w ~ N(0, diag(Q)), block (t, s) of G being A^(t-s).
        powers = [torch.linalg.matrix_power(A, n) for n in range(T)]
        zero = torch.zeros(Z, Z)
        G = torch.cat(
            [torch.cat([powers[t - s] if s <= t else zero for s in range(T)], 1) for t in range(T)]
        )
        prior = G @ torch.block_diag(*[Q] * T) @ G.T
        CC, RR = torch.block_diag(*[C] * T), torch.block_diag(*[R] * T)
        gain = prior @ CC.T @ torch.linalg.inv(CC @ prior @ CC.T + RR)
        x = frames.transpose(0, 1).reshape(B, T * X)
        self.mean = (x @ gain.T).reshape(B, T, Z)
        self.cov = (prior - gain @ CC @ prior).reshape(T, Z, T, Z)

    def step(self, t: int, before: Tensor) -> MultivariateNormal:
        """The distribution of z_t given z_{t-1} = ``before``; the posterior is a Markov chain."""
        mean, cov = self.mean[:, t], self.cov[t, :, t]
        if t > 0:
            gain = self.cov[t, :, t - 1] @ torch.linalg.inv(self.cov[t - 1, :, t - 1])
            mean = mean + (before - self.mean[:, t - 1]) @ gain.T
            cov = cov - gain @ self.cov[t - 1, :, t]
        mean = mean.expand(*before.shape[:-2], B, Z)
        return MultivariateNormal(mean, (cov + cov.T) / 2)

    def guide(self, frames: Tensor) -> None:
        """An ordinary guide: it has no need of the memory."""
        z = torch.zeros(B, Z)
        with pyro.plate("sequences", B):
            for t in range(T):
                z = pyro.sample(f"z_{t}", self.step(t, z))


@pytest.fixture(params=["ordinary", "filtering"])
def model_and_guide(request, system, frames):
    memory = gtm.use_memory(LinearMemory(system.A))
    if request.param == "ordinary":
        return memory(system.model), Posterior(system, frames).guide
    model = memory(partial(system.model, posterior_of=system))
    return model, gtm.FilteringGuide(model)


@pytest.mark.parametrize("seed", range(3))
def test_bound_is_the_evidence_for_every_draw(model_and_guide, system, frames, seed):
    pyro.set_rng_seed(seed)
    bound = -Trace_ELBO().loss(*model_and_guide, frames)
    assert bound == pytest.approx(log_evidence(system, frames).sum().item(), rel=1e-9)


@pytest.mark.parametrize("bound", [Trace_ELBO, RenyiELBO])
def test_bound_is_the_evidence_for_many_particles(model_and_guide, system, frames, bound):
    options = {"alpha": 0} if bound is RenyiELBO else {}
    many = bound(num_particles=4, vectorize_particles=True, max_plate_nesting=1, **options)
    evidence = -many.loss(*model_and_guide, frames)
    assert evidence == pytest.approx(log_evidence(system, frames).sum().item(), rel=1e-9)


def test_another_posterior_gives_a_lower_bound(system, frames):
    """So the tests above could have failed."""
    model = gtm.use_memory(LinearMemory(system.A))(system.model)
    wrong = Posterior(system._replace(C=1.1 * system.C), frames).guide
    bound = -Trace_ELBO(num_particles=20).loss(model, wrong, frames)
    assert bound < log_evidence(system, frames).sum().item() - 0.01
