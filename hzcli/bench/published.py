"""What papers print about cost, for their authors' networks on their authors' hardware.

Only what stands in the papers themselves. AICT's and PCT-Net's tables were not at hand; HDNet's
gives no picture size. Nothing here was measured by hz.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

HINET = "HINet, table V"
CDTNET = "CDTNet, table 3 (memory and FLOPs estimated by torchstat, which counts MACs)"
RTX, GTX = "GeForce RTX 3090", "GeForce GTX 1080 Ti"


@dataclass(frozen=True)
class Printed:
    """One line of a paper's table.

    variant: the network, as the catalogue names it. edge: of the square picture in pixels,
    None where the paper does not say it. splits: parts that the picture was handed over in.
    parameters in millions, gmacs in thousands of millions, memory_mb as printed (of the
    graphics card; CDTNet's is an estimate), seconds a picture. Empty where nothing is printed.
    """

    variant: str
    edge: int | None
    hardware: str
    source: str
    parameters: float | None = None
    gmacs: float | None = None
    memory_mb: float | None = None
    seconds: float | None = None
    splits: int = 1

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


PRINTED: tuple[Printed, ...] = (
    Printed("hinet", 2048, RTX, HINET, 38.21, 36.484, 7365, 0.23, splits=1),
    Printed("hinet", 2048, RTX, HINET, 38.21, 36.484, 2439, 0.52, splits=4),
    Printed("hinet", 2048, RTX, HINET, 38.21, 36.484, 831, 1.12, splits=16),
    Printed("s2crnet-s", 2048, RTX, HINET, 1.15, 0.605, 346, 0.16),
    Printed("cdtnet-sim", 1024, GTX, CDTNET, None, 3.49, 144, 0.0035),
    Printed("cdtnet", 1024, GTX, CDTNET, None, 78.05, 1923, 0.0108),
    Printed("cdtnet-sim", 2048, GTX, CDTNET, None, 3.49, 288, 0.0035),
    Printed("cdtnet", 2048, GTX, CDTNET, None, 267.10, 6723, 0.0109),
    Printed(
        "hdnet-lite",
        None,
        "Xeon Platinum 8369B",
        "HDNet, table 4 (50 pictures of HAdobe5k, size not given)",
        0.65,
        seconds=0.04,
    ),
)


def printed(variant: str, edge: int | None, splits: int | None = None) -> Printed | None:
    """What a paper prints about a network and a square picture of `edge` pixels, or None.

    Args:
        variant: as the catalogue names it.
        edge: of a square picture; None for any other.
        splits: parts that the picture is handed over in; None is one.
    """
    found = [
        line
        for line in PRINTED
        if line.variant == variant and line.edge in (edge, None) and line.splits == (splits or 1)
    ]
    return found[0] if found else None
