"""What may be trained on: packs, folders with or without masks, iHarmony4's layout."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hzcli.errors import UsageError
from hzcli.train import recipes
from hzcli.train.compose import GIVEN, Composer, Synthesis
from hzcli.train.folders import is_iharmony, read_rgb, triples
from hzcli.train.pairs import Mixture, as_batch, load_pairs
from hzcli.train.photos import guess_labels, held_back, load_photos


def _scene(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A gradient with a bright disc, and the disc's mask."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:60, :80]
    rgb = np.stack([x * 2, y * 3, 200 - x], -1).astype(np.float64)
    mask = (x - rng.uniform(25, 55)) ** 2 + (y - 30) ** 2 < 14**2
    rgb[mask] = rng.uniform(60, 250, 3)
    return rgb.clip(0, 255).astype(np.uint8), mask.astype(np.uint8) * 255


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Forty photographs; even ones have a mask, in one of the three places."""
    for i in range(40):
        rgb, mask = _scene(i)
        Image.fromarray(rgb).save(tmp_path / f"p{i:02d}.jpg", quality=95)
        place = {0: f"p{i:02d}_m.png", 2: f"p{i:02d}_mask.png", 4: f"masks/p{i:02d}.png"}.get(i % 6)
        if place:
            (tmp_path / place).parent.mkdir(exist_ok=True)
            Image.fromarray(mask).save(tmp_path / place)
    return tmp_path


def test_a_folder_of_photographs_is_split_for_good(folder: Path):
    train, val = (load_photos(folder, split, 32) for split in ("train", "val"))
    assert len(train) + len(val) == 40 and len(val) >= 1
    assert not set(train.names) & set(val.names)
    assert set(train.names) | set(val.names) == {f"p{i:02d}" for i in range(40)}


def test_masks_are_found_in_all_three_places_and_are_one_label(folder: Path):
    photos = load_photos(folder, "train", 64)
    for i, (name, kind) in enumerate(zip(photos.names, photos.kinds, strict=True)):
        with_mask = int(name[1:]) % 2 == 0
        assert kind == ("folder" if with_mask else "guessed")
        if with_mask:
            truth = _scene(int(name[1:]))[1]
            share = (photos.labels[i] == 1).float().mean()
            assert float(share) == pytest.approx((truth > 0).mean(), abs=0.02)
            assert photos.labels[i].max() == 1


def test_composites_can_be_made_without_any_mask(folder: Path):
    for mask in folder.rglob("*.png"):
        mask.unlink()
    photos = load_photos(folder, "train", 48)
    batch = Composer(photos, Synthesis(edge=32), 1).batch(8)
    assert (batch.mask.mean((1, 2, 3)) > 0).all()
    assert not torch.equal(batch.composite, batch.truth)


def test_guessed_regions_follow_colour():
    rgb = np.zeros((64, 64, 3), np.uint8)
    rgb[:, :32] = (200, 30, 30)
    rgb[:, 32:] = (30, 30, 200)
    labels = guess_labels(rgb)
    assert not set(np.unique(labels[:, :31])) & set(np.unique(labels[:, 33:]))
    assert labels.min() >= 1 and labels.shape == (64, 64)


def test_sides_do_not_depend_on_the_other_names():
    names = [f"n{i}" for i in range(400)]
    val = held_back(names, "val")
    assert 5 < len(val) < 50
    assert held_back(names[:200], "val") == val & set(names[:200])
    assert held_back(["one"], "val") == set() and held_back(["one", "two"], "val")


def test_sixteen_bits_are_read_by_their_upper_byte(tmp_path: Path):
    import tifffile

    codes = np.arange(4 * 5 * 3, dtype=np.uint16).reshape(4, 5, 3) * 1000
    tifffile.imwrite(tmp_path / "a.tif", codes, photometric="rgb")
    assert np.array_equal(read_rgb(tmp_path / "a.tif"), (codes >> 8).astype(np.uint8))


