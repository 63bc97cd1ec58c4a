"""A picture and its result, each compared with the ground truth, band by band."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hzcli.core.window import Window
from hzcli.engine.recolour import Band
from hzcli.metrics import StreamedMetrics


class Comparison:
    """Metrics of the source and of what is delivered, by each of `protocols`."""

    def __init__(self, protocols: Sequence[str]) -> None:
        self._pairs = {name: (StreamedMetrics(name), StreamedMetrics(name)) for name in protocols}

    def update(self, band: Band, rows: np.ndarray) -> None:
        """Count a band in; `rows` (h, W, 3) is it as delivered."""
        assert band.mask is not None and band.truth is not None
        self.add(band.own(band.codes), rows, band.truth, band.own(band.mask), band.window)

    def add(
        self,
        source: np.ndarray,
        result: np.ndarray,
        truth: np.ndarray,
        mask: np.ndarray,
        window: Window,
    ) -> None:
        """Count a window in: what all four say of its pixels."""
        source, result, truth = (_levels(samples) for samples in (source, result, truth))
        for before, after in self._pairs.values():
            before.update(source, truth, mask, window)
            after.update(result, truth, mask, window)

    def compute(self) -> dict[str, dict[str, dict[str, float | None]]]:
        """{protocol: {"before" | "after": figures}}."""
        return {
            name: {"before": before.compute(), "after": after.compute()}
            for name, (before, after) in self._pairs.items()
        }


def _levels(samples: np.ndarray) -> np.ndarray:
    """As metrics want samples: codes as they are, float in 8-bit levels."""
    return samples * np.float32(255) if samples.dtype == np.float32 else samples
