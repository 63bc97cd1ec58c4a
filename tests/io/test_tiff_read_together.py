"""Several threads read one TIFF at once."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tifffile

from hzcli.errors import PictureError
from hzcli.io.formats import segments, tags
from hzcli.io.formats.segments import TiffRows

SHAPE = 230, 190
FORMS = {
    "tiles": {"tile": (32, 48), "compression": "zlib", "predictor": True},
    "strips": {"rowsperstrip": 9, "compression": "lzw"},
    "rows as they are": {"rowsperstrip": 9},
    "planes": {"rowsperstrip": 9, "compression": "zlib", "planarconfig": "separate"},
}


def windows(count: int) -> list[tuple[int, int, int, int]]:
    chance = np.random.default_rng(1)
    ends = [np.sort(chance.integers(0, n + 1, (count, 2)), axis=1) for n in SHAPE]
    found = [(int(t), int(b), int(x), int(y)) for (t, b), (x, y) in zip(*ends, strict=True)]
    return [window for window in found if window[0] < window[1] and window[2] < window[3]]


@pytest.fixture(params=FORMS)
def written(request, tmp_path: Path) -> tuple[Path, np.ndarray]:
    pixels = np.random.default_rng(0).integers(0, 65536, (*SHAPE, 3), np.uint16)
    form = FORMS[request.param]
    stored = pixels.transpose(2, 0, 1) if "planarconfig" in form else pixels
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", **form)
    return tmp_path / "a.tif", pixels


@pytest.mark.parametrize("small", [16 << 20, 0])
def test_each_gets_its_window(written, small, monkeypatch):
    """Whether segments are kept or not, and though threads take turns as often as they can."""
    path, pixels = written
    monkeypatch.setattr(segments, "_SMALL_BYTES", small)
    rows = TiffRows(tags.examine(path))
    often, asked = sys.getswitchinterval(), windows(300)
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(6) as pool:
            for (top, bottom, left, right), found in zip(
                asked, pool.map(lambda window: rows.read(*window), asked), strict=True
            ):
                assert np.array_equal(found, pixels[top:bottom, left:right])
    finally:
        sys.setswitchinterval(often)
        rows.close()


def test_what_two_want_is_decoded_once(tmp_path, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 65536, (*SHAPE, 3), np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", **FORMS["tiles"])
    rows = TiffRows(tags.examine(tmp_path / "a.tif"))
    decode, decoded, begun, go_on = TiffRows._decode, [], threading.Event(), threading.Event()

    def slowly(self, index, encoded):
        decoded.append(index)
        begun.set()
        assert go_on.wait(20)  # until the other has asked
        return decode(self, index, encoded)

    monkeypatch.setattr(TiffRows, "_decode", slowly)
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(rows.read, 0, 20, 0, 20)
        assert begun.wait(20)
        threading.Timer(0.2, go_on.set).start()
        assert np.array_equal(rows.read(0, 30, 0, 40), pixels[:30, :40])
        assert np.array_equal(other.result(), pixels[:20, :20])
    assert decoded == [0]
    rows.close()


def test_damage_is_told_to_each_and_tried_again(tmp_path, monkeypatch):
    """A segment that failed is not remembered as one that is there."""
    pixels = np.zeros((*SHAPE, 3), np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", **FORMS["tiles"])
    rows = TiffRows(tags.examine(tmp_path / "a.tif"))
    decode = TiffRows._decode

    def broken(self, index, encoded):
        raise ValueError("broken")

    monkeypatch.setattr(TiffRows, "_decode", broken)
    for window in ((0, 20, 0, 20), (0, 200, 0, 100)):
        with pytest.raises(PictureError, match="broken"):
            rows.read(*window)
    monkeypatch.setattr(TiffRows, "_decode", decode)
    assert not rows.read(0, 200, 0, 100).any()
    rows.close()
