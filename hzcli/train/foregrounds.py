"""Foregrounds of composites: regions, unions of them, whole objects, smooth blobs."""

from __future__ import annotations

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
