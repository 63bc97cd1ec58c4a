"""Composites that are given, as iHarmony4's are: their pixels, masks and truths in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from hzcli.train.compose import GIVEN, Batch
from hzcli.train.folders import Triple, is_iharmony, read_rgb, triples
from hzcli.train.photos import label_map, side_by_side, squash


@dataclass
class Pairs:
    """Given composites as squares on one device.

    codes: (N, 7, S, S) uint8: composite, truth, mask. source: (N,), index into `sources`.
    """

    sources: list[str]
    codes: Tensor
    source: Tensor

    def __len__(self) -> int:
        return len(self.codes)

    def to(self, device: torch.device | str) -> Pairs:
        return replace(self, codes=self.codes.to(device), source=self.source.to(device))

    def take(self, index: Tensor) -> Batch:
        """The composites of those numbers, (B,)."""
        pixels = self.codes[index].float() / 255
        kind = torch.full((len(index),), GIVEN, device=index.device)
        return Batch(pixels[:, :3], pixels[:, 6:], pixels[:, 3:6], kind, index)


def load_pairs(folders: Sequence[Path], split: str, edge: int) -> Pairs | None:
    """Decode the composites of the folders that have iHarmony4's layout; None if none has."""
    rows = [t for folder in folders if is_iharmony(folder) for t in triples(folder, split)]
    if not rows:
        return None
    codes = np.empty((len(rows), 7, edge, edge), np.uint8)
    for i, square in enumerate(side_by_side(lambda row: _square(row, edge), rows)):
        codes[i] = square
    sources = sorted({row.source for row in rows})
    return Pairs(
        sources, torch.from_numpy(codes), torch.tensor([sources.index(r.source) for r in rows])
    )


def _square(row: Triple, edge: int) -> np.ndarray:
    composite, truth = (
        squash(read_rgb(path, edge), edge, Image.Resampling.BOX).transpose(2, 0, 1)
        for path in (row.composite, row.truth)
    )
    mask = squash(label_map(row.mask) * np.uint8(255), edge, Image.Resampling.BOX)
    return np.concatenate([composite, truth, mask[None]])
