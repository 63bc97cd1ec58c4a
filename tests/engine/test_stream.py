"""The laws of streaming, on pictures in memory and Transforms whose answer is known."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_pictures import (
    Blur,
    Flat,
    Model,
    Output,
    Picture,
    Position,
    Same,
    bent_lut,
    colours,
    expected,
    run,
    soft_disc,
)

from hzcli.core import native
from hzcli.core.lut import Lut3D, identity_lut
from hzcli.core.transform import Reach
from hzcli.engine import stream
from hzcli.engine.plan import Plan
from hzcli.errors import BudgetError, MaskError, ModelError, PictureError, UsageError

CPU = torch.device("cpu")


@st.composite
def cases(draw):
    """A picture, a soft mask with background and foreground, and the height of the bands."""
    height, width = draw(st.integers(1, 61)), draw(st.integers(1, 47))
    depth, mask_depth = draw(st.sampled_from([8, 16])), draw(st.sampled_from([8, 16]))
    centre = draw(st.tuples(st.floats(0, 1), st.floats(0, 1)))
    radius = draw(st.floats(0.5, 30))
    mask = soft_disc(height, width, mask_depth, centre, radius)
    mask.flat[draw(st.integers(0, mask.size - 1))] = np.iinfo(mask.dtype).max
    mask.flat[draw(st.integers(0, mask.size - 1))] = 0
    if not mask.any() or (mask == np.iinfo(mask.dtype).max).all():
        mask = np.zeros((height + 1, width), mask.dtype)
        mask[0] = 1
    bands = draw(st.integers(1, 9)) * 4, draw(st.integers(1, 50))
    return colours(*mask.shape, depth, draw(st.integers(0, 99))), mask, bands


TRANSFORMS = st.sampled_from(
    [Blur(), Blur(align=4), Position(), Position(Reach(halo=3, align=4)), bent_lut()]
)


@settings(deadline=None, max_examples=60)
@given(cases(), TRANSFORMS, st.sampled_from([1.0, 0.37]))
def test_bands_equal_the_whole(case, transform, strength):
    """L1: however it is cut, the result is the definition's, to the rounding."""
    picture, mask, bands = case
    output, _ = run(picture, mask, transform, bands=bands, strength=strength)
    error = np.abs(output.array - expected(picture, mask, transform, strength))
    assert error.max() <= 0.5 + 0.05  # float32: 65535 x a few 2^-24


@settings(deadline=None, max_examples=60)
@given(cases(), st.sampled_from([Flat(0.3), Flat(2.0), Flat(-1.0), bent_lut()]))
def test_background_is_bit_identical(case, transform):
    """L2: where the mask is 0 the output holds the source's code, 8-bit ones times 257."""
    picture, mask, bands = case
    output, _ = run(picture, mask, transform, bands=bands)
    widened = picture.astype(np.uint16) * (257 if picture.dtype == np.uint8 else 1)
    assert (output.array[mask == 0] == widened[mask == 0]).all()


@pytest.mark.parametrize("depth", [8, 16])
def test_every_code_survives_where_the_model_changes_nothing(depth):
    """The way to float and back loses no code, neither of 8 bits nor of 16."""
    codes = np.arange(1 << depth)
    picture = np.stack([codes, codes[::-1], codes], -1).reshape(256, -1, 3)
    picture = picture.astype(np.uint8 if depth == 8 else np.uint16)
    mask = np.full(picture.shape[:2], 255, np.uint8)
    mask[0, 0], mask[:, -1:] = 0, 77
    for transform in (Same(), Lut3D(identity_lut(2)[None])):
        output, outcome = run(picture, mask, transform)
        scale = 257 if depth == 8 else 1
        assert (output.array == picture.astype(np.uint16) * np.uint16(scale)).all()
        assert any("no visible change" in warning for warning in outcome.warnings)


@pytest.mark.parametrize("depth", [8, 16])
def test_strength_zero_copies_and_asks_no_model(depth):
    picture, mask = colours(37, 29, depth), soft_disc(37, 29, 8, (0.5, 0.5), 9)
    output, model = Output(), Model(Flat(0.1))
    outcome = stream.harmonise(Picture(picture), Picture(mask), model, output, strength=0)
    assert (output.array == picture.astype(np.uint16) * (257 if depth == 8 else 1)).all()
    assert model.seen == []
    assert (outcome.change_mean, outcome.change_p99, outcome.warnings) == (0, 0, ())


def test_the_same_picture_twice_gives_the_same_bytes():
    """L7."""
    picture, mask = colours(203, 310, 16), soft_disc(203, 310, 16, (0.3, 0.4), 60)
    first, _ = run(picture, mask, Blur())
    second, _ = run(picture, mask, Blur())
    assert first.array.tobytes() == second.array.tobytes()


