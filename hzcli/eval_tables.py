"""What `hz eval` prints: tables of at most 80 columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hzcli.report import Result
from hzcli.tables import METRICS, NAMES, WORST, Name, _change, _ratio, _relative, _table, _time
from hzcli.wording import number, shown

# Headings of what is compared, besides doing nothing.
OTHERS = {"reinhard": "Reinhard", "against": "earlier"}


def evaluation(result: Result, console: Console) -> None:
    """How near pictures are to their ground truth."""
    rows = [row.as_dict() for row in result.outcomes]
    names = dict(zip((id(row) for row in rows), _relative(rows), strict=True)) if rows else {}
    for protocol in result.summary.get("protocols", ()):
        measured = [row for row in rows if protocol in (row["metrics"] or {})]
        if not measured:
            continue
        _figures(protocol, result.summary, console)
        _paired(protocol, result.summary, console)
        if "@" not in protocol:  # the same pictures in nearly the same order otherwise
            _worst(protocol, measured, names, console)
    done, failed = result.count("done"), result.count("failed")
    said = f"{done} measured" + (f", {failed} failed" if failed else "")
    console.print(Text(f"{said} in {_time(result.summary.get('seconds', 0.0))}"))
    if result.files:
        files = ", ".join(str(path) for path in result.files)
        console.print(Text(shown(f"Report: {files}")), soft_wrap=True)


def _figures(protocol: str, summary: Mapping[str, Any], console: Console) -> None:
    """Means over all pictures, by foreground share, source and kind of recolouring."""
    groups = summary["means"][protocol]
    everything = groups["all"]
    based = "ratio" in everything
    what = "nothing done -> result" if based else "results"
    console.print(Text(f"Means, {what} ({_named(protocol)})"))
    table = _table()
    table.add_column("mask", overflow="fold")
    others = [name for name in OTHERS if name in everything.get("others", {})]
    metrics: Sequence[str] = METRICS
    if based:  # room for what is compared
        metrics = ("fmse", "psnr") if len(others) < 2 else ("fmse",)
    heads = ["n", *(NAMES[metric] for metric in metrics)]
    heads += ["ratio", "worse", *(OTHERS[name] for name in others)] if based else []
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    _section(table, groups, metrics, others, based)
    for key in ("sources", "kinds"):
        parts = {k: v for k, v in summary[key][protocol].items() if k != "all"}
        if len(parts) > 1:
            table.add_section()
            _section(table, parts, metrics, others, based)
    console.print(table)
    if based:
        console.print(
            "ratio: mean fMSE of the results by that of doing nothing; worse: share of the\n"
            "pictures on which doing nothing is better."
            + (" Of what is compared, the ratio." if others else "")
            + f"\nWorse than doing nothing: {everything['worse']} of {everything['pictures']}."
        )
    console.print()


def _section(
    table: Table,
    groups: Mapping[str, Any],
    metrics: Sequence[str],
    others: Sequence[str],
    based: bool,
) -> None:
    for name, group in groups.items():
        cells = [str(group["pictures"]), *(_change(group, metric) for metric in metrics)]
        if based:
            share = 100 * group["worse"] / group["pictures"] if "worse" in group else None
            cells += [_ratio(group), "-" if share is None else f"{share:.0f} %"]
            cells += [_ratio(group.get("others", {}).get(other, {})) for other in others]
        table.add_row(Text(shown(name)), *cells)


def _named(protocol: str) -> str:
    """ "standard@256" in words."""
    name, _, edge = protocol.partition("@")
    return f"{name} protocol, {edge} x {edge} pixels" if edge else f"{name} protocol"


def _paired(protocol: str, summary: Mapping[str, Any], console: Console) -> None:
    """Picture by picture against other results."""
    figures = summary.get("paired", {}).get(protocol)
    if figures is None:
        return
    same = figures["pictures"] - figures["better"] - figures["worse"]
    console.print(
        Text(
            f"Against the earlier results, {figures['pictures']} pictures: "
            f"{figures['better']} better, {figures['worse']} worse, {same} the same."
        )
    )
    if figures["ratio"] is not None:
        text = f"Mean fMSE {number(figures['against'])} -> {number(figures['fmse'])}: "
        text += f"{figures['ratio']:.3f} of it"
        if figures["low"] is not None:
            text += f", 95 % between {figures['low']:.3f} and {figures['high']:.3f}"
            sure = figures["high"] < 1 or figures["low"] > 1
            text += "" if sure or figures["low"] == figures["high"] else ": not sure"
        console.print(Text(f"{text}."))
    console.print()


def _worst(
    protocol: str,
    rows: Sequence[Mapping[str, Any]],
    names: Mapping[int, str],
    console: Console,
) -> None:
    """The pictures that are farthest from their truth."""
    if len(rows) < 2:
        return
    console.print(Text("Farthest from the truth"))
    table = _table()
    table.add_column("picture")
    for name in ("mask", "fMSE", "PSNR"):
        table.add_column(name, justify="right", no_wrap=True)
    worst = sorted(rows, key=lambda row: -(row["metrics"][protocol]["after"]["fmse"] or 0))
    for row in worst[:WORST]:
        sides = row["metrics"][protocol]
        share = f"{100 * row['foreground']:.0f} %"
        cells = [_change(sides, name) for name in ("fmse", "psnr")]
        table.add_row(Name(names[id(row)]), share, *cells)
    console.print(table)
    console.print()
