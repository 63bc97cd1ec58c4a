"""Pictures out, in every container: what other libraries read back, and what is left behind."""

from __future__ import annotations

import io
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms
from ruled_pictures import rough, smooth

from hzcli.core.window import Size
from hzcli.errors import PictureError
from hzcli.io import profiles
from hzcli.io.meta import Header, Meta
from hzcli.io.writers import OutputOptions, Resolved, open_writer, resolve
from hzcli.io.writers.held import HeldWriter

NOTHING = Meta()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF/></x:xmpmeta>'


@dataclass(frozen=True)
class Blocks:
    """What metadata.py hands over, made by rule."""

    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    photoshop: bytes | None = None
    extratags: tuple | None = None


def resolved(form: str, depth: str | None = None, **options) -> Resolved:
    kind = "jpg" if form == "jpeg" else form
    header = Header(Path(f"a.{kind}"), Size(5, 5), 16, "rgb", 1, "tiff")
    return resolve(OutputOptions(form, depth, **options), header)


def write(path, rows, alpha=None, *, form="tiff", depth=None, bands=(7, 1, 30), **rest):
    options = {name: rest.pop(name) for name in list(rest) if name in OutputOptions.__annotations__}
    meta = rest.pop("meta", NOTHING)
    kind = resolved(form, depth, **options)
    with open_writer(
        path, Size(*rows.shape[:2]), kind, meta=meta, alpha=alpha is not None, **rest
    ) as writer:
        cuts = np.cumsum(bands)
        covers = np.split(alpha, cuts) if alpha is not None else [None] * (len(cuts) + 1)
        for part, cover in zip(np.split(rows, cuts), covers, strict=True):
            writer.write(part, cover)
    return writer


def coming(depth: str, height=60, width=37, channels=3, seed=0) -> np.ndarray:
    """Rows as the engine hands them over: codes of 16 bits, or floats beyond 0..1 too."""
    if depth == "32f":
        values = np.random.default_rng(seed).normal(0.5, 1.0, (height, width, channels))
        return values.astype(np.float32)
    return rough(height, width, channels, np.uint16, seed)


def stored(rows: np.ndarray, depth: str) -> np.ndarray:
    """The samples that a file of `depth` is to hold: the nearest 8-bit code, in floats."""
    return np.floor(rows / 257 + 0.5).astype(np.uint8) if depth == "8" else rows


def read_back(path: Path, form: str) -> np.ndarray:
    if form == "tiff":
        return tifffile.imread(path)
    if form == "exr":
        oiio = pytest.importorskip("OpenImageIO")
        return oiio.ImageInput.open(str(path)).read_image(oiio.FLOAT)
    decode = {"png": imagecodecs.png_decode, "webp": imagecodecs.webp_decode}
    decode["jxl"] = imagecodecs.jpegxl_decode
    decode["jpeg"] = imagecodecs.jpeg8_decode
    return decode[form](path.read_bytes())


LOSSLESS = [
    ("tiff", "8", {}),
    ("tiff", "16", {}),
    ("tiff", "32f", {}),
    ("tiff", "16", {"compression": "lzw"}),
    ("tiff", "8", {"compression": "lzw", "tile": 16}),
    ("tiff", "32f", {"compression": "lzw"}),
    ("tiff", "16", {"compression": "zstd", "tile": 32}),
    ("tiff", "32f", {"compression": "zstd"}),
    ("tiff", "32f", {"compression": "none", "tile": 32}),
    ("tiff", "8", {"compression": "none"}),
    ("tiff", "16", {"tile": 16, "bigtiff": "always"}),
    ("tiff", "32f", {"tile": 48}),
    ("png", "8", {}),
    ("png", "16", {}),
    ("webp", "8", {"quality": 100}),
    ("jxl", "8", {}),
    ("jxl", "16", {}),
]


