"""What an AICT is made of, and how it is read: the published network, and ours.

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
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

NO_TRANSFORMER: dict = {"patch": 0, "width": 0, "depth": 0, "hidden": 0, "bottom": ()}


@dataclass(frozen=True)
class AICTConfig:
    """Numbers that give an AICT its size, and readings.

    thumbnail: edge of the square thumbnail, a multiple of 32, or of the patch.
    intervals: K. latent: channels of the map that C and F are read from.
    degrees: Legendre polynomials of the curve that a picture's code alone decides.
    encoder: "vit", with patch, width, depth, heads, hidden, and (middle, bottom) channels of the
        convolutions before the global weight; or "compact", with channels, blocks, code.
    clamp, residual, floor, align_corners: readings, see the head of this file.
    closer, doubt: as HINet's, of the compact encoder.
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
    degrees: int = 4
    clamp: bool = True
    residual: bool = False
    floor: float = 0.0
    align_corners: bool = True
    closer: int = 0
    doubt: float = 0.0

    READINGS: ClassVar[tuple[str, ...]] = (
        "thumbnail",
        "heads",
        "clamp",
        "residual",
        "floor",
        "align_corners",
        "closer",
        "doubt",
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
            blocks=0,
            code=512,
            degrees=8,
            **NO_TRANSFORMER,
            clamp=False,
            residual=True,
            floor=0.25,
            align_corners=False,
        )
