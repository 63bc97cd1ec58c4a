"""A small photo pack made by rule: gradients with coloured discs and their label maps."""

from __future__ import annotations

import csv
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def _photo(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    h, w = 72, 96
    y, x = np.mgrid[:h, :w]
    rgb = rng.uniform(60, 180, 3) + np.stack([x, y, x + y], -1) * rng.uniform(-0.4, 0.4, 3)
    labels = np.zeros((h, w), np.uint8)
    for k in (1, 2):
        inside = (x - rng.uniform(20, 76)) ** 2 + (y - rng.uniform(16, 56)) ** 2 < 15**2
        labels[inside] = k
        rgb[inside] = rng.uniform(30, 220, 3) + rng.normal(0, 8, (int(inside.sum()), 3))
    return np.clip(rgb, 0, 255).astype(np.uint8), labels


@pytest.fixture(scope="session")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with index.csv and two shards: 24 photographs to train on, 8 held back."""
    folder = tmp_path_factory.mktemp("pack")
    rows = []
    for shard in range(2):
        with tarfile.open(folder / f"photos-0{shard}.tar", "w") as tar:
            for i in range(16):
                name = f"{'disc' if i % 2 else 'spot'}-{shard}{i:02d}"
                rgb, labels = _photo(shard * 100 + i)
                for suffix, array in ((".jpg", rgb), (".png", labels)):
                    file = io.BytesIO()
                    Image.fromarray(array).save(file, "JPEG" if suffix == ".jpg" else "PNG")
                    info = tarfile.TarInfo(name + suffix)
                    info.size = file.tell()
                    file.seek(0)
                    tar.addfile(info, file)
                split = "val" if i >= 12 else "train"
                rows.append([name, split, name[:4], "regions", f"photos-0{shard}.tar"])
    with (folder / "index.csv").open("w", newline="") as f:
        writer = csv.writer(f)
        writer.writerow(["name", "split", "source", "labels", "shard"])
        writer.writerows(rows)
    return folder