@pytest.mark.parametrize("cover", [False, True], ids=["opaque", "alpha"])
@pytest.mark.parametrize("channels", ["rgb", "grey"])
@pytest.mark.parametrize(("form", "depth", "options"), LOSSLESS)
def test_what_is_written_without_loss_is_read_back_exactly(
    tmp_path, form, depth, options, channels, cover
):
    if form == "jxl":
        pytest.importorskip("OpenImageIO")
    path = tmp_path / f"a.{form}"
    rows = coming(depth)
    if channels == "grey":
        rows = np.repeat(rows[..., :1], 3, axis=2)
    alpha = coming(depth, channels=1, seed=1)[..., 0] if cover else None

    write(path, rows, alpha, form=form, depth=depth, channels=channels, **options)

    colours = stored(rows, depth) if channels == "rgb" else stored(rows, depth)[..., :1]
    if form in ("webp", "jxl"):
        colours = stored(rows, depth)  # which are stored as RGB
    expected = colours if alpha is None else np.dstack([colours, stored(alpha, depth)])
    found = read_back(path, form)
    assert np.array_equal(found.reshape(expected.shape), expected)
    assert found.dtype == expected.dtype
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("form", ["tiff", "png"])
@pytest.mark.parametrize("depth", ["8", "16"])
def test_three_libraries_agree(tmp_path, form, depth):
    """tifffile or libpng, OpenCV, and Pillow where it has the depth, else ffmpeg."""
    path = tmp_path / f"a.{form}"
    rows = coming(depth)
    write(path, rows, form=form, depth=depth)

    expected = stored(rows, depth)
    assert np.array_equal(read_back(path, form), expected)
    data = np.frombuffer(path.read_bytes(), np.uint8)
    assert np.array_equal(cv2.imdecode(data, cv2.IMREAD_UNCHANGED)[..., ::-1], expected)
    if depth == "8":
        with Image.open(path) as opened:
            assert np.array_equal(np.asarray(opened), expected)
    elif shutil.which("ffmpeg"):
        command = ["ffmpeg", "-v", "error", "-i", str(path), "-f", "rawvideo"]
        raw = subprocess.run(
            [*command, "-pix_fmt", "rgb48le", "-"], check=True, capture_output=True
        ).stdout
        assert np.array_equal(np.frombuffer(raw, "<u2").reshape(expected.shape), expected)


def test_alpha_in_tiff_is_unassociated(tmp_path):
    path = tmp_path / "a.tif"
    write(path, coming("16"), coming("16", channels=1)[..., 0])
    with tifffile.TiffFile(path) as opened:
        page = opened.pages[0]
        assert page.tags[338].value == (2,)  # TIFF 6.0: unassociated alpha data
        assert page.photometric == tifffile.PHOTOMETRIC.RGB


@pytest.mark.parametrize("form", ["jpeg", "webp"])
def test_lossy_pictures_are_close_and_whole(tmp_path, form):
    path = tmp_path / f"a.{form}"
    rows = smooth(120, 90, np.uint16)
    write(path, rows, form=form, bands=(50, 1))
    for found in (
        read_back(path, form),
        cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)[..., ::-1],
        np.asarray(Image.open(path).convert("RGB")),
    ):
        assert np.abs(found.astype(int) - stored(rows, "8")).max() <= 6
        assert np.abs(found.astype(int) - stored(rows, "8")).mean() < 1


def test_jpeg_keeps_colour_at_full_resolution(tmp_path):
    write(tmp_path / "a.jpg", smooth(64, 64, np.uint16), form="jpeg")
    with Image.open(tmp_path / "a.jpg") as opened:
        assert [layer[1:3] for layer in opened.layer] == [(1, 1)] * 3  # sampling factors


def test_jpeg_of_a_grey_picture_has_one_channel(tmp_path):
    grey = np.repeat(smooth(40, 40, np.uint16)[..., :1], 3, axis=2)
    write(tmp_path / "a.jpg", grey, form="jpeg", channels="grey")
    with Image.open(tmp_path / "a.jpg") as opened:
        assert opened.mode == "L"


def _exif() -> bytes:
    exif = Image.Exif()
    exif[271], exif[272] = "Maker", "Model"
    return exif.tobytes()


