"""AICT's network: from a thumbnail to the maps of its intervals and colours.

Letters: B pictures, K intervals, D width, (gh, gw) cells of a map, (h, w) pixels of a thumbnail.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hzcli.catalog import WeightsCard
from hzcli.core.curves import Curves
from hzcli.core.lut import Lut3D, fit_lut
from hzcli.core.transform import Thumbnail
from hzcli.core.window import Size, Window
from hzcli.models.aict.config import AICTConfig
from hzcli.models.aict.intervals import IntervalMap, interval_map
from hzcli.nets.compact import CompactEncoder
from hzcli.nets.doubt import believed, doubts
from hzcli.nets.views import seen
from hzcli.nets.vit import PatchDecoder, Patchwise, bottom_convs

# Own heads predict small multiples of their output: an Adam step moves a head's result by
# rate x fan-in, and one learning rate should suit heads and encoder.
GAIN = 0.1


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
            self.tone_layer = nn.Linear(c.code, 3 * c.degrees)
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
        if self.config.encoder == "vit":
            features = self.encoder(torch.cat([rgb, mask], 1))
            # Global consistent weight: what is strongest anywhere decides for the picture.
            weight = self.class_layer(self.bottom_convs(features).amax((2, 3)))
            return self._read(features, self.decoder(features), weight)
        rgb, mask, maps, code = seen(self, rgb, mask)
        return self._doubted(self._told(maps, code, self._tone(code)), rgb, mask)

    def _doubted(self, maps: Maps, rgb: Tensor, mask: Tensor) -> Maps:
        """C and F as far as what they do is believed (nets/doubt.py), else nearer to even ones."""
        if not doubts(self):
            return maps
        done = self._transform(maps).apply(rgb, mask, Window.whole(Size(*rgb.shape[2:])))
        share = believed(self, done, rgb, mask, most=1.0).view(-1, 1, 1, 1)
        even, width = self._even.to(maps.levels), 1 / self.config.intervals
        return replace(
            maps,
            widths=width + share.unsqueeze(4) * (maps.widths - width),
            levels=even + share * (maps.levels - even),
        )

    def _told(self, maps: tuple[Tensor, ...], code: Tensor, tone: Tensor | float) -> Maps:
        """What the compact encoder's maps and code stand for."""
        return self._read(maps[1], self.decoder(maps, code), self.class_layer(code), tone)

    def _read(
        self, features: Tensor, latent: Tensor, weight: Tensor, tone: Tensor | float = 0.0
    ) -> Maps:
        """C and F; tone: (B, 3 K, 1, 1), what is added to F everywhere."""
        c = self.config
        shares = self.colors_layer(latent).unflatten(1, (3, c.intervals)).softmax(2)
        widths = c.floor / c.intervals + (1 - c.floor) * shares
        params, weight = self.params_layer(latent), weight[:, :, None, None]
        if not c.residual:
            return Maps(features, latent, widths, weight, params * weight)
        weight = 1 + weight
        levels = self._even.to(params) + GAIN * (params * weight + tone)
        return Maps(features, latent, widths, weight, levels)

    @property
    def _even(self) -> Tensor:
        """F that changes nothing, (3 K, 1, 1)."""
        return torch.linspace(0, 1, self.config.intervals).repeat(3)[:, None, None]

    def _tone(self, code: Tensor) -> Tensor:
        """A smooth curve a channel for all of the picture: (B, 3 K, 1, 1)."""
        c = self.config
        x = torch.linspace(-1, 1, c.intervals).to(code)
        legendre = [torch.ones_like(x), x]
        for n in range(1, c.degrees - 1):  # Bonnet's recursion
            legendre.append(((2 * n + 1) * x * legendre[n] - n * legendre[n - 1]) / (n + 1))
        factors = self.tone_layer(code).unflatten(1, (3, c.degrees))
        return (factors @ torch.stack(legendre)).flatten(1)[:, :, None, None]

    # --- What train/refit.py asks for ---

    readers: ClassVar[list[nn.Linear]] = []

    def measured(self, rgb: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """What `rendered` needs of composites (B, 3, h, w): statistics of the compact encoder, and
        each pixel's colour, where C sends it, and what F makes of that without the tone."""
        maps, statistics = self.encoder.measured(rgb, mask)  # type: ignore[operator]
        told = self._told(maps, self.encoder.code(statistics), 0.0)  # type: ignore[operator]
        window = Window.whole(Size(*rgb.shape[2:]))
        even = self._even.expand_as(told.levels)
        read = [self._transform(replace(told, levels=levels)) for levels in (even, told.levels)]
        return statistics, torch.cat([rgb, *(x.apply(rgb, mask, window) for x in read)], 1)

    def rendered(self, statistics: Tensor, pixels: Tensor) -> tuple[Tensor, None]:
        """Colours (B, 3, P), and no table."""
        tone = self._tone(self.encoder.code(statistics))  # type: ignore[operator]
        _, place, rest = pixels.chunk(3, 1)
        return rest + GAIN * Curves(tone.view(len(tone), 3, -1)).at(place), None

    @property
    def last(self) -> list[nn.Parameter]:
        """What makes the tone; what is position-dependent stays."""
        return list(self.tone_layer.parameters())

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
