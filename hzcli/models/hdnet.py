"""HDNet and HDNet-lite: Hierarchical Dynamic Image Harmonization.

Haoxing Chen, Zhangxuan Gu, Yaohui Li, Jun Lan, Changhua Meng, Weiqiang Wang, Huaxiong Li.
ACM Multimedia 2023, arXiv 2211.08639. The authors' code: github.com/chenhaoxing/HDNet at
dcabe92, MIT; this file is written from the paper and from measurements, not from that code.

A U-Net with RAIN in its decoder. At the bottleneck, Local Dynamics gives each foreground place
the background place that is most like it; on the way up, Mask-aware Global Dynamics convolves
foreground and background with kernels that the picture itself chooses.

Where paper and code differ (readings; the first of each is the published code's):
 - `dynamics`: "coded" compares by plain dot products and takes the softmax over all *places*, so
   that the reference is almost nothing for most of them; "paper" is eqs. (2) to (4): cosines, and
   a softmax over the `neighbours`.
 - `masks`: "nearest" samples the mask at each level, so that thin things vanish; "area" averages.
 - `output`: "tanh" as published; "residual" adds to the composite's colours.
 - `route`, at full size: "native" runs the network on the whole picture; "guided" runs it on
   the thumbnail and fits an affine map a place to what it did (the authors only ever resize).
Published, and kept: the activations work in place, so that skips hand over activated features;
a layer `conv_guide` that nothing reads (`guide=False` leaves it out).

Letters: B batch, C channels, N places, f foreground, b background, m mask, K neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hzcli.catalog import WeightsCard
from hzcli.core.guided import guided_fit
from hzcli.core.lut import Lut3D, fit_lut
from hzcli.core.transform import Reach, Source, Thumbnail, Transform
from hzcli.core.window import Size, Window
from hzcli.nets.rain import EPS, Rain, WholePicture, not_filled

LEAK = 0.2
STRIDE = 8  # of the bottleneck: sides are multiples of it
SMALLEST = 16  # side of a picture: instance normalisation needs more than one place
# Places compared at a time: foreground x background, floats.
QUERIES, SUPPORTS = 1024, 4096
ROWS_READ = 256


@dataclass(frozen=True)
class HDNetConfig:
    """Numbers that give an HDNet its size, and its readings (see the head of this file).

    width: channels at full size (ngf); 32 is HDNet, 8 HDNet-lite. inputs: 3 for RGB, 4 with the
    mask. guide: whether the unused layer is there. thumbnail: edge in pixels, a multiple of 8.
    """

    width: int = 32
    inputs: int = 3
    guide: bool = True
    dynamics: str = "coded"
    neighbours: int = 1
    masks: str = "nearest"
    output: str = "tanh"
    route: str = "native"
    thumbnail: int = 256

    READINGS: ClassVar[tuple[str, ...]] = (
        "dynamics", "neighbours", "masks", "output", "route", "thumbnail",
    )  # fmt: skip

    def __post_init__(self) -> None:
        for field, known in (
            ("dynamics", ("coded", "paper")),
            ("masks", ("nearest", "area")),
            ("output", ("tanh", "residual")),
            ("route", ("native", "guided")),
        ):
            if getattr(self, field) not in known:
                raise ValueError(f"{field} is {getattr(self, field)!r}, expected one of {known}")
        if self.thumbnail % STRIDE or self.thumbnail < SMALLEST:
            raise ValueError(f"thumbnail is {self.thumbnail}, expected a multiple of 8 from 16")

    @classmethod
    def published(cls, variant: str = "hdnet") -> HDNetConfig:
        """As in the authors' code: "hdnet" or "hdnet-lite"."""
        return cls(width={"hdnet": 32, "hdnet-lite": 8}[variant])

    @classmethod
    def compact(cls) -> HDNetConfig:
        """HDNet-lite's width with the paper's reading; 0.65 M parameters."""
        return cls(
            width=8,
            inputs=4,
            guide=False,
            dynamics="paper",
            masks="area",
            output="residual",
            route="guided",
        )


# --- Local Dynamics (Sec. 3.2) ------------------------------------------------------------------