@pytest.mark.parametrize("form", ["tiff", "png", "jpeg", "webp"])
@pytest.mark.parametrize("marked", [True, False], ids=["with mark", "bare"])
def test_profile_and_blocks_come_out_byte_for_byte(tmp_path, form, marked):
    path = tmp_path / f"a.{form}"
    icc, exif = profiles.profile("p3"), _exif()
    bare = exif.removeprefix(b"Exif\0\0")
    blocks = Blocks(exif if marked else bare, XMP, b"\x1c\x02\x00\x00\x02\x00\x02", b"8BIM")
    meta = Meta(icc, (300.0, 150.0, "inch"))

    writer = write(path, coming("8"), form=form, meta=meta, metadata=blocks, software="hz 1")

    with Image.open(path) as opened:
        assert opened.info["icc_profile"] == icc
        if "exif" in writer.embeds:
            assert opened.info["exif"].removeprefix(b"Exif\0\0") == bare
            assert opened.getexif()[272] == "Model"
        if form != "webp":  # which has no place for it but EXIF
            assert opened.info["dpi"] == pytest.approx((300, 150), abs=0.02)  # PNG: per metre
        xmp = opened.info.get("xmp") or opened.info.get("XML:com.adobe.xmp")
        assert (xmp.encode() if isinstance(xmp, str) else xmp) == XMP
    if form == "tiff":
        with tifffile.TiffFile(path) as opened:
            tags = opened.pages[0].tags
            assert bytes(tags[33723].value) == blocks.iptc
            assert bytes(tags[34377].value) == blocks.photoshop


def test_a_16_bit_png_has_the_chunks_before_its_pixels(tmp_path):
    """libpng's order (PNG, section 5.6), and checksums that exiftool and OpenCV accept."""
    path = tmp_path / "a.png"
    icc = profiles.profile("adobergb")
    rows = coming("16")
    blocks = Blocks(_exif(), XMP)
    meta = Meta(icc, (120.0, 60.0, "centimetre"))
    write(path, rows, form="png", meta=meta, metadata=blocks, software="hz é")

    data = path.read_bytes()
    order = [data.find(kind) for kind in (b"IHDR", b"iCCP", b"pHYs", b"IDAT", b"IEND")]
    assert order == sorted(order) and -1 not in order
    assert data.count(b"IHDR") == data.count(b"IEND") == 1
    assert np.array_equal(imagecodecs.png_decode(data), rows)
    with Image.open(io.BytesIO(data)) as opened:  # the head alone: no pixel is decoded
        assert opened.info["icc_profile"] == icc
        assert opened.info["dpi"] == pytest.approx((304.8, 152.4), abs=0.01)
        assert opened.info["exif"].removeprefix(b"Exif\0\0") == _exif().removeprefix(b"Exif\0\0")
    if shutil.which("exiftool"):
        command = ["exiftool", "-validate", "-warning", "-a", "-s3", str(path)]
        said = subprocess.run(command, capture_output=True, text=True).stdout
        assert "CRC" not in said and "Error" not in said


def test_blocks_too_long_for_jpeg_are_left_out_and_told(tmp_path):
    blocks = Blocks(_exif(), b"x" * 70_000)
    writer = write(tmp_path / "a.jpg", coming("8"), form="jpeg", metadata=blocks)
    assert len(writer.notes) == 1
    with Image.open(tmp_path / "a.jpg") as opened:
        assert "xmp" not in opened.info and opened.getexif()[271] == "Maker"


@pytest.mark.parametrize("form", ["tiff", "png", "jpeg"])
def test_grey_with_a_grey_profile_stays_grey(tmp_path, form):
    grey = np.repeat(coming("16", channels=1), 3, axis=2)
    icc = profiles.profile("grey-gamma-2.2")
    write(tmp_path / "a", grey, form=form, channels="grey", meta=Meta(icc))
    with Image.open(tmp_path / "a") as opened:
        assert opened.info["icc_profile"] == icc
        assert len(opened.getbands()) == 1


def test_grey_with_a_profile_of_rgb_becomes_rgb(tmp_path):
    grey = np.repeat(coming("16", channels=1), 3, axis=2)
    icc = profiles.profile("p3")
    write(tmp_path / "a.tif", grey, channels="grey", meta=Meta(icc))
    with tifffile.TiffFile(tmp_path / "a.tif") as opened:
        assert opened.pages[0].iccprofile == icc
        assert np.array_equal(opened.asarray(), grey)


