"""Foregrounds: which regions are drawn, how often, and that what is kept is what is made."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hzcli.train.foregrounds import Foregrounds, closed
from hzcli.train.photos import Photos, load_photos


@pytest.fixture(scope="module")
def photos(pack: Path) -> Photos:
    return load_photos(pack, "train", 64)


def drawn_from(photos: Photos, **shares: float) -> Foregrounds:
    plain = {"vivid": 0.0, "unions": 0.0, "objects": 0.0, "blobs": 0.0, "small": 0.0}
    return Foregrounds(photos, torch.Generator().manual_seed(1), **{**plain, **shares})


@pytest.mark.parametrize(("small", "power"), [(0.0, 0.5), (1.0, -1.0)])
def test_one_region_is_drawn_as_its_size_says(photos: Photos, small: float, power: float) -> None:
    """Large ones by the root of their area; small ones by its inverse, whatever else is asked."""
    others = {"unions": 1.0, "objects": 1.0, "blobs": 1.0} if small else {}
    drawn = drawn_from(photos, small=small, **others)
    several = int(photos.first.diff().argmax())
    rows = slice(int(photos.first[several]), int(photos.first[several + 1]))
    labels, draws = photos.regions[rows, 1], 4000
    assert len(labels) > 1
    photo = torch.full((draws,), several)

    masks = drawn.masks(photo, photos.labels[photo])

    regions = (photos.labels[several] == labels.view(-1, 1, 1)).float()  # (K, S, S)
    match = (masks == regions[None]).flatten(2).all(2)  # (draws, K)
    assert match.any(1).all()
    wanted = photos.share[rows] ** power
    wanted = wanted / wanted.sum()
    away = (match.float().mean(0) - wanted).abs() / (wanted * (1 - wanted) / draws).sqrt()
    assert away.max() < 4.5  # standard errors


def test_whole_foregrounds_that_are_kept_are_those_that_are_made(photos: Photos) -> None:
    foregrounds, photo = drawn_from(photos, objects=1.0), torch.arange(12)
    labels = photos.labels[photo]
    central = foregrounds.central[photo]
    mask = central.gather(1, labels.flatten(1).long()).view(labels.shape).float()
    first = foregrounds.closed(photo, mask)
    assert torch.equal(first, closed(mask))
    assert torch.equal(foregrounds.closed(photo, mask * 0), first)
    larger = torch.ones(1, 1, 100, 80)
    assert torch.equal(foregrounds.closed(photo[:1], larger), larger)
