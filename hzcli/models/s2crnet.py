"""S2CRNet: Spatial-Separated Curve Rendering Network for Efficient and High-Resolution Image
Harmonization.

Jingtang Liang, Xiaodong Cun, Chi-Man Pun, Jue Wang. ECCV 2022, arXiv 2109.05750. The authors'
code: github.com/stefanLeong/S2CRNet (MIT); this file is written from the paper and from
measurements, not from that code.

A shared trunk sees the foreground and the background apart (Sec. 3.1); each is averaged to one
vector, F_f and F_b. From the two, a curve rendering module (CRM) predicts the slopes of a
piecewise-linear curve per channel, which recolours the full picture (Sec. 3.2); a semantic label
may join in, and further modules may refine what the first one rendered.

Where paper and code differ, or the paper's choice can be bettered, both can be had.
`S2CRNetConfig.published` is the code as it is; our own configurations take the other reading:
  - foreground="closeup": the mask's bounding box, enlarged to the trunk's size; the paper, Fig. 3
    ("thumbnail"): the masked thumbnail, so that both sides are seen at one scale.
  - pooling="whole": means over the whole map, blank parts included, so that vectors fade with the
    size of their region. "masked": means over the region.
  - curve="published": eq. (1) with slopes of any sign, which explodes where they cancel and may
    fall. "monotone": slopes are positive (the paper's word is monotonous) and so is their sum.
    "free": slopes are positive and absolute, and the curve's ends move too; by eq. (1) black
    stays black and white stays white. Both start at the identity.
  - eq. (1) prints 1 where its ramp ends; a ramp of height 1 / L is meant, and divided by 1 / L.
  - the projections have no ReLU in the code, here neither.
  - cascade: which module each stage uses. "12" is the paper's, n = 2; one of the authors'
    networks has a second module that is never run ("1"), and one runs its third twice ("1233").
Not in the paper: hidden > 0 adds to each stage's slopes what a small network sees in both
vectors and in colour statistics at once, or, with channels, what nets/compact.py sees in the
whole composite; eq. (1)'s P is a sum of the two sides by themselves.

Letters: B pictures, D features, L pieces of a curve, S edge of the thumbnail.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hzcli.catalog import WeightsCard
from hzcli.core.curves import FINE, Curves, compose, exact_dtype, sampled
from hzcli.core.lut import Lut3D
from hzcli.core.transform import Thumbnail
from hzcli.errors import ModelError
from hzcli.nets.compact import COLOUR_STATISTICS, CompactEncoder
from hzcli.nets.trunks import (
    SQUEEZENET,
    TRUNKS,
    VGG16,
    Side,
    close_up,
    colour_statistics,
    pool,
    resized,
    width_keys,
    widths_from,
)

LABELS = {"person": 0, "animal": 1, "food": 2, "vehicle": 3, "others": 4}
EMBEDDED = (32, 64)  # of a label's two layers
# What heads of our own predict is a small multiple of their output, so that one learning rate
# suits them and the trunk: an Adam step moves a head's result by rate x fan-in, not by rate.
GAIN = 0.1
# Knots of a cascade while it learns: cheap, and a multiple of every L that is a power of two.
LEARNING_KNOTS = 1025

Foreground = Literal["closeup", "thumbnail"]
Pooling = Literal["whole", "masked"]
Curve = Literal["published", "monotone", "free"]


# --- Configuration --------------------------------------------------------------------------


@dataclass(frozen=True)
class S2CRNetConfig:
    """Numbers that give an S2CRNet its size, then the readings that no tensor shows.

    trunk, widths: see nets.trunks. pieces: L. stages: modules that there are. labels: kinds that
    the semantic heads know, 0 leaves these out. hidden: width of the joint network, 0 for none.
    channels, blocks: of the encoder that takes the joint network's place; () for none.

    thumbnail: edge of the thumbnail that weights were made for. thumbnail_filter: how it is to be
    made. The others: see the head of this file; an empty cascade is the usual one.
    """

    trunk: str = "squeezenet"
    widths: tuple[int, ...] = SQUEEZENET
    pieces: int = 64
    stages: int = 2
    labels: int = 5
    hidden: int = 0
    channels: tuple[int, ...] = ()
    blocks: int = 0

    thumbnail: int = 256
    thumbnail_filter: str = "triangle"
    foreground: Foreground = "closeup"
    pooling: Pooling = "whole"
    curve: Curve = "published"
    cascade: str = ""

    READINGS: ClassVar[tuple[str, ...]] = (
        "thumbnail", "thumbnail_filter", "foreground", "pooling", "curve", "cascade",
    )  # fmt: skip

    def __post_init__(self) -> None:
        if self.trunk not in TRUNKS:
            raise ValueError(f"there is no trunk {self.trunk!r}: {' or '.join(TRUNKS)}")
        for name, known in (
            ("foreground", ("closeup", "thumbnail")),
            ("pooling", ("whole", "masked")),
            ("curve", ("published", "monotone", "free")),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}, expected one of {known}")
        if not all(1 <= n <= self.stages for n in self.order):
            raise ValueError(f"cascade {self.cascade!r} needs more than {self.stages} stages")

    @classmethod
    def published(cls, variant: str = "s2crnet-s") -> S2CRNetConfig:
        """The authors' network: "s2crnet-s" (SqueezeNet) or "s2crnet-v" (VGG16).

        Raises:
            ValueError: there is no such variant.
        """
        if variant not in ("s2crnet-s", "s2crnet-v"):
            raise ValueError(f"there is no variant {variant!r}: s2crnet-s or s2crnet-v")
        return cls() if variant == "s2crnet-s" else cls(trunk="vgg16", widths=VGG16)

    @classmethod
    def compact(cls) -> S2CRNetConfig:
        """Small enough to train and run on a CPU, with the better readings."""
        return cls(
            widths=(32, 64, 64, 96, 96, 128, 128, 192), pieces=32, labels=0, hidden=512,
            channels=(32, 64, 128, 192), blocks=3, thumbnail=224, thumbnail_filter="area",
            foreground="thumbnail", pooling="masked", curve="free",
        )  # fmt: skip

    @property
    def order(self) -> tuple[int, ...]:
        """The number of the module that each stage uses, counted from 1."""
        if self.cascade:
            return tuple(int(n) for n in self.cascade)
        return (1, 2, 3, 3) if self.stages == 4 else tuple(range(1, self.stages + 1))

    @property
    def outputs(self) -> int:
        """Length of a module's prediction: L slopes a channel, and one offset where ends move."""
        return 3 * (self.pieces + (self.curve == "free"))


