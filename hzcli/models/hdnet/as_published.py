"""HDNet and HDNet-lite as their authors' code has them, and with the paper's readings.

A U-Net with RAIN in its decoder. At the bottleneck, Local Dynamics gives each foreground place
the background place that is most like it; on the way up, Mask-aware Global Dynamics convolves
foreground and background with kernels that the picture itself chooses (dynamics.py).

Where paper and code differ (readings; the first of each is the published code's):
 - `dynamics`: "coded" compares by plain dot products and takes the softmax over all *places*, so
   that the reference is almost nothing for most of them; "paper" is eqs. (2) to (4): cosines, and
   a softmax over the `neighbours`.
 - `masks`: "nearest" samples the mask at each level, so that thin things vanish; "area" averages.
 - `route`, at full size: "native" runs the network on the whole picture (native.py); "guided"
   runs it on the thumbnail and fits an affine map a place to what it did (the authors only ever
   resize).
Published, and kept: the activations work in place, so that skips hand over activated features;
a layer `conv_guide` that nothing reads.

Letters: B batch, C channels, (H, W) the picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hzcli.catalog import WeightsCard
from hzcli.core.guided import guided_fit
from hzcli.core.lut import Lut3D, fit_lut
from hzcli.core.transform import Thumbnail, Transform
from hzcli.models.hdnet.dynamics import GlobalDynamics, LocalDynamics
from hzcli.models.hdnet.native import LEAK, SMALLEST, STRIDE, Native, at_size
from hzcli.nets.rain import EPS, Rain


@dataclass(frozen=True)
class PublishedConfig:
    """Numbers that give an HDNet its size, and its readings (see the head of this file).

    width: channels at full size (ngf); 32 is HDNet, 8 HDNet-lite. inputs: 3 for RGB, 4 with the
    mask. thumbnail: edge in pixels, a multiple of 8.
    """

    width: int = 32
    inputs: int = 3
    dynamics: str = "coded"
    neighbours: int = 1
    masks: str = "nearest"
    route: str = "native"
    thumbnail: int = 256

    READINGS: ClassVar[tuple[str, ...]] = (
        "dynamics", "neighbours", "masks", "route", "thumbnail",
    )  # fmt: skip

    def __post_init__(self) -> None:
        for field, known in (
            ("dynamics", ("coded", "paper")),
            ("masks", ("nearest", "area")),
            ("route", ("native", "guided")),
        ):
            if getattr(self, field) not in known:
                raise ValueError(f"{field} is {getattr(self, field)!r}, expected one of {known}")
        if self.thumbnail % STRIDE or self.thumbnail < SMALLEST:
            raise ValueError(f"thumbnail is {self.thumbnail}, expected a multiple of 8 from 16")

    @classmethod
    def published(cls, variant: str = "hdnet") -> PublishedConfig:
        """As in the authors' code: "hdnet" or "hdnet-lite"."""
        return cls(width={"hdnet": 32, "hdnet-lite": 8}[variant])


# --- The network (Fig. 2) -----------------------------------------------------------------------


def skip(raw: Tensor, activated: Tensor) -> Tensor:
    """What an encoder level hands to the decoder: activated, since it happens in place."""
    del raw
    return activated


