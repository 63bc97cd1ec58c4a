"""Composites on disk, in iHarmony4's layout: a fixed set to judge weights by."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from hzcli.errors import UsageError
from hzcli.io.atomic import beside, write_text
from hzcli.train import recolour
from hzcli.train.compose import Composer, Synthesis
from hzcli.train.photos import load_photos, read_pack

TABLE_EDGE = 128  # pixels; the size at which regions and their colours are tabulated


def synthesise(
    data: Path,
    output: Path,
    *,
    split: str = "val",
    seed: int = 0,
    count: int | None = None,
    shards: str = "photos-[0-9]*.tar",
    on_made: Callable[[str], None] = lambda name: None,
) -> list[str]:
    """Write one composite of each photograph of a split, in its own size.

    Args:
        data: a photo pack. output: a new folder, which gets composite_images/, masks/,
            real_images/ and composites.csv (name, source, kind of recolouring, foreground).
        seed: the same seed makes the same composites on the same machine.
        count: at most so many, spread evenly over the split.
        shards: which of the pack's tar files the pixels are taken from, as a glob pattern.

    Returns:
        The composites' names.

    Raises:
        UsageError: `output` is not empty, or the pack holds no such photographs.
    """
    if output.exists() and any(output.iterdir()):
        raise UsageError(f"{output} is not empty", "choose a new folder")
    photos = load_photos(data, split, TABLE_EDGE)
    place = {name: i for i, name in enumerate(photos.names)}
    usable = photos.first.diff() > 0
    rows = [p for p in read_pack(data, split, shards) if p.row["name"] in place]
    rows = [p for p in rows if usable[place[p.row["name"]]]]
    if count is not None and count < len(rows):
        rows = [rows[i * len(rows) // count] for i in range(count)]
    table = []
    for row, jpg, png in rows:
        i = place[row["name"]]
        rgb = torch.from_numpy(np.array(Image.open(io.BytesIO(jpg)).convert("RGB")))
        labels = torch.from_numpy(np.array(Image.open(io.BytesIO(png))))[None, None]
        composer = Composer(photos, Synthesis(), seed * 100_003 + i)
        batch = composer.compose_whole(i, rgb.permute(2, 0, 1)[None].float() / 255, labels)
        kind = (*recolour.TRANSFERS, "retouch")[int(batch.kind)]
        stem = row["name"].replace("_", "-")
        _write(output / "composite_images" / f"{stem}_1_1.jpg", batch.composite)
        _write(output / "masks" / f"{stem}_1.png", batch.mask)
        _write(output / "real_images" / f"{stem}.jpg", batch.truth)
        source = photos.sources[int(photos.source[i])]
        table.append([f"{stem}_1_1.jpg", source, kind, f"{float(batch.mask.mean()):.4f}"])
        on_made(stem)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", "source", "kind", "foreground"])
    writer.writerows(table)
    write_text(output / "composites.csv", text.getvalue())
    return [name for name, *_ in table]


def _write(path: Path, tensor: Tensor) -> None:
    """(1, 3|1, h, w), [0, 1], as JPEG (quality 97, 4:4:4) or 8-bit grey PNG."""
    array = (tensor[0] * 255).round().byte().permute(1, 2, 0).numpy()
    with beside(path) as part:
        if path.suffix == ".png":
            Image.fromarray(array[..., 0]).save(part, "PNG")
        else:
            Image.fromarray(array).save(part, "JPEG", quality=97, subsampling=0)