def test_a_profile_of_other_channels_is_left_out_and_told(tmp_path):
    icc = profiles.profile("grey-gamma-2.2")
    writer = write(tmp_path / "a.tif", coming("16"), meta=Meta(icc))
    assert "profile" in writer.notes[0]
    with tifffile.TiffFile(tmp_path / "a.tif") as opened:
        assert opened.pages[0].iccprofile is None


def test_colours_known_without_a_profile_get_one(tmp_path):
    """A file that says Adobe RGB in EXIF alone; one that says sRGB, or nothing, gets none."""
    icc = profiles.profile("adobergb")
    for colour, expected in (("adobergb", icc), ("srgb", None), (None, None)):
        path = tmp_path / f"{colour}.tif"
        write(path, coming("16"), meta=Meta(colour=colour), presumed=icc)
        with tifffile.TiffFile(path) as opened:
            assert opened.pages[0].iccprofile == expected


# OpenEXR and JPEG XL


def _srgb_to_linear(v: np.ndarray) -> np.ndarray:
    """IEC 61966-2-1, odd below zero."""
    size = np.abs(v)
    curve = np.where(size <= 0.04045, size / 12.92, ((size + 0.055) / 1.055) ** 2.4)
    return np.sign(v) * curve


@pytest.mark.parametrize("depth", ["16", "32f"])
@pytest.mark.parametrize("channels", ["rgb", "grey"])
def test_exr_holds_linear_rec_709(tmp_path, depth, channels):
    pytest.importorskip("OpenImageIO")
    path = tmp_path / "a.exr"
    rows = np.random.default_rng(0).uniform(0, 1, (60, 37, 3)).astype(np.float32)
    if channels == "grey":
        rows = np.repeat(rows[..., :1], 3, axis=2)
    write(path, rows, form="exr", depth=depth, channels=channels, presumed=profiles.profile("srgb"))

    expected = _srgb_to_linear(rows.astype(np.float64))
    relative = 2**-11 if depth == "16" else 0
    found = read_back(path, "exr")
    assert found.shape[-1] == 3  # sRGB is a profile of RGB, so a grey picture is stored as RGB
    assert np.all(np.abs(found - expected) <= relative * expected + 3e-5)
    oiio = pytest.importorskip("OpenImageIO")
    spec = oiio.ImageInput.open(str(path)).spec()
    assert str(spec.format) == ("half" if depth == "16" else "float")


def test_exr_of_linear_rows_keeps_them(tmp_path):
    pytest.importorskip("OpenImageIO")
    rows = coming("32f") * 50
    write(tmp_path / "a.exr", rows, form="exr", depth="32f", presumed=profiles.profile("linear"))
    assert np.array_equal(read_back(tmp_path / "a.exr", "exr"), rows)


def test_exr_multiplies_by_alpha(tmp_path):
    pytest.importorskip("OpenImageIO")
    rows = np.full((8, 8, 3), 0.5, np.float32)
    alpha = np.full((8, 8), 0.25, np.float32)
    write(tmp_path / "a.exr", rows, alpha, form="exr", depth="32f", bands=(3,))
    assert read_back(tmp_path / "a.exr", "exr")[0, 0].tolist() == [0.125, 0.125, 0.125, 0.25]


def test_exr_is_read_by_its_own_library(tmp_path):
    pytest.importorskip("OpenImageIO")
    exr = pytest.importorskip("OpenEXR")
    rows = coming("32f")
    write(tmp_path / "a.exr", rows, form="exr", depth="32f", software="hz 1")
    part = exr.File(str(tmp_path / "a.exr")).parts[0]
    assert np.array_equal(part.channels["RGB"].pixels, rows)
    assert part.header["chromaticities"] == pytest.approx(
        (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, 0.3127, 0.3290)
    )


def test_half_floats_end_at_their_largest(tmp_path):
    pytest.importorskip("OpenImageIO")
    rows = np.full((2, 2, 3), 1e6, np.float32)
    write(tmp_path / "a.exr", rows, form="exr", bands=())
    assert np.all(read_back(tmp_path / "a.exr", "exr") == 65504)


