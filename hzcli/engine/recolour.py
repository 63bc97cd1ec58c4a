"""From codes to codes: bands of rows, and a Transform's answer blended into them by the mask."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from hzcli.core import codes as core
from hzcli.core import native
from hzcli.core.grid_codes import GridCodes
from hzcli.core.mask import bounding_box
from hzcli.core.transform import Reach, Transform
from hzcli.core.window import Size, Window
from hzcli.engine import coded
from hzcli.engine.change import Change
from hzcli.engine.pipeline import heed
from hzcli.engine.plan import Box, cuts
from hzcli.engine.thumbnail import Reader
from hzcli.engine.workers import workers
from hzcli.errors import ModelError

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from hzcli.core.codes import Coded
    from hzcli.engine.colour import Colour

# How much each channel's change counts in a grey picture's: ITU-R BT.709.
LUMA = (0.2126, 0.7152, 0.0722)
# Pixels that are given another profile at once.
CONVERTED_AT_ONCE = 1 << 18
# Pixels that are blended at once, so that a core's cache holds all steps.
BLENDED_AT_ONCE = 1 << 15


@dataclass(frozen=True)
class Band:
    """Rows as read: `window` is the rows to deliver, `seen` those that the Transform sees.

    codes: (seen rows, W, 3), float32 of pictures in float. mask: (seen rows, W), None in rows
    that it does not touch and nobody compares. truth: (rows, W, 3) or None. alpha: (rows, W) in
    the picture's depth, None where it is not handed on.
    """

    window: Window
    seen: Window
    codes: np.ndarray
    mask: np.ndarray | None
    truth: np.ndarray | None
    alpha: np.ndarray | None = None

    def own(self, seen: np.ndarray) -> np.ndarray:
        """The pixels to deliver of an array that holds those seen."""
        return seen[self.window.inside(self.seen)]


def windows_of(
    size: Size, box: Box | None, rows: int, reach: Reach
) -> Iterator[tuple[Window, bool]]:
    """Full-width bands from top to bottom, and whether the mask's box meets them."""

    def cut(top: int, bottom: int, inside: bool) -> Iterator[tuple[Window, bool]]:
        for start, stop in cuts(top, bottom, rows):
            yield Window(start, stop, 0, size.width, size), inside

    top, bottom = box[:2] if box else (size.height,) * 2
    yield from cut(0, top, False)
    yield from cut(top, bottom, True)
    yield from cut(bottom, size.height, False)


def read_band(
    item: tuple[Window, bool],
    reach: Reach,
    reader: Reader,
    mask: Reader,
    truth: Reader | None,
    with_alpha: bool,
) -> Band:
    """The rows of one of `windows_of`, and what the Transform needs to see around them."""
    window, inside = item
    seen = window.grow(reach.halo, reach.align) if inside else window
    return Band(
        window,
        seen,
        reader.read(seen),
        mask.read(seen) if inside or truth else None,
        truth.read(window) if truth else None,
        reader.read_alpha(window) if with_alpha else None,  # type: ignore[attr-defined]
    )


def widen(codes: np.ndarray, out: np.ndarray) -> None:
    """Copy samples to 16 bits or to float32, whatever they are in.

    8-bit codes become 16 bits times 257, which takes 0..255 to 0..65535 exactly; float becomes
    codes by rounding, cut off at 0 and 1.
    """
    if codes.dtype == out.dtype:
        np.copyto(out, codes)
    elif codes.dtype == np.uint8 and out.dtype == np.uint16:
        core.widen(codes, out)
    elif out.dtype == np.float32:
        np.multiply(codes, np.float32(1 / np.iinfo(codes.dtype).max), out=out, dtype=np.float32)
    else:
        values = np.nan_to_num(codes.clip(0, 1) * np.float32(65535), copy=False)
        np.copyto(out, np.rint(values, out=values), casting="unsafe")


