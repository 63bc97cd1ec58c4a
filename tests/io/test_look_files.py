"""Hald CLUTs, .3dl, .npy and .acv: what others read of them, and what comes back."""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tifffile

from hzcli.core.tetra import interpolate, interpolate_1d
from hzcli.errors import LookError
from hzcli.io import looks
from hzcli.io.acv import read_acv, spline, write_acv
from hzcli.io.cube import Look
from hzcli.io.hald import write_hald
from hzcli.io.threedl import read_3dl

RANDOM = np.random.default_rng(0)


def rough(n: int) -> Look:
    return Look("rough", np.random.default_rng(n).random((n, n, n, 3)).astype(np.float32))


def smooth(n: int) -> Look:
    """A look that mixes channels and bends gently."""
    axis = np.linspace(0, 1, n)
    nodes = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1)
    table = 0.02 + 0.9 * nodes**1.2 + 0.06 * nodes[..., [1, 2, 0]] * nodes
    return Look("smooth", table.astype(np.float32))


def gammas(m: int) -> Look:
    knots = np.linspace(0, 1, m)[:, None] ** [0.6, 1.0, 1.7]
    return Look("gammas", None, knots.astype(np.float32))


@pytest.mark.parametrize(
    ("name", "n", "close"),
    [
        ("a.cube", 9, 6e-7),
        ("a.npy", 9, 0),
        ("a.png", 9, 0.51 / 65535),
        ("a.png", 16, 0.51 / 65535),
        ("a.3dl", 9, 0.51 / 4095),
        ("a.3dl", 17, 0.51 / 4095),
        ("a.3dl", 65, 0.51 / 4095),
    ],
)
def test_looks_come_back(name: str, n: int, close: float, tmp_path: Path) -> None:
    """Each format keeps what its numbers can hold."""
    path = tmp_path / name
    looks.write(rough(n), path, looks.format_of(path))

    again = looks.read(path)

    assert again.table is not None and again.shaper is None
    assert np.abs(again.table - rough(n).table).max() <= close


def test_curves_come_back(tmp_path: Path) -> None:
    for name, format in (("a.cube", "cube1d"), ("a.npy", "npy")):
        looks.write(gammas(65), tmp_path / name, format)
        again = looks.read(tmp_path / name)
        assert again.table is None and again.shaper is not None
        assert np.abs(again.shaper - gammas(65).shaper).max() < 6e-7


def test_a_table_is_no_curve(tmp_path: Path) -> None:
    with pytest.raises(LookError, match="mixes channels"):
        looks.write(rough(3), tmp_path / "a.cube", "cube1d")


def test_a_look_without_a_known_name(tmp_path: Path) -> None:
    with pytest.raises(LookError, match="no kind of look"):
        looks.read(tmp_path / "a.docx")


# Hald CLUTs


def test_a_hald_clut_is_laid_out_as_its_definition_says(tmp_path: Path) -> None:
    """Pixel number r + n g + n^2 b holds node (r, g, b)."""
    from hzcli.core.window import Window
    from hzcli.io.picture import open_picture

    look = rough(9)
    looks.write(look, tmp_path / "a.png", "hald")
    with open_picture(tmp_path / "a.png") as reader:
        assert reader.depth == 16
        pixels = reader.read(Window.whole(reader.size)).reshape(-1, 3)

    assert look.table is not None
    for r, g, b in ((0, 0, 0), (8, 0, 0), (0, 8, 0), (0, 0, 8), (3, 5, 7)):
        expected = np.rint(look.table[r, g, b].astype(float) * 65535)
        assert (pixels[r + 9 * g + 81 * b] == expected).all()


def test_a_table_between_levels_goes_to_the_usual_one(tmp_path: Path) -> None:
    """33 nodes become 64; a smooth look moves by less than 8-bit rounding."""
    looks.write(smooth(33), tmp_path / "a.png", "hald")
    again = looks.read(tmp_path / "a.png")
    colours = RANDOM.random((500, 3))
    before, after = (interpolate(look.table, colours) for look in (smooth(33), again))

    assert again.size == 64
    assert np.abs(before - after).max() * 255 < 0.1


