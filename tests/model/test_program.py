"""The generative program: its returns, its sizes, and what it refuses."""

from __future__ import annotations

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO

import pyro_gtm as gtm
from pyro_gtm.model.networks import MLPDecoder, MLPEncoder


def test_given_frames_are_returned_and_others_generated(memory_name, layout, make_model):
    pair = make_model(memory_name, layout=layout)
    frames = torch.rand(5, 3, 1, 5, 5).round()
    assert pair.model()(frames).equal(frames)
    generated = pair.model()(num_steps=4, batch_size=2)
    assert generated.shape == (4, 2, 1, 5, 5)
    assert set(generated.unique().tolist()) == {0.0, 1.0}


def test_layouts_generate_alike_but_for_the_order_of_noise(memory_name, make_model):
    """Same latents, so the same distribution over frames."""
    pair, logits = make_model(memory_name), []
    z = torch.randn(2, 4, 3)
    for layout in ("stacked", "per_step"):
        data = {"z": z} if layout == "stacked" else {f"z_{t}": z[:, t] for t in range(4)}
        model = poutine.condition(pair.laid_out(layout).model(), data=data)
        nodes = poutine.trace(model).get_trace(num_steps=4, batch_size=2).nodes
        names = ["x"] if layout == "stacked" else [f"x_{t}" for t in range(4)]
        found = [getattr(fn, "frames", fn) for fn in (nodes[name]["fn"] for name in names)]
        found = [fn.base_dist.logits for fn in found]
        logits.append(found[0] if layout == "stacked" else torch.stack(found, dim=1))
    torch.testing.assert_close(logits[0], logits[1])


def test_site_names(layout, make_model, make_frames):
    trace = poutine.trace(make_model("vrnn", layout=layout).model()).get_trace(make_frames(3))
    names = [name for name, site in trace.nodes.items() if site["type"] == "sample"]
    assert names == (
        ["sequences", "z", "x"]
        if layout == "stacked"
        else ["sequences", "z_0", "x_0", "z_1", "x_1", "z_2", "x_2"]
    )


def test_site_shapes_of_the_stacked_layout(memory_name, make_model, make_frames):
    """Time is in the event, the plate of the sequences at dim -1, other plates left of it."""
    pair, frames = make_model(memory_name), make_frames(4, 3)
    model = pyro.plate("particles", 2, dim=-2)(pair.model())
    nodes = poutine.trace(model).get_trace(frames).nodes
    for name, value, event in (("z", (2, 3, 4, 3), (4, 3)), ("x", (3, 4, 1, 5, 5), (4, 1, 5, 5))):
        fn = nodes[name]["fn"]
        assert (fn.batch_shape, fn.event_shape) == ((2, 3), event)
        assert nodes[name]["value"].shape == value
    assert nodes["_RETURN"]["value"].equal(frames)
    generated = model(num_steps=4, batch_size=3)
    assert generated.shape == (4, 2, 3, 1, 5, 5)


@pytest.mark.parametrize("bound", [Trace_ELBO, TraceMeanField_ELBO])
@pytest.mark.parametrize("kind", ["filtering_guide", "ordinary_guide"])
def test_dataset_size_scales_the_loss(memory_name, layout, bound, kind, make_model, make_frames):
    pair, frames = make_model(memory_name, layout=layout), make_frames(batch_size=4)
    losses = []
    for options in ({}, {"dataset_size": 4}, {"dataset_size": 30}):
        pyro.set_rng_seed(2)
        model, guide = pair.model(), getattr(pair, kind)()
        losses.append(bound().loss(model, guide, frames, **options))
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    assert losses[2] == pytest.approx(losses[0] * 30 / 4, rel=1e-6)


@pytest.mark.parametrize("num_steps, batch_size", [(1, 1), (1, 3), (4, 1)])
@pytest.mark.parametrize("kind", ["filtering_guide", "ordinary_guide"])
@pytest.mark.parametrize("writes", ["latent", "latent+frame"])
def test_a_batch_of_one_and_a_sequence_of_one(
    memory_name, layout, num_steps, batch_size, kind, writes, make_model, make_frames
):
    """Sizes of one must not broadcast: the bound is the sum over the frames there are."""
    pair = make_model(memory_name, layout=layout, writes=writes)
    frames = make_frames(num_steps, batch_size)
    model, guide = pair.model(), getattr(pair, kind)()

    pyro.set_rng_seed(1)
    terms = gtm.evaluate(pair.filtering_guide(), frames)
    assert terms.kl.shape == terms.reconstruction.shape == (num_steps, batch_size)
    pyro.set_rng_seed(1)
    loss = TraceMeanField_ELBO().loss(model, guide, frames)
    assert loss == pytest.approx(terms.negative_elbo.sum().item(), rel=1e-5)

    many = Trace_ELBO(num_particles=3, vectorize_particles=True)
    assert many.loss(model, guide, frames) == pytest.approx(loss, rel=0.5)


def test_sequences_do_not_mix(memory_name, layout, make_model, make_frames):
    """Each sequence's terms are what they would be without the others."""
    pair, frames = make_model(memory_name, layout=layout), make_frames(4, 3)
    other = frames.clone()
    other[:, 1:] = 1 - other[:, 1:]
    terms = []
    for given in (frames, other):
        pyro.set_rng_seed(3)
        terms.append(gtm.evaluate(pair.filtering_guide(), given).negative_elbo)
    torch.testing.assert_close(terms[0][:, 0], terms[1][:, 0])
    assert not torch.isclose(terms[0][:, 1:], terms[1][:, 1:]).all(0).any()


