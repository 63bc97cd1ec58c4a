"""Harmonises one picture: look once, predict, then recolour band by band.

    pass 1   picture and mask, all rows -> thumbnail -> network -> Transform
    between  a Transform with `bind` sees the picture once more, and keeps what it found
    pass 2   bands of rows -> tiles of the mask's box -> Transform -> blend -> 16-bit rows

Rows that the mask does not touch are copied as codes and never become float; in the others
pixels with mask 0 keep their code. A band is read ahead and a band is written behind, each
by a thread of its own: codecs leave Python's lock, so they run beside the arithmetic.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch

from hzcli.core.transform import Reach, Thumbnail, Transform
from hzcli.core.window import Size, Window
from hzcli.engine import thumbnail
from hzcli.engine.outcome import Outcome
from hzcli.engine.overlap import Clock, ahead, behind
from hzcli.engine.plan import Box, cuts, plan, room
from hzcli.engine.recolour import Band, Recolour, widen
from hzcli.engine.source import Source
from hzcli.engine.thumbnail import Reader, Survey
from hzcli.errors import MaskError, PictureError, UsageError
from hzcli.metrics import WORKING_BYTES, StreamedMetrics

MODES = ("region", "lut")
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
    """What the engine asks of an output: (h, W, 3) uint16 rows, from top to bottom.

    `rows` is used again for another band: it must have been consumed when `write` returns.
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
) -> Outcome:
    """Harmonise one picture and hand its rows to `writer`, which the caller closes.

    Args:
        reader: the composite, (h, w, 3) uint8 or uint16. mask_reader: (h, w), same size.
        predictor: on `device` already.
        mode: "region" takes the model's own Transform, "lut" its 3D table.
        strength: 0 changes nothing, 1 changes as much as the model says.
        budget_bytes: what the process may take; None plans by what is free.
        truth: the ground truth, for the metrics of `protocols`, before and after.
        reference: another picture, of any size, to harmonise towards.

    Returns:
        What was done, measured and noticed; "done".

    Raises:
        MaskError: the mask does not fit, is empty, or leaves no background.
        PictureError: the ground truth does not fit, or a file cannot be read or written.
        BudgetError: the budget is too small. ModelError: the model's answer is no number.
        UsageError: the options are not known, or the model takes no reference.
    """
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
    clock = Clock()
    with clock("total"), torch.inference_mode(), contextlib.ExitStack() as held:
        _check_sizes(reader, mask_reader, truth)
        with clock("thumbnail"):
            survey = thumbnail.look(reader, mask_reader, predictor, reference)
        warnings = _check_mask(survey, reader.size)
        transform: Transform | None = None
        reach = Reach()
        if strength > 0:
            with clock("network"):
                transform = _predict(predictor, survey.thumbnail, mode, device)
            reach = transform.reach
        box = survey.box if transform is not None else None
        comparison = _Comparison(protocols) if truth else None
        beside = 0
        if truth is not None:
            beside = WORKING_BYTES
            with clock("read"):
                # What is decoded whole is decoded here: before the plan looks at what is left.
                truth.read(Window(0, 1, 0, reader.size.width, reader.size))
        chosen = plan(reader.size, box, reach, budget_bytes, beside_bytes=beside)
        source: Source | None = None
        if box is not None and hasattr(transform, "bind"):
            space = room(budget_bytes, beside)
            source = held.enter_context(
                Source(reader, mask_reader, box, torch.device(device), space)
            )
            with clock("bind"):
                transform = transform.bind(source)  # type: ignore[union-attr]
                source.relax()
            reach = transform.reach
            chosen = plan(reader.size, box, reach, budget_bytes, beside_bytes=beside)
        recolour = None
        if transform is not None:
            scales = [1 / ((1 << depth) - 1) for depth in (reader.depth, mask_reader.depth)]
            recolour = Recolour(transform, strength, torch.device(device), scales)
        windows = _windows(reader.size, box, chosen.band_rows, reach)

        def read(item: tuple[Window, bool]) -> Band:
            with clock("read"):
                return _read(item, reach, reader, mask_reader, truth)

        def write(rows: np.ndarray) -> None:
            with clock("write"):
                writer.write(rows)

        # Two bands of output: one is filled while the other is written.
        spare = [np.empty(0, np.uint16)] * 2
        with behind(write) as send, ahead(read, windows) as read_bands:
            for index, band in enumerate(read_bands):
                shape = (band.window.height, band.window.width, 3)
                if spare[index % 2].size < math.prod(shape):
                    spare[index % 2] = np.empty(math.prod(shape), np.uint16)
                rows = spare[index % 2][: math.prod(shape)].reshape(shape)
                with clock("apply"):
                    widen(band.own(band.codes), rows)
                    if recolour and band.mask is not None:
                        recolour.band(band, rows, chosen.tile_columns)
                        if source is not None:
                            source.relax()
                if comparison:
                    with clock("metrics"):
                        comparison.update(band, rows)
                send(rows)
    mean, p99 = recolour.change(survey.inside) if recolour else (0.0, 0.0)
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


