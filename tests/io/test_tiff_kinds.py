"""TIFF out in all its kinds: layout, tags that are carried, size, and memory."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tifffile
from ruled_pictures import rough

from hzcli.core.window import Size
from hzcli.errors import PictureError
from hzcli.io import tiff
from hzcli.io.meta import Meta
from hzcli.io.tiff import TiffWriter

NOTHING = Meta()


@dataclass(frozen=True)
class Tags:
    extratags: tuple
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    photoshop: bytes | None = None


def _write(path: Path, rows: np.ndarray, meta: Meta = NOTHING, **options) -> None:
    with TiffWriter(path, Size(*rows.shape[:2]), meta, **options) as writer:
        writer.write(rows)


@pytest.mark.parametrize(
    ("options", "compression", "predictor"),
    [
        ({}, 8, 2),
        ({"compression": "lzw"}, 5, 2),
        ({"compression": "zstd"}, 50000, 2),
        ({"compression": "none"}, 1, None),
        ({"depth": 32}, 8, 3),
        ({"depth": 32, "compression": "none"}, 1, None),
    ],
)
def test_compression_has_its_predictor(tmp_path, options, compression, predictor):
    rows = np.zeros((70, 33, 3), np.float32 if options.get("depth") == 32 else np.uint16)
    _write(tmp_path / "a.tif", rows, **options)
    with tifffile.TiffFile(tmp_path / "a.tif") as opened:
        tags = opened.pages[0].tags
        assert tags[259].value == compression
        assert (tags[317].value if 317 in tags else None) == predictor


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (17, 15), (100, 33), (64, 257)])
@pytest.mark.parametrize("tile", [16, 64])
def test_tiles_cover_any_size(tmp_path, size, tile):
    rows = rough(*size, 3, np.uint16)
    _write(tmp_path / "a.tif", rows, tile=tile)
    with tifffile.TiffFile(tmp_path / "a.tif") as opened:
        page = opened.pages[0]
        assert (page.tilelength, page.tilewidth) == (tile, tile)
        assert np.array_equal(opened.asarray().reshape(rows.shape), rows)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is another reader")
@pytest.mark.parametrize("options", [{}, {"compression": "lzw"}, {"compression": "none"}])
def test_ffmpeg_reads_what_was_written(tmp_path, options):
    path, rows = tmp_path / "a.tif", rough(70, 33, 3, np.uint16)
    _write(path, rows, **options)
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb48le"]
    raw = subprocess.run([*command, "-"], check=True, capture_output=True).stdout
    assert np.array_equal(np.frombuffer(raw, "<u2").reshape(rows.shape), rows)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "lzw", "tile": 32},
        {"depth": 8},
        {"depth": 32},
        {"bigtiff": "always"},
        {"alpha": True},
        {"channels": "grey"},
    ],
    ids=str,
)
def test_openimageio_reads_what_was_written(tmp_path, options):
    oiio = pytest.importorskip("OpenImageIO")
    path, rows = tmp_path / "a.tif", rough(70, 33, 3, np.uint16)
    if options.get("depth") == 32:
        rows = rows.astype(np.float32) / 9999 - 1
    alpha = rows[..., 1].copy() if options.get("alpha") else None
    with TiffWriter(path, Size(70, 33), NOTHING, **options) as writer:
        writer.write(rows, alpha)
    config = oiio.ImageSpec()
    config.attribute("oiio:UnassociatedAlpha", 1)  # as it is, not multiplied
    opened = oiio.ImageInput.open(str(path), config)
    found = opened.read_image(opened.spec().format)
    expected = rows[..., :1] if options.get("channels") == "grey" else rows
    if options.get("depth") == 8:
        expected = np.floor(rows / 257 + 0.5)
    if alpha is not None:
        expected = np.dstack([expected, alpha])
    assert np.array_equal(found, expected)


def test_an_8_bit_file_has_the_nearest_codes(tmp_path):
    """Every code of 16 bits; a source of 8 bits, times 257, comes back as it was."""
    codes = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    _write(tmp_path / "a.tif", np.dstack([codes] * 3), depth=8)
    found = tifffile.imread(tmp_path / "a.tif")[..., 0]
    assert np.abs(found * 257.0 - codes).max() <= 128
    assert np.array_equal(found.reshape(-1)[::257], np.arange(256))


def test_bigtiff_is_taken_or_left_when_told(tmp_path):
    rows = rough(5, 5, 3, np.uint16)
    for told, expected in (("always", True), ("never", False), ("auto", False)):
        path = tmp_path / f"{told}.tif"
        _write(path, rows, bigtiff=told)
        with tifffile.TiffFile(path) as opened:
            assert opened.is_bigtiff is expected
            assert np.array_equal(opened.asarray(), rows)


def test_a_classic_file_that_grows_too_large_is_told_and_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(tiff, "_CLASSIC_END", 20_000)
    with pytest.raises(PictureError, match="4 GB") as caught:
        _write(tmp_path / "a.tif", rough(300, 50, 3, np.uint16), bigtiff="never")
    assert "--bigtiff" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_lzw_which_makes_noise_larger_is_given_a_bigtiff_in_time(tmp_path, monkeypatch):
    """No more than fits without compression, but a third more with it."""
    noise = rough(300, 50, 3, np.uint16)
    monkeypatch.setattr(tiff, "_CLASSIC_BYTES", noise.nbytes)
    monkeypatch.setattr(tiff, "_CLASSIC_END", noise.nbytes * 11 // 10)
    path = tmp_path / "a.tif"
    _write(path, noise, compression="lzw")
    with tifffile.TiffFile(path) as opened:
        assert opened.is_bigtiff
        assert np.array_equal(opened.asarray(), noise)


def test_tags_are_carried_but_not_those_that_say_how_pixels_lie(tmp_path):
    path = tmp_path / "a.tif"
    tags = Tags(
        (
            (271, 2, 0, "Maker", True),
            (315, 2, 0, "Artist", True),
            (305, 2, 0, "Camera 1.0", True),
            (270, 2, 0, "a caption", True),
            (256, 3, 1, 9999, True),
            (274, 3, 1, 6, True),
            (34665, 4, 1, 12345, True),
            (700, 1, 2, b"no", True),
        ),
        xmp=b"yes",
    )
    rows = rough(5, 7, 3, np.uint16)
    _write(path, rows, carried=tags, software="hz 1")
    with tifffile.TiffFile(path) as opened:
        found = opened.pages[0].tags
        assert (found[271].value, found[315].value) == ("Maker", "Artist")
        assert (found[305].value, found[270].value) == ("hz 1", "a caption")
        assert (found[256].value, found[274].value) == (7, 1)
        assert 34665 not in found
        assert bytes(found[700].value) == b"yes"
        assert np.array_equal(opened.asarray(), rows)


@pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed")
def test_exiftool_finds_nothing_wrong_and_may_write_before_the_rename(tmp_path):
    path, rows = tmp_path / "a.tif", rough(70, 33, 3, np.uint16)

    def finish(temporary: Path) -> None:
        command = ["exiftool", "-q", "-overwrite_original", "-Artist=me", str(temporary)]
        subprocess.run(command, check=True)

    # Deflate, Adobe's as well, is no compression to exiftool's strict list.
    _write(path, rows, software="hz", finish=finish, compression="lzw")
    said = subprocess.run(
        ["exiftool", "-validate", "-Artist", "-s3", str(path)], capture_output=True, text=True
    )
    assert said.stdout.split("\n")[:2] == ["OK", "me"]
    assert np.array_equal(tifffile.imread(path), rows)
    assert list(tmp_path.iterdir()) == [path]


LARGE = """
import sys
from pathlib import Path
import numpy as np
from hzcli.core.window import Size
from hzcli.io.meta import Meta
from hzcli.io.tiff import TiffWriter

def status(name):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(name)) // 1024

size, options = Size(int(sys.argv[2]), 20000), eval(sys.argv[3])
rows = np.zeros((100, size.width, 3), np.uint16)
rows += np.arange(size.width, dtype=np.uint16)[None, :, None]
base = status("VmRSS")
with TiffWriter(Path(sys.argv[1]), size, Meta(), **options) as writer:
    for _ in range(0, size.height, 100):
        writer.write(rows)
print(status("VmHWM") - base)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads VmHWM from /proc")
@pytest.mark.parametrize(
    ("options", "low", "high"),
    [({"compression": "zstd"}, 500, 10_000), ({"tile": 256}, 400, 1_200)],
    ids=["200 megapixels", "tiles"],
)
def test_memory_does_not_grow_with_the_height(tmp_path, options, low, high):
    """Up to 1.2 GB of pixels, 20000 wide: strips wait for the writer, never for the end."""
    added = []
    for height in (low, high):
        command = [sys.executable, "-c", LARGE, str(tmp_path / "a.tif"), str(height), str(options)]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        added.append(int(said))
        (tmp_path / "a.tif").unlink()
    assert added[1] < added[0] + 60
    assert added[1] < 400
