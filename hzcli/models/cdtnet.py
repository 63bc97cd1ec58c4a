"""CDTNet: High-Resolution Image Harmonization via Collaborative Dual Transformations.

Wenyan Cong, Xinhao Tao, Li Niu, Jing Liang, Xuesong Gao, Qihao Sun, Liqing Zhang. CVPR 2022,
arXiv 2109.06671. The authors' code: github.com/bcmi/CDTNet-High-Resolution-Image-Harmonization
(no licence); this file is written from the paper and from measurements, not from that code.

A U-Net harmonises a thumbnail (pixel-to-pixel, Sec. 3.1); its bottleneck also predicts how
learnt tables are mixed into one 3D LUT for the full picture (RGB-to-RGB, Sec. 3.2); two
convolutions at full resolution join both (refinement, Sec. 3.3). CDTNet (sim) is the LUT alone.

Where paper and code differ, both can be had; `CDTNetConfig.published` follows the code, our own
configurations take the other reading:
  - pooling="whole": f_f and f_b are sums over foreground and background divided by the area of
    the whole map, of a mask sampled at points: small foregrounds count next to nothing.
    "area": means over the mask's area, of M^lr, as Sec. 3.2 says.
  - clamp: Sec. 4.2 clips the LUT's colours to [0, 1]; the code does not.
  - blend: the code lets the refined picture change the background, too. True lays it over the
    composite by the mask. (hz does so in any case when it writes a picture.)
  - legacy_layout: the authors' CUDA operator reads a batch (B, 3, H, W) as (3, B, H, W), which
    mixes the channels of different pictures as soon as B > 1; their networks were trained so.
    False, here also for published weights: pictures are independent of each other, and one by
    one, as they are evaluated, both are equal.
Not in the paper: head="residual" adds what both blending layers predict to the composite and to
the LUT's colours, so that an untrained network changes nothing. With channels, nets/compact.py
looks at the thumbnail as well and has its say in the coefficients {w_n}.

Letters: B pictures, N tables of n nodes a side, S edge of the thumbnail, (H, W) the full
picture, C channels of F_dec, L channels of the pooled features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hzcli.catalog import WeightsCard
from hzcli.core.lut import Lut3D, identity_lut, lookup
from hzcli.core.sampling import upsample
from hzcli.core.transform import Reach, Thumbnail
from hzcli.core.window import Size, Window
from hzcli.nets.compact import CompactEncoder
from hzcli.nets.unet import Decoder, Encoder, Head, blending_layer, convolve

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, as the U-Net's
# The authors' tables span a little more than [0, 1], so that 1.0 has a node above it.
SPAN = 1.000001
HALO = 2  # two convolutions of 3x3
SOFT = 0.1  # of the tables' polynomials, and of what their weights start from

Pooling = Literal["whole", "area"]


# --- Configuration --------------------------------------------------------------------------


@dataclass(frozen=True)
class CDTNetConfig:
    """Numbers that give a CDTNet its size, then the readings that no tensor shows.

    widths: channels of the U-Net's levels, finest first. norm_from: its first level with batch
    normalisation. attend_from, attention: see nets.unet.Decoder. luts: N. lut_size: n.
    pooled: L. refine: hidden channels of the refinement. channels, blocks, code: of the encoder
    that looks as well; () for none.

    thumbnail: edge of the thumbnail that weights were made for. thumbnail_filter: how it is to
    be made. refinement: False leaves the LUT alone, "CDTNet (sim)". The others: see above.
    """

    widths: tuple[int, ...] = (32, 64, 128, 256)
    norm_from: int = 2
    attend_from: int = 2
    attention: float = 0.5
    luts: int = 4
    lut_size: int = 33
    pooled: int = 256
    refine: int = 64
    channels: tuple[int, ...] = ()
    blocks: int = 0
    code: int = 0

    thumbnail: int = 256
    thumbnail_filter: str = "bilinear"
    refinement: bool = True
    pooling: Pooling = "whole"
    clamp: bool = False
    blend: bool = False
    legacy_layout: bool = False
    head: Head = "blend"

    READINGS: ClassVar[tuple[str, ...]] = (
        "thumbnail", "thumbnail_filter", "refinement", "pooling", "clamp", "blend",
        "legacy_layout", "head",
    )  # fmt: skip

    @classmethod
    def published(cls, variant: str = "cdtnet") -> CDTNetConfig:
        """The authors' network: "cdtnet", or "cdtnet-sim" for the LUT alone.

        Raises:
            ValueError: there is no such variant.
        """
        if variant not in ("cdtnet", "cdtnet-sim"):
            raise ValueError(f"there is no variant {variant!r}: cdtnet or cdtnet-sim")
        return cls(refinement=variant == "cdtnet")

    @classmethod
    def compact(cls) -> CDTNetConfig:
        """Small enough to train and run on a CPU, with the better readings."""
        return cls(
            widths=(16, 32, 64, 128, 192), luts=31, lut_size=17, pooled=128, refine=16,
            attend_from=3, channels=(32, 64, 128, 192), blocks=3, code=512,
            thumbnail=224, thumbnail_filter="area",
            pooling="area", clamp=True, blend=True, head="residual",
        )  # fmt: skip


# --- RGB-to-RGB transformation (Sec. 3.2) ---------------------------------------------------


class _Table(nn.Module):
    """A basis transformation Phi_n: (3, n, n, n), indexed [channel][b][g][r]."""

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.LUT = nn.Parameter(values)


class WeightPredictor(nn.Module):
    """F_enc and mask to the coefficients {w_n}."""

    def __init__(self, channels: int, pooled: int, luts: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, pooled, 1)
        self.fc = nn.Conv2d(2 * pooled, luts, 1)
        nn.init.xavier_uniform_(self.conv.weight, SOFT)  # the identity's coefficient moves gently
        nn.init.zeros_(self.fc.weight)
        with torch.no_grad():  # w = (1, 0, 0, ...): the first table is the identity
            self.fc.bias.zero_()  # type: ignore[union-attr]
            self.fc.bias[:1] = 1  # type: ignore[index]

    def forward(self, features: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
        """F_enc (B, C, h, w) and the mask at its size (B, 1, h, w) to w (B, N)."""
        # All is linear: features are pooled before the convolution, at a fraction of its cost.
        flat, m = features.flatten(2), mask.flatten(2)
        pooled, bias = [], self.conv.bias
        assert bias is not None
        for side in (m, 1 - m):  # foreground f_f, background f_b
            mean, area = (flat @ side.mT).squeeze(2) / flat.shape[2], side.mean(2)
            if pooling == "area":
                mean, area = mean / area.clamp_min(1e-6), torch.ones_like(area)
            pooled.append(F.linear(mean, self.conv.weight.flatten(1)) + area * bias)
        f = torch.cat(pooled, 1)  # f = f_f o f_b
        return F.linear(f, self.fc.weight.flatten(1), self.fc.bias)


class ColourMapping(nn.Module):
    """Basis LUTs and the predictor of their weights."""

    def __init__(self, config: CDTNetConfig) -> None:
        super().__init__()
        for n, values in enumerate(_basis(config.luts, config.lut_size)):
            self.add_module(f"LUT{n}", _Table(values))
        self.classifier = WeightPredictor(config.widths[-1], config.pooled, config.luts)

    def combine(self, w: Tensor) -> Tensor:
        """sum_n w_n Phi_n of eq. (1): w (B, N) to (B, 3, n, n, n), [channel][r][g][b]."""
        tables: list[Tensor] = [self.get_parameter(f"LUT{n}.LUT") for n in range(w.shape[1])]
        mixed = w @ torch.stack(tables).flatten(1)
        return mixed.unflatten(1, tables[0].shape).permute(0, 1, 4, 3, 2)


def _basis(count: int, size: int) -> list[Tensor]:
    """Tables to start from: the identity, then polynomials of r, g, b up to degree two.

    Each moves one output channel; degrees rise. Random numbers when there are more tables than
    polynomials. None is 0: a table of zeros whose coefficient is 0 would never learn.
    """
    r, g, b = identity_lut(size)
    if r.is_meta:  # weights are about to be loaded
        return [torch.empty(3, size, size, size) for _ in range(count)]
    one = torch.ones_like(r)
    x, y, z = 2 * r - 1, 2 * g - 1, 2 * b - 1
    first, second = (x, y, z), (x * y, y * z, z * x, x * x - 1, y * y - 1, z * z - 1)
    tables = [torch.stack([r, g, b])]
    for polynomial in (one, *first, *second):
        for channel in range(3):
            table = torch.zeros(3, size, size, size)
            table[channel] = SOFT * polynomial
            tables.append(table)
    tables += [SOFT * (2 * torch.rand(3, size, size, size) - 1) for _ in range(count - len(tables))]
    return [table.permute(0, 3, 2, 1).contiguous() for table in tables[:count]]


def look_up(lut: Tensor, rgb: Tensor, legacy_layout: bool = False) -> Tensor:
    """Phi(I) of eq. (1), as the authors' operator places the nodes: at k * SPAN / (n - 1).

    Args:
        lut: (B, 3, n, n, n), [channel][r][g][b]. rgb: (B, 3, H, W), [0, 1].
        legacy_layout: see the head of this file; one table for all pictures then.
    """
    if not legacy_layout:
        return lookup(lut, rgb / SPAN)
    planes = rgb.reshape(3, len(rgb), *rgb.shape[2:]).transpose(0, 1)  # as (3, B, H, W)
    return lookup(lut, planes / SPAN).transpose(0, 1).reshape(rgb.shape)


def on_nodes(lut: Tensor) -> Tensor:
    """The same table with its nodes at k / (n - 1), where Lut3D has them."""
    n = lut.shape[-1]
    nodes = identity_lut(n, device=lut.device).to(lut).flatten(2)  # (3, n, n * n)
    return lookup(lut, nodes.expand(len(lut), -1, -1, -1) / SPAN).view(lut.shape)


# --- Refinement (Sec. 3.3) ------------------------------------------------------------------


class Refine(nn.Module):
    """R: two convolutions with batch normalisation and ELU, and a blending layer."""

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv2d(features + 7, width, 3, padding=1), nn.BatchNorm2d(width), nn.ELU(),
            nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ELU(),
        )  # fmt: skip
        self.conv_attention = nn.Conv2d(width, 1, 1)
        self.to_rgb = nn.Conv2d(width, 3, 1)

    def forward(self, x: Tensor, under: Tensor, head: Head) -> Tensor:
        """x (B, C + 7, h, w), and what is blended with, (B, 3, h, w); normalised colours."""
        for index in (0, 3):
            conv, norm = self.block[index], self.block[index + 1]
            assert isinstance(conv, nn.Conv2d)
            x = F.elu(convolve(conv, norm, x), inplace=not torch.is_grad_enabled())
        return blending_layer(self.conv_attention, self.to_rgb, x, under, head)


@dataclass(frozen=True)
class RefinedLut:
    """Both transformations of a picture, and the network that joins them where it is asked to.

    lut: (B, 3, n, n, n), [channel][r][g][b], for `look_up`. low: (B, 3 + C, S, S), the
    harmonised thumbnail I_pix^lr (normalised colours) and F_dec.
    """

    lut: Tensor
    low: Tensor
    refine: Refine
    head: Head
    clamp: bool

    @property
    def reach(self) -> Reach:
        low, hidden = self.low.shape[1], self.refine.to_rgb.in_channels
        # Floats a pixel, as measured: while `low` is enlarged, and while the second of the
        # convolutions runs.
        floats = max(5 * low + 24, low + 3 * hidden + 32)
        return Reach(halo=HALO, bytes_per_pixel=4 * floats)

    @property
    def base(self) -> Tensor:
        """I_pix^lr (B, 3, S, S), [0, 1] space, not clamped."""
        return denormalise(self.low[:, :3])

    def apply(self, rgb: Tensor, mask: Tensor, window: Window) -> Tensor:
        mapped = look_up(self.lut, rgb)
        return self.join(rgb, mask, mapped.clamp(0, 1) if self.clamp else mapped, window)

    def join(self, rgb: Tensor, mask: Tensor, mapped: Tensor, window: Window) -> Tensor:
        """I^hr of one window from its composite, mask, and I_rgb^hr before the mask."""
        rgb_result = normalise(mapped * mask + rgb * (1 - mask))  # the background remains
        low = upsample(self.low, window, align_corners=False)  # Up(I_pix^lr), Up(F_dec)
        x = torch.cat([low[:, :3], rgb_result, mask, low[:, 3:]], 1)
        del low  # a third of what this window takes
        under = normalise(rgb) if self.head == "blend" else rgb_result
        return denormalise(self.refine(x, under, self.head))


def normalise(rgb: Tensor) -> Tensor:
    """(B, 3, h, w) from [0, 1] to the U-Net's colours."""
    return (rgb - _colour(MEAN, rgb)) / _colour(DEVIATION, rgb)