class PublishedHDNet(nn.Module):
    """The whole network; `state_dict` has the published 65 keys."""

    needs_closeup = False
    takes_reference = False

    def __init__(self, config: PublishedConfig) -> None:
        super().__init__()
        self.config = config
        self.card = WeightsCard(id="untrained", model="hdnet", file="")
        c = config.width

        def down(inputs: int, outputs: int, edge: int) -> nn.Sequential:
            stride = 2 if edge == 4 else 1
            conv = nn.Conv2d(inputs, outputs, edge, stride, 1, bias=False)
            return nn.Sequential(nn.LeakyReLU(LEAK), conv)

        def up(inputs: int, outputs: int, edge: int) -> nn.Sequential:
            stride = 2 if edge == 4 else 1
            conv = nn.ConvTranspose2d(inputs, outputs, edge, stride, 1, bias=False)
            return nn.Sequential(nn.ReLU(), conv)

        self.model_layer0 = nn.Conv2d(config.inputs, c, 3, 1, 1, bias=False)
        self.model_layer1 = down(c, 2 * c, 4)
        self.model_layer2 = down(2 * c, 4 * c, 3)
        self.model_layer3 = down(4 * c, 8 * c, 4)
        self.model_layer4 = down(8 * c, 8 * c, 3)
        self.model_layer5 = down(8 * c, 8 * c, 4)
        self.model_layer6 = down(8 * c, 8 * c, 3)
        self.model_layer71 = down(8 * c, 8 * c, 3)
        self.model_layer72 = up(8 * c, 8 * c, 3)
        self.model_layer72norm = Rain(8 * c)
        self.model_layer8 = up(16 * c, 8 * c, 3)
        self.model_layer8norm = Rain(8 * c)
        self.model_layer9 = up(16 * c, 8 * c, 4)
        self.model_layer9norm = Rain(8 * c)
        self.model_layer10 = up(16 * c, 8 * c, 3)
        self.model_layer10norm = Rain(8 * c)
        self.model_layer11 = up(16 * c, 4 * c, 4)
        self.model_layer11norm = Rain(4 * c)
        self.model_layer11att = GlobalDynamics(8 * c)
        self.model_layer12 = up(8 * c, 2 * c, 3)
        self.model_layer12norm = Rain(2 * c)
        self.model_layer12att = GlobalDynamics(4 * c)
        self.model_layer13 = up(4 * c, c, 4)
        self.model_layer13norm = Rain(c)
        self.model_layer13att = GlobalDynamics(2 * c)
        last = nn.ConvTranspose2d(2 * c, 3, 3, 1, 1)
        self.model_out = nn.Sequential(nn.ReLU(), last, nn.Tanh())
        self.LD = LocalDynamics(8 * c, config.dynamics, config.neighbours)
        if not self.LD.linear.weight.is_meta:
            self._start()

    def _start(self) -> None:
        """The authors' start values."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Conv1d):
                nn.init.normal_(module.weight, 0, 0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    @property
    def thumbnail_edge(self) -> int:
        return self.config.thumbnail

    @property
    def thumbnail_filter(self) -> str:
        """The authors resize with PIL's antialiased bilinear filter."""
        return "triangle" if self.config.masks == "nearest" else "area"

    def inputs(self, image: Tensor, mask: Tensor) -> Tensor:
        return torch.cat([image, mask], 1) if self.config.inputs == 4 else image

    def forward(self, image: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Harmonise pictures, all of them at once.

        Args:
            image: (B, 3, H, W), [-1, 1]; H and W multiples of 8, 16 at least.
            mask: (B, 1, H, W), [0, 1].

        Returns:
            output, harmonised colours everywhere, and blended, by the mask with the picture, in
            [-1, 1] space; and what came before: x71, LD_out, MGD11_out, MGD12_out, MGD13_out.

        Raises:
            ValueError: the size does not fit.
        """
        height, width = image.shape[2:]
        if height % STRIDE or width % STRIDE or min(height, width) < SMALLEST:
            raise ValueError(f"picture is {width}x{height}, expected multiples of 8 from 16")
        rule = self.config.masks
        m8, m4, m2 = (at_size(mask, height // n, width // n, rule) for n in (8, 4, 2))

        x, skips = self.model_layer0(self.inputs(image, mask)), []
        for layer in self._encoder():
            activated = F.leaky_relu(x, LEAK)
            skips.append(skip(x, activated))
            x = layer[1](activated)
            if layer is not self.model_layer71:
                x = F.instance_norm(x, eps=EPS)
        x0, x1, x2, x3, x4, x5, x6 = skips

        out = {"x71": x, "LD_out": self.LD(x, m8)}
        u = self.model_layer72norm(self.model_layer72(out["LD_out"]), m8)
        u = self.model_layer8norm(self.model_layer8(torch.cat([x6, u], 1)), m8)
        u = self.model_layer9norm(self.model_layer9(torch.cat([x5, u], 1)), m4)
        u = self.model_layer10norm(self.model_layer10(torch.cat([x4, u], 1)), m4)
        u = self.model_layer11norm(self.model_layer11(torch.cat([x3, u], 1)), m2)
        out["MGD11_out"] = self.model_layer11att(torch.cat([x2, u], 1), m2)
        u = self.model_layer12norm(self.model_layer12(out["MGD11_out"]), m2)
        out["MGD12_out"] = self.model_layer12att(torch.cat([x1, u], 1), m2)
        u = self.model_layer13norm(self.model_layer13(out["MGD12_out"]), mask)
        out["MGD13_out"] = self.model_layer13att(torch.cat([x0, u], 1), mask)
        out["output"] = self.model_out(out["MGD13_out"])
        out["blended"] = out["output"] * mask + image * (1 - mask)
        return out

    def _encoder(self) -> list[nn.Sequential]:
        return [self.get_submodule(f"model_layer{n}") for n in (1, 2, 3, 4, 5, 6, 71)]  # type: ignore[misc]

    def thumbnail_output(self, thumb: Thumbnail) -> Tensor:
        """The thumbnail with all of it harmonised, [0, 1] nominally."""
        image, mask = thumb.rgb * 2 - 1, thumb.mask
        height, width = image.shape[2:]
        if height % STRIDE or width % STRIDE or min(height, width) < SMALLEST:
            edge = self.config.thumbnail
            image, mask = (
                F.interpolate(x, (edge, edge), mode="bilinear", align_corners=False, antialias=True)
                for x in (image, mask)
            )
        out = self.forward(image, mask)["output"] / 2 + 0.5
        if out.shape != thumb.rgb.shape:
            out = F.interpolate(out, (height, width), mode="bilinear", align_corners=False)
        return out

    def predict(self, thumb: Thumbnail) -> Transform:
        """The `route` of the configuration to the full size."""
        if self.config.route == "native":
            return Native(self)
        return guided_fit(thumb.rgb, self.thumbnail_output(thumb), thumb.mask)

    def predict_lut(self, thumb: Thumbnail) -> Lut3D:
        """One table, fitted to what happens to the thumbnail's foreground."""
        return Lut3D(fit_lut(thumb.rgb, self.thumbnail_output(thumb), thumb.mask))
