"""HINet exactly as published: pixel by pixel harmonisation by predicted MLPs.

Paper: Chen, Zhang, Zou, Chen, Shi, Dense Pixel-to-Pixel Harmonization via Continuous Image
    Representation, 2023 (IEEE TCSVT), arXiv 2303.01681.
Authors' code: github.com/WindVChen/INR-Harmonization, Apache-2.0; this file is written from
    the paper and from measurements, not from that code.
Where the published network differs from the paper's text:
  - Eq. (3), Cat(V, Up(F)): the upsampled prior (B, 32, H, W) is re-viewed in memory order as
    (B, H*W, 32), so that a pixel reads 32 neighbours of one channel, not the 32 channels of
    its own place. `prior="published"` does this, for weights that were trained so;
    `prior="aligned"` reads the pixel's own.
  - V, Sec. III-E: position is embedded by sines and a learnt table, which is read as it is
    whenever there are exactly 65536 vectors; coordinates are row, then column.
  - Sizes that are not multiples of 4, Sec. III-E (HR inference): the paper runs all blocks at
    full size, the authors' scripts continue the picture or cut it into patches that do not
    quite meet, encoding it anew for each. Here the picture is continued by its last row and
    column, encoded once, and decoded as a whole or in windows that equal it (windows.py).

In reading order: MLPs by cell, eq. (3)'s prior, the network. The learnt parts are in
hzcli/nets/hinet_heads.py; Letters: B batch, P parameters per cell, g cells per side, H, W
height and width of a level, V the input vector of a pixel (Sec. III-E).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hzcli.catalog import WeightsCard
from hzcli.core.lut import Lut3D, lookup
from hzcli.core.transform import Thumbnail
from hzcli.models.hinet.windows import AlignedMlp, ScrambledMlp
from hzcli.nets.hinet_cells import cells_of, corners
from hzcli.nets.hinet_heads import BASE, Decoder
from hzcli.nets.hrnet import HRNetOCR
from hzcli.nets.idih import Encoder, deconvolve, mask_stem
from hzcli.nets.modulated import LEAK

THRESHOLD = 100 / 255  # of the mask, in `composited`

Prior = Literal["published", "aligned"]


@dataclass(frozen=True)
class PublishedConfig:
    """The published network has one size; prior: the reading of eq. (3)."""

    READINGS: ClassVar[tuple[str, ...]] = ("prior",)
    prior: Prior = "published"


# --- Cells (Sec. III-C) ---------------------------------------------------------------------


def group(pixels: int, cells: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Indices that lay an axis out by cells, and those that undo it.

    Returns:
        take: (cells, k), the pixels of each cell, its last one repeated up to k.
        back: (pixels,), where each pixel is found in the flattened `take`.
    """
    cell = cells_of(pixels, cells)
    count = torch.bincount(cell, minlength=cells)
    first = count.cumsum(0) - count
    k = int(count.max())
    take = first[:, None] + torch.minimum(torch.arange(k), (count[:, None] - 1).clamp(min=0))
    back = cell * k + torch.arange(pixels) - first[cell]
    return take.clamp(max=pixels - 1).to(device), back.to(device)


