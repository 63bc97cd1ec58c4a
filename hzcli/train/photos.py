"""Photographs with candidate foregrounds, held in memory as bytes.

They come from three places, which may be mixed:

 - a pack: a folder of tar shards with NAME.jpg (a photograph) and NAME.png (a label map of the
   same size: 0 nothing, 1..n candidate foregrounds), and an index.csv with the columns name,
   split, source, labels and shard. With a column weight too, photographs are drawn by it
   (compose.SOURCE_WEIGHTS). Shards may arrive one by one: those present are used;
 - a folder of photographs, with masks or label maps beside them (NAME_m.png, NAME_mask.png,
   or NAME.png of another folder called masks or labels); where there are none, regions of
   like colour stand in;
 - iHarmony4 in its own layout: its real pictures and masks (its given composites are read by
   hzcli.train.pairs).
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
import os
import tarfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from hzcli.errors import UsageError
from hzcli.train import recolour
from hzcli.train.folders import find_masks, is_iharmony, pictures_in, read_rgb, triples

T = TypeVar("T")
R = TypeVar("R")

REGION_POINTS = 192  # colours kept of each region, as references for transfers
HELD_BACK = 20  # one photograph of so many validates where no split is given
GUESSED = 6  # regions of a photograph without a label map


@dataclass
class Photos:
    """Photographs and their regions as tensors on one device.

    rgb: (N, 3, S, S) uint8, squashed to squares. labels: (N, 1, S, S) uint8. source: (N,).
    weight: (N,) how often each is drawn, where its pack says so; else NaN.
    regions: (R, 2) photo index and label. share: (R,) of the picture. salience: (R,) how far
    the region's colours stand out, about 0..2. contact: (R,) share of the picture's border
    that the region lies on. points: (R, 3, REGION_POINTS) uint8.
    first: (N + 1,) where a photo's regions start in the tables.
    """

    names: list[str]
    kinds: list[str]
    sources: list[str]
    rgb: Tensor
    labels: Tensor
    source: Tensor
    weight: Tensor
    regions: Tensor
    share: Tensor
    salience: Tensor
    contact: Tensor
    points: Tensor
    first: Tensor

    def __len__(self) -> int:
        return len(self.names)

    def to(self, device: torch.device | str) -> Photos:
        moved: dict[str, Any] = {
            k: v.to(device) for k, v in vars(self).items() if isinstance(v, Tensor)
        }
        return replace(self, **moved)


@dataclass(frozen=True)
class Found:
    """One photograph, not yet decoded.

    read: given the edge that will do, the picture (h, w, 3) uint8 and its label map (h, w)
        uint8, or None instead.
    weight: how often it is drawn, where that is said; else NaN.
    """

    name: str
    source: str
    kind: str
    read: Callable[[int], tuple[np.ndarray, np.ndarray | None]]
    weight: float = math.nan


class Packed(NamedTuple):
    """A photograph of a pack: its row of the index, a JPEG and a label map as PNG."""

    row: dict[str, str]
    jpg: bytes
    png: bytes


def read_pack(folder: Path, split: str, shards: str | None = None) -> list[Packed]:
    """Every photograph at hand.

    Args:
        folder: the pack. split: "train", "val" or "all".
        shards: a glob pattern of tar files to look in instead of those the index names.
    """
    index = folder / "index.csv"
    if not index.is_file():
        raise UsageError(f"{folder} has no index.csv", "give the folder of a photo pack")
    with index.open(newline="") as f:
        rows = {r["name"]: r for r in csv.DictReader(f) if split in ("all", r["split"])}
    found = []
    files = (
        sorted(folder.glob(shards))
        if shards
        else sorted(folder / s for s in {r["shard"] for r in rows.values()})
    )
    for shard in files:
        if not shard.is_file():
            continue
        parts: dict[str, dict[str, bytes]] = {}
        with tarfile.open(shard) as tar:
            for member in tar:
                stem, _, ext = Path(member.name).name.rpartition(".")
                if stem in rows and ext in ("jpg", "png"):
                    parts.setdefault(stem, {})[ext] = tar.extractfile(member).read()  # type: ignore[union-attr]
        for name, p in parts.items():
            if len(p) == 2:
                found.append(Packed(rows[name], p["jpg"], p["png"]))
    if not found:
        raise UsageError(f"{folder} holds no photographs of the {split!r} split")
    return found


def held_back(names: Sequence[str], split: str) -> set[str]:
    """Which of `names` belong to a split that nobody has laid down: by hash, for good.

    A name's side does not depend on the others, but at least one is on each side.
    """
    place = {n: hashlib.sha256(n.encode("utf-8", "surrogateescape")).hexdigest() for n in names}
    val = {n for n in names if int(place[n][:8], 16) % HELD_BACK == 0}
    ordered = sorted(names, key=place.__getitem__)
    if not val:
        val = set(ordered[:1])
    if len(val) == len(ordered):
        val.discard(ordered[-1])
    return val if split == "val" else set(names) - val if split == "train" else set(names)


def _from_pack(folder: Path, split: str) -> Iterator[Found]:
    for one in read_pack(folder, split):

        def read(edge: int, one: Packed = one) -> tuple[np.ndarray, np.ndarray]:
            rgb = np.asarray(Image.open(io.BytesIO(one.jpg)).convert("RGB"))
            return rgb, np.asarray(Image.open(io.BytesIO(one.png)))

        name = one.row["name"]
        yield Found(name, name.split("-")[0], one.row["labels"], read, _weight(one.row))


def _weight(row: dict[str, str]) -> float:
    """How often a pack's photograph is drawn; NaN where the index does not say."""
    text = row.get("weight") or "nan"
    try:
        weight = float(text)
    except ValueError:
        weight = -1.0
    if weight < 0 or math.isinf(weight):
        raise UsageError(
            f"the index gives {row['name']} the weight {text!r}",
            "weights are numbers of 0 or more, or left empty",
        )
    return weight


