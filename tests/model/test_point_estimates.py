"""Likelihoods without a finite mean give their mode, or say that they have none."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

import pyro_gtm as gtm
from pyro_gtm.model.likelihoods import Likelihood, point_estimate
from pyro_gtm.model.networks import MLPDecoder, MLPEncoder

T, B, CLASSES = 4, 3, 6


class Categorical(Likelihood):
    @property
    def parameter_shape(self) -> tuple[int, ...]:
        return (*self.event_shape, CLASSES)

    def __call__(self, parameters: Tensor) -> Any:
        return dist.Categorical(logits=parameters).to_event(1)


class StudentT(Likelihood):
    @property
    def parameter_shape(self) -> tuple[int, ...]:
        return self.event_shape

    def __call__(self, parameters: Tensor) -> Any:
        return dist.StudentT(torch.tensor(0.9), parameters, 1.0).to_event(1)


class Cauchy(StudentT):
    def __call__(self, parameters: Tensor) -> Any:
        return dist.Cauchy(parameters, 1.0).to_event(1)


class Opaque(StudentT):
    def __call__(self, parameters: Tensor) -> Any:
        transform = dist.transforms.SigmoidTransform()
        return dist.TransformedDistribution(
            dist.Normal(parameters, 1.0), [transform, transform.inv]
        ).to_event(1)


def model_with(likelihood: Likelihood, layout: str) -> tuple[Any, Any]:
    memory = gtm.DNCMemory(latent_dim=3, slots=4, hidden_dim=6)
    program = gtm.GenerativeTemporalModel(
        context_dim=memory.context_dim,
        latent_dim=3,
        encoder=MLPEncoder((2,), 6, 5),
        decoder=MLPDecoder(3 + memory.context_dim, 6, likelihood.parameter_shape),
        likelihood=likelihood,
        layout=layout,
    )
    return program, memory


@pytest.mark.parametrize("family", [Categorical, StudentT, Cauchy])
def test_reconstruction_and_continuation_are_finite_and_possible(family, layout):
    likelihood = family((2,))
    program, memory = model_with(likelihood, layout)
    frames = torch.randint(CLASSES, (T, B, 2)).float()
    for output in (
        gtm.reconstruct(program, memory, frames),
        gtm.continue_frames(program, memory, frames[:2], num_steps=T),
        gtm.continue_frames(program, memory, frames[:2], num_steps=T, sample=True),
    ):
        assert output.isfinite().all()
        assert likelihood.support.check(output).all()
    evaluation = gtm.evaluate(gtm.FilteringGuide(gtm.use_memory(memory)(program.model)), frames)
    assert evaluation.reconstruction.isfinite().all()


def test_a_mode_is_the_likeliest_value():
    logits = torch.tensor([[0.0, 2.0, 1.0], [3.0, 0.0, 0.0]])
    assert point_estimate(dist.Categorical(logits=logits)).tolist() == [1, 0]
    assert point_estimate(dist.Cauchy(torch.tensor(3.0), 1.0)).item() == 3
    heavy = dist.StudentT(torch.tensor([0.5, 3.0]), torch.tensor([1.0, 2.0]), 1.0)
    assert point_estimate(heavy).tolist() == [1, 2]
    assert point_estimate(dist.Normal(torch.tensor(4.0), 1.0)).item() == 4


def test_without_mean_and_mode_samples_are_asked_for(layout):
    program, memory = model_with(Opaque((2,)), layout)
    frames = torch.randn(T, B, 2)
    for use in (
        lambda: gtm.reconstruct(program, memory, frames),
        lambda: gtm.continue_frames(program, memory, frames[:2], num_steps=T),
    ):
        with pytest.raises(ValueError, match=r"neither a finite mean nor a mode.*sample=True"):
            use()
    sampled = gtm.continue_frames(program, memory, frames[:2], num_steps=T, sample=True)
    assert sampled.isfinite().all()


def test_classes_out_of_range_are_named(layout):
    program, memory = model_with(Categorical((2,)), layout)
    guide = gtm.FilteringGuide(gtm.use_memory(memory)(program.model))
    with pytest.raises(ValueError, match=r"frames at time 0, sequence 0 .*values from 6 to 6"):
        guide(torch.full((T, B, 2), 6))
