"""Our own small networks, moved away from where they start, and what they are shown."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch
from ruled_nets import picture
from torch import Tensor, nn
from torch.nn import functional as F

from hzcli.core.transform import Thumbnail
from hzcli.core.window import Size, Window

WHOLE = Size(90, 131)


def wild(build: Callable[[], Any], heads: str, deviation: float) -> Any:
    """Random weights far from the identity, seeded; more so where a name matches `heads`."""
    torch.manual_seed(5)
    model: nn.Module = build().eval().requires_grad_(False)
    for name, t in model.named_parameters():
        t.add_(torch.randn_like(t), alpha=0.03)  # away from branches that start at 0
        if re.search(heads, name):
            t.normal_(0, deviation)
    return model


def seen(edge: int, region: Callable[[int, int], Tensor]) -> tuple[Tensor, Tensor, Thumbnail]:
    """A picture of size WHOLE, its mask, and its thumbnail."""
    image, mask = (make(WHOLE.height, WHOLE.width) for make in (picture, region))
    rgb, small = (F.interpolate(t, (edge, edge), mode="area") for t in (image, mask))
    return image, mask, Thumbnail(rgb, small, WHOLE)


def change(model: Any, image: Tensor, mask: Tensor, thumb: Thumbnail) -> float:
    """The most that a network, or its table, changes in a picture."""
    with torch.inference_mode():
        transforms = model.predict(thumb), model.predict_lut(thumb)
        results = [one.apply(image, mask, Window.whole(WHOLE)) for one in transforms]
    return max((result - image).abs().max().item() for result in results)


def check_a_tint_is_undone(model: Any, rate: float, steps: int) -> None:
    """A few steps of training take a good part of the same tint off eight pictures."""
    size, losses = Size(32, 32), []
    truth = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(6)) * 0.6
    mask = torch.zeros(8, 1, 32, 32)
    mask[..., 8:24, 4:28] = 1
    image = truth + mask * torch.tensor([0.2, 0.0, -0.1]).view(1, 3, 1, 1)
    optimizer = torch.optim.Adam(model.train().parameters(), rate)
    for _ in range(steps):
        result = model.predict(Thumbnail(image, mask, size)).apply(image, mask, Window.whole(size))
        loss = ((result - truth).square() * mask).sum() / mask.sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