@torch.no_grad()
def nearest(query: Tensor, support: Tensor, k: int = 1) -> tuple[Tensor, Tensor]:
    """The k supports with the largest dot products with each query, without the whole table.

    Args:
        query: (Nf, C). support: (Nb, C), Nb at least 1.

    Returns:
        Products and indices, (Nf, min(k, Nb)), largest first.
    """
    k = min(k, len(support))
    values, indices = [], []
    for q in query.split(QUERIES):
        best: Tensor | None = None
        place: Tensor | None = None
        first = 0
        for s in support.split(SUPPORTS):
            similar = q @ s.T
            # A maximum is several times cheaper than a partial sort of one.
            few = min(k, len(s))
            v, i = similar.max(1, keepdim=True) if few == 1 else similar.topk(few, dim=1)
            i, first = i + first, first + len(s)
            if best is not None and place is not None:
                v, i = torch.cat([best, v], 1), torch.cat([place, i], 1)
                v, order = v.topk(min(k, v.shape[1]), dim=1)
                i = i.gather(1, order)
            best, place = v, i
        assert best is not None and place is not None
        values.append(best)
        indices.append(place)
    return torch.cat(values), torch.cat(indices)


def coded_reference(query: Tensor, support: Tensor, nothing: int, certain: bool) -> Tensor:
    """phi_ref as the authors' code has it, from the places that matter alone.

    There, queries x m and supports x (1 - m) stand for *all* places, most of them 0, and the
    weight of a place's best support is its softmax over all places.

    Args:
        query: (Nf, C), of the places with m > 0. support: (Nb, C), of those with m < 1.
        nothing: how many places have m = 0: queries of 0, whose best product is 0.
        certain: whether any has m = 1: a support of 0, so that no best product is below 0.

    Returns:
        (Nf, C).
    """
    if not len(support):
        return torch.zeros_like(query)
    index = nearest(query, support)[1][:, 0]
    best = support[index]
    value = (query * best).sum(1)  # again, for gradients
    if certain:
        best = best * (value > 0).to(best)[:, None]
        value = value.clamp(min=0)
    total = value.logsumexp(0)
    if nothing:
        total = torch.logaddexp(total, total.new_tensor(float(nothing)).log())
    return (value - total).exp()[:, None] * best


def paper_reference(query: Tensor, support: Tensor, k: int) -> Tensor:
    """phi_ref of eqs. (2) to (4): the k nearest background places by cosine, blended.

    Args:
        query: (Nf, C), F_f. support: (Nb, C), F_b.

    Returns:
        (Nf, C); 0 if there is no background.
    """
    if not len(support):
        return torch.zeros_like(query)
    unit_f, unit_b = F.normalize(query, dim=1), F.normalize(support, dim=1)
    index = nearest(unit_f, unit_b, k)[1]
    cosine = (unit_f[:, None] * unit_b[index]).sum(2)  # eqs. (2), (3); (Nf, K)
    alpha = cosine.softmax(1)
    return (alpha[:, :, None] * support[index]).sum(1)  # eq. (4)


class LocalDynamics(nn.Module):
    """Foreground places, rewritten with the help of the background's."""

    def __init__(self, channels: int, reading: str, neighbours: int) -> None:
        super().__init__()
        self.linear = nn.Conv1d(2 * channels, channels, 1)  # g of eq. (5)
        self.reading, self.neighbours = reading, neighbours

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, C, h, w) with the mask at the same size, (B, 1, h, w)."""
        flat, masks = x.flatten(2).mT, mask.flatten(1)  # (B, N, C), (B, N)
        out = [self._picture(*pair) for pair in zip(flat, masks, strict=True)]
        return torch.stack(out).mT.unflatten(2, x.shape[2:])

    def _picture(self, x: Tensor, m: Tensor) -> Tensor:
        """(N, C), m (N,)."""
        there = (m > 0).nonzero()[:, 0]
        if not len(there):
            return x
        own, share = x[there], m[there, None]
        if self.reading == "coded":
            own = own * share
            around = (m < 1).nonzero()[:, 0]
            support = x[around] * (1 - m[around, None])
            nothing, certain = len(m) - len(there), len(around) < len(m)
            reference = coded_reference(own, support, nothing, certain)
        else:
            support = x[(m < 0.5).nonzero()[:, 0]]
            reference = paper_reference(own, support, self.neighbours)
        weight = self.linear.weight[:, :, 0]
        fused = F.linear(torch.cat([reference, own], 1), weight, self.linear.bias)  # eq. (5)
        return x.index_copy(0, there, torch.lerp(x[there], fused, share))


# --- Mask-aware Global Dynamics (Sec. 3.3) ------------------------------------------------------


def pool(x: Tensor) -> Tensor:
    """What the kernels are chosen by: the mean of the whole picture, (B, D, 1, 1)."""
    return x.mean((2, 3), keepdim=True)


class GlobalDynamics(nn.Module):
    """A 1 x 1 kernel for the foreground and one for the background, chosen by the picture."""

    def __init__(self, channels: int, guide: bool) -> None:
        super().__init__()
        self.conv_kernel = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, 4, 1),
            nn.Sigmoid(),
            nn.Conv2d(4, 2 * channels**2, 1, groups=2),
        )
        if guide:
            self.conv_guide = nn.Conv2d(channels, 2, 1)

    def start_at_identity(self) -> None:
        """Kernels that change nothing, but for the small part that follows the picture."""
        bias = self.get_parameter("conv_kernel.3.bias")
        d = round((len(bias) / 2) ** 0.5)
        with torch.no_grad():
            bias.view(2, d, d).copy_(torch.eye(d))

    def kernels(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """W_f and W_b of eq. (6), (B, D, D) each, from (B, D, 1, 1)."""
        d = pooled.shape[1]
        w_f, w_b = self.conv_kernel[1:](pooled).view(-1, 2, d, d).unbind(1)
        return w_f, w_b

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Eq. (6), with the mask at the size of x."""
        w_f, w_b = self.kernels(pool(x))
        flat = x.flatten(2)
        return torch.lerp(w_b @ flat, w_f @ flat, mask.flatten(2)).unflatten(2, x.shape[2:])


