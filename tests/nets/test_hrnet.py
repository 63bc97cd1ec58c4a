"""HRNetV2-W18 + OCR: shapes, and float64 oracles written in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hzcli.nets import hrnet


def randomise(module: nn.Module, seed: int) -> nn.Module:
    """Float64, eval, and statistics and scales that are not the identity."""
    generator = torch.Generator().manual_seed(seed)
    module = module.double().eval()
    for name, t in module.state_dict().items():
        if t.is_floating_point():
            t.copy_(torch.randn(t.shape, generator=generator, dtype=torch.float64) * 0.4)
            if name.endswith("running_var"):
                t.abs_().add_(0.5)
    return module


def norm_relu(x: np.ndarray, norm: nn.Module, *, relu: bool = True) -> np.ndarray:
    """Batch normalisation of (C, ...) by its running statistics, and ReLU."""
    s = {k: v.detach().numpy() for k, v in norm.state_dict().items()}
    shape = (-1,) + (1,) * (x.ndim - 1)
    scale = s["weight"] / np.sqrt(s["running_var"] + 1e-5)
    y = x * scale.reshape(shape) + (s["bias"] - s["running_mean"] * scale).reshape(shape)
    return np.maximum(y, 0) if relu else y


def convolve(x: np.ndarray, layer: nn.Module, stride: int = 1) -> np.ndarray:
    """(C, h, w) through a bias-free convolution of odd kernel, zeros around."""
    weight = layer.weight.detach().numpy()
    k = weight.shape[-1]
    x = np.pad(x, [(0, 0), (k // 2, k // 2), (k // 2, k // 2)])
    windows = np.lib.stride_tricks.sliding_window_view(x, (k, k), (1, 2))[:, ::stride, ::stride]
    return np.einsum("chwij,ocij->ohw", windows, weight)


def enlarge(x: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear, corners on corners."""
    for axis, n in ((1, height), (2, width)):
        old = x.shape[axis]
        place = np.arange(n) * (old - 1) / (n - 1)
        low = np.minimum(place.astype(int), old - 2)
        part = (place - low).reshape((-1, 1) if axis == 1 else (-1,))
        x = x.take(low, axis) * (1 - part) + x.take(low + 1, axis) * part
    return x


def test_output_is_a_quarter_of_the_input() -> None:
    """128 features, none negative, and the mask's features reach them."""
    torch.manual_seed(1)
    net = hrnet.HRNetOCR().eval()
    rgb, mask = torch.rand(1, 3, 64, 96) * 2 - 1, torch.rand(1, 1, 64, 96)
    extra = torch.rand(1, 64, 32, 48)
    with torch.inference_mode():
        out = net(rgb, mask, extra)
        other = net(rgb, mask, torch.zeros_like(extra))
    assert out.shape == (1, 128, 16, 24)
    assert out.min() >= 0
    assert not torch.allclose(out, other)


def test_mask_features_enter_after_the_first_relu() -> None:
    """Negative mask features can make the stem negative; before a ReLU they could not."""
    net = randomise(hrnet.HRNetOCR(), 2)
    seen: list[Tensor] = []
    net.conv2.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    rgb = torch.randn(1, 3, 32, 32, dtype=torch.float64)
    extra = torch.randn(1, 64, 16, 16, dtype=torch.float64)
    with torch.inference_mode():
        net(rgb, torch.ones(1, 1, 32, 32, dtype=torch.float64), extra)
    stem = norm_relu(convolve(rgb[0].numpy(), net.conv1, 2), net.bn1)
    np.testing.assert_allclose(seen[0][0].numpy(), stem + extra[0].numpy(), atol=1e-10)


def test_regions_are_softmax_weighted_means() -> None:
    """The softmax is over positions of the mask values: e to 1, not 1 to 0."""
    rng = np.random.default_rng(3)
    features, mask = rng.normal(size=(5, 4, 6)), rng.uniform(size=(1, 8, 11))
    actual = hrnet.gather_regions(torch.tensor(features)[None], torch.tensor(mask)[None])
    assert actual.shape == (1, 5, 2, 1)
    for region, m in enumerate([mask, 1 - mask]):
        weight = np.exp(enlarge(m, 4, 6)[0])
        expected = (features * weight).sum((1, 2)) / weight.sum()
        np.testing.assert_allclose(actual[0, :, region, 0], expected, atol=1e-12)


def test_attention_against_float64_loops() -> None:
    """Scaled dot product of a position with the two regions, softmax over the regions."""
    attention = randomise(hrnet.ObjectAttention(6, 4), 4)
    rng = np.random.default_rng(4)
    features, regions = rng.normal(size=(6, 3, 5)), rng.normal(size=(6, 2, 1))
    with torch.inference_mode():
        actual = attention(torch.tensor(features)[None], torch.tensor(regions)[None])[0].numpy()

    def layers(x: np.ndarray, net: nn.Sequential) -> np.ndarray:
        for conv, norm in zip(net[::2], net[1::2], strict=True):
            x = norm_relu(convolve(x, conv), norm[0])
        return x

    query = layers(features, attention.f_pixel)
    key = layers(regions, attention.f_object)[..., 0]
    value = layers(regions, attention.f_down)[..., 0]
    context = np.empty((4, 3, 5))
    for y, x in np.ndindex(3, 5):
        score = np.exp(query[:, y, x] @ key / np.sqrt(4))
        context[:, y, x] = value @ (score / score.sum())
    np.testing.assert_allclose(actual, layers(context, attention.f_up), atol=1e-10)


@pytest.mark.parametrize("target", [0, 1, 2])
def test_exchange_against_float64_sums(target: int) -> None:
    """Each scale receives every other one: up by corners, down by strided convolutions."""
    module = randomise(hrnet.ExchangeModule(3), 5)
    for branch in range(3):
        module.branches[branch] = nn.Identity()
    rng = np.random.default_rng(5)
    sizes = [(8, 12), (4, 6), (2, 3)]
    xs = [rng.normal(size=(c, *s)) for c, s in zip(hrnet.BRANCHES, sizes, strict=False)]
    with torch.inference_mode():
        actual = module([torch.tensor(x)[None] for x in xs])[target][0].numpy()
    total = xs[target].copy()
    for source, x in enumerate(xs):
        path = module.fuse_layers[target][source]
        if source > target:
            x = enlarge(norm_relu(convolve(x, path[0]), path[1], relu=False), *sizes[target])
        for step in path if source < target else ():
            x = norm_relu(convolve(x, step[0], 2), step[1], relu=len(step) == 3)
        total += x if source != target else 0
    np.testing.assert_allclose(actual, np.maximum(total, 0), atol=1e-10)


def test_fine_to_coarse_keeps_relu_for_all_steps_but_the_last() -> None:
    """The last step alone changes the channels, and has no ReLU."""
    steps = list(hrnet.fuse_path(0, 3))
    assert [len(step) for step in steps] == [3, 3, 2]
    assert [step[0].out_channels for step in steps] == [18, 18, 144]
