"""Which mask and ground truth belong to which picture. Files here are empty: names decide."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from hzcli.engine.pairing import PairingRules, find
from hzcli.errors import MaskError, PictureError, UsageError

SUFFIX = PairingRules(mask_suffix="_m")


def touch(root: Path, *names: str) -> Path:
    """Make empty files below `root`."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def pairs(root: Path, rules: PairingRules) -> list[tuple[str, str | None, str | None]]:
    """Composite, mask and truth of each job, relative to `root`."""
    names = []
    for job in find([root], rules):
        files = (job.composite, job.mask, job.truth)
        names.append(
            tuple(None if path is None else path.relative_to(root).as_posix() for path in files)
        )
    return names


def test_suffix_before_any_extension_whatever_the_case(tmp_path: Path) -> None:
    """X.JPG goes with x_M.PNG, Y.tiff with Y_m.webp."""
    touch(tmp_path, "X.JPG", "x_M.PNG", "Y.tiff", "Y_m.webp")

    assert pairs(tmp_path, SUFFIX) == [("X.JPG", "x_M.PNG", None), ("Y.tiff", "Y_m.webp", None)]


def test_an_accent_is_an_accent_however_it_is_written(tmp_path: Path) -> None:
    """macOS splits letters from accents; pairs are found all the same."""
    split, whole = unicodedata.normalize("NFD", "é"), unicodedata.normalize("NFC", "é")
    touch(tmp_path, f"caf{split}.jpg", f"caf{whole}_m.png")

    (job,) = find([tmp_path], SUFFIX)

    assert job.mask is not None


def test_the_tree_is_walked_in_natural_order_and_mirrored(tmp_path: Path) -> None:
    """IMG_9 comes before IMG_10; b/x.jpg becomes b/x.tif."""
    touch(tmp_path, *(f"b/IMG_{n}{s}" for n in (10, 9) for s in (".jpg", "_m.png")))
    touch(tmp_path, "b/z/x.y.png", "b/z/x.y_m.png", "b/z²/².png", "b/z²/²_m.png")

    jobs = find([tmp_path], SUFFIX)

    assert [job.output.as_posix() for job in jobs] == [
        "b/IMG_9.tif", "b/IMG_10.tif", "b/z/x.y.tif", "b/z²/².tif",
    ]  # fmt: skip


def test_hidden_and_system_files_are_passed_over(tmp_path: Path) -> None:
    """What cameras, archives and systems leave behind is no picture and no mask."""
    touch(tmp_path, "a.jpg", "a_m.png", "._a.jpg", ".DS_Store", "Thumbs.db", "desktop.ini")
    touch(tmp_path, "notes.txt", ".hidden/b.jpg", "__MACOSX/c.jpg", "@eaDir/d.jpg", "._a_m.png")

    assert pairs(tmp_path, SUFFIX) == [("a.jpg", "a_m.png", None)]


def test_the_output_folder_is_no_input(tmp_path: Path) -> None:
    """Results of an earlier run, below the input folder, are not harmonised again."""
    touch(tmp_path, "a.jpg", "a_m.png", "out/a.tif", "out/deep/b.tif")
    rules = PairingRules(mask_suffix="_m", output=tmp_path / "out")

    assert pairs(tmp_path, rules) == [("a.jpg", "a_m.png", None)]


def test_a_mask_or_truth_is_never_a_composite(tmp_path: Path) -> None:
    """Named so, or lying in their folders, they are not harmonised."""
    touch(tmp_path, "a.jpg", "a_m.png", "a_GT.png", "lone_m.png")
    touch(tmp_path, "masks/b.png", "truths/b.png", "b.jpg")
    rules = PairingRules(
        mask_suffix="_m",
        mask_dir=tmp_path / "masks",
        truth_suffix="_gt",
        truth_dir=tmp_path / "truths",
    )

    assert pairs(tmp_path, rules) == [
        ("a.jpg", "a_m.png", "a_GT.png"),
        ("b.jpg", "masks/b.png", "truths/b.png"),
    ]


def test_a_folder_of_masks_mirrors_the_tree_or_is_flat(tmp_path: Path) -> None:
    """The mirrored place comes first; with the suffix comes before without."""
    shots, masks = tmp_path / "shots", tmp_path / "masks"
    touch(shots, "p/a.jpg", "p/b.jpg", "p/c.jpg", "p/d.jpg")
    touch(masks, "p/a.png", "a.png", "b.png", "p/c_m.png", "p/c.png", "d_M.tif")
    rules = PairingRules(mask_dir=masks, mask_suffix="_m")

    found = [job.mask.relative_to(masks).as_posix() for job in find([shots], rules) if job.mask]

    assert found == ["p/a.png", "b.png", "p/c_m.png", "d_M.tif"]


def test_one_mask_for_one_picture(tmp_path: Path) -> None:
    """--mask takes any file, for a single input."""
    touch(tmp_path, "a.jpg", "any.png")
    rules = PairingRules(mask_file=tmp_path / "any.png")

    (job,) = find([tmp_path / "a.jpg"], rules)

    assert (job.mask, job.output) == (tmp_path / "any.png", Path("a.tif"))


def test_alpha_is_the_last_resort(tmp_path: Path) -> None:
    """With a suffix and alpha, a mask file wins; without one the alpha is taken."""
    touch(tmp_path, "a.png", "a_m.png", "b.png")

    a, b = find([tmp_path], PairingRules(mask_suffix="_m", mask_from="alpha"))

    assert (a.mask, a.mask_source) == (tmp_path / "a_m.png", "auto")
    assert (b.mask, b.mask_source) == (tmp_path / "b.png", "alpha")


