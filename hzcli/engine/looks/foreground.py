"""The pixels of a picture's foreground beside what a model makes of them, tile by tile.

What `stream.harmonise` delivers at full strength and without a blend, for those who want to learn
it (a look) or to compare with it: the same thumbnail, the same windows, nothing written. Colours
are sRGB's, whatever the picture is in: that is what models know, and what looks are made of.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hzcli.core.lut import Lut3D
from hzcli.core.mask import bounding_box
from hzcli.core.transform import Transform
from hzcli.core.window import Window
from hzcli.engine import stream, thumbnail
from hzcli.engine.plan import cuts, plan, room
from hzcli.engine.recolour import LUMA
from hzcli.engine.source import Source
from hzcli.engine.thumbnail import Reader, Survey, full_scale

if TYPE_CHECKING:
    from hzcli.engine.colour import Colour


@dataclass(frozen=True)
class Part:
    """Some of the pixels with mask > 0, N of them.

    rgb: (N, 3) float32, the source's colours, sRGB-encoded, [0, 1]. soft: (N,) float32, the mask.
    result: (N, 3) float32, the model's colours, not clamped; of a grey picture, what is left of
    them in it.
    """

    rgb: np.ndarray
    soft: np.ndarray
    result: np.ndarray


@dataclass(frozen=True)
class Foreground:
    """A picture, surveyed, and its Transform, ready to be applied any number of times.

    table: the model's own, where its Transform builds on one.
    colour: how the picture's numbers become sRGB; None where they are.
    """

    reader: Reader
    mask_reader: Reader
    survey: Survey
    transform: Transform
    table: Lut3D | None
    device: torch.device
    warnings: tuple[str, ...]
    budget_bytes: int | None = None
    colour: Colour | None = None

    @property
    def inside(self) -> int:
        """Number of pixels with mask > 0."""
        return self.survey.inside

    def parts(self) -> Iterator[Part]:
        """All pixels with mask > 0, in an order that is always the same.

        Raises:
            BudgetError: the budget is too small. PictureError: a file cannot be read.
        """
        assert self.survey.box is not None, "an empty mask is refused before"
        size, reach = self.reader.size, self.transform.reach
        top, bottom, left, right = self.survey.box
        chosen = plan(size, self.survey.box, reach, self.budget_bytes)
        scales = [np.float32(1 / full_scale(r.depth)) for r in (self.reader, self.mask_reader)]
        for start, stop in cuts(top, bottom, chosen.band_rows):
            seen = Window(start, stop, 0, size.width, size).grow(reach.halo, reach.align)
            codes, mask = self.reader.read(seen), self.mask_reader.read(seen)
            for first, last in cuts(left, right, chosen.tile_columns):
                own = mask[start - seen.top : stop - seen.top, first:last]
                box = bounding_box(own)
                if box is None:
                    continue
                tile = Window(start + box[0], start + box[1], first + box[2], first + box[3], size)
                yield self._part(tile, seen, codes, mask, scales)

    def _part(
        self,
        tile: Window,
        seen: Window,
        codes: np.ndarray,
        mask: np.ndarray,
        scales: list[np.float32],
    ) -> Part:
        window = tile.grow(self.transform.reach.halo, self.transform.reach.align)
        at = window.inside(seen)
        rgb = np.ascontiguousarray((codes[at] * scales[0]).transpose(2, 0, 1))
        soft = mask[at] * scales[1]
        with torch.inference_mode():
            if self.colour is not None:
                flat = torch.from_numpy(rgb).view(3, -1)
                self.colour.shown(flat, flat)
            elif codes.dtype == np.float32:
                np.nan_to_num(rgb.clip(0, 1, out=rgb), copy=False)
            colours = torch.from_numpy(rgb)[None].to(self.device)
            weights = torch.from_numpy(soft)[None, None].to(self.device)
            result = self.transform.apply(colours, weights, window)
        inner = tile.inside(window)
        inside = soft[inner] > 0
        new = result[(0, slice(None), *inner)].cpu().numpy()
        source = rgb[(slice(None), *inner)][:, inside]
        new = new[:, inside]
        if channels_of(self.reader).startswith(("grey", "bilevel")):
            change = np.clip(new, 0, 1) - source
            new = source + np.array(LUMA, np.float32) @ change
        return Part(source.T, soft[inner][inside], new.T)


def channels_of(reader: Reader) -> str:
    """What a file's pixels are, see `io.meta.Header`."""
    return str(getattr(getattr(reader, "header", None), "channels", "rgb"))


def needed(colour: Colour | None, reader: Reader) -> Colour | None:
    """`colour` where it changes anything.

    Raises:
        PictureError: it is not for pictures with such channels.
    """
    if colour is None:
        return None
    colour.require(channels_of(reader))
    return None if colour.identity else colour


@contextlib.contextmanager
def foreground(
    reader: Reader,
    mask_reader: Reader,
    predictor: Any,
    *,
    mode: str = "region",
    device: torch.device | str = "cpu",
    budget_bytes: int | None = None,
    reference: Reader | None = None,
    colour: Colour | None = None,
    reference_colour: Colour | None = None,
) -> Iterator[Foreground]:
    """Survey a picture and ask a model what is to be done with it.

    Args:
        reader, mask_reader: open, of one size. predictor: on `device` already.
        mode: as for `stream.harmonise`. reference: another picture to harmonise towards.
        colour, reference_colour: how the numbers of both become sRGB; None for sRGB.

    Raises:
        MaskError: the mask is empty, or leaves no background. BudgetError, PictureError.
    """
    colour = needed(colour, reader)
    if reference is not None:
        reference_colour = needed(reference_colour, reference)
    with contextlib.ExitStack() as held:
        with torch.inference_mode():
            survey = thumbnail.look(
                reader, mask_reader, predictor, reference, colour, reference_colour
            )
            warnings = stream.check_mask(survey, reader.size)
            transform = stream.predict(predictor, survey.thumbnail, mode, device)
            table: Lut3D | None = None
            if hasattr(transform, "lut") and not isinstance(transform, Lut3D):
                own = stream.predict(predictor, survey.thumbnail, "lut", device)
                assert isinstance(own, Lut3D), "a model's table is one"
                table = own
            if hasattr(transform, "bind"):
                assert survey.box is not None, "an empty mask is refused before"
                space = room(budget_bytes)
                source = Source(
                    reader, mask_reader, survey.box, torch.device(device), space, colour
                )
                transform = transform.bind(held.enter_context(source))
                source.relax()
        yield Foreground(
            reader,
            mask_reader,
            survey,
            transform,
            table,
            torch.device(device),
            tuple(warnings),
            budget_bytes,
            colour,
        )
