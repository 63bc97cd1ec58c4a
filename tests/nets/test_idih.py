"""iDIH's encoder and decoder: shapes, and the order of operations."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from hzcli.nets import idih


def test_shapes_of_a_thumbnail() -> None:
    """What each level of the encoder and the end of the decoder hold."""
    torch.manual_seed(1)
    encoder, path = idih.Encoder().eval(), idih.deconv_blocks().eval()
    with torch.inference_mode():
        features = encoder(torch.randn(2, 4, 256, 256), torch.randn(2, 128, 64, 64))
        out = idih.deconvolve(path, features)
    assert [tuple(t.shape[1:]) for t in features.shallow] == [
        (64, 128, 128),
        (64, 64, 64),
        (128, 32, 32),
    ]
    assert [tuple(t.shape[1:]) for t in features.skips] == [
        (256, 4, 4),
        (256, 8, 8),
        (128, 16, 16),
        (128, 32, 32),
    ]
    assert features.bottleneck.shape == (2, 512, 1, 1)
    assert out.shape == (2, 64, 64, 64)


def test_global_features_reach_the_bottleneck_only() -> None:
    """The three maps for the content MLPs are made without them."""
    torch.manual_seed(2)
    encoder = idih.Encoder().eval()
    rgbm = torch.randn(1, 4, 256, 256)
    with torch.inference_mode():
        a = encoder(rgbm, torch.zeros(1, 128, 64, 64))
        b = encoder(rgbm, torch.ones(1, 128, 64, 64))
    assert all(torch.equal(x, y) for x, y in zip(a.shallow, b.shallow, strict=True))
    assert not torch.allclose(a.bottleneck, b.bottleneck)


def test_skips_are_added_after_the_activation() -> None:
    """With all-zero weights a block gives ELU(bias), then the skip is added untouched."""
    path = idih.deconv_blocks().double().eval()
    for block in path:
        nn.init.zeros_(block.block[0].weight)
        nn.init.constant_(block.block[0].bias, -1.0)
    seen: list[torch.Tensor] = []
    for block in path:
        block.block[0].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    shapes = [(256, 4), (256, 8), (128, 16), (128, 32)]
    skips = tuple(torch.full((1, c, n, n), -3.0, dtype=torch.float64) for c, n in shapes)
    bottleneck = torch.zeros(1, 512, 1, 1, dtype=torch.float64)
    with torch.inference_mode():
        out = idih.deconvolve(path, idih.EncoderFeatures((), skips, bottleneck))  # type: ignore[arg-type]
    activated = np.expm1(-1 / np.sqrt(1 + 1e-5))  # ELU below 0, after BN at its start values
    assert len(seen) == 5
    for t in seen[1:]:
        np.testing.assert_allclose(t.numpy(), activated - 3, atol=1e-12)
    np.testing.assert_allclose(out.numpy(), activated, atol=1e-12)


def test_conv_block_against_float64_loops() -> None:
    """4x4, stride 2, one zero around; normalisation between convolution and ELU."""
    torch.manual_seed(3)
    block = idih.ConvBlock(2, 3).double().eval()
    conv, norm, _ = block.block
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    x = torch.randn(1, 2, 6, 8, dtype=torch.float64)
    with torch.inference_mode():
        actual = block(x)[0].numpy()
    weight, bias = conv.weight.detach().numpy(), conv.bias.detach().numpy()
    padded = np.pad(x[0].numpy(), [(0, 0), (1, 1), (1, 1)])
    mean, var = norm.running_mean.numpy(), norm.running_var.numpy()
    for o, row, column in np.ndindex(3, 3, 4):
        part = padded[:, 2 * row : 2 * row + 4, 2 * column : 2 * column + 4]
        y = ((part * weight[o]).sum() + bias[o] - mean[o]) / np.sqrt(var[o] + 1e-5)
        np.testing.assert_allclose(actual[o, row, column], y if y > 0 else np.expm1(y), atol=1e-12)


def test_mask_scale_counts_by_its_absolute_value() -> None:
    """A learnt scale below zero does not turn the mask's features around."""
    stem = idih.mask_stem(4)
    mask = torch.rand(1, 1, 10, 10)
    with torch.no_grad():
        positive = stem(mask)
        stem[1].scale.neg_()
        assert torch.equal(stem(mask), positive)
        torch.testing.assert_close(positive, 0.1 * stem[0](mask))
    assert positive.shape == (1, 4, 5, 5)