def run_cells(x: Tensor, layers: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Local MLPs f_Cont: each pixel goes through the MLP of the cell it lies in (Sec. III-C).

    Args:
        x: (B, C, H, W), the vectors of a level.
        layers: W (B, g, g, inputs, outputs), b (B, g, g, 1, outputs).

    Returns:
        (B, 32, H, W): LeakyReLU after every layer, the last one too.
    """
    rows, columns = layers[0][0].shape[1:3]
    take_y, back_y = group(x.shape[2], rows, x.device)
    take_x, back_x = group(x.shape[3], columns, x.device)
    cells = x[:, :, take_y][..., take_x]  # (B, C, g, ky, g, kx)
    ky, kx = take_y.shape[1], take_x.shape[1]
    v = cells.permute(0, 2, 4, 3, 5, 1).flatten(3, 4)  # (B, g, g, ky*kx, C)
    for weight, bias in layers:
        v = F.leaky_relu(v @ weight + bias, LEAK)
    out = v.unflatten(3, (ky, kx)).permute(0, 5, 1, 3, 2, 4)  # (B, 32, g, ky, g, kx)
    out = out.flatten(4, 5).flatten(2, 3)
    return out[:, :, back_y][..., back_x]


# --- Input vectors V (Sec. III-E) and the low-resolution prior (Sec. III-D) -----------------


def coordinates(height: int, width: int, device: torch.device) -> Tensor:
    """(1, 2, H, W): row, then column, from -1 to 1 inclusive; always float32."""
    y, x = corners(0, height, height).to(device), corners(0, width, width).to(device)
    return torch.stack(torch.meshgrid(y, x, indexing="ij"))[None]


def read_prior(features: Tensor, height: int, width: int, mode: Prior) -> Tensor:
    """Up(F) of eq. (3): twice the size, then one vector per pixel; see the head of this file."""
    large = F.interpolate(features, (height, width), mode="bilinear", align_corners=False)
    if mode == "aligned":
        return large
    # Row-major order of (B, 32, H, W) on purpose: no permute.
    vectors = large.reshape(large.shape[0], height * width, large.shape[1])
    return vectors.transpose(1, 2).unflatten(2, (height, width))


# --- The network ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Encoded:
    """All that is predicted from a thumbnail; rendering needs no more of the encoder.

    cells: raw parameters, coarse to fine: (B, 3068, 16, 16), (B, 2716, 32, 32),
        (B, 2044, 64, 64). appearance: (B, 2369). lut: (B, 3, 7, 7, 7), [0, 1] space.
    hrnet: (B, 128, 64, 64) and deconv: (B, 64, 64, 64), for inspection.
    """

    cells: tuple[Tensor, Tensor, Tensor]
    appearance: Tensor
    lut: Tensor
    hrnet: Tensor
    deconv: Tensor


class PublishedHINet(nn.Module):
    """The whole network; `state_dict` has the published 2007 keys."""

    thumbnail_edge = BASE
    thumbnail_filter = "bilinear"

    def __init__(self, config: PublishedConfig | None = None) -> None:
        super().__init__()
        self.config = config or PublishedConfig()
        self.card = WeightsCard(id="untrained", model="hinet", file="")
        model = nn.ModuleDict({"encoder": Encoder(), "decoder": Decoder()})
        features = nn.ModuleDict({"hrnet": HRNetOCR()})
        self.backbone = nn.ModuleDict(
            {"backbone": features, "model": model, "mask_conv": mask_stem()}
        )

    @property
    def decoder(self) -> Decoder:
        return cast(Decoder, self.get_submodule("backbone.model.decoder"))

    def predict(self, thumb: Thumbnail) -> AlignedMlp | ScrambledMlp:
        """The decoder's function for each picture of a batch of thumbnails."""
        encoded = self.encode(thumb.rgb * 2 - 1, thumb.mask)
        decoder = self.decoder
        parts = [decoder.content(n) for n in (2, 1, 0)]
        sines = decoder.INR_encoding.predict_embed.ffm
        table = decoder.INR_encoding.fourier_embed.input
        kind = AlignedMlp if self.config.prior == "aligned" else ScrambledMlp
        return kind(
            *encoded.cells,
            appearance=encoded.appearance,
            mlps=(parts[0].mlp, parts[1].mlp, parts[2].mlp, decoder.appearance_mlps.mlp),
            basics=tuple(
                tuple(p.get_submodule("basic_params").parameters())
                for p in (*parts, decoder.appearance_mlps)
            ),
            waves=sines.weight,
            phases=sines.bias,
            table=table.view(BASE, BASE, -1),
        )

    def predict_lut(self, thumb: Thumbnail) -> Lut3D:
        """The optional 3D LUT (Sec. III-E), without the parameters of the cells."""
        return Lut3D(self.encode(thumb.rgb * 2 - 1, thumb.mask, cells=False).lut)

    def encode(self, image: Tensor, mask: Tensor, *, cells: bool = True) -> Encoded:
        """What a picture's thumbnail says (the encoder of Fig. 2).

        Args:
            image: (B, 3, h, w), [-1, 1]; resized to 256 x 256 without antialiasing if it is not.
            mask: (B, 1, h, w), [0, 1].
            cells: whether those of the result are wanted; else they are empty.
        """
        image, mask = _resize(image, BASE, BASE), _resize(mask, BASE, BASE)
        hrnet = self.get_submodule("backbone.backbone.hrnet")(
            image, mask, self.backbone["mask_conv"](mask)
        )
        encoder = self.get_submodule("backbone.model.encoder")
        features = encoder(torch.cat([image, mask], 1), hrnet)
        decoder = self.decoder
        coarse, middle, fine = (
            decoder.content(n).cont_extraction_net(features.shallow[n])
            if cells
            else image.new_empty(0)
            for n in (2, 1, 0)
        )
        deconv = deconvolve(decoder.deconv_blocks, features)
        appearance = decoder.appearance_mlps.extract(deconv)
        lut = decoder.lut_transform(appearance)
        return Encoded((coarse, middle, fine), appearance, lut, hrnet, deconv)

    def render(self, encoded: Encoded, image: Tensor, mask: Tensor) -> list[Tensor]:
        """The decoder on a whole picture: eqs. (2) and (3), with three blocks.

        Args:
            encoded: see `encode`.
            image: (B, 3, H, W), [-1, 1]; H and W multiples of 4.
            mask: (B, 1, H, W), [0, 1].

        Returns:
            RGB in (-1, 1) at a quarter, a half and the whole of the size.

        Raises:
            ValueError: the size is not a multiple of 4, so that the levels would not nest.
        """
        height, width = image.shape[2:]
        if height % 4 or width % 4:
            raise ValueError(f"picture is {width}x{height}, expected multiples of 4")
        decoder = self.decoder
        pixels = torch.cat([image, mask], 1)
        features, levels = None, []
        for level, parameters in enumerate(encoded.cells):
            h, w = height >> (2 - level), width >> (2 - level)
            places = decoder.INR_encoding(coordinates(h, w, image.device))
            v = torch.cat([places.expand(len(pixels), -1, -1, -1), _resize(pixels, h, w)], 1)
            if features is not None:
                v = torch.cat([v, read_prior(features, h, w, self.config.prior)], 1)  # eq. (3)
            block = decoder.content(2 - level)
            features = run_cells(v, block.layers(parameters))  # eq. (2)
            levels.append(decoder.appearance_mlps(features, encoded.appearance))
        return levels

    def forward(self, image: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Harmonise a picture, all of it at once.

        Args:
            image: (B, 3, H, W), [-1, 1]; H and W multiples of 4.
            mask: (B, 1, H, W), [0, 1].

        Returns:
            rgb_level0 (quarter size), rgb_level1 (half), rgb_level2 (whole), lut_image and
            composited in [-1, 1] space; lut in [0, 1] space. Only rgb_levels are bounded.
        """
        encoded = self.encode(image, mask)
        levels = self.render(encoded, image, mask)
        return {
            **{f"rgb_level{n}": level for n, level in enumerate(levels)},
            "lut": encoded.lut,
            "lut_image": lookup(encoded.lut, image / 2 + 0.5) * 2 - 1,
            "composited": torch.where(mask > THRESHOLD, levels[-1], image),
        }


def _resize(x: Tensor, height: int, width: int) -> Tensor:
    """Bilinear without antialiasing: halves average 2 x 2, quarters the middle 2 x 2 of 4 x 4."""
    if x.shape[2:] == (height, width):
        return x
    return F.interpolate(x, (height, width), mode="bilinear", align_corners=False, antialias=False)
