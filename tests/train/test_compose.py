"""Composites: repeatable, reduced like real ones, recoloured through tables, saved as JPEG."""

from __future__ import annotations

import io
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from hzcli.train import recolour
from hzcli.train.compose import HOUR, RETOUCH, Composer, Synthesis, sharpened
from hzcli.train.foregrounds import blurred
from hzcli.train.jpeg import resaved
from hzcli.train.photos import Photos, load_photos


@pytest.fixture(scope="module")
def photos(pack: Path) -> Photos:
    return load_photos(pack, "train", 72)


def test_a_batch_depends_on_seed_and_step_alone(photos: Photos):
    """So that a resumed run goes on with what it would have seen."""
    one, two = (Composer(photos, Synthesis(edge=32), 5) for _ in range(2))
    one.batch(4, step=0)
    assert torch.equal(one.batch(4, step=1).composite, two.batch(4, step=1).composite)
    assert not torch.equal(one.batch(4, step=2).composite, two.batch(4, step=3).composite)


def test_oversampled_composites_are_area_means_of_larger_ones(photos: Photos):
    recipe = Synthesis(edge=24, oversample=2.0, transfers=0.0, jitter=0.0)
    small = Composer(photos, recipe, 3).batch(12, step=0)
    large = Composer(photos, replace(recipe, edge=48, oversample=1.0), 3).batch(12, step=0)
    for name in ("mask", "truth"):
        wanted = F.avg_pool2d(getattr(large, name), 2)
        assert torch.allclose(getattr(small, name), wanted, atol=1e-6)
    # The change is made of means, not the mean of changes; edges mix both sides' own colours.
    error = (small.composite - F.avg_pool2d(large.composite, 2)).abs()
    assert torch.equal(small.composite[(small.mask == 0).expand(-1, 3, -1, -1)],
                       small.truth[(small.mask == 0).expand(-1, 3, -1, -1)])  # fmt: skip
    edge = ((small.mask > 0) & (small.mask < 1)).expand(-1, 3, -1, -1)
    change = (small.composite - small.truth).abs()
    assert edge.sum() > 100
    assert float(error[edge].mean()) < 0.1 * float(change[edge].mean())
    assert float(error.mean()) * 255 < 1


@pytest.mark.parametrize("amount", [-0.5, 0.0, 1.5])
def test_sharpening_against_opencv(amount: float):
    cv2 = pytest.importorskip("cv2")
    x = torch.rand(2, 3, 20, 30, generator=torch.Generator().manual_seed(3))
    line = np.array([1, 2, 1]) / 4
    ours = sharpened(x, torch.tensor([amount, 0.0]))
    rgb = x[0].permute(1, 2, 0).double().numpy()
    soft = cv2.sepFilter2D(rgb, -1, line, line, borderType=cv2.BORDER_REPLICATE)
    theirs = np.clip(rgb + amount * (rgb - soft), 0, 1)
    assert np.abs(ours[0].permute(1, 2, 0).numpy() - theirs).max() < 1e-6
    assert torch.equal(ours[1], x[1]), "each picture has its own amount"


def test_sharpened_photographs_still_agree_outside_the_mask(photos: Photos):
    """Truth and composite are sharpened alike, and differ more than soft ones in detail."""
    plain, sharp = (
        Composer(photos, Synthesis(edge=48, jitter=0.0, unsharp=amounts), seed=4).batch(8)
        for amounts in ((0.0, 0.0), (2.0, 2.0))
    )
    outside = (sharp.mask == 0).expand_as(sharp.truth)
    assert torch.equal(sharp.composite[outside], sharp.truth[outside])
    assert torch.equal(sharp.mask, plain.mask)
    assert float(sharp.truth.diff(dim=3).abs().mean()) > 1.2 * float(
        plain.truth.diff(dim=3).abs().mean()
    )


def test_recolouring_through_a_table_is_nearly_the_same(photos: Photos):
    recipe = Synthesis(edge=80, jitter=0.0, transfers=1.0)
    exact = Composer(photos, recipe, 4).batch(24, step=0)
    table = Composer(photos, replace(recipe, table=17), 4).batch(24, step=0)
    # What is just plausible one way may be just implausible the other.
    same = (exact.kind == table.kind) & (exact.kind < RETOUCH)
    assert int(same.sum()) >= 0.8 * int((exact.kind < RETOUCH).sum()) > 5
    error = (exact.composite - table.composite)[same].abs()
    assert 0 < float(error.mean()) * 255 < 0.5