def test_jxl_keeps_the_profile(tmp_path):
    oiio = pytest.importorskip("OpenImageIO")
    icc = profiles.profile("prophoto")
    write(tmp_path / "a.jxl", coming("16"), form="jxl", meta=Meta(icc))
    spec = oiio.ImageInput.open(str(tmp_path / "a.jxl")).spec()
    assert np.array(spec.getattribute("ICCProfile"), np.uint8).tobytes() == icc


@pytest.mark.parametrize("form", ["webp", "jxl"])
def test_grey_with_a_grey_profile_becomes_srgb_where_there_is_no_grey(tmp_path, form):
    if form == "jxl":
        pytest.importorskip("OpenImageIO")
    grey = np.repeat(np.linspace(0, 65535, 256).astype(np.uint16)[None, :, None], 3, axis=2)
    icc = profiles.profile("grey-gamma-2.2")
    kind = {"depth": "8", "bands": (), "channels": "grey", "meta": Meta(icc), "quality": 100}
    writer = write(tmp_path / "a", grey, form=form, **kind)

    # Gamma 2.2 to linear light, and by IEC 61966-2-1 to sRGB.
    light = (grey[0, :, 0] / 65535) ** 2.2
    curve = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    found = read_back(tmp_path / "a", form)
    assert np.abs(found[0, :, 1] - curve * 255).max() < 1.5
    assert "sRGB" in writer.notes[0]


@pytest.mark.parametrize("form", ["exr", "jxl"])
def test_a_missing_library_is_told(tmp_path, monkeypatch, form):
    monkeypatch.setitem(sys.modules, "OpenImageIO", None)
    with pytest.raises(PictureError, match="OpenImageIO") as caught:
        write(tmp_path / "a", coming("32f" if form == "exr" else "16"), form=form)
    assert "pip install" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


# Whole or not at all

EVERY = ["tiff", "png", "jpeg", "webp", "exr", "jxl"]


def _open(path, form, size=None, **rest):
    size = size or Size(100, 30)
    if form in ("exr", "jxl"):
        pytest.importorskip("OpenImageIO")
    return open_writer(path, size, resolved(form), meta=NOTHING, **rest)


def _rows(form, count):
    return coming("32f" if form == "exr" else "16", count, 30)


@pytest.mark.parametrize("form", EVERY)
@pytest.mark.parametrize("rows", [0, 40, 100])
@pytest.mark.parametrize("trouble", [RuntimeError, KeyboardInterrupt])
def test_trouble_leaves_nothing(tmp_path, form, rows, trouble):
    path = tmp_path / "out" / f"a.{form}"
    with pytest.raises(trouble), _open(path, form) as writer:
        writer.write(_rows(form, rows))
        raise trouble
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("form", EVERY)
def test_an_unfinished_picture_gets_no_name(tmp_path, form):
    writer = _open(tmp_path / "a", form)
    writer.write(_rows(form, 99))
    with pytest.raises(ValueError, match="99 of 100"):
        writer.close()
    assert list(tmp_path.iterdir()) == []
    writer.abort()
    writer.close()


@pytest.mark.parametrize("form", EVERY)
def test_finish_sees_the_complete_file_before_it_has_its_name(tmp_path, form):
    path = tmp_path / "a"
    seen = []

    def finish(temporary: Path) -> None:
        assert not path.exists()
        seen.append(temporary.read_bytes())

    with _open(path, form, finish=finish) as writer:
        writer.write(_rows(form, 100))
    assert seen == [path.read_bytes()]
    read_back(path, form)


@pytest.mark.parametrize("form", EVERY)
def test_a_failing_finish_leaves_nothing(tmp_path, form):
    def finish(temporary: Path) -> None:
        raise PictureError("no")

    with pytest.raises(PictureError), _open(tmp_path / "a", form, finish=finish) as writer:
        writer.write(_rows(form, 100))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("form", EVERY)
def test_an_existing_file_is_kept_unless_told(tmp_path, form):
    path = tmp_path / "a"
    path.write_text("mine")
    with pytest.raises(PictureError, match="exists already"):
        _open(path, form)
    assert path.read_text() == "mine"
    with _open(path, form, overwrite=True) as writer:
        writer.write(_rows(form, 100))
    read_back(path, form)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("form", EVERY)
