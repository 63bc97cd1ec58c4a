"""Several masks of one picture, named or numbered, and files that are never read."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hzcli.engine.pairing import Job, PairingRules, find
from hzcli.engine.walk import Listing
from hzcli.errors import MaskError, PictureError, UsageError

SUFFIX = PairingRules(mask_suffix="_m")


def touch(root: Path, *names: str) -> Path:
    """Make empty files below `root`."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def masks(root: Path, rules: PairingRules = SUFFIX) -> dict[str, list[str] | str]:
    """Masks of each composite by name, or what its error says."""
    return {
        job.composite.name: str(job.error) if job.error else [mask.name for mask in job.masks]
        for job in find([root], rules)
    }


def test_numbered_masks_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    """2 before 10; any start, gaps and leading zeros; any case and extension."""
    touch(tmp_path, "X.jpg", "X_m10.png", "x_M2.PNG", "X_m01.tif")
    touch(tmp_path, "Y.jpg", "Y_m7.png")

    assert masks(tmp_path) == {
        "X.jpg": ["X_m01.tif", "x_M2.PNG", "X_m10.png"],
        "Y.jpg": ["Y_m7.png"],
    }


@given(st.sets(st.integers(0, 10**6), min_size=1, max_size=12))
def test_the_order_is_that_of_the_numbers(numbers: set[int]) -> None:
    """Whatever the numbers are."""
    listing = Listing()
    folder = Path("nowhere")
    listing.folders[folder] = {
        f"x_m{n}": [folder / f"x_m{n}.png"] for n in sorted(numbers, key=str)
    }
    found = listing.numbered(folder, "X_m", but=folder / "X.jpg")
    assert [int(path.stem[3:]) for path in found] == sorted(numbers)


def test_one_mask_is_as_ever(tmp_path: Path) -> None:
    """`mask` is the first of `masks`, and a job made by hand has both."""
    touch(tmp_path, "X.jpg", "X_m.png")
    (job,) = find([tmp_path], SUFFIX)

    assert (job.mask, job.masks) == (tmp_path / "X_m.png", (tmp_path / "X_m.png",))
    assert job.rule == "--mask-suffix _m"
    assert Job(Path("a"), Path("b"), Path("c")).masks == (Path("b"),)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("X_m.png", "X_m1.png", "X_m2.png"), "3 masks: X_m.png, X_m1.png and X_m2.png"),
        (("X_m1.png", "X_m1.tif"), "2 masks: X_m1.png and X_m1.tif"),
        (("X_m1.png", "X_m01.png", "X_m2.png"), "3 masks: X_m01.png, X_m1.png and X_m2.png"),
        (("X_m.png", "X_m.tif"), "2 masks: X_m.png and X_m.tif"),
    ],
)
def test_what_is_ambiguous_names_the_files(
    tmp_path: Path, names: tuple[str, ...], said: str
) -> None:
    """Plain beside numbered, a number twice, two plain ones."""
    touch(tmp_path, "X.jpg", *names)
    (job,) = find([tmp_path], SUFFIX)

    assert isinstance(job.error, MaskError)
    assert job.error.message == said


def test_a_picture_may_be_called_as_a_numbered_mask_would(tmp_path: Path) -> None:
    """X_m1 is a picture where it has a mask itself, or where there is no X."""
    touch(tmp_path, "X.jpg", "X_m.png", "X_m1.jpg", "X_m1_m.png", "Z_m3.jpg", "Z_m3_m.png")

    assert masks(tmp_path) == {
        "X.jpg": ["X_m.png"],
        "X_m1.jpg": ["X_m1_m.png"],
        "Z_m3.jpg": ["Z_m3_m.png"],
    }


def test_a_suffix_that_ends_in_a_digit_has_no_numbers(tmp_path: Path) -> None:
    """With the suffix _1, X_11 is not the first mask of X."""
    touch(tmp_path, "X.jpg", "X_1.png", "X_11.jpg", "X_11_1.png")

    found = masks(tmp_path, PairingRules(mask_suffix="_1"))

    assert found == {"X.jpg": ["X_1.png"], "X_11.jpg": ["X_11_1.png"]}


