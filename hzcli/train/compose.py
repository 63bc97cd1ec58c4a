"""Composites made on the fly: a photograph is the truth, its recoloured foreground the fault.

Batched tensor operations on the photographs' device.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from hzcli.core.lut import identity_lut, lookup
from hzcli.train import recolour
from hzcli.train.foregrounds import Foregrounds
from hzcli.train.jpeg import resaved
from hzcli.train.photos import Photos

# How often a source is drawn: the diverse ones above their share of a pack. Of photographs whose
# pack gives them weights, those are on the same scale, in which these sources are 100 together.
SOURCE_WEIGHTS = {
    "bsds": 18, "imagenet": 22, "ccp": 12, "labelme": 12, "davis": 6, "cars": 6,
    "human": 6, "camera": 8, "urban": 4, "clothing": 3, "grocery": 3,
}  # fmt: skip


@dataclass(frozen=True)
class Synthesis:
    """How composites are made; every number is a share or a spread.

    oversample: photographs are cut this much larger and then reduced by area means, as
    thumbnails of real composites are. spread: a batch's own oversampling differs from that by
    up to so much (its logarithm), as pictures differ in sharpness. unsharp: each photograph is
    sharpened by an amount between these (`sharpened`; below 0: softened), as thumbnails of
    megapixels are sharper than any cut from a small photograph. table: recolour through 3D
    tables of so many nodes a side, which costs less where pictures are large; 0 computes each
    pixel.
    raws: share of retouched foregrounds on the photograph as it was before anyone worked on it
    (`recolour.undeveloped`). Of the rest: transfers: share of colour transfers. hours: share of
    changed times of day (all others are retouches). jpeg: share of composites that are saved as
    JPEG once more. same_source: share of transfers whose reference comes from a photograph of the
    same source. blobs: share of smooth random foregrounds. unions: share of several regions at
    once. objects: share of foregrounds that are all of the regions away from the border, where a
    photograph has several: what a person would cut out. small: share of foregrounds that are one
    region, and rather a small one (of iHarmony4's we estimate that half cover less than a
    twentieth of a picture).
    vivid: how much salient regions are preferred (0 not at all).
    near: share of composites that are windows around their foregrounds, as closer looks are
    (nets/views.py).
    feather: share of composites that are pasted with a soft edge, of up to some pixels. misfit:
    share whose mask, once used, is made larger, smaller, softer or harder by up to some pixels,
    as masks drawn by hand or guessed by a program are; of feathered ones it is half.
    """

    edge: int = 128
    oversample: float = 1.0
    spread: float = 0.0
    unsharp: tuple[float, float] = (0.0, 0.0)
    table: int = 0
    raws: float = 0.0
    transfers: float = 0.5
    hours: float = 0.0
    jpeg: float = 0.0
    same_source: float = 0.6
    blobs: float = 0.06
    unions: float = 0.35
    objects: float = 0.55
    small: float = 0.0
    vivid: float = 2.0
    near: float = 0.0
    feather: float = 0.0
    misfit: float = 0.0
    jitter: float = 0.15
    strength: tuple[float, float] = (0.7, 2.3)


KINDS = (*recolour.TRANSFERS, "retouch", "hour", "given")
RETOUCH, HOUR, GIVEN = 4, 5, 6


@dataclass
class Batch:
    """Composite, mask and truth: (B, 3|1|3, S, S), [0, 1]. kind: (B,), see KINDS."""

    composite: Tensor
    mask: Tensor
    truth: Tensor
    kind: Tensor
    photo: Tensor

    def shrink(self, edge: int) -> Batch:
        """The batch at another size, by area means."""
        if edge == self.composite.shape[-1]:
            return self
        small = [F.interpolate(t, size=(edge, edge), mode="area")
                 for t in (self.composite, self.mask, self.truth)]  # fmt: skip
        return replace(self, composite=small[0], mask=small[1], truth=small[2])


class Composer:
    """Makes batches of composites from Photos on their device."""

    def __init__(self, photos: Photos, recipe: Synthesis, seed: int) -> None:
        self.photos, self.recipe, self.seed = photos, recipe, seed
        self.device = photos.rgb.device
        self.generator = torch.Generator(self.device).manual_seed(seed)
        counts = torch.bincount(photos.source, minlength=len(photos.sources)).float()
        share = torch.tensor([SOURCE_WEIGHTS.get(s, 3.0) for s in photos.sources])
        has = (photos.first.diff() > 0).float()
        evenly = (share.to(counts) / counts)[photos.source]
        self.weights = photos.weight.nan_to_num().where(~photos.weight.isnan(), evenly) * has
        # References are any regions: a picked, vivid thing given ordinary colours is dulled.
        self.plain = photos.share.sqrt()
        self.region_source = photos.source[photos.regions[:, 0]]
        self.foregrounds = Foregrounds(
            photos,
            self.generator,
            vivid=recipe.vivid,
            unions=recipe.unions,
            objects=recipe.objects,
            blobs=recipe.blobs,
            small=recipe.small,
        )

    def _rand(self, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=self.generator, device=self.device)

    def _randn(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator, device=self.device)

    def batch(self, size: int, edge: int | None = None, step: int | None = None) -> Batch:
        """One batch of random composites.

        Args:
            size: how many.
            edge: edge in pixels, instead of the recipe's.
            step: with a step given, the batch depends on the seed and the step alone, so that
                a resumed run sees what the uninterrupted one would have seen.
        """
        if step is not None:
            self.generator.manual_seed(self.seed * 1_000_003 + step)
        photo = torch.multinomial(self.weights, size, replacement=True, generator=self.generator)
        return self.compose(photo, edge)

    def compose(self, photo: Tensor, edge: int | None = None) -> Batch:
        """Composites of the given photographs (B,)."""
        p, r = self.photos, self.recipe
        rgb, labels = p.rgb[photo].float() / 255, p.labels[photo]
        mask = self.foregrounds.masks(photo, labels)
        edge = edge or r.edge
        larger = r.oversample
        if r.spread:
            larger *= math.exp(r.spread * (2 * float(self._rand(1)) - 1))
        cut = self.cropped(torch.cat([rgb, mask], 1), round(edge * max(1.0, larger)))
        truth, mask = cut[:, :3], cut[:, 3:]
        soft = torch.zeros(len(photo), dtype=torch.bool, device=self.device)
        if r.feather:
            soft = self._rand(len(photo)) < r.feather
            mask = self.foregrounds.feathered(mask, soft)
        use = (self._rand(len(photo)) < r.jitter).nonzero().squeeze(1)
        if use.numel():
            strength = 0.6 * self._rand(len(use))
            edited = self._mapped(
                truth[use], lambda y: recolour.retouch(y, self.generator, strength)
            )
            truth[use] = edited.clamp(0, 1)
        # Colours and masks are reduced apart and recoloured afterwards: at an edge as in a large
        # composite that is reduced, for the price of a small one.
        pieces = torch.cat([truth, truth * mask, mask], 1)
        pieces = pieces.contiguous(memory_format=torch.channels_last)
        pieces = F.interpolate(pieces, size=(edge, edge), mode="area").contiguous()
        truth, inside, mask = pieces.split((3, 3, 1), 1)
        inside = torch.where(mask > 1e-4, inside / mask.clamp_min(1e-4), truth)
        low, high = r.unsharp
        if low or high:
            finer = sharpened(truth, low + (high - low) * self._rand(len(photo)))
            inside, truth = (inside + finer - truth).clamp(0, 1), finer
        made = self._composite(truth, mask, photo, inside)
        if r.misfit:
            other = self._rand(len(photo)) < torch.where(soft, 0.5, r.misfit)
            made.mask = self.foregrounds.misfitting(mask, other)
        return made

    def compose_whole(self, photo: int, rgb: Tensor, labels: Tensor) -> Batch:
        """One composite of a photograph in its own size and shape.

        Args:
            photo: which of the Photos it is (its tables choose the foreground).
            rgb: (1, 3, h, w), [0, 1]. labels: (1, 1, h, w) uint8.
        """
        index = torch.tensor([photo], device=self.device)
        return self._composite(rgb, self.foregrounds.masks(index, labels), index)

    def _composite(
        self, truth: Tensor, mask: Tensor, photo: Tensor, inside: Tensor | None = None
    ) -> Batch:
        """inside: the foreground's own colours, where a pixel of truth mixes them with others."""
        inside = truth if inside is None else inside
        changed, kind = torch.empty_like(inside), torch.full_like(photo, RETOUCH)
        raw = torch.zeros_like(photo, dtype=torch.bool)
        if self.recipe.raws:
            raw = self._rand(len(photo)) < self.recipe.raws
        at, rest = (which.nonzero().squeeze(1) for which in (raw, ~raw))
        if at.numel():
            truth, inside = truth.clone(), inside.clone()
            truth[at], inside[at], changed[at] = self._undeveloped(truth[at], inside[at])
        if rest.numel():
            changed[rest], kind[rest] = self._recolour(inside[rest], mask[rest], photo[rest])
        changed = (changed.clamp(0, 1) * 255).round() / 255
        composite = (truth + mask * (changed - inside)).clamp(0, 1)
        if self.recipe.jpeg:
            at = (self._rand(len(photo)) < self.recipe.jpeg).nonzero().squeeze(1)
            if at.numel():
                quality = 75 + 23 * self._rand(len(at))
                composite[at] = resaved(composite[at], quality.round())
        return Batch(composite, mask, truth, kind, photo)

    def cropped(self, pixels: Tensor, e: int) -> Tensor:
        """Random crop (60 to 100 % a side, flipped half the time) to squares of e pixels.

        A crop that loses the foreground or the background is replaced by the whole picture.

        Args:
            pixels: (B, C, h, w), the last channel being the mask.
        """
        b = pixels.shape[0]
        scale = 1 - 0.4 * self._rand(b) ** 1.5
        ratio = (0.12 * self._randn(b)).exp()
        sy, sx = (scale * ratio).clamp(0.5, 1), (scale / ratio).clamp(0.5, 1)
        ty = (self._rand(b) * 2 - 1) * (1 - sy)
        tx = (self._rand(b) * 2 - 1) * (1 - sx)
        flip = torch.where(self._rand(b) < 0.5, 1.0, -1.0)
        mode = "bilinear"
        if self.recipe.near:
            near = self._rand(b) < self.recipe.near
            windows = self.foregrounds.windows(pixels[:, -1])
            sy, sx, ty, tx = (
                torch.where(near, window, whole)
                for window, whole in zip(windows, (sy, sx, ty, tx), strict=True)
            )
            # Enlarged, a window is a staircase in use; a large photograph's is sharp.
            mode = "nearest" if float(self._rand(1)) < 0.5 else "bilinear"

        def cut(sy: Tensor, sx: Tensor, ty: Tensor, tx: Tensor, which: Tensor) -> Tensor:
            theta = torch.zeros(len(sy), 2, 3, device=self.device)
            theta[:, 0, 0], theta[:, 0, 2] = sx * flip[which], tx
            theta[:, 1, 1], theta[:, 1, 2] = sy, ty
            grid = F.affine_grid(theta, [len(sy), pixels.shape[1], e, e], align_corners=False)
            return F.grid_sample(
                pixels[which], grid, mode=mode, padding_mode="border", align_corners=False
            )

        every = torch.arange(b, device=self.device)
        out = cut(sy, sx, ty, tx, every)
        share = out[:, -1].mean((1, 2))
        bad = ((share < 0.01) | (share > 0.8)).nonzero().squeeze(1)
        if bad.numel():
            one, zero = (
                torch.ones(len(bad), device=self.device),
                torch.zeros(len(bad), device=self.device),
            )
            out[bad] = cut(one, one, zero, zero, bad)
        return out

    def _recolour(self, truth: Tensor, mask: Tensor, photo: Tensor) -> tuple[Tensor, Tensor]:
        """Recoloured pictures and the kind of each; implausible transfers become retouches."""
        r, b = self.recipe, truth.shape[0]
        out = truth.clone()
        kind = torch.full((b,), RETOUCH, device=self.device)
        toss = self._rand(b)
        at = (toss < r.transfers).nonzero().squeeze(1)
        if at.numel():
            x, m = truth[at], mask[at]
            source = recolour.sample_region(x, m, 512, self.generator)
            target = self._references(photo[at], source)
            which = torch.randint(4, (len(at),), generator=self.generator, device=self.device)
            moved = self._mapped(
                x, lambda y: recolour.transfer(y, source, target, which, self.generator)
            )
            # Most are whole, as the data sets' are; some stop short.
            whole = self._rand(len(at)) < 0.75
            part = torch.where(whole, 1.0, 0.4 + 0.6 * self._rand(len(at))).view(-1, 1, 1, 1)
            moved = x + part * (moved - x)
            area = m.sum((1, 2, 3)).clamp_min(1)
            clipped = ((moved < -0.02) | (moved > 1.02)).any(1, keepdim=True).float()
            clipped = (clipped * m).sum((1, 2, 3)) / area
            change = ((moved.clamp(0, 1) - x).square().mean(1, keepdim=True) * m).sum(
                (1, 2, 3)
            ) / area
            good = (clipped < 0.1) & (change.sqrt() < 0.25)
            out[at[good]] = moved[good]
            kind[at[good]] = which[good]
        at = (toss > 1 - r.hours).nonzero().squeeze(1)
        if at.numel():
            kind[at] = HOUR
            out[at] = self._mapped(truth[at], lambda y: recolour.hour(y, self.generator))
        at = (kind == RETOUCH).nonzero().squeeze(1)
        if at.numel():
            low, high = r.strength
            strength = recolour.log_uniform(len(at), low, high, self.generator, self.device)
            out[at] = self._mapped(
                truth[at], lambda y: recolour.retouch(y, self.generator, strength)
            )
        return out, kind

    def _undeveloped(self, truth: Tensor, inside: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Photographs and foregrounds as before any work on them, and the foregrounds retouched:
        two editions of one raw, neither made from the other."""
        strength = recolour.log_uniform(len(truth), 0.3, 1.5, self.generator, self.device)
        changed = self._mapped(inside, lambda y: recolour.retouch(y, self.generator, strength))
        both = self._mapped(
            torch.cat([truth, inside], 3), lambda y: recolour.undeveloped(y, self.generator)
        )
        truth, inside = both.clamp(0, 1).chunk(2, 3)
        return truth, inside, changed

    def _mapped(self, x: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
        """A change of colours (that looks at no neighbours) of each picture (B, 3, h, w)."""
        n = self.recipe.table
        if n == 0 or n**3 >= x[0, 0].numel():
            return change(x)
        colours = identity_lut(n, device=self.device).view(1, 3, n * n, n)
        table = change(colours.expand(len(x), -1, -1, -1).contiguous())
        return lookup(table.view(-1, 3, n, n, n), x)

    def _references(self, photo: Tensor, source: Tensor) -> Tensor:
        """(B, 3, N) colours of a region of another photograph for each picture.

        Of eight candidates the one nearest in mean lightness is taken half of the time, as
        composites that people accept as plausible are not matched to opposites.
        """
        p, b, k = self.photos, len(photo), 8
        same = self._rand(b, 1) < self.recipe.same_source
        anywhere = torch.multinomial(
            self.plain, b * k, replacement=True, generator=self.generator
        ).view(b, k)
        like = (self.region_source[None] == p.source[photo][:, None]).float() * self.plain
        near = torch.multinomial(like, k, replacement=True, generator=self.generator)
        index = torch.where(same, near, anywhere)
        points = p.points[index].float() / 255  # (B, k, 3, N)
        gap = (points.mean((2, 3)) - source.mean((1, 2))[:, None]).abs()
        best = gap.argmin(1)
        pick = torch.where(self._rand(b) < 0.5, best, torch.zeros_like(best))
        return points[torch.arange(b, device=self.device), pick]


def sharpened(x: Tensor, amount: Tensor) -> Tensor:
    """Unsharp masking: pictures (B, 3, h, w) plus `amount` (B,) times what a 3 x 3 binomial
    filter takes away. Below 0 it softens; -1 is the filter. [0, 1]."""
    soft = F.pad(x, (1, 1, 1, 1), mode="replicate")
    for axis in (2, 3, 2, 3):  # means of neighbours, twice along each axis
        n = soft.shape[axis] - 1
        soft = 0.5 * (soft.narrow(axis, 0, n) + soft.narrow(axis, 1, n))
    return (x + amount.view(-1, 1, 1, 1) * (x - soft)).clamp(0, 1)
