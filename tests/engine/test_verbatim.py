"""TIFF to TIFF: what the mask leaves alone is copied as it lies, and pixels are the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_pictures import Blur, Flat, Model, Picture, Position, bent_lut, colours, soft_disc

from hzcli.core.transform import Reach
from hzcli.core.window import Size
from hzcli.engine import stream
from hzcli.errors import PictureError
from hzcli.io.formats.segments import TiffRows
from hzcli.io.picture import open_picture
from hzcli.io.writers import OutputOptions, open_writer, resolve, tiff_form
from hzcli.io.writers.tiff_form import Form
from hzcli.io.writers.verbatim import VerbatimWriter

COMPRESSIONS = {"none": 1, "lzw": 5, "adobe_deflate": 8, "deflate": 32946, "packbits": 32773,
                "lzma": 34925, "zstd": 50000}  # fmt: skip


def source(path: Path, picture: np.ndarray, **form) -> None:
    """A TIFF as other programs write it, by tifffile; its strips and tiles encoded by it."""
    if form["compression"] == "none":
        form = {**form, "compression": None, "predictor": None}
    if picture.shape[-1] in (2, 4):
        form["extrasamples"] = ["unassalpha"]
    kind = "rgb" if picture.shape[-1] > 2 else "minisblack"
    shaped = picture[..., 0] if picture.shape[-1] == 1 else picture
    tifffile.imwrite(path, shaped, photometric=kind, planarconfig=None if shaped.ndim == 2
                     else "contig", metadata=None, **form)  # fmt: skip


def harmonise(path: Path, target: Path, mask: np.ndarray, transform, options=None, **more):
    """One run from file to file; returns the writer. `more` goes to the engine."""
    options = options or OutputOptions(depth="keep")
    with open_picture(path) as reader:
        resolved = resolve(options, reader.header)
        with open_writer(
            target, reader.size, resolved, meta=reader.meta, channels=resolved.channels,
            alpha=reader.has_alpha, page=reader.page,
        ) as writer:  # fmt: skip
            stream.harmonise(reader, Picture(mask, "m.png"), Model(transform), writer, **more)
    return writer


def row_by_row(before, mask, rows) -> None:
    """An observer, who is to be shown all rows: nothing is copied then."""


def segments(path: Path) -> tuple[list[bytes], tuple, Size]:
    """Encoded segments, what a reader must know of them, and their size."""
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        data = path.read_bytes()
        places = zip(page.dataoffsets, page.databytecounts, strict=True)
        found = [data[start : start + count] for start, count in places]
        form = (
            int(page.compression), int(page.predictor), page.is_tiled, tiff.byteorder, page.dtype,
            int(page.photometric), page.samplesperpixel, tuple(page.extrasamples),
        )  # fmt: skip
        tile = page.is_tiled
        return found, form, Size(
            page.tilelength if tile else page.rowsperstrip,
            page.tilewidth if tile else page.imagewidth,
        )  # fmt: skip


def untouched(mask: np.ndarray, cell: Size) -> np.ndarray:
    """Which segments, in the order of the file, hold no foreground: looked at one by one."""
    rows, columns = range(0, mask.shape[0], cell.height), range(0, mask.shape[1], cell.width)
    return np.array(
        [not mask[y : y + cell.height, x : x + cell.width].any() for y in rows for x in columns]
    )


@st.composite
def cases(draw):
    """A picture, a mask that touches none but a pixel up to all of it, and a form."""
    height, width = draw(st.integers(1, 150)), draw(st.integers(1, 130))
    kind = draw(st.sampled_from([np.uint8, np.uint16, np.float32]))
    channels = draw(st.sampled_from([1, 2, 3, 4]))
    seed = draw(st.integers(0, 99))
    shades = colours(height, width, 16, seed)
    shades = np.concatenate([shades, colours(height, width, 16, seed + 1)], -1)[..., :channels]
    if kind == np.float32:
        picture = (shades / np.float32(60000)).astype(kind)
    else:
        picture = (shades >> (8 if kind == np.uint8 else 0)).astype(kind)
    centre = draw(st.tuples(st.floats(0, 1), st.floats(0, 1)))
    mask = soft_disc(height, width, draw(st.sampled_from([8, 16])), centre,
                     draw(st.sampled_from([0.5, 5, 20, 200])))  # fmt: skip
    mask.flat[draw(st.integers(0, mask.size - 1))] = 1
    mask.flat[draw(st.integers(0, mask.size - 1))] = 0
    if not mask.any():
        mask = np.concatenate([mask, np.ones_like(mask[:1])])
        picture = np.concatenate([picture, picture[:1]])
    compression = draw(st.sampled_from(sorted(COMPRESSIONS)))
    differences = 3 if kind == np.float32 else 2
    plain = compression in ("none", "packbits")
    form = {
        "compression": compression,
        "predictor": None if plain else draw(st.sampled_from([None, differences])),
        "byteorder": draw(st.sampled_from("<>")),
        "bigtiff": draw(st.booleans()),
    }
    if draw(st.booleans()):
        form["tile"] = draw(st.sampled_from([(16, 16), (32, 16), (16, 48), (64, 64), (256, 256)]))
    else:
        form["rowsperstrip"] = draw(st.sampled_from([1, 2, 7, 16, 64, 1000]))
    return picture, mask, form


TRANSFORMS = st.sampled_from(
    [bent_lut(), Flat(0.3), Position(), Blur(), Position(Reach(halo=3, align=4))]
)


def by_oiio(path: Path) -> np.ndarray:
    """The pixels as they are stored, read by libtiff."""
    oiio = pytest.importorskip("OpenImageIO")
    config = oiio.ImageSpec()
    config["oiio:UnassociatedAlpha"] = 1  # or it multiplies colours by it
    file = oiio.ImageInput.open(str(path), config)
    pixels = file.read_image(file.spec().format)
    assert pixels is not None, file.geterror()
    return pixels


@settings(deadline=None, max_examples=50)
@given(cases(), TRANSFORMS, st.sampled_from([1.0, 0.4, 0.0]))
def test_copied_and_encoded_afresh_hold_the_same(tmp_path_factory, case, transform, strength):
    picture, mask, form = case
    folder = tmp_path_factory.mktemp("case")
    path, copied, afresh = folder / "a.tif", folder / "b.tif", folder / "c.tif"
    source(path, picture, **form)

    writer = harmonise(path, copied, mask, transform, strength=strength)
    harmonise(path, afresh, mask, transform, strength=strength, observe=row_by_row)

    assert isinstance(writer, VerbatimWriter)
    found, wanted = tifffile.imread(copied), tifffile.imread(afresh)
    assert found.dtype == wanted.dtype == picture.dtype
    assert np.array_equal(found, wanted)
    if form["compression"] in (
        "none",
        "lzw",
        "adobe_deflate",
        "packbits",
    ):  # that all libtiffs read
        assert np.array_equal(by_oiio(copied).reshape(found.shape), found)
    inside = (mask > 0).reshape(mask.shape)
    assert np.array_equal(found.reshape(picture.shape)[~inside], picture[~inside])
    before, how, cell = segments(path)
    after, same, cell_after = segments(copied)
    assert how == same and segments(afresh)[1] == how
    assert min(cell.height, len(mask)) == min(cell_after.height, len(mask))
    assert cell.width == cell_after.width
    alone = untouched(mask, cell_after) if strength else np.ones(len(after), bool)
    assert [b for b, one in zip(before, alone, strict=True) if one] == [
        a for a, one in zip(after, alone, strict=True) if one
    ]
    assert not list(folder.glob(".*"))


@settings(deadline=None, max_examples=25)
@given(
    st.tuples(st.integers(1, 5), st.integers(1, 5)),
    st.sampled_from([(64, 64), (64, 32), (96, 64)]),
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=6),
    st.sampled_from([0, 3, 70]),
)
def test_only_tiles_near_the_mask_are_decoded_again(tmp_path_factory, grid, tile, points, halo):
    """And only those that hold some of it are encoded; every one once."""
    size = Size(grid[0] * tile[0] - 5, grid[1] * tile[1] - 3)
    mask = np.zeros((size.height, size.width), np.uint8)
    for y, x in points:
        mask[int(y * (size.height - 1)), int(x * (size.width - 1))] = 255
    folder = tmp_path_factory.mktemp("case")
    path = folder / "a.tif"
    form = {"tile": tile, "compression": "adobe_deflate", "predictor": 2, "byteorder": "<"}
    source(path, colours(size.height, size.width, 16), **form)
    wanted, encoded = [], []
    with pytest.MonkeyPatch.context() as patch:
        read, cut, encode = TiffRows._segments, VerbatimWriter.windows, Form.encode
        patch.setattr(TiffRows, "_segments", lambda s, n, *a: (wanted.extend(n), read(s, n, *a))[1])
        patch.setattr(Form, "encode", lambda self, px: (encoded.append(1), encode(self, px))[1])
        # With which the second pass begins.
        patch.setattr(VerbatimWriter, "windows", lambda *a: (wanted.clear(), cut(*a))[1])
        harmonise(path, folder / "b.tif", mask, Position(Reach(halo=halo)))
    near = set()
    for n in np.flatnonzero(~untouched(mask, Size(*tile))):
        y, x = n // grid[1] * tile[0], n % grid[1] * tile[1]
        rows = range(max(0, y - halo) // tile[0], -(-(y + tile[0] + halo) // tile[0]))
        columns = range(max(0, x - halo) // tile[1], -(-(x + tile[1] + halo) // tile[1]))
        near |= {r * grid[1] + c for r in rows for c in columns}
    assert set(wanted) <= near
    assert len(encoded) == np.count_nonzero(~untouched(mask, Size(*tile)))


ORDINARY = {
    "planar": {"planarconfig": "separate"},
    "jpeg": {"compression": "jpeg"},
    "turned": {"extratags": [(274, 3, 1, 6, True)]},
    "a saved selection": {"extrasamples": ["unspecified"]},
    "associated alpha": {"extrasamples": ["assocalpha"]},
    "one large strip": {"rowsperstrip": 200, "compression": "lzw"},
    "other depth": {"compression": "lzw"},
    "other compression": {"compression": "lzw"},
    "other tiles": {"compression": "lzw", "tile": (32, 32)},
    "white is 0": {"photometric": "miniswhite"},
}

# What of their pixels is expected, other than all as they are.
SEEN = {
    "planar": lambda stored: np.moveaxis(stored, 0, -1),
    "turned": lambda stored: np.rot90(stored, -1),
    "white is 0": lambda stored: ~stored,
    "a saved selection": lambda stored: stored[..., :3],
    "other depth": lambda stored: (stored + np.uint32(128)) // 257,
}


@pytest.mark.parametrize("why", ORDINARY)
def test_what_cannot_be_copied_is_written_as_ever(tmp_path, monkeypatch, why):
    kind, form = np.uint8 if why == "jpeg" else np.uint16, {"photometric": "rgb", **ORDINARY[why]}
    picture = colours(100, 80, 16)
    if "extrasamples" in form:
        picture = np.concatenate([picture, np.full_like(picture[..., :1], 65535)], -1)
    if why == "white is 0":
        picture = picture[..., 0]
    picture = (picture >> 8 if kind == np.uint8 else picture).astype(kind)
    shaped = np.moveaxis(picture, -1, 0) if why == "planar" else picture
    path, target = tmp_path / "a.tif", tmp_path / "b.tif"
    tifffile.imwrite(path, shaped, metadata=None, **form)
    asked = {
        "other depth": OutputOptions(depth="8"),
        "other compression": OutputOptions(compression="zstd"),
        "other tiles": OutputOptions(tile=64, depth="keep"),
    }.get(why, OutputOptions(depth="keep"))
    if why == "one large strip":
        monkeypatch.setattr(tiff_form, "_LARGEST_SEGMENT", 40_000)
    upright = picture.shape[1::-1] if why == "turned" else picture.shape[:2]
    mask = soft_disc(*upright, 8, (0.3, 0.6), 10)

    writer = harmonise(path, target, mask, bent_lut(), asked)

    assert not isinstance(writer, VerbatimWriter)
    read = by_oiio if why == "jpeg" else tifffile.imread
    found, wanted = read(target), read(path)
    if why in SEEN:
        wanted = SEEN[why](wanted)
    assert np.abs(found - wanted.astype(float))[mask == 0].max() < 1e-5
    assert (found != wanted)[mask == 255].any()
    with tifffile.TiffFile(target) as tiff:
        how = tiff.pages[0].compression.name
    assert how == ("ZSTD" if why == "other compression" else "ADOBE_DEFLATE")


@pytest.mark.parametrize("again", [False, True], ids=["cut short", "removed"])
def test_a_source_that_goes_away_leaves_nothing(tmp_path, again):
    path, target = tmp_path / "a.tif", tmp_path / "b.tif"
    source(path, colours(300, 200, 16), compression="zstd", predictor=2, tile=(64, 64))
    with open_picture(path) as reader:
        resolved = resolve(OutputOptions(), reader.header)
        page = reader.page
        if again:
            path.unlink()
        else:
            path.write_bytes(path.read_bytes()[:9000])
        with (
            pytest.raises(PictureError, match="cut short" if not again else "cannot be read"),
            open_writer(target, reader.size, resolved, meta=reader.meta, page=page) as writer,
        ):
            met = np.zeros((5, 4), bool)
            met[4, 3] = True
            for window in writer.windows(met, 1000):
                writer.put(window, np.zeros((window.height, window.width, 3), np.uint16))
    assert [file.name for file in tmp_path.iterdir()] == ([] if again else ["a.tif"])


def test_the_same_file_may_be_replaced(tmp_path):
    path, mask = tmp_path / "a.tif", soft_disc(90, 70, 8, (0.2, 0.2), 9)
    picture = colours(90, 70, 16)
    source(path, picture, compression="lzw", predictor=2, tile=(16, 32))
    with open_picture(path) as reader:
        resolved = resolve(OutputOptions(), reader.header)
        with open_writer(
            path, reader.size, resolved, meta=reader.meta, page=reader.page, overwrite=True
        ) as writer:
            stream.harmonise(reader, Picture(mask, "m.png"), Model(Flat(0.25)), writer)
    found = tifffile.imread(path)
    assert np.array_equal(found[mask == 0], picture[mask == 0])
    assert (found[mask == 255] == round(0.25 * 65535)).all()


MEMORY = """
import sys
from pathlib import Path
import numpy as np
from memory_pictures import Model, bent_lut, high_water
from hzcli.engine import stream
from hzcli.io.picture import open_mask, open_picture
from hzcli.io.writers import OutputOptions, open_writer, resolve

