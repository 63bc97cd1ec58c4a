"""Foregrounds of composites: regions, unions of them, whole objects, smooth blobs; their edges."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from hzcli.train.photos import Photos


class Foregrounds:
    """Draws masks for photographs, on their device.

    Args:
        photos: the photographs with their regions.
        generator: where chance comes from.
        vivid, unions, objects, blobs, small: see `hzcli.train.compose.Synthesis`.
    """

    def __init__(
        self,
        photos: Photos,
        generator: torch.Generator,
        *,
        vivid: float,
        unions: float,
        objects: float,
        blobs: float,
        small: float,
    ) -> None:
        self.generator, self.device = generator, photos.rgb.device
        self.unions, self.objects, self.blobs, self.small = unions, objects, blobs, small
        vividness = 0.25 + photos.salience.clamp(0, 2) * vivid
        # (N, 256) preference of each label of each photo: large ones, or small ones.
        self.label_weight = torch.zeros(len(photos), 256, device=self.device)
        self.small_weight = self.label_weight.clone()
        at = photos.regions[:, 0], photos.regions[:, 1]
        self.label_weight[at] = vividness * photos.share.sqrt()
        self.small_weight[at] = vividness / photos.share
        # (N, 256) labels that keep away from the border, of photographs with several labels.
        several = photos.first.diff() > 1
        away = (photos.contact < 0.04) & several[photos.regions[:, 0]]
        self.central = torch.zeros(len(photos), 256, dtype=torch.bool, device=self.device)
        self.central[photos.regions[away, 0], photos.regions[away, 1]] = True
        # Whole foregrounds, closed: (N, 1, S, S), made when a photograph is first asked for one.
        self.wholes = torch.empty(photos.labels.shape, dtype=torch.uint8, device=self.device)
        self.whole_known = torch.zeros(len(photos), dtype=torch.bool, device=self.device)

    def masks(self, photo: Tensor, labels: Tensor) -> Tensor:
        """Soft masks, [0, 1], of photographs (B,) with label maps (B, 1, h, w): of their shape."""
        b = len(photo)
        weight = self.label_weight[photo]
        alone = torch.zeros(b, 1, dtype=torch.bool, device=self.device)
        if self.small:
            alone = self._rand(b, 1) < self.small
            weight = torch.where(alone, self.small_weight[photo], weight)
        one = torch.multinomial(weight, 1, generator=self.generator)
        chosen = torch.zeros_like(weight, dtype=torch.bool).scatter_(1, one, True)
        # A union takes each further label by the toss of a coin; all of them now and then.
        extra = (self._rand(b, 256) < 0.3 + 0.7 * (self._rand(b, 1) < 0.3).float()) & (weight > 0)
        unite = (self._rand(b, 1) < self.unions) & ~alone
        chosen |= extra & unite
        if self.objects:
            central = self.central[photo]
            whole = (self._rand(b, 1) < self.objects) & ~alone & central.any(1, keepdim=True)
            chosen = torch.where(whole, central, chosen)
        mask = chosen.gather(1, labels.flatten(1).long()).view(labels.shape).float()
        if self.objects:
            at = whole.squeeze(1).nonzero().squeeze(1)
            if at.numel():
                mask[at] = self.closed(photo[at], mask[at])
        use = ((self._rand(b) < self.blobs) & ~alone.squeeze(1)) | (mask.mean((1, 2, 3)) > 0.8)
        at = use.nonzero().squeeze(1)
        if at.numel():
            mask[at] = self._blobs(len(at), labels.shape[-2:])
        return mask

    def closed(self, photo: Tensor, mask: Tensor) -> Tensor:
        """`closed` of the photographs' whole foregrounds (B, 1, h, w): what a photograph's is
        does not change, and growing and shrinking would be a fifth of a composite's cost."""
        if mask.shape[1:] != self.wholes.shape[1:]:
            return closed(mask)
        new = (~self.whole_known[photo]).nonzero().squeeze(1)
        if new.numel():
            self.wholes[photo[new]] = closed(mask[new]).to(torch.uint8)
            self.whole_known[photo[new]] = True
        return self.wholes[photo].to(mask)

    def windows(self, mask: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Windows around foregrounds: heights, widths, and centres in [-1, 1], all in shares of
        the picture's sides.

        Args:
            mask: (B, h, w).
        """
        share = 0.3 + 0.5 * self._rand(len(mask))
        sides, centres = [], []
        for axis in (2, 1):  # rows, then columns
            low, high = extents((mask > 0).any(axis))
            side = torch.maximum(share, (1.2 + 0.3 * self._rand(len(mask))) * (high - low))
            side = side.clamp(max=1)
            room = (side - (high - low)).clamp_min(0)
            centre = (low + high) / 2 + 0.5 * room * (self._rand(len(mask)) - 0.5)
            centre = torch.maximum(torch.minimum(centre, 1 - side / 2), side / 2)
            sides.append(side)
            centres.append(2 * centre - 1)
        return sides[0], sides[1], centres[0], centres[1]

    def feathered(self, mask: Tensor, which: Tensor) -> Tensor:
        """The masks (B, 1, h, w), some (B,) of them with soft edges."""
        at = which.nonzero().squeeze(1)
        return mask.index_copy(0, at, blurred(mask[at], self._softness())) if len(at) else mask

    def misfitting(self, mask: Tensor, which: Tensor) -> Tensor:
        """The masks (B, 1, h, w), some (B,) of them grown or shrunk, with edges harder or softer
        than they were; one that little would be left of stays."""
        at = which.nonzero().squeeze(1)
        if not len(at):
            return mask
        level = 0.15 + 0.7 * self._rand(len(at), 1, 1, 1)
        reach = torch.minimum(level, 1 - level) * (0.1 + 0.9 * self._rand(len(at), 1, 1, 1))
        soft = blurred(mask[at], self._softness())
        other = ((soft - level) / (2 * reach) + 0.5).clamp(0, 1)
        lost = other.sum((1, 2, 3)) < 0.25 * mask[at].sum((1, 2, 3))
        return mask.index_copy(0, at, torch.where(lost.view(-1, 1, 1, 1), mask[at], other))

    def _softness(self) -> float:
        """Standard deviation of a batch's soft edges, in pixels."""
        return 0.5 * 5 ** float(self._rand(1))

    def _blobs(self, n: int, size: Sequence[int]) -> Tensor:
        """Smooth random shapes that cover about a quarter, (n, 1, h, w)."""
        coarse = torch.randn(n, 1, 4, 4, generator=self.generator, device=self.device)
        grow = partial(F.interpolate, mode="bicubic", align_corners=False)
        # The level is taken where sorting is cheap.
        level = torch.quantile(grow(coarse, (32, 32)).flatten(1), 0.75, dim=1)
        return ((grow(coarse, tuple(size)) - level.view(-1, 1, 1, 1)) * 12 + 0.5).clamp(0, 1)

    def _rand(self, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=self.generator, device=self.device)


def closed(mask: Tensor) -> Tensor:
    """The mask without cracks and small holes: grown and shrunk by a fortieth of its side."""
    n = mask.shape[-1] // 40 * 2 + 1

    def grown(x: Tensor) -> Tensor:  # along one axis, then along the other
        return F.max_pool2d(F.max_pool2d(x, (n, 1), 1, (n // 2, 0)), (1, n), 1, (0, n // 2))

    return -grown(-grown(mask))


def blurred(x: Tensor, deviation: float) -> Tensor:
    """Pictures (B, C, h, w) through a Gaussian filter of that deviation in pixels."""
    reach = math.ceil(3 * deviation)
    line = torch.arange(-reach, reach + 1, device=x.device, dtype=x.dtype)
    line = (-0.5 * (line / deviation).square()).exp()
    line = (line / line.sum()).expand(x.shape[1], 1, 1, -1)
    x = F.pad(x, (reach,) * 4, mode="replicate")
    x = F.conv2d(x, line, groups=x.shape[1])
    return F.conv2d(x, line.transpose(2, 3), groups=x.shape[1])


def extents(line: Tensor) -> tuple[Tensor, Tensor]:
    """Where each of some lines (B, n) of truths begins and ends to be true, in shares of its
    length; lines without any truth are true all along."""
    n = line.shape[1]
    line = line | ~line.any(1, keepdim=True)
    first = line.float().argmax(1)
    last = n - line.flip(1).float().argmax(1)
    return first / n, last / n
