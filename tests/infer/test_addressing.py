"""Addresses of a mixture prior: by the step of their write, and which of them is right."""

from __future__ import annotations

import math

import pyro
import pytest
import torch

import pyro_gtm as gtm
from pyro_gtm.memory import NEVER

pytestmark = pytest.mark.usefixtures("float64")

RECALLING = ("associative", "introspective", "ntm", "lru", "dnc")
T, B = 7, 3


def found(pair, frames, **given):
    pyro.set_rng_seed(1)
    return gtm.infer.addresses(pair.filtering_guide(), frames, **given)


@pytest.fixture(params=RECALLING)
def pair(request, make_model):
    """With fewer slots than there are frames."""
    return make_model(request.param, prior="mixture")


def test_they_are_distributions_over_the_past_and_something_new(pair, layout, make_frames):
    for logarithms in found(pair.laid_out(layout), make_frames(T, B)):
        assert logarithms.shape == (T, B, T + 1) and not logarithms.requires_grad
        torch.testing.assert_close(logarithms.logsumexp(-1), torch.zeros(T, B), rtol=0, atol=1e-10)
        for t in range(T):
            assert (logarithms[t, :, t:T] < -1e8).all(), "what is to come"
        assert logarithms[0, :, -1].abs().max() < 1e-10, "at first all is new"


@pytest.mark.parametrize("masked", [False, True])
def test_layouts_agree(pair, masked, make_frames, feed):
    """A frame that is missing has left nothing to be addressed."""
    frames, latents, missing = make_frames(T, B), torch.randn(T, B, 3), torch.tensor([1, 3, 4])
    mask = torch.arange(T).unsqueeze(-1) != missing if masked else None
    with feed({"z": latents.movedim(0, 1)} | {f"z_{t}": z for t, z in enumerate(latents)}):
        one, two = (
            found(pair.laid_out(name), frames, mask=mask) for name in ("stacked", "per_step")
        )
    for part, other in zip(one, two, strict=True):
        torch.testing.assert_close(part.exp(), other.exp(), rtol=1e-10, atol=1e-12)
    if masked:
        for b, step in enumerate(missing.tolist()):
            assert (one.log_weights[:, b, step] < -1e8).all()


def test_right_is_a_plain_loop():
    """A frame's slots are all that held it so far, by way of other repeats too."""
    logarithms = torch.randn(T, B, T + 1).log_softmax(-1)
    for t in range(T):
        logarithms[t, :, t:T] = NEVER
    repeats = torch.tensor([[-1, -1, 0, 2, 1, -1, 3], [-1, 0, 1, 2, 3, 4, 5], [-1] * T]).T
    right = gtm.infer.Addresses(logarithms, logarithms).log_weight_of_right(repeats)
    for b in range(B):
        first = []
        for t in range(T):
            again = repeats[t, b].item()
            first.append(t if again < 0 else first[again])
            slots = [s for s in range(t) if first[s] == first[t]] if again >= 0 else [T]
            total = sum(logarithms[t, b, s].exp().item() for s in slots)
            assert right[t, b].item() == pytest.approx(math.log(total), abs=1e-10)


def test_a_recalled_frame_costs_its_address():
    """Far components, the very same posterior again: the KL's bound is -log w of the right slot."""
    places = 1e3 * torch.eye(4)
    shown = torch.tensor([0, 1, 2, 1, 0])
    repeats = torch.tensor([-1, -1, -1, 1, 0])

    def model(frames):
        kept = []
        with pyro.plate("sequences", 1, dim=-1):
            for t, which in enumerate(shown):
                posterior = pyro.distributions.Normal(places[which], torch.ones(4)).to_event(1)
                slots = torch.stack(kept) if kept else places[:0]
                weights = torch.arange(len(kept) + 1.0).log_softmax(-1)
                prior = gtm.MixturePrior(
                    (-places.sum(0), torch.ones(4)), (slots, torch.ones(len(kept), 4)), weights
                )
                pyro.sample(f"z_{t}", prior, infer={"posterior": posterior})
                pyro.sample(f"x_{t}", pyro.distributions.Normal(0, 1), obs=frames[t])
                kept.insert(0, places[which])

    guide, frames = gtm.FilteringGuide(model), torch.zeros(5, 1)
    right = gtm.infer.addresses(guide, frames).log_weight_of_right(repeats.unsqueeze(-1))
    kl = gtm.evaluate(guide, frames).kl
    torch.testing.assert_close(-right[3:], kl[3:], rtol=1e-10, atol=1e-10)
    certain = gtm.infer.addresses(guide, frames).log_responsibilities[3:, 0].argmax(-1)
    assert certain.tolist() == repeats[3:].tolist()


@pytest.mark.parametrize(
    "repeats",
    [
        torch.full((T, B + 1), -1),
        torch.full((T, B), -2),
        torch.arange(T).unsqueeze(-1).expand(T, B),
    ],
)
def test_repeats_must_be_earlier(repeats):
    logarithms = torch.zeros(T, B, T + 1)
    with pytest.raises(ValueError, match=r"^repeats: got shape [^\n]+, must be \(7, 3\)"):
        gtm.infer.Addresses(logarithms, logarithms).log_weight_of_right(repeats)


def test_a_gaussian_prior_has_none(memory_name, layout, make_model, make_frames):
    pair = make_model(memory_name, layout=layout)
    with pytest.raises(ValueError, match=r"^addresses: a latent with a mixture prior is needed"):
        found(pair, make_frames(T, B))


def test_particles_are_refused(layout, make_model, make_frames):
    pair = make_model("associative", prior="mixture", layout=layout)
    guide = pair.filtering_guide()
    in_plate = pyro.plate("particles", 2, dim=-2)(guide)
    in_plate.get_traces = guide.get_traces
    with pytest.raises(ValueError, match=r"^addresses: the program must have one latent a frame"):
        gtm.infer.addresses(in_plate, make_frames(T, B))


@pytest.mark.parametrize("prototypes", [1, 3])
def test_prototypes_are_something_new(prototypes, make_model, make_frames, feed):
    pair = make_model("associative", prior="mixture", prototypes=prototypes)
    frames, latents = make_frames(T, B), torch.randn(T, B, 3)
    with feed({"z": latents.movedim(0, 1)} | {f"z_{t}": z for t, z in enumerate(latents)}):
        one, two = (found(pair.laid_out(name), frames) for name in ("stacked", "per_step"))
    for part, other in zip(one, two, strict=True):
        torch.testing.assert_close(part.exp(), other.exp(), rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(part.logsumexp(-1), torch.zeros(T, B), rtol=0, atol=1e-10)