FRAMES = torch.zeros(4, 3, 1, 5, 5)
CONTROLS = torch.zeros(4, 3, 2)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({}, "give num_steps and batch_size"),
        ({"num_steps": 3}, "give num_steps and batch_size"),
        ({"batch_size": 3}, "give num_steps and batch_size"),
        ({"frames": torch.zeros(4, 3, 1, 5, 6)}, r"frames must have shape .*\(4, 3, 1, 5, 6\)"),
        ({"frames": torch.zeros(3, 1, 5, 5)}, r"frames must have shape"),
        ({"frames": torch.zeros(5)}, r"frames must have shape"),
        ({"frames": FRAMES[:0]}, "num_steps must be at least 1, got 0"),
        ({"frames": FRAMES[:, :0]}, "batch_size must be at least 1, got 0"),
        ({"frames": FRAMES, "num_steps": 3}, "num_steps=3 is less than the 4 frames"),
        ({"frames": FRAMES, "batch_size": 2}, "frames must hold batch_size=2 sequences, got 3"),
        ({"frames": FRAMES, "controls": CONTROLS[:3]}, "controls must cover num_steps=4"),
        ({"frames": FRAMES, "controls": CONTROLS[:, :2]}, "controls must hold batch_size=3"),
        ({"controls": CONTROLS, "num_steps": 5}, "controls must cover num_steps=5 steps, got 4"),
        (
            {"frames": FRAMES, "controls": CONTROLS[..., :1]},
            "control of size 1 given, control_dim=2 allowed",
        ),
        ({"frames": FRAMES}, "no control given, one of size control_dim=2 needed"),
        ({"num_steps": 0, "batch_size": 3}, "num_steps must be at least 1, got 0"),
        ({"num_steps": 3, "batch_size": -1}, "batch_size must be at least 1, got -1"),
    ],
)
def test_bad_arguments_are_named(memory_name, layout, arguments, message, make_model):
    pair = make_model(memory_name, layout=layout, control_dim=2)
    with pytest.raises(ValueError, match=message):
        pair.model()(**arguments)
    with pytest.raises(ValueError, match=message):
        pair.filtering_guide()(**arguments)


def test_one_dimensional_controls_are_named(memory_name, layout, make_model):
    pair = make_model(memory_name, layout=layout, control_dim=2)
    with pytest.raises(ValueError, match="controls"):
        pair.model()(FRAMES, torch.zeros(4))


@pytest.mark.parametrize("kind", ["model", "filtering_guide", "ordinary_guide"])
def test_stacked_layout_explains_whole_sequences(kind, make_model):
    pair = make_model("vrnn", layout="stacked")
    with pytest.raises(
        ValueError, match=r"4 frames given for num_steps=5.*with_layout\('per_step'\)"
    ):
        getattr(pair, kind)()(FRAMES, num_steps=5)


def test_stacked_layout_cannot_generate_what_it_writes(make_model):
    """A frame that is written is needed before the next one, and there all come at once."""
    pair = make_model("vrnn", writes="latent+frame")
    with pytest.raises(ValueError, match=r"writes='latent\+frame'.*with_layout\('per_step'\)"):
        pair.model()(num_steps=3, batch_size=2)
    assert pair.laid_out("per_step").model()(num_steps=3, batch_size=2).shape == (3, 2, 1, 5, 5)


@pytest.mark.parametrize("choice", ["layout", "writes", "decoder_input", "posterior"])
def test_unknown_choice_is_named(choice, make_model):
    with pytest.raises(ValueError, match=rf"{choice} must be one of .*; got 'latents'"):
        _program(**{choice: "latents"})
    with pytest.raises(ValueError, match="layout must be one of"):
        make_model("vrnn").program.with_layout("latents")


def test_decoder_of_wrong_size_is_refused():
    with pytest.raises(ValueError, match=r"decoder with input_dim=8 given, one with 7 needed"):
        _program(decoder=MLPDecoder(8, 5, (1, 5, 5)))


def _program(**options):
    sizes = {
        "context_dim": 4,
        "latent_dim": 3,
        "encoder": MLPEncoder((1, 5, 5), 5, 5),
        "decoder": MLPDecoder(7, 5, (1, 5, 5)),
        "likelihood": gtm.BernoulliLikelihood((1, 5, 5)),
    }
    return gtm.GenerativeTemporalModel(**{**sizes, **options})


def test_memory_of_another_context_size_is_named(layout, make_model, build_memory):
    pair = make_model("vrnn", layout=layout)
    wider = build_memory("vrnn", hidden_dim=9)
    for program in (pair.program.model, pair.program.guide):
        with pytest.raises(
            ValueError, match=r"context of size 9 given by the memory in use, context_dim=6 needed"
        ):
            gtm.use_memory(wider)(program)(FRAMES)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 5, 1), (5, 5), (1, 5, 6), (5,)])
def test_decoders_of_another_shape_than_the_likelihoods_are_refused(
    shape, layout, make_model, make_frames
):
    """Broadcast, some of them would train on."""
    pair = make_model("vrnn", layout=layout)
    seen = pair.program.latent_dim + pair.memory.context_dim
    pair.program.decoder = MLPDecoder(seen, 4, shape)
    with pytest.raises(ValueError, match=r"decoder with outputs of shape .* needs \(1, 5, 5\)"):
        pair.filtering_guide()(make_frames())


@pytest.mark.parametrize("size", [0, 2])
def test_a_data_set_smaller_than_its_batch_is_refused(size, layout, make_model, make_frames):
    with pytest.raises(ValueError, match="dataset_size"):
        make_model("vrnn", layout=layout).filtering_guide()(make_frames(), dataset_size=size)
