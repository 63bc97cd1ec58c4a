"""Where training pictures lie: folders of photographs with masks, and iHarmony4's layout."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from hzcli.core.window import Window
from hzcli.errors import UsageError
from hzcli.io.picture import open_picture

JPEGS = {".jpg", ".jpeg"}
PICTURES = {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp"}
MASK_SUFFIXES = ("_m", "_mask", "_label", "_labels")
MASK_FOLDERS = ("masks", "labels", "mask", "label")
COMPOSITES, TRUTHS, MASKS = "composite_images", "real_images", "masks"


def read_rgb(path: Path, least: int = 0) -> np.ndarray:
    """A picture as (h, w, 3) uint8, for thumbnails; 16-bit ones by their upper byte.

    Args:
        least: JPEGs may come out smaller than they are, by a power of two, but with both sides
            at least this long: the decoder saves most of the work so. 0: whole.
    """
    if path.suffix.lower() in JPEGS:
        with Image.open(path) as file:
            if least:
                file.draft("RGB", (least, least))
            return np.asarray(ImageOps.exif_transpose(file.convert("RGB")))
    with open_picture(path) as reader:
        rows = reader.read(Window.whole(reader.size))
    return (rows >> 8).astype(np.uint8) if rows.dtype == np.uint16 else np.ascontiguousarray(rows)


def pictures_in(folder: Path) -> list[Path]:
    """Photographs under a folder, masks and label maps left out, in order of their names."""
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in PICTURES
        and not path.stem.endswith(MASK_SUFFIXES)
        and not any(part in MASK_FOLDERS for part in path.relative_to(folder).parts[:-1])
    ]


def find_masks(folder: Path, pictures: Sequence[Path]) -> dict[Path, Path]:
    """The mask or label map of each picture that has one."""
    found = {}
    for path in pictures:
        places = [path.with_name(f"{path.stem}{suffix}.png") for suffix in MASK_SUFFIXES]
        for name in MASK_FOLDERS:
            places += [path.parent / name / f"{path.stem}.png",
                       folder / name / path.relative_to(folder).with_suffix(".png")]  # fmt: skip
        mask = next((place for place in places if place.is_file()), None)
        if mask is not None:
            found[path] = mask
    return found


# --- iHarmony4 (Cong et al., CVPR 2020) ------------------------------------------------------


@dataclass(frozen=True)
class Triple:
    """A composite, its mask and its truth; source: the subset's name."""

    composite: Path
    mask: Path
    truth: Path
    source: str


def _subsets(folder: Path) -> list[Path]:
    inside = [folder, *sorted(p for p in folder.iterdir() if p.is_dir())] if folder.is_dir() else []
    return [p for p in inside if (p / COMPOSITES).is_dir() and (p / TRUTHS).is_dir()]


def is_iharmony(folder: Path) -> bool:
    """Whether a folder is laid out as iHarmony4 or as one of its subsets."""
    return bool(_subsets(folder))


def triples(folder: Path, split: str) -> Iterator[Triple]:
    """iHarmony4's pictures of a split.

    The data set's lists (any *train.txt, *test.txt) say what is for testing: that is never
    used here. Of the rest a fiftieth, by hash of the photograph's name, validates.

    Args:
        split: "train", "val" or "all" (both).

    Raises:
        UsageError: there is nothing for that split.
    """
    some = False
    for subset in _subsets(folder):
        testing = _listed([*subset.glob("*test.txt"), *folder.glob("*test.txt")])
        training = _listed([*subset.glob("*train.txt"), *folder.glob("*train.txt")])
        for composite in sorted((subset / COMPOSITES).iterdir()):
            if composite.suffix.lower() not in PICTURES or composite.name in testing:
                continue
            if training and composite.name not in training:
                continue
            first, _, rest = composite.stem.partition("_")
            mask = subset / MASKS / f"{first}_{rest.split('_')[0]}.png"
            truth = next(
                (p for ext in (".jpg", ".png", ".jpeg", ".tif")
                 if (p := subset / TRUTHS / f"{first}{ext}").is_file()), None,
            )  # fmt: skip
            if truth is None or not mask.is_file():
                continue
            digest = hashlib.sha256(f"{subset.name}/{first}".encode()).hexdigest()
            val = int(digest[:8], 16) % 50 == 0
            if split == "all" or val == (split == "val"):
                some = True
                yield Triple(composite, mask, truth, subset.name)
    if not some:
        raise UsageError(f"{folder} holds no pictures of the {split!r} split")


def _listed(files: Sequence[Path]) -> set[str]:
    """File names in lists of one path a line."""
    lines = (line.strip() for file in files for line in file.read_text().splitlines())
    return {Path(line.split()[0]).name for line in lines if line}
