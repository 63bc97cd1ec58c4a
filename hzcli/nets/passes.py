"""Several passes of a network over a thumbnail: what one leaves over, the next one sees.

A network that measures statistics tells a small fault better than a large one: a foreground
that has come nearer to its surroundings is judged again, and by what is then left.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from hzcli.core.lut import identity_lut, lookup
from hzcli.core.transform import Thumbnail
from hzcli.nets.views import seen

NODES = 25  # a side of composed tables, at least
LATER = 0.6  # of what a pass after the first one would change: what misled one misleads both


def composed(first: Tensor, then: Tensor) -> Tensor:
    """One table for two in turn.

    Args:
        first, then: (B, 3, n, n, n), [channel][r][g][b], n may differ.

    Returns:
        The same of at least NODES nodes a side, those of `first` among them: exact there, and
        near it between.
    """
    first = finer(first)
    b, _, n = first.shape[:3]
    return lookup(then, first.reshape(b, 3, n * n, n).clamp(0, 1)).view(first.shape)


def finer(table: Tensor) -> Tensor:
    """The same table (B, 3, n, n, n) at NODES or more nodes a side, its own among them."""
    b, _, n = table.shape[:3]
    while n < NODES:
        n = 2 * n - 1
    if n == table.shape[2]:
        return table
    nodes = identity_lut(n, device=table.device).to(table).view(1, 3, n * n, n)
    return lookup(table, nodes.expand(b, -1, -1, -1)).view(b, 3, n, n, n)


def earlier(
    model: Any, thumb: Thumbnail, table: Callable[[Tensor], Tensor]
) -> tuple[Tensor | None, Thumbnail]:
    """What a model's passes before the last one do, and what the last one is shown.

    Args:
        model: its configuration says how many `passes` there are; while it is trained it is one.
        table: from the code to tables, (B, 3, n, n, n).

    Returns:
        Their tables as one, None if there is no such pass; and the thumbnail, its foreground
        recoloured by it.
    """
    first, shown = None, thumb
    for _ in range(0 if model.training else model.config.passes - 1):
        found = table(seen(model, shown.rgb, shown.mask)[3])
        first = in_all(first, found)
        shown = recoloured(thumb, lookup(first, thumb.rgb))
    return first, shown


def recoloured(thumb: Thumbnail, colours: Tensor) -> Thumbnail:
    """A thumbnail whose foreground has other colours, (B, 3, h, w); a close-up is cut anew."""
    rgb = torch.lerp(thumb.rgb, colours.clamp(0, 1), thumb.mask)
    return replace(thumb, rgb=rgb, closeup=None)


def in_all(first: Tensor | None, last: Tensor) -> Tensor:
    """The table of all passes: the first ones', and what a later one adds to it."""
    if first is None:
        return last
    unchanged = identity_lut(last.shape[2], device=last.device).to(last)
    return composed(first, torch.lerp(unchanged, last, LATER))
