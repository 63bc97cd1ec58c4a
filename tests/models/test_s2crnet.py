"""S2CRNet: what it sees, how its weights are read, the laws."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from contract import ModelContract, shapes_of
from PIL import Image
from ruled_nets import picture
from ruled_s2crnets import SMALL, SMALL_CONFIG, WITH_ENCODER, lively, ruled, thumb_of
from torch import nn

from hzcli.core.transform import Thumbnail
from hzcli.core.window import Size
from hzcli.errors import ModelError
from hzcli.models import s2crnet
from hzcli.models.s2crnet import S2CRNet, S2CRNetConfig
from hzcli.nets.trunks import VGG16, close_up, pool


@pytest.mark.parametrize("box", [(3, 40, 10, 30), (0, 64, 0, 64), (17, 18, 60, 64)])
def test_close_up_is_pillows(box: tuple[int, int, int, int]) -> None:
    top, bottom, left, right = box
    rgb, mask = picture(64, 64), torch.zeros(1, 1, 64, 64)
    mask[..., top:bottom, left:right] = 0.5
    near = close_up(Thumbnail(rgb, mask, Size(64, 64)), (48, 64))
    for c in range(3):
        part = Image.fromarray(rgb[0, c, top:bottom, left:right].numpy())
        want = np.asarray(part.resize((64, 48), Image.Resampling.BILINEAR))
        assert np.abs(near.rgb[0, c].numpy() - want).max() < 1e-5
    assert (near.mask == 0.5).all()


def test_no_foreground_is_looked_at_as_a_whole() -> None:
    thumb = dataclasses.replace(thumb_of(), mask=torch.zeros(1, 1, 64, 64))
    assert torch.equal(close_up(thumb, (64, 64)).rgb, thumb.rgb)


def test_pooling_over_the_region_forgets_the_rest() -> None:
    """ "masked" gives what a region of its own would; "whole" fades with it."""
    rng = torch.Generator().manual_seed(0)
    maps, region = torch.rand(2, 5, 8, 8, generator=rng), torch.zeros(2, 1, 64, 64)
    region[:, :, 16:32, 8:40] = 1
    inside = maps[:, :, 2:4, 1:5].mean((2, 3))
    assert torch.allclose(pool(maps, region, "masked"), inside, atol=1e-6)
    assert torch.allclose(pool(maps, region, "whole"), maps.mean((2, 3)), atol=1e-6)
    assert (pool(maps, torch.zeros_like(region), "masked") == 0).all()


@pytest.mark.parametrize("net", ["published", "own"])
def test_another_background_guides(net: str | S2CRNet) -> None:
    """F_b comes from the reference, all of it, and from nothing else."""
    exact = net == "published"
    net = ruled("fusionv3s") if exact else lively(SMALL_CONFIG)
    first, second = picture(64, 64, 2.0), picture(64, 64, 4.0) ** 3
    thumb = thumb_of()
    with torch.inference_mode():
        own = net.predict(thumb).knots
        one, two = (
            net.predict(dataclasses.replace(thumb, reference=r)).knots for r in (first, second)
        )
        assert (own - one).abs().max() > 5e-4
        assert (one - two).abs().max() > 5e-4
        # Outside the mask the composite itself no longer counts.
        other = torch.where(thumb.mask > 0, thumb.rgb, 1 - thumb.rgb)
        again = net.predict(dataclasses.replace(thumb, rgb=other, reference=first)).knots
        assert (one - again).abs().max() < (1e-6 if exact else 0.05)
        # All of the reference counts, where the mask lies too.
        inside = torch.where(thumb.mask > 0, 1 - first, first)
        moved = net.predict(dataclasses.replace(thumb, reference=inside)).knots
        assert (one - moved).abs().max() > 1e-4
        # Another size of reference is the same reference.
        large = nn.functional.interpolate(first, (128, 128), mode="nearest")
        big = net.predict(dataclasses.replace(thumb, reference=large)).knots
        assert (one - big).abs().max() < 0.05


def test_labels_change_the_curves_and_none_is_the_default() -> None:
    net = lively(S2CRNetConfig(widths=SMALL, thumbnail=64))
    assert net.label is None
    assert sorted(net.labels.values()) == [0, 1, 2, 3, 4]
    thumb = thumb_of()
    knots = []
    with torch.inference_mode():
        for label in (None, *S2CRNet.labels.values()):
            net.label = label
            knots.append(net.predict(thumb).knots)
    for n, one in enumerate(knots):
        assert all((one - other).abs().max() > 1e-3 for other in knots[:n])


def test_a_label_for_weights_without_any_is_an_error() -> None:
    net = lively(S2CRNetConfig(widths=SMALL, thumbnail=64, labels=0))
    net.label = 1
    with pytest.raises(ModelError, match="without semantic labels"):
        net.predict(thumb_of())


# --- Weights --------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [0, 5])
def test_labels_are_read_from_the_weights(labels: int) -> None:
    """Strictly: without the semantic heads the others' weights do not fit, nor turned round."""
    config = S2CRNetConfig(widths=SMALL, labels=labels)
    state = S2CRNet(config).state_dict()
    found = s2crnet.config_from(shapes_of(state), {})
    assert found == config
    S2CRNet(found).load_state_dict(state, strict=True)
    with pytest.raises(RuntimeError, match="fc_f_label"):
        S2CRNet(dataclasses.replace(config, labels=5 - labels)).load_state_dict(state, strict=True)


