"""HDNet-lite in our own configuration: dynamic at every level, from the colours themselves on.

The paper's parts (arXiv 2211.08639), small, and so put together that an untrained network changes
nothing:
  - Mask-aware Global Dynamics (Sec. 3.3), eq. (6): the picture chooses a kernel for the
    foreground and one for the background. Where the authors take a level's mean, we take the
    code of nets/compact.py, whose statistics know inside from outside. The first such
    convolution is on the colours, the composite's as polynomials and shares of nodes: the
    foreground's kernel then is a 3D table, the background's the identity. It is applied at full
    size, and may start as HINet's (equal names, `tone` and `lut`).
  - Local Dynamics (Sec. 3.2), eqs. (2) to (5), at stride 8.
  - a U-Net with RAIN in its decoder (arXiv 2106.02853), whose last layer adds to what the
    colours' convolution gave. It sees the thumbnail; an affine map a place, fitted to what it
    added, takes that to full size (core/guided.py).

Letters: B batch, (h, w) the thumbnail, D channels of a level.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hzcli.catalog import WeightsCard
from hzcli.core.affine import AffineMap
from hzcli.core.guided import guided_fit
from hzcli.core.lut import Lut3D, lookup
from hzcli.core.sampling import upsample
from hzcli.core.transform import Reach, Thumbnail, Transform
from hzcli.core.window import Window
from hzcli.models.hdnet.dynamics import LocalDynamics, mask_aware
from hzcli.models.told import told
from hzcli.nets.compact import CompactEncoder
from hzcli.nets.modulated import normal
from hzcli.nets.rain import Rain
from hzcli.nets.tables import GAIN, POLYNOMIALS, doubted, start_at_identity, table_of
from hzcli.nets.views import seen

CHOICES = 8  # numbers between the code and a level's kernels; 4 in the paper


@dataclass(frozen=True)
class HDNetConfig:
    """Numbers that give our HDNet its size.

    thumbnail: edge in pixels, a multiple of 32. channels, blocks, code: of the encoder.
    lut: nodes a side of the colours' table. widths: channels at strides 2, 4 and 8.
    neighbours: K of eq. (3). closer, doubt: as HINet's.
    """

    thumbnail: int = 256
    channels: tuple[int, int, int, int] = (32, 64, 128, 192)
    blocks: int = 0
    code: int = 512
    lut: int = 7
    widths: tuple[int, int, int] = (16, 32, 48)
    neighbours: int = 4
    closer: int = 0
    doubt: float = 0.0

    READINGS: ClassVar[tuple[str, ...]] = ("thumbnail", "neighbours", "closer", "doubt")

    @classmethod
    def compact(cls) -> HDNetConfig:
        """Small enough to train and run on a CPU."""
        return cls()

    @classmethod
    def from_shapes(
        cls, shapes: Mapping[str, tuple[int, ...]], readings: Mapping[str, str]
    ) -> HDNetConfig:
        """The configuration behind tensors of these shapes; readings from a file's metadata.

        Raises:
            KeyError: a tensor that tells a number is missing. ValueError: a reading is none.
        """
        return cls(
            **CompactEncoder.sizes(shapes),
            lut=round((shapes["lut.weight"][0] / 3) ** (1 / 3)),
            widths=tuple(shapes[f"down.{n}.weight"][0] for n in range(3)),  # type: ignore[arg-type]
            **told(cls, readings),
        )


class Dynamics(nn.Module):
    """Mask-aware Global Dynamics, chosen by the code."""

    def __init__(self, code: int, channels: int) -> None:
        super().__init__()
        self.choose = nn.Linear(code, CHOICES)
        self.kernels = nn.Linear(CHOICES, 2 * channels**2)
        self.kernels.weight = nn.Parameter(normal(*self.kernels.weight.shape, scale=0.02))
        # At first little more than the identity.
        start = torch.zeros(2, channels, channels)
        start.diagonal(dim1=1, dim2=2).fill_(1)
        self.kernels.bias = nn.Parameter(start.flatten())

    def forward(self, x: Tensor, mask: Tensor, code: Tensor) -> Tensor:
        """Eq. (6): (B, D, h, w), its mask (B, 1, h, w) and the code."""
        d = x.shape[1]
        chosen = self.kernels(torch.sigmoid(self.choose(code)))
        return mask_aware(x, mask, *chosen.view(-1, 2, d, d).unbind(1))


class Level(nn.Module):
    """A level of the decoder: convolution, RAIN, dynamics, ReLU."""

    def __init__(self, inputs: int, outputs: int, code: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.norm = Rain(outputs)
        self.dynamics = Dynamics(code, outputs)

    def forward(self, x: Tensor, mask: Tensor, code: Tensor) -> Tensor:
        return F.relu(self.dynamics(self.norm(self.conv(x), mask), mask, code))


@dataclass(frozen=True)
class Painted:
    """Colours by the table, and what the network adds to the thumbnail, enlarged: for training,
    where the picture is as small.

    lut: (B, 3, n, n, n). added: (B, 3, h / 2, w / 2).
    """

    lut: Tensor
    added: Tensor

    @property
    def reach(self) -> Reach:
        return Reach(bytes_per_pixel=96)

    def apply(self, rgb: Tensor, mask: Tensor, window: Window) -> Tensor:
        del mask
        return lookup(self.lut, rgb) + upsample(self.added, window, align_corners=False)


@dataclass(frozen=True)
class Dynamic:
    """Colours by the table, then by an affine map a place.

    lut: (B, 3, n, n, n), [channel][r][g][b]. maps: (B, 12, h, w), of an AffineMap.
    """

    lut: Tensor
    maps: Tensor

    @property
    def reach(self) -> Reach:
        own = Lut3D(self.lut).reach.bytes_per_pixel
        return Reach(bytes_per_pixel=own + AffineMap(self.maps).reach.bytes_per_pixel)

    def apply(self, rgb: Tensor, mask: Tensor, window: Window) -> Tensor:
        return AffineMap(self.maps).apply(lookup(self.lut, rgb), mask, window)


class HDNet(nn.Module):
    """Predicts a Dynamic from a thumbnail."""

    takes_reference = False
    needs_closeup = False

    def __init__(self, config: HDNetConfig) -> None:
        super().__init__()
        self.config = c = config
        self.card = WeightsCard(id="untrained", model="hdnet", file="")
        self.encoder = CompactEncoder(c.channels, c.blocks, c.code)
        self.tone = nn.Linear(c.code, 3 * POLYNOMIALS)
        self.lut = nn.Linear(c.code, 3 * c.lut**3)
        fine, middle, deep = c.widths
        self.down = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride, 1)
            for a, b, stride in ((7, fine, 1), (fine, middle, 2), (middle, deep, 2))
        )
        self.seen = nn.ModuleList(nn.Conv2d(n, deep, 1) for n in (c.channels[2], c.channels[3]))
        self.fusion = LocalDynamics(deep, "paper", c.neighbours)
        self.levels = nn.ModuleList(
            Level(a, b, c.code)
            for a, b in ((deep, deep), (deep + middle, middle), (middle + fine, fine))
        )
        self.last = nn.Conv2d(fine, 3, 3, padding=1)
        start_at_identity(self.tone, self.lut)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    @property
    def thumbnail_edge(self) -> int:
        return self.config.thumbnail

    def predict(self, thumb: Thumbnail) -> Transform:
        """What is to be done to the full picture; of thumbnails of any size."""
        rgb, mask, maps, code = seen(self, thumb.rgb, thumb.mask)
        lut = table_of(self.tone(code), self.lut(code))
        lut = doubted(self, lut, rgb, mask, most=1.0)
        added = self._added(rgb, lut, mask, maps, code)
        if self.training:
            return Painted(lut, added)
        table = lookup(lut, rgb)
        target = table + F.interpolate(added, scale_factor=2, mode="bilinear")
        return Dynamic(lut, guided_fit(table, target, mask).maps)

    def predict_lut(self, thumb: Thumbnail) -> Lut3D:
        """The dynamic convolution of the colours alone."""
        rgb, mask, _, code = seen(self, thumb.rgb, thumb.mask)
        return Lut3D(doubted(self, table_of(self.tone(code), self.lut(code)), rgb, mask))

    def _added(
        self,
        rgb: Tensor,
        lut: Tensor,
        mask: Tensor,
        maps: tuple[Tensor, Tensor, Tensor],
        code: Tensor,
    ) -> Tensor:
        """The U-Net: what is added to the table's colours, (B, 3, h / 2, w / 2)."""
        rgb, m2 = F.avg_pool2d(rgb, 2), F.avg_pool2d(mask, 2)
        m4 = F.avg_pool2d(m2, 2)
        m8 = F.avg_pool2d(m4, 2)
        x = torch.cat([2 * rgb - 1, 4 * (lookup(lut, rgb) - rgb), m2], 1)
        x2 = F.silu(self.down[0](x))
        x4 = F.silu(self.down[1](x2))
        x8 = self.down[2](x4) + self.seen[0](maps[2]) + _doubled(self.seen[1](maps[1]))
        u = self.levels[0](self.fusion(x8, m8), m8, code)
        u = self.levels[1](torch.cat([x4, _doubled(u)], 1), m4, code)
        u = self.levels[2](torch.cat([x2, _doubled(u)], 1), m2, code)
        return GAIN * self.last(u)


def _doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
