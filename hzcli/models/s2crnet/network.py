"""S2CRNet's network: trunk, vectors of both sides, curve rendering modules in a cascade.

Letters: B pictures, D features, (h, w) the thumbnail, (H, W) the full picture.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hzcli.catalog import WeightsCard
from hzcli.core.curves import FINE, Curves, compose, sampled
from hzcli.core.lut import Lut3D
from hzcli.core.transform import Thumbnail
from hzcli.core.window import Size, Window
from hzcli.errors import ModelError
from hzcli.models.s2crnet.config import S2CRNetConfig
from hzcli.models.s2crnet.rendering import CurveModule, curves_of
from hzcli.nets.compact import COLOUR_STATISTICS, CompactEncoder
from hzcli.nets.doubt import believed, doubts
from hzcli.nets.trunks import TRUNKS, Side, close_up, colour_statistics, pool, resized
from hzcli.nets.views import Looks, closer, look

LABELS = {"person": 0, "animal": 1, "food": 2, "vehicle": 3, "others": 4}
# Knots of a cascade while it learns: cheap, and a multiple of every L that is a power of two.
LEARNING_KNOTS = 1025


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
            return self._doubted(cascade[0], thumb)
        learning = cascade[0].knots.requires_grad
        return self._doubted(sampled(cascade, LEARNING_KNOTS if learning else FINE), thumb)

    def predict_lut(self, thumb: Thumbnail) -> Lut3D:
        """The same as a table: exact for one stage of up to 64 pieces, near it for more."""
        cascade = self.stages(thumb)
        nodes = min(65, self.config.pieces + 1 if len(cascade) == 1 else 65)
        return self._doubted(sampled(cascade, nodes), thumb).as_lut(nodes)

    def curves(self, thumb: Thumbnail) -> Curves:
        """The cascade with as few knots as it takes, for those who want to edit it (Sec. 5)."""
        first, *others = self.stages(thumb)
        for curves in others:
            first = compose(first, curves)
        return self._doubted(first, thumb)

    def _doubted(self, curves: Curves, thumb: Thumbnail) -> Curves:
        """The curves as far as they are believed (nets/doubt.py); no further, or one that hardly
        rises would fall."""
        if not doubts(self):
            return curves
        window = Window.whole(Size(*thumb.rgb.shape[2:]))
        recoloured = curves.apply(thumb.rgb, thumb.mask, window)
        share = believed(self, recoloured, thumb.rgb, thumb.mask, most=1.0)[:, None, None]
        same = curves.places
        if same is None:
            same = torch.linspace(0, 1, curves.pieces + 1).to(curves.knots)
        return replace(curves, knots=same + share * (curves.knots - same))

    def stages(self, thumb: Thumbnail) -> tuple[Curves, ...]:
        """The curves of each stage, in the order in which they are applied."""
        label = None if self.label is None else torch.tensor(self.label)
        size = tuple(thumb.rgb.shape[2:])
        if self.config.pooling == "whole":
            size = (self.config.thumbnail,) * 2
        near: Looks = []
        if isinstance(self.joint, CompactEncoder):
            whole, fits, near = closer(self, *_composited(thumb))
            size = tuple(whole.shape[2:]) if near else size
        if self.needs_closeup and thumb.closeup is None:
            thumb = replace(thumb, closeup=close_up(thumb, size))
        thumb = _fitted(thumb, size)
        if near:
            thumb = replace(thumb, mask=fits)
        parameters = self._parameters_of(thumb, label, near)
        return tuple(curves_of(p, self.config.curve) for p in parameters)

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

    def _parameters_of(
        self, thumb: Thumbnail, label: Tensor | None, near: Looks | None = None
    ) -> list[Tensor]:
        """P of each stage, (B, outputs). near: closer looks of the compact encoder."""
        config = self.config
        front, back, same = self._sides(thumb)
        f_f, f_b = self._vectors(front, back)
        joint = None
        if isinstance(self.joint, CompactEncoder):
            joint = look(self.joint, *_composited(thumb), near)[1]
        elif self.joint is not None:
            whole = front
            if config.foreground == "closeup":
                whole = Side(thumb.rgb, thumb.mask)
            joint = self.joint(f_f, f_b, colour_statistics(whole, back, same))
        kind = None if label is None else self._kind(label, f_f)
        return [module(f_f, f_b, joint, kind) for module in self._cascade]

    @property
    def _cascade(self) -> list[nn.Module]:
        """In the order of the stages."""
        return [self.fusion[f"cr{n}"] for n in self.config.order]

    def _vectors(self, front: Side, back: Side) -> tuple[Tensor, Tensor]:
        """F_f and F_b, (B, D) each."""
        trunk = self.get_submodule(TRUNKS[self.config.trunk][0])
        parts = [side.rgb * side.region for side in (front, back)]
        if parts[0].shape == parts[1].shape:
            maps = trunk(torch.cat(parts)).chunk(2)
        else:
            maps = [trunk(part) for part in parts]
        pairs = zip(maps, (front, back), strict=True)
        f_f, f_b = (pool(map_, side.region, self.config.pooling) for map_, side in pairs)
        return f_f, f_b

    # --- What train/refit.py asks for ---

    readers: ClassVar[list[nn.Linear]] = []

    def measured(self, rgb: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """What `rendered` needs of composites (B, 3, h, w): F_f and F_b with the statistics of the
        compact encoder, and their colours."""
        front, back, _ = self._sides(Thumbnail(rgb, mask, full=None))  # type: ignore[arg-type]
        others = self.joint.measured(rgb, mask)[1]  # type: ignore[union-attr, operator]
        return torch.cat([*self._vectors(front, back), others], 1), rgb

    def rendered(self, statistics: Tensor, pixels: Tensor) -> tuple[Tensor, None]:
        """Colours (B, 3, P) by the cascade, stage by stage; no table."""
        size = self.config.widths[-1]
        f_f, f_b, others = statistics.tensor_split([size, 2 * size], 1)
        joint = self.joint.code(others)  # type: ignore[union-attr, operator]
        out = pixels
        for module in self._cascade:
            out = curves_of(module(f_f, f_b, joint, None), self.config.curve).at(out)
        return out, None

    @property
    def last(self) -> list[nn.Parameter]:
        """The curve rendering modules."""
        return list(self.fusion.parameters())

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