def test_a_configuration_that_cannot_be_read_is_named() -> None:
    shapes = shapes_of(S2CRNet(S2CRNetConfig(widths=SMALL)).state_dict())
    with pytest.raises(ModelError, match=r"lack squeezenet1_1\.9\.expand1x1"):
        s2crnet.config_from(
            {k: s for k, s in shapes.items() if k != "squeezenet1_1.9.expand1x1.weight"}, {}
        )
    with pytest.raises(ModelError, match="pooling"):
        s2crnet.config_from(shapes, {"pooling": "some"})
    with pytest.raises(ModelError, match="no trunk"):
        s2crnet.config_from({"weight": (3,)}, {})
    with pytest.raises(ValueError, match="no variant"):
        s2crnet.published("s2crnet")


def test_compact_is_small_and_starts_at_the_identity() -> None:
    config = S2CRNetConfig.compact()
    with torch.device("meta"):
        assert sum(p.numel() for p in S2CRNet(config).parameters()) < 6e6
    assert config.thumbnail in range(128, 257)
    assert config.curve == "free" and config.pooling == "masked"


class TestOwn(ModelContract):
    """The better readings, small."""

    module = s2crnet

    def model(self) -> nn.Module:
        return lively(SMALL_CONFIG)


class TestWithEncoder(ModelContract):
    """The same, and the encoder in the joint network's place."""

    module = s2crnet

    def model(self) -> nn.Module:
        return lively(WITH_ENCODER)


def test_the_encoder_sees_the_foreground_before_the_reference() -> None:
    net, thumb, seen = lively(WITH_ENCODER), thumb_of(), []
    other = torch.rand_like(thumb.rgb)
    net.joint.register_forward_pre_hook(lambda _, inputs: seen.append(inputs))  # type: ignore[union-attr]
    with torch.inference_mode():
        net.predict(dataclasses.replace(thumb, reference=other))
    ((rgb, mask),) = seen
    assert torch.equal(rgb, thumb.rgb * thumb.mask + other * (1 - thumb.mask))
    assert torch.equal(mask, thumb.mask)


class TestPublishedReadings(ModelContract):
    """The authors' readings, small, with their dead layers."""

    module = s2crnet
    # Without a label the semantic heads are not used.
    unused = ("fc_label_1", "fc_label_2", "fc_f_label")

    def model(self) -> nn.Module:
        return lively(S2CRNetConfig(widths=SMALL, thumbnail=96, pieces=16))


class TestLabelled(ModelContract):
    """The second trunk, three stages, a label and its heads."""

    module = s2crnet
    # With a label the plain foreground heads are not used.
    unused = ("fc_f_1",)

    def model(self) -> nn.Module:
        widths = tuple(width // 16 for width in VGG16)
        config = S2CRNetConfig(
            trunk="vgg16", widths=widths, thumbnail=64, pieces=8, stages=3, labels=3,
            curve="monotone", pooling="masked", thumbnail_filter="area",
        )  # fmt: skip
        net = lively(config)
        net.label = 1
        return net

    def test_configuration_is_read_back_from_weights(self) -> None:
        """The label is the caller's to set, not the weights'."""
        config = self.network().config
        shapes = shapes_of(self.network().state_dict())
        readings = {name: str(getattr(config, name)) for name in config.READINGS}
        assert s2crnet.config_from(shapes, readings) == config
