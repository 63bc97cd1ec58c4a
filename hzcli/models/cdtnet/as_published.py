"""CDTNet as its authors' code has it, and with the paper's readings; the paper's equations.

A U-Net harmonises a thumbnail (pixel-to-pixel, Sec. 3.1); its bottleneck also predicts how
learnt tables are mixed into one 3D LUT for the full picture (RGB-to-RGB, Sec. 3.2); two
convolutions at full resolution join both (refinement, Sec. 3.3). CDTNet (sim) is the LUT alone.

Where paper and code differ, both can be had; the code's reading is the default:
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

Letters: B pictures, N tables of n nodes a side, S edge of the thumbnail, (H, W) the full
picture, C channels of F_dec, L channels of the pooled features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hzcli.catalog import WeightsCard
from hzcli.core.lut import Lut3D
from hzcli.core.sampling import upsample
from hzcli.core.transform import Reach, Thumbnail
from hzcli.core.window import Size, Window
from hzcli.models.cdtnet.mapping import ColourMapping, Pooling, look_up, on_nodes
from hzcli.models.told import Filter
from hzcli.nets.unet import Decoder, Encoder, blending_layer, convolve

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, as the U-Net's
HALO = 2  # two convolutions of 3x3


# --- Configuration --------------------------------------------------------------------------


@dataclass(frozen=True)
class PublishedConfig:
    """Numbers that give a CDTNet its size, then the readings that no tensor shows.

    widths: channels of the U-Net's levels, finest first. norm_from: its first level with batch
    normalisation. attend_from, attention: see nets.unet.Decoder. luts: N. lut_size: n.
    pooled: L. refine: hidden channels of the refinement.

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

    thumbnail: int = 256
    thumbnail_filter: Filter = "bilinear"
    refinement: bool = True
    pooling: Pooling = "whole"
    clamp: bool = False
    blend: bool = False
    legacy_layout: bool = False

    READINGS: ClassVar[tuple[str, ...]] = (
        "thumbnail", "thumbnail_filter", "refinement", "pooling", "clamp", "blend",
        "legacy_layout",
    )  # fmt: skip

    @classmethod
    def published(cls, variant: str = "cdtnet") -> PublishedConfig:
        """The authors' network: "cdtnet", or "cdtnet-sim" for the LUT alone.

        Raises:
            ValueError: there is no such variant.
        """
        if variant not in ("cdtnet", "cdtnet-sim"):
            raise ValueError(f"there is no variant {variant!r}: cdtnet or cdtnet-sim")
        return cls(refinement=variant == "cdtnet")


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

    def forward(self, x: Tensor, under: Tensor) -> Tensor:
        """x (B, C + 7, h, w), and what is blended with, (B, 3, h, w); normalised colours."""
        for index in (0, 3):
            conv, norm = self.block[index], self.block[index + 1]
            assert isinstance(conv, nn.Conv2d)
            x = F.elu(convolve(conv, norm, x), inplace=not torch.is_grad_enabled())
        return blending_layer(self.conv_attention, self.to_rgb, x, under)


@dataclass(frozen=True)
class RefinedLut:
    """Both transformations of a picture, and the network that joins them where it is asked to.

    lut: (B, 3, n, n, n), [channel][r][g][b], for `look_up`. low: (B, 3 + C, S, S), the
    harmonised thumbnail I_pix^lr (normalised colours) and F_dec.
    """

    lut: Tensor
    low: Tensor
    refine: Refine
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
        return denormalise(self.refine(x, normalise(rgb)))


def normalise(rgb: Tensor) -> Tensor:
    """(B, 3, h, w) from [0, 1] to the U-Net's colours."""
    return (rgb - _colour(MEAN, rgb)) / _colour(DEVIATION, rgb)


def denormalise(rgb: Tensor) -> Tensor:
    """(B, 3, h, w) from the U-Net's colours to [0, 1]."""
    return rgb * _colour(DEVIATION, rgb) + _colour(MEAN, rgb)


def _colour(values: tuple[float, float, float], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device).view(1, 3, 1, 1)


# --- The network ----------------------------------------------------------------------------


class PublishedCDTNet(nn.Module):
    """Predicts a RefinedLut, or a Lut3D where there is no refinement, from a thumbnail."""

    takes_reference = False
    needs_closeup = False

    def __init__(self, config: PublishedConfig) -> None:
        super().__init__()
        self.config = config
        self.card = WeightsCard(id="untrained", model="cdtnet", file="")
        self.encoder = Encoder(4, config.widths, config.norm_from)
        self.decoder = Decoder(config.widths, config.attend_from, config.attention)
        self.lut = ColourMapping(config.widths[-1], config.pooled, config.luts, config.lut_size)
        self.refine = Refine(config.widths[0], config.refine)

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
        return self.lut.combine(w)

    def _refined(self, x: Tensor, maps: list[Tensor], lut: Tensor) -> RefinedLut:
        """Runs D, and keeps what the refinement needs of it."""
        f_dec = self.decoder(maps, x[:, 3:])
        pix = blending_layer(self.decoder.conv_attention, self.decoder.to_rgb, f_dec, x[:, :3])
        return RefinedLut(lut, torch.cat([pix, f_dec], 1), self.refine, self.config.clamp)
