"""Two sets of results on the same pictures: which is nearer to the truth, and how surely."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hzcli.errors import UsageError

RESAMPLES = 2000
EQUAL = 1e-6  # relative: rounding, not a difference


def earlier(path: Path) -> dict[str, Mapping[str, Any]]:
    """The metrics that an earlier evaluation reported, by picture.

    Args:
        path: its eval.json (or a report.json of `hz run`).

    Returns:
        {key: {protocol: {"after": {"fmse", ..}, ..}}}, see `key`.

    Raises:
        UsageError: it is no such report, or two of its pictures have one name.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        rows = [row for row in raw["pictures"] if row.get("metrics")]
        found = {key(row): row["metrics"] for row in rows}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{path} is no report of an evaluation",
            "--against takes a folder of results, or the eval.json of an earlier hz eval.",
        ) from error
    if len(found) < len(rows):
        raise UsageError(
            f"{path} has several pictures of one name", "Name the folder of the results instead."
        )
    return found


def key(row: Mapping[str, Any]) -> str:
    """What a picture is called in every report about it: its composite's path in the set.

    Reports of `hz run` and older ones of `hz eval` do not say it: the file's name stands in.
    """
    return row.get("name") or Path(row.get("composite") or row["input"]).stem


def look_up(figures: Mapping[str, Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    """The earlier metrics of a picture; empty where it was not measured."""
    return figures.get(name) or figures.get(name.rpartition("/")[2]) or {}


def paired(rows: Iterable[Mapping[str, Any]], protocol: str) -> dict[str, Any] | None:
    """Compare `after` with `against`, picture by picture.

    Args:
        rows: outcomes as dictionaries; those that lack one of the two do not count.

    Returns:
        None where no picture has both, else: pictures; better, worse: on how many the new
        result is nearer or farther; fmse, against: the means; ratio: their quotient; low, high:
        its 95 % interval by resampling pictures (Efron's percentile bootstrap, seeded).
    """
    pairs = [
        (sides["after"]["fmse"], sides["against"]["fmse"])
        for row in rows
        if "against" in (sides := (row.get("metrics") or {}).get(protocol, {}))
    ]
    pairs = [pair for pair in pairs if None not in pair]
    if not pairs:
        return None
    new, old = np.array(pairs, np.float64).T
    close = np.abs(new - old) <= EQUAL * np.maximum(new, old)
    low, high = interval(new, old)
    return {
        "pictures": len(pairs),
        "better": int(((new < old) & ~close).sum()),
        "worse": int(((new > old) & ~close).sum()),
        "fmse": float(new.mean()),
        "against": float(old.mean()),
        "ratio": float(new.mean() / old.mean()) if old.any() else None,
        "low": low,
        "high": high,
    }


def interval(
    new: np.ndarray, old: np.ndarray, share: float = 0.95
) -> tuple[float | None, float | None]:
    """Where the quotient of two means lies, were other pictures drawn: both (n,), paired."""
    if len(new) < 2 or not old.any():
        return None, None
    draw = np.random.default_rng(0)
    quotients: list[float] = []
    for _ in range(RESAMPLES):
        index = draw.integers(0, len(new), len(new))
        if (below := old[index].sum()) > 0:
            quotients.append(float(new[index].sum() / below))
    outside = 50 * (1 - share)
    low, high = np.percentile(quotients, [outside, 100 - outside])
    return float(low), float(high)


def worst(
    rows: Sequence[Mapping[str, Any]], protocol: str, by: str, count: int = 10
) -> list[Mapping[str, Any]]:
    """The pictures that came out worst.

    Args:
        by: "error" (fMSE after) or "ratio" (of that to doing nothing; pictures whose composite
            nobody knows, or that were right already, do not count).
    """

    def size(row: Mapping[str, Any]) -> float | None:
        sides = (row.get("metrics") or {}).get(protocol) or {}
        after = (sides.get("after") or {}).get("fmse")
        if by == "error" or after is None:
            return after
        before = (sides.get("before") or {}).get("fmse")
        return after / before if before else None

    sized = [(value, row) for row in rows if (value := size(row)) is not None]
    return [row for _, row in sorted(sized, key=lambda item: -item[0])[:count]]
