"""What a command hands back: events while it works, a result at the end, report files on disk.

A row is anything with a `status` and an `as_dict()`: the outcome of one picture, the fate that a
dry run foretells, the card of one file of weights. Nothing here prints.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from hzcli.io.atomic import write_text

VERSION = 1
STATUSES = ("done", "ready", "kept", "failed")

# Foreground share of a picture; the bins of the published tables.
RATIO_BINS: tuple[tuple[str, float, float], ...] = (
    ("0-5 %", 0.0, 0.05),
    ("5-15 %", 0.05, 0.15),
    ("15-100 %", 0.15, math.inf),
)


class Row(Protocol):
    """One line of a report. status: "done" (or "ready", foretold), "kept" or "failed"."""

    @property
    def status(self) -> str: ...

    def as_dict(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Event:
    """Something that happened while a command worked.

    kind: "begin" (count: how many rows will follow), "start" (text: what is being worked on),
        "row" (one row is finished), "note" (text; shown with -v), "info" (text; hidden by -q),
        "warning" (text; hidden by -q), "step" (data: figures of one training step).
    """

    kind: str
    text: str = ""
    count: int = 0
    row: Row | None = None
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """What a command did.

    output: the folder that was written; None if nothing was.
    summary: figures about all rows, ready for JSON.
    exit: the exit code, where the rows alone do not tell it.
    """

    command: str
    outcomes: Sequence[Row] = ()
    interrupted: bool = False
    output: Path | None = None
    files: Sequence[Path] = ()
    summary: Mapping[str, Any] = field(default_factory=dict)
    exit: int | None = None

    def count(self, status: str) -> int:
        """How many rows ended so."""
        return sum(row.status == status for row in self.outcomes)

    @property
    def status(self) -> str:
        """ "success", "partial" (some rows failed) or "error" (none succeeded)."""
        failed = self.count("failed")
        if failed == 0 and not self.interrupted and not self.exit:
            return "success"
        return "partial" if failed < len(self.outcomes) else "error"

    @property
    def exit_code(self) -> int:
        """0 all done, 1 some rows failed, 130 interrupted; or what the command says."""
        if self.interrupted:
            return 130
        if self.exit is not None:
            return self.exit
        return 1 if self.count("failed") else 0

    def as_dict(self) -> dict[str, Any]:
        """The envelope around the rows, ready for JSON."""
        counts = {name: self.count(name) for name in STATUSES}
        return {
            "v": VERSION,
            "command": self.command,
            "status": self.status,
            "exit_code": self.exit_code,
            "interrupted": self.interrupted,
            "output": None if self.output is None else str(self.output),
            "counts": counts,
            **self.summary,
        }


def plain(value: Any) -> Any:
    """A value as strict JSON has it: paths as text, infinite and undefined numbers as null.

    >>> plain({"psnr": float("inf"), "size": (1, 2)})
    {'psnr': None, 'size': [1, 2]}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, str):  # a file name may hold bytes that are no text
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if hasattr(value, "item"):  # a number of numpy's
        return plain(value.item())
    return plain(str(value))