@pytest.mark.parametrize(
    ("names", "kind", "words"),
    [
        (["a.jpg"], MaskError, "no mask: looked for a_m.* beside it"),
        (["a.jpg", "a_m.png", "a_M.tif"], MaskError, "2 masks: a_M.tif and a_m.png"),
        (["a.jpg", "a_m.png", "a_gt.png", "a_gt.tif"], PictureError, "2 ground truths"),
    ],
)
def test_what_cannot_be_paired_fails_alone(
    names: list[str], kind: type, words: str, tmp_path: Path
) -> None:
    """The job carries its error; its neighbour has none."""
    touch(tmp_path, *names, "ok.jpg", "ok_m.png")

    bad, good = find([tmp_path], PairingRules(mask_suffix="_m", truth_suffix="_gt"))

    assert type(bad.error) is kind
    assert words in bad.error.message
    assert bad.error.hint
    assert good.error is None


def test_a_missing_truth_is_a_warning(tmp_path: Path) -> None:
    """The picture is harmonised; its metrics are not there, and that is said."""
    touch(tmp_path, "a.jpg", "a_m.png")

    (job,) = find([tmp_path], PairingRules(mask_suffix="_m", truth_suffix="_gt"))

    assert job.error is None
    assert "no ground truth" in job.warnings[0]


def test_another_kind_of_file_named_outright_fails(tmp_path: Path) -> None:
    """In a folder it is passed over; given by name it is told what hz reads."""
    touch(tmp_path, "a.jpg", "a_m.png", "raw.nef")

    good, bad = find([tmp_path / "a.jpg", tmp_path / "raw.nef"], SUFFIX)

    assert good.error is None
    assert isinstance(bad.error, PictureError)
    assert ".nef" in bad.error.message
    assert len(find([tmp_path], SUFFIX)) == 1


def test_inputs_given_twice_are_done_once(tmp_path: Path) -> None:
    """A shell's `shots shots/*` names a picture twice, and its mask."""
    touch(tmp_path, "a.jpg", "a_m.png")

    assert len(find([tmp_path, tmp_path / "a.jpg", tmp_path / "a_m.png"], SUFFIX)) == 1


@pytest.mark.parametrize(
    "names",
    [("a/x.jpg", "b/x.jpg"), ("a/x.jpg", "b/X.PNG"), ("a/x.jpg", "a/x.png")],
)
def test_two_inputs_for_one_output_are_refused(names: tuple[str, str], tmp_path: Path) -> None:
    """Both are named, also where only the case differs: many discs do not tell them apart."""
    touch(tmp_path, *names)

    with pytest.raises(UsageError) as caught:
        find([tmp_path / "a", tmp_path / "b"] if "b" in names[1] else [tmp_path / "a"], SUFFIX)

    assert str(tmp_path / names[0]) in caught.value.message
    assert str(tmp_path / names[1]) in caught.value.message


def test_a_result_in_the_place_of_a_mask_is_refused(tmp_path: Path) -> None:
    """Also through a link to the folder."""
    touch(tmp_path, "shots/a.jpg", "masks/a.tif")
    (tmp_path / "link").symlink_to(tmp_path / "masks")
    rules = PairingRules(mask_dir=tmp_path / "masks", output=tmp_path / "link")

    with pytest.raises(UsageError, match="over the input"):
        find([tmp_path / "shots"], rules)


IHARMONY = (
    "composite_images/a0001_1_2.jpg", "masks/a0001_1.png", "real_images/a0001.jpg",
)  # fmt: skip


@pytest.mark.parametrize("below", ["", "HAdobe5k/", "iHarmony4/HCOCO/"])
@pytest.mark.parametrize("start", ["", "composite_images"])
def test_iharmony4(below: str, start: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """a_1_2.jpg goes with masks/a_1.png and real_images/a.jpg, in each sub-dataset."""
    touch(tmp_path, *(below + name for name in IHARMONY))
    rules = PairingRules(layout="iharmony4")
    inputs = [tmp_path / below / start] if start else [tmp_path]

    (job,) = find(inputs, rules)

    assert job.mask is not None and job.truth is not None
    assert job.mask.resolve() == tmp_path / below / IHARMONY[1]
    assert job.truth.resolve() == tmp_path / below / IHARMONY[2]
    inside = "" if start else f"{below}composite_images/"
    assert job.output.as_posix() == f"{inside}a0001_1_2.tif"
    # From inside the folder, where its name is not to be seen.
    monkeypatch.chdir(tmp_path / below / "composite_images")
    (job,) = find([Path(".")], rules)
    assert job.mask is not None and job.mask.resolve() == tmp_path / below / IHARMONY[1]


def test_iharmony4_tells_what_is_missing(tmp_path: Path) -> None:
    """A name of another form, a mask that is not there: each fails alone."""
    touch(tmp_path, *IHARMONY, "composite_images/odd.jpg", "composite_images/b_1_1.jpg")

    jobs = {job.composite.stem: job for job in find([tmp_path], PairingRules(layout="iharmony4"))}

    assert jobs["a0001_1_2"].error is None
    assert "not an iHarmony4 name" in str(jobs["odd"].error)
    assert "masks/b_1.*" in str(jobs["b_1_1"].error)


@pytest.mark.parametrize(
    ("names", "guess"),
    [
        (["a.jpg", "a_m.png", "a_gt.png", "b.jpg", "b_gt.png"], "_m"),
        (["a.jpg", "a-mask.png"], "-mask"),
        (["a.jpg", "ab.jpg"], "--mask-dir DIR"),
    ],
)
def test_without_a_rule_the_suffix_is_guessed(names: list[str], guess: str, tmp_path: Path) -> None:
    """The error proposes what the files suggest."""
    touch(tmp_path, *names)

    with pytest.raises(UsageError) as caught:
        find([tmp_path], PairingRules())

    assert guess in caught.value.hint
