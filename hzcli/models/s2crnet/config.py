"""What an S2CRNet is made of, and how it is read: the authors' code, the paper, and ours.

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
  - cascade: which module each stage uses. "12" is the paper's, n = 2; one of the authors'
    networks has a second module that is never run ("1"), and one runs its third twice ("1233").
Not in the paper: hidden > 0 adds to each stage's slopes what a small network sees in both
vectors and in colour statistics at once, or, with channels, what nets/compact.py sees in the
whole composite; eq. (1)'s P is a sum of the two sides by themselves.

Letter: L pieces of a curve.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from hzcli.models.told import Filter
from hzcli.nets.trunks import SQUEEZENET, TRUNKS, VGG16

Foreground = Literal["closeup", "thumbnail"]
Pooling = Literal["whole", "masked"]
Curve = Literal["published", "monotone", "free"]


@dataclass(frozen=True)
class S2CRNetConfig:
    """Numbers that give an S2CRNet its size, then the readings that no tensor shows.

    trunk, widths: see nets.trunks. pieces: L. stages: modules that there are. labels: kinds that
    the semantic heads know, 0 leaves these out. hidden: width of the joint network, 0 for none.
    channels, blocks: of the encoder that takes the joint network's place; () for none.

    thumbnail: edge of the thumbnail that weights were made for. thumbnail_filter: how it is to be
    made. closer: how many closer looks that encoder takes (nets/views.py). doubt: how much less is
    changed where it is little (nets/doubt.py). The others: see the head of this file; an empty
    cascade is the usual one.
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
    thumbnail_filter: Filter = "triangle"
    foreground: Foreground = "closeup"
    pooling: Pooling = "whole"
    curve: Curve = "published"
    cascade: str = ""
    closer: int = 0
    doubt: float = 0.0

    READINGS: ClassVar[tuple[str, ...]] = (
        "thumbnail", "thumbnail_filter", "foreground", "pooling", "curve", "cascade",
        "closer", "doubt",
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
            channels=(32, 64, 128, 192), blocks=0, thumbnail=224, thumbnail_filter="area",
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
