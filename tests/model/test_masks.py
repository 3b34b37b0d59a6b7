"""Missing frames: a padded batch is its sequences one by one, and a gap is imputed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro
import pytest
import torch
from pyro.infer import RenyiELBO, Trace_ELBO, TraceMeanField_ELBO
from torch import Tensor

import pyro_gtm as gtm
from pyro_gtm.infer import importance_weighted_bound
from pyro_gtm.model.networks import MLPDecoder, MLPEncoder

pytestmark = pytest.mark.usefixtures("float64")

T, B, C = 5, 3, 2
LENGTHS = (5, 2, 3)


def latents(layout: str, steps: Tensor) -> dict[str, Tensor]:
    """Values ``(T, B, Z)`` for the sites of a layout."""
    if layout == "stacked":
        return {"z": steps.movedim(0, 1)}
    return {f"z_{t}": step for t, step in enumerate(steps)}


def padded(frames: Tensor, garbage: float) -> Tensor:
    """The frames with garbage behind the end of each sequence."""
    there = torch.arange(T).unsqueeze(1) < torch.tensor(LENGTHS)  # (T, B)
    return frames.masked_fill(~there.reshape(T, B, 1, 1, 1), garbage)


@pytest.mark.parametrize("bound", [Trace_ELBO, TraceMeanField_ELBO])
@pytest.mark.parametrize("posterior", ["residual", "direct"])
@pytest.mark.parametrize("writes", ["latent", "latent+frame"])
def test_padded_batch_is_its_sequences_one_by_one(
    memory_name,
    layout,
    bound,
    posterior,
    writes,
    make_model,
    make_frames,
    assert_same_gradients,
    feed,
):
    pair = make_model(memory_name, layout=layout, posterior=posterior, writes=writes, control_dim=C)
    frames, controls, steps = make_frames(T, B), torch.randn(T, B, C), torch.randn(T, B, 3)
    guide, model = pair.filtering_guide(), pair.model()

    with feed(latents(layout, steps)):
        together = bound().differentiable_loss(
            model, guide, padded(frames, torch.nan), controls, lengths=LENGTHS
        )
    alone: Any = 0.0
    for b, length in enumerate(LENGTHS):
        part = slice(b, b + 1)
        with feed(latents(layout, steps[:length, part])):
            alone = alone + bound().differentiable_loss(
                model, guide, frames[:length, part], controls[:length, part]
            )
    # Latents behind the end have the prior for a posterior: what they add is rounding.
    torch.testing.assert_close(together, alone, rtol=1e-10, atol=1e-10)
    assert_same_gradients(pair.gradients(together), pair.gradients(alone))


def test_garbage_changes_nothing(layout, make_model, make_frames):
    pair = make_model("dnc", layout=layout, writes="latent+frame")
    frames, losses = make_frames(T, B), set()
    for garbage in (0.0, 7.0, torch.nan, torch.inf):
        pyro.set_rng_seed(2)
        losses.add(
            Trace_ELBO().loss(
                pair.model(), pair.filtering_guide(), padded(frames, garbage), lengths=LENGTHS
            )
        )
    assert len(losses) == 1


@pytest.mark.parametrize("checkpoint_every", [0, 2])
def test_layouts_and_checkpointed_chunks_agree(
    memory_name, checkpoint_every, make_model, make_frames, assert_same_gradients
):
    pair, frames = make_model(memory_name), make_frames(T, B)
    mask = torch.rand(T, B) < 0.6
    results = []
    for layout in ("stacked", "per_step"):
        program = pair.program.with_layout(layout)
        program.checkpoint_every = checkpoint_every
        unrolling = gtm.Unrolling(checkpoint_every=checkpoint_every if layout == "stacked" else 0)
        model = gtm.use_memory(pair.memory, unrolling=unrolling)(program.model)
        pyro.set_rng_seed(1)
        loss = Trace_ELBO().differentiable_loss(model, gtm.FilteringGuide(model), frames, mask=mask)
        results.append((loss, pair.gradients(loss)))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=1e-10, atol=0)
    assert_same_gradients(results[0][1], results[1][1])


def test_ordinary_guide_agrees(memory_name, layout, make_model, make_frames):
    pair, frames = make_model(memory_name, layout=layout), make_frames(T, B)
    mask, losses = torch.rand(T, B) < 0.6, []
    for guide in (pair.filtering_guide(), pair.ordinary_guide()):
        pyro.set_rng_seed(1)
        losses.append(Trace_ELBO().loss(pair.model(), guide, frames, mask=mask))
    assert losses[0] == pytest.approx(losses[1], rel=1e-10)


def test_frames_around_a_gap_count_as_without_it(
    memory_name, layout, make_model, make_frames, feed
):
    pair, frames = make_model(memory_name, layout=layout), make_frames(T, B)
    mask = torch.ones(T, B, dtype=torch.bool)
    mask[2, 0] = mask[3, 1] = False
    steps = torch.randn(T, B, 3)
    with feed(latents(layout, steps)):
        whole = gtm.evaluate(pair.filtering_guide(), frames)
        gap = gtm.evaluate(
            pair.filtering_guide(), frames.masked_fill(~mask[..., None, None, None], 9), mask=mask
        )
    for one, other in ((whole.kl, gap.kl), (whole.reconstruction, gap.reconstruction)):
        torch.testing.assert_close(one[mask], other[mask], rtol=1e-10, atol=1e-12)
        assert (other[~mask] == 0).all()


def test_summary_is_over_the_frames_there_are(make_model, make_frames):
    pair, frames = make_model("dnc"), make_frames(T, B)
    there = torch.arange(T).unsqueeze(1) < torch.tensor(LENGTHS)
    evaluation = gtm.evaluate(pair.filtering_guide(), frames, mask=there)
    summary = evaluation.summary(torch.ones(T, B, dtype=torch.bool))
    terms = [evaluation.negative_elbo[t, b].item() for b, n in enumerate(LENGTHS) for t in range(n)]
    assert summary["negative_elbo_per_frame"] == pytest.approx(sum(terms) / len(terms))
    assert summary["negative_elbo_per_sequence"] == pytest.approx(sum(terms) / B)
    last = [evaluation.kl[n - 1, b].item() for b, n in enumerate(LENGTHS)]
    assert summary["last_frame_kl"] == pytest.approx(sum(last) / B)


def test_importance_weights_of_padded_sequences(memory_name, layout, make_model, make_frames, feed):
    pair = make_model(memory_name, layout=layout)
    frames, steps = make_frames(T, B), torch.randn(T, B, 3)
    guide, mask = pair.filtering_guide(), torch.arange(T).unsqueeze(1) < torch.tensor(LENGTHS)
    given = padded(frames, torch.nan)
    with feed(latents(layout, steps)):
        together = importance_weighted_bound(guide, given, mask=mask, num_particles=1)
    for b, length in enumerate(LENGTHS):
        with feed(latents(layout, steps[:length, b : b + 1])):
            alone = importance_weighted_bound(guide, frames[:length, b : b + 1], num_particles=1)
        torch.testing.assert_close(together[b : b + 1], alone, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("bound", [Trace_ELBO, RenyiELBO])
def test_particles_do_not_see_what_is_not_there(
    memory_name, layout, bound, make_model, make_frames
):
    pair, frames = make_model(memory_name, layout=layout), make_frames(T, B)
    mask = torch.rand(T, B) < 0.6
    options: dict[str, Any] = {"alpha": 0} if bound is RenyiELBO else {}
    elbo = bound(num_particles=4, vectorize_particles=True, max_plate_nesting=1, **options)
    losses, bounds = [], []
    for garbage in (0.0, torch.nan):
        given = frames.masked_fill(~mask[..., None, None, None], garbage)
        pyro.set_rng_seed(3)
        losses.append(elbo.loss(pair.model(), pair.filtering_guide(), given, mask=mask))
        bounds.append(
            importance_weighted_bound(pair.filtering_guide(), given, mask=mask, num_particles=4)
        )
    assert losses[0] == losses[1]
    assert torch.equal(*bounds)


def test_reconstruct_and_continue_impute_a_gap(memory_name, make_model, make_frames):
    pair, frames = make_model(memory_name), make_frames(T, B)
    mask = torch.ones(T, B, dtype=torch.bool)
    mask[2, 1] = False
    hole = frames.masked_fill(~mask[..., None, None, None], torch.nan)
    imputed = gtm.reconstruct(pair.program, pair.memory, hole, mask=mask)
    assert imputed.shape == frames.shape
    assert imputed.isfinite().all()

    continued = gtm.continue_frames(pair.program, pair.memory, hole, num_steps=T + 2, mask=mask)
    assert continued.shape == (T + 2, *frames.shape[1:])
    assert continued.isfinite().all()
    given = mask[..., None, None, None].expand_as(frames)
    assert torch.equal(continued[:T][given], frames[given])
    assert ((continued[2, 1] > 0) & (continued[2, 1] < 1)).all()  # a mean of the model's


def test_a_frame_that_is_not_there_is_not_seen_by_the_posterior(layout, make_model, make_frames):
    pair, frames = make_model("ntm", layout=layout), make_frames(T, B)
    mask = torch.ones(T, B, dtype=torch.bool)
    mask[1] = False
    evaluated = []
    for other in (frames, 1 - frames):
        given = torch.where(mask[..., None, None, None], frames, other)
        pyro.set_rng_seed(2)
        evaluated.append(gtm.evaluate(pair.filtering_guide(), given, mask=mask))
    assert torch.equal(evaluated[0].kl, evaluated[1].kl)


BAD: dict[str, tuple[Callable[[], dict[str, Any]], str]] = {
    "both": (
        lambda: {"mask": torch.ones(T, B, dtype=torch.bool), "lengths": LENGTHS},
        "mask and lengths both given, one of them allowed",
    ),
    "floats": (lambda: {"mask": torch.ones(T, B)}, "mask must be bool of shape"),
    "shape": (
        lambda: {"mask": torch.ones(B, T, dtype=torch.bool)},
        r"mask must be bool of shape \(T, B\) = \(5, 3\)",
    ),
    "long": (lambda: {"lengths": (6, 1, 1)}, r"lengths must lie from 0 to T = 5, got \[6, 1, 1\]"),
    "negative": (lambda: {"lengths": (-1, 1, 1)}, "lengths must lie from 0 to T = 5"),
    "few": (lambda: {"lengths": (1, 1)}, r"lengths must be integers of shape \(B,\) = \(3,\)"),
    "half": (lambda: {"lengths": (1.5, 1, 1)}, "lengths must be integers"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_masks_are_named(case, layout, make_model, make_frames):
    given, sentence = BAD[case]
    with pytest.raises(ValueError, match=sentence):
        make_model("vrnn", layout=layout).filtering_guide()(make_frames(T, B), **given())


def test_a_mask_without_frames_is_refused(layout, make_model):
    with pytest.raises(ValueError, match="mask and lengths say which frames there are"):
        make_model("vrnn", layout=layout).model()(num_steps=T, batch_size=B, lengths=LENGTHS)


def test_a_placeholder_may_be_a_frame(layout):
    """Where no one number is inside the support, as for one-hot frames."""

    class OneHot(gtm.model.Likelihood):
        placeholder = torch.tensor([1.0, 0.0, 0.0])

        @property
        def parameter_shape(self) -> tuple[int, ...]:
            return (3,)

        def __call__(self, parameters: Tensor) -> Any:
            return pyro.distributions.OneHotCategorical(logits=parameters)

    memory = gtm.RecurrentMemory(latent_dim=2, hidden_dim=4)
    program = gtm.GenerativeTemporalModel(
        context_dim=4,
        latent_dim=2,
        encoder=MLPEncoder((3,), 4, 4),
        decoder=MLPDecoder(6, 4, (3,)),
        likelihood=OneHot((3,)),
        layout=layout,
    )
    frames = torch.eye(3)[torch.randint(3, (T, B))]
    frames[2, 1] = torch.nan
    mask = torch.ones(T, B, dtype=torch.bool)
    mask[2, 1] = False
    model = gtm.use_memory(memory)(program.model)
    evaluation = gtm.evaluate(gtm.FilteringGuide(model), frames, mask=mask)
    assert evaluation.reconstruction.isfinite().all()
    assert evaluation.reconstruction[2, 1] == 0
