"""Photoshop documents in: files by rule, psd-tools and OpenImageIO as other readers."""

from __future__ import annotations

import struct
import tracemalloc

import imagecodecs
import numpy as np
import pytest
from reading import check_damaged, read_whole, refused_when_cut
from ruled_pictures import rough
from ruled_psd import psd, resource

from hzcli.core.window import Size, Window, bands
from hzcli.errors import MaskError, PictureError
from hzcli.io.formats.psd import psd_layer_mask
from hzcli.io.picture import open_mask, open_picture, peek

HEIGHT, WIDTH = 150, 83
CODINGS = ["raw", "packbits", "zip", "zip with prediction"]


def _stored(channels, dtype):
    if dtype is np.float32:
        return (rough(HEIGHT, WIDTH, channels, np.uint16) / 30000).astype(np.float32)
    return rough(HEIGHT, WIDTH, channels, dtype)


@pytest.mark.parametrize("big", [False, True], ids=["psd", "psb"])
@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_every_depth_and_coding(tmp_path, big, coding, dtype):
    path = tmp_path / "a.bin"
    stored = _stored(3, dtype)
    path.write_bytes(psd(stored, coding=coding, big=big))

    header = peek(path)
    read = read_whole(path)

    assert (header.format, header.size) == ("psd", Size(HEIGHT, WIDTH))
    assert header.depth == np.dtype(dtype).itemsize * 8
    assert read.dtype == dtype
    assert np.array_equal(read, stored)


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_what_psd_tools_reads(tmp_path, coding, dtype):
    """The flattened picture as another library sees it, to a float's last bits."""
    psd_tools = pytest.importorskip("psd_tools")
    path = tmp_path / "a.psd"
    path.write_bytes(psd(_stored(3, dtype), coding=coding))
    full = 1 if dtype is np.float32 else np.iinfo(dtype).max

    other = psd_tools.PSDImage.open(path).numpy()

    assert np.allclose(read_whole(path) / full, other, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_what_openimageio_reads(tmp_path, dtype):
    oiio = pytest.importorskip("OpenImageIO")
    path = tmp_path / "a.psd"
    path.write_bytes(psd(_stored(3, dtype)))

    other = oiio.ImageInput.open(str(path)).read_image(np.dtype(dtype).name)

    assert np.array_equal(read_whole(path), other)


@pytest.mark.parametrize("coding", ["packbits", "zip"])
def test_grey_palette_and_one_bit_are_expanded(tmp_path, coding):
    path = tmp_path / "a.psd"
    grey = _stored(1, np.uint16)
    path.write_bytes(psd(grey, "grey", coding=coding))
    assert peek(path).channels == "grey"
    assert np.array_equal(read_whole(path), grey.repeat(3, axis=2))

    colours = rough(256, 1, 3, np.uint8)[:, 0]
    codes = _stored(1, np.uint8)
    path.write_bytes(psd(codes, "palette", coding=coding, palette=colours.T.tobytes()))
    assert peek(path).channels == "palette"
    assert np.array_equal(read_whole(path), colours[codes[..., 0]])

    black = _stored(1, np.uint8) > 100
    path.write_bytes(psd(black, "bilevel", coding=coding))
    assert peek(path).channels == "bilevel"
    assert np.array_equal(read_whole(path), np.where(black, 0, 255).repeat(3, axis=2))


def test_cmyk_is_converted_and_said(tmp_path):
    """Photoshop stores how much paper is left: full scale everywhere is white."""
    path = tmp_path / "a.psd"
    path.write_bytes(psd(np.full((20, 30, 4), 65535, np.uint16), "cmyk"))
    assert any("CMYK" in note for note in peek(path).notes)
    assert (read_whole(path) == 65535).all()
    path.write_bytes(psd(np.zeros((20, 30, 4), np.uint8), "cmyk", coding="zip"))
    assert (read_whole(path) < 60).all()


@pytest.mark.parametrize("sign", ["count of layers", "block"])
def test_transparency_is_taken_out_of_the_colours(tmp_path, sign):
    """Photoshop blends the flattened colours with white; where alpha is 0 they stay."""
    path = tmp_path / "a.psd"
    colours = rough(HEIGHT, WIDTH, 3, np.uint16)
    alpha = rough(HEIGHT, WIDTH, 1, np.uint16, seed=1) | 0x8000
    alpha[:10], alpha[10:20] = 65535, 0
    share = alpha / 65535
    blended = np.rint(colours * share + 65535 * (1 - share)).astype(np.uint16)
    how = {"layers": -1} if sign == "count of layers" else {"transparency_block": True}
    path.write_bytes(psd(np.concatenate([blended, alpha], 2), **how))

    assert (peek(path).channels, peek(path).alpha) == ("rgba", True)
    read = read_whole(path)
    with open_picture(path) as reader:
        assert reader.has_alpha
        assert np.array_equal(reader.read_alpha(Window.whole(reader.size)), alpha[..., 0])
    assert np.array_equal(read[:20], blended[:20])
    # Half a code of the blended colour is at most one code of the colour at alpha 1/2.
    assert np.abs(read[20:].astype(int) - colours[20:]).max() <= 1


def test_a_saved_selection_is_a_mask_but_no_transparency(tmp_path):
    path = tmp_path / "a.psd"
    stored = _stored(4, np.uint16)
    path.write_bytes(psd(stored))

    header = peek(path)
    assert not header.alpha
    assert any("further channels" in note for note in header.notes)
    assert np.array_equal(read_whole(path), stored[..., :3])
    with open_mask(path, source="alpha") as reader:
        assert np.array_equal(reader.read(Window.whole(reader.size)), stored[..., 3])


def test_profile_and_resolution(tmp_path):
    path = tmp_path / "a.psd"
    profile = imagecodecs.cms_profile("adobergb")
    ppi = struct.pack(">IHHIHH", 300 << 16, 1, 1, 240 << 16, 1, 1)
    resources = resource(1005, ppi) + resource(1039, profile) + resource(1057, bytes(4) + b"\1")
    path.write_bytes(psd(_stored(3, np.uint8), resources=resources))
    with open_picture(path) as reader:
        assert reader.meta.icc == profile
        assert reader.meta.resolution == (300.0, 240.0, "inch")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (
            psd(np.zeros((4, 4, 3), np.uint8), layers=2, resources=resource(1057, bytes(5))),
            "no flattened picture",
        ),
        (psd(np.zeros((4, 4, 3), np.uint8), "lab"), "in Lab"),
        (psd(np.zeros((4, 4, 3), np.uint8), "multichannel"), "in Multichannel"),
    ],
)
def test_what_is_refused_is_named(tmp_path, data, words):
    path = tmp_path / "a.psd"
    path.write_bytes(data)
    with pytest.raises(PictureError, match=words) as caught:
        open_picture(path)
    assert "Photoshop" in caught.value.hint


