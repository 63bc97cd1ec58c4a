"""Pictures to measure on, made by rule: codecs see in them what they see in photographs.

Smooth light, regions with hard borders, texture down to single pixels and noise that grows with
brightness. As a JPEG of quality 95, such a picture takes 1.5 (4 MP) to 1.2 (24 MP) bits a pixel,
read and written as 16-bit TIFF by deflate 12: photographs of 4 to 12 MP take 0.8 to 1.4, in the
mean 1.16, and 10 to 13, in the mean 11.4. A scene is made band by band: it may be of any size.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile

from hzcli.core.window import Size

QUALITY = 95
BAND_ROWS = 64
# A JPEG's sides have 16 bits, and it is decoded whole: larger pictures are TIFFs.
LARGEST_JPEG = Size(60_000, 60_000)
JPEG_PIXELS = 120_000_000
# Cells of value noise across the picture, and how much each octave adds, in 8-bit levels.
OCTAVES = ((3, 46.0), (11, 26.0), (37, 13.0), (131, 3.0), (421, 1.2))
EDGES = 19  # cells of the field whose sign divides the picture into regions
TEXTURE, NOISE, TINGE = 2.5, 0.4, 2.2  # 8-bit levels
TINGE_EDGE = 4  # pixels: noise of colour is coarser
# Width of a mask's soft border, as a share of the picture's height.
SOFT = 0.002


def scene(size: Size, seed: int = 0) -> Iterator[np.ndarray]:
    """A photograph-like picture from top to bottom: bands (h, W, 3) uint8 of `BAND_ROWS` rows."""
    rng = np.random.default_rng(seed)
    fields = [(rng.standard_normal((3, k + 2, k + 2)).astype(np.float32), a) for k, a in OCTAVES]
    regions = rng.standard_normal((2, EDGES + 2, EDGES + 2)).astype(np.float32)
    x = np.arange(size.width, dtype=np.float32) / size.width
    for top in range(0, size.height, BAND_ROWS):
        y = np.arange(top, min(top + BAND_ROWS, size.height), dtype=np.float32) / size.height
        shape = (len(y), size.width)
        light = np.full(shape, 118, np.float32)
        tint = np.zeros((3, *shape), np.float32)
        for cells, amplitude in fields:
            light += amplitude * _value(cells[0], y, x)
            if len(cells[0]) < 50:  # colour varies slowly
                tint[0] += 0.35 * amplitude * _value(cells[1], y, x)
                tint[2] += 0.35 * amplitude * _value(cells[2], y, x)
        field = _value(regions[0], y, x)
        inside = field > 0.15
        light += np.where(inside, np.float32(-38), np.float32(16))
        tint[2] += np.where(inside, np.float32(-12), np.float32(5))
        drawn = rng.standard_normal(shape, np.float32)
        # Texture is in focus here and there only; the noise is everywhere.
        rough = np.maximum(_value(regions[1], y, x), 0) ** 2
        grain = TEXTURE * rough * (drawn + np.roll(drawn, 1, 1) + np.roll(drawn, 1, 0)) / 3
        light += grain
        bright = np.sqrt(np.clip(light, 8, 255) / 118)
        light += NOISE * bright * rng.standard_normal(shape, np.float32)
        coarse = rng.standard_normal((2, -(-len(y) // TINGE_EDGE), -(-size.width // TINGE_EDGE)))
        tinge = (TINGE * coarse).astype(np.float32).repeat(TINGE_EDGE, 1).repeat(TINGE_EDGE, 2)
        tint[::2] += tinge[:, : len(y), : size.width]
        codes = np.clip(light[..., None] + tint.transpose(1, 2, 0) + 0.5, 0, 255)
        yield codes.astype(np.uint8, order="C")


def _value(cells: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Values of a grid, mixed smoothly between its nodes: (rows, columns)."""
    last = len(cells) - 2
    row, column = (np.minimum((axis * last).astype(int), last - 1) for axis in (y, x))
    down, across = ((axis * last - n).astype(np.float32) for axis, n in ((y, row), (x, column)))
    down, across = (t * t * (3 - 2 * t) for t in (down, across))
    rows = cells[row] * (1 - down)[:, None] + cells[row + 1] * down[:, None]
    left, right = rows[:, column], rows[:, column + 1]
    return left + across * (right - left)


def mask(size: Size, share: float) -> Iterator[np.ndarray]:
    """A soft blob in the middle: bands (h, W) uint8, whose mean is `share` of full scale.

    A share of 1 leaves the first row of the picture out: a mask must leave some background.
    """
    power = 2.0 if share <= 0.5 else 6.0

    def far(y: np.ndarray, x: np.ndarray) -> np.ndarray:
        return (np.abs(2 * y - 1)[:, None] ** power + np.abs(2 * x - 1) ** power) ** (1 / power)

    grid = (np.arange(512, dtype=np.float32) + 0.5) / 512
    edge = float(np.quantile(far(grid, grid), share)) if share < 1 else 2.0
    soft = max(SOFT, 1 / size.height)
    x = (np.arange(size.width, dtype=np.float32) + 0.5) / size.width
    for top in range(0, size.height, BAND_ROWS):
        rows = np.arange(top, min(top + BAND_ROWS, size.height), dtype=np.float32)
        weight = np.clip((edge - far((rows + 0.5) / size.height, x)) / soft + 0.5, 0, 1)
        codes = np.round(255 * weight).astype(np.uint8)
        if share >= 1 and top == 0:
            codes[0] = 0
        yield codes


def write(folder: Path, size: Size, share: float, *, tiff: bool = False) -> tuple[Path, Path]:
    """Write a scene and its mask.

    Args:
        folder: where they go.
        share: of the picture that the mask covers.
        tiff: an 8-bit TIFF by deflate even where a JPEG would do; pictures over
            `JPEG_PIXELS` are TIFFs in any case.

    Returns:
        The picture (JPEG or TIFF), and the mask (PNG or TIFF). What is there already is kept.
    """
    large = size.pixels > JPEG_PIXELS or max(size.height, size.width) > LARGEST_JPEG.height
    tiff = tiff or large
    name = f"{size.width}x{size.height}"
    picture = folder / f"{name}.{'tif' if tiff else 'jpg'}"
    cover = folder / f"{name}_{share:.6g}_m.{'tif' if tiff else 'png'}"
    if not picture.exists():
        if tiff:
            _write_tiff(picture, scene(size), (size.height, size.width, 3))
        else:
            pixels = np.concatenate(list(scene(size)))
            picture.write_bytes(imagecodecs.jpeg8_encode(pixels, level=QUALITY))
    if not cover.exists():
        if tiff:
            _write_tiff(cover, mask(size, share), (size.height, size.width))
        else:
            codes = np.concatenate(list(mask(size, share)))
            cover.write_bytes(imagecodecs.png_encode(codes, level=1))
    return picture, cover


def _write_tiff(path: Path, bands: Iterator[np.ndarray], shape: tuple[int, ...]) -> None:
    """Bands as the strips of a TIFF."""

    def strips() -> Iterator[bytes]:
        for band in bands:
            differences = imagecodecs.delta_encode(band, axis=1)
            yield bytes(imagecodecs.deflate_encode(differences.tobytes(), level=1))

    big = np.prod(shape, dtype=np.int64) > 3_900_000_000
    with tifffile.TiffWriter(path, bigtiff=bool(big)) as file:
        file.write(
            strips(),
            shape=shape,
            dtype=np.uint8,
            rowsperstrip=BAND_ROWS,
            photometric="rgb" if len(shape) == 3 else "minisblack",
            compression="adobe_deflate",
            predictor=2,
            metadata=None,
        )
