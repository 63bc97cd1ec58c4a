"""AICT: High-Resolution Image Harmonization with Adaptive-Interval Color Transformation.

Quanling Meng, Qinglin Liu, Zonglin Li, Xiangyuan Lan, Shengping Zhang, Liqiang Nie.
NeurIPS 2024, openreview.net/forum?id=jXgHEwtXs8. Authors' code: github.com/aipixel/AICT, commit
e100c16, without a licence: nothing here is taken from it; its weights load by their names.

A curve for every pixel and colour channel: out = F(x, y, C(x, y, v)), where the maps F (colours
at K knots) and C (how wide the interval before each knot is) are predicted from a thumbnail,
and are looked up as volumes over column, row and value. No channel looks at another.

Where paper and published network differ, `published()` follows the network:
  - K = 8 in the paper's words; the network has 8 intervals, so 9 knots, in C, and 8 knots in F.
  - a "weight for each colour transformation" is one for each knot of F: 3 x 8 a picture.
  - the upsampling of the maps is the bilinear part of the lookup, corners on corners.
Readings of our own weights, each for a defect of the published network:
  - `residual`: F is the identity plus what is predicted, scaled. Published weights begin with
    F near 0, where the clamp leaves no gradient.
  - `clamp`: colours outside [0, 1] keep their gradient; the engine clamps.
  - `floor`: the least width of an interval, as a share of an even one, so that no curve is
    flat or arbitrarily steep (noise would be amplified by up to K).
  - `align_corners`: cells of the maps are areas of the picture, as those of a convolution are.
  - a convolutional encoder that measures the foreground against its surroundings stands in for
    a transformer of 194 GFLOP (64 x 64 patches, attention of each to each), and its decoder
    lets neighbouring cells agree, where each 4 x 4 block was decoded by itself.

Letters: B pictures, K intervals, D width, (gh, gw) cells of a map, (h, w) pixels of a window.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hzcli.catalog import WeightsCard
from hzcli.core.lut import Lut3D, fit_lut
from hzcli.core.sampling import places, resample
from hzcli.core.transform import Reach, Thumbnail
from hzcli.core.window import Size, Window
from hzcli.nets.compact import CompactEncoder
from hzcli.nets.vit import PatchDecoder, Patchwise, bottom_convs

# Own heads predict small multiples of their output: an Adam step moves a head's result by
# rate x fan-in, and one learning rate should suit heads and encoder.
GAIN = 0.1
# Legendre polynomials of the curve that a picture's code alone decides.
DEGREES = 4
# Cells or pixels that are looked up at once; bounds what `apply` needs beyond its window.
CHUNK = 1 << 16


# --- The colour transformation: position-dependent curves -----------------------------------


@dataclass(frozen=True)
class IntervalMap:
    """A curve a pixel and channel, from maps that cover the picture.

    knots: (B, 3, gh, K + 1, gw), [0, 1], rising along K: where C sends K + 1 even levels.
    levels: (B, 3, gh, K, gw): what F makes of K even levels.
    Both have their knots between row and column, as they are read: a row at a time.
    align_corners: whether the outermost cells lie on the outermost pixels.
    clamp: whether the result is held in [0, 1], as published.
    """

    knots: Tensor
    levels: Tensor
    align_corners: bool = True
    clamp: bool = True

    @property
    def reach(self) -> Reach:
        # The result, coordinates and one lookup of three channels; maps are read by CHUNK.
        return Reach(bytes_per_pixel=64)

    def apply(self, rgb: Tensor, mask: Tensor, window: Window) -> Tensor:
        """Recolour a window: (B, 3, h, w) to (B, 3, h, w); the mask is not looked at."""
        del mask
        height, width = rgb.shape[2:]
        step = max(1, CHUNK // max(width, self.knots.shape[-1]))
        parts = []
        for top in range(0, height, step):
            bottom = min(top + step, height)
            strip = Window(
                window.top + top, window.top + bottom, window.left, window.right, window.size
            )
            parts.append(self._strip(rgb[:, :, top:bottom], strip))
        return torch.cat(parts, 2) if len(parts) > 1 else parts[0]

    def _strip(self, rgb: Tensor, window: Window) -> Tensor:
        columns = places(
            window.left,
            window.right,
            window.size.width,
            self.knots.shape[-1],
            align_corners=self.align_corners,
        ).to(rgb)
        interval = self._look_up(self.knots, columns, rgb, window)  # v' = C(x, y, v)
        out = self._look_up(self.levels, columns, interval, window)  # F(x, y, v')
        return out.clamp(0, 1) if self.clamp else out

    def _look_up(self, volume: Tensor, columns: Tensor, value: Tensor, window: Window) -> Tensor:
        """Trilinear lookup of a volume (B, 3, gh, n, gw) at column, row and value.

        Linear in the row first, for all cells of it; then each row of pixels has an image of
        n x gw to look up bilinearly. Exactly the trilinear result, for half of its reads.
        """
        n, cells = volume.shape[3:]
        rows = resample(
            volume.flatten(3),
            -2,
            (window.top, window.bottom),
            window.size.height,
            align_corners=self.align_corners,
        )  # (B, 3, h, n gw)
        x = columns * (2 / max(cells - 1, 1)) - 1
        grid = torch.stack([x.expand_as(value), value * 2 - 1], 3)  # (B, 3, h, 2, w)
        out = F.grid_sample(
            rows.view(-1, 1, n, cells),
            grid.flatten(0, 2).transpose(1, 2).unsqueeze(1),
            mode="bilinear",
            padding_mode="border",
            align_corners=True,
        )
        return out.view_as(value)


def interval_map(
    widths: Tensor, levels: Tensor, *, align_corners: bool = True, clamp: bool = True
) -> IntervalMap:
    """Curves from the maps that the network predicts.

    Args:
        widths: C, (B, 3, K, gh, gw), 0 or more, summing to 1 over K.
        levels: F, (B, 3 K, gh, gw), channel after channel.
    """
    knots = F.pad(widths.cumsum(2), (0, 0, 0, 0, 1, 0))  # the first knot is 0, the last 1
    return IntervalMap(
        knots.transpose(2, 3).contiguous(),
        levels.unflatten(1, (3, -1)).transpose(2, 3).contiguous(),
        align_corners=align_corners,
        clamp=clamp,
    )


# --- Configuration --------------------------------------------------------------------------


@dataclass(frozen=True)
class AICTConfig:
    """Numbers that give an AICT its size, and readings.

    thumbnail: edge of the square thumbnail, a multiple of 32, or of the patch.
    intervals: K. latent: channels of the map that C and F are read from.
    encoder: "vit", with patch, width, depth, heads, hidden, and (middle, bottom) channels of the
        convolutions before the global weight; or "compact", with channels, blocks, code.
    clamp, residual, floor, align_corners: readings, see the head of this file.
    """

    thumbnail: int = 256
    intervals: int = 8
    latent: int = 12
    encoder: str = "vit"
    patch: int = 4
    width: int = 256
    depth: int = 9
    heads: int = 2
    hidden: int = 512
    bottom: tuple[int, int] = (128, 64)
    channels: tuple[int, ...] = ()
    blocks: int = 0
    code: int = 0
    clamp: bool = True
    residual: bool = False
    floor: float = 0.0
    align_corners: bool = True

    READINGS: ClassVar[tuple[str, ...]] = (
        "thumbnail",
        "heads",
        "clamp",
        "residual",
        "floor",
        "align_corners",
    )

    @classmethod
    def published(cls, variant: str = "aict") -> AICTConfig:
        """The network of the authors' checkpoint.

        Raises:
            ValueError: there is no such variant.
        """
        if variant != "aict":
            raise ValueError(f"AICT was not published as {variant!r}, only as 'aict'")
        return cls()

    @classmethod
    def compact(cls) -> AICTConfig:
        """Small enough to train and run on a CPU; maps of 28 x 28 cells."""
        return cls(
            thumbnail=224,
            latent=96,
            encoder="compact",
            channels=(32, 64, 128, 192),
            blocks=3,
            code=512,
            **NO_TRANSFORMER,
            clamp=False,
            residual=True,
            floor=0.25,
            align_corners=False,
        )


NO_TRANSFORMER: dict = {"patch": 0, "width": 0, "depth": 0, "hidden": 0, "bottom": ()}


# --- The parameter network ------------------------------------------------------------------


class CompactDecoder(nn.Module):
    """Maps at strides 32, 16 and 8 to one at stride 8, coarse to fine, told the picture's code."""

    def __init__(self, sources: tuple[int, ...], code: int, width: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(s, width, 1) for s in sources)
        self.context = nn.ModuleList(nn.Linear(code, width) for _ in sources)
        self.depth = nn.ModuleList(
            nn.Conv2d(width, width, 3, padding=1, groups=width) for _ in sources
        )
        self.point = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in sources)

    def forward(self, maps: tuple[Tensor, ...], code: Tensor) -> Tensor:
        x: Tensor | None = None
        for n, map_ in enumerate(maps):
            here = self.lateral[n](map_) + self.context[n](code)[:, :, None, None]
            if x is not None:
                here = here + F.interpolate(x, map_.shape[2:], mode="bilinear", align_corners=False)
            x = here + self.point[n](F.silu(self.depth[n](F.silu(here))))
        assert x is not None
        return F.silu(x)


