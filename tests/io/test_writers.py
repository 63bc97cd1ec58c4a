"""Pictures out, in every container: what other libraries read back."""

from __future__ import annotations

import io
import shutil
import subprocess

import cv2
import imagecodecs
import numpy as np
import pytest
import tifffile
from made_results import XMP, Blocks, coming, read_back, stored, write
from PIL import Image, ImageCms
from ruled_pictures import smooth

from hzcli.io import profiles
from hzcli.io.meta import Meta

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
