"""The worst results to look at: composite, mask, result and truth beside each other, as a PNG.

Drawn with Pillow on thumbnails, which are 8-bit from the start: nothing here is a deliverable.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hzcli.io.atomic import beside

if TYPE_CHECKING:
    from PIL.Image import Image

TILE = 176  # longest edge of a thumbnail, pixels
SEEN = 352  # of the square that it comes from
GAP, LINE, MARGIN = 6, 18, 16
TEXT = 13
INK, PALE, PAPER = (20, 20, 20), (110, 110, 110), (250, 250, 250)
OUTLINE = (255, 40, 200)  # of the mask; hardly a colour of photographs
HEADS = ("composite", "mask", "result", "truth")


@dataclass(frozen=True)
class Entry:
    """A row of the sheet. title: the picture's name; figures: a line below it."""

    title: str
    figures: str
    composite: Path | None
    mask: Path | None
    result: Path | None
    truth: Path | None


def entry(row: Mapping[str, Any], protocol: str) -> Entry:
    """The row of the sheet for a picture that was measured, with its figures."""
    sides = row["metrics"][protocol]
    before, after = ((sides.get(name) or {}).get("fmse") for name in ("before", "after"))
    words = [f"fMSE {after:.0f}" if before is None else f"fMSE {before:.0f} -> {after:.0f}"]
    if before:
        words.append(f"ratio {after / before:.2f}")
    for name in ("reinhard", "against"):
        if (value := (sides.get(name) or {}).get("fmse")) is not None:
            words.append(f"{name} {value:.0f}")
    words += [f"mask {100 * row['foreground']:.0f} %", row.get("source", ""), row.get("kind", "")]
    paths = (row.get(name) for name in ("composite", "mask", "input", "truth"))
    return Entry(
        Path(row.get("composite") or row["input"]).name,
        ", ".join(word for word in words if word),
        *(None if path is None else Path(path) for path in paths),
    )


def draw(columns: Sequence[tuple[str, Sequence[Entry]]], path: Path) -> None:
    """Write the sheet.

    Args:
        columns: headings and what stands below them; the columns stand side by side.

    Raises:
        OSError: the file cannot be written. A picture that cannot be read leaves its place grey.
    """
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(TEXT)
    cells = [(heading, [_tiles(item) for item in entries]) for heading, entries in columns]
    heights = [
        max(
            (tile.height for _, column in cells if i < len(column) for tile in column[i]), default=0
        )
        for i in range(max((len(column) for _, column in cells), default=0))
    ]
    wide = len(HEADS) * (TILE + GAP) - GAP
    size = (
        len(cells) * (wide + MARGIN) + MARGIN,
        2 * MARGIN + 2 * LINE + sum(height + 2 * LINE + MARGIN for height in heights),
    )
    sheet = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(sheet)

    def write(x: int, y: int, text: str, colour: tuple[int, int, int], room: int) -> None:
        pen.text((x, y), _fitted(text, font.getlength, room), fill=colour, font=font)

    for number, ((heading, column), (_, entries)) in enumerate(zip(cells, columns, strict=True)):
        left, y = MARGIN + number * (wide + MARGIN), MARGIN
        write(left, y, heading, INK, wide)
        for i, head in enumerate(HEADS):
            write(left + i * (TILE + GAP), y + LINE, head, PALE, TILE)
        y += 2 * LINE
        for tiles, item, height in zip(column, entries, heights, strict=False):
            for i, tile in enumerate(tiles):
                sheet.paste(tile, (left + i * (TILE + GAP), y))
            write(left, y + height + 2, item.title, INK, wide)
            write(left, y + height + 2 + LINE, item.figures, PALE, wide)
            y += height + 2 * LINE + MARGIN
    with beside(path) as part:
        sheet.save(part, format="PNG", optimize=True)


def _fitted(text: str, length: Callable[[str], float], room: int) -> str:
    """The text, its middle left out where there is no room for all of it."""
    text = "".join(sign if " " <= sign <= "~" or "\xa0" <= sign <= "\xff" else "?" for sign in text)
    if length(text) <= room:
        return text
    keep = len(text) // 2
    while keep > 1 and length(f"{text[:keep]}...{text[-keep:]}") > room:
        keep -= 1
    return f"{text[:keep]}...{text[-keep:]}"


def _tiles(item: Entry) -> list[Image]:
    from PIL import Image

    composite, result, truth = (_seen(p) for p in (item.composite, item.result, item.truth))
    shown = next((s for s in (composite, result, truth) if s is not None), None)
    size = (TILE, TILE * 3 // 4) if shown is None else shown.size
    blank = Image.new("RGB", size, (200, 200, 200))
    # Over the truth where nobody knows the composite.
    base = next((s for s in (composite, truth, result) if s is not None), None)
    outlined = blank if base is None else _outlined(base, item.mask)
    return [composite or blank, outlined, result or blank, truth or blank]


def _seen(path: Path | None) -> Image | None:
    """A picture by area means, at most TILE pixels wide and high."""
    from PIL import Image

    from hzcli.engine.thumbnail import make_reference
    from hzcli.errors import HzError
    from hzcli.io.picture import open_picture

    if path is None:
        return None
    with contextlib.suppress(HzError, OSError), open_picture(path) as reader:
        square = make_reference(reader, SEEN)[0].clamp(0, 1).permute(1, 2, 0).numpy()
        picture = Image.fromarray(np.round(square * 255).astype(np.uint8))
        return picture.resize(_fit(reader.size.width, reader.size.height), Image.Resampling.BOX)
    return None


def _fit(width: int, height: int) -> tuple[int, int]:
    longest = max(width, height)
    return max(1, width * TILE // longest), max(1, height * TILE // longest)


def _outlined(picture: Image, mask: Path | None) -> Image:
    """The picture, darker where the mask is not, with the mask's outline."""
    from PIL import Image, ImageChops, ImageFilter

    from hzcli.core.window import bands
    from hzcli.engine.thumbnail import resize
    from hzcli.errors import HzError
    from hzcli.io.picture import open_mask
    from hzcli.metrics import share_of

    if mask is None:
        return picture
    with contextlib.suppress(HzError, OSError), open_mask(mask) as reader:
        # Samples are enough for an outline, and stay small whatever the picture's size.
        step = max(1, min(reader.size.height, reader.size.width) // SEEN)
        parts = [share_of(reader.read(w)[::step, ::step]) for w in bands(reader.size, 64 * step)]
        samples = np.concatenate(parts)[..., None]
        soft = resize(samples, picture.height, picture.width, "triangle")[..., 0]
        shape = Image.fromarray(np.where(soft > 0.5, 255, 0).astype(np.uint8))
        edge = ImageChops.difference(shape.filter(ImageFilter.MaxFilter(3)), shape)
        dark = Image.blend(picture, Image.new("RGB", picture.size), 0.45)
        shown = Image.composite(picture, dark, shape)
        shown.paste(OUTLINE, mask=edge)
        return shown
    return picture