@dataclass(frozen=True)
class Maps:
    """What the network says of a picture.

    encoder: (B, D, ., .). latent: (B, ., gh, gw). widths: C, (B, 3, K, gh, gw).
    weight: the global consistent weight, (B, 3 K, 1, 1). levels: F, (B, 3 K, gh, gw).
    """

    encoder: Tensor
    latent: Tensor
    widths: Tensor
    weight: Tensor
    levels: Tensor


class AICT(nn.Module):
    """Predicts an IntervalMap from a thumbnail."""

    def __init__(self, config: AICTConfig) -> None:
        super().__init__()
        self.config = c = config
        self.card = WeightsCard(id="untrained", model="aict", file="")
        knots = 3 * c.intervals
        if c.encoder == "vit":
            self.encoder: nn.Module = Patchwise(c.patch, c.width, c.depth, c.heads, c.hidden)
            self.decoder: nn.Module = PatchDecoder(c.width, c.latent, c.patch)
            self.bottom_convs = bottom_convs(c.width, *c.bottom)
            self.class_layer = nn.Linear(c.bottom[1], knots)
        elif c.encoder == "compact":
            self.encoder = CompactEncoder(c.channels, c.blocks, c.code)  # type: ignore[arg-type]
            sources = (c.channels[3], c.channels[3], c.channels[2])
            self.decoder = CompactDecoder(sources, c.code, c.latent)
            self.class_layer = nn.Linear(c.code, knots)
            self.tone_layer = nn.Linear(c.code, 3 * DEGREES)
        else:
            raise ValueError(f"there is no encoder {c.encoder!r}: vit or compact")
        self.colors_layer = nn.Conv2d(c.latent, knots, 1)
        self.params_layer = nn.Conv2d(c.latent, knots, 1)
        if c.residual:
            self._start_at_identity()

    def _start_at_identity(self) -> None:
        """Even intervals, F the identity; gradients reach all heads but for the global weight,
        which follows after one step."""
        heads = [self.colors_layer, self.params_layer, self.class_layer]
        for head in [*heads, *([self.tone_layer] if self.config.encoder == "compact" else [])]:
            for parameter in head.parameters():
                nn.init.zeros_(parameter)

    @property
    def thumbnail_edge(self) -> int:
        return self.config.thumbnail

    @property
    def thumbnail_filter(self) -> str:
        """Published weights saw thumbnails made without antialiasing."""
        return "area" if self.config.residual else "bilinear"

    @property
    def needs_closeup(self) -> bool:
        return False

    def maps(self, rgb: Tensor, mask: Tensor) -> Maps:
        """The parameter network.

        Args:
            rgb: (B, 3, h, w), sRGB-encoded, [0, 1]; not normalised.
            mask: (B, 1, h, w), [0, 1], soft values as they are.
        """
        c = self.config
        if c.encoder == "vit":
            features = self.encoder(torch.cat([rgb, mask], 1))
            latent = self.decoder(features)
            # Global consistent weight: what is strongest anywhere decides for the picture.
            weight = self.class_layer(self.bottom_convs(features).amax((2, 3)))
        else:
            maps, code = self.encoder(rgb, mask)
            features, latent = maps[1], self.decoder(maps, code)
            weight = self.class_layer(code)
        shares = self.colors_layer(latent).unflatten(1, (3, c.intervals)).softmax(2)
        widths = c.floor / c.intervals + (1 - c.floor) * shares
        params, weight = self.params_layer(latent), weight[:, :, None, None]
        if not c.residual:
            return Maps(features, latent, widths, weight, params * weight)
        even = torch.linspace(0, 1, c.intervals).to(params)
        weight = 1 + weight
        change = params * weight
        if c.encoder == "compact":
            change = change + self._tone(code, even)
        return Maps(features, latent, widths, weight, even.repeat(3)[:, None, None] + GAIN * change)

    def _tone(self, code: Tensor, even: Tensor) -> Tensor:
        """A smooth curve a channel for all of the picture: (B, 3 K, 1, 1)."""
        x = even * 2 - 1
        legendre = torch.stack([x**0, x, (3 * x**2 - 1) / 2, (5 * x**3 - 3 * x) / 2])
        factors = self.tone_layer(code).unflatten(1, (3, DEGREES))
        return (factors @ legendre).flatten(1)[:, :, None, None]

    def _transform(self, maps: Maps) -> IntervalMap:
        c = self.config
        return interval_map(maps.widths, maps.levels, align_corners=c.align_corners, clamp=c.clamp)

    def predict(self, thumb: Thumbnail) -> IntervalMap:
        """The curves of each picture of a batch of thumbnails.

        Thumbnails that are not of the size that the network reads are resized, bilinear.
        """
        return self._transform(self.maps(*self._sized(thumb)))

    def _sized(self, thumb: Thumbnail) -> tuple[Tensor, Tensor]:
        c, size = self.config, thumb.rgb.shape[2:]
        multiple = 32 if c.encoder == "compact" else 2 * c.patch
        free = c.residual and not any(n % multiple for n in size)
        if free or size == (c.thumbnail, c.thumbnail):
            return thumb.rgb, thumb.mask
        rgb, mask = (
            F.interpolate(x, (c.thumbnail, c.thumbnail), mode="bilinear", align_corners=False)
            for x in (thumb.rgb, thumb.mask)
        )
        return rgb, mask

    def predict_lut(self, thumb: Thumbnail) -> Lut3D:
        """The table nearest to what the curves do to the thumbnail's foreground."""
        window = Window.whole(Size(*thumb.rgb.shape[2:]))
        target = self.predict(thumb).apply(thumb.rgb, thumb.mask, window)
        return Lut3D(fit_lut(thumb.rgb, target, thumb.mask))

    def forward(
        self, image: Tensor, mask: Tensor, image_fullres: Tensor, mask_fullres: Tensor
    ) -> dict[str, Tensor]:
        """Harmonise a picture at both sizes, blended with its soft mask.

        Args:
            image, mask: (B, 3, 256, 256) and (B, 1, 256, 256), [0, 1].
            image_fullres, mask_fullres: (B, 3, H, W) and (B, 1, H, W), [0, 1].

        Returns:
            encoder_map, latent, C_widths, global_weight, F_params as in `Maps`; images and
            images_fullres: (B, 3, ., .), or (3, ., .) of a single picture for the latter.
        """
        maps = self.maps(image, mask)
        transform = self._transform(maps)

        def blended(rgb: Tensor, soft: Tensor) -> Tensor:
            window = Window.whole(Size(*rgb.shape[2:]))
            return transform.apply(rgb, soft, window) * soft + rgb * (1 - soft)

        full = blended(image_fullres, mask_fullres)
        return {
            "encoder_map": maps.encoder,
            "latent": maps.latent,
            "C_widths": maps.widths,
            "global_weight": maps.weight,
            "F_params": maps.levels,
            "images": blended(image, mask),
            "images_fullres": full[0] if len(full) == 1 else full,
        }


