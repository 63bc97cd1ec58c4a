"""Memory does not grow with the height of the picture, in any layout that streams."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import tifffile
from ruled_pictures import stored_as

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads VmHWM from /proc")

WIDTH = 3000
COPY = """
import sys
from pathlib import Path
import numpy as np
from hzcli.core.window import Size, bands
from hzcli.io.picture import open_picture
from hzcli.io.tiff import TiffWriter

def status(name):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(name)) // 1024

base = status("VmRSS")
with open_picture(Path(sys.argv[1]), budget_bytes=8 << 20) as reader:
    with TiffWriter(Path(sys.argv[2]), reader.size, reader.meta) as writer:
        for window in bands(reader.size, 64):
            writer.write(reader.read(window.grow(4))[4 if window.top else 0:][: window.height])
print(status("VmHWM") - base)
"""


def _rows(height: int) -> np.ndarray:
    ramp = np.arange(WIDTH, dtype=np.uint16)[None, :, None]
    return ramp + np.arange(height, dtype=np.uint16)[:, None, None] * np.array([1, 2, 3], np.uint16)


def _added(tmp_path, height: int, **options) -> int:
    source, target = tmp_path / f"{height}.tif", tmp_path / f"{height}-out.tif"
    picture = _rows(height)
    orientation = options["extratags"][0][3] if "extratags" in options else 1
    stored = np.ascontiguousarray(stored_as(picture, orientation))
    tifffile.imwrite(source, stored, photometric="rgb", **options)
    del stored
    command = [sys.executable, "-c", COPY, str(source), str(target)]
    added = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert np.array_equal(tifffile.imread(target), picture)
    source.unlink()
    target.unlink()
    return added


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "adobe_deflate", "predictor": 2, "rowsperstrip": 32},
        {"compression": "lzw", "tile": (256, 256)},
        {"extratags": [(274, 3, 1, 6, True)], "rowsperstrip": 32},
    ],
    ids=["one strip", "deflate strips", "lzw tiles", "turned by a quarter"],
)
def test_memory_is_flat_with_height(tmp_path, options):
    low, high = _added(tmp_path, 1000, **options), _added(tmp_path, 4000, **options)
    assert high < low + 24, f"{low} MB at 1000 rows, {high} MB at 4000"
    assert high < 140
