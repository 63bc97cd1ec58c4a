"""HDNet as published: the numbers of its authors' code, its keys and readings, the laws."""

from __future__ import annotations

import pytest
import torch
from contract import ModelContract
from ruled_hdnets import GOLDEN, RULE, VARIANTS, inputs, lite
from ruled_nets import fill, key_misfits, misfits, picture, rectangle
from torch import Tensor
from torch.nn import functional as F

import hzcli.models.hdnet as hdnet
from hzcli.core.transform import Thumbnail
from hzcli.core.window import Size, Window
from hzcli.models.hdnet import PublishedConfig, PublishedHDNet, as_published, dynamics, native


@pytest.fixture(autouse=True)
def _no_gradients(request: pytest.FixtureRequest):
    """Nothing here learns, except where the contract says so."""
    with torch.set_grad_enabled("gradient" in request.node.name):
        yield


# --- As published ---------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
def test_keys_are_the_published_ones(variant: str):
    case = GOLDEN["cases"][variant]["keys"]
    net = hdnet.published(variant)
    assert key_misfits(net, case) == []
    assert set(case["some"]) <= set(net.state_dict())


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
    "raw skips": (as_published, "skip", lambda raw, activated: raw, "MGD11_out"),
    "no reference": (dynamics, "coded_reference", zero_reference, "LD_out"),
    "pooling by maximum": (dynamics, "pool", lambda x: x.amax((2, 3), keepdim=True), "MGD11_out"),
    "leak": (as_published, "LEAK", 0.1, "x71"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_golden_numbers_notice(wrong: str, monkeypatch: pytest.MonkeyPatch):
    """Each wrong choice shows, from the tensor that it reaches first to the output."""
    where, name, value, first = WRONG[wrong]
    monkeypatch.setattr(where, name, value)
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


def by_foreground(layer: dynamics.GlobalDynamics, x: Tensor, m: Tensor) -> Tensor:
    pooled = (x * m).sum((2, 3), keepdim=True) / m.sum((2, 3), keepdim=True)
    w_f, w_b = (w[0, :, :, None, None] for w in layer.kernels(pooled))
    return F.conv2d(x, w_f) * m + F.conv2d(x, w_b) * (1 - m)


def test_masks_are_sampled_as_published():
    """Every eighth value, from the first; the other reading averages."""
    _, mask = inputs(64, 48, soft=True)
    nearest = native.at_size(mask, 8, 6, "nearest")
    assert torch.equal(nearest, mask[..., ::8, ::8])
    area = native.at_size(mask, 8, 6, "area")
    assert torch.allclose(area, mask.unflatten(3, (6, 8)).unflatten(2, (8, 8)).mean((3, 5)))


# --- By the thumbnail ------------------------------------------------------------------------


def test_guided_comes_near_the_network():
    """At the thumbnail's own size the fitted map repeats what the network did to it."""
    net = lite(route="guided", thumbnail=64, inputs=4)
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
    PublishedConfig.published("hdnet-lite"),
    PublishedConfig(width=3, inputs=4, neighbours=5, dynamics="paper", thumbnail=128),
], ids=["lite", "own"])  # fmt: skip
def test_configuration_is_read_back(config: PublishedConfig):
    shapes = {key: tuple(v.shape) for key, v in PublishedHDNet(config).state_dict().items()}
    readings = {name: str(getattr(config, name)) for name in config.READINGS}
    assert hdnet.detect(shapes) == "hdnet"
    assert hdnet.config_from(shapes, readings) == config
    plain = hdnet.config_from(shapes, {})
    assert (plain.dynamics, plain.route, plain.masks) == ("coded", "native", "nearest")


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="multiples of 8"):
        lite()(*inputs(60, 64))
    with pytest.raises(ValueError, match="dynamics"):
        PublishedConfig(dynamics="cosine")
    with pytest.raises(ValueError, match="hdnet-lite"):
        hdnet.published("hdnet-large")


class TestGuided(ModelContract):
    """The laws, with the paper's readings, by the thumbnail."""

    module = hdnet
    unused = (r"\.conv_guide\.",)  # published; nothing reads it

    def model(self) -> PublishedHDNet:
        return lite(
            inputs=4, dynamics="paper", neighbours=2, masks="area", route="guided", thumbnail=64
        )


class TestNative(ModelContract):
    """The laws, on the network as published, shown the whole picture."""

    module = hdnet

    def model(self) -> PublishedHDNet:
        return lite()

    def test_lerp_ends_are_the_transforms(self) -> None:
        """Nothing is predicted before the picture is shown: there is nothing to blend."""

    def test_gradient_reaches_every_parameter(self) -> None:
        """The table, and the forward pass, are what teaches."""
        net = lite().requires_grad_(True)
        net(*inputs(64, 64))["blended"].square().mean().backward()
        still = {n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()}
        assert still == {n for n in net.state_dict() if ".conv_guide." in n}
