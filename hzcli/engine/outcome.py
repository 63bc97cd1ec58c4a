"""What happened to one picture, as a value. No torch, no numpy: reports and dry runs use it."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Outcome:
    """One picture's fate.

    status: "done", "kept", "failed", ... as the batch says.
    seconds: wall time by stage; "read" and "write" run beside "apply", so that the stages
        may add up to more than "total".
    foreground: mean of the soft mask, [0, 1].
    change_mean, change_p99: |delivered - source| over the pixels with mask > 0 and the three
        channels, in 8-bit levels; of masks above two million pixels estimated from one row in
        up to 16.
    metrics: {protocol: {"before" | "after": {"mse", "fmse", "psnr", "ssim"}}}, where a ground
        truth was given.
    error: {"code", "message", "hint"} of a picture that failed.
    made_with: of a result that was kept: the settings it was made with that change pixels and are
        not as usual, as a report's "settings" has them; empty where no report tells it.
    differs: those of them that are others in this run.
    """

    input: str
    mask: str | None = None
    output: str | None = None
    status: str = "done"
    width: int | None = None
    height: int | None = None
    depth_in: int | None = None
    model: str | None = None
    mode: str | None = None
    device: str | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    foreground: float | None = None
    change_mean: float | None = None
    change_p99: float | None = None
    warnings: tuple[str, ...] = ()
    metrics: dict[str, dict[str, dict[str, float | None]]] = field(default_factory=dict)
    error: dict[str, Any] | None = None
    plan: str = ""
    made_with: dict[str, Any] = field(default_factory=dict)
    differs: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """A copy made of what JSON can say: a number that is not finite becomes None."""
        return _plain(dataclasses.asdict(self))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
