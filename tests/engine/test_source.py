"""Transforms that see the whole picture first: `bind`, and where their results are kept."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from memory_pictures import Model, Output, Picture, colours, soft_disc
from torch import Tensor

from hzcli.core.transform import Reach, Source, Thumbnail
from hzcli.core.window import Size, Window, bands
from hzcli.engine import plan as planning
from hzcli.engine import source as sources
from hzcli.engine import stream
from hzcli.engine.plan import Plan
from hzcli.errors import BudgetError, UsageError

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Mirrored:
    """Colours of the picture turned upside down: no band could find them by itself."""

    kept: Tensor | None = None
    reach: Reach = field(default_factory=Reach)

    def bind(self, source: Source) -> Mirrored:
        kept = source.scratch(3, source.size.height, source.size.width)
        for window in bands(source.size, 7):
            kept[:, window.top : window.bottom] = source.read(window)[0][0]
        return replace(self, kept=kept)

    def apply(self, rgb: Tensor, mask: Tensor, window: Window) -> Tensor:
        assert self.kept is not None
        size = window.size
        rows = slice(size.height - window.bottom, size.height - window.top)
        return self.kept[None, :, rows, window.left : window.right].flip(2)


@pytest.mark.parametrize("room", [0, 1 << 30])
@pytest.mark.parametrize("depth", [8, 16])
def test_a_bound_transform_sees_the_whole_picture(room: int, depth: int) -> None:
    """Results in memory and in a file alike, through the engine, in bands."""
    picture, mask = colours(53, 41, depth), soft_disc(53, 41, 8, (0.5, 0.5), 14)
    output = Output()
    with (
        mock.patch.object(stream, "plan", return_value=Plan(8, 16, 0, "")),
        mock.patch.object(stream, "room", return_value=room),
    ):
        outcome = stream.harmonise(
            Picture(picture), Picture(mask, "mask.png"), Model(Mirrored()), output
        )
    full = (1 << depth) - 1
    source, soft = picture / full, (mask / 255)[..., None]
    expected = 65535 * (source + soft * (source[::-1] - source))
    assert np.abs(output.array - expected).max() <= 0.55
    assert outcome.seconds["bind"] > 0


def source(height: int = 40, width: int = 30, room: int = 0) -> sources.Source:
    picture, mask = colours(height, width, 16), soft_disc(height, width, 8, (0.5, 0.5), 9)
    return sources.Source(Picture(picture), Picture(mask), (3, 9, 2, 8), CPU, room)


def test_a_window_is_read_as_a_transform_sees_it() -> None:
    picture, mask = colours(40, 30, 16), soft_disc(40, 30, 8, (0.5, 0.5), 9)
    with source() as opened:
        assert opened.size == Size(40, 30)
        assert opened.box == Window(3, 9, 2, 8, Size(40, 30))
        rgb, soft = opened.read(Window(4, 20, 5, 28, opened.size))
    assert rgb.shape == (1, 3, 16, 23) and rgb.dtype == torch.float32 and rgb.is_contiguous()
    np.testing.assert_allclose(
        rgb[0].permute(1, 2, 0).numpy(), picture[4:20, 5:28] / 65535, atol=1e-7
    )
    np.testing.assert_allclose(soft[0, 0].numpy(), mask[4:20, 5:28] / 255, atol=1e-7)


def test_results_go_to_a_file_when_there_is_no_room() -> None:
    """First come, first kept in memory; what was written survives `relax` and the end."""
    with source(room=4 * 600) as opened:
        with mock.patch.object(sources.tempfile, "TemporaryFile") as files:
            small = opened.scratch(10, 50)
        assert not files.called
        plain = sources.tempfile.TemporaryFile
        with mock.patch.object(sources.tempfile, "TemporaryFile", side_effect=plain) as files:
            large = opened.scratch(10, 20)
        assert files.call_count == 1
        large[:] = torch.arange(200).view(10, 20)
        small.fill_(1)
        opened.relax()
        assert torch.equal(large.flatten(), torch.arange(200).float())
    assert torch.equal(large.flatten(), torch.arange(200).float())


def test_files_leave_nothing_behind(tmp_path: Path) -> None:
    with mock.patch.object(sources.tempfile, "tempdir", str(tmp_path)), source() as opened:
        kept = opened.scratch(3, 1000)
        kept.fill_(2)
    del kept
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="asks for the space ahead on Linux")
def test_a_full_disk_is_an_error_before_the_work() -> None:
    full = OSError(28, "No space left on device")
    with (
        mock.patch.object(sources.os, "posix_fallocate", side_effect=full),
        pytest.raises(OSError, match="No space"),
        source() as opened,
    ):
        opened.scratch(100)


def test_a_budget_too_small_is_told_before_binding() -> None:
    picture, mask = colours(60, 40, 8), soft_disc(60, 40, 8, (0.5, 0.5), 9)
    with (
        mock.patch.object(Mirrored, "bind", side_effect=AssertionError("bound")),
        pytest.raises(BudgetError),
    ):
        stream.harmonise(
            Picture(picture), Picture(mask), Model(Mirrored()), Output(), budget_bytes=1 << 20
        )


def test_room_is_half_of_what_is_left() -> None:
    with mock.patch.object(planning, "resident_bytes", return_value=100 << 20):
        assert planning.room(300 << 20) == 100 << 20
        assert planning.room(300 << 20, 50 << 20) == 75 << 20
        assert planning.room(50 << 20) == 0


HEIGHT_TEST = """
import sys
from memory_pictures import Model, high_water
from test_source import Mirrored
import numpy as np
from hzcli.core.window import Size
from hzcli.engine import plan as planning
from hzcli.engine import stream
height = int(sys.argv[1])
class Made:
    size, depth, path = Size(height, 2000), 8, "made"
    def __init__(self, channels): self.channels = channels
    def read(self, w):
        codes = np.full((w.height, w.width, 3)[: 3 if self.channels else 2], 90, np.uint8)
        if not self.channels:
            codes[:, :500] = 0
        return codes
