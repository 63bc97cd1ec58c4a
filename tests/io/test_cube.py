"""Reading and writing .cube files; OpenColorIO and colour-science read what is written."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hzcli.errors import LookError
from hzcli.io.cube import Look, read_cube, write_cube

ROWS = [f"{r / 1} {g / 1} {b / 1}" for b in (0, 1) for g in (0, 1) for r in (0, 1)]
IDENTITY = "LUT_3D_SIZE 2\n" + "\n".join(ROWS) + "\n"


def rough(n: int, seed: int = 0) -> Look:
    """A table of random values of six decimals, which a file holds exactly."""
    values = np.random.default_rng(seed).integers(0, 1_000_001, (n, n, n, 3)) / 1e6
    return Look("rough", values.astype(np.float32))


def curve(m: int) -> Look:
    knots = np.linspace(0, 1, m)[:, None] ** [0.5, 1.0, 2.0]
    return Look("curve", None, knots.astype(np.float32))


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[str | bytes], Path]:
    def save(text: str | bytes) -> Path:
        path = tmp_path / "look.cube"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return save


# What is written


@pytest.mark.parametrize("n", [2, 3, 17, 33])
def test_tables_come_back(n: int, tmp_path: Path) -> None:
    """Six decimals come back to half of the last."""
    look = rough(n)
    write_cube(look, tmp_path / "a.cube")

    again = read_cube(tmp_path / "a.cube")

    assert again.table is not None and look.table is not None
    assert again.title == "rough"
    assert np.abs(again.table - look.table).max() < 6e-7


def test_the_text_is_the_subset_that_every_reader_takes() -> None:
    """Quoted ASCII title, comments above the size, fixed point, single spaces, LF."""
    table = np.zeros((2, 2, 2, 3), np.float32)
    table[1, 0, 0] = [1, -1e-9, 2.5e-7]
    stream = io.BytesIO()
    write_cube(Look('Löök "1"\n', table), stream, comments=["hz\nsecond é"])

    lines = stream.getvalue().decode("ascii").split("\n")

    assert lines[:3] == ["TITLE \"L??k '1'\"", "# hz", "# second ?"]
    assert lines[3] == "LUT_3D_SIZE 2"
    assert lines[4:6] == ["0.000000 0.000000 0.000000", "1.000000 0.000000 0.000000"]
    assert len(lines) == 4 + 8 + 1 and lines[-1] == ""
    assert b"\r" not in stream.getvalue()


def test_red_changes_fastest(tmp_path: Path) -> None:
    """The second row is the node one step towards red."""
    table = np.zeros((2, 2, 2, 3), np.float32)
    table[1, 0, 0, 0], table[0, 1, 0, 1], table[0, 0, 1, 2] = 0.1, 0.2, 0.3
    write_cube(Look("", table), tmp_path / "a.cube")

    rows = (tmp_path / "a.cube").read_text().splitlines()[1:]

    assert [rows[1], rows[2], rows[4]] == [
        "0.100000 0.000000 0.000000",
        "0.000000 0.200000 0.000000",
        "0.000000 0.000000 0.300000",
    ]


def test_what_readers_disagree_about_is_not_written(tmp_path: Path) -> None:
    """No domain, and nothing that is no number."""
    look = rough(2)
    assert look.table is not None
    with pytest.raises(LookError, match="expected 0 to 1"):
        write_cube(Look("", look.table, None, ((0, 0, 0), (2, 2, 2))), tmp_path / "a.cube")
    with pytest.raises(LookError, match="no numbers"):
        write_cube(Look("", look.table * np.float32(np.nan)), tmp_path / "a.cube")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("n", [2, 17, 33])
def test_opencolorio_reads_the_same_table(n: int, tmp_path: Path) -> None:
    ocio = pytest.importorskip("PyOpenColorIO")
    look = rough(n)
    write_cube(look, tmp_path / "a.cube")
    transform = ocio.FileTransform(str(tmp_path / "a.cube"))
    transform.setInterpolation(ocio.INTERP_TETRAHEDRAL)
    cpu = ocio.Config.CreateRaw().getProcessor(transform).getDefaultCPUProcessor()
    axis = np.linspace(0, 1, n)
    nodes = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).astype(np.float32)
    nodes = np.ascontiguousarray(nodes.reshape(-1, 3))

    cpu.applyRGB(nodes)

    assert look.table is not None
    # Between two nodes a place is rounded to float32: a rough table shows that.
    assert np.abs(nodes - look.table.reshape(-1, 3)).max() < 1e-5


def test_colour_science_reads_the_same_tables(tmp_path: Path) -> None:
    colour = pytest.importorskip("colour")
    write_cube(rough(5), tmp_path / "a.cube", comments=["one", "two"])
    write_cube(curve(9), tmp_path / "b.cube")

    cube, lines = (colour.io.read_LUT_IridasCube(tmp_path / f"{x}.cube") for x in "ab")

    assert np.abs(cube.table - rough(5).table).max() < 1e-6
    assert cube.name == "rough" and cube.comments == ["one", "two"]
    assert np.abs(lines.table - curve(9).shaper).max() < 1e-6


# What others write


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.replace("\n", "\r\n"),
        lambda t: t.replace("\n", "\r"),
        lambda t: "\ufeff" + t,
        lambda t: t.replace(" ", "\t").replace("\n", " \t\n"),
        lambda t: t.replace("\n", "\n\n# comment\n"),
        lambda t: t.replace("1.0 1.0 1.0", "1 1e0 +1.0E+00 # white"),
        lambda t: t.replace("0.0", "0.").replace("1.0", "01."),
        lambda t: t.rstrip("\n"),
        lambda t: "\n".join(ROWS) + "\nLUT_3D_SIZE 2\n",  # late
        lambda t: "DOMAIN_MIN 0 0 0\n" + t.replace("2\n", "2\nDOMAIN_MAX 1.0 1.0 1.0\n", 1),
        lambda t: t.replace("2\n", "2\nLUT_3D_INPUT_RANGE 0.0 1.0\n", 1),
        lambda t: 'TITLE "caf\u00e9 # 1"\n' + t,
        lambda t: "TITLE no quotes\n" + t,
    ],
)
def test_other_ways_of_writing_are_the_same(
    change: Callable[[str], str], saved: Callable[[str], Path]
) -> None:
    look = read_cube(saved(change(IDENTITY)))

    axis = np.array([0.0, 1.0])
    assert look.table is not None and look.domain == ((0, 0, 0), (1, 1, 1))
    assert (look.table == np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1)).all()


def test_titles(saved: Callable[[str | bytes], Path]) -> None:
    """In quotes or not, and in any encoding."""
    assert read_cube(saved('TITLE "caf\u00e9 # 1"\n' + IDENTITY)).title == "caf\u00e9 # 1"
    assert read_cube(saved("TITLE  two words\n" + IDENTITY)).title == "two words"
    assert read_cube(saved(b'TITLE "caf\xe9"\n' + IDENTITY.encode())).title.startswith("caf")


def test_domains(saved: Callable[[str], Path]) -> None:
    """Adobe's by channel, Resolve's one for all."""
    adobe = "DOMAIN_MAX 2 3 4\nDOMAIN_MIN -1 0 0.5\n" + IDENTITY
    resolve = "LUT_3D_INPUT_RANGE -0.5 2\n" + IDENTITY

    assert read_cube(saved(adobe)).domain == ((-1, 0, 0.5), (2, 3, 4))
    assert read_cube(saved(resolve)).domain == ((-0.5,) * 3, (2,) * 3)


BOTH = """LUT_1D_SIZE 3
LUT_1D_INPUT_RANGE 0.0 2.0
LUT_3D_SIZE 2
LUT_3D_INPUT_RANGE 0.0 4.0
0 0 0
1 2 3
4 4 4
""" + "\n".join(f"{0.5 * r} {g} {b * b}" for b in (0, 1) for g in (0, 1) for r in (0, 1))


def test_a_shaper_and_a_table(saved: Callable[[str], Path]) -> None:
    """Rows of the shaper come first; its values become places in the table."""
    look = read_cube(saved(BOTH))

    assert look.shaper is not None and look.table is not None
    assert look.shaper.tolist() == [[0, 0, 0], [0.25, 0.5, 0.75], [1, 1, 1]]
    assert look.domain == ((0, 0, 0), (2, 2, 2))
    assert look.table[1, 1, 0].tolist() == [0.5, 1, 0]


@pytest.mark.parametrize("text", [BOTH, "DOMAIN_MIN -1 0 0.5\nDOMAIN_MAX 2 3 4\n" + IDENTITY])
def test_opencolorio_reads_it_so_too(text: str, saved: Callable[[str], Path]) -> None:
    """Ranges, domains and shapers mean here what they mean there."""
    ocio = pytest.importorskip("PyOpenColorIO")
    from hzcli.core.tetra import in_domain, interpolate, interpolate_1d

    path = saved(text)
    transform = ocio.FileTransform(str(path))
    transform.setInterpolation(ocio.INTERP_TETRAHEDRAL)
    theirs = np.random.default_rng(0).uniform(-0.2, 1.2, (500, 3)).astype(np.float32)
    look = read_cube(path)
    assert look.table is not None
    places = in_domain(theirs.astype(float), look.domain)
    if look.shaper is not None:
        places = interpolate_1d(look.shaper, places)
    ours = interpolate(look.table, places)

    ocio.Config.CreateRaw().getProcessor(transform).getDefaultCPUProcessor().applyRGB(theirs)

    assert np.abs(ours - theirs).max() < 2e-6


# What is broken


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("", 1, "empty"),
        ("# nothing\n\n", 2, "without LUT_3D_SIZE"),
        ("\n".join(ROWS), 8, "without LUT_3D_SIZE"),
        (IDENTITY.replace("1.0 1.0 1.0\n", ""), 8, "ends after 7 of the 8 rows"),
        (IDENTITY + "0 0 0\n", 10, "more rows than the 8"),
        (IDENTITY.replace("1.0 1.0 1.0", "1.0 1.0"), 9, "2 numbers"),
        (IDENTITY.replace("1.0 1.0 1.0", "1.0 1.0 1.0 1.0"), 9, "4 numbers"),
        (IDENTITY.replace("1.0 1.0 1.0", "1,0 1,0 1,0"), 9, "not a number"),
        (IDENTITY.replace("1.0 1.0 1.0", "1.0 1.0 nan"), 9, "not a number"),
        (IDENTITY.replace("1.0 1.0 1.0", "1.0 1.0 1_0"), 9, "not a number"),
        (IDENTITY.replace("1.0 1.0 1.0", "1.0 1.0 1e99"), 9, "too large"),
        (IDENTITY.replace("1.0 1.0 1.0", "inf 1.0 1.0"), 9, "no keyword"),
        (IDENTITY.replace("SIZE 2", "SIZE 1"), 1, "expected 2 to 256"),
        (IDENTITY.replace("SIZE 2", "SIZE 257"), 1, "expected 2 to 256"),
        (IDENTITY.replace("SIZE 2", "SIZE -2"), 1, "whole number"),
        (IDENTITY.replace("SIZE 2", "SIZE 2.5"), 1, "whole number"),
        (IDENTITY.replace("SIZE 2", "SIZE"), 1, "whole number"),
        (IDENTITY.replace("SIZE 2", "SIZE 3"), 9, "ends after 8 of the 27 rows"),
        (IDENTITY + "LUT_3D_SIZE 2", 10, "a second LUT_3D_SIZE; the first is in line 1"),
        (IDENTITY + "LUT_3D_SISE 2", 10, "no keyword"),
        (IDENTITY + "DOMAIN_MIN 1 1", 10, "expected 3 numbers"),
        (IDENTITY + "DOMAIN_MIN 1 1 1", 10, "spans nothing"),
        (IDENTITY + "LUT_1D_INPUT_RANGE 0 1", 10, "without LUT_1D_SIZE"),
        (IDENTITY + "DOMAIN_MAX 1 1 1\nLUT_3D_INPUT_RANGE 0 1", 10, "which of them holds"),
        (IDENTITY + "LUT_IN_VIDEO_RANGE", 10, "video levels"),
        (IDENTITY.replace("1.0 1.0 1.0", "1.0 \x001.0 1.0"), 9, "control character"),
        (IDENTITY.replace("0.0 1.0 1.0", "?.0 1.0 1.0"), 8, "neither a keyword"),
        ("LUT_3D_SIZE 2\n" + "0.50 0.50 0.50\n" * 7 + "0.50 0.50 0.5", 9, "inside a number"),
        (IDENTITY.encode("utf-16"), 1, "UTF-16"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", 2, "control character"),
    ],
)
def test_errors_name_the_line(
    text: str | bytes, line: int, said: str, saved: Callable[[str | bytes], Path]
) -> None:
    with pytest.raises(LookError) as caught:
        read_cube(saved(text))

    assert f"look.cube, line {line}: " in caught.value.message
    assert said in caught.value.message


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(LookError, match="cannot be opened"):
        read_cube(tmp_path / "no.cube")


WORDS = (b"nan", b"inf", b"-inf", b"0,5", b"1.0.0", b"--1", b"0x1", b"1e999", b"", b"0.5 0.5")
SIZES = (b"0", b"1", b"-3", b"4", b"2", b"257", b"9" * 30, b"3.0", b"x", b"")
HEADS = (b"", b"LUT_3D_SIZ 3", b"LUT_1D_SIZE 3", b"#LUT_3D_SIZE 3")
STRAYS = (
    *(b"DOMAIN_MIN 2 2 2", b"DOMAIN_MAX 0 1 1", b"DOMAIN_MAX 1 1", b"LUT_3D_INPUT_RANGE 1 0"),
    *(b"LUT_3D_SIZE 3", b"LUT_WHATEVER 1", b"0 0", b"TITLE\x00", b"\xff\xfe\x80\x81 1 2"),
)


def broken(text: bytes, chance: np.random.Generator) -> bytes:
    """The file with one thing wrong, after which no reader may see the table that it was."""
    lines = text.split(b"\n")[:-1]
    first = next(k for k, line in enumerate(lines) if line[:1].isdigit())
    row = int(chance.integers(first, len(lines)))

    def one_of(choices: tuple[bytes, ...]) -> bytes:
        return choices[chance.integers(len(choices))]

    kind = int(chance.integers(0, 8))
    if kind == 0:  # cut short; only the last line's end may be missing
        return text[: chance.integers(0, len(text) - 1)]
    if kind == 1:  # zeros, as an interrupted copy leaves
        at = int(chance.integers(0, len(text) - 60))
        return text[:at] + bytes(60) + text[at + 60 :]
    if kind == 2:  # a byte that no number has
        at = text.index(lines[row]) + int(chance.integers(0, len(lines[row])))
        odd = b"\x00\xff!/:;=?@ABCDFGZ_abz~\"'`,"
        return text[:at] + bytes([odd[chance.integers(len(odd))]]) + text[at + 1 :]
    if kind == 3:
        del lines[row]
    elif kind == 4:
        lines.insert(row, lines[row])
    elif kind == 5:
        words = lines[row].split()
        words[chance.integers(3)] = one_of(WORDS)
        lines[row] = b" ".join(words)
    elif kind == 6:
        lines[first - 1] = one_of((b"LUT_3D_SIZE " + one_of(SIZES), one_of(HEADS)))
    else:
        lines.insert(row, one_of(STRAYS))
    return b"\n".join(lines) + b"\n"


def test_a_thousand_broken_files(saved: Callable[[bytes], Path]) -> None:
    """Each is refused with the line named; none is taken for a table, none ends in a traceback."""
    stream = io.BytesIO()
    write_cube(rough(3), stream, comments=["hz"])
    chance = np.random.default_rng(1)
    wrong = []
    for _ in range(1000):
        text = broken(stream.getvalue(), chance)
        try:
            read_cube(saved(text))
        except LookError as error:
            if not re.search(r", line \d+: ", error.message):
                wrong.append((text, error.message))
        else:
            wrong.append((text, "was read"))

    assert wrong == []
