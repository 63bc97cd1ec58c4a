"""Rectangles of a picture, as values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """Height and width of a whole picture, in pixels."""

    height: int
    width: int

    @property
    def pixels(self) -> int:
        return self.height * self.width


@dataclass(frozen=True)
class Window:
    """Rows [top, bottom) and columns [left, right) of a picture of `size`."""

    top: int
    bottom: int
    left: int
    right: int
    size: Size

    @classmethod
    def whole(cls, size: Size) -> Window:
        return cls(0, size.height, 0, size.width, size)

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def width(self) -> int:
        return self.right - self.left

    def grow(self, halo: int, align: int = 1) -> Window:
        """The window with `halo` more pixels on each side, its top left corner rounded
        down (and its bottom right one up) to multiples of `align`, inside the picture."""
        return Window(
            max(0, (self.top - halo) // align * align),
            min(self.size.height, -(-(self.bottom + halo) // align) * align),
            max(0, (self.left - halo) // align * align),
            min(self.size.width, -(-(self.right + halo) // align) * align),
            self.size,
        )

    def inside(self, outer: Window) -> tuple[slice, slice]:
        """Row and column slices of this window in an array that holds `outer`."""
        return (
            slice(self.top - outer.top, self.bottom - outer.top),
            slice(self.left - outer.left, self.right - outer.left),
        )


def bands(size: Size, height: int) -> Iterator[Window]:
    """Full-width windows of `height` rows (the last may be lower), top to bottom.

    >>> [(w.top, w.bottom) for w in bands(Size(5, 3), 2)]
    [(0, 2), (2, 4), (4, 5)]
    """
    for top in range(0, size.height, height):
        yield Window(top, min(top + height, size.height), 0, size.width, size)
