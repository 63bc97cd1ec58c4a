"""What is minimised: our own objective, and each paper's.

An objective is a function of (model, batch, stage) that gives the loss of one batch. Those of
the papers call a network as published and use its outputs by their published names; `modern`
calls any model's `predict` and applies the result, as `hz run` does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hzcli.core.lut import lookup
from hzcli.core.transform import Thumbnail
from hzcli.core.window import Size, Window
from hzcli.train.compose import Batch
from hzcli.train.foregrounds import extents
from hzcli.train.losses import (
    balanced,
    foreground_mse,
    foreground_normalised,
    lut_range,
    relative_l1,
    violations,
)

THRESHOLD = 100 / 255  # HINet counts a soft mask from here on


@dataclass(frozen=True)
class Stage:
    """Where a run stands.

    edge: of the thumbnail. picture: edge at which the loss is taken. crop: edge of a random
    window of that picture which is all that is decoded (HINet's random step crops); 0: whole.
    local: whether position-dependent parts are trained, besides a table that stands for all.
    """

    edge: int
    picture: int
    crop: int = 0
    local: bool = True


@dataclass(frozen=True)
class Loss:
    """What is minimised; fake and real: pictures for an adversary to tell apart."""

    total: Tensor
    fake: Tensor | None = None
    real: Tensor | None = None


Objective = Callable[[Any, Batch, Stage], Loss]


def closer(batch: Batch, edge: int) -> Batch:
    """Each picture cut to its mask's bounding box, as squares of `edge` pixels."""
    inside = batch.mask[:, 0] > 0
    top, bottom = (2 * end - 1 for end in extents(inside.any(2)))
    left, right = (2 * end - 1 for end in extents(inside.any(1)))
    theta = batch.mask.new_zeros(len(batch.mask), 2, 3)
    theta[:, 0, 0], theta[:, 0, 2] = (right - left) / 2, (right + left) / 2
    theta[:, 1, 1], theta[:, 1, 2] = (bottom - top) / 2, (bottom + top) / 2
    grid = F.affine_grid(theta, [len(batch.mask), 1, edge, edge], align_corners=False)
    cut = [
        F.grid_sample(t, grid, mode="bilinear", padding_mode="border", align_corners=False)
        for t in (batch.composite, batch.mask, batch.truth)
    ]
    return Batch(cut[0], cut[1], cut[2], batch.kind, batch.photo)


def thumbnail(model: nn.Module, batch: Batch, edge: int) -> Thumbnail:
    """What the model sees of a batch, by area means."""
    small = batch.shrink(edge)
    full = Size(*batch.composite.shape[2:])
    close = None
    if getattr(model, "needs_closeup", False):
        near = closer(batch, edge)
        close = Thumbnail(near.composite, near.mask, full)
    return Thumbnail(small.composite, small.mask, full, closeup=close)


def cropped(batch: Batch, edge: int) -> tuple[Batch, Window]:
    """A random window of all pictures, one that holds foreground if eight tries find any."""
    n = batch.composite.shape[-1]
    for _ in range(8):
        # Multiples of four, so that levels of detail nest.
        top, left = (4 * int(torch.randint((n - edge) // 4 + 1, ())) for _ in range(2))
        window = Window(top, top + edge, left, left + edge, Size(n, n))
        rows, columns = window.inside(Window.whole(window.size))
        if batch.mask[:, :, rows, columns].mean() > 0.5 * batch.mask.mean():
            break
    cut = [t[:, :, rows, columns] for t in (batch.composite, batch.mask, batch.truth)]
    return Batch(cut[0], cut[1], cut[2], batch.kind, batch.photo), window


def predictions(
    model: Any, batch: Batch, stage: Stage
) -> tuple[Tensor | None, Tensor | None, Tensor | None, Batch]:
    """The model's colours, its table's colours, the table, and the batch they are to match.

    The first is None while only the table is trained, the others for a model without a table.
    """
    thumb = thumbnail(model, batch, stage.edge)
    batch = batch.shrink(stage.picture)
    window = Window.whole(Size(stage.picture, stage.picture))
    if stage.crop:
        batch, window = cropped(batch, stage.crop)
    out = None
    if stage.local:
        transform = model.predict(thumb)
        if hasattr(transform, "bind"):
            return _bound(model, thumb, batch, window), None, None, batch
        out = transform.apply(batch.composite, batch.mask, window)
        table = getattr(transform, "lut", None)
    else:
        table = model.predict_lut(thumb).lut
    if not isinstance(table, Tensor):
        return out, None, None, batch
    return out, lookup(table, batch.composite), table, batch


@dataclass(frozen=True)
class _Shown:
    """A core.transform.Source over pictures in memory."""

    rgb: Tensor
    mask: Tensor

    @property
    def size(self) -> Size:
        return Size(*self.rgb.shape[2:])

    @property
    def box(self) -> Window:
        return Window.whole(self.size)

    def read(self, window: Window) -> tuple[Tensor, Tensor]:
        rows, columns = window.inside(self.box)
        return self.rgb[:, :, rows, columns], self.mask[:, :, rows, columns]

    def scratch(self, *shape: int) -> Tensor:
        return self.rgb.new_zeros(shape)


def _bound(model: Any, thumb: Thumbnail, batch: Batch, window: Window) -> Tensor:
    """Colours of a Transform that must be shown the picture first: one picture at a time."""
    parts = []
    for i in range(len(batch.kind)):
        one = slice(i, i + 1)
        shown = _Shown(batch.composite[one], batch.mask[one])
        small = Thumbnail(thumb.rgb[one], thumb.mask[one], thumb.full)
        transform = model.predict(small).bind(shown)
        parts.append(transform.apply(shown.rgb, shown.mask, window))
    return torch.cat(parts)


def modern(model: Any, batch: Batch, stage: Stage) -> Loss:
    """Foreground error of what the model does, and of its table if it has one, with the
    table's range penalty."""
    out, flat, table, batch = predictions(model, batch, stage)
    before = foreground_mse(batch.composite, batch.truth, batch.mask)
    loss = batch.composite.new_zeros(())
    if flat is not None and table is not None:
        loss = balanced(foreground_mse(flat, batch.truth, batch.mask), before) + lut_range(table)
        if out is not None:
            loss = 0.5 * loss
    if out is not None:
        loss = loss + balanced(foreground_mse(out, batch.truth, batch.mask), before)
    return Loss(loss)


# --- The papers' ------------------------------------------------------------------------------


def hinet(model: Any, batch: Batch, stage: Stage) -> Loss:
    """HINet (arXiv 2303.01681, Sec. III-F): three levels, the table, and its range.

    Colours in [-1, 1]. Low resolution: squared error over all pixels by 3 max(sum M, 100).
    The table's: over the foreground, by max(sum M, 100).
    """
    batch = batch.shrink(stage.picture)
    image, truth = batch.composite * 2 - 1, batch.truth * 2 - 1
    answer = model(image=image, mask=batch.mask)
    levels = [answer[f"rgb_level{n}"] for n in range(3)]
    inr = image.new_zeros(())
    for level in levels:
        size = level.shape[2:]
        small = [F.interpolate(t, size, mode="bilinear", align_corners=False) if
                 t.shape[2:] != size else t for t in (truth, batch.mask)]  # fmt: skip
        inr = inr + foreground_normalised(level, small[0], small[1], 100).mean() / 3
    inside = (batch.mask > THRESHOLD).float()
    area = batch.mask.sum((1, 2, 3)).clamp_min(100)
    table = ((answer["lut_image"] - truth).square() * inside).sum((1, 2, 3)) / area
    return Loss(inr + table.mean() + violations(answer["lut"]))


def cdtnet(model: Any, batch: Batch, stage: Stage) -> Loss:
    """CDTNet (arXiv 2109.06671, Sec. 3.4, as its code has it): the pixel branch at low
    resolution, the tables' branch and the refined picture at high; weights 1."""
    answer = model(image=batch.composite, mask=batch.mask, lr=stage.edge)
    edge = (stage.edge, stage.edge)
    low = [F.interpolate(t, edge, mode="bilinear", align_corners=False)
           for t in (batch.truth, batch.mask)]  # fmt: skip
    parts = (
        foreground_normalised(answer["base_images"], low[0], low[1], 100)
        + foreground_normalised(answer["lut_images"], batch.truth, batch.mask, 100)
        + foreground_normalised(answer["images"], batch.truth, batch.mask, 100)
    )
    return Loss(parts.mean())


def s2crnet(model: Any, batch: Batch, stage: Stage) -> Loss:
    """S2CRNet (arXiv 2109.05750, eq. 7): relative L1 of each stage's picture; the adversary's
    part is added by the loop."""
    small, near = batch.shrink(stage.edge), closer(batch, stage.edge)
    answer = model(
        image=small.composite, mask=small.mask, fg_image=near.composite, fg_mask=near.mask,
        label=None,
    )  # fmt: skip
    stages = [answer[name] for name in ("y1", "y2", "y3") if name in answer]
    total = torch.stack([relative_l1(y, small.truth, small.mask) for y in stages]).sum()
    # As in the authors' code, the adversary sees the whole picture through the curves.
    return Loss(total, stages[-1], small.truth)


def aict(model: Any, batch: Batch, stage: Stage) -> Loss:
    """AICT (NeurIPS 2024, Sec. 3.4, as its code has it): full resolution with A_min 1000, and
    a hundredth of the low-resolution error with A_min 100."""
    small = batch.shrink(stage.edge)
    answer = model(
        image=small.composite, mask=small.mask, image_fullres=batch.composite,
        mask_fullres=batch.mask,
    )  # fmt: skip
    full = answer["images_fullres"].view(batch.truth.shape)
    high = foreground_normalised(full, batch.truth, batch.mask, 1000)
    low = foreground_normalised(answer["images"], small.truth, small.mask, 100)
    return Loss((high + 0.01 * low).mean())


def hdnet(model: Any, batch: Batch, stage: Stage) -> Loss:
    """HDNet (arXiv 2211.08639, eq. 1 with squares, as its code has it): A_min 100, [-1, 1]."""
    small = batch.shrink(stage.edge)
    answer = model(image=small.composite * 2 - 1, mask=(small.mask > 0.5).float())
    error = foreground_normalised(answer["blended"], small.truth * 2 - 1, small.mask, 100)
    return Loss(error.mean())


OBJECTIVES: dict[str, Objective] = {
    f.__name__: f for f in (modern, hinet, cdtnet, s2crnet, aict, hdnet)
}
