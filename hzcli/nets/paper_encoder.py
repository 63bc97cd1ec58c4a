"""HINet's encoder and hypernetworks at the size of the paper.

Paper: Chen, Zhang, Zou, Chen, Shi, Dense Pixel-to-Pixel Harmonization via Continuous Image
    Representation, 2023, arXiv 2303.01681, Fig. 2 and Sec. IV-A: iDIH's convolutions, HRNet's
    global features, and a hypernetwork for each predicted MLP.

Letters: B pictures, P parameters of an MLP, (g, g) cells, e edge of the thumbnail.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hzcli.nets.hrnet import HRNetOCR
from hzcli.nets.idih import Encoder, deconv_blocks, deconvolve, mask_stem

DECONVOLVED = 64  # channels of what `deconvolve` gives, at a quarter of the thumbnail
SHALLOW = (128, 64, 64)  # channels of the maps that predict cells, coarse to fine


def content_hypernet(channels: int, hyper: int, outputs: int) -> nn.Sequential:
    """(B, channels, 2g, 2g) to the parameters of cells, (B, P, g, g)."""
    return nn.Sequential(
        nn.Conv2d(channels, hyper, 3, 2, 1, bias=False),
        nn.ReLU(),
        nn.Conv2d(hyper, hyper, 3, 1, 1, bias=False),
        nn.ReLU(),
        nn.Conv2d(hyper, outputs, 1),
    )


def compress_layer(edge: int) -> nn.Sequential:
    """Each channel of (B, 64, (e/4)^2) to one number, (B, 64, 1)."""
    return nn.Sequential(
        nn.Linear((edge // 4) ** 2, 64, bias=False),
        nn.BatchNorm1d(DECONVOLVED),  # over the 64 channels of the features, not the outputs
        nn.ReLU(),
        nn.Linear(64, 1),
    )


def appearance_hypernet(hyper: int, outputs: int) -> nn.Sequential:
    """(B, 64) to the parameters of the global MLP, (B, P)."""
    return nn.Sequential(
        nn.Linear(DECONVOLVED, hyper, bias=False),
        nn.ReLU(),
        nn.Linear(hyper, hyper, bias=False),
        nn.ReLU(),
        nn.Linear(hyper, outputs),
    )


def lut_head(inputs: int, size: int) -> nn.Sequential:
    """The global MLP's parameters (B, P) to those of a table, (B, 3 size^3)."""
    values = 3 * size**3
    return nn.Sequential(nn.Linear(inputs, values), nn.ReLU(), nn.Linear(values, values))


class PaperEncoder(nn.Module):
    """Thumbnail and mask to three shallow maps and one code a picture.

    Args:
        edge: of the thumbnail, a multiple of 128 from 256 on; others are resized to it.
    """

    def __init__(self, edge: int = 256) -> None:
        super().__init__()
        self.edge = edge
        self.hrnet = HRNetOCR()
        self.mask_conv = mask_stem()
        self.encoder = Encoder()
        self.deconv_blocks = deconv_blocks()
        self.compress_layer = compress_layer(edge)

    def forward(self, rgb: Tensor, mask: Tensor) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
        """Encode pictures.

        Args:
            rgb: (B, 3, h, w), [0, 1]. mask: (B, 1, h, w), [0, 1].

        Returns:
            Maps at strides 8, 4 and 2 (coarse to fine), with `SHALLOW` channels, and the code
            (B, 64).
        """
        rgbm = torch.cat([rgb * 2 - 1, mask], 1)
        if rgbm.shape[2:] != (self.edge, self.edge):
            size = (self.edge, self.edge)
            rgbm = F.interpolate(rgbm, size, mode="bilinear", align_corners=False)
        rgb, mask = rgbm[:, :3], rgbm[:, 3:]
        features = self.encoder(rgbm, self.hrnet(rgb, mask, self.mask_conv(mask)))
        deconv = deconvolve(self.deconv_blocks, features)
        fine, middle, coarse = features.shallow
        return (coarse, middle, fine), self.compress_layer(deconv.flatten(2)).squeeze(2)
