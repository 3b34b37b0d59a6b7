"""The small convolution network: strided convolutions, on frames of any size and batch."""

from __future__ import annotations

import pytest
import torch
from pyro.infer import Trace_ELBO
from torch.nn import functional as F

import pyro_gtm as gtm
from pyro_gtm.model.networks import SmallConvDecoder, SmallConvEncoder, make_networks
from pyro_gtm.model.networks.small_conv import BLOCK

SIZES = [(1, 28, 28), (3, 32, 32), (3, 5, 13), (1, 8, 1), (2, 17, 16), (1, 1, 1)]


@pytest.mark.parametrize("event", SIZES, ids=str)
@pytest.mark.parametrize("batch", [(), (2,), (2, 3)], ids=str)
def test_any_frame_size_and_batch_shape(event, batch):
    encoder = SmallConvEncoder(event, feature_dim=5)
    decoder = SmallConvDecoder(6, 8, event, channels=4)
    assert encoder(torch.randn(*batch, *event)).shape == (*batch, 5)
    assert decoder(torch.randn(*batch, 6)).shape == (*batch, *event)
    assert (encoder.feature_dim, decoder.input_dim) == (5, 6)


@pytest.mark.usefixtures("float64")
def test_encoder_is_a_convolution_with_the_stride_of_its_kernel():
    """5 x 13 is padded to 8 x 16, one row (column) before it and two after."""
    encoder = SmallConvEncoder((3, 5, 13), feature_dim=4)
    frames = torch.randn(2, 3, 5, 13)
    padded = torch.zeros(2, 3, 8, 16)
    padded[..., 1:6, 1:14] = frames

    kernel = encoder.patches.weight.unflatten(1, (3, 4, 4))
    maps = F.conv2d(padded, kernel, encoder.patches.bias, stride=4).relu()
    assert maps.shape == (2, 24, 2, 4), "eight channels for each colour"
    expected = encoder.features(maps.movedim(1, -1).flatten(1))
    torch.testing.assert_close(encoder(frames), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.usefixtures("float64")
def test_decoder_is_a_deconvolution_with_the_stride_of_its_kernel():
    decoder = SmallConvDecoder(4, 8, (2, 5, 13), channels=6)
    inputs = torch.randn(2, 4)

    maps = decoder.maps(inputs).reshape(2, 2, 4, 6).movedim(-1, 1)  # (N, channels, rows, columns)
    kernel = decoder.patches.weight.unflatten(0, (2, 4, 4)).movedim(-1, 0)
    bias = decoder.patches.bias.unflatten(0, (2, 4, 4)).repeat(1, 2, 4)  # one for each pixel
    whole = F.conv_transpose2d(maps, kernel, stride=4) + bias
    torch.testing.assert_close(decoder(inputs), whole[..., 1:6, 1:14], rtol=1e-10, atol=1e-12)


@pytest.mark.usefixtures("float64")
def test_frames_do_not_depend_on_their_batch():
    """In training too, and in batches of more frames than are put together at once."""
    encoder = SmallConvEncoder((1, 9, 6), feature_dim=5)
    decoder = SmallConvDecoder(3, 8, (1, 9, 6), channels=4)
    for network, size in ((encoder, (1, 9, 6)), (decoder, (3,))):
        inputs = torch.randn(2 * BLOCK + 3, *size)
        alone = torch.stack([network(one) for one in inputs])
        torch.testing.assert_close(network(inputs), alone, rtol=1e-10, atol=1e-12)


def test_a_batch_without_sequences():
    encoder = SmallConvEncoder((1, 9, 6), feature_dim=5)
    decoder = SmallConvDecoder(3, 8, (1, 9, 6), channels=4)
    assert encoder(torch.randn(2, 0, 1, 9, 6)).shape == (2, 0, 5)
    assert decoder(torch.randn(2, 0, 3)).shape == (2, 0, 1, 9, 6)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("likelihood", [gtm.BernoulliLikelihood, gtm.GaussianLikelihood])
@pytest.mark.parametrize("event", [(1, 28, 28), (3, 5, 13)], ids=str)
def test_layouts_train_alike(event, likelihood, assert_same_gradients):
    """The same loss and gradients, stacked and per step; and every weight is trained."""
    memory = gtm.IntrospectiveMemory(latent_dim=4, hidden_dim=6, slots=3)
    encoder, decoder = make_networks(
        "small_conv", likelihood(event), hidden_dim=8, decoder_input_dim=4 + memory.context_dim
    )
    program = gtm.GenerativeTemporalModel(
        context_dim=memory.context_dim,
        latent_dim=4,
        encoder=encoder,
        decoder=decoder,
        likelihood=likelihood(event),
    )
    frames = torch.rand(4, 3, *event).round()
    losses, gradients = [], []
    for layout in ("stacked", "per_step"):
        model = gtm.use_memory(memory)(program.with_layout(layout).model)
        torch.manual_seed(0)
        loss = Trace_ELBO().differentiable_loss(model, gtm.FilteringGuide(model), frames)
        names, weights = zip(*program.named_parameters(), strict=True)
        found = torch.autograd.grad(loss, weights)
        losses.append(loss)
        gradients.append(dict(zip(names, found, strict=True)))
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-10, atol=0)
    assert_same_gradients(*gradients)
    assert all(gradient.ne(0).any() for gradient in gradients[0].values())


@pytest.mark.usefixtures("float64")
def test_every_pixel_counts():
    """None is lost in the padding, none is left without a gradient in the crop."""
    frames = torch.randn(1, 1, 5, 13, requires_grad=True)
    encoder = SmallConvEncoder((1, 5, 13), feature_dim=3)
    (gradient,) = torch.autograd.grad(encoder(frames).sum(), frames)
    assert gradient.ne(0).all()
    one, two = SmallConvDecoder(2, 8, (1, 5, 13), channels=8)(torch.tensor([[0.5, -1], [2, 3]]))
    assert one.ne(two).all()


@pytest.mark.parametrize(
    "network", [SmallConvEncoder, lambda shape, n: SmallConvDecoder(3, n, shape, channels=4)]
)
def test_frames_must_be_images(network):
    with pytest.raises(ValueError, match=r"\(channels, height, width\), got \(5, 5\)"):
        network((5, 5), 4)


@pytest.mark.parametrize(
    "network",
    [
        lambda channels: SmallConvEncoder((1, 4, 4), 3, channels),
        lambda channels: SmallConvDecoder(3, 4, (1, 4, 4), channels),
    ],
)
def test_channels_are_positive(network):
    with pytest.raises(ValueError, match="channels"):
        network(0)