def _path(thing: Any) -> str:
    return str(getattr(thing, "path", ""))


def _check_sizes(reader: Reader, mask_reader: Reader, truth: Reader | None) -> None:
    for other, what, kind in ((mask_reader, "mask", MaskError), (truth, "truth", PictureError)):
        if other is not None and other.size != reader.size:
            found, expected = other.size, reader.size
            raise kind(
                f"the {what} {_path(other)} is {found.width} x {found.height} pixels, "
                f"the picture {expected.width} x {expected.height}",
                f"Give a {what} of the picture's size",
            )


def _check_mask(survey: Survey, size: Size) -> list[str]:
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


def _on(thumb: Thumbnail, device: Any) -> Thumbnail:
    """The same on a device."""
    return Thumbnail(
        thumb.rgb.to(device),
        thumb.mask.to(device),
        thumb.full,
        None if thumb.closeup is None else _on(thumb.closeup, device),
        None if thumb.reference is None else thumb.reference.to(device),
        None if thumb.masks is None else {k: m.to(device) for k, m in thumb.masks.items()},
    )


def _predict(predictor: Predictor, thumb: Thumbnail, mode: str, device: Any) -> Transform:
    thumb = _on(thumb, device)
    return predictor.predict(thumb) if mode == "region" else predictor.predict_lut(thumb)


def _windows(size: Size, box: Box | None, rows: int, reach: Reach) -> Iterator[tuple[Window, bool]]:
    """Full-width bands from top to bottom, and whether the mask's box meets them."""

    def cut(top: int, bottom: int, inside: bool) -> Iterator[tuple[Window, bool]]:
        for start, stop in cuts(top, bottom, rows):
            yield Window(start, stop, 0, size.width, size), inside

    top, bottom = box[:2] if box else (size.height,) * 2
    yield from cut(0, top, False)
    yield from cut(top, bottom, True)
    yield from cut(bottom, size.height, False)


def _read(
    item: tuple[Window, bool], reach: Reach, reader: Reader, mask: Reader, truth: Reader | None
) -> Band:
    window, inside = item
    seen = window.grow(reach.halo, reach.align) if inside else window
    return Band(
        window,
        seen,
        reader.read(seen),
        mask.read(seen) if inside or truth else None,
        truth.read(window) if truth else None,
    )


class _Comparison:
    """Metrics of the source and of what is delivered, each against the ground truth."""

    def __init__(self, protocols: Sequence[str]) -> None:
        self._pairs = {name: (StreamedMetrics(name), StreamedMetrics(name)) for name in protocols}

    def update(self, band: Band, rows: np.ndarray) -> None:
        assert band.mask is not None and band.truth is not None
        mask = band.own(band.mask)
        for before, after in self._pairs.values():
            before.update(band.own(band.codes), band.truth, mask, band.window)
            after.update(rows, band.truth, mask, band.window)

    def compute(self) -> dict[str, dict[str, dict[str, float | None]]]:
        return {
            name: {"before": before.compute(), "after": after.compute()}
            for name, (before, after) in self._pairs.items()
        }