# --- Curves (eq. (1)) -----------------------------------------------------------------------


def curves_of(p: Tensor, curve: Curve = "published") -> Curves:
    """The curves psi that a prediction P stands for.

    Args:
        p: (B, 3L), channel by channel; for "free" curves (B, 3 (L + 1)), an offset first in each.
        curve: see the head of this file.

    Returns:
        Curves with knots at i / L. Summing slope i over [i / L, (i + 1) / L], eq. (1) is
        psi(k / L) = sum_{i<k} p_i / sum_j p_j there, and linear in between.
    """
    slopes = p.unflatten(1, (3, -1)).to(exact_dtype(p.device))  # channel-major
    start = torch.zeros_like(slopes[..., :1])
    if curve == "published":
        total = slopes.sum(2, keepdim=True) + 1e-30
    else:
        slopes = GAIN * slopes
        if curve == "free":
            start, slopes = slopes[..., :1], slopes[..., 1:]
        slopes = slopes.clamp(max=0).exp() + F.relu(slopes)  # positive, 1 at 0, straight above
        if curve == "monotone":
            total = slopes.sum(2, keepdim=True).clamp_min(1e-6)
        else:
            total = torch.full_like(start, slopes.shape[2])
    knots = torch.cat([start, start + slopes.cumsum(2) / total], 2)
    return Curves(knots.to(p.dtype))