def deliver(codes: np.ndarray, out: np.ndarray, colour: Colour | None, grey: bool) -> None:
    """Copy rows that keep their colours: `widen`, and into the profile of the output if it is
    another than the picture's."""
    if colour is None or not colour.converts:
        widen(codes, out)
        return
    step = max(1, CONVERTED_AT_ONCE // codes.shape[1])
    for top in range(0, len(codes), step):
        part = np.empty(codes[top : top + step].shape, np.float32)
        widen(codes[top : top + step], part)
        part = colour.delivered(part)
        if grey:
            part[...] = part[..., 1:2]
        widen(part, out[top : top + step])


class Recolour:
    """Applies a Transform inside the mask. Holds buffers that each tile uses again.

    Args:
        transform: what the model predicted.
        strength: 0 to 1.
        device: where the Transform works.
        scales: what takes the picture's and the mask's numbers to [0, 1].
        colour: how the picture's numbers become sRGB and are delivered; None where they are.
        extended: whether numbers may lie beyond [0, 1]: the Transform is shown them cut off, and
            its change is added to what they are.
        grey: whether the picture's channels are equal, and stay so.
        counted: one row of the picture in so many is looked at for `change`.
    """

    def __init__(
        self,
        transform: Transform,
        strength: float,
        device: torch.device,
        scales: Sequence[float],
        *,
        colour: Colour | None = None,
        extended: bool = False,
        grey: bool = False,
        counted: int = 1,
    ) -> None:
        self._transform = transform
        self._reach = transform.reach
        self._strength = strength
        self._device = device
        self._rgb_scale, self._mask_scale = (np.float32(scale) for scale in scales)
        self._colour = colour
        self._extended = extended or colour is not None
        self._grey = grey
        # Where nothing stands between the codes and the Transform.
        self._direct = device.type == "cpu" and not self._extended and not grey
        self._begun = False
        self._coded: Coded | GridCodes | None = None
        self._pool: Executor | None = None
        self._buffers: dict[str, np.ndarray] = {}
        self._seen = Change(counted)
        self.change = self._seen.figures

    def band(self, band: Band, rows: np.ndarray, tile_columns: int) -> None:
        """Fill `rows` (h, W, 3) with the source as it is delivered, recoloured where the mask is
        above 0."""
        codes = band.own(band.codes)
        mask = None if band.mask is None else band.own(band.mask)
        box = None if mask is None else bounding_box(mask)
        if mask is None or box is None:
            deliver(codes, rows, self._colour, self._grey)
            return
        top, bottom, left, right = box
        self._seen.meet(mask[self._seen.rows(band.window.top)])
        if self._direct and not self._begun:
            self._begun = True
            self._coded = coded.prepared(self._transform, self._strength, band.window.size)
            self._pool = workers() if self._coded is not None else None
        if self._coded is not None and rows.dtype == np.uint16:
            inner = np.s_[top:bottom, left:right]
            for outer in (np.s_[:top], np.s_[bottom:], np.s_[top:bottom, :left],
                          np.s_[top:bottom, right:]):  # fmt: skip
                widen(codes[outer], rows[outer])
            at, by = band.window.top, band.window.left
            window = Window(at + top, at + bottom, by + left, by + right, band.window.size)
            self._from_codes(codes[inner], rows[inner], mask[inner], window)
            return
        deliver(codes, rows, self._colour, self._grey)
        for start, stop in cuts(left, right, tile_columns):
            heed()
            part = bounding_box(mask[top:bottom, start:stop])
            if part is not None:
                at, by = band.window.top + top, band.window.left + start
                tile = Window(
                    at + part[0], at + part[1], by + part[2], by + part[3], band.window.size
                )
                self._tile(band, tile, rows)

    def _from_codes(
        self, codes: np.ndarray, rows: np.ndarray, mask: np.ndarray, window: Window
    ) -> None:
        assert self._coded is not None
        large = coded.is_large(window.size)
        if isinstance(self._coded, GridCodes):
            self._coded.recolour(rows, mask, window, self._pool, large, codes)
        else:
            coded.recolour(rows, mask, self._coded, codes=codes, pool=self._pool, large=large)
        some = self._seen.rows(window.top)
        before = np.empty_like(rows[some])
        widen(codes[some], before)
        self._seen.between(before, rows[some])

    def _tile(self, band: Band, tile: Window, rows: np.ndarray) -> None:
        window = tile.grow(self._reach.halo, self._reach.align)
        assert band.mask is not None
        r, c = window.inside(band.seen)
        codes, mask_codes = band.codes[r, c], band.mask[r, c]
        rgb = self._buffer("rgb", (3, *mask_codes.shape))
        np.multiply(codes.transpose(2, 0, 1), self._rgb_scale, out=rgb, dtype=np.float32)
        mask = self._buffer("mask", mask_codes.shape)
        np.multiply(mask_codes, self._mask_scale, out=mask, dtype=np.float32)
        source = torch.from_numpy(self._shown(rgb))[None].to(self._device)
        soft = torch.from_numpy(mask)[None, None].to(self._device)
        result = self._transform.apply(source, soft, window)
        inner = (..., *tile.inside(window))
        source, soft, result = source[inner][0], soft[inner][0], result[inner][0]
        out = rows[tile.inside(band.window)]
        large = self._direct and coded.is_large(window.size) and out.dtype == np.uint16
        if large and result.stride(2) == 1 and native.kernel("planes") is not None:
            self._blend_by_kernel(result.detach(), mask_codes[tile.inside(window)], tile.top, out)
            return
        if self._strength != 1:
            soft = soft * self._strength
        if self._extended or self._grey or out.dtype != np.uint16:
            inside = mask_codes[tile.inside(window)] > 0
            self._changed(source, soft, result, tile, out, rgb[inner], inside)
            return
        step = len(out)
        if self._device.type == "cpu":
            step = max(1, BLENDED_AT_ONCE // tile.width)
        for top in range(0, len(out), step):
            part = np.s_[:, top : top + step]
            self._blend(source[part], soft[part], result[part], tile.top + top, out[part[1]])

    def _blend_by_kernel(self, result: Tensor, mask: np.ndarray, top: int, out: np.ndarray) -> None:
        """As `_blend`, of codes in `out` and a mask in codes (h, w), in one go."""
        self._check(result)
        some = self._seen.rows(top)
        before = out[some].copy()
        native.planes(result.numpy()).recolour(out, mask, self._strength)
        self._seen.between(before, out[some])

    def _blend(
        self, source: Tensor, soft: Tensor, result: Tensor, top: int, out: np.ndarray
    ) -> None:
        """Colours (3, h, w) by the mask (1, h, w) between the source's and the Transform's, to
        codes: where the mask is 0, those of the source, for it comes out as it went in."""
        new = self._change(result.shape)
        torch.clamp(result, 0, 1, out=new)
        torch.lerp(source, new, soft, out=new)
        self._check(new)
        some = self._seen.rows(top)
        if some.start < len(out):
            self._seen.of((new[:, some] - source[:, some]).abs_())
        new *= 65535
        new += 0.5  # and cut off below: the one rounding, to the nearest code
        # Pixels first, then codes: numpy is slow at both together.
        pixels = self._buffer("pixels", out.shape)
        planes = new.cpu().numpy()
        for c in range(3):
            pixels[..., c] = planes[c]
        np.copyto(out, pixels, casting="unsafe")

    def _changed(
        self,
        source: Tensor,
        soft: Tensor,
        result: Tensor,
        tile: Window,
        out: np.ndarray,
        own: np.ndarray,
        inside: np.ndarray,
    ) -> None:
        """The same for pictures whose numbers are not what the Transform is shown, and for grey
        ones: `own` (3, h, w) are their numbers, to which the change is added."""
        change = self._change(result.shape)
        torch.clamp(result, 0, 1, out=change)
        change -= source
        change *= soft
        if self._grey:
            luma = torch.tensor(LUMA, device=change.device).view(3, 1, 1)
            change[:] = (change * luma).sum(dim=0, keepdim=True)
        self._check(change)
        self._seen.of(change[:, self._seen.rows(tile.top)].abs())
        # Where the mask is 0 the source's code stays, whatever the Transform says there.
        if self._extended:
            new, moved = self._added(own, change.cpu())
            inside &= moved
        else:
            change += source
            new = change
        if out.dtype == np.uint16:
            new *= 65535
            new += 0.5  # as above
            if self._extended:
                new.clamp_(0, 65535)
        shaped = new.cpu().numpy().transpose(1, 2, 0)
        np.copyto(out, shaped, casting="unsafe", where=inside[..., None])

    def _shown(self, rgb: np.ndarray) -> np.ndarray:
        """What the Transform sees of (3, h, w) numbers."""
        if not self._extended:
            return rgb
        shown = self._buffer("shown", rgb.shape)
        if self._colour is not None:
            flat = torch.from_numpy(rgb).view(3, -1), torch.from_numpy(shown).view(3, -1)
            self._colour.shown(*flat)
        else:
            np.nan_to_num(np.clip(rgb, 0, 1, out=shown), copy=False)
        return shown

    def _added(self, own: np.ndarray, change: Tensor) -> tuple[Tensor, np.ndarray]:
        """Numbers (3, h, w) with a change of the colours shown, (3, h, w), not cut off.

        Returns:
            The new numbers, and (h, w) where they are new: a pixel that does not change keeps
            its number to the last bit, and so does one that is no number.
        """
        numbers = torch.from_numpy(np.ascontiguousarray(own))
        moved = (change != 0).any(dim=0) & numbers.isfinite().all(dim=0)
        if self._colour is None:
            return change.add_(numbers), moved.numpy()
        flat = numbers.view(3, -1)
        self._colour.changed(flat, change.reshape(3, -1), flat)
        if self._grey:
            flat[:] = flat[1:2].clone()
        return numbers, moved.numpy()

    def _check(self, colours: Tensor) -> None:
        if not np.isfinite(float(colours.sum(dtype=torch.float32))):
            raise ModelError(
                "the model's colours are not all finite numbers",
                "The weights may be damaged: install them again, or try another model",
            )

    def _buffer(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        needed = int(np.prod(shape))
        if name not in self._buffers or self._buffers[name].size < needed:
            self._buffers[name] = np.empty(needed, np.float32)
        return self._buffers[name][:needed].reshape(shape)

    def _change(self, shape: torch.Size) -> Tensor:
        if self._device.type == "cpu":
            return torch.from_numpy(self._buffer("change", tuple(shape)))
        return torch.empty(shape, device=self._device)