def flat(row: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as columns: {"seconds": {"read": 1}} becomes {"seconds_read": 1}."""
    out: dict[str, Any] = {}
    for key, value in row.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            out.update(flat(value, f"{name}_"))
        elif isinstance(value, (list, tuple)):
            out[name] = "; ".join(str(item) for item in value)
        else:
            out[name] = value
    return out


def ratio_bin(share: float) -> str:
    """The bin of a foreground share in [0, 1].

    >>> ratio_bin(0.05)
    '5-15 %'
    """
    return next(name for name, low, high in RATIO_BINS if low <= share < high)


def means(
    rows: Iterable[Mapping[str, Any]], by: Callable[[Mapping[str, Any]], str | None] | None = None
) -> dict[str, Any]:
    """Average the metrics over pictures: all of them, and by foreground share.

    Args:
        rows: outcomes as dictionaries, `metrics` being {protocol: {"before": .., "after": ..}};
            "before" may be missing, where nobody knows the composite.
        by: another way to group them.

    Returns:
        {protocol: {"all" or a group: {"pictures": n, "before": {..}, "after": {..}, "ratio",
        "worse", "others"}}}. A figure that is not finite (the PSNR of two equal pictures) is
        left out of its mean. ratio: mean fMSE after by mean fMSE before; below 1 is better than
        doing nothing. worse: how many pictures got a higher fMSE than doing nothing has.
        others: {side: {"pictures", "fmse", "ratio", "worse"}} of what else was measured of the
        same pictures, as a baseline; there where there is one.
    """
    gathered: dict[str, dict[str, list[Mapping[str, Any]]]] = {}
    for row in rows:
        name = _share(row) if by is None else by(row)
        for protocol, sides in (row.get("metrics") or {}).items():
            groups = gathered.setdefault(protocol, {"all": []})
            groups["all"].append(sides)
            if name is not None:
                groups.setdefault(name, []).append(sides)
    order = ["all", *(name for name, _, _ in RATIO_BINS)]  # groups of another kind as they come
    return {
        protocol: {
            name: _group(groups[name])
            for name in dict.fromkeys([*order, *groups])
            if name in groups
        }
        for protocol, groups in gathered.items()
    }


def _share(row: Mapping[str, Any]) -> str | None:
    return None if row.get("foreground") is None else ratio_bin(row["foreground"])


def _group(sides: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    both = [side for side in sides if "before" in side]
    before = _average([side["before"] for side in both])
    after = _average([side["after"] for side in sides])
    figures: dict[str, Any] = {"pictures": len(sides), "before": before, "after": after}
    if both:
        figures |= _compared(both, "after")
    if others := [name for side in sides for name in side if name not in ("before", "after")]:
        figures["others"] = {name: _other(sides, name) for name in dict.fromkeys(others)}
    return figures


def _compared(sides: Sequence[Mapping[str, Any]], name: str) -> dict[str, Any]:
    """One of the sides next to doing nothing, on the pictures that have both."""
    pairs = [(side["before"].get("fmse"), side[name].get("fmse")) for side in sides]
    known = [(b, a) for b, a in pairs if b is not None and a is not None]
    whole = sum(b for b, _ in known)
    ratio = sum(a for _, a in known) / whole if whole else None
    return {"ratio": ratio, "worse": sum(a > b for b, a in known)}


def _other(sides: Sequence[Mapping[str, Any]], name: str) -> dict[str, Any]:
    here = [side for side in sides if name in side]
    both = [side for side in here if "before" in side]
    mean = _average([side[name] for side in here]).get("fmse")
    figures = {"pictures": len(here), "fmse": mean}
    return figures | (_compared(both, name) if both else {})


def _average(items: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    names = dict.fromkeys(name for item in items for name in item)
    out: dict[str, float | None] = {}
    for name in names:
        values = [item[name] for item in items if item.get(name) is not None]
        finite = [float(value) for value in values if math.isfinite(value)]
        out[name] = sum(finite) / len(finite) if finite else None
    return out


def names(tag: str | None = None) -> tuple[str, str]:
    """What a run's two files are called: `report.json` and `.csv`, and of a share of a batch
    `report-2of5.json` and `.csv`, for shares meet in one folder."""
    end = "" if tag is None else f"-{tag}"
    return f"report{end}.json", f"report{end}.csv"


def previous(folder: Path) -> dict[str, dict[str, Any]]:
    """The results that earlier runs reported in `folder`, by their path inside it.

    Of all reports of runs and of their shares; where two tell of one result, the newer counts.
    Each has beside what was reported of it the "settings" of the run, and when it was "reported",
    in ns as `os.stat` has it.
    """
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.glob("report*.json"), key=_age):
        if re.fullmatch(r"report(-[0-9]+of[0-9]+)?\.json", path.name):
            found |= _results(path)
    return found


def _age(path: Path) -> tuple[int, str]:
    try:
        return path.stat().st_mtime_ns, path.name
    except OSError:  # gone meanwhile
        return 0, path.name


def _results(path: Path) -> dict[str, dict[str, Any]]:
    try:
        when = path.stat().st_mtime_ns
        raw = json.loads(path.read_text(encoding="utf-8"))
        beside = {"settings": raw.get("settings"), "reported": when}
        return {
            Path(row["output"]).relative_to(raw["output"]).as_posix(): row | beside
            for row in raw["pictures"]
            if row["output"] is not None
        }
    # No report, or somebody else's.
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def write(
    folder: Path,
    result: Result,
    *,
    rows: Sequence[Row] | None = None,
    key: str = "pictures",
    names: tuple[str, str] = ("report.json", "report.csv"),
) -> list[Path]:
    """Write `report.json` and `report.csv` (one row a picture), each beside and renamed.

    Args:
        rows: other rows than the result's, for example one a model. key: what they are called.
        names: of the two files.

    Raises:
        OSError: the folder cannot be written.
    """
    plain_rows = [plain(row.as_dict()) for row in (result.outcomes if rows is None else rows)]
    body = {**plain(result.as_dict()), key: plain_rows}
    text = json.dumps(body, indent=1, ensure_ascii=False, allow_nan=False)
    # "metrics_standard_before_mse" says no more than "standard_before_mse".
    table = [
        flat({key: value for key, value in row.items() if key != "metrics"})
        | flat(row.get("metrics") or {})
        for row in plain_rows
    ]
    # The fullest row first, so that a failed first picture does not upset the order.
    fullest = sorted(table, key=len, reverse=True)
    columns = dict.fromkeys(name for row in fullest for name in row)
    columns.pop("error", None)  # null here, {"code": ..} in another row
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, list(columns), extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    paths = [folder / name for name in names]
    write_text(paths[0], text + "\n")
    write_text(paths[1], buffer.getvalue())
    return paths