def test_the_thumbnail_does_not_depend_on_the_memory_allowed():
    picture, mask = colours(203, 310, 16), soft_disc(203, 310, 16, (0.3, 0.4), 60)
    seen = []
    for bands in ((4, 10), (1000, 1000)):
        with mock.patch.object(stream, "plan", return_value=Plan(*bands, 0, "")):
            model = Model(Same(), edge=32)
            stream.harmonise(Picture(picture), Picture(mask), model, Output())
            seen.append(model.seen[0])
    assert torch.equal(seen[0].rgb, seen[1].rgb) and torch.equal(seen[0].mask, seen[1].mask)
    assert seen[0].full == Picture(picture).size


def test_lut_mode_asks_for_the_table():
    picture, mask = colours(20, 30, 8), soft_disc(20, 30, 8, (0.5, 0.5), 6)
    output, outcome = run(picture, mask, Flat(0.0), mode="lut")
    assert np.abs(output.array - expected(picture, mask, bent_lut())).max() <= 0.55
    assert outcome.mode == "lut"


def test_tiles_without_foreground_are_never_computed():
    """What lies between far parts of the mask, in its box or in a tile's, costs nothing."""
    mask = np.zeros((100, 200), np.uint8)
    mask[2:6, 3:9], mask[90:92, 80:90], mask[93:95, 135:139] = 255, 9, 1
    computed = np.zeros(mask.shape, int)

    class Counting(Position):
        def apply(self, rgb, mask, window):
            computed[window.top : window.bottom, window.left : window.right] += 1
            return super().apply(rgb, mask, window)

    run(colours(*mask.shape, 8), mask, Counting(), bands=(64, 64))
    assert computed[mask > 0].all() and computed.max() == 1
    assert computed.sum() == (mask > 0).sum()


def test_change_is_counted_inside_the_mask_in_8_bit_levels():
    picture, mask = colours(90, 70, 8), soft_disc(90, 70, 8, (0.4, 0.6), 20)
    output, outcome = run(picture, mask, bent_lut(), bands=(16, 13))
    change = np.abs(output.array / 257 - picture)[mask > 0]
    assert outcome.change_mean == pytest.approx(change.mean(), abs=2e-3)
    assert outcome.change_p99 == pytest.approx(np.percentile(change, 99), abs=0.1)
    assert outcome.foreground == pytest.approx((mask / 255).mean(), abs=1e-9)


def test_metrics_compare_source_and_delivery_with_the_truth():
    from hzcli.metrics import measure

    picture, mask = colours(50, 40, 8), soft_disc(50, 40, 8, (0.4, 0.6), 9)
    truth = colours(50, 40, 16, seed=5)
    output, outcome = run(
        picture,
        mask,
        bent_lut(),
        bands=(8, 100),
        truth=Picture(truth),
        protocols=("standard", "hinet"),
    )
    for protocol in ("standard", "hinet"):
        got = outcome.metrics[protocol]
        assert got["before"] == pytest.approx(measure(picture, truth, mask, protocol), rel=1e-5)
        assert got["after"] == pytest.approx(measure(output.array, truth, mask, protocol), rel=1e-5)
    assert json.loads(json.dumps(outcome.as_dict(), allow_nan=False))["status"] == "done"


def test_an_outcome_is_json_even_where_a_figure_is_infinite():
    picture, mask = colours(20, 20, 8), soft_disc(20, 20, 8, (0.5, 0.5), 4)
    _, outcome = run(picture, mask, Same(), truth=Picture(picture), protocols=("standard",))
    assert outcome.metrics["standard"]["before"]["psnr"] == np.inf
    assert outcome.as_dict()["metrics"]["standard"]["before"]["psnr"] is None
    json.dumps(outcome.as_dict(), allow_nan=False)


def test_an_outcome_says_what_was_done():
    picture, mask = colours(20, 30, 16), soft_disc(20, 30, 8, (0.5, 0.5), 4)
    _, outcome = run(picture, mask, Flat(0.0))
    assert (outcome.input, outcome.mask, outcome.output) == ("picture.tif", "mask.png", "out.tif")
    assert (outcome.width, outcome.height, outcome.depth_in) == (30, 20, 16)
    stages = {"total", "thumbnail", "network", "read", "apply", "write"}
    assert stages <= set(outcome.seconds)
    assert "rows" in outcome.plan


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (np.zeros((9, 8), np.uint8), "empty"),
        (np.full((9, 8), 255, np.uint8), "whole picture"),
        (np.full((9, 8), 65535, np.uint16), "whole picture"),
        (np.ones((8, 9), np.uint8), "9 x 8 pixels"),
    ],
)
def test_a_mask_that_cannot_be_worked_with_is_refused(mask, words):
    output = Output()
    with pytest.raises(MaskError, match=words):
        stream.harmonise(Picture(colours(9, 8, 8)), Picture(mask), Model(Same()), output)
    assert output.bands == []


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (np.pad(np.full((99, 100), 255, np.uint8), ((1, 0), (0, 0))), "almost everything"),
        (np.pad(np.full((9, 8), 254, np.uint8), 5, constant_values=1), "nowhere 0"),
        (np.pad(np.full((1, 1), 9, np.uint8), 20), "tiny"),
    ],
)
def test_a_strange_mask_is_worked_with_and_remarked_on(mask, words):
    _, outcome = run(colours(*mask.shape, 8), mask, Flat(0.0))
    assert any(words in warning for warning in outcome.warnings)


