"""Harmonises one picture: look once, predict, then recolour band by band.

    pass 1   picture and mask, all rows -> thumbnail -> network -> Transform
    between  a Transform with `bind` sees the picture once more, and keeps what it found
    pass 2   bands of rows -> tiles of the mask's box -> Transform -> blend -> 16-bit rows

Rows that the mask does not touch are copied as codes and never become float; in the others
pixels with mask 0 keep their code. Where a picture is not in sRGB, network and Transform see it
so, and only their change goes back to the picture's own colours. A band is read ahead and a band
is written behind, each by a thread of its own: codecs leave Python's lock, so they run beside
the arithmetic.

Where the result lies in its file as the picture does, pass 2 is over the strips or tiles that the
mask meets, a few at a time; the writer copies the others as they are, encoded.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from hzcli.core.transform import Reach, Thumbnail, Transform
from hzcli.core.window import Size, Window
from hzcli.engine import thumbnail
from hzcli.engine.change import rows_counted
from hzcli.engine.comparison import Comparison
from hzcli.engine.outcome import Outcome
from hzcli.engine.overlap import Clock, ahead, behind
from hzcli.engine.pieces import Rows, columns, copying, pieces
from hzcli.engine.plan import (
    CONVERSION_BYTES,
    SHOWN_BYTES,
    TILE_BYTES,
    bytes_in_bands,
    plan,
    room,
)
from hzcli.engine.recolour import (
    Band,
    Recolour,
    deliver,
    read_band,
    widen,
    windows_of,
)
from hzcli.engine.source import Source
from hzcli.engine.thumbnail import Reader, Survey, full_scale
from hzcli.errors import MaskError, PictureError, UsageError
from hzcli.metrics import WORKING_BYTES

if TYPE_CHECKING:
    from hzcli.engine.colour import Colour

MODES = ("region", "lut")
# Is shown rows as they were delivered, the mask's codes or None, and the rows as they are now.
Observer = Callable[[np.ndarray, "np.ndarray | None", np.ndarray], None]
# Above this share of foreground a network has next to nothing to harmonise to.
MOSTLY_FOREGROUND = 0.95


class Predictor(Protocol):
    """What the engine asks of a model.

    Where it has them: `thumbnail_filter` (one of `thumbnail.FILTERS`), `needs_closeup`,
    `mask_edges` (squares that it wants the mask sampled to) and `takes_reference`.
    """

    thumbnail_edge: int

    def predict(self, thumb: Thumbnail) -> Transform: ...
    def predict_lut(self, thumb: Thumbnail) -> Transform: ...


class Writer(Protocol):
    """What the engine asks of an output: rows from top to bottom, (h, W, 3), uint16.

    Where it has them: `depth` (8, 16 or 32; at 32 rows are float32) and `wants_alpha`; where that
    is true and the picture has alpha, `write` is given it as well, (h, W) of the rows' type.
    `rows` is used again for another band: it must have been consumed when `write` returns.

    One that can copy from the picture's file has the reader's own `page`, the size of its `cells`,
    and gives the `windows` that it wants to be `put` instead of all rows, see `VerbatimWriter`.
    """

    def write(self, rows: np.ndarray) -> None: ...


def harmonise(
    reader: Reader,
    mask_reader: Reader,
    predictor: Predictor,
    writer: Writer,
    *,
    mode: str = "region",
    strength: float = 1.0,
    device: torch.device | str = "cpu",
    budget_bytes: int | None = None,
    truth: Reader | None = None,
    protocols: Sequence[str] = (),
    reference: Reader | None = None,
    colour: Colour | None = None,
    reference_colour: Colour | None = None,
    observe: Observer | None = None,
    clock: Clock | None = None,
    bands: int | None = None,
) -> Outcome:
    """Harmonise one picture and hand its rows to `writer`, which the caller closes.

    Args:
        reader: the composite, (h, w, 3) uint8, uint16 or float32. mask_reader: (h, w), same size.
        predictor: on `device` already.
        mode: "region" takes the model's own Transform, "lut" its 3D table.
        strength: 0 changes nothing, 1 changes as much as the model says.
        budget_bytes: what the process may take; None plans by what is free.
        truth: the ground truth, for the metrics of `protocols`, before and after.
        reference: another picture, of any size, to harmonise towards.
        colour, reference_colour: how the numbers of picture and reference become sRGB, and the
            picture's come back; None for sRGB.
        observe: is called for each band from top to bottom with the rows (h, W, 3) as they would
            be without a change, the mask's codes (h, W), None where it does not meet the band,
            and the rows as delivered, both in the writer's type. They are valid for the call.
        clock: is told what each stage took, besides the Outcome.
        bands: so many bands of equal height, instead of what memory suggests.

    Returns:
        What was done, measured and noticed; "done".

    Raises:
        MaskError: the mask does not fit, is empty, or leaves no background.
        PictureError: the ground truth or the profile does not fit, or a file cannot be read or
            written.
        BudgetError: the budget is too small. ModelError: the model's answer is no number.
        UsageError: the options are not known, or the model takes no reference.
    """
    if bands is not None and bands < 1:
        raise UsageError(f"{bands} bands cannot be", "Ask for one band or more")
    if mode not in MODES or not 0 <= strength <= 1:
        raise UsageError(
            f"mode '{mode}' with strength {strength} is not known",
            "Modes are region and lut; strengths go from 0 to 1",
        )
    if reference is not None and not getattr(predictor, "takes_reference", False):
        raise UsageError(
            "this model harmonises towards a picture's own background only",
            "Leave the reference out, or choose a model that takes one",
        )
    channels = str(getattr(getattr(reader, "header", None), "channels", "rgb"))
    grey = channels.startswith(("grey", "bilevel"))
    colour = _needed(colour, channels)
    extended = reader.depth == 32
    written = getattr(writer, "depth", 16)
    with_alpha = bool(getattr(writer, "wants_alpha", False) and getattr(reader, "has_alpha", False))
    clock = clock or Clock()
    # Those who want to see all rows, or rows so high, are given them.
    whole = bool(observe or truth or bands or (colour is not None and colour.converts))
    copier = None if whole else copying(writer, reader)
    with clock("total"), torch.inference_mode(), contextlib.ExitStack() as held:
        check_sizes(reader, mask_reader, truth)
        with clock("thumbnail"):
            survey = thumbnail.look(
                reader,
                mask_reader,
                predictor,
                reference,
                colour,
                _needed(reference_colour),
                copier.cells if copier else None,
            )
        warnings = check_mask(survey, reader.size)
        transform: Transform | None = None
        reach = Reach()
        if strength > 0:
            with clock("network"):
                transform = predict(predictor, survey.thumbnail, mode, device)
            reach = transform.reach
        box = survey.box if transform is not None else None
        comparison = Comparison(protocols) if truth else None
        beside = 0 if colour is None else CONVERSION_BYTES
        if truth is not None:
            beside += WORKING_BYTES
            with clock("read"):
                # What is decoded whole is decoded here: before the plan looks at what is left.
                truth.read(Window(0, 1, 0, reader.size.width, reader.size))
        converts = colour is not None and colour.converts
        per_pixel = bytes_in_bands(reader.depth, written, with_alpha, converts)
        costs = {
            "beside_bytes": beside,
            "band_bytes": per_pixel + (3 * (4 if written == 32 else 2) if observe else 0),
            "tile_bytes": TILE_BYTES + (SHOWN_BYTES if colour or extended else 0),
        }
        chosen = plan(reader.size, box, reach, budget_bytes, **costs)
        source: Source | None = None
        if box is not None and hasattr(transform, "bind"):
            space = room(budget_bytes, beside)
            source = held.enter_context(
                Source(reader, mask_reader, box, torch.device(device), space, colour)
            )
            with clock("bind"):
                transform = transform.bind(source)  # type: ignore[union-attr]
                source.relax()
            reach = transform.reach
            chosen = plan(reader.size, box, reach, budget_bytes, **costs)
        recolour = None
        if transform is not None:
            recolour = Recolour(
                transform,
                strength,
                torch.device(device),
                [1 / full_scale(depth) for depth in (reader.depth, mask_reader.depth)],
                colour=colour,
                extended=extended,
                grey=grey,
                counted=1 if box is None else rows_counted(box, survey.inside),
            )
        mask_rows: Reader = mask_reader
        if copier is not None:
            assert survey.met is not None
            met = survey.met if box is not None else np.zeros_like(survey.met)
            windows = pieces(copier, met, chosen, reader.size)
            mask_rows = Rows(mask_reader)
        else:
            band_rows = chosen.band_rows if bands is None else -(-reader.size.height // bands)
            windows = windows_of(reader.size, box, band_rows, reach)

        def read(item: tuple[Window, bool]) -> Band:
            with clock("read"):
                return read_band(item, reach, reader, mask_rows, truth, with_alpha)

        def write(rows: tuple[Any, ...]) -> None:
            with clock("write"):
                if copier is not None:
                    copier.put(*rows)
                else:
                    writer.write(*rows[1:])

        # Two bands of output: one is filled while the other is written.
        kind = np.float32 if written == 32 else np.uint16
        spare = [np.empty(0, kind)] * 2
        with behind(write) as send, ahead(read, windows) as read_bands:
            for index, band in enumerate(read_bands):
                shape = (band.window.height, band.window.width, 3)
                if spare[index % 2].size < math.prod(shape):
                    spare[index % 2] = np.empty(math.prod(shape), kind)
                rows = spare[index % 2][: math.prod(shape)].reshape(shape)
                before = None
                if observe:
                    before = np.empty_like(rows)
                    deliver(band.own(band.codes), before, colour, grey)
                tile_columns = chosen.tile_columns
                if copier is not None:
                    tile_columns = columns(chosen, band.window.height)
                with clock("apply"):
                    if recolour is None:
                        deliver(band.own(band.codes), rows, colour, grey)
                    else:
                        recolour.band(band, rows, tile_columns)
                        if source is not None:
                            source.relax()
                if observe and before is not None:
                    with clock("observe"):
                        observe(before, None if band.mask is None else band.own(band.mask), rows)
                if comparison:
                    with clock("metrics"):
                        comparison.update(band, rows)
                if band.alpha is None:
                    send((band.window, rows))
                else:
                    alpha = np.empty(shape[:2], kind)
                    widen(band.alpha, alpha)
                    send((band.window, rows, alpha))
    mean, p99 = recolour.change() if recolour else (0.0, 0.0)
    if strength > 0 and p99 < 0.5:
        warnings.append("no visible change: 99 % of the foreground moved by under half a level")
    card = getattr(predictor, "card", None)
    return Outcome(
        input=_path(reader),
        mask=_path(mask_reader),
        output=_path(writer),
        width=reader.size.width,
        height=reader.size.height,
        depth_in=reader.depth,
        model=getattr(card, "id", None),
        mode=mode,
        device=str(device),
        seconds=clock.seconds,
        foreground=survey.foreground,
        change_mean=mean,
        change_p99=p99,
        warnings=tuple(warnings),
        metrics=comparison.compute() if comparison else {},
        plan=chosen.reason,
    )


def _needed(colour: Colour | None, channels: str = "rgb") -> Colour | None:
    """`colour` where it changes anything, after a look whether it is for such a picture."""
    if colour is None:
        return None
    colour.require(channels)
    return None if colour.identity else colour


def _path(thing: Any) -> str:
    return str(getattr(thing, "path", ""))


def check_sizes(reader: Reader, mask_reader: Reader, truth: Reader | None) -> None:
    for other, what, kind in ((mask_reader, "mask", MaskError), (truth, "truth", PictureError)):
        if other is not None and other.size != reader.size:
            found, expected = other.size, reader.size
            raise kind(
                f"the {what} {_path(other)} is {found.width} x {found.height} pixels, "
                f"the picture {expected.width} x {expected.height}",
                f"Give a {what} of the picture's size",
            )


def check_mask(survey: Survey, size: Size) -> list[str]:
    """Warnings about a mask that can be worked with, errors about one that cannot."""
    if survey.box is None:
        raise MaskError(
            "the mask is empty: it is 0 everywhere",
            "Paint what is to be harmonised white; a mask in the alpha channel needs "
            "--mask-from alpha",
        )
    if survey.lowest == 1:
        raise MaskError(
            "the mask covers the whole picture: no background left to harmonise to",
            "Paint only the foreground white, or check that the mask is not inverted",
        )
    warnings = []
    if survey.foreground > MOSTLY_FOREGROUND:
        warnings.append(
            f"the mask covers almost everything ({survey.foreground:.1%}): hardly any background"
        )
    if survey.lowest > 0:
        warnings.append("the mask is nowhere 0: no pixel is left exactly as it was")
    if survey.foreground * survey.thumbnail.mask.numel() < 1:
        warnings.append(f"the foreground is tiny ({survey.inside} pixels): the model cannot see it")
    return warnings


def on_device(thumb: Thumbnail, device: Any) -> Thumbnail:
    """The same on a device."""
    return Thumbnail(
        thumb.rgb.to(device),
        thumb.mask.to(device),
        thumb.full,
        None if thumb.closeup is None else on_device(thumb.closeup, device),
        None if thumb.reference is None else thumb.reference.to(device),
        None if thumb.masks is None else {k: m.to(device) for k, m in thumb.masks.items()},
    )


def predict(predictor: Predictor, thumb: Thumbnail, mode: str, device: Any) -> Transform:
    thumb = on_device(thumb, device)
    return predictor.predict(thumb) if mode == "region" else predictor.predict_lut(thumb)
