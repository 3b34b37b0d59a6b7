"""The paper's visual block, and the networks made of it."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pyro_gtm.model.networks import ConvDecoder, ConvEncoder, VisualBlock

ODD_SIZES = [(1, 28, 28), (3, 5, 13), (1, 8, 1), (2, 17, 16)]


@pytest.fixture(params=["batch", "group"])
def norm(request):
    return request.param


def normalised(norm, module, maps):
    """In evaluation, from the definitions."""
    if norm == "batch":
        mean, variance = (t[:, None, None] for t in (module.running_mean, module.running_var))
        maps = (maps - mean) / (variance + module.eps).sqrt()
    else:
        groups = maps.unflatten(1, (module.num_groups, -1))
        variance, mean = torch.var_mean(groups, dim=(2, 3, 4), keepdim=True, correction=0)
        maps = ((groups - mean) / (variance + module.eps).sqrt()).flatten(1, 2)
    return maps * module.weight[:, None, None] + module.bias[:, None, None]


def randomise(module):
    """Weights and running statistics that no mistake can leave out unseen."""
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.is_floating_point():
            nn.init.uniform_(tensor, 0.1, 0.5)
    return module.eval()


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("direction", ["down", "up"])
def test_block_is_figure_18(norm, direction):
    """norm, relu, four parallel convolutions added to the input, norm, relu, resample."""
    block = randomise(VisualBlock(8, 6, direction, norm))
    maps = torch.randn(3, 8, 10, 12)

    active = F.relu(normalised(norm, block.norm_in, maps))
    sizes = [branch.kernel_size for branch in block.branches]
    assert sizes == [(7, 7), (5, 5), (3, 3), (1, 1)]
    parts = [
        F.conv2d(active, branch.weight, branch.bias, padding=size[0] // 2)
        for branch, size in zip(block.branches, sizes, strict=True)
    ]
    assert [part.shape[1] for part in parts] == [2, 2, 2, 2]
    last = F.relu(normalised(norm, block.norm_out, maps + torch.cat(parts, 1)))
    weight, bias = block.resample.weight, block.resample.bias
    if direction == "down":
        expected = F.conv2d(last, weight, bias, stride=2, padding=1)
    else:
        expected = F.conv_transpose2d(last, weight, bias, stride=2, padding=1)

    result = block(maps)
    assert result.shape == (3, 6, *((5, 6) if direction == "down" else (20, 24)))
    torch.testing.assert_close(result, expected)


def test_block_skips_its_branches():
    """With branches of zero what comes in goes on to the second half."""
    block = randomise(VisualBlock(4, 4, "down", "group"))
    with torch.no_grad():
        for branch in block.branches:
            branch.weight.zero_()
            branch.bias.zero_()
    maps = torch.randn(2, 4, 8, 8)
    torch.testing.assert_close(block(maps), block.resample(block.norm_out(maps).relu()))


@pytest.mark.parametrize("event", ODD_SIZES, ids=str)
@pytest.mark.parametrize("batch", [(), (2,), (2, 3)], ids=str)
def test_any_frame_size_and_batch_shape(event, batch):
    encoder = ConvEncoder(event, feature_dim=5, channels=4).eval()
    decoder = ConvDecoder(6, 8, event, channels=4).eval()
    assert encoder(torch.randn(*batch, *event)).shape == (*batch, 5)
    assert decoder(torch.randn(*batch, 6)).shape == (*batch, *event)


@pytest.mark.usefixtures("float64")
def test_frames_lie_in_the_middle():
    """5 x 13 is padded to 8 x 16, one row (column) before it and two after; and cropped alike."""
    encoder = ConvEncoder((1, 5, 13), feature_dim=3, channels=4).eval()
    decoder = ConvDecoder(2, 8, (1, 5, 13), channels=4).eval()
    frame, vector = torch.randn(2, 1, 5, 13), torch.randn(2, 2)

    padded = torch.zeros(2, 1, 8, 16)
    padded[..., 1:6, 1:14] = frame
    maps = encoder.blocks(encoder.stem(padded))
    torch.testing.assert_close(encoder(frame), encoder.features(maps.flatten(1).relu()))

    maps = decoder.blocks(decoder.maps(vector).reshape(2, 8, 2, 4))
    torch.testing.assert_close(decoder(vector), decoder.head(maps.relu())[..., 1:6, 1:14])


@pytest.mark.usefixtures("float64")
def test_every_pixel_counts():
    """None is lost in the padding, none is left without a gradient in the crop."""
    frames = torch.randn(1, 1, 5, 13, requires_grad=True)
    encoder = randomise(ConvEncoder((1, 5, 13), feature_dim=3, channels=4, norm="group"))
    (gradient,) = torch.autograd.grad(encoder(frames)[0, 0], frames)
    assert gradient.ne(0).all()
    decoder = randomise(ConvDecoder(2, 8, (1, 5, 13), channels=4, norm="group"))
    one, two = decoder(torch.tensor([[0.5, -1.0], [2.0, 3.0]]))
    assert one.ne(two).all()


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("training", [False, True])
def test_frames_do_not_depend_on_their_batch(norm, training):
    """In evaluation with either norm; with group norm in training too."""
    encoder = ConvEncoder((1, 9, 6), feature_dim=5, channels=4, norm=norm).train(training)
    decoder = ConvDecoder(3, 8, (1, 9, 6), channels=4, norm=norm).train(training)
    for network, inputs in ((encoder, torch.randn(4, 3, 1, 9, 6)), (decoder, torch.randn(4, 3, 3))):
        together = network(inputs)
        alone = torch.stack([network(step) for step in inputs])
        if norm == "batch" and training:
            assert not torch.allclose(together, alone)
        else:
            torch.testing.assert_close(together, alone, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("network", [ConvEncoder, lambda shape, n: ConvDecoder(3, n, shape)])
def test_frames_must_be_images(network):
    with pytest.raises(ValueError, match=r"\(channels, height, width\), got \(5, 5\)"):
        network((5, 5), 4)


def test_unknown_norm_is_named():
    with pytest.raises(ValueError, match="norm must be 'batch' or 'group', got 'layer'"):
        VisualBlock(4, 4, "down", "layer")


def test_channels_are_shared_among_four_kernels():
    with pytest.raises(ValueError, match="in_channels must be a multiple of 4, got 6"):
        VisualBlock(6, 4, "down")