def _from_folder(folder: Path, split: str) -> Iterator[Found]:
    pictures = pictures_in(folder)
    if not pictures:
        raise UsageError(
            f"{folder} holds no photographs",
            "give a photo pack, a folder of photographs, or iHarmony4's folder",
        )
    masks = find_masks(folder, pictures)
    names = {p: p.relative_to(folder).with_suffix("").as_posix() for p in pictures}
    wanted = held_back(list(names.values()), split)
    for path, name in names.items():
        if name in wanted:

            def read(edge: int, path: Path = path) -> tuple[np.ndarray, np.ndarray | None]:
                mask = masks.get(path)
                return read_rgb(path, edge), None if mask is None else label_map(mask)

            yield Found(name, folder.name, "folder" if path in masks else "guessed", read)


def _from_iharmony(folder: Path, split: str) -> Iterator[Found]:
    for triple in triples(folder, split):

        def read(
            edge: int, truth: Path = triple.truth, mask: Path = triple.mask
        ) -> tuple[np.ndarray, np.ndarray]:
            return read_rgb(truth, edge), label_map(mask)

        name = f"{triple.source}/{triple.mask.stem}"
        yield Found(name, triple.source, "object", read)


def label_map(path: Path) -> np.ndarray:
    """A label map as it is; a mask (8-bit, mostly 0 and 255) as label 1."""
    codes = np.asarray(Image.open(path))
    if codes.ndim == 3:
        codes = codes[..., 0]
    if codes.dtype == bool:
        return codes.astype(np.uint8)
    values = np.unique(codes[:: max(1, codes.shape[0] // 64)])
    if values.max() > 64:
        return (codes > codes.max() // 2).astype(np.uint8)
    return codes.astype(np.uint8)


def guess_labels(rgb: np.ndarray, regions: int = GUESSED, seed: int = 0) -> np.ndarray:
    """Regions of like colour and place, for a photograph that has no label map.

    k-means on L*a*b* and place.

    Args:
        rgb: (h, w, 3) uint8.

    Returns:
        (h, w) uint8, 1..regions.
    """
    small = np.asarray(Image.fromarray(rgb).resize((64, 64), Image.Resampling.BOX), np.float32)
    lab = recolour.rgb_to_lab(torch.from_numpy(small.transpose(2, 0, 1)[None] / 255))[0]
    y, x = torch.meshgrid(torch.linspace(0, 60, 64), torch.linspace(0, 60, 64), indexing="ij")
    points = torch.cat([lab, y[None], x[None]]).flatten(1).T
    generator = torch.Generator().manual_seed(seed)
    centres = points[torch.randperm(len(points), generator=generator)[:regions]]
    for _ in range(8):
        nearest = torch.cdist(points, centres).argmin(1)
        sums = torch.zeros_like(centres).index_add_(0, nearest, points)
        counts = torch.bincount(nearest, minlength=regions).clamp_min(1)
        centres = sums / counts[:, None]
    labels = (torch.cdist(points, centres).argmin(1) + 1).view(64, 64).byte().numpy()
    size = (rgb.shape[1], rgb.shape[0])
    return np.asarray(Image.fromarray(labels).resize(size, Image.Resampling.NEAREST))


def find(folders: Path | Sequence[Path], split: str) -> list[Found]:
    """Every photograph of a split in packs, folders and iHarmony4's layout.

    Raises:
        UsageError: a folder holds none.
    """
    found: list[Found] = []
    for folder in [folders] if isinstance(folders, Path) else folders:
        if (folder / "index.csv").is_file():
            found += _from_pack(folder, split)
        elif is_iharmony(folder):
            found += _from_iharmony(folder, split)
        elif folder.is_dir():
            found += _from_folder(folder, split)
        else:
            raise UsageError(f"there is no folder {folder}", "check what was given as data")
    if not found:
        raise UsageError(f"the data hold no photographs of the {split!r} split")
    return found


def side_by_side(work: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    """`work` of each item in order, a few items at once: decoders leave Python's lock."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(items), 256):  # so that results do not pile up
            yield from pool.map(work, items[start : start + 256])


def _square(row: Found, edge: int) -> tuple[np.ndarray, np.ndarray]:
    """A photograph and its label map as squares."""
    rgb, labels = row.read(edge)
    if labels is None:
        labels = guess_labels(rgb)
    return squash(rgb, edge, Image.Resampling.BILINEAR), squash(
        labels, edge, Image.Resampling.NEAREST
    )


def squash(codes: np.ndarray, edge: int, way: Image.Resampling) -> np.ndarray:
    """8-bit codes as a square, whatever shape they had."""
    return np.asarray(Image.fromarray(codes).resize((edge, edge), way))


def load_photos(folders: Path | Sequence[Path], split: str, edge: int, seed: int = 0) -> Photos:
    """Decode photographs into squares of `edge` pixels and tabulate their regions.

    Raises:
        UsageError: there are none.
    """
    rng = np.random.default_rng(seed)
    rows = find(folders, split)
    rgb = np.empty((len(rows), 3, edge, edge), np.uint8)
    labels = np.empty((len(rows), 1, edge, edge), np.uint8)
    regions, shares, salience, contact, points, first = [], [], [], [], [], [0]
    for i, (pixels, map_) in enumerate(side_by_side(lambda row: _square(row, edge), rows)):
        rgb[i] = pixels.transpose(2, 0, 1)
        labels[i, 0] = map_
        small = pixels[::2, ::2].reshape(-1, 3).astype(np.float32)
        ids = labels[i, 0, ::2, ::2].ravel()
        lab = recolour.rgb_to_lab(torch.from_numpy(small.T[None] / 255)).numpy()[0]
        rim = np.concatenate([map_[0], map_[-1], map_[:, 0], map_[:, -1]])
        for k in np.unique(ids[ids > 0]):
            inside = ids == k
            share = float(inside.mean())
            if share < 0.004 or share > 0.85:
                continue
            mean_in, mean_out = lab[:, inside].mean(1), lab[:, ~inside].mean(1)
            chroma = np.hypot(lab[1, inside], lab[2, inside]).mean()
            apart = np.linalg.norm(mean_in - mean_out)
            regions.append((i, int(k)))
            shares.append(share)
            salience.append(chroma / 40 + apart / 60)
            contact.append(float((rim == k).mean()))
            pick = rng.integers(0, int(inside.sum()), REGION_POINTS)
            points.append(small[inside][pick].T.astype(np.uint8))
        first.append(len(regions))
    if not regions:
        raise UsageError(
            f"none of the {len(rows)} photographs has a usable foreground",
            "masks should cover between 0.4 and 85 % of a picture",
        )
    sources = sorted({r.source for r in rows})
    return Photos(
        names=[r.name for r in rows],
        kinds=[r.kind for r in rows],
        sources=sources,
        rgb=torch.from_numpy(rgb),
        labels=torch.from_numpy(labels),
        source=torch.tensor([sources.index(r.source) for r in rows]),
        weight=torch.tensor([r.weight for r in rows]),
        regions=torch.tensor(regions, dtype=torch.long),
        share=torch.tensor(shares),
        salience=torch.tensor(salience),
        contact=torch.tensor(contact),
        points=torch.from_numpy(np.stack(points)),
        first=torch.tensor(first),
    )
