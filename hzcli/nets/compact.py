"""A compact encoder for harmonisation: it measures the foreground against its surroundings.

Five ideas, none of them ours alone: strided convolutions with depthwise refinement
(MobileNets, arXiv 1704.04861); region statistics of features inside and outside the mask
(RAIN, arXiv 2106.02853, used there for normalising, here for measuring); soft colour
histograms; a few transformer blocks over the coarse map, so that the foreground can look for
what resembles it (arXiv 2010.11929, with a depthwise convolution in place of position
embeddings, arXiv 2102.10882); zero-initialised residual branches (arXiv 1901.09321).

Shapes: B pictures, C channels, (h, w) thumbnail, N tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

HISTOGRAM_BINS = 12
LIMIT = 4.0
# Mean and deviation, in four regions, of RGB, log RGB and the histogram's memberships.
COLOUR_STATISTICS = 8 * (3 + 3 + 3 * HISTOGRAM_BINS)


def region_statistics(features: Tensor, *regions: Tensor, eps: float = 1e-5) -> Tensor:
    """Mean and standard deviation of features in soft regions.

    Args:
        features: (B, C, h, w).
        regions: (B, 1, h, w) each, weights of 0 or more.

    Returns:
        (B, 2CR): the regions' means, then their deviations, one region after the other.
    """
    flat = features.flatten(2)  # (B, C, hw)
    weights = torch.cat(regions, 1).flatten(2)  # (B, R, hw)
    weights = weights / (weights.sum(2, keepdim=True) + 1e-3)
    mean = torch.einsum("bcn,brn->brc", flat, weights)
    # E[x^2] - E[x]^2 in float32 is accurate enough for features of order 1.
    square = torch.einsum("bcn,brn->brc", flat.square(), weights)
    deviation = (square - mean.square()).clamp_min(0).add(eps).sqrt()
    return torch.cat([mean, deviation], 2).flatten(1)


def both_sides(mask: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Four regions of a mask (B, 1, h, w): inside, outside, and each near the edge only.

    What lies just across the edge is mostly lit as the foreground should be.
    """
    near = max(3, mask.shape[-1] // 7 | 1)
    # Down, then across: the same means of what lies inside, for a quarter of the time.
    blurred = F.avg_pool2d(mask, (near, 1), 1, (near // 2, 0), count_include_pad=False)
    blurred = F.avg_pool2d(blurred, (1, near), 1, (0, near // 2), count_include_pad=False)
    return mask, 1 - mask, mask * (1 - blurred), (1 - mask) * blurred


def soft_histogram(rgb: Tensor, bins: int = HISTOGRAM_BINS) -> Tensor:
    """Triangular membership of each channel value in `bins` equidistant bins.

    Args:
        rgb: (B, 3, h, w), [0, 1].

    Returns:
        (B, 3 * bins, h, w); the memberships of one channel sum to 1.
    """
    centres = torch.linspace(0, 1, bins, device=rgb.device, dtype=rgb.dtype)
    distance = (rgb.unsqueeze(2) - centres.view(1, 1, -1, 1, 1)).abs() * (bins - 1)
    return (1 - distance).clamp_min(0).flatten(1, 2)


class Stage(nn.Module):
    """Halve the size: strided convolution, then a depthwise-pointwise residual."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.depth = nn.Conv2d(outputs, outputs, 3, padding=1, groups=outputs, bias=False)
        self.point = nn.Conv2d(outputs, outputs, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.norm(self.down(x)))
        return F.silu(x + self.norm2(self.point(self.depth(x))))


class Attention(nn.Module):
    """Pre-norm transformer block over the cells of a map, position by convolution."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.position = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.norm1 = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.join = nn.Linear(channels, channels)
        self.norm2 = nn.LayerNorm(channels)
        self.widen = nn.Linear(channels, 3 * channels)
        self.narrow = nn.Linear(3 * channels, channels)
        for layer in (self.position, self.join, self.narrow):
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        x = x + self.position(x)
        tokens = x.flatten(2).transpose(1, 2)  # (B, N, C)
        qkv = self.qkv(self.norm1(tokens)).view(b, h * w, 3, self.heads, c // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, heads, N, C / heads)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, h * w, c)
        tokens = tokens + self.join(mixed)
        tokens = tokens + self.narrow(F.silu(self.widen(self.norm2(tokens))))
        return tokens.transpose(1, 2).reshape(b, c, h, w)


def _limited(layers: nn.Sequential, statistics: Tensor) -> Tensor:
    """Normalised statistics, kept within LIMIT deviations, through the layer after them.

    Of what no training picture showed (a texture that is all noise), the code knows nothing;
    without a limit it would follow the straight line to absurd colours.
    """
    norm, linear = layers
    return linear(norm(statistics).clamp(-LIMIT, LIMIT))


class CompactEncoder(nn.Module):
    """Thumbnail and mask to feature maps at strides 8, 16, 32 and one code a picture.

    Args:
        channels: of the four stages (strides 2, 4, 8, 16).
        blocks: transformer blocks after the last stage.
        code: length of the code.
    """

    def __init__(self, channels: tuple[int, int, int, int], blocks: int, code: int) -> None:
        super().__init__()
        widths = (4, *channels)
        self.stages = nn.ModuleList(Stage(a, b) for a, b in zip(widths, channels, strict=False))
        self.blocks = nn.ModuleList(
            Attention(channels[-1], channels[-1] // 32) for _ in range(blocks)
        )
        self.norm = nn.BatchNorm2d(channels[-1])
        deep = 4 * (sum(channels) + channels[-1])
        self.colours = nn.Sequential(
            nn.BatchNorm1d(COLOUR_STATISTICS), nn.Linear(COLOUR_STATISTICS, code)
        )
        self.deep = nn.Sequential(nn.BatchNorm1d(deep), nn.Linear(deep, code))
        # Colours alone teach the first lessons; features join in as they learn to mean something.
        self.share = nn.Parameter(torch.full((code,), 0.2))
        self.mix = nn.Linear(code, code)

    @staticmethod
    def sizes(shapes: Mapping[str, tuple[int, ...]], prefix: str = "encoder.") -> dict[str, Any]:
        """`channels`, `blocks` and `code` of the encoder whose tensors have these shapes.

        Raises:
            KeyError: there is none under `prefix`.
        """
        return {
            "channels": tuple(shapes[f"{prefix}stages.{n}.down.weight"][0] for n in range(4)),
            "blocks": sum(k.startswith(prefix) and k.endswith(".qkv.weight") for k in shapes),
            "code": shapes[f"{prefix}share"][0],
        }

    def forward(self, rgb: Tensor, mask: Tensor) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
        """Encode pictures whose sides are multiples of 32.

        Args:
            rgb: (B, 3, h, w), [0, 1]. mask: (B, 1, h, w), [0, 1].

        Returns:
            Maps at strides 32, 16 and 8 (coarse to fine) and the code (B, code).
        """
        maps, statistics = self.measured(rgb, mask)
        return maps, self.code(statistics)

    def measured(self, rgb: Tensor, mask: Tensor) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
        """The maps, and all that the code is made of: statistics (B, S) of colours and features."""
        half_rgb, half_mask = F.avg_pool2d(rgb, 2), F.avg_pool2d(mask, 2)
        light = (half_rgb.clamp_min(0) + 0.02).log()
        colours = torch.cat([half_rgb, light, soft_histogram(half_rgb)], 1)
        x, m, maps, found = torch.cat([rgb * 2 - 1, mask], 1), mask, [], []
        for stage in self.stages:
            x, m = stage(x), F.avg_pool2d(m, 2)
            found.append(region_statistics(x, m, 1 - m))
            maps.append(x)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        found.append(region_statistics(x, m, 1 - m))
        of_colours = region_statistics(colours, *both_sides(half_mask))
        return (F.avg_pool2d(x, 2), x, maps[2]), torch.cat([of_colours, *found], 1)

    def code(self, statistics: Tensor) -> Tensor:
        """What `measured` found (B, S), as a code (B, code)."""
        colours, deep = statistics.tensor_split([COLOUR_STATISTICS], 1)
        code = _limited(self.colours, colours) + self.share * _limited(self.deep, deep)
        return F.silu(self.mix(F.silu(code)))

    @property
    def behind(self) -> list[nn.Parameter]:
        """What turns statistics into the code: all that `code` uses, but for normalisations."""
        layers = (self.colours[1], self.deep[1], self.mix)
        return [self.share, *(p for layer in layers for p in layer.parameters())]