def test_numbered_masks_in_a_folder_of_masks(tmp_path: Path) -> None:
    """In the same tree or flat, by the suffix; without one a mask bears the picture's name."""
    shots, folder = tmp_path / "shots", tmp_path / "masks"
    touch(shots, "day/X.jpg", "Y.jpg")
    touch(folder, "day/X_m1.png", "day/X_m2.png", "Y_m1.png", "Y_m2.png")
    rules = PairingRules(mask_dir=folder, mask_suffix="_m")

    assert masks(shots, rules) == {
        "X.jpg": ["X_m1.png", "X_m2.png"],
        "Y.jpg": ["Y_m1.png", "Y_m2.png"],
    }
    (folder / "Y.png").touch()
    assert masks(shots, PairingRules(mask_dir=folder))["Y.jpg"] == ["Y.png"]


def test_masks_that_are_named_keep_their_order(tmp_path: Path) -> None:
    """--mask given again: as on the command line."""
    touch(tmp_path, "X.jpg", "b.png", "a.png")
    named = tmp_path / "b.png", tmp_path / "a.png"
    (job,) = find([tmp_path / "X.jpg"], PairingRules(mask_files=named))

    assert job.masks == named
    with pytest.raises(UsageError, match="given twice"):
        find([tmp_path / "X.jpg"], PairingRules(mask_file=named[0], mask_files=named))
    with pytest.raises(UsageError, match="one picture"):
        find([tmp_path], PairingRules(mask_files=named))


def test_no_result_is_written_over_any_of_the_masks(tmp_path: Path) -> None:
    """The second mask is an input as well as the first."""
    touch(tmp_path, "in/X_m.jpg", "X_m.tif", "a.png")
    rules = PairingRules(mask_files=(tmp_path / "a.png", tmp_path / "X_m.tif"), output=tmp_path)
    with pytest.raises(UsageError, match="over the input"):
        find([tmp_path / "in/X_m.jpg"], rules)


def test_a_layer_is_a_mask_where_no_file_is(tmp_path: Path) -> None:
    """--mask-from psd:NAME reads the picture itself."""
    touch(tmp_path, "X.psd", "Y.psd", "Y_m.png")
    rules = PairingRules(mask_suffix="_m", mask_from="psd:Person")
    x, y = find([tmp_path], rules)

    assert (x.mask, x.mask_source) == (tmp_path / "X.psd", "psd:Person")
    assert (y.mask, y.mask_source) == (tmp_path / "Y_m.png", "auto")


def test_the_suffix_is_guessed_from_numbered_masks_too(tmp_path: Path) -> None:
    touch(tmp_path, "X.jpg", "X_m1.png", "X_m2.png")
    with pytest.raises(UsageError) as caught:
        find([tmp_path], PairingRules())
    assert caught.value.hint == "Try --mask-suffix _m"


def test_to_look_needs_no_masks_and_no_room(tmp_path: Path) -> None:
    """Pictures without masks, and two that would be written to one file."""
    touch(tmp_path, "X.jpg", "X.png")
    jobs = find([tmp_path], PairingRules(output=tmp_path), look=True)

    assert [(job.mask, job.error) for job in jobs] == [(None, None)] * 2


@pytest.mark.parametrize("name", ["X.CR3", "X.nef", "X.dng"])
def test_raw_files_are_refused_with_advice(tmp_path: Path, name: str) -> None:
    """Named, in a folder of nothing else, and passed over beside developed ones."""
    touch(tmp_path, name, "out/.keep")
    (job,) = find([tmp_path / name], SUFFIX)
    assert isinstance(job.error, PictureError)
    assert "RAW" in job.error.message and "Develop it first" in job.error.hint
    with pytest.raises(UsageError, match="but 1 RAW file") as caught:
        find([tmp_path], SUFFIX)
    assert "Develop it first" in caught.value.hint
    touch(tmp_path, "X.jpg", "X_m.png")
    assert masks(tmp_path) == {"X.jpg": ["X_m.png"]}


@pytest.mark.parametrize("ending", ["psd", "PSB", "heic", "avif", "jxl", "exr"])
def test_all_kinds_that_are_read_are_pictures(tmp_path: Path, ending: str) -> None:
    touch(tmp_path, f"X.{ending}", "X_m.exr")
    assert masks(tmp_path) == {f"X.{ending}": ["X_m.exr"]}
