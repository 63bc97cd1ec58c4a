"""With what a result that is kept was made, where an earlier report tells it.

A row that was done was made with its report's settings; one that was kept says itself what it was
made with, as far as that was known then.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from hzcli.engine.outcome import Outcome

# The settings that change pixels, as reports call them, and as people do. Those that are as usual
# may be missing in a report.
_NAMES = {
    "model": "model", "mode": "--mode", "strength": "--strength", "background": "--background",
    "curves": "--curves", "mask": "mask", "source": "--mask-from", "channel": "--mask-channel",
    "invert": "--mask-invert", "feather": "--feather", "threshold": "--mask-threshold",
    "resize": "--resize-mask", "assume_profile": "--assume-profile",
    "output_profile": "--output-profile", "intent": "--intent", "depth": "--depth",
    "quality": "--quality",
}  # fmt: skip
_FILES = frozenset({"mask", "background", "curves", "assume_profile", "output_profile"})
_LOSSY = frozenset({".jpg", ".jpeg", ".webp"})
_MOST = 4  # differences that a notice tells of


def made_with(row: Mapping[str, Any], target: Path) -> dict[str, Any]:
    """The settings that a result was made with; empty where nobody knows.

    Args:
        row: from `report.previous`.
        target: the result. One that is newer than the report was made by another run.
    """
    try:
        if target.stat().st_mtime_ns > row["reported"]:
            return {}
        if row["status"] == "done":
            return pixels({**row["settings"], "mask": row["mask"]})
        return pixels(row["made_with"])
    except (OSError, KeyError, TypeError):  # no report, or one that does not tell it
        return {}


def pixels(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a report's settings that change pixels, and are not as usual."""
    return {name: settings[name] for name in _NAMES if settings.get(name) is not None}


def differing(made: Mapping[str, Any], asked: Mapping[str, Any], target: Path) -> tuple[str, ...]:
    """The settings that a result was made with and that are others now.

    Args:
        made: from `made_with`. asked: the settings of this run; without a "model" where it is not
            known yet.
        target: the result.
    """
    if not made:
        return ()
    lossy = target.suffix.lower() in _LOSSY
    converted = "output_profile" in made and asked.get("output_profile") is not None
    idle = {"quality": not lossy, "intent": not converted, "model": "model" not in asked}
    return tuple(
        name
        for name in _NAMES
        if not idle.get(name) and not _same(name, made.get(name), asked.get(name))
    )


def _same(name: str, made: Any, asked: Any) -> bool:
    if name == "depth":  # 16 bits are the usual
        made, asked = (None if value == "16" else value for value in (made, asked))
    if name == "resize" and None in (made, asked):
        return True  # where masks are of the picture's size nothing is resized
    if name in _FILES and made is not None and asked is not None:
        one, other = str(made).split(", "), str(asked).split(", ")
        return len(one) == len(other) and all(map(_may_be_one, one, other))
    return bool(made == asked)


def _may_be_one(path: str, other: str) -> bool:
    """Whether two paths may mean one file: seen from elsewhere, only their ends are alike."""
    a, b = ([part for part in PurePath(p).parts if part not in ("..", "/")] for p in (path, other))
    shared = min(len(a), len(b), 2)
    return a[-shared:] == b[-shared:]


def notices(outcomes: Sequence[Outcome], asked: Mapping[str, Any]) -> list[str]:
    """What to say of results that were kept though they were made with other settings."""
    others = [outcome for outcome in outcomes if outcome.differs]
    if not others:
        return []
    counts = Counter(
        _said(name, one.made_with.get(name), asked.get(name))
        for one in others
        for name in one.differs
    )
    told = [
        text if count == len(others) else f"{text} ({count} of them)"
        for text, count in counts.most_common(_MOST)
    ]
    told += ["and more"] if len(counts) > _MOST else []
    head = "1 result is" if len(others) == 1 else f"{len(others)} results are"
    ending = "-f makes it anew" if len(others) == 1 else "-f makes all anew"
    return [f"{head} kept but made with other settings: {'; '.join(told)} ({ending})"]


def _said(name: str, made: Any, asked: Any) -> str:
    if name == "mask":
        return "another mask"
    old, new = (
        "not given" if x is None or x is False else "given" if x is True else f"{x}"
        for x in (made, asked)
    )
    return f"{_NAMES[name]} {old}, now {new}"
