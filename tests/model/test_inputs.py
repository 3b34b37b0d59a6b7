"""Frames of any real type are converted; what cannot be is refused in one sentence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyro
import pytest
import torch
from pyro.infer import Trace_ELBO

import pyro_gtm as gtm
from pyro_gtm.model import InvalidFramesError

T, B = 4, 3

CONVERSIONS = {
    "bool": lambda frames: frames.bool(),
    "uint8": lambda frames: frames.to(torch.uint8),
    "int64": lambda frames: frames.long(),
    "float64": lambda frames: frames.double(),
    "float16": lambda frames: frames.half(),
    "bfloat16": lambda frames: frames.bfloat16(),
    "numpy": lambda frames: frames.numpy(),
    "numpy bool": lambda frames: frames.numpy().astype(bool),
    "list": lambda frames: frames.tolist(),
}


@pytest.mark.parametrize("kind", CONVERSIONS)
def test_frames_are_converted(memory_name, layout, kind, make_model, make_frames):
    pair, frames, losses = make_model(memory_name, layout=layout), make_frames(T, B), []
    for given in (frames, CONVERSIONS[kind](frames)):
        pyro.set_rng_seed(1)
        losses.append(Trace_ELBO().loss(pair.model(), pair.filtering_guide(), given))
    assert losses[0] == losses[1]


@pytest.mark.parametrize("kind", ["bool", "numpy", "list"])
def test_evaluation_and_generation_take_them_too(kind, make_model, make_frames):
    pair, frames = make_model("dnc"), make_frames(T, B)
    given = CONVERSIONS[kind](frames)
    assert gtm.evaluate(pair.filtering_guide(), given).kl.shape == (T, B)
    bound = gtm.infer.importance_weighted_bound(pair.filtering_guide(), given, num_particles=3)
    assert bound.shape == (B,)
    assert gtm.reconstruct(pair.program, pair.memory, given).shape == frames.shape
    continued = gtm.continue_frames(pair.program, pair.memory, given, num_steps=T + 1)
    assert torch.equal(continued[:T], frames)


def test_controls_are_converted(make_model, make_frames):
    pair, frames = make_model("ntm", control_dim=2), make_frames(T, B)
    controls, losses = torch.randn(T, B, 2), []
    for given in (controls, controls.double(), controls.numpy(), controls.tolist()):
        pyro.set_rng_seed(1)
        losses.append(Trace_ELBO().loss(pair.model(), pair.filtering_guide(), frames, given))
    assert len(set(losses)) == 1


def test_controls_must_be_finite_but_for_padding(layout, make_model, make_frames):
    pair, frames = make_model("ntm", control_dim=2, layout=layout), make_frames(T, B)
    controls = torch.randn(T, B, 2)
    controls[3, 1] = torch.nan
    with pytest.raises(ValueError, match="controls at time 3, sequence 1 hold NaN"):
        pair.filtering_guide()(frames, controls)
    pair.filtering_guide()(frames, controls, lengths=[T, 3, T])


REFUSED: dict[str, tuple[Any, str]] = {
    "words": ([["a"]], "frames must be a tensor, or an array or list of numbers"),
    "ragged": ([[[0.0], [0.0, 1.0]]], "frames must be a tensor, or an array or list of numbers"),
    "complex": (torch.zeros(T, B, 1, 5, 5, dtype=torch.cfloat), "frames must hold real numbers"),
    "other shape": (torch.zeros(T, B, 1, 5, 4), r"frames must have shape \(T, B, 1, 5, 5\)"),
    "elsewhere": (torch.zeros(T, B, 1, 5, 5, device="meta"), "frames must be on the device"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_converted_is_refused(case, layout, make_model):
    frames, sentence = REFUSED[case]
    with pytest.raises(ValueError, match=sentence) as refusal:
        make_model("vrnn", layout=layout).filtering_guide()(frames)
    assert "\n" not in str(refusal.value)


OUTSIDE = {
    "0 to 255": lambda frames: (frames * 255).to(torch.uint8),
    "shifted": lambda frames: frames - 0.5,
    "NaN": lambda frames: frames.masked_fill(frames == 1, torch.nan),
    "infinity": lambda frames: frames.masked_fill(frames == 1, torch.inf),
}


@pytest.mark.parametrize("kind", OUTSIDE)
def test_frames_outside_the_support_are_named(memory_name, layout, kind, make_model, make_frames):
    frames = make_frames(T, B)
    frames[:2] = frames[2, 0] = 0
    frames[2, 1, 0, 0, 0] = 1
    if kind == "shifted":
        bad = frames.clone()
        bad[2:] -= 0.5
        bad[2, 0] = 0
    else:
        bad = OUTSIDE[kind](frames)
    with pytest.raises(InvalidFramesError, match=r"frames at time 2, sequence 1 .*\{0, 1\}"):
        make_model(memory_name, layout=layout).filtering_guide()(bad)


def test_real_numbers_must_be_finite(layout, make_model, make_frames):
    frames = make_frames(T, B, "gaussian")
    frames[1, 2, 0, 3, 3] = torch.inf
    with pytest.raises(InvalidFramesError, match=r"time 1, sequence 2 .*the real numbers"):
        make_model("vrnn", "gaussian", layout=layout).filtering_guide()(frames)


def test_masks_and_lengths_of_any_kind(make_model, make_frames):
    pair, frames, losses = make_model("vrnn"), make_frames(T, B), []
    mask = np.arange(T)[:, None] < np.array([4, 2, 3])
    lengths = torch.tensor([4, 2, 3])
    kinds: list[dict[str, Any]] = [{"mask": mask}, {"mask": mask.tolist()}, {"lengths": [4, 2, 3]}]
    kinds += [{"lengths": lengths.to(dtype)} for dtype in (torch.uint8, torch.int32, torch.int64)]
    for kind in kinds:
        pyro.set_rng_seed(1)
        losses.append(Trace_ELBO().loss(pair.model(), pair.filtering_guide(), frames, **kind))
    assert len(set(losses)) == 1
    pyro.set_rng_seed(1)
    assert Trace_ELBO().loss(pair.model(), pair.filtering_guide(), frames) != losses[0]


def test_short_integers_hold_long_lengths(make_model, make_frames):
    frames = make_frames(300, 2)
    make_model("vrnn").filtering_guide()(
        frames, lengths=torch.tensor([200, 100], dtype=torch.uint8)
    )


def test_evaluation_takes_lengths(make_model, make_frames):
    pair, frames = make_model("vrnn"), make_frames(T, B)
    guide, lengths = pair.filtering_guide(), [4, 0, 2]
    evaluation = gtm.evaluate(guide, frames, lengths=lengths)
    assert (evaluation.reconstruction != 0).sum(0).tolist() == lengths
    summary = evaluation.summary(torch.ones(T, B, dtype=torch.bool))
    kl = evaluation.kl
    assert summary["last_frame_kl"] == pytest.approx(((kl[3, 0] + kl[1, 2]) / 2).item())
    bound = gtm.infer.importance_weighted_bound(guide, frames, lengths=lengths, num_particles=2)
    assert bound[1] == pytest.approx(0, abs=1e-5)  # nothing is told by what is not there
    assert gtm.reconstruct(pair.program, pair.memory, frames, lengths=lengths).isfinite().all()
