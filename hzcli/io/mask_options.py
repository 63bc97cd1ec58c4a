"""What is asked of masks, checked as soon as it is said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from hzcli.errors import UsageError

CHANNELS = ("auto", "r", "g", "b", "luma", "alpha")
RESIZES = ("bilinear", "lanczos")
LAYER = "psd:"
# More would be no edge any more: 500 to each side is a sixth of a 24-megapixel picture.
MOST_FEATHER = 500.0


@dataclass(frozen=True)
class MaskOptions:
    """What is done to a mask before it is used.

    source: "auto" reads the mask's file, "alpha" the picture's own transparency, "psd:NAME" the
        layer of that name.
    channel: "auto" takes what is grey, or the alpha where the colours say nothing; "r", "g", "b",
        "luma" and "alpha" take what they say.
    invert: black is the foreground.
    feather: pixels, at the picture's size, over which an edge is softened to each side; 0 to 500.
        A Gaussian with half of that as its standard deviation.
    resize: how a mask of another size is brought to the picture's; None refuses it.
    threshold: share of full scale, above 0 and up to 1, from which on a pixel is foreground and
        below which it is not; None leaves soft edges.

    Raises:
        UsageError: a value is out of its range.
    """

    source: str = "auto"
    channel: str = "auto"
    invert: bool = False
    feather: float = 0.0
    resize: Literal["bilinear", "lanczos"] | None = None
    threshold: float | None = None

    def __post_init__(self) -> None:
        if self.source not in ("auto", "alpha") and not self.layer:
            raise UsageError(
                f'--mask-from "{self.source}" is not known',
                'Say alpha, or psd:NAME with the name of a layer: --mask-from "psd:Person"',
            )
        if self.channel not in CHANNELS:
            raise UsageError(
                f'--mask-channel "{self.channel}" is not known', f"Choose {_either(CHANNELS)}."
            )
        if self.source != "auto" and self.channel != "auto":
            raise UsageError(
                f"--mask-channel {self.channel} goes with no --mask-from {self.source}",
                "A channel is chosen from a mask's own file.",
            )
        if self.resize is not None and self.resize not in RESIZES:
            raise UsageError(
                f'--resize-mask "{self.resize}" is not known', f"Choose {_either(RESIZES)}."
            )
        if not 0 <= self.feather <= MOST_FEATHER:
            raise UsageError(
                f"--feather {self.feather:g} is out of range",
                f"It goes from 0 to {MOST_FEATHER:g} pixels.",
            )
        if self.threshold is not None and not 0 < self.threshold <= 1:
            raise UsageError(
                f"--mask-threshold {self.threshold:g} is out of range",
                "It is above 0 and at most 1; 0.5 cuts in the middle.",
            )

    @property
    def layer(self) -> str | None:
        """Name of the PSD layer that is the mask, if one is."""
        named = self.source.startswith(LAYER)
        return self.source[len(LAYER) :] or None if named else None

    def of(self, source: str) -> MaskOptions:
        """The same for a mask of another source; a channel is chosen from files only."""
        return replace(self, source=source, channel=self.channel if source == "auto" else "auto")

    @property
    def touches(self) -> bool:
        """Whether values are computed, apart from a change of size."""
        return self.invert or self.feather > 0 or self.threshold is not None


def _either(words: Sequence[str]) -> str:
    return ", ".join(words[:-1]) + f" or {words[-1]}"