class Projection(nn.Module):
    """phi_f or phi_b: one linear layer."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc1(x)


class CurveModule(nn.Module):
    """CRM, and semantic CRM when a label is given: both heads are in published weights."""

    def __init__(self, features: int, config: S2CRNetConfig) -> None:
        super().__init__()
        outputs, (narrow, wide) = config.outputs, EMBEDDED
        self.fc_f_1 = Projection(features, outputs)
        self.fc_b_1 = Projection(features, outputs)
        last = [self.fc_f_1.fc1, self.fc_b_1.fc1]
        if config.labels:
            self.fc_label_1 = nn.Linear(config.labels, narrow)
            self.fc_label_2 = nn.Linear(narrow, wide)
            self.fc_f_label = nn.Linear(features + wide, outputs)
            last.append(self.fc_f_label)
        if config.hidden:
            self.fc_joint = nn.Linear(config.hidden, outputs)
            last.append(self.fc_joint)
        if config.curve != "published":  # P = 0 is the identity then
            for layer in last:
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, f_f: Tensor, f_b: Tensor, joint: Tensor | None, label: Tensor | None):
        """F_f and F_b (B, D), what the joint network says (B, hidden), a label (B, labels) that
        is 1 at its kind, to P = phi_f(F_f) + phi_b(F_b), (B, outputs)."""
        if label is None:
            p = self.fc_f_1(f_f)
        else:
            embedded = self.fc_label_2(F.relu(self.fc_label_1(label)))
            p = self.fc_f_label(torch.cat([f_f, embedded], 1))  # on the foreground's side alone
        p = p + self.fc_b_1(f_b)
        return p if joint is None else p + self.fc_joint(joint)


class Joint(nn.Module):
    """Both vectors and the colours of both sides, seen at once."""

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(2 * features)
        self.first = nn.Linear(2 * features + COLOUR_STATISTICS, hidden)
        self.second = nn.Linear(hidden, hidden)

    def forward(self, f_f: Tensor, f_b: Tensor, colours: Tensor) -> Tensor:
        seen = torch.cat([self.norm(torch.cat([f_f, f_b], 1)), colours], 1)
        return F.silu(self.second(F.silu(self.first(seen))))


# --- The network ----------------------------------------------------------------------------


class S2CRNet(nn.Module):
    """Predicts Curves from a thumbnail.

    label: the semantic label of the pictures to come, one of `labels`' values; None for none.
    """

    takes_reference = True  # Fig. 9: F_b may be another picture's, and guides just as well
    labels: ClassVar[dict[str, int]] = LABELS

    def __init__(self, config: S2CRNetConfig) -> None:
        super().__init__()
        self.config = config
        self.card = WeightsCard(id="untrained", model="s2crnet", file="")
        self.label: int | None = None
        name, build, _ = TRUNKS[config.trunk]
        self.add_module(name, build(config.widths))
        features = config.widths[-1]
        modules = {f"cr{n}": CurveModule(features, config) for n in range(1, config.stages + 1)}
        self.fusion = nn.ModuleDict(modules)
        self.joint: nn.Module | None = None
        if config.channels:
            self.joint = CompactEncoder(config.channels, config.blocks, config.hidden)  # type: ignore[arg-type]
        elif config.hidden:
            self.joint = Joint(features, config.hidden)

    @property
    def thumbnail_edge(self) -> int:
        return self.config.thumbnail

    @property
    def thumbnail_filter(self) -> str:
        return self.config.thumbnail_filter

    @property
    def needs_closeup(self) -> bool:
        return self.config.foreground == "closeup"

    def predict(self, thumb: Thumbnail) -> Curves:
        """The whole cascade as one curve per channel.

        Args:
            thumb: of any size where pooling is "masked"; otherwise it is resized to the edge that
                the network was trained with. `closeup`: see `needs_closeup`; cut out of the
                thumbnail where it is None. `reference`: takes the background's place.
        """
        cascade = self.stages(thumb)
        if len(cascade) == 1:
            return cascade[0]
        learning = cascade[0].knots.requires_grad
        return sampled(cascade, LEARNING_KNOTS if learning else FINE)

    def predict_lut(self, thumb: Thumbnail) -> Lut3D:
        """The same as a table: exact for one stage of up to 64 pieces, near it for more."""
        cascade = self.stages(thumb)
        nodes = self.config.pieces + 1 if len(cascade) == 1 else 65
        return sampled(cascade, min(nodes, 65)).as_lut(min(nodes, 65))

    def curves(self, thumb: Thumbnail) -> Curves:
        """The cascade with as few knots as it takes, for those who want to edit it (Sec. 5)."""
        first, *others = self.stages(thumb)
        for curves in others:
            first = compose(first, curves)
        return first

    def stages(self, thumb: Thumbnail) -> tuple[Curves, ...]:
        """The curves of each stage, in the order in which they are applied."""
        label = None if self.label is None else torch.tensor(self.label)
        size = tuple(thumb.rgb.shape[2:])
        if self.config.pooling == "whole":
            size = (self.config.thumbnail,) * 2
        if self.needs_closeup and thumb.closeup is None:
            thumb = replace(thumb, closeup=close_up(thumb, size))
        thumb = _fitted(thumb, size)
        return tuple(curves_of(p, self.config.curve) for p in self._parameters_of(thumb, label))

    def forward(
        self,
        image: Tensor,
        mask: Tensor,
        fg_image: Tensor | None = None,
        fg_mask: Tensor | None = None,
        label: int | Tensor | None = None,
        image_fullres: Tensor | None = None,
        mask_fullres: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Render a thumbnail stage by stage, and a full picture if there is one.

        Args:
            image: (B, 3, h, w), [0, 1]. mask: (B, 1, h, w), [0, 1]. Trained with 256 x 256;
                here they are taken as they are, 17 pixels or more a side.
            fg_image, fg_mask: the same of the mask's bounding box; cut out of them if left out.
            label: one for all, (B,) whole numbers, or (B, 5) that are 1 at the kind's place.
            image_fullres, mask_fullres: (B, 3, H, W) and (B, 1, H, W), [0, 1].

        Returns:
            p1, p2, ...: the predictions P of eq. (1), (B, 192); y1, y2, ...: I_1, I_2, ..., the
            picture after each stage, background included; composited: the last laid over the
            image by the mask. With a full picture images_fullres (the last stage) and, with its
            mask, composited_fullres. Of one stage, p2 and y2 are p1 and y1.
        """
        thumb = Thumbnail(image, mask, full=None)  # type: ignore[arg-type]
        if fg_image is not None and fg_mask is not None:
            thumb = Thumbnail(image, mask, None, Thumbnail(fg_image, fg_mask, None))  # type: ignore[arg-type]
        if label is not None:
            label = torch.as_tensor(label, device=image.device)
        out: dict[str, Tensor] = {}
        y, full = image, image_fullres
        for n, p in enumerate(self._parameters_of(thumb, label), 1):
            curves = curves_of(p, self.config.curve)
            y = curves.at(y.flatten(2)).view(y.shape)
            out[f"p{n}"], out[f"y{n}"] = p, y
            if full is not None:
                full = curves.at(full.flatten(2)).view(full.shape)
        for name in ("p", "y"):
            out.setdefault(f"{name}2", out[f"{name}1"])
        out["composited"] = y * mask + image * (1 - mask)
        if full is not None and image_fullres is not None:
            out["images_fullres"] = full
            if mask_fullres is not None:
                blended = full * mask_fullres + image_fullres * (1 - mask_fullres)
                out["composited_fullres"] = blended
        return out

    def _parameters_of(self, thumb: Thumbnail, label: Tensor | None) -> list[Tensor]:
        """P of each stage, (B, outputs)."""
        config = self.config
        front, back, same = self._sides(thumb)
        trunk = self.get_submodule(TRUNKS[config.trunk][0])
        parts = [side.rgb * side.region for side in (front, back)]
        if parts[0].shape == parts[1].shape:
            maps = trunk(torch.cat(parts)).chunk(2)
        else:
            maps = [trunk(part) for part in parts]
        f_f, f_b = (
            pool(map_, side.region, config.pooling)
            for map_, side in zip(maps, (front, back), strict=True)
        )
        joint = None
        if isinstance(self.joint, CompactEncoder):
            joint = self.joint(*_composited(thumb))[1]
        elif self.joint is not None:
            whole = front
            if config.foreground == "closeup":
                whole = Side(thumb.rgb, thumb.mask)
            joint = self.joint(f_f, f_b, colour_statistics(whole, back, same))
        kind = None if label is None else self._kind(label, f_f)
        modules = [self.fusion[f"cr{n}"] for n in config.order]
        return [module(f_f, f_b, joint, kind) for module in modules]

    def _sides(self, thumb: Thumbnail) -> tuple[Side, Side, bool]:
        """Foreground, background, and whether these are of one picture."""
        front = Side(thumb.rgb, thumb.mask)
        if self.config.foreground == "closeup":
            near = thumb.closeup
            if near is None:
                near = close_up(thumb, tuple(thumb.rgb.shape[2:]))
            front = Side(near.rgb, near.mask)
        if thumb.reference is None:
            return front, Side(thumb.rgb, 1 - thumb.mask), True
        return front, Side(thumb.reference, torch.ones_like(thumb.reference[:, :1])), False

    def _kind(self, label: Tensor, like: Tensor) -> Tensor:
        """(B, labels), 1 at the label's place."""
        count = self.config.labels
        if not count:
            raise ModelError(
                "these weights were made without semantic labels", "Leave the label out."
            )
        if label.is_floating_point():
            return label.to(like)
        if not 0 <= int(label.min()) <= int(label.max()) < count:
            raise ModelError(
                f"there is no semantic label {label.tolist()}", f"Labels go from 0 to {count - 1}."
            )
        kinds = F.one_hot(label.to(like.device).long(), count).to(like)
        return kinds.expand(len(like), -1)


