"""PCT-Net: Full Resolution Image Harmonization Using Pixel-Wise Color Transformations.

Julian Jorge Andrade Guerreiro, Mitsuru Nakazawa, Björn Stenger. CVPR 2023. The authors' code:
github.com/rakutentech/PCT-Net-Image-Harmonization (MPL-2.0), read at commit 1572176; this file
is written from the mathematics and from measurements, not from that code.

A network sees a thumbnail and predicts an affine transformation of colours, Theta = (A, b), at
each of its places. Theta is enlarged to the full picture I, and each pixel (x, y) goes through
its own:

    F(I, Theta)(x, y) = A(x, y) I(x, y) + b(x, y),     A 3x3, b of 3 numbers, in RGB

Here is the CNN variant, whose network is the U-Net of iS2AM (nets/unet.py); Theta is a 1x1
convolution of its last features.

What the authors' code does beyond that formula, and the other readings:
  - colours="normalised": A takes colours normalised by ImageNet's mean and deviation, and gives
    colours in [0, 1]; the identity is A = diag(deviation), b = mean. "plain": [0, 1] on both
    sides.
  - blend="attention": F is clamped to [0, 1]; then an attention map a of the U-Net, enlarged
    like Theta, chooses between F and the composite: a F + (1 - a) I. The mask has no part in
    that, so the background changes as well. (hz keeps it, and lays what is here over the
    composite by the mask.) "mask": F alone, for the mask to lay over the composite; no clamp.
  - mode="bicubic": of both enlargements; it overshoots, so that a may leave [0, 1].
    "bilinear" does not.
  - decoder.to_rgb is in the authors' weights and takes no part in anything.
Published weights want the first of each. Our own configurations take "plain" and "mask": with
them nothing is needed at full resolution but the maps.

Both Theta and normalisation are affine, and the weights of an interpolation sum to 1: so the
normalisation is folded into the maps before they are enlarged, and the full picture never is
normalised.

Letters: B pictures, (gh, gw) the grid of Theta, C channels, (h, w) thumbnail, (H, W) picture.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hzcli.catalog import WeightsCard
from hzcli.core.affine import AffineMap, Tile, as_maps, recolour, recoloured, tiles
from hzcli.core.lut import Lut3D, fit_lut
from hzcli.core.sampling import Mode
from hzcli.core.transform import Reach, Thumbnail
from hzcli.core.window import Size, Window
from hzcli.models.told import Filter, told
from hzcli.nets.compact import CompactEncoder
from hzcli.nets.unet import SHARPNESS, Decoder, Encoder

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet
NORM_FROM, ATTEND_FROM, ATTENTION = 2, 2, 0.5  # of the U-Net, see nets/unet.py
PARAMETERS = 12  # of Theta at one place: A row by row, then b
# What the compact network predicts is a small multiple of its heads, so that one learning rate
# suits them and the encoder.
GAIN = 0.1

Colours = Literal["normalised", "plain"]
Blend = Literal["attention", "mask"]


# --- Configuration --------------------------------------------------------------------------


@dataclass(frozen=True)
class PCTNetConfig:
    """Numbers that give a PCT-Net its size, then the readings that no tensor shows.

    encoder: "unet" (the paper's) or "compact" (nets/compact.py). channels: of its four levels,
    finest first. blocks, code: of the compact encoder. hyper: channels of its decoder.

    thumbnail: edge of the thumbnail that weights were made for; for the compact encoder a
    multiple of 32. thumbnail_filter: how it is to be made. The others: see above.
    """

    encoder: Literal["unet", "compact"] = "unet"
    channels: tuple[int, ...] = (32, 64, 128, 256)
    blocks: int = 0
    code: int = 0
    hyper: int = 0

    thumbnail: int = 256
    thumbnail_filter: Filter = "bilinear"
    colours: Colours = "normalised"
    blend: Blend = "attention"
    mode: Mode = "bicubic"

    READINGS: ClassVar[tuple[str, ...]] = (
        "thumbnail", "thumbnail_filter", "colours", "blend", "mode",
    )  # fmt: skip

    @classmethod
    def published(cls, variant: str = "pctnet") -> PCTNetConfig:
        """The authors' CNN.

        Raises:
            ValueError: there is no such variant.
        """
        if variant != "pctnet":
            raise ValueError(f"there is no variant {variant!r}: pctnet")
        return cls()

    @classmethod
    def compact(cls) -> PCTNetConfig:
        """Small enough to train and run on a CPU, with the better readings."""
        return cls(
            encoder="compact", channels=(32, 64, 128, 192), blocks=0, code=512, hyper=128,
            thumbnail=224, thumbnail_filter="area", colours="plain", blend="mask",
        )  # fmt: skip


# --- Theta and its use ----------------------------------------------------------------------


def identity_theta(colours: Colours) -> Tensor:
    """The transformation that changes nothing, (12,): A row by row, then b."""
    plain = colours == "plain"
    scale, offset = (
        (torch.ones(3), torch.zeros(3)) if plain else map(torch.tensor, (DEVIATION, MEAN))
    )
    return torch.cat([torch.diag(scale).flatten(), offset])


def theta_maps(theta: Tensor, colours: Colours) -> Tensor:
    """Theta in the form of an AffineMap, for colours in [0, 1].

    Args:
        theta: (B, 12, gh, gw), A row by row, then b.
        colours: which A takes. A normalised n(I) = (I - m) / s gives A n(I) + b = A' I + b' with
            A' = A diag(1 / s), b' = b - A' m.

    Returns:
        (B, 12, gh, gw), (3, 4) at each place.
    """
    matrix, offset = theta[:, :9].unflatten(1, (3, 3)), theta[:, 9:]
    if colours == "normalised":
        matrix = matrix / _numbers(DEVIATION, theta).view(1, 1, 3, 1, 1)
        offset = offset - torch.einsum("brkhw,k->brhw", matrix, _numbers(MEAN, theta))
    return as_maps(matrix, offset)


@dataclass(frozen=True)
class AttendedMap:
    """An affine map, clamped, laid over the composite by an attention map: a F + (1 - a) I.

    maps: (B, 13, gh, gw): those of an AffineMap, then a.
    """

    maps: Tensor
    mode: Mode

    @property
    def reach(self) -> Reach:
        return AffineMap(self.maps, self.mode).reach

    def apply(self, rgb: Tensor, mask: Tensor, window: Window) -> Tensor:
        del mask

        def work(composite: Tensor, tile: Tile) -> Tensor:
            mapped = tile.mixed([recolour(maps[:, :PARAMETERS], composite) for maps in tile.maps])
            attention = tile.mixed([maps[:, PARAMETERS:] for maps in tile.maps])
            return torch.lerp(composite, mapped.clamp(0, 1), attention)

        parts = tiles(self.maps, window, align_corners=False, mode=self.mode)
        return recoloured(rgb, parts, work)


def _numbers(values: tuple[float, ...], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device)


# --- The network ----------------------------------------------------------------------------


class PCTNet(nn.Module):
    """Predicts an AffineMap, or an AttendedMap as published, from a thumbnail."""

    takes_reference = False
    needs_closeup = False

    def __init__(self, config: PCTNetConfig) -> None:
        super().__init__()
        self.config = config
        self.card = WeightsCard(id="untrained", model="pctnet", file="")
        c = config
        if c.encoder == "unet":
            self.encoder: nn.Module = Encoder(4, c.channels, NORM_FROM)
            self.decoder: nn.Module = Decoder(c.channels, ATTEND_FROM, ATTENTION)
            self.get_params = nn.Conv2d(c.channels[0], PARAMETERS, 1)
        elif c.blend == "attention":
            raise ValueError("the compact encoder has no attention map: blend is to be 'mask'")
        else:
            self.encoder = CompactEncoder(c.channels, c.blocks, c.code)  # type: ignore[arg-type]
            self.decoder = CompactDecoder(c.channels, c.code, c.hyper)
            self.get_params = nn.Conv2d(c.hyper, PARAMETERS, 1)
        self._start()

    def _start(self) -> None:
        """Theta begins as the transformation that changes nothing."""
        head = self.get_params
        assert head.bias is not None
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        if self.config.encoder == "unet" and not head.bias.is_meta:
            with torch.no_grad():
                head.bias.copy_(identity_theta(self.config.colours))

    @property
    def thumbnail_edge(self) -> int:
        return self.config.thumbnail

    @property
    def thumbnail_filter(self) -> str:
        return self.config.thumbnail_filter

    def predict(self, thumb: Thumbnail) -> AffineMap | AttendedMap:
        """The transformation of each pixel of a picture.

        Args:
            thumb: of any size; for the compact encoder with sides that are multiples of 32. The
                published network was trained on squares of 256.
        """
        theta, attention = self._theta(thumb.rgb, thumb.mask)
        return self._transform(theta, attention)

    def predict_lut(self, thumb: Thumbnail) -> Lut3D:
        """The table that comes nearest to the transformation of the thumbnail's foreground."""
        window = Window.whole(Size(*thumb.rgb.shape[2:]))
        result = self.predict(thumb).apply(thumb.rgb, thumb.mask, window)
        return Lut3D(fit_lut(thumb.rgb, result, thumb.mask))

    def forward(
        self,
        image: Tensor,
        mask: Tensor,
        image_fullres: Tensor | None = None,
        mask_fullres: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Harmonise whole pictures with the authors' network, as it is called by them.

        Args:
            image: (B, 3, h, w), [0, 1], the thumbnail. mask: (B, 1, h, w), soft, [0, 1].
            image_fullres: (B, 3, H, W), [0, 1]. mask_fullres: has no effect, as there.

        Returns:
            params: Theta (B, 12, h, w). attention: (B, 1, h, w). images (B, 3, h, w) and, if
            it was given, images_fullres (B, 3, H, W): harmonised, [0, 1] space; where the
            enlarged attention overshoots, they do.
        """
        del mask_fullres
        theta, attention = self._theta(image, mask)
        assert attention is not None, "forward is that of the published readings"
        transform = self._transform(theta, attention)
        answer = {"params": theta, "attention": attention}
        for name, rgb in (("images", image), ("images_fullres", image_fullres)):
            if rgb is not None:
                answer[name] = transform.apply(rgb, mask, Window.whole(Size(*rgb.shape[2:])))
        return answer

    def _theta(self, rgb: Tensor, mask: Tensor) -> tuple[Tensor, Tensor | None]:
        """Theta (B, 12, gh, gw), and the attention (B, 1, gh, gw) where it is used."""
        if self.config.encoder == "compact":
            maps, code = self.encoder(rgb, mask)
            change = GAIN * self.get_params(self.decoder(maps, code))
            return identity_theta(self.config.colours).to(change).view(1, -1, 1, 1) + change, None
        mean, deviation = (_numbers(v, rgb).view(1, 3, 1, 1) for v in (MEAN, DEVIATION))
        x = torch.cat([(rgb - mean) / deviation, mask], 1)
        features = self.decoder(self.encoder(x), mask)
        if self.config.blend == "mask":
            return self.get_params(features), None
        attention = torch.sigmoid(SHARPNESS * self.decoder.conv_attention(features))  # type: ignore[operator]
        return self.get_params(features), attention

    def _transform(self, theta: Tensor, attention: Tensor | None) -> AffineMap | AttendedMap:
        maps = theta_maps(theta, self.config.colours)
        if attention is None:
            return AffineMap(maps, self.config.mode)
        return AttendedMap(torch.cat([maps, attention], 1), self.config.mode)


class CompactDecoder(nn.Module):
    """Features of strides 32, 16 and 8 and the picture's code to features of stride 8."""

    def __init__(self, channels: tuple[int, ...], code: int, width: int) -> None:
        super().__init__()
        sources = (channels[3], channels[3], channels[2])
        self.local = nn.ModuleList(nn.Conv2d(s, width, 1) for s in sources)
        self.context = nn.Linear(code, width)

    def forward(self, maps: tuple[Tensor, Tensor, Tensor], code: Tensor) -> Tensor:
        """Maps, coarse to fine, and the code (B, code) to (B, width, h / 8, w / 8)."""
        x = self.context(code)[:, :, None, None]
        for layer, map_ in zip(self.local, maps, strict=True):
            if x.shape[-1] > 1:  # a single cell is everywhere the same
                x = F.interpolate(x, map_.shape[2:], mode="bilinear", align_corners=False)
            x = F.silu(x + layer(map_))
        return x


# --- Weights --------------------------------------------------------------------------------


def published(variant: str = "pctnet") -> PCTNet:
    """The network exactly as published, eval mode, weights as they start."""
    return PCTNet(PCTNetConfig.published(variant)).eval()


def detect(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """ "pctnet" for keys and shapes of this network, published or ours; None for all others.

    Also None for the authors' ViT variant, which is not here.
    """
    try:
        config = config_from(shapes, {})
    except (KeyError, IndexError):
        return None
    inputs = config.channels[0] if config.encoder == "unet" else config.hyper
    return "pctnet" if tuple(shapes["get_params.weight"]) == (PARAMETERS, inputs, 1, 1) else None


def config_from(shapes: Mapping[str, tuple[int, ...]], readings: Mapping[str, str]) -> PCTNetConfig:
    """The configuration behind weights.

    Args:
        shapes: of every tensor. readings: metadata; what it lacks is as published, or, for the
            compact encoder, as in `compact`.

    Raises:
        KeyError: a tensor that tells a number is missing. ValueError: a reading is none.
    """
    inputs = shapes["get_params.weight"][1]
    if "encoder.share" in shapes:
        config = replace(
            PCTNetConfig.compact(),
            channels=tuple(shapes[f"encoder.stages.{n}.down.weight"][0] for n in range(4)),
            blocks=sum(key.endswith(".qkv.weight") for key in shapes),
            code=shapes["decoder.context.weight"][1],
            hyper=inputs,
        )
    else:
        config = replace(
            PCTNetConfig.published(),
            channels=tuple(shapes[f"encoder.{level}{_FIRST}"][0] for level in _LEVELS),
        )
        shapes["decoder.conv_attention.weight"]
    return replace(config, **told(PCTNetConfig, readings))


_FIRST = ".convs.block.0.block.0.weight"
_LEVELS = ("block0", "block1", "blocks_connected.block2", "blocks_connected.block3")
