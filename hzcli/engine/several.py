"""Several masks for one picture: harmonised one after the other, into one output.

Each foreground is harmonised against the background that no mask covers: in what the network sees
for one mask, the foregrounds of the others are painted over with the colours around them. What is
delivered is not painted over. The result of one mask is the source of the next, in a temporary
file of 16 bits (float for float pictures). Masks that lie apart do not touch each other's pixels;
where they overlap, the later one recolours what the earlier one left. Pixels that no mask touches
keep their codes.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from hzcli.core.window import Size, Window, bands
from hzcli.engine import stream
from hzcli.engine.comparison import Comparison
from hzcli.engine.outcome import Outcome
from hzcli.engine.recolour import deliver
from hzcli.engine.rest import AgainstTheRest, Part
from hzcli.engine.thumbnail import READ_PIXELS
from hzcli.errors import MaskError
from hzcli.io.masks import union, widened
from hzcli.io.scratch import TILE, Scratch

# Both masks at least half there, in more than this share of the picture: said as a warning.
_OVERLAP = 0.001


@dataclass(frozen=True)
class Several(Outcome):
    """One picture's fate with several masks.

    foreground is the mean of the highest of the masks, change_mean the mean over all their pixels
    (those of two masks count twice), change_p99 the highest of the masks' own, seconds their sum.
    parts: of each mask {"mask", "foreground", "change_mean", "change_p99", "seconds"}.
    """

    parts: tuple[dict[str, Any], ...] = field(default=())


def harmonise(
    reader: Any,
    masks: Sequence[Any],
    predictor: Any,
    writer: Any,
    *,
    truth: Any = None,
    protocols: Sequence[str] = (),
    colour: Any = None,
    colour_between: Any = None,
    observe: stream.Observer | None = None,
    **options: Any,
) -> Outcome:
    """Harmonise one picture mask by mask; with one mask, what `stream.harmonise` does.

    Args:
        reader, predictor, writer, truth, protocols, options: as for `stream.harmonise`.
        masks: open, each of the picture's size; in this order.
        colour: of the last step; colour_between: of the others, the same with no output profile.
        observe: as for `stream.harmonise`; with several masks it is shown the picture before the
            first of them and the highest of their values.

    Returns:
        `Several`, its metrics those of the finished picture and of all masks together.

    Raises:
        As `stream.harmonise`; MaskError names the mask.
    """
    coloured = {} if colour is None else {"colour": colour}
    if len(masks) == 1:
        return stream.harmonise(
            reader,
            masks[0],
            predictor,
            writer,
            truth=truth,
            protocols=protocols,
            observe=observe,
            **coloured,
            **options,
        )
    for mask in masks:
        stream.check_sizes(reader, mask, truth)
    # Read by the threads that read ahead, compare and observe.
    reader, masks = _Locked(reader), [_Locked(mask) for mask in masks]
    parts, shared, warnings = _scan(masks)
    comparison = None
    if truth is not None:
        comparison = _Compared(writer, reader, union(masks), truth, protocols)
    # Codes of the picture's own colours would cut off what another profile can hold.
    floats = reader.depth == 32 or getattr(colour, "converts", False)
    source = reader
    outcomes: list[Outcome] = []
    try:
        for index, mask in enumerate(masks):
            last = index == len(masks) - 1
            target = (comparison or writer) if last else _Held(reader, floats)
            if coloured and not last:
                coloured = {"colour": colour_between}
            elif coloured:
                coloured = {"colour": colour}
            others = [other for other in masks if other is not mask]
            shown = AgainstTheRest(predictor, parts[index], others)
            if last and observe is not None:
                options["observe"] = _Observed(observe, reader, union(masks), colour)
            try:
                outcome = stream.harmonise(source, mask, shown, target, **coloured, **options)
            except MaskError as error:
                raise MaskError(f"{_name(mask)}: {error.message}", error.hint) from error
            finally:
                if source is not reader:
                    source.close()
                if not last:
                    source = target
            outcomes.append(outcome)
    finally:
        if source is not reader:
            source.close()
    metrics = comparison.compute() if comparison else {}
    return _together(reader, masks, parts, shared, outcomes, metrics, warnings)


def _name(mask: Any) -> str:
    return Path(mask.path).name


def _together(
    reader: Any,
    masks: Sequence[Any],
    parts: Sequence[Part],
    foreground: float,
    outcomes: Sequence[Outcome],
    metrics: dict[str, Any],
    warnings: list[str],
) -> Several:
    last = outcomes[-1]
    seconds: dict[str, float] = {}
    for outcome in outcomes:
        for stage, spent in outcome.seconds.items():
            seconds[stage] = seconds.get(stage, 0.0) + spent
    means = [(outcome.change_mean or 0.0) for outcome in outcomes]
    inside = sum(part.inside for part in parts)
    told = [
        f"{_name(mask)}: {warning}"
        for mask, outcome in zip(masks, outcomes, strict=True)
        for warning in outcome.warnings
    ]
    known = {entry.name: getattr(last, entry.name) for entry in fields(Outcome)}
    return replace(
        Several(**known),
        input=str(reader.path),
        mask=str(masks[0].path),
        depth_in=reader.depth,
        seconds=seconds,
        foreground=foreground,
        change_mean=sum(m * p.inside for m, p in zip(means, parts, strict=True)) / inside,
        change_p99=max(outcome.change_p99 or 0.0 for outcome in outcomes),
        warnings=(*warnings, *told),
        metrics=metrics,
        parts=tuple(
            {
                "mask": str(mask.path),
                "foreground": outcome.foreground,
                "change_mean": outcome.change_mean,
                "change_p99": outcome.change_p99,
                "seconds": outcome.seconds.get("total"),
            }
            for mask, outcome in zip(masks, outcomes, strict=True)
        ),
    )


def _scan(masks: Sequence[Any]) -> tuple[list[Part], float, list[str]]:
    """Where each mask is, the share of the picture under any of them, and warnings.

    Raises:
        MaskError: a mask is empty.
    """
    size = masks[0].size
    rows_hit = np.zeros((len(masks), size.height), bool)
    columns_hit = np.zeros((len(masks), size.width), bool)
    inside = [0] * len(masks)
    covered = overlap = untouched = 0
    for window in bands(size, max(1, min(size.height, READ_PIXELS // size.width))):
        most = np.zeros((window.height, window.width), np.uint16)
        solid = np.zeros(most.shape, np.uint8)
        for index, mask in enumerate(masks):
            codes = widened(mask.read(window))
            rows_hit[index, window.top : window.bottom] = codes.any(axis=1)
            columns_hit[index] |= codes.any(axis=0)
            inside[index] += int(np.count_nonzero(codes))
            np.maximum(most, codes, out=most)
            solid += codes >= 32768
        covered += int(most.sum(dtype=np.uint64))
        overlap += int(np.count_nonzero(solid > 1))
        untouched += int(np.count_nonzero(most < 65535))
    for mask, count in zip(masks, inside, strict=True):
        if not count:
            raise MaskError(
                f"the mask {_name(mask)} is empty: it is 0 everywhere",
                "Paint what is to be harmonised white, or remove that mask.",
            )
    warnings = []
    if overlap > _OVERLAP * size.pixels:
        warnings.append(
            f"the masks overlap in {overlap / size.pixels:.1%} of the picture: there a later mask "
            "recolours what an earlier one left"
        )
    if not untouched:
        warnings.append(
            "the masks together leave no background: each is harmonised against the others"
        )
    parts = []
    for rows, columns, count in zip(rows_hit, columns_hit, inside, strict=True):
        r, c = np.flatnonzero(rows), np.flatnonzero(columns)
        box = Window(int(r[0]), int(r[-1]) + 1, int(c[0]), int(c[-1]) + 1, size)
        parts.append(Part(box, count))
    return parts, covered / 65535 / size.pixels, warnings


class _Locked:
    """A reader that two threads may use: one reads ahead, one compares what is delivered."""

    def __init__(self, reader: Any) -> None:
        self.path, self.size, self.depth = reader.path, reader.size, reader.depth
        self._reader, self._lock = reader, threading.Lock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)

    def read(self, window: Window) -> np.ndarray:
        with self._lock:
            return self._reader.read(window)

    def read_alpha(self, window: Window) -> np.ndarray:
        with self._lock:
            return self._reader.read_alpha(window)


class _Observed:
    """Shows an observer of the last step what was before the first, and all masks as one."""

    def __init__(self, observe: stream.Observer, reader: Any, mask: Any, colour: Any) -> None:
        self._observe, self._reader, self._mask, self._colour = observe, reader, mask, colour
        channels = str(getattr(getattr(reader, "header", None), "channels", "rgb"))
        self._grey, self._top = channels.startswith(("grey", "bilevel")), 0

    def __call__(self, before: np.ndarray, mask: np.ndarray | None, rows: np.ndarray) -> None:
        size: Size = self._reader.size
        window = Window(self._top, self._top + len(rows), 0, size.width, size)
        self._top = window.bottom
        deliver(self._reader.read(window), before, self._colour, self._grey)
        self._observe(before, self._mask.read(window), rows)


class _Held:
    """Takes a picture as a writer does, in a temporary file, and gives it back as a reader does.

    Alpha stays the first picture's, widened as the colours are.
    """

    wants_alpha = False

    def __init__(self, reader: Any, floats: bool = False) -> None:
        self.path, self.size = reader.path, reader.size
        self.meta = getattr(reader, "meta", None)
        self.depth = 32 if floats else 16
        header = getattr(reader, "header", None)
        self.header = None if header is None else replace(header, depth=self.depth)
        self.has_alpha = getattr(reader, "has_alpha", False)
        dtype = np.dtype(np.float32 if self.depth == 32 else np.uint16)
        self._reader, self._lock = reader, threading.Lock()
        self._scratch = Scratch(self.size, 3, dtype)
        # Scratch takes rows in multiples of its tiles.
        self._rows = np.empty((TILE, self.size.width, 3), dtype)
        self._top = self._filled = 0

    def write(self, rows: np.ndarray, alpha: np.ndarray | None = None) -> None:
        while len(rows):
            part = rows[: TILE - self._filled]
            self._rows[self._filled : self._filled + len(part)] = part
            self._filled += len(part)
            rows = rows[len(part) :]
            if self._filled == TILE or self._top + self._filled == self.size.height:
                self._scratch.write(self._top, self._rows[: self._filled])
                self._top, self._filled = self._top + self._filled, 0

    def read(self, window: Window) -> np.ndarray:
        assert self._top == self.size.height, "read before it was written"
        with self._lock:
            return self._scratch.read(window.top, window.bottom, window.left, window.right)

    def read_alpha(self, window: Window) -> np.ndarray:
        return widened(self._reader.read_alpha(window))

    def close(self) -> None:
        self._scratch.close()


class _Compared:
    """Hands rows on to a writer, and compares them and their source with a ground truth."""

    def __init__(
        self, writer: Any, reader: Any, mask: Any, truth: Any, protocols: Sequence[str]
    ) -> None:
        self._writer, self._readers, self._top = writer, (reader, truth, mask), 0
        self._comparison = Comparison(protocols)
        self.compute = self._comparison.compute

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)

    def write(self, rows: np.ndarray, *alpha: Any, **named: Any) -> None:
        size: Size = self._readers[0].size
        window = Window(self._top, self._top + len(rows), 0, size.width, size)
        self._top = window.bottom
        before, truth, mask = (reader.read(window) for reader in self._readers)
        self._comparison.add(before, rows, truth, mask, window)
        self._writer.write(rows, *alpha, **named)
