""".cube files: read whatever programs write, write what every program reads.

Adobe's "Cube LUT Specification" 1.0 (2013) has one table, of one or of three dimensions, and
DOMAIN_MIN and DOMAIN_MAX. DaVinci Resolve's has a one-dimensional shaper, a three-dimensional
table or both, in this order, and LUT_1D_INPUT_RANGE and LUT_3D_INPUT_RANGE.

Written is what all of them have in common, in the form that the strictest readers want: a quoted
ASCII title, comments before the size, no domain, six decimals, red fastest, LF.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, TextIO

import numpy as np

from hzcli.errors import LookError
from hzcli.io import atomic

Domain = tuple[tuple[float, float, float], tuple[float, float, float]]

UNIT: Domain = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
LARGEST_3D, LARGEST_1D = 256, 65536  # of Adobe's specification
_LARGEST_FILE = 1 << 30
_LARGEST_LINE = 4096
_COMMENT_WIDTH = 250  # bytes; readers have buffers of 250 bytes and more

_RANGES = {"LUT_1D_INPUT_RANGE": 2, "LUT_3D_INPUT_RANGE": 2, "DOMAIN_MIN": 3, "DOMAIN_MAX": 3}
_SIZES = {"LUT_1D_SIZE": LARGEST_1D, "LUT_3D_SIZE": LARGEST_3D}
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", re.ASCII)
_KEYWORD = re.compile(r"[A-Za-z_]\w*", re.ASCII)


@dataclass(frozen=True, eq=False)
class Look:
    """A recolouring as tables.

    title: its name. table: (n, n, n, 3) float32, indexed [r][g][b], or None.
    shaper: (m, 3) float32, applied first, linear between its entries, or None. With a table its
        values are places in it, 0 to 1; without one they are the result.
    domain: the colours that the first of the two spans, (r, g, b) at its lower and upper end.
    """

    title: str = ""
    table: np.ndarray | None = None
    shaper: np.ndarray | None = None
    domain: Domain = UNIT

    def __post_init__(self) -> None:
        assert self.table is not None or self.shaper is not None, "a look has a table or a shaper"
        if self.table is not None:
            n = len(self.table)
            assert self.table.shape == (n, n, n, 3) and n >= 2, self.table.shape
        if self.shaper is not None:
            assert self.shaper.shape == (len(self.shaper), 3) and len(self.shaper) >= 2

    @property
    def size(self) -> int:
        """Nodes a side of the table; where there is none, entries of the shaper."""
        tables = self.shaper if self.table is None else self.table
        assert tables is not None
        return len(tables)


def read_cube(path: Path) -> Look:
    """Read a .cube file of one dimension, of three, or both.

    CRLF, CR, a byte order mark, tabs, blank lines, comments anywhere and a size after its
    rows are understood.

    Raises:
        LookError: the file cannot be opened, or a line of it, which is named, cannot be
            understood: nothing is guessed.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            data = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        hint = "Check the path." if isinstance(error, FileNotFoundError) else ""
        raise LookError(f"{path} cannot be opened: {error.strerror}", hint) from error
    return _Parser(path).parse(data)


