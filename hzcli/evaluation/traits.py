"""What kind of answer weights give, found by asking them: for their card."""

from __future__ import annotations

from typing import Any

import torch

from hzcli.core.curves import Curves
from hzcli.core.lut import Lut3D
from hzcli.core.transform import Thumbnail
from hzcli.core.window import Size


@torch.inference_mode()
def traits_of(model: Any) -> dict[str, str]:
    """The traits of a model's weights, as `hzcli.auto` reads them off a card.

    Args:
        model: a network on the CPU, in eval mode.

    Returns:
        {"look": "exact" | "own" | "fitted"}: its answer is a table or curves; it has one beside
        its answer; it has none.
    """
    edge = model.thumbnail_edge
    ramp = torch.linspace(0, 1, edge)
    rgb = torch.stack(
        [ramp.expand(edge, edge), ramp.expand(edge, edge).T, ramp.flip(0).expand(edge, edge)]
    )
    mask = torch.zeros(1, 1, edge, edge)
    mask[..., edge // 4 : edge // 2, edge // 4 : edge // 2] = 1
    seen = Thumbnail(rgb[None], mask, Size(edge, edge))
    if getattr(model, "needs_closeup", False):
        seen = Thumbnail(rgb[None], mask, Size(edge, edge), closeup=seen)
    answer = model.predict(seen)
    if isinstance(answer, (Lut3D, Curves)):
        return {"look": "exact"}
    return {"look": "own" if isinstance(getattr(answer, "lut", None), torch.Tensor) else "fitted"}
