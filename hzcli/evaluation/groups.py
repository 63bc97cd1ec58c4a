"""What is known of a composite beside its pixels: where it is from, how it was made wrong.

Two places tell: `composites.csv` beside the folders of a set that `hz synth` wrote, and the names
of iHarmony4's subsets and pictures (Cong et al., CVPR 2020, Sec. 3), which are enough even where
all lie in one folder.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hzcli.engine.pairing import COMPOSITES
from hzcli.engine.walk import fold

TABLE = "composites.csv"

# Subset to the first letter of its pictures' names, and to how their foregrounds were changed.
SUBSETS = {
    "HAdobe5k": ("a", "retouch"),
    "HCOCO": ("c", "transfer"),
    "HFlickr": ("f", "transfer"),
    "Hday2night": ("d", "hour"),
}
_LETTERS = {letter: name for name, (letter, _) in SUBSETS.items()}
_FOLDED = {fold(name): name for name in SUBSETS}


@dataclass(frozen=True)
class Origin:
    """source: a data set or folder. kind: of recolouring. "": not known."""

    source: str = ""
    kind: str = ""


@dataclass
class Origins:
    """Looks composites up; each table is read once."""

    _tables: dict[Path, Mapping[str, Origin]] = field(default_factory=dict)

    def of(self, composite: Path, relative: Path) -> Origin:
        """The origin of a composite.

        Args:
            composite: its path. relative: the path inside the folder that was given, whose
                first folder is the source where nothing else tells.
        """
        for folder in (composite.parent, composite.parent.parent):
            known = self._table(folder / TABLE).get(fold(composite.name))
            if known is not None:
                return known
        parts = [part for part in relative.parent.parts if part != COMPOSITES]
        return _iharmony4(composite) or Origin(parts[0] if parts else "")

    def _table(self, path: Path) -> Mapping[str, Origin]:
        if path not in self._tables:
            self._tables[path] = _read(path)
        return self._tables[path]


def _read(path: Path) -> dict[str, Origin]:
    """Composites by name; nothing where there is no such table, or somebody else's."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return {
                fold(row["name"]): Origin(row.get("source") or "", row.get("kind") or "")
                for row in csv.DictReader(file)
                if row.get("name")
            }
    except (OSError, ValueError, csv.Error):
        return {}


def _iharmony4(composite: Path) -> Origin | None:
    """By the subset's folder, else by the name: a0001_1_2 is of HAdobe5k."""
    absolute = composite.absolute()
    for part in (absolute.parent, absolute.parent.parent):
        name = _FOLDED.get(fold(part.name))
        if name is not None:
            return Origin(name, SUBSETS[name][1])
    found = re.fullmatch(r"([acdf])\d[\d-]*_\d+_\d+", composite.stem)
    if found is None:
        return None
    name = _LETTERS[found[1]]
    return Origin(name, SUBSETS[name][1])
