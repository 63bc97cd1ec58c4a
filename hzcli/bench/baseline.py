"""Against an earlier measurement: ratios alone, for seconds depend on what else a machine does."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hzcli.errors import UsageError
from hzcli.report import flat, plain

# What must not grow, as columns of the flat report. Each is a time by another one of the same
# run, or memory by the size of the picture.
COMPARED = {
    "times_codec_total": "time by codec-only",
    "cpu_times_codec_total": "CPU by codec-only",
    "cpu_times_copy_network": "network by memory copy",
    "cpu_times_copy_apply": "apply by memory copy",
    "memory_by_picture": "memory by picture",
}
KEY = ("model", "picture", "mask_asked", "mode", "splits")
# A part of this share of the whole may double without anybody noticing.
NEGLIGIBLE = 0.02


def read(path: Path) -> dict[tuple[str, ...], dict[str, Any]]:
    """The finished lines of an earlier --json or --csv, by configuration.

    Raises:
        UsageError: the file is neither.
    """
    hint = "Give what hz bench wrote with --csv, or with --json > FILE."
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--baseline {path} cannot be read ({error})", hint) from error
    try:
        if text.lstrip().startswith("{"):
            rows = [flat(json.loads(line)) for line in text.splitlines() if line.strip()]
        else:
            rows = list(csv.DictReader(text.splitlines()))
    except ValueError as error:
        raise UsageError(f"--baseline {path} is not a report ({error})", hint) from error
    done = {_key(row): row for row in rows if row.get("status") == "done" and "model" in row}
    if not done:
        raise UsageError(f"--baseline {path} holds no measurement", hint)
    return done


def compare(
    rows: Sequence[Mapping[str, Any]],
    earlier: Mapping[tuple[str, ...], Mapping[str, Any]],
    tolerance: float,
) -> dict[str, Any]:
    """What grew by more than `tolerance` (0.25: a quarter).

    Args:
        rows: lines of the report, as dictionaries.
        earlier: from `read`.

    Returns:
        compared: how many lines; missing: those that were not measured earlier; losses: one
        {"model", "picture", "splits", "what", "before", "now", "growth"} each, the worst first.
    """
    losses: list[dict[str, Any]] = []
    missing = compared = 0
    for row in rows:
        if row.get("status") != "done":
            continue
        now, before = flat(plain(row)), earlier.get(_key(row))
        if before is None:
            missing += 1
            continue
        compared += 1
        for column, what in COMPARED.items():
            new, old = _number(now.get(column)), _number(before.get(column))
            if new is None or not old or _negligible(column, now, old):
                continue
            if new > old * (1 + tolerance):
                about = {name: row.get(name) for name in ("model", "picture", "splits")}
                losses.append(
                    {**about, "what": what, "before": old, "now": new, "growth": new / old - 1}
                )
    losses.sort(key=lambda loss: -loss["growth"])
    return {"compared": compared, "missing": missing, "tolerance": tolerance, "losses": losses}


def _negligible(column: str, now: Mapping[str, Any], old: float) -> bool:
    """Whether a stage is so small a part of the whole that its growth is noise."""
    if column not in ("cpu_times_copy_network", "cpu_times_copy_apply"):
        return False
    both = max(old, _number(now.get(column)) or 0.0)
    return both < NEGLIGIBLE * (_number(now.get("cpu_times_copy_total")) or 0.0)


def _key(row: Mapping[str, Any]) -> tuple[str, ...]:
    def said(value: Any) -> str:
        number = _number(value)
        return f"{number:g}" if number is not None else str("" if value is None else value)

    return tuple(said(row.get(name)) for name in KEY)


def _number(value: Any) -> float | None:
    try:
        return None if value in (None, "") else float(value)
    except (TypeError, ValueError):
        return None
