"""Small folders of pictures and masks made by rule, a model that darkens, what hz says."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 24, 32


def colours(height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """(h, w, 3) uint8, smooth."""
    y, x = np.mgrid[:height, :width]
    return np.stack([40 + 5 * x, 30 + 8 * y, 60 + 2 * (x + y)], -1).astype(np.uint8)


def disc(height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """(h, w) uint8: a soft disc in the middle."""
    y, x = np.mgrid[:height, :width]
    distance = np.hypot(y - height / 2, x - width / 2)
    return (255 * np.clip((10 - distance) / 4, 0, 1)).astype(np.uint8)


def save(path: Path, pixels: np.ndarray) -> Path:
    """Write pixels in the format that the extension says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def shot(path: Path, *, mask: str | None = "_m.png", truth: str | None = None) -> Path:
    """A composite, its mask and its ground truth, by what follows the composite's stem."""
    save(path, colours())
    if mask is not None:
        save(path.with_name(path.stem + mask), disc())
    if truth is not None:
        save(path.with_name(path.stem + truth), np.clip(colours() * 0.5, 0, 255).astype(np.uint8))
    return path


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder and its bytes."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


class Darker:
    """A model that answers every picture with a table of half the brightness."""

    thumbnail_edge = 16
    card = SimpleNamespace(id="darker")

    def predict(self, thumb: object) -> object:
        from hzcli.core.lut import Lut3D, identity_lut

        return Lut3D(0.5 * identity_lut(2)[None])

    predict_lut = predict


@dataclass(frozen=True)
class Said:
    """What a command said and how it ended."""

    exit_code: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        """stdout as JSON lines; fails on anything else."""
        return [json.loads(line) for line in self.out.splitlines()]


Hz = Callable[..., Said]
