"""CDTNet in our own configurations: one encoder, three branches that start at its LUT.

The paper's parts (arXiv 2109.06671), small, and each so built that an untrained one changes
nothing of what the branch before it does:
  - E (Sec. 3.1) is nets/compact.py, which both transformations share, as in the paper.
  - RGB-to-RGB (Sec. 3.2): phi_0 + sum w_n phi_n, phi_0 the identity. E's code, which is
    made of statistics inside and outside the mask, stands for f_f o f_b in the prediction of w_n.
  - pixel-to-pixel (Sec. 3.1): D adds to the thumbnail as the LUT left it, at a quarter of its
    size; gates by the code weigh foreground and background channels (S2AM, arXiv 1907.06406).
  - refinement (Sec. 3.3): R adds to I_rgb + Up(I_pix - I_rgb). Its convolutions are 1 x 1: what
    lies around a pixel is in F_dec, and it does the same at every size, also at those that
    it was not trained at.
The table may start as HINet's (`kindred`): a layer from a code to a table is a mix of as many
tables as the code has numbers, and the principal ones of them are the basis.

Letters: B pictures, N tables of n nodes a side besides the identity, (h, w) the thumbnail,
(H, W) the full picture, C channels of F_dec.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hzcli.catalog import WeightsCard
from hzcli.core.lut import Lut3D, identity_lut, lookup
from hzcli.core.sampling import upsample
from hzcli.core.transform import Reach, Thumbnail
from hzcli.core.window import Window
from hzcli.models.told import told
from hzcli.nets.compact import CompactEncoder
from hzcli.nets.modulated import normal
from hzcli.nets.tables import doubted, table_layer
from hzcli.nets.views import seen

# What heads predict is a small multiple of their output: an Adam step moves the result of a
# layer by rate x fan-in.
GAIN = 0.1


@dataclass(frozen=True)
class CDTNetConfig:
    """Numbers that give our CDTNet its size.

    thumbnail: edge in pixels, a multiple of 32. channels, blocks, code: of the encoder.
    luts: N. lut_size: n. width: channels of D. features: C. refine: hidden channels of R.
    refinement: False leaves the LUT alone, "CDTNet (sim)", and D and R out.
    closer, doubt: as HINet's.
    """

    thumbnail: int = 256
    channels: tuple[int, int, int, int] = (32, 64, 128, 192)
    blocks: int = 0
    code: int = 512
    luts: int = 128
    lut_size: int = 7
    width: int = 48
    features: int = 16
    refine: int = 24
    refinement: bool = True
    closer: int = 0
    doubt: float = 0.0

    READINGS: ClassVar[tuple[str, ...]] = ("thumbnail", "closer", "doubt")

    @classmethod
    def compact(cls) -> CDTNetConfig:
        """Small enough to train and run on a CPU."""
        return cls()

    @classmethod
    def sim(cls) -> CDTNetConfig:
        """The same without D and R."""
        return cls(refinement=False)

    @classmethod
    def from_shapes(
        cls, shapes: Mapping[str, tuple[int, ...]], readings: Mapping[str, str]
    ) -> CDTNetConfig:
        """The configuration behind tensors of these shapes; readings from a file's metadata.

        Raises:
            KeyError: a tensor that tells a number is missing. ValueError: a reading is none.
        """
        known = told(cls, readings)
        known["refinement"] = "refine.to_rgb.weight" in shapes
        if known["refinement"]:
            known["width"] = shapes["decoder.deep.weight"][0]
            known["features"] = shapes["decoder.to_rgb.weight"][1]
            known["refine"] = shapes["refine.to_rgb.weight"][1]
        luts, _, nodes = shapes["mapping.tables"]
        size = round(nodes ** (1 / 3))
        return cls(**CompactEncoder.sizes(shapes), luts=luts, lut_size=size, **known)


class Mapping3D(nn.Module):
    """Sec. 3.2: basis tables, and their weights from the code."""

    def __init__(self, code: int, count: int, size: int) -> None:
        super().__init__()
        # Random and smooth, and no weight: nothing is changed, and all may learn.
        self.size = size
        self.tables = nn.Parameter(_resized(normal(count, 3, 8), size))
        self.classifier = nn.Linear(code, count)
        nn.init.zeros_(self.classifier.weight)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, code: Tensor) -> Tensor:
        """Eq. (1): (B, code) to (B, 3, n, n, n), [channel][r][g][b]."""
        w = GAIN * self.classifier(code)
        mixed = torch.einsum("bn,ncx->bcx", w, self.tables).unflatten(2, (self.size,) * 3)
        return identity_lut(self.size, device=code.device) + mixed


def _resized(tables: Tensor, size: int) -> Tensor:
    """Tables (N, 3, n^3) at other nodes, trilinear."""
    if tables.is_meta:  # as `normal`: the shape alone is asked for
        return torch.empty(*tables.shape[:2], size**3)
    n = round(tables.shape[2] ** (1 / 3))
    cubes = tables.unflatten(2, (n, n, n))
    return F.interpolate(cubes, (size,) * 3, mode="trilinear", align_corners=True).flatten(2)


class Decoder(nn.Module):
    """D: maps at strides 16 and 8, the code, and colours at stride 4 to what the LUT's thumbnail
    lacks, and to F_dec."""

    def __init__(self, channels: tuple[int, ...], code: int, width: int, features: int) -> None:
        super().__init__()
        self.deep = nn.Conv2d(channels[3], width, 1)
        self.middle = nn.Conv2d(channels[2], width, 1)
        self.gates = nn.Linear(code, 2 * width)
        self.colours = nn.Conv2d(7, width // 2, 3, padding=1)
        self.join = nn.Conv2d(width + width // 2, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.last = nn.Conv2d(width, features, 3, padding=1)
        self.to_rgb = nn.Conv2d(features, 3, 1)
        nn.init.zeros_(self.to_rgb.weight)
        nn.init.zeros_(self.to_rgb.bias)  # type: ignore[arg-type]

    def forward(
        self, maps: tuple[Tensor, Tensor, Tensor], code: Tensor, rgb: Tensor, lut: Tensor, m: Tensor
    ) -> Tensor:
        """rgb, lut: (B, 3, h/4, w/4), composite and I_rgb; m: the mask there. To
        (B, 3 + C, h/4, w/4): I_pix - I_rgb, then F_dec."""
        x = F.silu(self.middle(maps[2]) + _doubled(self.deep(maps[1])))
        stem = F.silu(self.colours(torch.cat([2 * rgb - 1, 4 * (lut - rgb), m], 1)))
        x = F.silu(self.norm(self.join(torch.cat([_doubled(x), stem], 1))))
        # Of colours as well as of what is seen there: weights that the picture chooses.
        inside, outside = torch.sigmoid(self.gates(code))[:, :, None, None].chunk(2, 1)
        x = F.silu(self.last(x * torch.lerp(outside, inside, m)))
        return torch.cat([GAIN * self.to_rgb(x), x], 1)


def _doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


class Refine(nn.Module):
    """R: pixel by pixel."""

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(features + 7, width, 1)
        self.second = nn.Conv2d(width, width, 1)
        self.to_rgb = nn.Conv2d(width, 3, 1)
        nn.init.zeros_(self.to_rgb.weight)
        nn.init.zeros_(self.to_rgb.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """(B, 7 + C, H, W) to what is added, (B, 3, H, W)."""
        x = F.elu(self.first(x), inplace=not torch.is_grad_enabled())
        x = F.elu(self.second(x), inplace=not torch.is_grad_enabled())
        return GAIN * self.to_rgb(x)


@dataclass(frozen=True)
class Collaborative:
    """Both transformations of a picture, and the network that joins them.

    lut: (B, 3, n, n, n), [channel][r][g][b]. low: (B, 3 + C, h/4, w/4), what the pixel branch
    adds to the LUT's colours, and F_dec.
    """

    lut: Tensor
    low: Tensor
    refine: Refine

    @property
    def reach(self) -> Reach:
        # Floats a pixel: the enlarged maps beside R's input, or R's input and two hidden layers.
        low, hidden = self.low.shape[1], self.refine.to_rgb.in_channels
        return Reach(bytes_per_pixel=4 * max(5 * low + 24, 2 * low + 2 * hidden + 32))

    def apply(self, rgb: Tensor, mask: Tensor, window: Window) -> Tensor:
        mapped = lookup(self.lut, rgb)
        low = upsample(self.low, window, align_corners=False)
        pix = mapped + low[:, :3]
        x = torch.cat([2 * pix - 1, 2 * rgb - 1, mask, low[:, 3:]], 1)
        del low, mapped
        return pix + self.refine(x)


class CDTNet(nn.Module):
    """Predicts a Collaborative, or a Lut3D where there is no refinement, from a thumbnail."""

    takes_reference = False
    needs_closeup = False

    def __init__(self, config: CDTNetConfig) -> None:
        super().__init__()
        self.config = c = config
        self.card = WeightsCard(id="untrained", model="cdtnet", file="")
        self.encoder = CompactEncoder(c.channels, c.blocks, c.code)
        self.mapping = Mapping3D(c.code, c.luts, c.lut_size)
        if c.refinement:
            self.decoder = Decoder(c.channels, c.code, c.width, c.features)
            self.refine = Refine(c.features, c.refine)

    @property
    def thumbnail_edge(self) -> int:
        return self.config.thumbnail

    def predict(self, thumb: Thumbnail) -> Collaborative | Lut3D:
        """What is to be done to the full picture; of thumbnails of any size."""
        if not self.config.refinement:
            return self.predict_lut(thumb)
        rgb, mask, maps, code = seen(self, thumb.rgb, thumb.mask)
        lut = doubted(self, self.mapping(code), rgb, mask, most=1.0)
        rgb, mask = F.avg_pool2d(rgb, 4), F.avg_pool2d(mask, 4)
        low = self.decoder(maps, code, rgb, lookup(lut, rgb), mask)
        return Collaborative(lut, low, self.refine)

    def predict_lut(self, thumb: Thumbnail) -> Lut3D:
        """The RGB-to-RGB transformation alone; D is not run."""
        rgb, mask, _, code = seen(self, thumb.rgb, thumb.mask)
        return Lut3D(doubted(self, self.mapping(code), rgb, mask))

    def kindred(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors of `mapping` that give the tables that HINet's weights give.

        HINet's table is the identity and a linear layer of the code; its singular vectors are
        the basis, the first N of them.

        Args:
            state: HINet's tensors; of those of another network nothing is taken.
        """
        found = table_layer(state)
        if found is None or found[0].shape[1] != self.config.code:
            return {}
        weight, bias = found  # (3 m^3, code), (3 m^3,)
        # The bias is one table more, always with weight 1.
        u, s, v = torch.linalg.svd(weight, full_matrices=False)
        count = min(self.config.luts - 1, len(s))
        tables = torch.cat([(u * s.sqrt())[:, :count].T, bias[None]])
        tables = F.pad(tables, (0, 0, 0, self.config.luts - len(tables)))
        w = torch.zeros_like(self.mapping.classifier.weight)
        w[:count] = (v * s.sqrt()[:, None])[:count]
        constant = torch.zeros_like(self.mapping.classifier.bias)
        constant[count] = 1
        return {
            "mapping.tables": _resized(tables.unflatten(1, (3, -1)), self.config.lut_size),
            "mapping.classifier.weight": w / GAIN,
            "mapping.classifier.bias": constant / GAIN,
        }
