"""Laws of examples/make_shots.py: what it writes is what hz expects, and says what it is.

Its files are read back with other readers than the ones hz has. The samples lie in scikit-image and
scikit-learn; where the examples extra is not installed, these tests are skipped.
"""

from __future__ import annotations

import importlib.util
import io
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

pytest.importorskip("skimage", reason="needs the examples extra: scikit-image")
if importlib.util.find_spec("sklearn") is None:
    pytest.skip("needs the examples extra: scikit-learn", allow_module_level=True)

import imagecodecs
import tifffile
from PIL import Image, ImageCms, JpegImagePlugin
from skimage.color import lab2rgb, rgb2lab
from skimage.draw import polygon2mask

SCRIPT = Path(__file__).parents[1] / "examples" / "make_shots.py"

# Composite, and truth in the folder of truths: formats, depths and the sub-folder matter.
EXPECTED = {
    "astronaut.jpg": "astronaut.png",
    "cat.png": "cat.png",
    "dahlia.jpg": "dahlia.png",
    "motorcycle.tif": "motorcycle.tif",
    "pagoda.jpg": "pagoda.png",
    "rocket.jpg": "rocket.png",
    "studio/coffee.jpg": "studio/coffee.png",
    "studio/shuttle.png": "studio/shuttle.png",
}
DEEP = {"motorcycle.tif", "studio/shuttle.png"}
EVERY_SHOT = pytest.mark.parametrize("name", EXPECTED)


def load_script() -> ModuleType:
    """The script as a module, though its folder is no package."""
    spec = importlib.util.spec_from_file_location("make_shots", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["make_shots"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


script = load_script()


@pytest.fixture(scope="module")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of shots, made once."""
    folder = tmp_path_factory.mktemp("examples") / "shots"
    script.main([str(folder)])
    return folder


def read(path: Path) -> np.ndarray:
    """A picture file as it is: uint8 or uint16, (H, W) or (H, W, 3)."""
    if path.suffix == ".tif":
        return np.asarray(tifffile.imread(path))
    if path.suffix == ".png":
        return np.asarray(imagecodecs.png_decode(path.read_bytes()))
    with Image.open(path) as picture:
        return np.asarray(picture)


def read_mask(folder: Path, name: str) -> np.ndarray:
    path = folder / name
    return read(path.with_name(f"{path.stem}_m.png"))


def sample_of(name: str) -> np.ndarray:
    """The bundled photograph behind a shot, 8-bit RGB, through the packages' own places."""
    outline = script.read_outlines()[Path(name).stem]
    spec = importlib.util.find_spec(outline.package)
    assert spec is not None and spec.origin is not None
    with Image.open(Path(spec.origin).parent / outline.file) as picture:
        return np.asarray(picture.convert("RGB"))


def in_8_bit_levels(picture: np.ndarray) -> np.ndarray:
    return picture / (257.0 if picture.dtype == np.uint16 else 1.0)


def test_every_composite_has_a_mask_and_a_truth_and_nothing_else_is_there(shots: Path) -> None:
    """Two files a shot in the folder, some of them one folder down; one in the truths'."""
    masks = {str(Path(name).with_name(f"{Path(name).stem}_m.png")) for name in EXPECTED}
    expected = {*EXPECTED, *(mask.replace("\\", "/") for mask in masks)}
    truths = script.truth_folder(shots)
    assert expected == {p.relative_to(shots).as_posix() for p in shots.rglob("*") if p.is_file()}
    actual = {p.relative_to(truths).as_posix() for p in truths.rglob("*") if p.is_file()}
    assert set(EXPECTED.values()) == actual


@EVERY_SHOT
def test_sizes_and_depths_are_the_photographs_own(shots: Path, name: str) -> None:
    """Composite, mask and truth have the sample's size; masks are 8-bit grey."""
    height, width, _ = sample_of(name).shape
    composite, truth = read(shots / name), read(script.truth_folder(shots) / EXPECTED[name])
    mask = read_mask(shots, name)
    depth = np.uint16 if name in DEEP else np.uint8
    assert ((height, width, 3), depth) == (composite.shape, composite.dtype)
    assert ((height, width, 3), depth) == (truth.shape, truth.dtype)
    assert ((height, width), np.uint8) == (mask.shape, mask.dtype)


@EVERY_SHOT
def test_the_truth_is_the_photograph(shots: Path, name: str) -> None:
    """Every value of the sample arrives in the truth; 16 bits hold it times 257."""
    truth = read(script.truth_folder(shots) / EXPECTED[name])
    assert np.array_equal(sample_of(name) * truth.dtype.type(257 if name in DEEP else 1), truth)


@EVERY_SHOT
def test_masks_are_soft_and_of_a_useful_size(shots: Path, name: str) -> None:
    """A mask holds full, none and many levels between, and covers 3 to 60 % of its picture."""
    mask = read_mask(shots, name)
    assert mask.min() == 0
    assert mask.max() == 255
    assert len(np.unique(mask)) > 60
    assert 0.03 <= (mask / 255.0).mean() <= 0.60


@EVERY_SHOT
def test_the_background_is_the_truths(shots: Path, name: str) -> None:
    """Where the mask is 0 composite and truth are equal, or as near as one JPEG leaves them."""
    outside = read_mask(shots, name) == 0
    composite, truth = (
        read(shots / name)[outside],
        read(script.truth_folder(shots) / EXPECTED[name])[outside],
    )
    if name.endswith(".jpg"):
        # Measured with quality 95, 4:4:4: mean 0.4 to 2.0, 99th percentile 2 to 8 levels.
        error = np.abs(composite.astype(int) - truth)
        assert error.mean() < 2.5
        assert np.percentile(error, 99) <= 10
    else:
        assert np.array_equal(composite, truth)


@EVERY_SHOT
def test_the_foreground_is_visibly_wrong_but_not_wildly(shots: Path, name: str) -> None:
    """Doing nothing scores an fMSE of published composites: some hundreds, under 2,500."""
    weight = read_mask(shots, name)[..., None] / 255.0
    composite, truth = read(shots / name), read(script.truth_folder(shots) / EXPECTED[name])
    squared = (in_8_bit_levels(composite) - in_8_bit_levels(truth)) ** 2
    assert 200 < (weight * squared).sum() / (3 * weight.sum()) < 2500


def test_two_runs_write_the_same_bytes(shots: Path, tmp_path: Path) -> None:
    """Nothing in a file depends on the clock, on chance or on the folder's name."""
    script.main([str(tmp_path / "again")])
    for path in (p for p in shots.rglob("*") if p.is_file()):
        assert path.read_bytes() == (tmp_path / "again" / path.relative_to(shots)).read_bytes()


def profile_in(path: Path) -> str | None:
    """The name of the ICC profile inside a picture file."""
    with Image.open(path) as picture:
        icc = picture.info.get("icc_profile")
    if not icc:
        return None
    return str(ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(icc)))).strip()