# --- The network (Fig. 2) -----------------------------------------------------------------------


def skip(raw: Tensor, activated: Tensor) -> Tensor:
    """What an encoder level hands to the decoder: activated, since it happens in place."""
    del raw
    return activated


def at_size(mask: Tensor, height: int, width: int, rule: str) -> Tensor:
    """The mask at the size of a level."""
    if mask.shape[2:] == (height, width):
        return mask
    if rule == "area":
        return F.adaptive_avg_pool2d(mask, (height, width))
    return F.interpolate(mask, (height, width), mode="nearest")


class HDNet(nn.Module):
    """The whole network; `state_dict` has the published 65 keys."""

    needs_closeup = False
    takes_reference = False

    def __init__(self, config: HDNetConfig) -> None:
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
        self.model_layer11att = GlobalDynamics(8 * c, config.guide)
        self.model_layer12 = up(8 * c, 2 * c, 3)
        self.model_layer12norm = Rain(2 * c)
        self.model_layer12att = GlobalDynamics(4 * c, config.guide)
        self.model_layer13 = up(4 * c, c, 4)
        self.model_layer13norm = Rain(c)
        self.model_layer13att = GlobalDynamics(2 * c, config.guide)
        last = nn.ConvTranspose2d(2 * c, 3, 3, 1, 1)
        self.model_out = nn.Sequential(nn.ReLU(), last, nn.Tanh())
        self.LD = LocalDynamics(8 * c, config.dynamics, config.neighbours)
        if not self.LD.linear.weight.is_meta:
            self._start()

    def _start(self) -> None:
        """The authors' start values; a residual starts with kernels that change nothing."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Conv1d):
                nn.init.normal_(module.weight, 0, 0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        if self.config.output == "residual":
            for module in self.modules():
                if isinstance(module, GlobalDynamics):
                    module.start_at_identity()

    @property
    def thumbnail_edge(self) -> int:
        return self.config.thumbnail

    @property
    def thumbnail_filter(self) -> str:
        """The authors resize with PIL's antialiased bilinear filter."""
        return "triangle" if self.config.masks == "nearest" else "area"

    def inputs(self, image: Tensor, mask: Tensor) -> Tensor:
        return torch.cat([image, mask], 1) if self.config.inputs == 4 else image

    def finish(self, raw: Tensor, image: Tensor) -> Tensor:
        """The last layer's numbers as colours in [-1, 1] space."""
        return raw + image if self.config.output == "residual" else torch.tanh(raw)

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
        out["output"] = self.finish(self.model_out[:2](out["MGD13_out"]), image)
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


# --- At full size ------------------------------------------------------------------------------


def _reflected(start: int, stop: int, length: int) -> Tensor:
    """Indices of places beyond the end of a line, mirrored about its last pixel and its first."""
    period = max(2 * (length - 1), 1)
    index = torch.arange(start, stop) % period
    return torch.minimum(index, period - index) if length > 1 else torch.zeros_like(index)