@pytest.mark.parametrize("coding", CODINGS)
def test_a_cut_document_is_an_error(tmp_path, coding):
    path = tmp_path / "a.psd"
    path.write_bytes(psd(rough(40, 30, 3, np.uint8), coding=coding))
    end = path.stat().st_size
    lengths = {*range(0, end, max(1, end // 60)), end - 1}
    assert refused_when_cut(path, lengths) == len(lengths)


@pytest.mark.parametrize("coding", CODINGS)
def test_a_damaged_document_never_ends_in_a_traceback(tmp_path, coding):
    path = tmp_path / "a.psd"
    path.write_bytes(psd(rough(40, 30, 3, np.uint8), coding=coding, layers=-1))
    check_damaged(path, trials=80, head=60)


def test_a_tall_document_is_read_piece_by_piece(tmp_path):
    """Memory for a band, not for the picture."""
    path = tmp_path / "a.psb"
    tile = rough(64, 400, 3, np.uint16)
    path.write_bytes(psd(np.tile(tile, (100, 1, 1)), big=True))
    with open_picture(path, budget_bytes=1 << 20) as reader:
        reader.read(Window(0, 64, 0, 400, reader.size))
        tracemalloc.start()
        for window in bands(reader.size, 64):
            assert np.array_equal(reader.read(window), tile)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 6400 * 400 * 6 // 2 + (16 << 20)


class TestLayerMask:
    """psd-tools writes the document and its layers."""

    @pytest.fixture
    def document(self, tmp_path):
        psd_tools = pytest.importorskip("psd_tools")
        image = pytest.importorskip("PIL.Image")
        path = tmp_path / "a.psd"
        self.alpha = rough(20, 30, 1, np.uint8)[..., 0]
        self.mask = rough(25, 35, 1, np.uint8, seed=1)[..., 0]
        document = psd_tools.PSDImage.new("RGB", (60, 50))
        cut = image.fromarray(np.dstack([rough(20, 30, 3, np.uint8), self.alpha]))
        document.create_pixel_layer(cut, name="subject", top=5, left=-4)
        plate = document.create_pixel_layer(
            image.fromarray(rough(50, 60, 3, np.uint8)), name="masked"
        )
        plate.create_mask(image.fromarray(self.mask), top=30, left=10)
        document.save(path)
        return path

    def test_transparency_where_there_is_no_mask(self, document):
        expected = np.zeros((50, 60), np.uint8)
        expected[5:25, :26] = self.alpha[:, 4:]

        assert np.array_equal(psd_layer_mask(document, "subject"), expected)

    def test_the_mask_where_there_is_one(self, document):
        found = psd_layer_mask(document, "masked")

        assert found.shape == (50, 60)
        assert np.array_equal(found[30:50, 10:45], self.mask[:20])

    def test_an_unknown_name_lists_those_there_are(self, document):
        with pytest.raises(MaskError, match="no layer named") as caught:
            psd_layer_mask(document, "sky")
        assert "subject" in caught.value.hint
        assert "masked" in caught.value.hint