def test_shares_are_kept(photos: Photos):
    composer = Composer(photos, Synthesis(edge=16, transfers=0.0, hours=0.4), 1)
    kind = torch.cat([composer.batch(100).kind for _ in range(5)])
    assert float((kind == HOUR).float().mean()) == pytest.approx(0.4, abs=0.07)


def test_near_composites_are_windows_around_their_foregrounds(photos: Photos):
    """Composites as before, their foregrounds larger."""
    recipe = Synthesis(edge=96, blobs=0.0, jitter=0.0, transfers=0.0)
    far = Composer(photos, recipe, 3).batch(64, step=0)
    near = Composer(photos, replace(recipe, near=1.0), 3).batch(64, step=0)
    share = near.mask.mean((1, 2, 3))
    assert share.mean() > 1.3 * far.mask.mean()
    assert share.max() < 0.8
    outside = (near.mask == 0).expand(-1, 3, -1, -1)
    assert torch.equal(near.composite[outside], near.truth[outside])


def test_windows_hold_their_foregrounds(photos: Photos):
    """Against NumPy: inside the picture, as large as the foreground at least."""
    masks = torch.zeros(40, 50, 60)
    rng = np.random.default_rng(0)
    for mask in masks:
        top, left = rng.integers(0, 30, 2)
        mask[top : top + rng.integers(1, 20), left : left + rng.integers(1, 30)] = 1
    height, width, y, x = Composer(photos, Synthesis(), 1).foregrounds.windows(masks)
    for mask, *window in zip(masks, height, width, y, x, strict=True):
        for axis, n, side, centre in ((1, 50, window[0], window[2]), (0, 60, window[1], window[3])):
            at = np.flatnonzero(mask.numpy().any(axis))
            low, high = at[0] / n, (at[-1] + 1) / n
            start, end = (
                (float(centre) + 1 - float(side)) / 2,
                (float(centre) + 1 + float(side)) / 2,
            )
            assert -1e-6 <= start < end <= 1 + 1e-6
            assert end - start >= min(1, max(0.3, 1.2 * (high - low))) - 1e-6
            assert start < low + 1e-6
            assert end > high - 1e-6


@pytest.mark.parametrize("deviation", [0.5, 1.3, 2.5])
def test_blurring_against_opencv(deviation: float):
    cv2 = pytest.importorskip("cv2")
    x = torch.rand(2, 1, 30, 40, generator=torch.Generator().manual_seed(3))
    size = 2 * math.ceil(3 * deviation) + 1
    border = cv2.BORDER_REPLICATE
    theirs = [
        cv2.GaussianBlur(p.numpy(), (size, size), deviation, borderType=border) for p in x[:, 0]
    ]
    assert np.allclose(blurred(x, deviation)[:, 0].numpy(), theirs, atol=1e-6)


def test_feathered_composites_are_pasted_with_soft_edges(photos: Photos):
    recipe = Synthesis(edge=96, blobs=0.0, jitter=0.0, transfers=0.0)
    hard = Composer(photos, recipe, 3).batch(64, step=0)
    soft = Composer(photos, replace(recipe, feather=0.5), 3).batch(64, step=0)
    wide = [((b.mask > 0.1) & (b.mask < 0.9)).float().mean((1, 2, 3)) for b in (hard, soft)]
    assert 0.3 < float((wide[1] > wide[0]).float().mean()) < 0.7
    assert torch.equal(wide[1][wide[1] <= wide[0]], wide[0][wide[1] <= wide[0]])
    outside = (soft.mask == 0).expand(-1, 3, -1, -1)
    assert torch.equal(soft.composite[outside], soft.truth[outside])


def test_misfitting_masks_come_after_their_composites(photos: Photos):
    """Composites as before; masks that are larger or smaller by some pixels, never all but
    gone."""
    recipe = Synthesis(edge=96, blobs=0.0, jitter=0.0, transfers=0.0)
    one = Composer(photos, recipe, 3).batch(64, step=0)
    two = Composer(photos, replace(recipe, misfit=0.5), 3).batch(64, step=0)
    assert torch.equal(one.composite, two.composite)
    moved = (one.mask != two.mask).flatten(1).any(1)
    assert 0.3 < float(moved.float().mean()) < 0.7
    share = two.mask.mean((1, 2, 3)) / one.mask.mean((1, 2, 3))
    assert float(share.min()) >= 0.25
    assert float(share[moved].min()) < 1 < float(share[moved].max())
    far = F.max_pool2d(one.mask, 19, 1, 9) == 0  # pixels that no edge is near
    assert not two.mask[far].any()


