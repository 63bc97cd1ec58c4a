"""`hz synth`: composites with known truth, written to disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hzcli.report import Event, Result

__all__ = ["synth"]


def synth(
    data: Path,
    output: Path,
    *,
    split: str = "val",
    seed: int = 0,
    count: int | None = None,
    shards: str = "photos-[0-9]*.tar",
    on_event: Callable[[Event], None] = lambda event: None,
) -> Result:
    """Make a seeded set of composites in iHarmony4's layout; see `hzcli.train.synth`.

    Raises:
        UsageError: the output folder is not empty, or there are no such photographs.
    """
    from hzcli.engine.device import calm_threads

    calm_threads()
    from hzcli.train.synth import synthesise

    names = synthesise(data, output, split=split, seed=seed, count=count, shards=shards)
    on_event(Event("info", text=f"{len(names)} composites in {output}"))
    return Result("synth", output=output, summary={"composites": len(names), "seed": seed})
