"""Products in bfloat16: near enough, and nowhere but in the encoder and the decoder."""

from __future__ import annotations

import pyro
import pytest
import torch
from pyro.infer import Trace_ELBO
from pyro.poutine.messenger import Messenger
from torch.nn import functional as F

import pyro_gtm as gtm
from pyro_gtm.model import GenerativeTemporalModel

EPSILON = 2.0**-8
"""Half the spacing of bfloat16's numbers: what a rounding adds to a product, relative to it."""


def loss_and_gradients(pair, precision, frames):
    pair.program.precision = precision
    pyro.set_rng_seed(1)
    loss = Trace_ELBO().differentiable_loss(pair.model(), pair.filtering_guide(), frames)
    return loss, pair.gradients(loss)


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
@pytest.mark.parametrize("checkpoint_every", [0, 2])
def test_near_single_precision(
    memory_name, layout, likelihood, checkpoint_every, make_model, make_frames
):
    pair = make_model(memory_name, likelihood, layout=layout)
    pair.program.checkpoint_every = checkpoint_every
    if memory_name == "associative":
        # Logits that are squared distances multiply the roundings of what they compare.
        torch.nn.init.zeros_(pair.memory.sharpness)
    frames = make_frames(likelihood=likelihood)
    loss, gradients = loss_and_gradients(pair, "bfloat16", frames)
    expected, reference = loss_and_gradients(pair, "float32", frames)
    # Encoder and decoder are three products deep each; their roundings are of either sign, and a
    # loss over hundreds of pixels has less of them than any single output.
    assert loss.item() == pytest.approx(expected.item(), rel=2 * EPSILON)
    assert loss.item() != expected.item(), "nothing was rounded"

    for name, gradient in gradients.items():
        assert (gradient is None) == (reference[name] is None), name
    pairs = [(g, reference[name]) for name, g in gradients.items() if g is not None]
    assert all(g.dtype == torch.float32 and g.isfinite().all() for g, _ in pairs)
    one, other = (torch.cat([g.flatten() for g in side]) for side in zip(*pairs, strict=True))
    # An error of some epsilons of the norm turns the gradient by as much: the cosine by its square.
    assert F.cosine_similarity(one, other, dim=0) > 1 - (8 * EPSILON) ** 2
    assert one.norm().item() == pytest.approx(other.norm().item(), rel=8 * EPSILON)


@pytest.mark.parametrize("checkpoint_every", [0, 2])
def test_everything_else_is_in_single_precision(
    memory_name, layout, checkpoint_every, make_model, make_frames
):
    """What is drawn and judged, what the memory holds and shows; the weights too."""
    pair, frames = make_model(memory_name, layout=layout), make_frames()
    pair.program.precision = "bfloat16"
    pair.program.checkpoint_every = checkpoint_every
    seen = {}

    class Look(Messenger):
        def _pyro_post_sample(self, msg):
            value = msg["value"]
            seen[msg["name"], "value"] = value
            if msg["name"][0] in "zx":
                seen[msg["name"], "log_prob"] = msg["fn"].log_prob(value)

        def _take_part(self, msg):
            msg.setdefault("observers", []).append(self)

        _pyro_gtm_read = _pyro_gtm_recurrence = _take_part

        def observe_step(self, step, result):
            seen["context"] = result.context
            seen.update(result.state._asdict())
            seen.update(result.details)

        def observe_write(self, latent):
            seen["written"] = latent

    with Look():
        pair.filtering_guide()(frames)
    kinds = {value.dtype for value in seen.values() if value.is_floating_point()}
    assert kinds == {torch.float32}
    assert {"context", "hidden", "cell"} <= seen.keys()
    assert pair.program.encode(frames).dtype == torch.float32
    assert {weight.dtype for weight in pair.modules().parameters()} == {torch.float32}


def test_the_networks_multiply_in_bfloat16(make_model, make_frames):
    """And the heads and the memory do not."""
    pair, kinds = make_model("ntm"), {}
    pair.program.precision = "bfloat16"
    for name, module in pair.modules().named_modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_hook(
                lambda _, __, output, name=name: kinds.__setitem__(name, output.dtype)
            )
    pair.filtering_guide()(make_frames())
    for name, kind in kinds.items():
        part = name.split(".")[1]
        low = name.startswith("program") and part in ("encoder", "decoder")
        assert kind == (torch.bfloat16 if low else torch.float32), name
    assert {name.split(".")[1] for name in kinds} >= {
        "encoder",
        "decoder",
        "prior_head",
        "posterior_head",
        "controller",
    }


def test_generated_frames_are_in_single_precision(memory_name, layout, make_model):
    pair = make_model(memory_name, "gaussian", layout=layout)
    pair.program.precision = "bfloat16"
    frames = pair.model()(num_steps=4, batch_size=2)
    assert (frames.shape[:2], frames.dtype) == ((4, 2), torch.float32)


@pytest.mark.parametrize("precision", ["float16", "bf16", "", None])
def test_unknown_precision_is_refused(precision, make_model):
    program = make_model("vrnn").program
    with pytest.raises(ValueError, match="precision must be one of float32, bfloat16; got"):
        GenerativeTemporalModel(
            context_dim=program.context_dim,
            latent_dim=program.latent_dim,
            encoder=program.encoder,
            decoder=program.decoder,
            likelihood=program.likelihood,
            precision=precision,
        )


@pytest.mark.parametrize("value", [-1, 1.5, True])
def test_impossible_checkpointing_is_refused(value, make_model):
    program = make_model("vrnn").program
    with pytest.raises(ValueError, match="checkpoint_every must be a non-negative integer"):
        gtm.GenerativeTemporalModel(
            context_dim=program.context_dim,
            latent_dim=program.latent_dim,
            encoder=program.encoder,
            decoder=program.decoder,
            likelihood=program.likelihood,
            checkpoint_every=value,
        )