def test_a_picture_that_is_no_hald_clut(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((27, 30, 3), np.uint8), photometric="rgb")

    with pytest.raises(LookError, match="30 x 27 pixels, expected a Hald CLUT"):
        looks.read(tmp_path / "a.tif")
    with pytest.raises(LookError, match="cannot be opened"):
        looks.read(tmp_path / "b.png")
    with pytest.raises(LookError, match=r"4, 9, \.\. 256"):
        write_hald(rough(5), io.BytesIO())


def ffmpeg(folder: Path, codes: np.ndarray, filters: str, second: str | None = None) -> np.ndarray:
    """A picture (h, w, 3) uint16 through ffmpeg's filters."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is not installed")
    height, width = codes.shape[:2]
    (folder / "in.raw").write_bytes(codes.astype("<u2").tobytes())
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb48le"]
    words = ["ffmpeg", "-v", "error", *raw, "-s", f"{width}x{height}", "-i", "in.raw"]
    if second is not None:
        words += ["-i", second, "-filter_complex", filters]
    else:
        words += ["-vf", filters]
    words += ["-frames:v", "1", *raw, "out.raw"]
    subprocess.run(words, cwd=folder, check=True, stdin=subprocess.DEVNULL)
    return np.frombuffer((folder / "out.raw").read_bytes(), "<u2").reshape(codes.shape)


@pytest.mark.parametrize("interpolation", ["tetrahedral", "trilinear"])
@pytest.mark.parametrize("name", ["look.cube", "look.3dl", "look.png"])
def test_ffmpeg_gives_the_same_colours(name: str, interpolation: str, tmp_path: Path) -> None:
    """ffmpeg works in 16 bits here, and cuts off where hz rounds: one code."""
    codes = RANDOM.integers(0, 65536, (40, 50, 3)).astype(np.uint16)
    path = tmp_path / name
    look = smooth(16 if name == "look.png" else 17)
    looks.write(look, path, looks.format_of(path))
    read = looks.read(path)
    expected = np.clip(interpolate(read.table, codes / 65535, interpolation), 0, 1) * 65535

    if name == "look.png":
        got = ffmpeg(tmp_path, codes, f"haldclut=interp={interpolation}", name)
    else:
        got = ffmpeg(tmp_path, codes, f"lut3d={name}:interp={interpolation}")

    # Of 12 bits it takes 4096, not 4095, for white: up to 16 codes.
    assert np.abs(got - expected).max() < (18 if name == "look.3dl" else 2.5)


# .3dl


def test_opencolorio_reads_the_same_3dl(tmp_path: Path) -> None:
    ocio = pytest.importorskip("PyOpenColorIO")
    look = smooth(17)
    looks.write(look, tmp_path / "a.3dl", "3dl")
    transform = ocio.FileTransform(str(tmp_path / "a.3dl"))
    transform.setInterpolation(ocio.INTERP_TETRAHEDRAL)
    theirs = RANDOM.random((500, 3)).astype(np.float32)
    ours = interpolate(looks.read(tmp_path / "a.3dl").table, theirs)

    ocio.Config.CreateRaw().getProcessor(transform).getDefaultCPUProcessor().applyRGB(theirs)

    # Its nodes lie at whole input codes, 1/2 of 1023 from where they should.
    assert np.abs(ours - theirs).max() < 1e-3
    assert np.abs(ours - theirs).mean() < 1e-4


def test_a_dark_look_would_be_misread(tmp_path: Path) -> None:
    look = smooth(5)
    assert look.table is not None
    with pytest.raises(LookError, match="below one half"):
        looks.write(Look("", look.table * np.float32(0.4)), tmp_path / "a.3dl", "3dl")


def test_3dl_files_of_others(tmp_path: Path) -> None:
    """With Lustre's header, comments, and nodes that are not evenly spaced."""
    rows = [f"{4095 * r} {4095 * g} {4095 * b}" for r in (0, 1) for g in (0, 1) for b in (0, 1)]
    path = tmp_path / "a.3dl"
    path.write_text("# x\r\n3DMESH\r\nMesh 1 12\r\n0 1023\r\n" + "\r\n".join(rows))
    assert read_3dl(path).table[1, 0, 0].tolist() == [1, 0, 0]

    path.write_text("0 1023\n" + "\n".join(rows).replace("4095", "1500"))
    assert read_3dl(path).table.max() == np.float32(1500 / 4095)  # 10 bits end at 1023

    three = [f"{r} {g} {b}" for r in (0, 512, 1023) for g in (0, 512, 1023) for b in (0, 512, 1023)]
    path.write_text("0 256 1023\n" + "\n".join(three))
    look = read_3dl(path)
    places = np.interp([0, 256 / 1023, 1], np.linspace(0, 1, 4096), look.shaper[:, 0])
    assert np.abs(places - [0, 0.5, 1]).max() < 1e-3


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("", 1, "0 nodes a side"),
        ("0 1023\n" + "0 0 0\n" * 7, 8, "ends after 7 of the 8 rows"),
        ("0 1023\n" + "0 0 0\n" * 9, 10, "more rows than the 8"),
        ("0 1023\n" + "0 0 0\n" * 7 + "0 0 0.5\n", 9, "whole numbers"),
        ("0 1023\n" + "0 0 0\n" * 7 + "0 0\n", 9, "2 numbers"),
        ("0 900 800\n" + "0 0 0\n" * 27, 1, "do not rise"),
        ("0 1023\n" + "0 0 0\n" * 7 + "0 0 99999\n", 9, "no depth"),
    ],
)
def test_broken_3dl_files_name_the_line(text: str, line: int, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.3dl").write_text(text)

    with pytest.raises(LookError) as caught:
        looks.read(tmp_path / "a.3dl")

    assert f"line {line}: " in caught.value.message and said in caught.value.message


# .npy


def test_channels_first_arrays_are_read(tmp_path: Path) -> None:
    look = rough(7)
    assert look.table is not None
    np.save(tmp_path / "a.npy", np.moveaxis(look.table, -1, 0))

    assert (looks.read(tmp_path / "a.npy").table == look.table).all()


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4, 3)),
        np.zeros((4, 4, 5, 3)),
        np.zeros((1, 1, 1, 3)),
        np.full((2, 2, 2, 3), np.nan),
        np.array(["a"]),
        np.array({"a": 1}, dtype=object),
    ],
)
def test_other_arrays_are_refused(array: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", array)

    with pytest.raises(LookError, match=r"a\.npy"):
        looks.read(tmp_path / "a.npy")


def test_what_is_no_array_is_refused(tmp_path: Path) -> None:
    for data in (b"", b"hello", b"\x93NUMPY\x01\x00\xff\xff"):
        (tmp_path / "a.npy").write_bytes(data)
        with pytest.raises(LookError, match=r"a\.npy"):
            looks.read(tmp_path / "a.npy")


# Looks in other shapes


def test_more_nodes_change_nothing() -> None:
    """Where the old nodes are among the new, trilinear interpolation gives the same colours."""
    colours = RANDOM.random((300, 3))
    for n, more in ((2, 5), (5, 9), (17, 33)):
        tables = rough(n).table, looks.resampled(rough(n), more).table
        before, after = (interpolate(table, colours, "trilinear") for table in tables)
        assert np.abs(before - after).max() < 1e-6


def test_a_domain_is_resampled_away() -> None:
    """Over 0 to 1 the look is what it was inside its domain."""
    colours = RANDOM.random((300, 3))
    look = Look("", rough(5).table, None, ((-1, 0, 0), (1, 1, 3)))
    plain = looks.resampled(look, 25)
    places = (colours - [-1, 0, 0]) / [2, 1, 3]

    got = interpolate(plain.table, colours, "trilinear")

    # Nodes of red and green are met; of blue's five, one lies at 3/4 of the new table.
    assert plain.domain == ((0, 0, 0), (1, 1, 1))
    assert np.abs(got - interpolate(look.table, places, "trilinear")).max() < 1e-6


def test_a_shaper_is_baked_into_a_table() -> None:
    colours = np.round(RANDOM.random((300, 3)) * 64) / 64  # at the nodes it is exact
    shaper = (np.linspace(0, 1, 65)[:, None] ** [0.5, 1, 2]).astype(np.float32)
    look = Look("", rough(5).table, shaper)
    places = interpolate_1d(shaper, colours)

    got = interpolate(looks.as_table(look).table, colours)

    assert np.abs(got - interpolate(look.table, places, "trilinear")).max() < 1e-6


def test_looks_blend_linearly() -> None:
    """HINet's eq. 4; the ends are the looks themselves."""
    a, b = rough(5), rough(9)
    assert a.table is not None and b.table is not None

    assert (looks.mixed(a, b, 1).table == b.table).all()
    assert (looks.mixed(a, a, 0.3).table == a.table).all()
    assert (looks.mixed(a, b, 0).table[::2, ::2, ::2] == a.table).all()
    third = 0.7 * looks.mixed(a, b, 0).table + 0.3 * b.table
    assert np.abs(looks.mixed(a, b, 0.3).table - third).max() < 1e-6


def test_curves_blend_to_curves() -> None:
    mix = looks.mixed(gammas(17), gammas(65), 0.5)

    assert mix.table is None and mix.shaper is not None and len(mix.shaper) == 65
    assert looks.mixed(gammas(17), rough(5), 0.5).table is not None


# Photoshop's curves


def points(*exponents: float) -> np.ndarray:
    x = np.linspace(0, 1, 65)
    return np.stack([np.stack([x, x**e], -1) for e in exponents])


def test_the_spline_is_the_natural_one() -> None:
    """scipy's CubicSpline with second derivatives 0 at the ends."""
    interpolate = pytest.importorskip("scipy.interpolate")
    nodes = np.array([[0, 10], [60, 90], [100, 95], [255, 240]], float)
    at = np.linspace(0, 255, 400)

    expected = interpolate.CubicSpline(*nodes.T, bc_type="natural")(at)

    assert np.abs(spline(nodes, at) - expected).max() < 1e-9


def test_acv_files_are_as_adobe_specifies_them(tmp_path: Path) -> None:
    """Version 4, four curves, output before input, the first for all channels at rest."""
    distance = write_acv(tmp_path / "a.acv", points(1, 0.8, 1.5))
    data = (tmp_path / "a.acv").read_bytes()

    assert struct.unpack(">7H", data[:14]) == (4, 4, 2, 0, 0, 255, 255)
    assert struct.unpack(">5H", data[14:24]) == (2, 0, 0, 255, 255)  # red: the straight line
    assert distance < 1


def test_acv_curves_come_back(tmp_path: Path) -> None:
    """At most 19 points, inputs rising, the spline within the distance that was told."""
    wanted = points(1, 0.7, 1.4)
    distance = write_acv(tmp_path / "a.acv", wanted)
    levels = np.arange(256.0)

    curves = read_acv(tmp_path / "a.acv")

    for curve, exponent in zip(curves[1:], (1, 0.7, 1.4), strict=True):
        exact = np.interp(levels / 255, wanted[0, :, 0], wanted[0, :, 0] ** exponent) * 255
        assert len(curve) <= 19 and (np.diff(curve[:, 0]) > 0).all()
        assert np.abs(spline(curve * 255, levels) - exact).max() <= distance + 1e-9
    assert distance < 1.5


def test_ffmpeg_draws_the_same_curves(tmp_path: Path) -> None:
    """Each channel its own; ffmpeg cuts off, and its spline is not quite the natural one."""
    write_acv(tmp_path / "a.acv", points(1, 0.8, 1.4))
    ramp = np.repeat(np.linspace(0, 65535, 256)[None, :, None], 3, -1).astype(np.uint16)

    got = ffmpeg(tmp_path, np.repeat(ramp, 4, 0), "curves=psfile=a.acv")[0] / 257

    for channel, exponent in enumerate((1, 0.8, 1.4)):
        assert np.abs(got[:, channel] - 255 * np.linspace(0, 1, 256) ** exponent).max() < 3


@pytest.mark.parametrize("data", [b"", b"\0\4\0\4\0\2", b"\0\7\0\0", b"\0\4\0\1\0\1\0\0\0\0"])
def test_broken_acv_files_are_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.acv").write_bytes(data)

    with pytest.raises(LookError, match=r"a\.acv"):
        read_acv(tmp_path / "a.acv")


def test_what_is_no_curve_is_refused(tmp_path: Path) -> None:
    for wrong in (np.zeros((2, 5, 2)), points(1, 1, 1)[:, ::-1], points(1, 1, 1) * np.nan):
        with pytest.raises(LookError):
            write_acv(tmp_path / "a.acv", wrong)
    assert list(tmp_path.iterdir()) == []
