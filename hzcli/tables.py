"""Results as tables of at most 80 columns."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from hzcli.report import Result
from hzcli.wording import number, sentence, shown, stopped

# A table longer than this is a report, and that lies on disk.
MOST_ROWS = 40
WORST = 10
METRICS = ("mse", "fmse", "psnr", "ssim")
NAMES = {"mse": "MSE", "fmse": "fMSE", "psnr": "PSNR", "ssim": "SSIM"}
DIGITS = {"psnr": 1, "ssim": 3}
STYLES = {"done": "green", "ready": "green", "kept": "yellow", "failed": "red"}


def run(result: Result, console: Console) -> None:
    """What became of the pictures, or what would become of them."""
    rows = [row.as_dict() for row in result.outcomes]
    if any(row["status"] == "ready" for row in rows) or result.output is None:
        _fates(rows, console)
        return
    if "models" in result.summary:
        _compared(result.summary["models"], console)
    else:
        _pictures(rows, console)
    for protocol, groups in result.summary.get("means", {}).items():
        _means(protocol, groups, console)
    done, kept, failed = (result.count(name) for name in ("done", "kept", "failed"))
    verb = "recoloured" if result.command == "apply-lut" else "harmonised"
    if not rows:
        console.print(Text(f"Nothing was {verb}."))
        return
    parts = [f"{done} {verb}"]
    parts += [f"{kept} kept (-f replaces them)"] if kept else []
    parts += [f"{failed} failed"] if failed else []
    seconds = result.summary.get("seconds", 0.0)
    console.print(Text(f"{', '.join(parts)} in {_time(seconds)}"))
    files = ", ".join(path.name for path in result.files)
    where = f"{result.output}{os.sep}" + (f" with {files}" if files else "")
    console.print(Text(shown(f"Results: {where}")), soft_wrap=True)


def _compared(rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Several models on the same pictures, side by side."""
    protocols = dict.fromkeys(name for row in rows for name in row["metrics"])
    for protocol in protocols or [None]:
        table = _table()
        if protocol is not None:
            console.print(Text(f"Means, before -> after ({protocol} protocol)"))
        table.add_column("model", overflow="fold")
        names = (
            ("n", "fMSE", "ratio", "PSNR", "worse", "time") if protocol else ("n", "change", "time")
        )
        for name in names:
            table.add_column(name, justify="right", no_wrap=True)
        for row in rows:
            if row["error"] is not None:
                table.add_row(Text(shown(row["model"])), Text("failed", style=STYLES["failed"]))
                continue
            count = str(row["done"] + row["kept"])
            sides = row["metrics"].get(protocol)
            cells = [count, *([""] * (len(names) - 2))]
            if sides:
                changes = _change(sides, "fmse"), _change(sides, "psnr")
                worse = str(sides.get("worse", "-"))
                cells = [str(sides["pictures"]), changes[0], _ratio(sides), changes[1], worse]
            elif protocol is None:
                cells = [count, number(row["change_mean"])]
            spent = "-" if row["seconds"] is None else _time(row["seconds"])
            table.add_row(Text(shown(row["model"])), *cells, spent)
        console.print(table)
        console.print()
    if protocols:
        console.print(
            "ratio: mean fMSE after by before; below 1 is better than doing nothing.\n"
            "worse: on how many pictures doing nothing is better. time: of one picture.\n"
        )


def summary(result: Result, console: Console) -> None:
    """Figures by name, for a command that has no table of its own."""
    figures = ", ".join(f"{key} {figure(value)}" for key, value in result.summary.items())
    console.print(Text(f"{result.command}: {figures or result.status}"))
    if result.output is not None:
        console.print(Text(shown(f"Results: {result.output}{os.sep}")), soft_wrap=True)


def figure(value: Any) -> str:
    if isinstance(value, Mapping):
        return "(" + ", ".join(f"{key} {figure(item)}" for key, item in value.items()) + ")"
    return number(value)


