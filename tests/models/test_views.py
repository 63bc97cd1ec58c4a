"""Several looks at one thumbnail: laws of their mean, and the models that take it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from ruled_nets import picture, rectangle
from torch import Tensor
from torch.nn import functional as F

from hzcli.core.transform import Thumbnail
from hzcli.core.window import Size, Window
from hzcli.models import readings_of
from hzcli.models.aict import AICT, AICTConfig
from hzcli.models.cdtnet import CDTNet, CDTNetConfig
from hzcli.models.hdnet import HDNet, HDNetConfig
from hzcli.models.hinet import HINet, HINetConfig
from hzcli.models.s2crnet import S2CRNet, S2CRNetConfig
from hzcli.nets.compact import CompactEncoder
from hzcli.nets.views import (
    CLOSE,
    MARGIN,
    REACH,
    WHOLE,
    WINDOWS,
    closer,
    edges,
    fitted,
    look,
)

NARROW = {"channels": (16, 24, 32, 32), "blocks": 1}


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Networks begin alike whichever tests ran before."""
    torch.manual_seed(5)


def stirred(net: torch.nn.Module) -> torch.nn.Module:
    """Parts that begin at nothing say something."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return net.eval()


def pictures() -> tuple[Tensor, Tensor]:
    """A composite that is not its own mirror image, and a mask off the middle."""
    return picture(96, 96), rectangle(96, 96) * (torch.arange(96) < 60)


class Shown:
    """What `closer` asks of a model."""

    def __init__(self, count: int = 2, thumbnail: int = 256, training: bool = False) -> None:
        self.training = training
        self.config = HINetConfig(thumbnail=thumbnail, closer=count)


def ramps(edge: int) -> Tensor:
    """Each pixel tells its row and its column."""
    line = (torch.arange(edge) + 0.5) / edge
    grid = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([*grid, torch.zeros(edge, edge)])[None].double()


@pytest.mark.parametrize("box", [(100, 120, 30, 50), (0, 6, 250, 256), (10, 110, 90, 250)])
def test_windows_lie_around_the_foreground(box: tuple[int, int, int, int]) -> None:
    """Their middle is the foreground's, or as near as the picture's border lets it be; they hold
    all of it; every other one is mirrored; sizes are as told."""
    top, bottom, left, right = box
    mask = torch.zeros(1, 1, 256, 256, dtype=torch.double)
    mask[:, :, top:bottom, left:right] = 1
    whole, inside, near = closer(Shown(), ramps(256), mask)
    assert whole.shape[2:] == inside.shape[2:] == (256 * WHOLE, 256 * WHOLE)
    assert len(near) == len(WINDOWS)
    for n, (share, (seen, held)) in enumerate(zip(WINDOWS, near, strict=True)):
        assert seen.shape[2:] == held.shape[2:] == (256 * CLOSE, 256 * CLOSE)
        if n % 2:
            seen, held = seen.flip(3), held.flip(3)
        assert (seen[:, 1].diff(dim=2) >= 0).all()
        for channel, low, high in ((0, top, bottom), (1, left, right)):
            side = min(256, max(share * 256, MARGIN * (high - low)))
            start = min(max(0, (low + high - side) / 2), 256 - side)
            ends = [256 * float(f(seen[:, channel])) for f in (torch.min, torch.max)]
            assert abs(ends[0] - start) < 2 + side / 256
            assert abs(ends[1] - start - side) < 2 + side / 256
            # Where the foreground begins and ends in the window.
            line = held[0, 0].amax(1 - channel)
            there = line.nonzero().flatten() * side / 128 + start
            assert abs(float(there[0]) - low) < 4 and abs(float(there[-1]) - high) < 5


def test_the_whole_alone_is_seen_in_training_and_of_small_or_empty_thumbnails() -> None:
    rgb, mask = ramps(256), torch.ones(1, 1, 256, 256)
    for model in (Shown(0), Shown(training=True), Shown(thumbnail=320)):
        whole, inside, near = closer(model, rgb, mask)
        assert near == [] and whole is rgb and inside is mask
    for seen, _ in closer(Shown(), rgb, 0 * mask)[2]:
        assert seen[:, :2].min() < 0.01 and seen[:, :2].max() > 0.99


@torch.inference_mode()
def test_closer_looks_are_averaged_with_the_whole() -> None:
    """One by one in float64, of two pictures with foregrounds of their own."""
    encoder = stirred(CompactEncoder(**NARROW, code=24)).double()
    rgb, mask = (t.double() for t in (picture(256, 256), rectangle(256, 256)))
    other = torch.zeros_like(mask)
    other[:, :, :40, 200:] = 1
    rgb, mask = torch.cat([rgb, rgb.flip(1)]), torch.cat([mask, other])
    codes = []
    for i in range(2):
        whole, inside, near = closer(Shown(), rgb[i : i + 1], mask[i : i + 1])
        looks = [(whole, inside), *near]
        codes.append(torch.stack([encoder(*one)[1] for one in looks]).mean(0))
    whole, inside, near = closer(Shown(), rgb, mask)
    assert torch.allclose(look(encoder, whole, inside, near)[1], torch.cat(codes), atol=1e-12)


def moved(mask: Tensor, by: int) -> Tensor:
    """Grown by so many pixels, or shrunk, by OpenCV."""
    cv2 = pytest.importorskip("cv2")
    change = cv2.dilate if by > 0 else cv2.erode
    kernel = np.ones((2 * abs(by) + 1,) * 2, np.uint8)
    return torch.from_numpy(change(mask[0, 0].numpy(), kernel))[None, None]


def pasted() -> tuple[Tensor, Tensor]:
    """A picture with something else pasted into it, and the mask that fits."""
    mask = torch.zeros(1, 1, 128, 128)
    mask[:, :, 30:80, 20:90] = 1
    mask[:, :, 70:110, 60:80] = 1
    return torch.where(mask > 0, 0.6 * picture(128, 128).flip(2), picture(128, 128)), mask


@pytest.mark.parametrize("by", [-REACH, -1, 1, REACH])
def test_a_mask_that_is_too_large_or_too_small_is_made_to_fit(by: int) -> None:
    rgb, mask = pasted()
    misfit = moved(mask, by)
    both = fitted(rgb.repeat(2, 1, 1, 1), torch.cat([misfit, mask]))
    assert torch.equal(both, mask.repeat(2, 1, 1, 1))
    assert fitted(rgb, mask) is mask


def test_a_soft_mask_stays_soft_where_it_is_moved() -> None:
    rgb, mask = pasted()
    soft = F.avg_pool2d(moved(mask, 2), 3, 1, 1)
    found = fitted(rgb, soft)
    assert torch.equal(found, moved(soft, -2))
    assert ((found > 0) & (found < 1)).sum() > 100


def test_masks_stay_where_no_edge_tells_of_a_better_one() -> None:
    rgb, mask = pasted()
    for colours, shape in (
        (torch.full_like(rgb, 0.5), mask),
        (torch.rand(rgb.shape), mask),
        (rgb, torch.zeros_like(mask)),
        (rgb, torch.ones_like(mask)),
        (rgb, moved(mask, 2 * REACH)),
        (rgb, 0.4 * mask),
    ):
        assert fitted(colours, shape) is shape


def test_edges_against_numpy() -> None:
    """Pixel by pixel, of shapes at the border, too; a short outline counts for nothing."""
    generator = np.random.default_rng(2)
    rgb = generator.random((2, 3, 24, 20), np.float32)
    shapes = np.zeros((2, 4, 24, 20), bool)
    for n, shape in enumerate(shapes[0]):
        shape[7 - n : 13 + n, 0 : 6 + n] = True
    for n, shape in enumerate(shapes[1]):
        shape[11 - n : 12 + n, 11 - n : 12 + n] = True
    found = edges(torch.from_numpy(rgb), torch.from_numpy(shapes))
    lengths = np.zeros((2, 4), int)
    for i, n in np.ndindex(2, 4):
        found_here = []
        for y, x in np.ndindex(24, 20):
            for v, u in ((y + 1, x), (y, x + 1)):
                if v < 24 and u < 20 and shapes[i, n, y, x] != shapes[i, n, v, u]:
                    found_here.append(np.linalg.norm(rgb[i, :, y, x] - rgb[i, :, v, u]))
        lengths[i, n] = len(found_here)
        if lengths[i, n] > 7:
            assert float(found[i, n]) == pytest.approx(np.mean(found_here), rel=1e-5)
    assert lengths[1].tolist() == [4, 12, 20, 28]
    assert float(found[1, 0]) == 0


def test_closer_looks_are_at_the_mask_that_fits() -> None:
    rgb, mask = (F.interpolate(t, (256, 256), mode="nearest") for t in pasted())
    for wanted, found in zip(
        closer(Shown(), rgb, mask), closer(Shown(), rgb, moved(mask, 2)), strict=True
    ):
        for one, other in zip(wanted, found, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


CLOSER = {
    "aict": lambda: AICT(
        dataclasses.replace(AICTConfig.compact(), **NARROW, code=32, latent=16, thumbnail=96)
    ),
    "cdtnet": lambda: CDTNet(CDTNetConfig(**NARROW, code=32, luts=4, thumbnail=96)),
    "hdnet": lambda: HDNet(HDNetConfig(**NARROW, code=32, thumbnail=96)),
    "hinet": lambda: HINet(HINetConfig(**NARROW, code=32, thumbnail=96)),
    "s2crnet": lambda: S2CRNet(
        dataclasses.replace(S2CRNetConfig.compact(), **NARROW, hidden=32, thumbnail=96)
    ),
}


@pytest.mark.parametrize("name", CLOSER)
@torch.inference_mode()
def test_closer_looks_reach_the_prediction_once_trained(name: str) -> None:
    net = stirred(CLOSER[name]())
    rgb, mask = pictures()
    thumb = Thumbnail(rgb, mask, Size(96, 96))

    def found(count: int) -> tuple[Tensor, Tensor]:
        net.config = dataclasses.replace(net.config, closer=count)
        applied = net.predict(thumb).apply(rgb, mask, Window.whole(Size(96, 96)))
        return net.predict_lut(thumb).lut, applied

    for once, closely in zip(found(0), found(2), strict=True):
        assert not torch.allclose(once, closely, atol=1e-4)
    assert readings_of(net.config)["closer"] == "2"


@pytest.mark.parametrize("name", CLOSER)
@torch.inference_mode()
def test_of_a_mask_that_misses_the_edge_no_part_of_a_network_knows(name: str) -> None:
    net = stirred(CLOSER[name]())
    net.config = dataclasses.replace(net.config, closer=1)
    rgb, mask = pasted()
    size = Size(128, 128)

    def found(shown: Tensor) -> Tensor:
        return net.predict(Thumbnail(rgb, shown, size)).apply(rgb, mask, Window.whole(size))

    assert torch.allclose(found(moved(mask, 2)), found(mask), atol=1e-6)
    net.config = dataclasses.replace(net.config, closer=0)
    assert not torch.allclose(found(moved(mask, 2)), found(mask), atol=1e-4)


def unsure(name: str) -> torch.nn.Module:
    """A network that says little enough to be doubted."""
    net = stirred(CLOSER[name]())
    if name == "s2crnet":  # its vectors are of any length before it has learnt
        for module in net.fusion.values():
            module.fc_f_1.fc1.weight.data.zero_()
            module.fc_b_1.fc1.weight.data.zero_()
    return net


@pytest.mark.parametrize("name", CLOSER)
@torch.inference_mode()
def test_doubt_reaches_the_prediction(name: str) -> None:
    """Of tables and what is added to them, and of curves."""
    net = unsure(name)
    rgb, mask = pictures()
    thumb, window = Thumbnail(rgb, mask, Size(96, 96)), Window.whole(Size(96, 96))

    def found(doubt: float) -> list[Tensor]:
        net.config = dataclasses.replace(net.config, doubt=doubt)
        both = net.predict(thumb), net.predict_lut(thumb)
        return [one.apply(rgb, mask, window) for one in both]

    for plain, other in zip(found(0.0), found(1e9), strict=True):
        assert not torch.allclose(plain, other, atol=1e-5)
    assert readings_of(net.config)["doubt"] == "1000000000.0"


@pytest.mark.parametrize(("name", "near"), [("s2crnet", 2e-3), ("aict", 0.25)])
@torch.inference_mode()
def test_doubted_curves_do_a_share_of_what_they_did(name: str, near: float) -> None:
    """S2CRNet's that share of the change of each colour, AICT's nearly, as two maps are blended."""
    torch.manual_seed(4)
    net = unsure(name)
    rgb, mask = pictures()
    thumb, window = Thumbnail(rgb, mask, Size(96, 96)), Window.whole(Size(96, 96))

    def changed(doubt: float) -> Tensor:
        net.config = dataclasses.replace(net.config, doubt=doubt)
        return net.predict(thumb).apply(rgb, mask, window) - rgb

    plain, other = changed(0.0), changed(2000.0)
    mean = 255**2 * (plain.square() * mask).sum((1, 2, 3)) / (3 * mask.sum((1, 2, 3)))
    share = ((1 + 2000 / 17**2) * mean / (mean + 2000)).clamp(max=1)
    expected = share.view(-1, 1, 1, 1) * plain
    assert float(share.sub(1).abs().max()) > 0.1
    assert float((other - expected).square().mean().sqrt()) < near * float(
        expected.sub(plain).square().mean().sqrt()
    )


@torch.inference_mode()
def test_no_doubted_curve_falls() -> None:
    """Flat pieces of a large change stay flat: of no change more is taken than there is."""
    net = stirred(CLOSER["s2crnet"]())
    net.config = dataclasses.replace(net.config, doubt=20.0)
    for module in net.fusion.values():
        module.fc_b_1.fc1.bias[net.config.pieces // 2 :].sub_(60.0)
    rgb, mask = pictures()
    thumb = Thumbnail(rgb, mask, Size(96, 96))
    change = (net.predict(thumb).apply(rgb, mask, Window.whole(Size(96, 96))) - rgb) * mask
    assert float(change.square().sum() / (3 * mask.sum())) > (17 / 255) ** 2
    coarsely = net.predict(thumb).knots[..., ::4096]  # where a fall is no rounding
    assert float(coarsely.diff(dim=-1).min()) > -1e-5
