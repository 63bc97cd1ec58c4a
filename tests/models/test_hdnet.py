"""HDNet: the numbers of its authors' code, float64 oracles of its parts, and its routes."""

from __future__ import annotations

import hashlib

import pytest
import torch
from contract import Held, ModelContract
from ruled_nets import fill, golden, misfits, picture, rectangle
from torch import Tensor
from torch.nn import functional as F

import hzcli.models.hdnet as hdnet
from hzcli.core.transform import Thumbnail
from hzcli.core.window import Size, Window, bands
from hzcli.nets.rain import Rain, rain_

GOLDEN = golden("hdnet")
RULE = GOLDEN["weight_rule"]
VARIANTS = ("hdnet", "hdnet-lite")


@pytest.fixture(autouse=True)
def _no_gradients(request: pytest.FixtureRequest):
    """Nothing here learns, except where the contract says so."""
    with torch.set_grad_enabled("gradient" in request.node.name):
        yield


def lite(**readings) -> hdnet.HDNet:
    """A network of a quarter of HDNet-lite's width, weights by rule, in eval mode."""
    return fill(hdnet.HDNet(hdnet.HDNetConfig(**{"width": 2, **readings})), RULE)


def inputs(height: int, width: int, soft: bool = False) -> tuple[Tensor, Tensor]:
    """Picture in [-1, 1] and mask."""
    mask = rectangle(height, width)
    return picture(height, width) * 2 - 1, F.avg_pool2d(mask, 9, 1, 4) if soft else mask


# --- As published ---------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
def test_keys_are_the_published_ones(variant: str):
    case = GOLDEN["cases"][variant]["keys"]
    state = hdnet.published(variant).state_dict()
    lines = [f"{key} {'x'.join(map(str, value.shape))}" for key, value in state.items()]
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == case["sha256"]
    assert len(state) == case["count"]
    assert sum(value.numel() for value in state.values()) == case["parameters"]
    assert set(case["some"]) <= set(state)


def run_golden(variant: str) -> dict[str, list[str]]:
    """Misfits by tensor; weights first."""
    case = GOLDEN["cases"][variant]
    net = fill(hdnet.published(variant), RULE)
    for key, first in case["weight_check"].items():
        got = net.state_dict()[key].flatten()[:4]
        assert torch.allclose(got, torch.tensor(first), rtol=0, atol=1e-6), key
    image, mask = inputs(*case["size"])
    out = net(image=image, mask=mask)
    return {name: misfits(out[name], wanted) for name, wanted in case["tensors"].items()}


@pytest.mark.parametrize("variant", VARIANTS)
def test_golden_numbers(variant: str):
    found = run_golden(variant)
    assert found == {name: [] for name in found}


def zero_reference(query: Tensor, support: Tensor, nothing: int, certain: bool) -> Tensor:
    return torch.zeros_like(query)


