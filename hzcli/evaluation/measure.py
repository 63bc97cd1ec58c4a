"""One result, its composite and what else it is compared with, against the ground truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hzcli.core.window import Size, Window, bands
from hzcli.engine import thumbnail
from hzcli.metrics import StreamedMetrics, share_of

BAND_PIXELS = 1 << 22  # read at once

Figures = dict[str, dict[str, dict[str, float | None]]]


def reduced(protocol: str, edge: int) -> str:
    """What a protocol is called where pictures are reduced first.

    >>> reduced("standard", 256)
    'standard@256'
    """
    return f"{protocol}@{edge}"


def full_size(
    sides: Mapping[str, Any], truth: Any, mask: Any, protocols: Sequence[str]
) -> tuple[Figures, float]:
    """Measure pictures at their own size, band by band.

    Args:
        sides: readers by name ("before", "after", ...). truth, mask: readers of the same size.

    Returns:
        {protocol: {side: figures}}, and the mean of the mask.
    """
    size: Size = truth.size
    meters = {name: {side: StreamedMetrics(name) for side in sides} for name in protocols}
    covered = 0.0
    for window in bands(size, max(1, BAND_PIXELS // size.width)):
        soft, real = share_of(mask.read(window)), levels(truth.read(window))
        covered += float(soft.sum(dtype=np.float64))
        for side, picture in sides.items():
            codes = levels(picture.read(window))
            for name in protocols:
                meters[name][side].update(codes, real, soft, window)
    figures = {
        name: {side: meter.compute() for side, meter in pair.items()}
        for name, pair in meters.items()
    }
    return figures, covered / size.pixels


def at_edge(
    sides: Mapping[str, Any], truth: Any, mask: Any, protocols: Sequence[str], edge: int
) -> Figures:
    """The same on squares of `edge` pixels, as papers measure: by area means, not rounded.

    Returns:
        As `full_size`, under the names that `reduced` gives.
    """
    window = Window.whole(Size(edge, edge))
    soft = thumbnail.make(truth, mask, edge).thumbnail.mask[0, 0].numpy()
    real = _square(truth, edge)
    figures: Figures = {reduced(name, edge): {} for name in protocols}
    for side, picture in sides.items():
        values = _square(picture, edge)
        for name in protocols:
            meter = StreamedMetrics(name)
            meter.update(values, real, soft, window)
            figures[reduced(name, edge)][side] = meter.compute()
    return figures


def _square(reader: Any, edge: int) -> np.ndarray:
    """(edge, edge, 3) float32 levels of 0..255."""
    seen = thumbnail.make_reference(reader, edge)[0].permute(1, 2, 0)
    return np.ascontiguousarray(seen.numpy()) * np.float32(255)


def levels(codes: np.ndarray) -> np.ndarray:
    """Rows as the metrics take them: floats of [0, 1] as levels of 0..255, codes as they are."""
    if codes.dtype.kind == "f":
        return np.multiply(codes, np.float32(255), dtype=np.float32)
    return codes