def test_an_hour_is_an_exposure_and_a_saturation():
    """On greys the saturation does nothing and the gains are what the light ratio says."""
    grey = torch.full((64, 3, 2, 2), 0.4)
    out = recolour.to_linear(recolour.hour(grey, torch.Generator().manual_seed(0)))
    ratio = out[:, 1, 0, 0] / recolour.to_linear(torch.tensor(0.4))
    stops = ratio.log2()
    assert (stops > -3.2).all() and (stops < 1.7).all()
    assert ((stops < -0.8).float().mean() - 0.5).abs() < 0.2  # half of them are nights
    warm = (out[:, 0, 0, 0] / out[:, 2, 0, 0]).log2()
    assert (warm[stops < -0.9] <= 0.05).all()


def test_a_raw_is_darker_than_its_retouches_and_untouched_around_them(photos: Photos):
    """Photographs and masks are those of plain composites: only the colours are others'."""
    recipe = Synthesis(edge=48, jitter=0.0, transfers=0.0)
    plain, raw = (
        Composer(photos, replace(recipe, raws=share), 5).batch(64, step=1) for share in (0.0, 1.0)
    )
    assert torch.equal(plain.mask, raw.mask)
    assert (raw.kind == RETOUCH).all()
    outside = (raw.mask == 0).expand_as(raw.truth)
    assert torch.equal(raw.composite[outside], raw.truth[outside])
    darker = (raw.truth.mean((1, 2, 3)) < plain.truth.mean((1, 2, 3))).float().mean()
    assert darker > 0.85
    shift = ((raw.truth - raw.composite) * raw.mask).sum((1, 2, 3)) / raw.mask.sum((1, 2, 3))
    assert float(shift.median()) < -15 * 3 / 255


def test_a_raw_is_less_light_and_less_contrast():
    """Greys of a raw, from its own draws, in float64."""
    grey = torch.linspace(0, 1, 20).expand(400, 3, 1, 20).contiguous()
    made = recolour.undeveloped(grey, torch.Generator().manual_seed(2)).double()
    draws = torch.Generator().manual_seed(2)
    u, g = (torch.randn(400, 3, generator=draws).double() for _ in range(2))
    light = ((grey.double() + 0.055) / 1.055) ** 2.4
    light = torch.where(grey <= 0.04045, grey.double() / 12.92, light)
    gains = torch.stack([0.06 * g[:, 0] - 0.02 * g[:, 1], 0.04 * g[:, 1],
                         -0.06 * g[:, 0] - 0.02 * g[:, 1]], 1).exp()  # fmt: skip
    stops = (1.05 - 0.7 * u[:, 0]).clamp(-0.4, 2.5)
    light = light * (gains * 2 ** -stops[:, None])[:, :, None, None]
    x = torch.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    x = x.clamp(0, 1)
    s = (0.12 * u[:, 1] - 0.08).exp()[:, None, None, None]
    low, high = 0.45 * (x / 0.45) ** s, 1 - 0.55 * ((1 - x) / 0.55).clamp(0) ** s
    x = torch.where(x < 0.45, low, high)
    luma = (x * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
    wanted = luma + (x - luma) * (0.15 * u[:, 2] - 0.12).exp()[:, None, None, None]
    assert float((made - wanted).abs().max()) < 1e-5


@pytest.mark.parametrize("quality", [50, 75, 92])
@pytest.mark.parametrize("halved", [True, False])
def test_jpeg_against_pillow(quality: int, halved: bool):
    y, x = np.mgrid[:56, :90]
    rgb = np.stack([128 + 90 * np.sin(x / 9), 2 * x + y / 2, 128 + 80 * np.cos((x + y) / 13)], -1)
    codes = rgb.clip(0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(codes).save(file, "JPEG", quality=quality, subsampling=2 if halved else 0)
    wanted = np.asarray(Image.open(file)).astype(int)
    tensor = torch.from_numpy(codes).permute(2, 0, 1)[None].float() / 255
    out = (resaved(tensor, torch.tensor([float(quality)]), halved)[0] * 255).permute(1, 2, 0)
    error = np.abs(out.numpy() - wanted).mean()
    harm = np.abs(codes.astype(int) - wanted).mean()
    assert error < 0.8 and error < 0.7 * harm


def test_only_the_stated_share_is_saved_as_jpeg(photos: Photos):
    recipe = Synthesis(edge=32, transfers=0.0, strength=(1e-6, 2e-6), jitter=0.0)
    plain = Composer(photos, recipe, 2).batch(64, step=0)
    saved = Composer(photos, replace(recipe, jpeg=0.5), 2).batch(64, step=0)
    changed = (plain.composite != saved.composite).flatten(1).any(1).float().mean()
    assert 0.3 < float(changed) < 0.7