class Gone:
    path = "gone"
    def write(self, rows): pass
held = planning.resident_bytes()  # before the first picture: the baseline is the machine's
budget = held + (190 << 20)
stream.harmonise(Made(3), Made(0), Model(Mirrored()), Gone(), budget_bytes=budget)
print(high_water(), high_water() - (held >> 20))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads VmHWM from /proc")
def test_what_a_transform_keeps_is_no_memory_of_ours() -> None:
    """L3: results of 115 and of 345 MB, both above the budget's room, peak alike."""
    peaks = []
    for height in (5_000, 15_000):
        done = subprocess.run(
            [sys.executable, "-c", HEIGHT_TEST, str(height)],
            cwd=Path(__file__).parent,
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        peaks.append([int(value) for value in done.stdout.split()])
    assert peaks[1][1] - peaks[0][1] < 40, peaks
    assert peaks[1][1] < 190, peaks


# --- What else a model may ask to see -------------------------------------------------------


class Asking(Model):
    """Wants all that there is."""

    thumbnail_filter = "triangle"
    needs_closeup = True
    takes_reference = True
    mask_edges = (5,)


def test_a_model_is_shown_what_it_asks_for() -> None:
    picture, mask = colours(50, 70, 8), soft_disc(50, 70, 8, (0.5, 0.5), 9)
    other = colours(33, 90, 16, seed=4)
    model = Asking(Mirrored(), edge=16)
    stream.harmonise(Picture(picture), Picture(mask), model, Output(), reference=Picture(other))
    thumb = model.seen[0]
    assert isinstance(thumb, Thumbnail) and thumb.closeup is not None
    assert thumb.closeup.rgb.shape == (1, 3, 16, 16)
    assert thumb.reference is not None and thumb.reference.shape == (1, 3, 16, 16)
    assert thumb.masks is not None and thumb.masks[5].shape == (1, 1, 5, 5)


def test_a_reference_needs_a_model_that_takes_one() -> None:
    picture, mask = colours(50, 70, 8), soft_disc(50, 70, 8, (0.5, 0.5), 9)
    with pytest.raises(UsageError, match="background"):
        stream.harmonise(
            Picture(picture), Picture(mask), Model(Mirrored()), Output(), reference=Picture(picture)
        )
