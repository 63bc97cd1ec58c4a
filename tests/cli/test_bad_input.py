"""Each bad input has an error of its own, for that picture only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from made_shots import Hz, colours, contents, disc, save, shot
from PIL import Image

RUN = ("run", "shots", "--mask-suffix", "_m")


def _no_mask(folder: Path) -> None:
    shot(folder / "x.png", mask=None)


def _two_masks(folder: Path) -> None:
    shot(folder / "x.png")
    save(folder / "X_M.tif", disc())


def _sizes_differ(folder: Path) -> None:
    shot(folder / "x.png")
    save(folder / "x_m.png", disc(20, 30))


def _turned(folder: Path) -> None:
    shot(folder / "x.png")
    save(folder / "x_m.png", disc(32, 24))


def _truth_size(folder: Path) -> None:
    shot(folder / "x.png")
    save(folder / "x_gt.png", colours(20, 30))


def _empty_mask(folder: Path) -> None:
    shot(folder / "x.png")
    save(folder / "x_m.png", disc() * 0)


def _full_mask(folder: Path) -> None:
    shot(folder / "x.png")
    save(folder / "x_m.png", disc() * 0 + 255)


def _text(folder: Path) -> None:
    shot(folder / "x.jpg")
    (folder / "x.jpg").write_text("no picture at all\n")


def _zero_bytes(folder: Path) -> None:
    shot(folder / "x.jpg")
    (folder / "x.jpg").write_bytes(b"")


def _truncated(folder: Path) -> None:
    path = shot(folder / "x.png")
    save(path, np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8))
    path.write_bytes(path.read_bytes()[:-900])


def _truncated_mask(folder: Path) -> None:
    shot(folder / "x.png")
    path = save(folder / "x_m.png", np.random.default_rng(0).integers(0, 255, (24, 32), np.uint8))
    path.write_bytes(path.read_bytes()[:-500])


def _cmyk(folder: Path) -> None:
    shot(folder / "x.jpg")
    Image.fromarray(colours()).convert("CMYK").save(folder / "x.jpg")


def _palette(folder: Path) -> None:
    shot(folder / "x.png")
    Image.fromarray(colours()).quantize(16).save(folder / "x.png")


def _grey(folder: Path) -> None:
    shot(folder / "x.png")
    save(folder / "x.png", disc())


def _coloured_mask(folder: Path) -> None:
    shot(folder / "x.png")
    save(folder / "x_m.png", colours())


CASES = {
    _no_mask: ("MaskError", "no mask", "x_m"),
    _two_masks: ("MaskError", "2 masks", "X_M.tif"),
    _sizes_differ: ("MaskError", "30 x 20", "32 x 24"),
    _turned: ("MaskError", "24 x 32", "32 x 24"),
    _truth_size: ("PictureError", "30 x 20", "32 x 24"),
    _empty_mask: ("MaskError", "empty", "0"),
    _full_mask: ("MaskError", "mask", "background"),
    _text: ("PictureError", "text file", "JPEG"),
    _zero_bytes: ("PictureError", "empty", "0 bytes"),
    _truncated: ("PictureError", "x.png", ""),
    _truncated_mask: ("PictureError", "x_m.png", ""),
    _coloured_mask: ("MaskError", "grey", "x_m.png"),
}


@pytest.mark.parametrize(
    ("spoil", "note"),
    [(_cmyk, "CMYK"), (_palette, ""), (_grey, "")],
    ids=["cmyk", "palette", "grey"],
)
def test_what_is_not_rgb_is_harmonised_all_the_same(
    spoil, note: str, hz: Hz, tmp_path: Path
) -> None:
    """CMYK becomes RGB with a warning; grey stays grey."""
    spoil(tmp_path / "shots")

    said = hz(*RUN, "--json")

    assert said.exit_code == 0
    row = said.lines[0]
    assert row["status"] == "done"
    assert any(note in warning for warning in row["warnings"]) or not note
    result = tifffile.imread(tmp_path / "harmonized/x.tif")
    assert result.shape == ((24, 32) if spoil is _grey else (24, 32, 3))


@pytest.mark.parametrize("spoil", CASES, ids=lambda spoil: spoil.__name__.strip("_"))
def test_bad_input_fails_alone_and_clearly(spoil, hz: Hz, tmp_path: Path) -> None:
    """What was found and what was expected is said, with something to try; the next one is done."""
    code, found, expected = CASES[spoil]
    shot(tmp_path / "shots/good.png")
    spoil(tmp_path / "shots")

    said = hz(*RUN, "--truth-suffix", "_gt", "--json")

    rows = {Path(line["input"]).stem: line for line in said.lines[:-1]}
    assert said.exit_code == 1
    assert rows["good"]["status"] == "done"
    error = rows["x"]["error"]
    assert error["code"] == code
    assert found in error["message"]
    assert expected in error["message"]
    assert error["hint"]
    assert sorted(contents(tmp_path / "harmonized")) == ["good.tif", "report.csv", "report.json"]


HEADERS_TELL = [
    case
    for case in CASES
    if case not in (_empty_mask, _full_mask, _truncated, _truncated_mask, _coloured_mask)
]


@pytest.mark.parametrize("spoil", HEADERS_TELL, ids=lambda spoil: spoil.__name__.strip("_"))
def test_a_dry_run_foretells_what_headers_tell(spoil, hz: Hz, tmp_path: Path) -> None:
    """The same error, word for word, before anything is decoded."""
    shot(tmp_path / "shots/good.png")
    spoil(tmp_path / "shots")
    arguments = (*RUN, "--truth-suffix", "_gt", "--json")

    foretold = hz(*arguments, "-n")
    assert not (tmp_path / "harmonized").exists()
    happened = hz(*arguments)

    errors = [
        [line["error"] for line in said.lines if line["event"] == "picture"]
        for said in (foretold, happened)
    ]
    assert errors[0] == errors[1]
    assert foretold.exit_code == happened.exit_code == 1


def test_an_unexpected_error_ends_one_picture_only(
    hz: Hz, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of hz is recorded as such, -v shows where, and the next picture is done."""
    from made_shots import Darker

    predict = Darker.predict

    def fails_once(self: Darker, thumb: object) -> object:
        monkeypatch.setattr(Darker, "predict", predict)
        raise ZeroDivisionError("one over nothing")

    monkeypatch.setattr(Darker, "predict", fails_once)
    shot(tmp_path / "shots/a.png")
    shot(tmp_path / "shots/b.png")

    said = hz(*RUN, "-v", "--json", "-j", "1")

    assert [line["status"] for line in said.lines[:-1]] == ["failed", "done"]
    assert said.lines[0]["error"]["code"] == "ZeroDivisionError"
    assert "one over nothing" in said.lines[0]["error"]["message"]
    assert "Traceback" in said.err
