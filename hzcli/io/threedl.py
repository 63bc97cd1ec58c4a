""".3dl files: a table of whole numbers, blue fastest, below a line with its nodes' input codes.

Autodesk's Lustre and Flame write them. Nothing in most of them says how many bits the numbers
have: readers conclude it from the largest, which must therefore be in the upper half.
"""

from __future__ import annotations

import io
import itertools
import re
from pathlib import Path
from typing import BinaryIO, NoReturn, TextIO

import numpy as np

from hzcli.errors import LookError
from hzcli.io import atomic
from hzcli.io.cube import UNIT, Look

IN_BITS, OUT_BITS = 10, 12  # as Lustre and Photoshop have them
LARGEST = 129
_LARGEST_FILE = 256 << 20


def read_3dl(path: Path) -> Look:
    """Read a .3dl file.

    Raises:
        LookError: the file cannot be opened, or a line of it, which is named, not understood.
    """
    path = Path(path)

    def fail(line: int, what: str) -> NoReturn:
        raise LookError(f"{path}, line {line}: {what}", "Export the look again.")

    try:
        with open(path, "rb") as file:
            text = file.read(_LARGEST_FILE).decode("utf-8-sig", "replace")
    except OSError as error:
        raise LookError(f"{path} cannot be opened: {error.strerror}", "Check the path.") from error
    nodes: list[int] = []
    out_bits, rows, places = 0, [], []
    lines = text.splitlines()
    for number, line in enumerate(lines, 1):
        words = line.split("#", 1)[0].split()
        if not words or words[0].upper() in ("3DMESH", "GAMMA", "LUT8", "GAMMA.", "SAMPLES"):
            continue
        if words[0].lower() == "mesh" and len(words) == 3 and words[2].isdecimal():
            out_bits = int(words[2])
            continue
        if not all(re.fullmatch(r"\d{1,6}", word, re.ASCII) for word in words):
            fail(number, f"{' '.join(words)[:40]!r}: expected whole numbers")
        values = [int(word) for word in words]
        if len(values) == 3 and nodes:
            rows.append(values)
            places.append(number)
        elif not nodes and len(values) >= 2:
            if any(a >= b for a, b in itertools.pairwise(values)):
                fail(number, "the input codes of the nodes do not rise")
            nodes = values
        else:
            fail(number, f"{len(values)} numbers, expected 3")
    n, last = len(nodes), max(1, len(lines))
    if not 2 <= n <= LARGEST:
        fail(last, f"{n} nodes a side, expected 2 to {LARGEST}")
    if len(rows) > n**3:
        fail(places[n**3], f"more rows than the {n**3} of {n} nodes a side")
    if len(rows) < n**3:
        fail(last, f"the file ends after {len(rows)} of the {n**3} rows of {n} nodes a side")
    codes = np.array(rows)
    largest = int(codes.max())
    # Where no header says it: the least of the usual depths that holds the largest number.
    out_bits = out_bits or next((b for b in (8, 10, 12, 14, 16) if largest < 1 << b), 0)
    if not 8 <= out_bits <= 16 or largest >= 1 << out_bits:
        fail(last, f"the largest number is {largest}, which no depth of up to 16 bits has")
    table = (codes / ((1 << out_bits) - 1)).reshape(n, n, n, 3).astype(np.float32)
    return Look(path.stem, table, _shaper(np.array(nodes)))


def _shaper(nodes: np.ndarray) -> np.ndarray | None:
    """What leads input codes to evenly spaced nodes; None where they are so already."""
    even = np.linspace(0, nodes[-1], len(nodes))
    if np.abs(nodes - even).max() <= 2:  # rounded to whole codes, in some files cut off to them
        return None
    places = np.interp(np.linspace(0, nodes[-1], 4096), nodes, np.linspace(0, 1, len(nodes)))
    return np.repeat(places[:, None], 3, axis=1).astype(np.float32)


def write_3dl(look: Look, target: Path | BinaryIO | TextIO) -> None:
    """Write a table in 12 bits; values below 0 and above 1 are held there.

    Raises:
        LookError: the look is not a bare table of up to 129 nodes a side, or so dark that
            readers would take its 12 bits for 10.
        OSError: the file cannot be written.
    """
    table = look.table
    if table is None or look.shaper is not None or look.domain != UNIT or len(table) > LARGEST:
        raise LookError(
            f"a .3dl file holds a bare table of 2 to {LARGEST} nodes a side",
            "Resample the look, or write a .cube file.",
        )
    codes = np.rint(np.clip(table.astype(np.float64), 0, 1) * ((1 << OUT_BITS) - 1)).astype(int)
    if codes.max() < 2 << (OUT_BITS - 2):
        raise LookError(
            "the look's lightest value is below one half: readers of .3dl files would take its "
            f"{OUT_BITS} bits for {OUT_BITS - 2}",
            "Write a .cube file.",
        )
    nodes = np.rint(np.linspace(0, (1 << IN_BITS) - 1, len(table))).astype(int)
    body = ("%d %d %d\n" * (codes.size // 3)) % tuple(codes.ravel().tolist())
    text = " ".join(map(str, nodes)) + "\n" + body
    if isinstance(target, (str, Path)):
        atomic.write_text(Path(target), text)
    elif isinstance(target, io.TextIOBase):
        target.write(text)
    else:
        target.write(text.encode("ascii"))  # type: ignore[arg-type]
