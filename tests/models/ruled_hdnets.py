"""HDNet by rule: networks and pictures behind the golden numbers."""

from __future__ import annotations

from ruled_nets import fill, golden, picture, rectangle
from torch import Tensor
from torch.nn import functional as F

from hzcli.models.hdnet import PublishedConfig, PublishedHDNet

GOLDEN = golden("hdnet")
RULE = GOLDEN["weight_rule"]
VARIANTS = ("hdnet", "hdnet-lite")


def lite(**readings: object) -> PublishedHDNet:
    """A network of a quarter of HDNet-lite's width, weights by rule, in eval mode."""
    return fill(PublishedHDNet(PublishedConfig(**{"width": 2, **readings})), RULE)


def inputs(height: int, width: int, soft: bool = False) -> tuple[Tensor, Tensor]:
    """Picture in [-1, 1] and mask."""
    mask = rectangle(height, width)
    return picture(height, width) * 2 - 1, F.avg_pool2d(mask, 9, 1, 4) if soft else mask
