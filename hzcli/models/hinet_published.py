"""HINet exactly as published: pixel by pixel harmonisation by predicted MLPs.

Paper: Chen, Zhang, Zou, Chen, Shi, Dense Pixel-to-Pixel Harmonization via Continuous Image
    Representation, 2023 (IEEE TCSVT), arXiv 2303.01681.
Authors' code: github.com/WindVChen/INR-Harmonization, Apache-2.0; this file is written from
    the paper and from measurements, not from that code.
Where the published network differs from the paper's text, the network is followed:
  - Eq. (3), Cat(V, Up(F)): the upsampled prior (B, 32, H, W) is re-viewed in memory order as
    (B, H*W, 32), so that a pixel reads 32 neighbours of one channel, not the 32 channels of
    its own place. `prior="published"` does this; `prior="aligned"` reads the pixel's own.
  - the learnt position table is read as it is whenever there are exactly 65536 vectors.

Letters: B batch, P parameters per cell, g cells per side, H, W height and width of a level,
S height or width of the picture, V the input vector of a pixel (Sec. III-E).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hzcli.core.lut import lookup
from hzcli.nets.hrnet import HRNetOCR
from hzcli.nets.idih import Encoder, deconv_blocks, deconvolve, mask_stem
from hzcli.nets.modulated import LEAK, Modulated
from hzcli.nets.paper_encoder import (
    appearance_hypernet,
    compress_layer,
    content_hypernet,
    lut_head,
)

BASE = 256  # side of the thumbnail, and of the position table
WIDTH = 32  # of every hidden layer (Sec. IV-A)
RANK = 10  # of the factorised modulation
LUT_SIZE = 7
HYPER = 512  # width of the hypernetworks
POSITION = 2 + WIDTH + WIDTH  # coordinate, its sines, the table
FIRST = POSITION + 3 + 1  # V: position, RGB, mask
NEXT = FIRST + WIDTH  # V and the prior
THRESHOLD = 100 / 255  # of the mask, in `composited`

Prior = Literal["published", "aligned"]


# --- Cells (Sec. III-C) ---------------------------------------------------------------------


def cells_of(pixels: int, cells: int) -> Tensor:
    """Which of `cells` cells each of `pixels` rows (or columns) falls into; int64, rising."""
    if pixels % cells == 0:
        return torch.arange(pixels) // (pixels // cells)
    # The published rule for ragged sizes: the nearest cell to a corner-aligned coordinate.
    place = torch.arange(pixels) / max(pixels - 1, 1) * cells - 0.5
    return place.round().clamp(0, cells - 1).long()


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
    y, x = (
        2 * (torch.arange(n, dtype=torch.float32, device=device) / max(n - 1, 1) - 0.5)
        for n in (height, width)
    )
    return torch.stack(torch.meshgrid(y, x, indexing="ij"))[None]


def read_prior(features: Tensor, height: int, width: int, mode: Prior) -> Tensor:
    """Up(F) of eq. (3): twice the size, then one vector per pixel; see the head of this file."""
    large = F.interpolate(features, (height, width), mode="bilinear", align_corners=False)
    if mode == "aligned":
        return large
    # Row-major order of (B, 32, H, W) on purpose: no permute.
    vectors = large.reshape(large.shape[0], height * width, large.shape[1])
    return vectors.transpose(1, 2).unflatten(2, (height, width))


class _Table(nn.Module):
    """A learnt vector for each place of a 256 x 256 grid (CIPS, the paper's reference [50])."""

    def __init__(self) -> None:
        super().__init__()
        self.input = nn.Parameter(torch.randn(1, BASE * BASE, WIDTH))

    def forward(self, places: Tensor) -> Tensor:
        height, width = places.shape[2:]
        if height * width == BASE * BASE:  # as published: coordinates are not looked at
            return self.input.transpose(1, 2).unflatten(2, (height, width))
        table = self.input.transpose(1, 2).unflatten(2, (BASE, BASE))
        grid = places.permute(0, 2, 3, 1).flip(-1).to(table.dtype)  # grid_sample wants (x, y)
        return F.grid_sample(
            table, grid, mode="bilinear", padding_mode="border", align_corners=True
        )


class _Sines(nn.Module):
    """sin(linear(y, x)), frequencies learnt."""

    def __init__(self) -> None:
        super().__init__()
        self.ffm = nn.Linear(2, WIDTH)
        nn.init.uniform_(self.ffm.weight, -(4.5**0.5), 4.5**0.5)  # sqrt(9 / 2 inputs)

    def forward(self, places: Tensor) -> Tensor:
        vectors = places.permute(0, 2, 3, 1).to(self.ffm.weight.dtype)
        return torch.sin(self.ffm(vectors)).permute(0, 3, 1, 2)


class PositionEmbedding(nn.Module):
    """(1, 2, H, W) coordinates to (1, 66, H, W): row, column, 32 sines, 32 of the table."""

    def __init__(self) -> None:
        super().__init__()
        self.fourier_embed = _Table()
        self.predict_embed = _Sines()

    def forward(self, places: Tensor) -> Tensor:
        sines = self.predict_embed(places)
        return torch.cat([places.to(sines.dtype), sines, self.fourier_embed(places)], 1)


# --- Hypernetworks -------------------------------------------------------------------------


def _start_hyper(last: nn.Conv2d | nn.Linear, inputs: int) -> None:
    """Start values of a hypernetwork's last layer: small weights, biases that carry the MLP."""
    nn.init.kaiming_normal_(last.weight, nonlinearity="relu")
    bound = (6 / inputs) ** 0.5
    with torch.no_grad():
        last.weight /= 100
        last.bias.uniform_(-bound, bound)  # type: ignore[union-attr]


class ContentMlps(nn.Module):
    """One block of f_Cont: a grid of MLPs at half the size of a shallow encoder map."""

    def __init__(self, channels: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.mlp = Modulated(widths, RANK)
        self.cont_extraction_net = content_hypernet(channels, HYPER, self.mlp.length)
        _start_hyper(self.cont_extraction_net[-1], widths[0])
        self.basic_params = nn.ParameterList(torch.randn(1, 1, 1, *io) for io in pairwise(widths))

    def layers(self, parameters: Tensor) -> list[tuple[Tensor, Tensor]]:
        """(B, P, g, g) to the MLPs of each cell."""
        return self.mlp.weights(parameters.permute(0, 2, 3, 1), list(self.basic_params))


class AppearanceMlp(nn.Module):
    """f_App: one MLP for the whole picture, predicted from the deepest features."""

    mlp = Modulated((WIDTH, WIDTH, WIDTH, WIDTH, 3), RANK)

    def __init__(self) -> None:
        super().__init__()
        self.compress_layer = compress_layer(BASE)
        self.app_extraction_net = appearance_hypernet(HYPER, self.mlp.length)
        _start_hyper(self.app_extraction_net[-1], WIDTH)
        self.basic_params = nn.ParameterList(torch.randn(1, *io) for io in pairwise(self.mlp.sizes))

    def extract(self, features: Tensor) -> Tensor:
        """(B, 64, 64, 64) decoder features to the appearance vector (B, 2369)."""
        return self.app_extraction_net(self.compress_layer(features.flatten(2)).squeeze(2))

    def forward(self, features: Tensor, parameters: Tensor) -> Tensor:
        """(B, 32, H, W) features to (B, 3, H, W) RGB in (-1, 1)."""
        *hidden, (weight, bias) = self.mlp.weights(parameters, list(self.basic_params))
        v = features.flatten(2).transpose(1, 2)  # (B, N, 32)
        for w, b in hidden:
            v = F.leaky_relu(v @ w + b, LEAK)
        return torch.tanh(v @ weight + bias).transpose(1, 2).unflatten(2, features.shape[2:])


class LutHead(nn.Module):
    """The optional table (Sec. III-E): (B, 2369) to (B, 3, 7, 7, 7), [channel][r][g][b]."""

    def __init__(self) -> None:
        super().__init__()
        self.transform_layers = lut_head(AppearanceMlp.mlp.length, LUT_SIZE)
        last = self.transform_layers[-1]
        nn.init.kaiming_normal_(last.weight, nonlinearity="relu")
        with torch.no_grad():
            last.weight /= 100
            last.bias.uniform_(0, 1)

    def forward(self, appearance: Tensor) -> Tensor:
        return self.transform_layers(appearance).unflatten(1, (3, LUT_SIZE, LUT_SIZE, LUT_SIZE))


class Decoder(nn.Module):
    """The parts of the decoder, under their published names."""

    def __init__(self) -> None:
        super().__init__()
        self.INR_encoding = PositionEmbedding()
        self.content_mlp_blocks = nn.ModuleDict(  # 1, 2, 3 hidden layers, finest level first
            {
                "block0": ContentMlps(64, (NEXT, WIDTH, WIDTH)),
                "block1": ContentMlps(64, (NEXT, WIDTH, WIDTH, WIDTH)),
                "block2": ContentMlps(128, (FIRST, WIDTH, WIDTH, WIDTH, WIDTH)),
            }
        )
        self.deconv_blocks = deconv_blocks()
        self.appearance_mlps = AppearanceMlp()
        self.lut_transform = LutHead()

    def content(self, n: int) -> ContentMlps:
        """Block n of f_Cont: 0 is the finest and runs last."""
        return cast(ContentMlps, self.content_mlp_blocks[f"block{n}"])


# --- The network ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Prediction:
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

    def __init__(self, prior: Prior = "published") -> None:
        super().__init__()
        self.prior: Prior = prior
        model = nn.ModuleDict({"encoder": Encoder(), "decoder": Decoder()})
        features = nn.ModuleDict({"hrnet": HRNetOCR()})
        self.backbone = nn.ModuleDict(
            {"backbone": features, "model": model, "mask_conv": mask_stem()}
        )

    @property
    def decoder(self) -> Decoder:
        return cast(Decoder, self.get_submodule("backbone.model.decoder"))

    def predict(self, image: Tensor, mask: Tensor) -> Prediction:
        """What a picture's thumbnail says (the encoder of Fig. 2).

        Args:
            image: (B, 3, h, w), [-1, 1]; resized to 256 x 256 without antialiasing if it is not.
            mask: (B, 1, h, w), [0, 1].
        """
        image, mask = _resize(image, BASE, BASE), _resize(mask, BASE, BASE)
        hrnet = self.get_submodule("backbone.backbone.hrnet")(
            image, mask, self.backbone["mask_conv"](mask)
        )
        encoder = self.get_submodule("backbone.model.encoder")
        features = encoder(torch.cat([image, mask], 1), hrnet)
        decoder = self.decoder
        fine, middle, coarse = (
            decoder.content(n).cont_extraction_net(features.shallow[n]) for n in range(3)
        )
        deconv = deconvolve(decoder.deconv_blocks, features)
        appearance = decoder.appearance_mlps.extract(deconv)
        lut = decoder.lut_transform(appearance)
        return Prediction((coarse, middle, fine), appearance, lut, hrnet, deconv)

    def render(self, prediction: Prediction, image: Tensor, mask: Tensor) -> list[Tensor]:
        """The decoder on a whole picture (eqs. (2) and (3), three blocks).

        Args:
            prediction: see `predict`.
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
        for level, parameters in enumerate(prediction.cells):
            h, w = height >> (2 - level), width >> (2 - level)
            places = decoder.INR_encoding(coordinates(h, w, image.device))
            v = torch.cat([places.expand(len(pixels), -1, -1, -1), _resize(pixels, h, w)], 1)
            if features is not None:
                v = torch.cat([v, read_prior(features, h, w, self.prior)], 1)
            block = decoder.content(2 - level)
            features = run_cells(v, block.layers(parameters))
            levels.append(decoder.appearance_mlps(features, prediction.appearance))
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
        prediction = self.predict(image, mask)
        levels = self.render(prediction, image, mask)
        return {
            **{f"rgb_level{n}": level for n, level in enumerate(levels)},
            "lut": prediction.lut,
            "lut_image": lookup(prediction.lut, image / 2 + 0.5) * 2 - 1,
            "composited": torch.where(mask > THRESHOLD, levels[-1], image),
        }


def _resize(x: Tensor, height: int, width: int) -> Tensor:
    """Bilinear without antialiasing: halves average 2 x 2, quarters the middle 2 x 2 of 4 x 4."""
    if x.shape[2:] == (height, width):
        return x
    return F.interpolate(x, (height, width), mode="bilinear", align_corners=False, antialias=False)