def _time(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def _relative(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Inputs as seen from the folder that holds them all."""
    folders = {os.path.dirname(os.path.abspath(row["input"])) for row in rows}
    try:
        root = os.path.commonpath(folders)
        return [shown(os.path.relpath(os.path.abspath(row["input"]), root)) for row in rows]
    except ValueError:  # two drives
        return [shown(row["input"]) for row in rows]


def _change(sides: Mapping[str, Mapping[str, Any]], name: str) -> str:
    values = [sides[side].get(name) for side in ("before", "after") if sides.get(side)]
    if name in DIGITS:
        texts = ["-" if x is None else f"{x:.{DIGITS[name]}f}" for x in values]
    else:
        texts = [number(None if x is None else float(x)) for x in values]
    return " -> ".join(texts)


def _ratio(group: Mapping[str, Any]) -> str:
    return "-" if group.get("ratio") is None else f"{group['ratio']:.2f}"


@dataclass(frozen=True)
class Name:
    """A picture's name on one line: a column that is too narrow takes out some of its middle.

    Names of one shoot differ in their last letters. Whole they stand in the report.
    """

    text: str

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        gap = "..." if options.ascii_only else "\u2026"
        yield Text(self.within(options.max_width, gap), no_wrap=True, overflow="crop")

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(1, cell_len(self.text)).with_maximum(options.max_width)

    def within(self, width: int, gap: str) -> str:
        """The name in so many cells, two thirds of them for its end.

        >>> Name("studio/portrait_0042.jpg").within(17, "...")
        'stud...t_0042.jpg'
        """
        if cell_len(self.text) <= width:
            return self.text
        room = max(0, width - len(gap))
        end = room - room // 3
        last = set_cell_size(self.text[::-1], end)[::-1]
        return set_cell_size(self.text, room - end) + gap + last


def _table() -> Table:
    return Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        collapse_padding=True,
        header_style="bold",
    )


def _pictures(rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    if not rows:
        return
    names = dict(zip((id(row) for row in rows), _relative(rows), strict=True))
    protocol = next((name for row in rows for name in row["metrics"] or {}), None)
    table = _table()
    table.add_column("picture")
    for name in ("size", "mask", "change", *(("fMSE", "PSNR") if protocol else ()), "time"):
        table.add_column(name, justify="right", no_wrap=True)
    # What went wrong is what is looked for in a long list; sorting is stable.
    short = sorted(rows, key=lambda row: row["status"] != "failed")[:MOST_ROWS]
    chosen = {id(row) for row in (rows if len(rows) <= MOST_ROWS else short)}
    for row in rows:
        if id(row) not in chosen:
            continue
        status = row["status"]
        size = "" if row["width"] is None else f"{row['width']} x {row['height']}"
        share = "" if row["foreground"] is None else f"{100 * row['foreground']:.0f} %"
        change = "" if row["change_mean"] is None else f"{row['change_mean']:.1f}"
        cells: list[Name | Text | str] = [Name(names[id(row)]), size, share, change]
        if protocol:
            sides = (row["metrics"] or {}).get(protocol)
            cells += [_change(sides, name) if sides else "" for name in ("fmse", "psnr")]
        ending = _time(row["seconds"]["total"]) if status == "done" else status
        cells.append(Text(ending, style="" if status == "done" else STYLES[status]))
        table.add_row(*cells)
    console.print(table)
    if len(rows) > len(chosen):
        console.print(Text(f"... and {len(rows) - len(chosen)} more", style="dim"))
    console.print()


def _means(protocol: str, groups: Mapping[str, Any], console: Console) -> None:
    console.print(Text(f"Means, before -> after ({protocol} protocol)"))
    table = _table()
    table.add_column("foreground")
    for name in ("n", *(NAMES[metric] for metric in METRICS)):
        table.add_column(name, justify="right", no_wrap=True)
    for name, group in groups.items():
        changes = [_change(group, metric) for metric in METRICS]
        table.add_row(name, str(group["pictures"]), *changes)
    console.print(table)
    console.print()


def _fates(rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    words = {"ready": "run", "kept": "keep", "failed": "fail"}
    for row in rows:
        status = row["status"]
        head = Text(f"{words[status]:<6}", style=STYLES[status])
        console.print(head + Text(shown(row["input"]), style="bold"), soft_wrap=True)
        if status == "failed":
            error = row["error"]
            details = stopped(error["message"])
            details += f" {sentence(error['hint'])}" if error["hint"] else ""
        elif status == "kept":
            details = f"{row['output']} exists; -f replaces it"
        else:
            alpha = row["mask"] == row["input"]
            parts = [f"{row['width']} x {row['height']}, {row['depth_in']} bits"]
            parts.append("mask: its alpha" if alpha else f"mask {_beside(row, 'mask')}")
            if row["truth"]:
                parts.append(f"truth {_beside(row, 'truth')}")
            details = "; ".join([*parts, *row["warnings"]]) + f"\nto {row['output']}"
        console.print(Padding(Text(shown(details)), (0, 0, 0, 6), expand=False))
    counts = {name: sum(row["status"] == name for row in rows) for name in words}
    console.print(
        Text(
            f"Dry run: {counts['ready']} to harmonise, {counts['kept']} kept, "
            f"{counts['failed']} would fail. Nothing was written."
        )
    )


def _beside(row: Mapping[str, Any], key: str) -> str:
    """A file's name if it lies beside the picture, else its path."""
    path = str(row[key])
    same = os.path.dirname(path) == os.path.dirname(row["input"])
    return os.path.basename(path) if same else path
