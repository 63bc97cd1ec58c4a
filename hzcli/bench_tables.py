"""What `hz bench` measured, as tables of at most 80 columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hzcli.report import Result
from hzcli.wording import number, sentence, shown, stopped

STAGES = {
    "read": "read",
    "thumbnail": "thumb",
    "network": "net",
    "apply": "apply",
    "encode": "encode",
    "write": "write",
    "total": "whole",
}
Row = Mapping[str, Any]

LEGEND = """\
Medians, wall seconds; CPU: seconds of all threads. x copy: as many copies of the
16-bit picture in memory; x codec: as many times decoding and encoding it alone;
both measured in turn with it. Stages overlap: whole is less than their sum.
MB: main memory above that of the imports. GMAC: {how}."""


def bench(result: Result, console: Console) -> None:
    """The efficiency table of this machine, picture by picture; then where time goes."""
    rows = [row.as_dict() for row in result.outcomes]
    done = [row for row in rows if row["status"] == "done"]
    if not rows:
        console.print(Text("Nothing was measured."))
        return
    machine = result.summary["machine"]
    console.print(Text(shown(f"{machine['processor']}, {machine['cores']} cores")))
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["picture"], row["mask_asked"]), []).append(row)
    for group in groups.values():
        _picture(group, console)
    if done:
        how = next((row["macs"]["how"] for row in done if row.get("macs")), "not counted")
        console.print(Text(LEGEND.format(how=how.replace(", ", ",\n", 1)), style="dim"))
    _scaling(result.summary.get("scaling"), console)
    _baseline(result.summary.get("baseline"), console)
    failed = len(rows) - len(done)
    ending = f"{len(done)} measured" + (f", {failed} failed" if failed else "")
    console.print(Text(f"{ending} in {result.summary['seconds']:.0f} s"))
    if result.files:
        names = ", ".join(str(path) for path in result.files)
        console.print(Text(shown(f"Written: {names}")), soft_wrap=True)


def _picture(rows: Sequence[Row], console: Console) -> None:
    """One picture: a line a configuration, and its time split."""
    done = [row for row in rows if row["status"] == "done"]
    console.print()
    if done:
        first = done[0]
        size = f"{first['width']} x {first['height']}"
        named = "" if first["mask_asked"] is not None else f"{first['picture']}: "
        console.print(
            Text(
                shown(
                    f"{named}{size}, mask {100 * first['mask_share']:.0f} %, {first['device']}, "
                    f"threads {first['threads']}, runs {first['runs']}"
                )
            )
        )
    notes: list[str] = []
    table = _table()
    table.add_column("network", overflow="fold")
    card = any(row["memory"]["gpu_mb"] is not None for row in done)
    names = ("params", "GMAC", "MB", *(["GPU MB"] if card else []), "s", "CPU", "x copy", "x codec")
    for name in (*names, "paper"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        if row["status"] != "done":
            table.add_row(_name(row), Text("failed", style="red"))
            continue
        memory = row["memory"]
        macs = row.get("macs")
        table.add_row(
            _name(row),
            f"{row['parameters'] / 1e6:.2f} M" if row["splits"] is None or len(rows) == 1 else "",
            "-" if macs is None else number((macs["network"] + macs["apply"]) / 1e9),
            "-" if memory["host_mb"] is None else f"{memory['host_mb']:.0f}",
            *([number(memory["gpu_mb"])] if card else []),
            _seconds(row["seconds"]["total"]),
            _seconds(row["cpu"]["total"]),
            number(row["times_copy"]["total"]),
            number(row["times_codec"]["total"]),
            _paper(row["paper"], notes),
        )
    console.print(table)
    for row in rows:
        if row["status"] != "done":
            error = row["error"]
            said = f"{_name(row).plain.strip()}: {stopped(error['message'])}"
            said += f" {sentence(error['hint'])}" if error["hint"] else ""
            console.print(Text(shown(said), style="red"))
    for index, note in enumerate(notes, 1):
        console.print(Text(f"[{index}] {note}", style="dim"))
    if any(row["weights"] != "installed" for row in done):
        console.print(
            Text("*  random weights: none are installed, and time does not depend on them.")
        )
    if done:
        console.print()
        _stages(done, console)


def _name(row: Row) -> Text:
    if row["splits"] is not None:
        return Text(f"  in {row['splits']} part{'s' if row['splits'] > 1 else ''}")
    return Text(shown(row["model"]) + ("" if row["weights"] == "installed" else " *"))


def _stages(rows: Sequence[Row], console: Console) -> None:
    table = _table()
    table.add_column("time split", overflow="fold")
    for name in (*STAGES.values(), "CPU"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        for label, times, cpu, show in (
            ("", "seconds", "cpu", _seconds),
            ("    x copy", "times_copy", "cpu_times_copy", number),
            ("    x codec", "times_codec", "cpu_times_codec", _ratio),
        ):
            cells = [show(row[times][stage]) for stage in STAGES]
            table.add_row(Text(label) if label else _name(row), *cells, show(row[cpu]["total"]))
    first = rows[0]
    for name, what in (("copy", "memory copy"), ("codec", "codec only")):
        cells = [""] * (len(STAGES) - 1)
        table.add_row(what, *cells, *(_seconds(first[name][k]) for k in ("seconds", "cpu")))
    console.print(table)
    console.print()


def _paper(printed: Row | None, notes: list[str]) -> str:
    """What a paper prints, with the number of the note that says where and on what."""
    if printed is None:
        return ""
    words = {"parameters": "{} M parameters", "gmacs": "{} GMAC", "memory_mb": "{} MB"}
    said = [text.format(printed[k]) for k, text in words.items() if printed[k] is not None]
    edge = "" if printed["edge"] is None else f"{printed['edge']} x {printed['edge']}: "
    note = (
        f"{printed['source']}, authors' network on {printed['hardware']}. {edge}{', '.join(said)}"
    )
    note += f"; in {printed['splits']} parts" if printed["splits"] > 1 else ""
    if note not in notes:
        notes.append(note)
    return f"{printed['seconds']:g} s [{notes.index(note) + 1}]"


def _scaling(found: Row | None, console: Console) -> None:
    for model, parts in (found or {}).items():
        for what, line in parts.items():
            if line is not None:
                console.print(
                    Text(
                        f"{shown(model)}, {what}: CPU time grows with masked pixels to the power "
                        f"of {line['exponent']:.2f};\n  {line['seconds_by_megapixel']:.3f} s a "
                        f"masked megapixel in the largest, spread {line['spread']:.2f}"
                    )
                )


def _baseline(found: Row | None, console: Console) -> None:
    if found is None:
        return
    for loss in found["losses"]:
        parts = "" if loss["splits"] is None else f" in {loss['splits']} parts"
        console.print(
            Text(
                f"slower: {shown(loss['model'])}{parts}, {shown(loss['picture'])}: {loss['what']} "
                f"{number(loss['before'])} -> {number(loss['now'])} ({loss['growth']:+.0%})",
                style="red",
            ),
            soft_wrap=True,
        )
    told = f"{found['compared']} compared with the baseline, {len(found['losses'])} losses"
    told += f" beyond {found['tolerance']:.0%}"
    told += f", {found['missing']} not in it" if found["missing"] else ""
    console.print(Text(told))


def _seconds(value: float) -> str:
    return f"{value:.3f}" if value < 10 else f"{value:.1f}"


def _ratio(value: float) -> str:
    return f"{value:.2f}" if value < 100 else number(value)


def _table() -> Table:
    return Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        header_style="bold",
        padding=(0, 0, 0, 0),
    )