reader, mask = open_picture(Path(sys.argv[1])), open_mask(Path(sys.argv[2]))
resolved = resolve(OutputOptions(), reader.header)
before = high_water()
with open_writer(Path(sys.argv[3]), reader.size, resolved, meta=reader.meta, page=reader.page) as w:
    stream.harmonise(reader, mask, Model(bent_lut()), w)
print(high_water() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads VmHWM from /proc")
def test_memory_does_not_grow_with_the_picture(tmp_path):
    """Eight times the pixels, which are 130 MB; the same strips of 512 KB."""

    def needed(height: int) -> int:
        path, mask = tmp_path / f"{height}.tif", tmp_path / f"{height}_m.tif"
        row = np.arange(4096 * 3, dtype=np.uint16).reshape(1, -1, 3)
        picture = np.broadcast_to(row, (height, 4096, 3))
        tifffile.imwrite(
            path, picture, photometric="rgb", compression="zstd", predictor=2, tile=(256, 256)
        )
        inside = np.zeros((height, 4096), np.uint8)
        inside[height // 4 : height // 2, 1000:3000] = 255
        tifffile.imwrite(mask, inside, compression="zstd", rowsperstrip=64)
        command = [sys.executable, "-c", MEMORY, path, mask, tmp_path / f"{height}_out.tif"]
        here = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        said = subprocess.run(command, check=True, capture_output=True, text=True, env=here)
        return int(said.stdout)

    low, high = needed(768), needed(6144)
    assert high < low + 60, f"{low} MB at 768 rows, {high} MB at 6144"