@dataclass
class _Parser:
    """What the lines of one file have said so far."""

    path: Path
    title: str = ""
    sizes: dict[str, int] = field(default_factory=dict)
    ranges: dict[str, tuple[float, ...]] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)  # where each keyword stands
    tokens: list[str] = field(default_factory=list)
    places: list[int] = field(default_factory=list)  # line of each row

    def fail(self, line: int, what: str, hint: str = "Export the look again.") -> NoReturn:
        raise LookError(f"{self.path}, line {line}: {what}", hint)

    def parse(self, data: bytes) -> Look:
        lines = self.text(data)
        for number, line in enumerate(lines, 1):
            self.line(number, line)
        count = max(1, len(lines))
        if not self.sizes:
            self.fail(count, "the file ends without LUT_3D_SIZE or LUT_1D_SIZE")
        values = self.values()
        counts = {name: n ** (3 if name == "LUT_3D_SIZE" else 1) for name, n in self.sizes.items()}
        wanted, found = sum(counts.values()), len(values)
        sizes = " and ".join(f"{name} {n}" for name, n in self.sizes.items())
        if found > wanted:
            self.fail(self.places[wanted], f"more rows than the {wanted} of {sizes}")
        if found < wanted:
            self.fail(count, f"the file ends after {found} of the {wanted} rows of {sizes}")
        if not data.endswith((b"\n", b"\r")):
            self.check_end()
        return self.look(values, counts)

    def text(self, data: bytes) -> list[str]:
        """The lines of the file."""
        if len(data) > _LARGEST_FILE:
            self.fail(1, f"the file is larger than {_LARGEST_FILE >> 20} MB")
        if not data:
            self.fail(1, "the file is empty", "Copy or export the look again.")
        if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
            self.fail(1, "the text is UTF-16", "Save it as UTF-8.")
        data = data.removeprefix(b"\xef\xbb\xbf")
        # A lone CR ends a line, too; whatever else splits lines elsewhere (form feed) does not.
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        odd = re.search(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", data)
        if odd:
            line = data.count(b"\n", 0, odd.start()) + 1
            self.fail(line, f"a control character ({odd[0][0]:#04x}): not a text file, or damaged")
        # Titles and comments may be in any encoding; nothing else has other than ASCII.
        return data.removesuffix(b"\n").decode("utf-8", "replace").split("\n")

    def line(self, number: int, line: str) -> None:
        words = line.split("#", 1)[0].split()
        if not words:
            return
        if words[0][0] in "0123456789+-.":
            if len(words) != 3:
                self.fail(number, f"{len(words)} numbers ({_shown(line)}), expected 3")
            self.tokens += words
            self.places.append(number)
        elif words[0] == "TITLE":
            self.title = self.once(number, words[0], _title(line))
        elif words[0] in _SIZES:
            self.sizes[words[0]] = self.once(number, words[0], self.size(number, words))
        elif words[0] in _RANGES:
            self.ranges[words[0]] = self.once(number, words[0], self.numbers(number, words))
        elif words[0] in ("LUT_IN_VIDEO_RANGE", "LUT_OUT_VIDEO_RANGE"):
            self.fail(number, f"{words[0]}: the look is for video levels, pictures have full ones",
                      "Export the look for full (data) levels.")  # fmt: skip
        elif _KEYWORD.fullmatch(words[0]) and len(line) < _LARGEST_LINE:
            self.fail(number, f"{_shown(words[0])} is no keyword of .cube files")
        else:
            self.fail(number, f"neither a keyword nor three numbers ({_shown(line)})")

    def once(self, number: int, word: str, value: Any) -> Any:
        if word in self.lines:
            self.fail(number, f"a second {word}; the first is in line {self.lines[word]}")
        self.lines[word] = number
        return value

    def size(self, number: int, words: list[str]) -> int:
        largest = _SIZES[words[0]]
        if len(words) != 2 or not re.fullmatch(r"\d{1,9}", words[1], re.ASCII):
            self.fail(number, f"{_shown(' '.join(words))}: expected one whole number")
        size = int(words[1])
        if not 2 <= size <= largest:
            self.fail(number, f"{words[0]} is {size}, expected 2 to {largest}")
        return size

    def numbers(self, number: int, words: list[str]) -> tuple[float, ...]:
        count = _RANGES[words[0]]
        if len(words) != count + 1 or not all(map(_NUMBER.fullmatch, words[1:])):
            self.fail(number, f"{_shown(' '.join(words))}: expected {count} numbers")
        return tuple(map(float, words[1:]))

    def values(self) -> np.ndarray:
        """All rows, (N, 3) float64."""
        # One look at everything: no letters, hence no "nan", and what float() takes is a number.
        plain = re.fullmatch(r"[-+0-9.eE \n]*", " ".join(self.tokens), re.ASCII)
        try:
            values = np.array([float(token) for token in self.tokens] if plain else None, float)
        except ValueError:
            plain = None
        if not plain:
            for at, token in enumerate(self.tokens):
                if not _NUMBER.fullmatch(token):
                    hint = "Export the look again."
                    if "," in token:
                        hint = "Numbers have a decimal point: export in a locale that has it."
                    self.fail(self.places[at // 3], f"{_shown(token)} is not a number", hint)
        wild = np.flatnonzero(~(np.abs(values) <= np.finfo(np.float32).max))
        if wild.size:
            at = int(wild[0])
            self.fail(self.places[at // 3], f"{_shown(self.tokens[at])} is too large a number")
        return values.reshape(-1, 3)

    def check_end(self) -> None:
        """Where the last line has no end, its last number may be cut short."""
        decimals = {len(token.partition(".")[2]) for token in self.tokens[:-1]}
        last = self.tokens[-1].partition(".")[2]
        cut = len(decimals) == 1 and len(last) < min(decimals)
        if cut or self.tokens[-1][-1] in "eE+-":
            self.fail(
                self.places[-1],
                f"the file ends inside a number ({_shown(self.tokens[-1])})",
                "Copy or export the look again.",
            )

    def domain(self, dimension: str) -> Domain:
        """What the rows of the table of a dimension span."""
        name = f"LUT_{dimension}_INPUT_RANGE"
        if name in self.ranges:
            for other in ("DOMAIN_MIN", "DOMAIN_MAX"):
                if other in self.lines:
                    self.fail(self.lines[other], f"{other} beside {name}: which of them holds?")
            low, high = self.ranges[name]
            ends: Any = ((low,) * 3, (high,) * 3)
            line = self.lines[name]
        else:
            ends = tuple(
                self.ranges.get(f"DOMAIN_{end}", default)
                for end, default in zip(("MIN", "MAX"), UNIT, strict=True)
            )
            line = max(self.lines.get(f"DOMAIN_{end}", 0) for end in ("MIN", "MAX"))
        spans = [high - low for low, high in zip(*ends, strict=True)]
        if not all(span > 1e-6 and math.isfinite(span) for span in spans):
            self.fail(line, f"a domain from {_shown(ends[0])} to {_shown(ends[1])} spans nothing")
        return ends

    def look(self, values: np.ndarray, counts: dict[str, int]) -> Look:
        for name in ("1D", "3D"):
            if f"LUT_{name}_INPUT_RANGE" in self.lines and f"LUT_{name}_SIZE" not in self.sizes:
                word = f"LUT_{name}_INPUT_RANGE"
                self.fail(self.lines[word], f"{word} without LUT_{name}_SIZE")
        first = counts.get("LUT_1D_SIZE", 0)
        shaper = values[:first] if first else None
        if "LUT_3D_SIZE" not in self.sizes:
            assert shaper is not None
            return Look(self.title, None, shaper.astype(np.float32), self.domain("1D"))
        n = self.sizes["LUT_3D_SIZE"]
        # Red changes fastest: rows are [b][g][r].
        table = values[first:].reshape(n, n, n, 3).transpose(2, 1, 0, 3)
        table = np.ascontiguousarray(table, np.float32)
        if shaper is None:
            return Look(self.title, table, None, self.domain("3D"))
        if "LUT_3D_INPUT_RANGE" in self.ranges:  # the shaper's values in the table's own scale
            (low, *_), (high, *_) = self.domain("3D")
            shaper = (shaper - low) / (high - low)
        return Look(self.title, table, shaper.astype(np.float32), self.domain("1D"))


def _shown(value: object) -> str:
    """Something found, short enough for a message."""
    if isinstance(value, tuple):
        return " ".join(f"{number:g}" for number in value)
    text = str(value).strip()
    return repr(text if len(text) <= 40 else text[:37] + "...")


def _title(line: str) -> str:
    text = line.strip().removeprefix("TITLE").strip()
    quoted = re.match(r'"([^"]*)"', text)
    return quoted[1] if quoted else text.strip('"')


def write_cube(
    look: Look, target: Path | BinaryIO | TextIO, *, comments: Sequence[str] = ()
) -> None:
    """Write a look in the form that every reader takes.

    A shaper and a table together are written as DaVinci Resolve does; only it and OpenColorIO
    read that.

    Args:
        target: a path (written whole or not at all) or a stream.
        comments: lines above the size; what is not ASCII becomes "?".

    Raises:
        LookError: the look spans something else than 0 to 1 (readers disagree about domains),
            holds what is no number, or is too large.
        OSError: the file cannot be written.
    """
    text = _cube_text(look, comments)
    if isinstance(target, (str, Path)):
        atomic.write_text(Path(target), text)
    elif isinstance(target, io.TextIOBase):
        target.write(text)
    else:
        target.write(text.encode("ascii"))  # type: ignore[arg-type]


def _cube_text(look: Look, comments: Sequence[str]) -> str:
    if look.domain != UNIT:
        raise LookError(
            f"the look spans {_shown(look.domain[0])} to {_shown(look.domain[1])}, expected 0 to 1",
            "Readers disagree about domains: resample it first.",
        )
    head = [f'TITLE "{_ascii(look.title).replace(chr(34), chr(39))}"'] if look.title else []
    head += [
        f"# {_ascii(line)}".rstrip() for text in comments for line in text.splitlines() or [""]
    ]
    rows = []
    if look.shaper is not None:
        head.append(f"LUT_1D_SIZE {len(look.shaper)}")
        rows.append(look.shaper)
    if look.table is not None:
        head.append(f"LUT_3D_SIZE {len(look.table)}")
        rows.append(look.table.transpose(2, 1, 0, 3).reshape(-1, 3))
    for word, table in (("LUT_1D_SIZE", look.shaper), ("LUT_3D_SIZE", look.table)):
        if table is not None and len(table) > _SIZES[word]:
            raise LookError(f"{word} would be {len(table)}, at most {_SIZES[word]} is allowed")
    values = np.concatenate(rows).astype(np.float64)
    if not np.isfinite(values).all():
        raise LookError("the look holds values that are no numbers", "Make it again.")
    values = np.round(values, 6) + 0.0  # no "-0.000000"
    body = ("%.6f %.6f %.6f\n" * len(values)) % tuple(values.ravel().tolist())
    return "\n".join(head) + "\n" + body


def _ascii(text: str) -> str:
    text = re.sub(r"\s+", " ", text).strip().encode("ascii", "replace").decode()
    return "".join(c if c.isprintable() else "?" for c in text)[:_COMMENT_WIDTH]