# --- Weights --------------------------------------------------------------------------------


def published(variant: str = "aict") -> AICT:
    """The network exactly as published, in eval mode, with random start values."""
    return AICT(AICTConfig.published(variant)).eval()


def detect(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """ "aict" if these are the weights of an AICT, the authors' or our own; else None."""
    heads = ("colors_layer.weight", "params_layer.weight", "class_layer.weight")
    first = ("encoder.patch_to_embedding.1.weight", "encoder.stages.0.down.weight")
    if not all(head in shapes for head in heads) or not any(key in shapes for key in first):
        return None
    knots = {shapes[head][0] for head in heads}
    return "aict" if len(knots) == 1 and knots.pop() % 3 == 0 else None


def config_from(shapes: Mapping[str, tuple[int, ...]], readings: Mapping[str, str]) -> AICTConfig:
    """The configuration behind weights.

    Args:
        shapes: every tensor's, by name. readings: those of READINGS that were stored; those
            that were not are as published.
    """

    def count(prefix: str, suffix: str) -> int:
        return sum(key.startswith(prefix) and key.endswith(suffix) for key in shapes)

    knots, latent = shapes["colors_layer.weight"][:2]
    default = AICTConfig.published()
    said = {
        name: _read(readings[name], getattr(default, name))
        for name in AICTConfig.READINGS
        if name in readings
    }
    sizes: dict = {"intervals": knots // 3, "latent": latent}
    if "encoder.patch_to_embedding.1.weight" in shapes:
        width = shapes["encoder.patch_to_embedding.1.weight"][0]
        sizes |= {
            "encoder": "vit",
            "patch": shapes["decoder.dec.weight"][2],
            "width": width,
            "depth": count("encoder.transformer_enc.layers.", ".linear1.weight"),
            "hidden": shapes["encoder.transformer_enc.layers.0.linear1.weight"][0],
            "bottom": tuple(shapes[f"bottom_convs.{n}.weight"][0] for n in (0, 4)),
        }
    else:
        stages = count("encoder.stages.", ".down.weight")
        sizes |= {
            "encoder": "compact",
            **NO_TRANSFORMER,
            "channels": tuple(shapes[f"encoder.stages.{n}.down.weight"][0] for n in range(stages)),
            "blocks": count("encoder.blocks.", ".qkv.weight"),
            "code": shapes["class_layer.weight"][1],
        }
    return AICTConfig(**(sizes | said))


def _read(text: str, like: bool | int | float) -> bool | int | float:
    """A reading from its text, of the type of its published value."""
    return text == "True" if isinstance(like, bool) else type(like)(text)