@dataclass(frozen=True)
class Native:
    """The network on the whole picture, at its own size.

    colours: (1, 3, h, w) of `box`, once the picture has been shown to `bind`.
    """

    net: HDNet
    colours: Tensor | None = None
    box: Window | None = None

    @property
    def reach(self) -> Reach:
        return Reach(bytes_per_pixel=24)

    @torch.no_grad()
    def bind(self, source: Source) -> Native:
        """Run the network, mirroring the picture at its right and bottom to multiples of 8.

        Takes about 15 bytes a pixel for each channel of the configuration's width.
        """
        net, size = self.net, source.size
        height, width = (max(SMALLEST, -(-n // STRIDE) * STRIDE) for n in (size.height, size.width))
        like = net.model_layer0.weight
        inputs = not_filled(like, net.config.inputs, height, width)
        mask = torch.empty((1, 1, height, width), dtype=like.dtype, device=like.device)
        for top in range(0, size.height, ROWS_READ):
            rows = slice(top, min(top + ROWS_READ, size.height))
            rgb, soft = source.read(Window(rows.start, rows.stop, 0, size.width, size))
            mask[..., rows, : size.width] = soft.to(mask)
            inputs[:, :, rows, : size.width] = net.inputs(rgb.to(mask) * 2 - 1, soft.to(mask))
        below, beside = (
            _reflected(n, end, n).to(like.device)
            for n, end in ((size.height, height), (size.width, width))
        )
        for x in (inputs, mask):
            x[..., size.width :] = x[..., beside]
            x[:, :, size.height :] = x[:, :, below]
        box = source.box
        if not box.height or not box.width:
            return Native(net, mask.new_empty(1, 3, 0, 0), box)
        result = source.scratch(1, 3, box.height, box.width)
        whole = Window(box.top, box.bottom, box.left, box.right, Size(height, width))
        rule = net.config.masks
        masks = {n: at_size(mask, height // n, width // n, rule) for n in (1, 2, 4, 8)}
        WholePicture(net, inputs, masks, whole, LEAK).run(result)
        return Native(net, result, box)

    def apply(self, rgb: Tensor, mask: Tensor, window: Window) -> Tensor:
        """Colours from the result of `bind`; see `Transform.apply`.

        Raises:
            ValueError: the picture has not been shown to `bind`.
        """
        del mask
        if self.colours is None or self.box is None:
            raise ValueError("this Transform must be bound to a picture before it is applied")
        box, out = self.box, rgb.clone()
        inner = Window(
            max(window.top, box.top),
            min(window.bottom, box.bottom),
            max(window.left, box.left),
            min(window.right, box.right),
            window.size,
        )
        if inner.height > 0 and inner.width > 0:
            part = self.colours[(..., *inner.inside(box))]
            out[(..., *inner.inside(window))] = part.to(out)
        return out


# --- From names and weights -----------------------------------------------------------------------


def published(variant: str) -> HDNet:
    """The network exactly as published, in eval mode, with random start values.

    Raises:
        ValueError: `variant` is neither "hdnet" nor "hdnet-lite".
    """
    if variant not in ("hdnet", "hdnet-lite"):
        raise ValueError(f"there is no HDNet {variant!r}: hdnet or hdnet-lite")
    return HDNet(HDNetConfig.published(variant)).eval()


def detect(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """ "hdnet" if these are an HDNet's weights, of any width; else None."""
    first, fuse = shapes.get("model_layer0.weight"), shapes.get("LD.linear.weight")
    if first is None or fuse is None or len(first) != 4 or first[2:] != (3, 3):
        return None
    c = first[0]
    fits = first[1] in (3, 4) and fuse == (8 * c, 16 * c, 1)
    dynamic = shapes.get("model_layer13att.conv_kernel.3.weight") == (2 * (2 * c) ** 2, 2, 1, 1)
    return "hdnet" if fits and dynamic else None


def config_from(shapes: Mapping[str, tuple[int, ...]], readings: Mapping[str, str]) -> HDNetConfig:
    """The configuration behind weights: sizes from shapes, the rest from metadata.

    Args:
        shapes: of an HDNet, see `detect`. readings: some of HDNetConfig.READINGS, as strings;
            those that lack are the published ones.

    Raises:
        ValueError: a reading is unknown.
    """
    width, inputs = shapes["model_layer0.weight"][:2]
    known = {name: readings[name] for name in HDNetConfig.READINGS if name in readings}
    numbers = {n: int(known.pop(n)) for n in ("neighbours", "thumbnail") if n in known}
    guide = any(".conv_guide." in name for name in shapes)
    return HDNetConfig(width=width, inputs=inputs, guide=guide, **numbers, **known)  # type: ignore[arg-type]
