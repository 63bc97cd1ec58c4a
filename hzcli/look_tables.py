"""Looks and curves on a screen of 80 columns."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from hzcli.engine.looks.hosts import LARGEST
from hzcli.report import Result
from hzcli.tables import MOST_ROWS, STYLES, Name, _relative, _table, _time
from hzcli.wording import shown

PLOT_WIDTH, PLOT_HEIGHT = 65, 17
CHANNELS = (("red", "R", "red"), ("green", "G", "green"), ("blue", "B", "blue"))


def exported(result: Result, console: Console) -> None:
    """The residual of each look, and where they are."""
    rows = [row.as_dict() for row in result.outcomes]
    done = [row for row in rows if row["status"] == "done"]
    if done:
        head = "The look's picture by that of hz run, where the mask is above 0:\n"
        console.print(Text(head + "in 8-bit levels, and as Delta E 2000 (dE)\n"))
    if rows:
        _residuals(rows, console)
    if done:
        _about(done, result, console)
    for row in done[:1]:
        if len(done) > 1:
            median = result.summary["median_residual"]
            console.print(Text(f"Median of the pictures' means: {median:.2f} levels."))
        own = row["own"]
        if own and own <= LARGEST and (row["size"] - 1) % (own - 1):
            better = (own - 1) * max(1, round((row["size"] - 1) / (own - 1))) + 1
            console.print(Text(f"The model's own has {own}: --size {better} holds it as it is."))
    limit, beyond = result.summary.get("max_residual"), result.summary.get("beyond")
    if limit is not None and beyond:
        said = f"Above --max-residual {limit:g}: {beyond} of {len(done)}."
        console.print(Text(said, style=STYLES["failed"]))
    _ending(result, rows, console)


def _residuals(rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    names = dict(zip((id(row) for row in rows), _relative(rows), strict=True))
    table = _table()
    table.add_column("picture")
    table.add_column("look", no_wrap=True)
    for head in ("mean", "99 %", "max", "dE mean", "dE 99 %", "dE max"):
        table.add_column(head, justify="right", no_wrap=True)
    order = sorted(rows, key=lambda row: row["status"] != "failed")
    chosen = {id(row) for row in (rows if len(rows) <= MOST_ROWS else order[:MOST_ROWS])}
    for row in rows:
        if id(row) not in chosen:
            continue
        status = row["status"]
        if status != "done":
            table.add_row(Name(names[id(row)]), Text(status, style=STYLES[status]))
            continue
        figures = [
            row["residual"][what][name]
            for what in ("levels", "delta_e")
            for name in ("mean", "p99", "max")
        ]
        merged = row["trust"] is not None
        kind = "merged" if merged else "exact" if row["exact"] else "fitted"
        table.add_row(Name(names[id(row)]), kind, *(f"{value:.2f}" for value in figures))
    console.print(table)
    if len(rows) > len(chosen):
        console.print(Text(f"... and {len(rows) - len(chosen)} more", style="dim"))
    console.print()


def _about(done: Sequence[Mapping[str, Any]], result: Result, console: Console) -> None:
    row = done[0]
    entries = "entries a channel" if row["format"] == "cube1d" else "nodes a side"
    how = "linear" if row["format"] == "cube1d" else row["interpolation"]
    parts = [f"{row['size']} {entries} in {row['space']}"]
    if row["strength"] != 1:
        parts.append(f"strength {row['strength']:g}")
    console.print(Text(f"Look: {', '.join(parts)}; read with {how} interpolation."))


def _ending(result: Result, rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    if not rows:
        console.print(Text("Nothing was exported."))
        return
    kept, failed = result.count("kept"), result.count("failed")
    if result.summary["stdout"]:
        what = ["1 look to stdout"] if result.count("done") else []
    else:
        count = len(result.files)
        what = [f"{count} {'look' if count == 1 else 'looks'} written"]
    what += [f"{kept} kept (-f replaces them)"] if kept else []
    what += [f"{failed} failed"] if failed else []
    console.print(Text(f"{', '.join(what)} in {_time(result.summary['seconds'])}"))
    if not result.summary["stdout"] and result.files:
        one = len(result.files) == 1
        where = str(result.files[0]) if one else f"{result.output}{os.sep}"
        console.print(Text(shown(f"Results: {where}")), soft_wrap=True)


def curves(result: Result, console: Console) -> None:
    """The curves drawn and in figures."""
    (row,) = [row.as_dict() for row in result.outcomes]
    points = row["curves"]
    for line in drawn(points):
        console.print(line)
    console.print()
    table = _table()
    table.add_column("8-bit level", no_wrap=True)
    places = [0, *range(31, 256, 32)]
    for place in places:
        table.add_column(str(place), justify="right", no_wrap=True)
    for name, _, colour in CHANNELS:
        values = [f"{255 * points[name][place]:.1f}" for place in places]
        table.add_row(Text(name, style=colour), *values)
    console.print(table)
    console.print()
    console.print(Text(f"{row['model']}: {row['knots']} points say these curves."))
    for path in row["files"]:
        note = ""
        if path.lower().endswith(".acv"):
            note = f" (Photoshop's spline stays within {row['acv_error']:.1f} levels)"
        console.print(Text(shown(f"Written: {path}{note}")), soft_wrap=True)


def drawn(points: Mapping[str, Sequence[float]]) -> list[Text]:
    """Three curves as letters over the diagonal; where curves meet, an o."""
    last = len(points["input"]) - 1
    grid = [[(" ", "")] * PLOT_WIDTH for _ in range(PLOT_HEIGHT)]

    def row_of(value: float) -> int:
        return round((1 - min(max(value, 0), 1)) * (PLOT_HEIGHT - 1))

    for column in range(PLOT_WIDTH):
        share = column / (PLOT_WIDTH - 1)
        grid[row_of(share)][column] = (".", "dim")
        taken: dict[int, int] = {}
        for name, letter, colour in CHANNELS:
            row = row_of(points[name][round(share * last)])
            taken[row] = taken.get(row, 0) + 1
            grid[row][column] = (letter, colour) if taken[row] == 1 else ("o", "bold")
    lines = []
    for index, cells in enumerate(grid):
        level = round(255 * (1 - index / (PLOT_HEIGHT - 1)))
        line = Text(f"{level:>4} |" if index % 4 == 0 else "     |")
        for sign, style in cells:
            line.append(sign, style=style)
        line.rstrip()
        lines.append(line)
    axis = "0".ljust(PLOT_WIDTH // 2) + "128".ljust(PLOT_WIDTH // 2 - 3) + "255"
    return [*lines, Text("     +" + "-" * PLOT_WIDTH), Text(f"      {axis}")]


def mixed(result: Result, console: Console) -> None:
    """What lies between two looks, and how far they are apart."""
    s = result.summary
    apart = f"they differ by {s['apart_mean']:.1f} 8-bit levels, {s['apart_max']:.1f} at most"
    console.print(Text(f"Size {s['size']}, at {s['at']:g} from A to B; {apart}."))
    for path in result.files:
        console.print(Text(shown(f"Written: {path}")), soft_wrap=True)
