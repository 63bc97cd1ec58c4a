"""The pixels of a picture's foreground beside what a model makes of them, tile by tile.

What `stream.harmonise` delivers at full strength and without a blend, for those who want to learn
it (a look) or to compare with it: the same thumbnail, the same windows, nothing written.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from hzcli.core.lut import Lut3D
from hzcli.core.mask import bounding_box
from hzcli.core.transform import Transform
from hzcli.core.window import Window
from hzcli.engine import stream, thumbnail
from hzcli.engine.plan import cuts, plan, room
from hzcli.engine.source import Source
from hzcli.engine.thumbnail import Reader, Survey


@dataclass(frozen=True)
class Part:
    """Some of the pixels with mask > 0, N of them.

    rgb: (N, 3) float32, the source's colours. soft: (N,) float32, the mask.
    result: (N, 3) float32, the model's colours, not clamped.
    """

    rgb: np.ndarray
    soft: np.ndarray
    result: np.ndarray


@dataclass(frozen=True)
class Foreground:
    """A picture, surveyed, and its Transform, ready to be applied any number of times.

    table: the model's own, where its Transform builds on one.
    """

    reader: Reader
    mask_reader: Reader
    survey: Survey
    transform: Transform
    table: Lut3D | None
    device: torch.device
    warnings: tuple[str, ...]
    budget_bytes: int | None = None

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
        scales = [np.float32(1 / ((1 << r.depth) - 1)) for r in (self.reader, self.mask_reader)]
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
            colours = torch.from_numpy(rgb)[None].to(self.device)
            weights = torch.from_numpy(soft)[None, None].to(self.device)
            result = self.transform.apply(colours, weights, window)
        inner = tile.inside(window)
        inside = soft[inner] > 0
        new = result[(0, slice(None), *inner)].cpu().numpy()
        source = rgb[(slice(None), *inner)]
        return Part(source[:, inside].T, soft[inner][inside], new[:, inside].T)


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
) -> Iterator[Foreground]:
    """Survey a picture and ask a model what is to be done with it.

    Args:
        reader, mask_reader: open, of one size. predictor: on `device` already.
        mode: as for `stream.harmonise`. reference: another picture to harmonise towards.

    Raises:
        MaskError: the mask is empty, or leaves no background. BudgetError, PictureError.
    """
    with contextlib.ExitStack() as held:
        with torch.inference_mode():
            survey = thumbnail.look(reader, mask_reader, predictor, reference)
            warnings = stream._check_mask(survey, reader.size)
            transform = stream._predict(predictor, survey.thumbnail, mode, device)
            table: Lut3D | None = None
            if hasattr(transform, "lut") and not isinstance(transform, Lut3D):
                own = stream._predict(predictor, survey.thumbnail, "lut", device)
                assert isinstance(own, Lut3D), "a model's table is one"
                table = own
            if hasattr(transform, "bind"):
                assert survey.box is not None, "an empty mask is refused before"
                space = room(budget_bytes)
                source = Source(reader, mask_reader, survey.box, torch.device(device), space)
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
        )