def test_the_same_rows_give_the_same_bytes(tmp_path, form):
    for name in "ab":
        with _open(tmp_path / name, form, software="hz 1") as writer:
            writer.write(_rows(form, 100))
        time.sleep(1.1 if form == "exr" and name == "a" else 0)  # what states its second shows it
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("form", EVERY)
def test_wrong_rows_are_a_programming_error(tmp_path, form):
    with _open(tmp_path / "a", form, size=Size(2, 3)) as writer:
        right = np.zeros((2, 3, 3), np.float32 if form == "exr" else np.uint16)
        for rows, alpha in (
            (right.astype(np.float64), None),
            (right[:, :2], None),
            (np.concatenate([right, right]), None),
            (right, right[..., 0]),
        ):
            with pytest.raises(ValueError):
                writer.write(rows, alpha)
        writer.write(right)


STOPPED = """
import signal, sys
from pathlib import Path
import numpy as np
from hzcli.core.window import Size
from hzcli.io.meta import Header, Meta
from hzcli.io.writers import OutputOptions, open_writer, resolve

def stop(*_):
    raise KeyboardInterrupt
signal.signal(signal.SIGTERM, stop)
path, form = Path(sys.argv[1]), sys.argv[2]
head = Header(path, Size(2000, 500), 16, "rgb", 1, "tiff")
with open_writer(path, Size(2000, 500), resolve(OutputOptions(form), head), meta=Meta()) as writer:
    writer.write(np.zeros((1000, 500, 3), np.float32 if form == "exr" else np.uint16))
    print("half", flush=True)
    signal.pause()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("form", ["tiff", "png", "exr"])
def test_a_stopped_process_leaves_nothing(tmp_path, form):
    if form == "exr":
        pytest.importorskip("OpenImageIO")
    command = [sys.executable, "-c", STOPPED, str(tmp_path / "a"), form]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout.readline() == "half\n"
        assert len(list(tmp_path.iterdir())) == 1
        process.send_signal(signal.SIGTERM)
        process.wait(20)
    assert list(tmp_path.iterdir()) == []


def test_pictures_beyond_the_budget_are_held_on_disk(tmp_path):
    rows = coming("16")
    with HeldWriter(
        tmp_path / "a.png", Size(*rows.shape[:2]), NOTHING, format="png", held_bytes=0
    ) as writer:
        assert isinstance(writer._held, np.memmap)
        writer.write(rows)
    assert np.array_equal(imagecodecs.png_decode((tmp_path / "a.png").read_bytes()), rows)


@pytest.mark.parametrize("trouble", [OSError(28, "No space left on device")])
def test_no_room_to_hold_a_picture_is_told(tmp_path, monkeypatch, trouble):
    def full(*_args, **_options):
        raise trouble

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    with pytest.raises(PictureError, match="No space left"):
        HeldWriter(tmp_path / "a.png", Size(9, 9), NOTHING, format="png", held_bytes=0)
    assert list(tmp_path.iterdir()) == []


def test_no_more_than_eight_bits_reach_pillow(tmp_path, monkeypatch):
    """Every array and every mode that Pillow makes while all containers are written."""
    made = []
    real_array, real_new = Image.fromarray, Image.new
    monkeypatch.setattr(Image, "fromarray", lambda a, *r: made.append(a.dtype) or real_array(a, *r))
    monkeypatch.setattr(Image, "new", lambda m, *r: made.append(m) or real_new(m, *r))
    for form in ("tiff", "png", "jpeg", "webp"):
        write(tmp_path / form, coming("16"), form=form, meta=Meta(profiles.profile("srgb")))
    assert [kind for kind in made if isinstance(kind, np.dtype)] == [np.uint8, np.uint8]
    assert {kind for kind in made if isinstance(kind, str)} <= {"RGB", "L"}  # all of 8 bits


def test_a_profile_survives_littlecms(tmp_path):
    """The embedded bytes are a profile still, which another reader builds a transform from."""
    write(tmp_path / "a.png", coming("16"), form="png", meta=Meta(profiles.profile("rec2020")))
    with Image.open(tmp_path / "a.png") as opened:
        found = ImageCms.ImageCmsProfile(io.BytesIO(opened.info["icc_profile"]))
    assert found.profile.xcolor_space.strip() == "RGB"