def test_a_truth_of_another_size_is_refused():
    mask = soft_disc(9, 8, 8, (0.5, 0.5), 2)
    with pytest.raises(PictureError, match="truth") as caught:
        run(colours(9, 8, 8), mask, Same(), truth=Picture(colours(8, 9, 8)))
    assert not isinstance(caught.value, MaskError)


@pytest.mark.parametrize("options", [{"mode": "inr"}, {"strength": 1.5}, {"strength": -0.1}])
def test_unknown_options_are_refused(options):
    with pytest.raises(UsageError):
        run(colours(9, 8, 8), soft_disc(9, 8, 8, (0.5, 0.5), 2), Same(), **options)


@pytest.mark.parametrize("large", [False, True])
def test_a_model_that_gives_no_numbers_is_an_error_not_a_picture(large, monkeypatch):
    monkeypatch.setattr(native, "LEAST", 1 if large else 1 << 20)
    level = float("nan")
    with pytest.raises(ModelError, match="finite"):
        run(colours(9, 8, 8), soft_disc(9, 8, 8, (0.5, 0.5), 2), Flat(level))


def test_a_budget_below_the_smallest_band_is_an_error():
    with pytest.raises(BudgetError, match="allowed"):
        run(colours(9, 8, 8), soft_disc(9, 8, 8, (0.5, 0.5), 2), Same(), budget_bytes=1 << 20)


class Slow(Output):
    """A disk that looks at its rows late."""

    def write(self, rows):
        time.sleep(0.005)
        super().write(rows)


def test_a_band_is_not_overwritten_before_it_is_written():
    picture, mask = colours(60, 9, 16), soft_disc(60, 9, 8, (0.5, 0.5), 3)
    output = Slow()
    with mock.patch.object(stream, "plan", return_value=Plan(4, 99, 0, "")):
        stream.harmonise(Picture(picture), Picture(mask), Model(Same()), output)
    assert (output.array == picture).all()


class Failing(Picture):
    """Breaks in the middle of the second look, as a damaged file does."""

    def read(self, window):
        if len(self.rows_read) > 3:
            raise PictureError("picture.tif is damaged at row 40")
        return super().read(window)


def test_a_file_that_breaks_midway_is_that_error_and_leaves_no_thread():
    mask = soft_disc(90, 70, 8, (0.4, 0.6), 20)
    before = threading.active_count()
    with (
        pytest.raises(PictureError, match="row 40"),
        mock.patch.object(stream, "plan", return_value=Plan(8, 99, 0, "")),
    ):
        stream.harmonise(Failing(colours(90, 70, 8)), Picture(mask), Model(Same()), Output())
    assert threading.active_count() == before


class Full(Output):
    """A disk that is full after two bands."""

    def write(self, rows):
        if len(self.bands) == 2:
            raise PictureError("out.tif cannot be written: no space left")
        super().write(rows)


@pytest.mark.parametrize("rows", [8, 99])  # met while bands are left to send, and after the last
def test_a_disk_that_fills_is_that_error(rows):
    mask = soft_disc(90, 70, 8, (0.4, 0.6), 20)
    with (
        pytest.raises(PictureError, match="no space"),
        mock.patch.object(stream, "plan", return_value=Plan(rows, 99, 0, "")),
    ):
        stream.harmonise(Picture(colours(90, 70, 8)), Picture(mask), Model(Same()), Full())


FLAT = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np
from hzcli.core.window import Size
from hzcli.engine import stream
from memory_pictures import Blur, Model, high_water
from pathlib import Path

class Rule:
    path, depth = Path("rule.tif"), 16
    def __init__(self, size, channels):
        self.size, self.channels = size, channels
    def read(self, window):
        rows = np.arange(window.top, window.bottom, dtype=np.uint16)[:, None]
        columns = np.arange(window.left, window.right, dtype=np.uint16)
        if self.channels == 1:
            return (rows * 64 + columns) * ((columns > 300) & (columns < 2700))
        return np.repeat((rows * 97 + columns * 13)[..., None], 3, 2)

class Sink:
    def write(self, rows): pass

for height in map(int, sys.argv[2:]):
    size = Size(height, 3000)
    stream.harmonise(Rule(size, 3), Rule(size, 1), Model(Blur()), Sink())
    print(high_water())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads VmHWM from /proc")
def test_memory_is_flat_in_the_height():
    """L3: three times the rows (86 MB more of source, as much of output) take no more memory."""
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", FLAT, str(here), "2400", "7200"],
        cwd=here.parent.parent,
        # What glibc keeps of freed blocks for later grows for some bands, then stays: with this
        # it gives them back, and what is counted is what the engine holds.
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": str(1 << 20)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    low, high = map(int, done.stdout.split())
    assert high - low < 25, f"{low} MB at 2400 rows, {high} MB at 7200"
