"""What a batch is made of: a picture, its masks, and where its result goes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hzcli.errors import HzError


@dataclass(frozen=True)
class Job:
    """One picture to harmonise.

    mask: the first of `masks`; None only where `error` says why, or nobody asked for one.
    mask_source: "alpha" reads the alpha channel of `mask`, "psd:NAME" that layer of it.
    masks: all of them, in the order in which the picture is harmonised.
    rule: the option that found them.
    output: where the result goes, relative to the output folder.
    error: why this picture cannot be done; the others can.
    """

    composite: Path
    mask: Path | None
    output: Path
    mask_source: str = "auto"
    truth: Path | None = None
    error: HzError | None = None
    warnings: tuple[str, ...] = ()
    masks: tuple[Path, ...] = ()
    rule: str = ""

    def __post_init__(self) -> None:
        if self.mask is not None and not self.masks:
            object.__setattr__(self, "masks", (self.mask,))
