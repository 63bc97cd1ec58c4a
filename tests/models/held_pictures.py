"""Pictures, masks and thumbnails in memory, for the contract of models."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hzcli.core.mask import bounding_box
from hzcli.core.transform import Thumbnail
from hzcli.core.window import Size, Window


class Codes:
    """Rows of an array, as an open file gives them."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        self.size = Size(*array.shape[:2])
        self.depth = array.dtype.itemsize * 8
        self.path = "memory"

    def read(self, window: Window) -> np.ndarray:
        assert 0 <= window.top < window.bottom <= self.size.height
        assert 0 <= window.left < window.right <= self.size.width
        return self.array[window.top : window.bottom, window.left : window.right]


class Rows(list):
    """Keeps copies of the rows written."""

    def write(self, rows: np.ndarray) -> None:
        self.append(rows.copy())

    @property
    def array(self) -> np.ndarray:
        return np.concatenate(self)


@dataclasses.dataclass
class Held:
    """A `Source` whose picture (1, 3, h, w) and mask (1, 1, h, w) are tensors."""

    rgb: Tensor
    mask: Tensor

    @property
    def size(self) -> Size:
        return Size(*self.rgb.shape[2:])

    @property
    def box(self) -> Window:
        found = bounding_box(self.mask[0, 0].numpy()) or (0, 0, 0, 0)
        return Window(*found, self.size)

    def read(self, window: Window) -> tuple[Tensor, Tensor]:
        part = (..., slice(window.top, window.bottom), slice(window.left, window.right))
        return self.rgb[part], self.mask[part]

    def scratch(self, *shape: int) -> Tensor:
        return torch.empty(shape)


class Spy:
    """A predictor that keeps the last Transform that it gave."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self.transform: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def predict(self, thumb: Thumbnail) -> Any:
        self.transform = self._model.predict(thumb)
        return self.transform


def picture(height: int, width: int, depth: int = 16, seed: int = 0) -> np.ndarray:
    """Smooth shades plus noise, (h, w, 3) codes."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    shade = np.stack([np.sin(y / 17 + c + seed) + np.cos(x / (11 + c)) for c in range(3)], -1)
    values = np.clip(shade / 4 + 0.5 + rng.normal(0, 0.05, shade.shape), 0, 1)
    top = (1 << depth) - 1
    return np.round(values * top).astype(np.uint8 if depth == 8 else np.uint16)


def soft_mask(height: int, width: int) -> np.ndarray:
    """(h, w) uint8: an ellipse with a soft edge and a hole; never empty, never all of it."""
    y, x = np.mgrid[:height, :width]
    distance = np.hypot((y + 0.5) / height - 0.55, (x + 0.5) / width - 0.4)
    mask = np.round(255 * np.clip((0.33 - distance) / 0.06, 0, 1)).astype(np.uint8)
    mask[height // 2, width // 3] = 0
    mask[-1, -1], mask[0, 0] = 128, 0
    return mask


def tensors(rgb: np.ndarray, mask: np.ndarray) -> tuple[Tensor, Tensor]:
    """Codes as the engine hands them to a Transform: (1, 3, h, w) and (1, 1, h, w), [0, 1]."""
    colours = rgb.transpose(2, 0, 1).astype(np.float32) / np.float32(np.iinfo(rgb.dtype).max)
    soft = mask.astype(np.float32) / np.float32(np.iinfo(mask.dtype).max)
    return torch.from_numpy(colours)[None], torch.from_numpy(soft)[None, None]


def thumbnail(model: nn.Module, rgb: Tensor, mask: Tensor) -> Thumbnail:
    """What the model sees of one picture: squashed squares, and a closeup if it needs one."""
    edge, size = model.thumbnail_edge, Size(*rgb.shape[2:])
    closeup = None
    if getattr(model, "needs_closeup", False):
        top, bottom, left, right = bounding_box(mask[0, 0].numpy()) or (
            0,
            size.height,
            0,
            size.width,
        )
        part = (..., slice(top, bottom), slice(left, right))
        box = Size(bottom - top, right - left)
        closeup = Thumbnail(_square(rgb[part], edge), _square(mask[part], edge), box)
    return Thumbnail(_square(rgb, edge), _square(mask, edge), size, closeup)


def _square(x: Tensor, edge: int) -> Tensor:
    return F.adaptive_avg_pool2d(x, (edge, edge))


def bound(transform: Any, rgb: Tensor, mask: Tensor) -> Any:
    """The Transform, shown the whole picture if it asks for that."""
    return transform.bind(Held(rgb, mask)) if hasattr(transform, "bind") else transform


def shapes_of(state: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in state.items()}


def readings_of(config: Any) -> dict[str, str]:
    """What tensor shapes cannot tell, as it stands in the metadata of a file of weights."""
    return {name: str(getattr(config, name)) for name in config.READINGS}