def denormalise(rgb: Tensor) -> Tensor:
    """(B, 3, h, w) from the U-Net's colours to [0, 1]."""
    return rgb * _colour(DEVIATION, rgb) + _colour(MEAN, rgb)


def _colour(values: tuple[float, float, float], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device).view(1, 3, 1, 1)


# --- The network ----------------------------------------------------------------------------


class CDTNet(nn.Module):
    """Predicts a RefinedLut, or a Lut3D where there is no refinement, from a thumbnail."""

    takes_reference = False
    needs_closeup = False

    def __init__(self, config: CDTNetConfig) -> None:
        super().__init__()
        self.config = config
        self.card = WeightsCard(id="untrained", model="cdtnet", file="")
        self.encoder = Encoder(4, config.widths, config.norm_from)
        self.decoder = Decoder(config.widths, config.attend_from, config.attention)
        self.lut = ColourMapping(config)
        self.refine = Refine(config.widths[0], config.refine)
        if config.channels:
            self.observer = CompactEncoder(config.channels, config.blocks, config.code)  # type: ignore[arg-type]
            self.observed = nn.Linear(config.code, config.luts)
            nn.init.zeros_(self.observed.weight)
            nn.init.zeros_(self.observed.bias)
        if config.head == "residual":
            for layer in (self.decoder.to_rgb, self.refine.to_rgb):
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    @property
    def thumbnail_edge(self) -> int:
        return self.config.thumbnail

    @property
    def thumbnail_filter(self) -> str:
        return self.config.thumbnail_filter

    @property
    def mask_edges(self) -> tuple[int, ...]:
        """Edges of the masks wanted in `Thumbnail.masks`: that of F_enc, where pooling samples the
        full picture's mask; none where the thumbnail's serves."""
        if self.config.pooling == "area":
            return ()
        return (self.config.thumbnail >> len(self.config.widths) - 1,)

    def predict(self, thumb: Thumbnail) -> RefinedLut | Lut3D:
        """What is to be done to the full picture.

        Args:
            thumb: of any size; the published networks were trained on squares of 256 or 512.
                With F_enc's size among its `masks` (see `mask_edges`), pooling is that of the
                full picture; without it, that of the thumbnail's mask.
        """
        if not self.config.refinement:
            return self.predict_lut(thumb)
        x, maps = self._encode(thumb.rgb, thumb.mask)
        return self._refined(x, maps, self._combined(thumb, maps[0]))

    def predict_lut(self, thumb: Thumbnail) -> Lut3D:
        """The RGB-to-RGB transformation alone; the decoder is not run."""
        _, maps = self._encode(thumb.rgb, thumb.mask)
        return Lut3D(on_nodes(self._combined(thumb, maps[0])))

    def predict_both(self, thumb: Thumbnail) -> tuple[RefinedLut, Lut3D]:
        """Both, for the price of the first, whatever `refinement` says: to train them at once."""
        x, maps = self._encode(thumb.rgb, thumb.mask)
        lut = self._combined(thumb, maps[0])
        return self._refined(x, maps, lut), Lut3D(on_nodes(lut))

    def forward(self, image: Tensor, mask: Tensor, lr: int = 256) -> dict[str, Tensor]:
        """Harmonise whole pictures, as the authors' network is called.

        Args:
            image: (B, 3, H, W), [0, 1]. mask: (B, 1, H, W), soft, [0, 1].
            lr: S, the edge of the square that the U-Net sees.

        Returns:
            images and lut_images (B, 3, H, W), base_images (B, 3, S, S), [0, 1] space, not
            clamped; w (B, N); F_enc (B, C, S/8, S/8) and F_dec (B, C, S, S).
        """
        c = self.config
        small = [
            F.interpolate(t, (lr, lr), mode="bilinear", align_corners=False) for t in (image, mask)
        ]
        x, maps = self._encode(*small)
        w = self._weights(maps[0], mask if c.pooling == "whole" else small[1])
        w = w + self._observe(*small)
        lut = self.lut.combine(w)
        if c.legacy_layout:
            # Tables are read before they are mixed: a picture's planes meet other pictures'.
            axes = torch.eye(c.luts, dtype=w.dtype, device=w.device)
            planes = [
                look_up(t[None].expand(len(image), -1, -1, -1, -1), image, legacy_layout=True)
                for t in self.lut.combine(axes)
            ]
            mapped = torch.einsum("bn,nbchw->bchw", w, torch.stack(planes))
        else:
            mapped = look_up(lut, image)
        mapped = mapped.clamp(0, 1) if c.clamp else mapped
        lut_images = mapped * mask + image * (1 - mask)
        refined = self._refined(x, maps, lut)
        images = lut_images
        if c.refinement:
            window = Window.whole(Size(*image.shape[2:]))
            images = refined.join(image, mask, mapped, window)
            images = images * mask + image * (1 - mask) if c.blend else images
        return {
            "images": images,
            "lut_images": lut_images,
            "base_images": refined.base,
            "w": w,
            "F_enc": maps[0],
            "F_dec": refined.low[:, 3:],
        }

    def _encode(self, rgb: Tensor, mask: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The U-Net's input (B, 4, S, S) and E's maps, F_enc first."""
        x = torch.cat([normalise(rgb), mask], 1)
        return x, self.encoder(x)

    def _weights(self, features: Tensor, mask: Tensor) -> Tensor:
        """{w_n} (B, N) from F_enc and a mask of any size."""
        size, pooling = features.shape[2:], self.config.pooling
        if pooling == "area":
            small = F.adaptive_avg_pool2d(mask, (size[0], size[1]))
        else:
            small = F.interpolate(mask, size, mode="bilinear", align_corners=False)
        return self.lut.classifier(features, small, pooling)

    def _combined(self, thumb: Thumbnail, features: Tensor) -> Tensor:
        masks = thumb.masks or {}
        w = self._weights(features, masks.get(features.shape[2], thumb.mask))
        return self.lut.combine(w + self._observe(thumb.rgb, thumb.mask))

    def _observe(self, rgb: Tensor, mask: Tensor) -> Tensor | float:
        """What the encoder that looks as well adds to {w_n}: (B, N)."""
        if not self.config.channels:
            return 0.0
        size = tuple(max(32, round(edge / 32) * 32) for edge in rgb.shape[2:])
        if size != rgb.shape[2:]:
            rgb, mask = (F.interpolate(t, size, mode="area") for t in (rgb, mask))
        return SOFT * self.observed(self.observer(rgb, mask)[1])

    def _refined(self, x: Tensor, maps: list[Tensor], lut: Tensor) -> RefinedLut:
        """Runs D, and keeps what the refinement needs of it."""
        c = self.config
        f_dec = self.decoder(maps, x[:, 3:])
        pix = blending_layer(
            self.decoder.conv_attention, self.decoder.to_rgb, f_dec, x[:, :3], c.head
        )
        return RefinedLut(lut, torch.cat([pix, f_dec], 1), self.refine, c.head, c.clamp)


# --- Weights --------------------------------------------------------------------------------


def published(variant: str = "cdtnet") -> CDTNet:
    """The network exactly as published, eval mode, with untrained weights.

    Args:
        variant: "cdtnet", or "cdtnet-sim" for the LUT alone; both have the same keys.
    """
    return CDTNet(CDTNetConfig.published(variant)).eval()


_FIRST = ".convs.block.0.block.0.weight"
_CHOICES = {
    "thumbnail_filter": ("area", "bilinear", "triangle"),
    "pooling": ("whole", "area"),
    "head": ("blend", "residual"),
}


def detect(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """ "cdtnet" for keys and shapes of this network, published or ours; None for all others.

    Also None for the network of the same name in libcom, which has another encoder, and for a
    U-Net of iS2AM alone.
    """
    try:
        config = config_from(shapes, {})
    except (KeyError, ValueError, IndexError):
        return None
    wanted = {
        "encoder.block0.convs.block.0.block.0.weight": (config.widths[0], 4, 3, 3),
        "decoder.to_rgb.weight": (3, config.widths[0], 1, 1),
        "lut.LUT0.LUT": (3, *(config.lut_size,) * 3),
        "lut.classifier.conv.weight": (config.pooled, config.widths[-1], 1, 1),
        "lut.classifier.fc.weight": (config.luts, 2 * config.pooled, 1, 1),
        "refine.block.0.weight": (config.refine, config.widths[0] + 7, 3, 3),
    }
    fits = all(tuple(shapes.get(key, ())) == shape for key, shape in wanted.items())
    return "cdtnet" if fits else None


def config_from(shapes: Mapping[str, tuple[int, ...]], readings: Mapping[str, str]) -> CDTNetConfig:
    """The configuration behind weights.

    Args:
        shapes: of every tensor. readings: metadata; what it lacks is as published.

    Raises:
        KeyError: a tensor that tells a number is missing. ValueError: a reading is none.
    """
    levels = ["encoder.block0", "encoder.block1"]
    connected = "encoder.blocks_connected.block{}"
    while connected.format(len(levels)) + _FIRST in shapes:
        levels.append(connected.format(len(levels)))
    normed = [level + ".convs.block.0.block.1.weight" in shapes for level in levels]
    up = "decoder.up_blocks.{}.attention.learning_block.0.block.0.weight"
    attended = [up.format(d) for d in range(len(levels) - 1) if up.format(d) in shapes]
    first = attended[0] if attended else ""
    seen = CompactEncoder.sizes(shapes, "observer.") if "observer.share" in shapes else {}
    told = {name: readings[name] for name in CDTNetConfig.READINGS if name in readings}
    return CDTNetConfig(
        widths=tuple(shapes[level + _FIRST][0] for level in levels),
        norm_from=normed.index(True) if True in normed else len(levels),
        attend_from=int(first.split(".")[2]) if attended else len(levels) - 1,
        attention=shapes[first][0] / shapes[first][1] if attended else CDTNetConfig.attention,
        luts=sum(key.startswith("lut.LUT") for key in shapes),
        lut_size=shapes["lut.LUT0.LUT"][-1],
        pooled=shapes["lut.classifier.conv.weight"][0],
        refine=shapes["refine.block.0.weight"][0],
        **seen,
        **{name: _reading(name, text) for name, text in told.items()},
    )


def _reading(name: str, text: str) -> Any:
    """A field of the configuration from its text in metadata."""
    default = getattr(CDTNetConfig, name)
    if isinstance(default, bool):
        choices: tuple[str, ...] = ("false", "true")
        text = text.lower()
    elif isinstance(default, int):
        return int(text)
    else:
        choices = _CHOICES[name]
    if text not in choices:
        raise ValueError(f"{name} is {text!r}, expected {' or '.join(choices)}")
    return text == "true" if isinstance(default, bool) else text
