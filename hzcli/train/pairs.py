"""Composites that are given, as iHarmony4's are, and their mixture with those made here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from hzcli.train.compose import GIVEN, Batch, Composer
from hzcli.train.folders import Triple, is_iharmony, read_rgb, triples
from hzcli.train.photos import label_map, load_photos, side_by_side, squash

if TYPE_CHECKING:
    from hzcli.train.recipes import Recipe


LEAST_JUDGED = 64  # composites to validate on, at least


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

    def take(self, index: Tensor) -> Tensor:
        """The pixels of those numbers (B,): (B, 7, S, S), [0, 1]."""
        return self.codes[index].float() / 255


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


def as_batch(pixels: Tensor, index: Tensor) -> Batch:
    """(B, 7, S, S) pixels of given composites."""
    kind = torch.full((len(index),), GIVEN, device=index.device)
    return Batch(pixels[:, :3], pixels[:, 6:], pixels[:, 3:6], kind, index)


class Mixture:
    """Batches of composites made here and, where there are any, of given ones."""

    def __init__(self, composer: Composer, pairs: Pairs | None, given: float) -> None:
        self.composer, self.pairs = composer, pairs
        self.given = given if pairs is not None else 0.0
        self.sources = composer.photos.sources

    @classmethod
    def load(
        cls, data: Sequence[Path], split: str, recipe: Recipe, device: torch.device, seed: int
    ) -> Mixture:
        """Everything that the folders hold of a split, in the device's memory."""
        photos = load_photos(data, split, recipe.cache).to(device)
        pairs = load_pairs(data, split, recipe.cache)
        composer = Composer(photos, recipe.synthesis, seed)
        return cls(composer, pairs and pairs.to(device), recipe.given)

    def counts(self) -> dict[str, int]:
        return {"photos": len(self.composer.photos), "given": len(self.pairs or ())}

    def batch(self, size: int, edge: int, step: int) -> Batch:
        """A random batch that depends on the seed and the step alone."""
        count = round(size * self.given)
        parts = []
        if count < size:
            parts.append(self.composer.batch(size - count, edge, step))
        if count and self.pairs is not None:
            c = self.composer
            c.generator.manual_seed((c.seed + 7) * 1_000_003 + step)
            weight = torch.ones(len(self.pairs), device=c.device)
            index = torch.multinomial(weight, count, True, generator=c.generator)
            pixels = c.cropped(self.pairs.take(index), edge)
            parts.append(as_batch(pixels, index))
        return join(parts)

    def fixed(self, edge: int, size: int = 32) -> list[Batch]:
        """Composites to validate on: one of every photograph, and every given one."""
        photos = self.composer.photos
        order = (photos.first.diff() > 0).nonzero().squeeze(1)
        # Ten photographs held back say little: several composites are made of each.
        order = order.repeat(-(-LEAST_JUDGED // max(1, len(order))))
        batches = []
        if self.given < 1:
            batches = [self.composer.compose(part, edge) for part in order.split(size)]
        if self.pairs is not None:
            every = torch.arange(len(self.pairs), device=order.device)
            batches += [as_batch(self.pairs.take(i), i).shrink(edge) for i in every.split(size)]
        return batches


def join(parts: Sequence[Batch]) -> Batch:
    """Batches one after the other."""
    names = [field.name for field in fields(Batch)]
    return Batch(*(torch.cat([getattr(part, name) for part in parts]) for name in names))


def _square(row: Triple, edge: int) -> np.ndarray:
    composite, truth = (
        squash(read_rgb(path, edge), edge, Image.Resampling.BOX).transpose(2, 0, 1)
        for path in (row.composite, row.truth)
    )
    mask = squash(label_map(row.mask) * np.uint8(255), edge, Image.Resampling.BOX)
    return np.concatenate([composite, truth, mask[None]])
