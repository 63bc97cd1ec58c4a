"""Pictures, masks and models in memory, made by rule, for tests of looks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hzcli.core.lut import Lut3D, identity_lut
from hzcli.core.transform import Reach
from hzcli.core.window import Size, Window
from hzcli.engine import stream

HEIGHT, WIDTH = 60, 80


@dataclass(frozen=True)
class Held:
    """A picture in memory, as the engine reads one."""

    codes: np.ndarray
    depth: int = 8

    @property
    def size(self) -> Size:
        return Size(*self.codes.shape[:2])

    def read(self, window: Window) -> np.ndarray:
        return self.codes[window.top : window.bottom, window.left : window.right]


@dataclass(frozen=True)
class Blurring:
    """A recolouring that looks around itself: a halo, and different at different places."""

    by_place: float = 0.0

    @property
    def reach(self) -> Reach:
        return Reach(halo=2, align=4)

    def apply(self, rgb: Tensor, mask: Tensor, window: Window) -> Tensor:
        near = torch.nn.functional.avg_pool2d(rgb, 5, 1, 2, count_include_pad=False)
        left = torch.arange(window.left, window.right) / window.size.width
        return 0.3 * rgb**1.5 + 0.5 * near + 0.1 + self.by_place * (left - 0.5)


@dataclass(frozen=True)
class Model:
    """Answers with a Transform."""

    transform: Any
    thumbnail_edge: int = 16
    seen: list[Any] = field(default_factory=list)

    def predict(self, thumb: Any) -> Any:
        return self.transform

    def predict_lut(self, thumb: Any) -> Any:
        return Lut3D(identity_lut(5)[None])


def picture(seed: int = 1, *, high: float = 1.0) -> Held:
    """Smooth colours and some noise, 8 bits."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    smooth = np.stack([x / WIDTH, y / HEIGHT, (x + y) / (WIDTH + HEIGHT)], -1)
    noise = np.random.default_rng(seed).normal(0, 0.05, smooth.shape)
    return Held((255 * np.clip(high * (smooth + noise), 0, 1)).astype(np.uint8))


def soft_mask() -> Held:
    """A soft disc off the middle, with a hole of zeros around it."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return Held((255 * np.clip((24 - np.hypot(y - 33, x - 30)) / 6, 0, 1)).astype(np.uint8))


class Rows:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.parts: list[np.ndarray] = []

    def write(self, rows: np.ndarray) -> None:
        self.parts.append(rows.copy())


def delivered_by(model: Model, strength: float = 1.0) -> np.ndarray:
    """What `hz run` makes of the picture: (h, w, 3), [0, 1]."""
    writer = Rows()
    stream.harmonise(picture(), soft_mask(), model, writer, strength=strength)
    return np.concatenate(writer.parts) / 65535
