"""Weights and systems as blocks of text of at most 80 columns: what `hz models` prints."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from hzcli.catalog import CARDS, user_folder
from hzcli.report import Result
from hzcli.tables import STYLES, figure
from hzcli.wording import sentence, shown, stopped


def models(result: Result, console: Console) -> None:
    """Weights, or a system, one block each."""
    if not result.outcomes:
        console.print("No weights are installed.")
    for index, row in enumerate(item.as_dict() for item in result.outcomes):
        if index:
            console.print()
        console.print(Text(shown(row["id"]), style="bold"))
        _block(_system_lines(row) if "variants" in row else _weights_lines(row), console)
    if result.command == "models":
        known = ", ".join(card.title for card in CARDS)
        console.print(Text(f"\nhz models import FILE reads the authors' weights of {known}."))


def imported(result: Result, console: Console) -> None:
    """What came in, and how to use it."""
    models(result, console)
    for row in (item.as_dict() for item in result.outcomes):
        use = f"--model {row['id']}"
        if result.output != user_folder():
            use = f"--weights {row['path']}"
        console.print(Text(shown(f"\nUse it: hz run ... {use}")), soft_wrap=True)


def verified(result: Result, console: Console) -> None:
    """What was checked of each file of weights, and what was wrong."""
    for row in (item.as_dict() for item in result.outcomes):
        head = Text(f"{'ok' if row['status'] == 'done' else 'bad':<5}", style=STYLES[row["status"]])
        console.print(head + Text(shown(row["id"]), style="bold"), soft_wrap=True)
        passed = ", ".join(row["checked"]) or "nothing"
        details = f"good: {passed}"
        if row["error"]:
            details += f"\n{stopped(row['error']['message'])}"
            details += f" {sentence(row['error']['hint'])}" if row["error"]["hint"] else ""
        console.print(Padding(Text(shown(details)), (0, 0, 0, 5), expand=False))
    if not result.outcomes:
        console.print("No weights are installed.")


def _block(lines: Mapping[str, Any], console: Console) -> None:
    grid = Table.grid(padding=(0, 2, 0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, text in lines.items():
        if text:
            grid.add_row(name, Text(shown(str(text))))
    console.print(grid)


def _weights_lines(row: Mapping[str, Any]) -> dict[str, str]:
    size = f"{row['bytes'] / 1e6:.1f} MB, {row['parameters']:,} parameters"
    source = row["source"]
    there = item_is_there(row)
    return {
        "paper": _paper(row) if row.get("paper") else row["model"],
        "size": f"{size}, thumbnail {row['thumbnail']} px",
        "licence": row["licence"],
        "code": f"the authors' code: {row['code_licence']}" if row["code_licence"] else "",
        "data terms": row["data_terms"],
        "from": f"{source.get('file')}, sha256 {source.get('sha256', '')[:12]}" if source else "",
        "readings": ", ".join(f"{key} {value}" for key, value in row["readings"].items() if value),
        "figures": ", ".join(f"{key} {figure(value)}" for key, value in row["figures"].items()),
        "missing": "" if there else f"{row['file']} is not there: install or import it again",
    }


def _system_lines(row: Mapping[str, Any]) -> dict[str, str]:
    return {
        "paper": _paper(row),
        "variants": ", ".join(row["variants"]),
        "code": f"{row['code']} (licence: {row['code_licence']})",
        "module": row["module"],
        "weights": ", ".join(row["weights"]) or "none installed: hz models import FILE",
    }


def _paper(row: Mapping[str, Any]) -> str:
    place = f"{row['venue']} {row['year']}" + (f", arXiv {row['arxiv']}" if row["arxiv"] else "")
    return f"{row['title']}: {row['paper'].removeprefix(row['title'] + ': ')} ({place})"


def item_is_there(row: Mapping[str, Any]) -> bool:
    """Whether the file that a card describes exists."""
    return os.path.isfile(row["path"])