@pytest.fixture
def iharmony(tmp_path: Path) -> Path:
    """Two subsets of 60 pictures in the data set's layout, the last five for testing."""
    for subset in ("HOne", "HTwo"):
        lists: dict[str, list[str]] = {"train": [], "test": []}
        for kind in ("composite_images", "real_images", "masks"):
            (tmp_path / subset / kind).mkdir(parents=True)
        for i in range(60):
            rgb, mask = _scene(i)
            wrong = np.where(mask[..., None] > 0, rgb // 2, rgb)
            Image.fromarray(rgb).save(tmp_path / subset / "real_images" / f"c{i}.jpg", quality=98)
            Image.fromarray(mask).save(tmp_path / subset / "masks" / f"c{i}_7.png")
            name = f"c{i}_7_2.jpg"
            Image.fromarray(wrong).save(tmp_path / subset / "composite_images" / name, quality=98)
            lists["test" if i >= 55 else "train"].append(f"{subset}/composite_images/{name}")
        for split, lines in lists.items():
            (tmp_path / subset / f"{subset}_{split}.txt").write_text("\n".join(lines))
    return tmp_path


def test_iharmony_is_recognised_and_its_test_list_never_used(iharmony: Path):
    assert is_iharmony(iharmony) and is_iharmony(iharmony / "HOne")
    train, val = (list(triples(iharmony, split)) for split in ("train", "val"))
    assert len(train) + len(val) == 110 and val
    used = {t.composite.name for t in train + val}
    assert not used & {f"c{i}_7_2.jpg" for i in range(55, 60)}
    assert not {(t.source, t.truth) for t in train} & {(t.source, t.truth) for t in val}


def test_given_composites_are_what_the_files_hold(iharmony: Path):
    pairs = load_pairs([iharmony], "train", 40)
    assert pairs is not None and pairs.sources == ["HOne", "HTwo"]
    batch = as_batch(pairs.take(torch.arange(4)), torch.arange(4))
    assert (batch.kind == GIVEN).all()
    inside = batch.mask.expand_as(batch.truth) == 1
    outside = batch.mask.expand_as(batch.truth) == 0
    ratio = batch.composite[inside] / batch.truth[inside]
    assert float(ratio.median()) == pytest.approx(0.5, abs=0.02)
    assert float((batch.composite - batch.truth)[outside].abs().mean()) < 0.01


def test_a_batch_mixes_given_and_made_ones(iharmony: Path):
    recipe = replace(recipes.get("hinet"), synthesis=Synthesis(), given=0.25, cache=40)
    mixture = Mixture.load([iharmony], "train", recipe, torch.device("cpu"), 3)
    batch = mixture.batch(16, 32, step=5)
    assert (batch.kind == GIVEN).sum() == 4 and batch.composite.shape == (16, 3, 32, 32)
    again = Mixture.load([iharmony], "train", recipe, torch.device("cpu"), 3)
    assert torch.equal(again.batch(16, 32, step=5).composite, batch.composite)
    held = Mixture.load([iharmony], "val", recipe, torch.device("cpu"), 3).fixed(24)
    kinds = torch.cat([b.kind for b in held])
    # Of few photographs several composites are made; those given are taken once.
    assert (kinds == GIVEN).sum() == 4 and len(kinds) >= 64 + 4


def test_a_folder_without_given_composites_has_no_pairs(folder: Path):
    assert load_pairs([folder], "train", 16) is None


def test_iharmonys_truths_serve_as_photographs(iharmony: Path, pack: Path):
    photos = load_photos([iharmony, pack], "train", 24)
    assert photos.sources == ["HOne", "HTwo", "disc", "spot"]


def test_nothing_there_is_said(tmp_path: Path):
    with pytest.raises(UsageError, match="no folder"):
        load_photos(tmp_path / "none", "train", 16)


def _weighted(pack: Path, folder: Path, weight: Callable[[str], object]) -> Path:
    """The pack with a column of weights."""
    shutil.copytree(pack, folder)
    with (folder / "index.csv").open(newline="") as file:
        rows = [{**row, "weight": weight(row["name"])} for row in csv.DictReader(file)]
    with (folder / "index.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return folder


def test_a_packs_weights_say_how_often_photographs_are_drawn(pack: Path, tmp_path: Path):
    given = _weighted(pack, tmp_path / "pack", lambda n: "" if n.startswith("disc") else n[-1])
    photos = load_photos(given, "train", 32)
    weights = Composer(photos, Synthesis(edge=32), 1).weights.tolist()
    discs = sum(name.startswith("disc") for name in photos.names)
    usable = (photos.first.diff() > 0).tolist()
    for name, weight, has in zip(photos.names, weights, usable, strict=True):
        said = 3 / discs if name.startswith("disc") else int(name[-1])
        assert weight == pytest.approx(said * has), name


@pytest.mark.parametrize("weight", ["much", "-1", "inf"])
def test_a_weight_must_be_a_number(pack: Path, tmp_path: Path, weight: str):
    given = _weighted(pack, tmp_path / "pack", lambda name: weight)
    with pytest.raises(UsageError, match=f"spot-000 the weight '{weight}'"):
        load_photos(given, "train", 32)
