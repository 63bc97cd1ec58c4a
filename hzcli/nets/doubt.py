"""How much of a change to believe: most of those that change little are mistakes."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

EVEN = 17.0  # 8-bit levels (root of mean square) of a change that is taken as it is


def doubts(model: Any) -> bool:
    """Whether a model, once trained, doubts its changes: its configuration has `doubt`."""
    return bool(model.config.doubt) and not model.training


def believed(
    model: Any, recoloured: Tensor, rgb: Tensor, mask: Tensor, most: float = math.inf
) -> Tensor:
    """How much to take, (B,), of what a model would do to pictures.

    Of a change of mean square m on the foreground m / (m + doubt), and what makes that 1 at a
    change of EVEN: a composite that is right already is left all but alone, and larger changes
    tend to fall short.

    Args:
        model: its configuration has `doubt`, in squares of 8-bit levels.
        recoloured, rgb: (B, 3, h, w), [0, 1], after and before. mask: (B, 1, h, w), [0, 1].
        most: what a change is multiplied with at most.
    """
    doubt = model.config.doubt
    change = ((recoloured - rgb).square() * mask).sum((1, 2, 3))
    mean = 255**2 * change / (3 * mask.sum((1, 2, 3))).clamp_min(1e-6)
    return ((1 + doubt / EVEN**2) * mean / (mean + doubt)).clamp(max=most)
