"""More than 8 bits never pass Pillow: neither while reading, nor by what the code says."""

from __future__ import annotations

import ast
import io
import sys
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image
from ruled_psd import psd

from hzcli.core.window import Window
from hzcli.io.picture import open_mask, open_picture

IO = Path(__file__).resolve().parents[2] / "hzcli" / "io"
# A ramp of every code there is: 8 bits on the way would leave 256 of them.
CODES = np.arange(65536, dtype=np.uint16).reshape(256, 256)
RAMP = np.stack([CODES, CODES[::-1], CODES.T], axis=-1)


def _png(path):
    path.write_bytes(imagecodecs.png_encode(RAMP, level=1))


def _tiff(path):
    tifffile.imwrite(path, RAMP, photometric="rgb", compression="adobe_deflate", predictor=2)


def _float_tiff(path):
    tifffile.imwrite(path, (RAMP / 65535).astype(np.float32), photometric="rgb")


def _psd(path):
    path.write_bytes(psd(RAMP))


def _jxl(path):
    path.write_bytes(imagecodecs.jpegxl_encode(RAMP, lossless=True, effort=1))


def _avif(path):
    path.write_bytes(imagecodecs.avif_encode(RAMP >> 4, level=100, speed=10, bitspersample=12))


def _heic(path):
    pillow_heif = pytest.importorskip("pillow_heif")
    picture = pillow_heif.from_bytes("RGB;16", (256, 256), RAMP.tobytes())
    file = io.BytesIO()
    picture.save(file, quality=-1, chroma=444, matrix_coefficients=0)
    path.write_bytes(file.getvalue())


def _exr(path):
    oiio = pytest.importorskip("OpenImageIO")
    named = path.with_suffix(".exr")
    file = oiio.ImageOutput.create(str(named))
    assert file.open(str(named), oiio.ImageSpec(256, 256, 3, "float"))
    assert file.write_image((RAMP / 65535).astype(np.float32))
    file.close()
    named.replace(path)


@pytest.fixture
def pillow(monkeypatch):
    """What Pillow was asked to make a picture of."""
    asked: list[str] = []

    def record(name):
        original = getattr(Image, name)

        def call(*args, **options):
            asked.append(name)
            return original(*args, **options)

        monkeypatch.setattr(Image, name, call)

    for name in ("open", "fromarray", "frombuffer", "frombytes", "new"):
        record(name)
    return asked


@pytest.mark.parametrize(
    ("write", "levels"),
    [
        (_png, 65536),
        (_tiff, 65536),
        (_float_tiff, 65536),
        (_psd, 65536),
        (_jxl, 65536),
        (_exr, 65536),
        (_avif, 4096),
        (_heic, 1024),
    ],
    ids=["png", "tiff", "float tiff", "psd", "jxl", "exr", "avif", "heic"],
)
def test_deep_files_are_read_without_pillow(tmp_path, write, levels, request):
    """Every level arrives, and Pillow is not called."""
    path = tmp_path / "a.bin"
    write(path)
    asked = request.getfixturevalue("pillow")
    with open_picture(path) as reader:
        read = reader.read(Window.whole(reader.size))
    assert asked == []
    assert reader.depth > 8
    assert len(np.unique(read[..., 0])) == levels


def test_deep_masks_are_read_without_pillow(tmp_path, pillow):
    path = tmp_path / "m.png"
    path.write_bytes(imagecodecs.png_encode(CODES))
    with open_mask(path) as reader:
        assert np.array_equal(reader.read(Window.whole(reader.size)), CODES)
    assert pillow == []


READERS = ["picture", "found", "held", "raster", "segments", "tags", "psd", "heif", "jxl", "exr"]


@pytest.mark.parametrize("name", READERS)
def test_readers_do_not_know_pillow(name):
    """Of all that reads pixels only meta.py imports it, for blocks of EXIF."""
    (path,) = (p for p in IO.rglob(f"{name}.py") if p.parent.name in ("io", "formats"))
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = {
        alias.name if isinstance(node, ast.Import) else node.module
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
    }
    assert not {one for one in imported if one and one.split(".")[0] in ("PIL", "cv2", "imageio")}


def test_reading_needs_no_optional_package(tmp_path, monkeypatch):
    """JPEG XL, AVIF and PSD come with what is always there."""
    for module in ("pillow_heif", "psd_tools", "OpenImageIO", "cv2"):
        monkeypatch.setitem(sys.modules, module, None)
    for write in (_jxl, _avif, _psd):
        write(tmp_path / "a.bin")
        with open_picture(tmp_path / "a.bin") as reader:
            assert reader.read(Window.whole(reader.size)).shape == (256, 256, 3)