WRONG = {
    "raw skips": ("skip", lambda raw, activated: raw, "MGD11_out"),
    "no reference": ("coded_reference", zero_reference, "LD_out"),
    "pooling by maximum": ("pool", lambda x: x.amax((2, 3), keepdim=True), "MGD11_out"),
    "leak": ("LEAK", 0.1, "x71"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_golden_numbers_notice(wrong: str, monkeypatch: pytest.MonkeyPatch):
    """Each wrong choice shows, from the tensor that it reaches first to the output."""
    name, value, first = WRONG[wrong]
    monkeypatch.setattr(hdnet, name, value)
    found = run_golden("hdnet-lite")
    assert found[first] != []
    assert found["output"] != []
    assert found["blended"] != []


def test_golden_numbers_notice_pooling_by_region():
    """Kernels chosen by the foreground's mean alone."""
    net = fill(hdnet.published("hdnet-lite"), RULE)
    image, mask = inputs(256, 256)
    layer = net.model_layer13att
    layer.forward = lambda x, m: by_foreground(layer, x, m)
    wanted = GOLDEN["cases"]["hdnet-lite"]["tensors"]
    out = net(image=image, mask=mask)
    assert misfits(out["MGD12_out"], wanted["MGD12_out"]) == []
    assert misfits(out["MGD13_out"], wanted["MGD13_out"]) != []
    assert misfits(out["output"], wanted["output"]) != []


def by_foreground(layer: hdnet.GlobalDynamics, x: Tensor, m: Tensor) -> Tensor:
    pooled = (x * m).sum((2, 3), keepdim=True) / m.sum((2, 3), keepdim=True)
    w_f, w_b = (w[0, :, :, None, None] for w in layer.kernels(pooled))
    return F.conv2d(x, w_f) * m + F.conv2d(x, w_b) * (1 - m)


def test_masks_are_sampled_as_published():
    """Every eighth value, from the first; the other reading averages."""
    _, mask = inputs(64, 48, soft=True)
    nearest = hdnet.at_size(mask, 8, 6, "nearest")
    assert torch.equal(nearest, mask[..., ::8, ::8])
    area = hdnet.at_size(mask, 8, 6, "area")
    assert torch.allclose(area, mask.unflatten(3, (6, 8)).unflatten(2, (8, 8)).mean((3, 5)))


# --- Parts, against float64 -------------------------------------------------------------------


def features(n: int = 9, soft: bool = False, seed: int = 0) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(2, 6, n, n + 2, generator=draw) + 0.5
    mask = torch.rand(2, 1, n, n + 2, generator=draw)
    return x, mask if soft else (mask > 0.6).float()


def dense_coded(x: Tensor, m: Tensor) -> Tensor:
    """phi_ref as coded, over all N x N pairs, float64: (C, N) and (N,)."""
    query, support = (x * m).double(), (x * (1 - m)).double()
    value, index = (query.T @ support).max(1)
    return value.softmax(0) * support[:, index]


KINDS = ("binary", "soft", "empty", "full", "nowhere sure", "opposite")


@pytest.mark.parametrize("kind", KINDS)
def test_local_dynamics_equal_all_pairs(kind: str, monkeypatch: pytest.MonkeyPatch):
    """The form that looks at foreground and background alone is exact, in any blocks."""
    monkeypatch.setattr(hdnet, "QUERIES", 7)
    monkeypatch.setattr(hdnet, "SUPPORTS", 11)
    x, mask = features(soft=kind == "soft")
    x *= 0.3  # products near 0, so that places of 0 have a share in the softmax
    if kind == "opposite":  # no product above 0: a place of 0 is the best
        x = torch.lerp(x.abs(), -x.abs(), mask)
        x[:, :, 0, :3], mask[:, :, 0, :3] = x[:, :, 0, 3:6], 1  # but for a few
    if kind == "soft":
        mask = mask.masked_fill(mask > 0.8, 1).masked_fill(mask < 0.3, 0)
    mask = {"empty": mask * 0, "full": mask * 0 + 1, "nowhere sure": mask * 0.8 + 0.1}.get(
        kind, mask
    )
    layer = hdnet.LocalDynamics(6, "coded", 1)
    found = layer(x, mask)
    weight, bias = layer.linear.weight[:, :, 0].double(), layer.linear.bias.double()
    for b in range(2):
        flat, m = x[b].flatten(1), mask[b].flatten()
        both = torch.cat([dense_coded(flat, m), (flat * m).double()])
        expected = (weight @ both + bias[:, None]) * m + flat * (1 - m)
        assert (found[b].flatten(1) - expected).abs().max() < 1e-5


@pytest.mark.parametrize("k", [1, 3, 500])
def test_paper_dynamics_equal_equations(k: int, monkeypatch: pytest.MonkeyPatch):
    """Eqs. (2) to (5) in float64, place by place."""
    monkeypatch.setattr(hdnet, "SUPPORTS", 11)
    x, mask = features()
    layer = hdnet.LocalDynamics(6, "paper", k)
    found = layer(x, mask)[0].flatten(1).double()
    flat, m = x[0].flatten(1).double(), mask[0].flatten()
    weight, bias = layer.linear.weight[:, :, 0].double(), layer.linear.bias.double()
    background = flat[:, m == 0]
    for i in range(len(m)):
        f = flat[:, i]
        expected = f
        if m[i] == 1:
            cosine = (f @ background) / f.norm() / background.norm(dim=0)
            top = cosine.topk(min(k, len(cosine)))
            reference = (top.values.softmax(0) * background[:, top.indices]).sum(1)
            expected = weight @ torch.cat([reference, f]) + bias
        assert (found[:, i] - expected).abs().max() < 1e-5


@pytest.mark.parametrize("soft", [False, True])
def test_rain_equals_its_definition(soft: bool):
    """Written out in float64; and the same in place, in rows."""
    x, mask = features(soft=soft)
    x = x * 3 + 20  # a mean that drowns careless sums
    mask[1] = 0  # an empty region
    norm = Rain(6)
    for n, parameter in enumerate(norm.parameters()):
        parameter.copy_(torch.linspace(-0.3, 0.4, 6).roll(n))
    g_f, b_f, g_b, b_b = (p.double()[None, :, None, None] for p in norm.parameters())
    y, m = x.double(), mask.double()

    def statistics(r: Tensor) -> tuple[Tensor, Tensor]:
        n = r.sum((2, 3), keepdim=True) + 1e-5
        mean = (y * r).sum((2, 3), keepdim=True) / n
        return mean, ((r * (y - mean)).square().sum((2, 3), keepdim=True) / n + 1e-5).sqrt()

    (mu_f, s_f), (mu_b, s_b) = statistics(m), statistics(1 - m)
    front = ((y - mu_f) / s_f * s_b + mu_b) * (1 + g_f) + b_f
    back = (y - mu_b) / s_b * (1 + g_b) + b_b
    expected = front * m + back * (1 - m)
    found = norm(x, mask)
    assert (found[:1] - expected[:1]).abs().max() < 3e-5
    # Without a foreground the deviation is sqrt(1e-5), and float32 shows: only of those pixels.
    assert (found[1:] - expected[1:]).abs().max() < 3e-5
    alone = x[:1].clone(memory_format=torch.channels_last)
    assert (rain_(alone, mask[:1], norm) - expected[:1]).abs().max() < 3e-5


# --- Routes to the full size --------------------------------------------------------------------


@pytest.mark.parametrize("readings", [
    {},
    {"inputs": 4, "dynamics": "paper", "neighbours": 3, "masks": "area", "output": "residual"},
], ids=["published", "ours"])  # fmt: skip
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("size", [(64, 96), (16, 16), (136, 24)], ids=str)
def test_native_equals_forward(readings, soft: bool, size, monkeypatch: pytest.MonkeyPatch):
    """In blocks of a few rows: every border between blocks counts."""
    monkeypatch.setattr("hzcli.nets.rain.BLOCK", 512)
    monkeypatch.setattr("hzcli.nets.rain.MIXED", 5)
    net = lite(**readings)
    image, mask = inputs(*size, soft)
    rgb = image / 2 + 0.5
    bound = hdnet.Native(net).bind(Held(rgb, mask))
    found = bound.apply(rgb, mask, Window.whole(Size(*size))) * 2 - 1
    expected = net(image, mask)["output"]
    assert ((found - expected).abs() * (mask > 0)).max() < 1e-4


@pytest.mark.parametrize("variant", VARIANTS)
def test_native_holds_the_golden_numbers(variant: str):
    """The published result, within its own tolerance, through the rows."""
    case = GOLDEN["cases"][variant]
    net = fill(hdnet.published(variant), RULE)
    image, mask = inputs(*case["size"])
    rgb = image / 2 + 0.5
    whole = Window.whole(Size(*case["size"]))
    bound = net.predict(Thumbnail(rgb, mask, whole.size)).bind(Held(rgb, mask))
    found = bound.apply(rgb, mask, whole) * 2 - 1
    blended = found * mask + image * (1 - mask)
    assert misfits(blended, case["tensors"]["blended"]) == []


@pytest.mark.parametrize("size", [(61, 90), (1, 37), (41, 1), (1, 1)], ids=str)
def test_native_mirrors_odd_sizes(size):
    """Equal to the network on a picture that was mirrored beforehand."""
    net = lite()
    height, width = size
    rgb = picture(height, width)
    mask = torch.zeros(1, 1, *size)
    mask[..., : max(1, height // 2), : max(1, 2 * width // 3)] = 1
    bound = hdnet.Native(net).bind(Held(rgb, mask))
    found = bound.apply(rgb, mask, Window.whole(Size(*size)))

    def mirrored(n: int) -> Tensor:
        line = list(range(n)) + (list(range(n - 2, 0, -1)) if n > 1 else [])
        wanted = max(16, -(-n // 8) * 8)
        return torch.tensor((line * (wanted // len(line) + 1))[:wanted])

    large = [x[:, :, mirrored(height)][..., mirrored(width)] for x in (rgb * 2 - 1, mask)]
    expected = net(*large)["output"][..., :height, :width] / 2 + 0.5
    assert ((found - expected).abs() * mask).max() < 1e-4


def test_native_windows_are_parts_of_the_whole():
    """L1, exactly; outside the mask's box the picture is handed back."""
    net, size = lite(), Size(70, 61)
    rgb, mask = picture(70, 61), torch.zeros(1, 1, 70, 61)
    mask[..., 20:50, 7:40] = 1
    bound = hdnet.Native(net).bind(Held(rgb, mask))
    whole = bound.apply(rgb, mask, Window.whole(size))
    for window in bands(size, 11):
        rows = slice(window.top, window.bottom)
        found = bound.apply(rgb[:, :, rows], mask[:, :, rows], window)
        assert torch.equal(found, whole[:, :, rows])
    assert torch.equal(whole[..., 41:], rgb[..., 41:])


def test_native_must_see_the_picture():
    window = Window.whole(Size(16, 16))
    with pytest.raises(ValueError, match="bound"):
        hdnet.Native(lite()).apply(picture(16, 16), rectangle(16, 16), window)


def test_guided_comes_near_the_network():
    """At the thumbnail's own size the fitted map repeats what the network did to it."""
    net = lite(route="guided", output="residual", thumbnail=64, inputs=4)
    with torch.no_grad():
        net.model_out[1].weight.mul_(0.1)
    rgb, mask = picture(64, 64), rectangle(64, 64)
    thumb = Thumbnail(rgb, mask, Size(64, 64))
    target = net(rgb * 2 - 1, mask)["output"] / 2 + 0.5
    found = net.predict(thumb).apply(rgb, mask, Window.whole(thumb.full))
    left, before = (((x - target) * mask).square().mean().sqrt() for x in (found, rgb))
    assert left < 0.6 * before


@pytest.mark.parametrize("edge", [256, 100, 24])
def test_a_thumbnail_of_any_size_will_do(edge: int):
    net = lite(route="guided")
    thumb = Thumbnail(picture(edge, edge), rectangle(edge, edge), Size(300, 200))
    maps = net.predict(thumb).maps
    assert maps.shape == (1, 12, edge, edge)
    assert maps.isfinite().all()


# --- Configurations -----------------------------------------------------------------------------


@pytest.mark.parametrize("config", [
    hdnet.HDNetConfig.published("hdnet-lite"), hdnet.HDNetConfig.compact(),
    hdnet.HDNetConfig(width=3, inputs=4, neighbours=5, dynamics="paper", thumbnail=128),
], ids=["lite", "compact", "own"])  # fmt: skip
def test_configuration_is_read_back(config: hdnet.HDNetConfig):
    shapes = {key: tuple(v.shape) for key, v in hdnet.HDNet(config).state_dict().items()}
    readings = {name: str(getattr(config, name)) for name in config.READINGS}
    assert hdnet.detect(shapes) == "hdnet"
    assert hdnet.config_from(shapes, readings) == config
    plain = hdnet.config_from(shapes, {})
    assert (plain.dynamics, plain.output, plain.masks) == ("coded", "tanh", "nearest")


def test_compact_is_small():
    net = hdnet.HDNet(hdnet.HDNetConfig.compact())
    assert 2 * sum(p.numel() for p in net.parameters()) < 2e6  # bytes as fp16


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="multiples of 8"):
        lite()(*inputs(60, 64))
    with pytest.raises(ValueError, match="dynamics"):
        hdnet.HDNetConfig(dynamics="cosine")
    with pytest.raises(ValueError, match="hdnet-lite"):
        hdnet.published("hdnet-large")


class TestGuided(ModelContract):
    """The laws, on the route that ships."""

    module = hdnet

    def model(self) -> hdnet.HDNet:
        config = hdnet.HDNetConfig(
            width=2, inputs=4, guide=False, dynamics="paper", neighbours=2, masks="area",
            output="residual", route="guided", thumbnail=64,
        )  # fmt: skip
        net = fill(hdnet.HDNet(config), RULE)
        with torch.no_grad():
            net.model_out[1].weight.mul_(0.3)
        return net


class TestNative(ModelContract):
    """The laws, on the network as published, shown the whole picture."""

    module = hdnet

    def model(self) -> hdnet.HDNet:
        return lite()

    def test_lerp_ends_are_the_transforms(self) -> None:
        """Nothing is predicted before the picture is shown: there is nothing to blend."""

    def test_gradient_reaches_every_parameter(self) -> None:
        """The table, and the forward pass, are what teaches."""
        net = lite().requires_grad_(True)
        net(*inputs(64, 64))["blended"].square().mean().backward()
        still = {n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()}
        assert still == {n for n in net.state_dict() if ".conv_guide." in n}