def _composited(thumb: Thumbnail) -> tuple[Tensor, Tensor]:
    """Composite and mask as an encoder takes them: sides are multiples of 32, and a reference
    lies behind the foreground."""
    size = tuple(max(32, round(edge / 32) * 32) for edge in thumb.rgb.shape[2:])
    rgb, mask = resized(thumb.rgb, size), resized(thumb.mask, size)
    if thumb.reference is not None:
        rgb = rgb * mask + resized(thumb.reference, size) * (1 - mask)
    return rgb, mask


def _fitted(thumb: Thumbnail, size: tuple[int, ...]) -> Thumbnail:
    """The thumbnail and all that comes with it at one size; one reference for all pictures."""
    near, other = thumb.closeup, thumb.reference
    return Thumbnail(
        resized(thumb.rgb, size),
        resized(thumb.mask, size),
        thumb.full,
        None if near is None else _fitted(near, size),
        None if other is None else resized(other, size).expand(len(thumb.rgb), -1, -1, -1),
    )


# --- Weights --------------------------------------------------------------------------------


def published(variant: str = "s2crnet-s") -> S2CRNet:
    """The network as published, random start values, in eval mode."""
    return S2CRNet(S2CRNetConfig.published(variant)).eval()


def detect(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """ "s2crnet" if these tensors are one's, whatever its trunk, stages and size; else None."""
    heads = shapes.get("fusion.cr1.fc_b_1.fc1.weight", ())
    known = len(heads) == 2 and heads[0] % 3 == 0 and _trunk_of(shapes) is not None
    return "s2crnet" if known else None


def config_from(
    shapes: Mapping[str, tuple[int, ...]], readings: Mapping[str, str]
) -> S2CRNetConfig:
    """The configuration behind tensors, and readings kept beside them (missing: as published).

    Raises:
        ModelError: a tensor that tells the size is missing, or a reading is not known.
    """
    trunk = _trunk_of(shapes)
    if trunk is None:
        raise ModelError("these weights hold no trunk of S2CRNet", "They may be another model's.")
    prefix = TRUNKS[trunk][0] + "."
    own = {key.removeprefix(prefix): s for key, s in shapes.items() if key.startswith(prefix)}
    needed = [prefix + key for key in width_keys(trunk)] + ["fusion.cr1.fc_f_1.fc1.bias"]
    missing = [key for key in needed if key not in shapes]
    if missing:
        raise ModelError(f"the weights lack {missing[0]}", "The file may be cut off.")
    given: dict[str, Any] = {k: readings[k] for k in S2CRNetConfig.READINGS if k in readings}
    outputs = shapes["fusion.cr1.fc_f_1.fc1.bias"][0] // 3
    stages = 1
    while f"fusion.cr{stages + 1}.fc_b_1.fc1.weight" in shapes:
        stages += 1
    try:
        if "thumbnail" in given:
            given["thumbnail"] = int(given["thumbnail"])
        return S2CRNetConfig(
            trunk=trunk,
            widths=widths_from(trunk, own),
            pieces=outputs - (given.get("curve") == "free"),
            stages=stages,
            labels=shapes.get("fusion.cr1.fc_label_1.weight", (0, 0))[1],
            **_joint_sizes(shapes),
            **given,
        )
    except ValueError as error:
        raise ModelError(f"the weights' configuration is not known: {error}") from error


def _joint_sizes(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    if "joint.share" not in shapes:
        return {"hidden": shapes.get("joint.first.weight", (0,))[0]}
    sizes = CompactEncoder.sizes(shapes, "joint.")
    return {"hidden": sizes.pop("code"), **sizes}


def _trunk_of(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """Which trunk the keys speak of."""
    for name, (prefix, _, _) in TRUNKS.items():
        if len(shapes.get(f"{prefix}.0.weight", ())) == 4:
            return name
    return None
