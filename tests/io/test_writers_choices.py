"""What is written for which picture, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hzcli.core.window import Size
from hzcli.errors import PictureError, UsageError
from hzcli.io.meta import Header
from hzcli.io.writers import OutputOptions, check_options, expected_suffix, resolve

HEAD = Header(Path("shots/a.JPG"), Size(40, 50), 8, "rgb", 1, "jpeg")


def head(form: str, depth: int, name: str = "a.xyz", **rest) -> Header:
    return replace(HEAD, format=form, depth=depth, path=Path(name), **rest)


def test_unasked_it_is_16_bit_tiff():
    for depth in (8, 16):
        found = resolve(OutputOptions(), head("jpeg", depth))
        assert (found.format, found.depth, found.suffix, found.notes) == ("tiff", 16, ".tif", ())


@pytest.mark.parametrize(
    ("asked", "source", "expected"),
    [
        (("tiff", "keep"), 8, 8),
        (("tiff", "keep"), 32, 32),
        (("tiff", "8"), 16, 8),
        (("tiff", "32f"), 8, 32),
        (("png", None), 8, 16),
        (("png", "keep"), 8, 8),
        (("png", "keep"), 32, 16),
        (("jpeg", None), 16, 8),
        (("jpeg", "keep"), 16, 8),
        (("webp", None), 8, 8),
        (("jxl", "keep"), 32, 16),
    ],
)
def test_depths(asked, source, expected):
    assert resolve(OutputOptions(*asked), head("tiff", source)).depth == expected


@pytest.mark.parametrize(
    ("asked", "source", "half"),
    [(None, 8, True), (None, 32, True), ("keep", 8, True), ("keep", 16, False), ("32f", 8, False)],
)
def test_openexr_wants_floats_and_stores_halves(asked, source, half):
    found = resolve(OutputOptions("exr", asked), head("tiff", source))
    assert (found.depth, found.half) == (32, half)
    assert "linear" in found.notes[0]


@pytest.mark.parametrize(
    ("form", "depth", "name", "expected"),
    [
        ("jpeg", 8, "a.JPG", ("jpeg", 8, ".JPG")),
        ("jpeg", 8, "a.jpeg", ("jpeg", 8, ".jpeg")),
        ("png", 16, "a.png", ("png", 16, ".png")),
        ("png", 8, "a.jpg", ("png", 8, ".png")),
        ("tiff", 32, "a.tiff", ("tiff", 32, ".tiff")),
        ("webp", 8, "a.webp", ("webp", 8, ".webp")),
        ("jxl", 16, "a.jxl", ("jxl", 16, ".jxl")),
        ("exr", 32, "a.exr", ("exr", 32, ".exr")),
        ("psd", 16, "a.psd", ("tiff", 16, ".tif")),
        ("heic", 16, "a.heic", ("tiff", 16, ".tif")),
        ("avif", 16, "a.avif", ("tiff", 16, ".tif")),
    ],
)
def test_keep_keeps_what_can_be_written(form, depth, name, expected):
    options = OutputOptions("keep")
    found = resolve(options, head(form, depth, name))
    assert (found.format, found.depth, found.suffix) == expected
    assert any("does not write" in note for note in found.notes) is (
        form in ("psd", "heic", "avif")
    )
    if Path(name).suffix[1:] == form or form == "jpeg":
        assert expected_suffix(options, Path(name)) == found.suffix


def test_names_without_keep_have_the_suffix_of_the_format():
    found = {
        form: expected_suffix(OutputOptions(form), Path("a.tiff")) for form in ("tiff", "jpeg")
    }
    assert found == {"tiff": ".tif", "jpeg": ".jpg"}
    assert resolve(OutputOptions(), head("tiff", 16, "a.tiff")).suffix == ".tif"


def test_cmyk_is_not_kept_but_becomes_rgb_when_a_format_is_named():
    cmyk = head("tiff", 8, "a.tif", channels="cmyk")
    with pytest.raises(PictureError, match="CMYK") as caught:
        resolve(OutputOptions("keep"), cmyk)
    assert "--format tiff" in caught.value.hint
    assert resolve(OutputOptions("tiff"), cmyk).channels == "rgb"


@pytest.mark.parametrize(
    "wrong",
    [
        OutputOptions("jpeg", "16"),
        OutputOptions("jpeg", "32f"),
        OutputOptions("webp", "16"),
        OutputOptions("png", "32f"),
        OutputOptions("jxl", "32f"),
        OutputOptions("exr", "8"),
        OutputOptions("bmp"),
        OutputOptions("tiff", "12"),
        OutputOptions(compression="zip"),
        OutputOptions(bigtiff="yes"),
        OutputOptions(tile=100),
        OutputOptions(tile=0),
        OutputOptions(tile=8192),
        OutputOptions("png", tile=256),
        OutputOptions(quality=0),
        OutputOptions(quality=101),
    ],
)
def test_contradictions_are_wrong_usage_before_any_picture(wrong):
    with pytest.raises(UsageError) as caught:
        check_options(wrong)
    assert caught.value.hint


def test_a_depth_that_a_kept_format_lacks_is_that_pictures_error():
    """16 bits asked for a folder with a JPEG among TIFFs."""
    check_options(OutputOptions("keep", "16"))
    assert resolve(OutputOptions("keep", "16"), head("tiff", 8)).depth == 16
    with pytest.raises(UsageError, match="JPEG does not hold"):
        resolve(OutputOptions("keep", "16"), head("jpeg", 8))


@pytest.mark.parametrize(("form", "longest"), [("jpeg", 65500), ("webp", 16383)])
def test_pictures_that_a_format_cannot_hold_are_refused(form, longest):
    resolve(OutputOptions(form), head("tiff", 8, size=Size(10, longest)))
    with pytest.raises(PictureError, match=str(longest)):
        resolve(OutputOptions(form), head("tiff", 8, size=Size(longest + 1, 10)))


def test_what_is_lost_is_told():
    def notes(*asked, **rest):
        return " ".join(resolve(OutputOptions(*asked), head("tiff", **rest)).notes)

    assert "alpha" in notes("jpeg", depth=8, channels="rgba", alpha=True)
    assert notes("png", depth=8, channels="rgba", alpha=True) == ""
    assert "16 bits become 8" in notes("jpeg", depth=16)
    assert "0..1" in notes("tiff", depth=32) and "0..1" in notes("png", "keep", depth=32)
    assert notes("tiff", "16", depth=32) == "" == notes("tiff", "keep", depth=32)
    assert "zstd" in " ".join(resolve(OutputOptions(compression="zstd"), HEAD).notes)
    assert "multiplied" in notes("exr", depth=16, channels="rgba", alpha=True)


@pytest.mark.parametrize(
    ("channels", "expected"),
    [
        ("grey", "grey"),
        ("greya", "grey"),
        ("bilevel", "grey"),
        ("rgb", "rgb"),
        ("palette", "rgb"),
        ("rgba", "rgb"),
    ],
)
def test_grey_is_given_back(channels, expected):
    assert resolve(OutputOptions(), head("png", 8, channels=channels)).channels == expected