def test_profiles_are_the_photographs_and_16_bits_have_one(shots: Path) -> None:
    """What is sRGB says so where the sample does, Adobe RGB stays; each truth says the same."""
    srgb, adobe = "sRGB IEC61966-2.1", "Adobe RGB (1998)"
    assert {name: profile_in(shots / name) for name in EXPECTED} == {
        "astronaut.jpg": srgb,
        "cat.png": srgb,
        "dahlia.jpg": srgb,
        "motorcycle.tif": "sRGB",
        "pagoda.jpg": srgb,
        "rocket.jpg": adobe,
        "studio/coffee.jpg": None,
        "studio/shuttle.png": srgb,
    }
    for name, truth in EXPECTED.items():
        assert profile_in(script.truth_folder(shots) / truth) == profile_in(shots / name)


def test_jpegs_keep_full_colour(shots: Path) -> None:
    """Chroma is not subsampled."""
    for name in (name for name in EXPECTED if name.endswith(".jpg")):
        with Image.open(shots / name) as picture:
            assert JpegImagePlugin.get_sampling(picture) == 0  # Pillow's 4:4:4


def test_fill_agrees_with_a_point_in_polygon_test() -> None:
    """The scanline fill equals scikit-image's polygon2mask, also for crossing edges at the rim."""
    random = np.random.default_rng(7)
    for corners in (3, 4, 9, 40):
        polygon = random.uniform((-5, -5), (75, 55), size=(corners, 2))
        expected = polygon2mask((50, 70), polygon[:, ::-1] - 0.5)
        assert np.array_equal(expected, script.fill(polygon, (50, 70)))


def test_one_stop_doubles_the_light() -> None:
    """Encoded 0.2 is 0.0331 in linear light; twice that is encoded 0.2861 (IEC 61966-2-1)."""
    grey = np.full((1, 1, 3), 0.2)
    brighter = script.relight(stops=1.0)(grey, np.ones((1, 1)))
    linear = ((0.2 + 0.055) / 1.055) ** 2.4
    np.testing.assert_allclose(brighter, 1.055 * (2 * linear) ** (1 / 2.4) - 0.055, atol=1e-12)


def test_flatten_keeps_the_pivot_and_greys_by_luma() -> None:
    """At saturation 0 a colour becomes its luma, drawn towards the pivot."""
    colour = np.array([[[0.9, 0.5, 0.1]]])
    luma = 0.2126 * 0.9 + 0.7152 * 0.5 + 0.0722 * 0.1
    actual = script.flatten(contrast=0.5, pivot=0.4, saturation=0.0)(colour, np.ones((1, 1)))
    np.testing.assert_allclose(actual, np.full((1, 1, 3), 0.4 + 0.5 * (luma - 0.4)), atol=1e-12)


def test_lab_statistics_are_those_of_the_masked_pixels() -> None:
    """Under a hard mask they are NumPy's mean and deviation of the pixels inside."""
    random = np.random.default_rng(5)
    lab, mask = random.normal(size=(9, 7, 3)), random.random((9, 7)) < 0.4
    mean, spread = script.lab_statistics(lab, mask.astype(float))
    np.testing.assert_allclose(mean, lab[mask].mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(spread, lab[mask].std(axis=0), atol=1e-12)


def test_transfer_takes_the_donors_mean_and_spread() -> None:
    """A muted picture recoloured entirely has the donor's statistics in Lab under its mask."""
    donor = script.read_outlines()["cat"]
    target = script.lab_statistics(
        rgb2lab(script.read_photograph(donor).rgb / 255.0), script.draw_mask(donor)
    )
    lab = np.random.default_rng(3).uniform((40, -5, -5), (60, 5, 5), size=(32, 32, 3))
    mask = np.linspace(0.0, 1.0, 32 * 32).reshape(32, 32)
    moved = script.transfer(donor="cat", amount=1.0)(lab2rgb(lab), mask)
    # Clipping to the gamut moves the statistics a little.
    np.testing.assert_allclose(script.lab_statistics(rgb2lab(moved), mask), target, atol=0.3)


def test_a_sample_that_is_missing_or_changed_is_named() -> None:
    """Another version of a package stops with a sentence, not with a crooked mask."""
    cat = script.read_outlines()["cat"]
    with pytest.raises(SystemExit, match="examples extra"):
        script.read_photograph(replace(cat, file="data/not_there.png"))
    with pytest.raises(SystemExit, match="examples extra"):
        script.read_photograph(replace(cat, package="no_such_package"))
    with pytest.raises(SystemExit, match="451 x 300"):
        script.read_photograph(replace(cat, size=(450, 300)))
