"""Pictures, masks, models and outputs in memory, made by rule."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from hzcli.core.lut import Lut3D, identity_lut
from hzcli.core.transform import Reach, Thumbnail
from hzcli.core.window import Size, Window
from hzcli.engine import stream
from hzcli.engine.plan import Plan


def high_water() -> int:
    """Peak memory of this process in MB, on Linux; getrusage's also counts the parent's."""
    line = next(t for t in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in t)
    return int(line.split()[1]) // 1024


class Picture:
    """Rows of an array, as an open file would give them; refuses windows outside itself."""

    def __init__(self, array: np.ndarray, name: str = "picture.tif") -> None:
        self.array = array
        self.array.setflags(write=False)
        self.path = Path(name)
        self.size = Size(*array.shape[:2])
        self.depth = array.dtype.itemsize * 8
        self.rows_read: list[tuple[int, int]] = []

    def read(self, window: Window) -> np.ndarray:
        assert 0 <= window.top < window.bottom <= self.size.height
        assert 0 <= window.left < window.right <= self.size.width
        self.rows_read.append((window.top, window.bottom))
        return self.array[window.top : window.bottom, window.left : window.right]


@dataclass
class Output:
    """Keeps copies of what it is given."""

    path: Path = Path("out.tif")
    bands: list[np.ndarray] = field(default_factory=list)

    def write(self, rows: np.ndarray) -> None:
        assert rows.dtype == np.uint16 and rows.ndim == 3 and rows.shape[2] == 3
        self.bands.append(rows.copy())

    @property
    def array(self) -> np.ndarray:
        return np.concatenate(self.bands)


@dataclass(frozen=True)
class Blur:
    """A 9 x 9 mean and a gain: looks 4 pixels far, and says so unless `told` is less."""

    told: int = 4
    align: int = 1
    gain: float = 1.2

    @property
    def reach(self) -> Reach:
        return Reach(halo=self.told, align=self.align, bytes_per_pixel=64)

    def apply(self, rgb: Tensor, mask: Tensor, window: Window) -> Tensor:
        assert rgb.shape[-2:] == mask.shape[-2:] == (window.height, window.width)
        assert window.top % self.align == 0 and window.left % self.align == 0
        return self.gain * F.avg_pool2d(rgb, 9, 1, 4, count_include_pad=False)


@dataclass(frozen=True)
class Position:
    """A shade that depends on where a pixel is: wrong windows show."""

    reach: Reach = field(default_factory=Reach)

    def apply(self, rgb: Tensor, mask: Tensor, window: Window) -> Tensor:
        y = torch.arange(window.top, window.bottom) / window.size.height
        x = torch.arange(window.left, window.right) / window.size.width
        return rgb * 0.5 + 0.25 * (y[:, None] + x)


@dataclass(frozen=True)
class Flat:
    """One level everywhere, or no number at all."""

    level: float
    reach: Reach = field(default_factory=Reach)

    def apply(self, rgb: Tensor, mask: Tensor, window: Window) -> Tensor:
        return torch.full_like(rgb, self.level)


@dataclass(frozen=True)
class Same:
    """Gives back the very tensor that it was given."""

    reach: Reach = field(default_factory=Reach)

    def apply(self, rgb: Tensor, mask: Tensor, window: Window) -> Tensor:
        return rgb


class Model:
    """Answers every thumbnail with one Transform, and keeps what it saw."""

    def __init__(self, transform: object, edge: int = 16) -> None:
        self.transform = transform
        self.thumbnail_edge = edge
        self.seen: list[Thumbnail] = []

    def predict(self, thumb: Thumbnail) -> object:
        self.seen.append(thumb)
        return self.transform

    def predict_lut(self, thumb: Thumbnail) -> Lut3D:
        self.seen.append(thumb)
        return bent_lut()


def bent_lut(size: int = 5) -> Lut3D:
    """A table with a curve in each channel and some cross-talk."""
    table = identity_lut(size)
    return Lut3D((0.8 * table**1.4 + 0.2 * table.roll(1, 0))[None])


def colours(height: int, width: int, depth: int, seed: int = 0) -> np.ndarray:
    """Smooth shades plus noise over the whole range, (h, w, 3)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    shade = np.stack([np.sin(y / 7 + c) + np.cos(x / (5 + c)) for c in range(3)], -1) / 4 + 0.5
    values = np.clip(shade + rng.normal(0, 0.15, shade.shape), 0, 1)
    top = (1 << depth) - 1
    return np.round(values * top).astype(np.uint8 if depth == 8 else np.uint16)


def soft_disc(
    height: int, width: int, depth: int, centre: tuple[float, float], radius: float
) -> np.ndarray:
    """1 inside, falling to 0 over half the radius, (h, w)."""
    y, x = np.mgrid[:height, :width]
    distance = np.hypot(y - centre[0] * (height - 1), x - centre[1] * (width - 1))
    values = np.clip((1.5 * radius - distance) / (0.5 * radius), 0, 1)
    top = (1 << depth) - 1
    return np.round(values * top).astype(np.uint8 if depth == 8 else np.uint16)


def run(picture, mask, transform, *, bands=None, **options):
    """Harmonise arrays; `bands` = (rows, columns) takes the place of the plan."""
    output = Output()
    arguments = Picture(picture), Picture(mask, "mask.png"), Model(transform), output
    if bands is None:
        return output, stream.harmonise(*arguments, **options)
    plan = Plan(*bands, peak_bytes=0, reason="as the test wants it")
    with mock.patch.object(stream, "plan", return_value=plan):
        return output, stream.harmonise(*arguments, **options)


def expected(picture, mask, transform, strength=1.0):
    """The same in float64, whole, by the definition: codes of 16 bits, not yet rounded."""
    source = picture / np.iinfo(picture.dtype).max
    soft = (mask / np.iinfo(mask.dtype).max)[..., None]
    rgb = torch.from_numpy(source.transpose(2, 0, 1)[None].copy())
    if isinstance(transform, Lut3D):
        transform = Lut3D(transform.lut.double())
    window = Window.whole(Picture(picture).size)
    result = transform.apply(rgb, torch.from_numpy(soft[None, ..., 0][None]), window)
    result = result[0].numpy().transpose(1, 2, 0).clip(0, 1)
    return 65535 * (source + strength * soft * (result - source))
