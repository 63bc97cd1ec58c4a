"""Feature trunks of two classifiers, without their heads, under torchvision's names.

SqueezeNet 1.1: Iandola et al., arXiv 1602.07360, its first 12 layers (one Fire module fewer than
    torchvision's `features`).
VGG16: Simonyan and Zisserman, arXiv 1409.1556, up to the last ReLU (the last pool is left out).

Neither normalises anything: they see the values that they are given. Both end at 1/16 of the
size, and `widths` scales them; keys do not change with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hzcli.core.transform import Thumbnail
from hzcli.nets.compact import both_sides, region_statistics, soft_histogram
from hzcli.nets.views import box_of

# Output channels of the first convolution and of the seven Fire modules.
SQUEEZENET = (64, 128, 128, 256, 256, 384, 384, 512)
FIRES = (3, 4, 6, 7, 9, 10, 11)  # where the Fire modules stand; pools at 2, 5, 8
SQUEEZE = 8  # a Fire module squeezes to an eighth of what it gives
# Output channels of the thirteen convolutions.
VGG16 = (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
CONVOLUTIONS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)  # pools at 4, 9, 16, 23

Shapes = Mapping[str, tuple[int, ...]]


class Fire(nn.Module):
    """1x1 squeeze, then 1x1 and 3x3 expansions side by side, all with ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        squeezed, half = outputs // SQUEEZE, outputs // 2
        self.squeeze = nn.Conv2d(inputs, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, half, 1)
        self.expand3x3 = nn.Conv2d(squeezed, half, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.squeeze(x))
        return F.relu(torch.cat([self.expand1x1(x), self.expand3x3(x)], 1))


def squeezenet(widths: tuple[int, ...] = SQUEEZENET) -> nn.Sequential:
    """(B, 3, h, w) to (B, widths[-1], about h / 16, w / 16); h and w at least 17.

    Args:
        widths: eight; all but the first multiples of 8.
    """
    layers: list[nn.Module] = [nn.Conv2d(3, widths[0], 3, stride=2), nn.ReLU()]
    for place, (inputs, outputs) in zip(FIRES, pairwise(widths), strict=True):
        if place == len(layers) + 1:
            layers.append(nn.MaxPool2d(3, stride=2, ceil_mode=True))
        layers.append(Fire(inputs, outputs))
    return start(nn.Sequential(*layers))


def vgg16(widths: tuple[int, ...] = VGG16) -> nn.Sequential:
    """(B, 3, h, w) to (B, widths[-1], h // 16, w // 16); h and w at least 16."""
    layers: list[nn.Module] = []
    inputs = (3, *widths)
    for place, ins, outs in zip(CONVOLUTIONS, inputs, widths, strict=False):
        if place == len(layers) + 1:
            layers.append(nn.MaxPool2d(2))
        layers += [nn.Conv2d(ins, outs, 3, padding=1), nn.ReLU()]
    return start(nn.Sequential(*layers))


def start(trunk: nn.Sequential) -> nn.Sequential:
    """He start values: without normalisation, signals must keep their size by themselves."""
    for layer in trunk.modules():
        if isinstance(layer, nn.Conv2d) and not layer.weight.is_meta:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
    return trunk


# name: (prefix of its keys in published checkpoints, builder, widths as published)
TRUNKS = {
    "squeezenet": ("squeezenet1_1", squeezenet, SQUEEZENET),
    "vgg16": ("model", vgg16, VGG16),
}


def width_keys(trunk: str) -> tuple[str, ...]:
    """The keys whose shapes tell a trunk's widths, without the prefix."""
    if trunk == "vgg16":
        return tuple(f"{n}.weight" for n in CONVOLUTIONS)
    return ("0.weight", *(f"{n}.expand1x1.weight" for n in FIRES))


def widths_from(trunk: str, shapes: Shapes) -> tuple[int, ...]:
    """A trunk's widths, read from its tensors.

    Args:
        shapes: name, without the prefix, to shape.

    Raises:
        KeyError: one of them is missing.
    """
    outputs = [shapes[key][0] for key in width_keys(trunk)]
    if trunk == "squeezenet":
        return (outputs[0], *(2 * n for n in outputs[1:]))
    return tuple(outputs)


# --- What a trunk is shown, and what is made of it -------------------------------------------


@dataclass(frozen=True)
class Side:
    """Colours (B, 3, S, S) and the region of them that counts, (B, 1, S, S)."""

    rgb: Tensor
    region: Tensor


def close_up(thumb: Thumbnail, size: tuple[int, ...]) -> Thumbnail:
    """The mask's bounding box of each picture, enlarged to a size (height, width).

    An empty mask has no box: the whole thumbnail is taken.
    """
    parts = []
    for both in torch.cat([thumb.rgb, thumb.mask], 1):
        top, bottom, left, right = box_of(both[3])
        parts.append(resized(both[None, :, top:bottom, left:right], size))
    part = torch.cat(parts)
    return Thumbnail(part[:, :3], part[:, 3:], thumb.full)


def resized(x: Tensor, size: tuple[int, ...]) -> Tensor:
    """The same at a size; a hat over two pixels where it shrinks, as Pillow's bilinear."""
    if tuple(x.shape[2:]) == tuple(size):
        return x
    return F.interpolate(x, size, mode="bilinear", align_corners=False, antialias=True)


def pool(features: Tensor, region: Tensor, pooling: str) -> Tensor:
    """Maps (B, D, h, w) to their means (B, D).

    Args:
        region: (B, 1, S, S), [0, 1], the same field at any size.
        pooling: "whole" takes all of the maps, "masked" their region.
    """
    if pooling == "whole":
        return features.mean((2, 3))
    height, width = features.shape[2:]
    weight = F.adaptive_avg_pool2d(region, (height, width))
    return (features * weight).sum((2, 3)) / weight.sum((2, 3)).clamp_min(1e-6)


def colour_statistics(front: Side, back: Side, same: bool) -> Tensor:
    """Means and deviations of colours, logarithms and histograms, (B, COLOUR_STATISTICS).

    Args:
        front, back: foreground and background.
        same: whether both are parts of one picture, so that they have an edge in common.
    """
    measured = []
    inside, _, inner, outer = both_sides(F.avg_pool2d(front.region, 2))
    region = F.avg_pool2d(back.region, 2)
    sides = ((front.rgb, inside, inner), (back.rgb, region, outer if same else region))
    for rgb, whole, near in sides:
        half = F.avg_pool2d(rgb, 2)
        colours = [half * 2 - 1, (half + 0.02).log() + 1, soft_histogram(half) * 3]
        measured.append(region_statistics(torch.cat(colours, 1), whole, near))
    return torch.cat(measured, 1)
