"""A batch with several pictures at once: what one at a time gives, and nothing half-written."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from memory_pictures import Blur, Model, colours, soft_disc
from PIL import Image
from torch import Tensor

from hzcli.core.transform import Reach, Thumbnail
from hzcli.core.window import Size, Window
from hzcli.engine import batch, plan
from hzcli.engine.batch import Settings, run_batch
from hzcli.engine.delivery import FileSettings
from hzcli.engine.pairing import PairingRules, find
from hzcli.errors import BudgetError
from hzcli.report import Event, Result

HEIGHT, WIDTH = 300, 150
NAMES = ("a", "b", "deep/c", "deep/d", "deep/er/e", "f")
PATIENCE_S = 20


@dataclass(frozen=True)
class Gain:
    """A gain that differs from picture to picture; `begun` is told of each tile."""

    gain: float
    begun: Any = None

    reach = Reach(bytes_per_pixel=12)

    def apply(self, rgb: Tensor, mask: Tensor, window: Window) -> Tensor:
        if self.begun is not None:
            self.begun()
        return rgb * self.gain


class Network:
    """Answers with the picture's own mean; keeps which threads it was called by."""

    thumbnail_edge = 16

    def __init__(self) -> None:
        self.threads: set[threading.Thread] = set()
        self.counts: list[int] = []

    def predict(self, thumb: Thumbnail) -> object:
        self.threads.add(threading.current_thread())
        self.counts.append(torch.get_num_threads())
        return Gain(0.5 + float(thumb.rgb.mean()) / 2)


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    """Six pictures with masks, of several formats, one that is broken, one without a mask."""
    for index, name in enumerate(NAMES):
        path = tmp_path / "shots" / f"{name}.{'tif' if index % 2 else 'png'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(colours(HEIGHT, WIDTH, 8, index)).save(path)
        mask = soft_disc(HEIGHT, WIDTH, 8, (0.5, 0.5), 90 + 9 * index)
        Image.fromarray(mask).save(path.with_name(f"{path.stem}_m.png"))
    (tmp_path / "shots/bad.png").write_bytes(b"no picture")
    Image.fromarray(mask).save(tmp_path / "shots/bad_m.png")
    Image.fromarray(colours(HEIGHT, WIDTH, 8)).save(tmp_path / "shots/bare.png")
    return tmp_path / "shots"


@pytest.fixture
def low_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bands of 64 rows, five a picture, and tiles of 64 columns."""
    monkeypatch.setattr(plan, "BAND_TARGET", 1)
    monkeypatch.setattr(plan, "TILE_TARGET", 1)


def run(
    shots: Path, output: Path, jobs: int | None, model: object = None, **settings: object
) -> tuple[Result, list[Event]]:
    events: list[Event] = []
    found = find([shots], PairingRules(mask_suffix="_m", output=output))
    plain = FileSettings(metadata="none")  # which would say when the picture was made
    chosen = Settings(output, jobs=jobs, files=plain, **settings)  # type: ignore[arg-type]
    return run_batch(found, model or Network(), chosen, events.append), events


def files(folder: Path) -> dict[str, bytes]:
    """What was written, but for the reports."""
    found = {str(p.relative_to(folder)): p for p in folder.rglob("*") if p.is_file()}
    return {name: p.read_bytes() for name, p in found.items() if not name.startswith("report.")}


def rows(folder: Path) -> list[dict[str, Any]]:
    """The report's rows, without times, nor what memory there was and where the results lie."""
    pictures = json.loads((folder / "report.json").read_text())["pictures"]
    for row in pictures:
        del row["seconds"], row["output"], row["plan"]
    return pictures


def test_bytes_rows_and_order_are_those_of_one_at_a_time(
    shots: Path, tmp_path: Path, low_bands: None
) -> None:
    """Also with pictures among them that cannot be done."""
    first, told = run(shots, tmp_path / "one", 1)
    second, told_at_once = run(shots, tmp_path / "three", 3)

    assert sorted(row.status for row in first.outcomes) == ["done"] * 6 + ["failed"] * 2
    assert len(files(tmp_path / "one")) == 6
    assert files(tmp_path / "three") == files(tmp_path / "one")
    assert rows(tmp_path / "three") == rows(tmp_path / "one")
    assert [event.kind for event in told_at_once] == [event.kind for event in told]
    assert [event.text for event in told_at_once] == [event.text for event in told]
    assert second.exit_code == first.exit_code == 1


@pytest.mark.parametrize("threads", [1, 2])
def test_nothing_depends_on_torchs_threads(threads: int, shots: Path, tmp_path: Path) -> None:
    """A Transform that averages over surroundings gives the same bytes and figures beside others,
    where fewer threads work on tiles that are large enough for several."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        run(shots, tmp_path / "one", 1, Model(Blur()))
        run(shots, tmp_path / "three", 3, Model(Blur()))
        with ThreadPoolExecutor(1) as pool:  # also in those that begin later
            counts = [torch.get_num_threads(), pool.submit(torch.get_num_threads).result()]
        assert counts == [threads, threads]
    finally:
        torch.set_num_threads(before)
    assert files(tmp_path / "three") == files(tmp_path / "one") != {}
    assert rows(tmp_path / "three") == rows(tmp_path / "one")


def test_the_network_runs_in_one_thread_with_all_of_torchs(shots: Path, tmp_path: Path) -> None:
    """The one that called, as if there were but one picture."""
    network = Network()
    run(shots, tmp_path / "out", 3, network)

    assert network.threads == {threading.current_thread()}
    assert network.counts == [torch.get_num_threads()] * 6


def test_several_are_worked_on_at_once(shots: Path, tmp_path: Path) -> None:
    """No picture's first tile is done before another's has begun."""
    both = threading.Barrier(2, timeout=PATIENCE_S)

    class Meets(Network):
        def predict(self, thumb: Thumbnail) -> object:
            return Gain(0.5, both.wait)

    result, _ = run(shots, tmp_path / "out", 2, Meets())
    assert result.count("done") == 6


@pytest.mark.parametrize("kind", [BudgetError, MemoryError])
def test_a_picture_that_finds_no_memory_beside_others_is_done_again_alone(
    kind: type[Exception], shots: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is told of the first try, and the bytes are those of one at a time."""
    run(shots, tmp_path / "one", 1)
    tries: list[int] = []

    class Starves(Network):
        def predict(self, thumb: Thumbnail) -> object:
            return Gain(0.5 + float(thumb.rgb.mean()) / 2, starve)

    def starve() -> None:
        tries.append(plan.sharing())
        if plan.sharing() > 1:
            raise kind("too little")

    result, events = run(shots, tmp_path / "three", 3, Starves())
    assert (set(tries), tries.count(3)) == ({1, 3}, 6)
    assert result.count("done") == 6
    assert sum(event.kind == "row" for event in events) == 8
    assert files(tmp_path / "three") == files(tmp_path / "one")


def test_a_picture_too_large_for_the_budget_fails_once(shots: Path, tmp_path: Path) -> None:
    """Alone it does not fit either: that is its fate."""
    result, _ = run(shots, tmp_path / "out", 3, budget_bytes=1)

    codes = [row.error["code"] for row in result.outcomes if row.error]
    assert codes.count("BudgetError") == 6
    assert files(tmp_path / "out") == {}
    assert not (tmp_path / "out/deep").exists()


def test_what_is_left_of_the_budget_is_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture that fits with 30 MB fits beside two others with 90 MB, and with no less."""
    monkeypatch.setattr(plan, "resident_bytes", lambda: 0)

    def fits(budget: int, pictures: int) -> bool:
        with plan.shared(pictures):
            try:
                plan.plan(Size(9, 1 << 16), None, Reach(), budget << 20)
            except BudgetError:
                return False
        return True

    least = next(budget for budget in range(1, 200) if fits(budget, 1))
    assert fits(3 * least, 3)
    assert not fits(3 * (least - 1), 3)
    assert plan.sharing() == 1


def test_how_many_at_once_when_nobody_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as cores, no more than the memory is for, and one at least."""
    monkeypatch.setattr(plan, "resident_bytes", lambda: 1 << 30)
    monkeypatch.setattr(plan, "cores", lambda: 4)
    assert plan.at_once((1 << 30) + 4 * plan.PICTURE_BYTES) == 4
    assert plan.at_once((1 << 30) + 3 * plan.PICTURE_BYTES) == 3
    assert plan.at_once(1) == 1
    monkeypatch.setattr(plan, "cores", lambda: 64)
    assert plan.at_once(1 << 60) == plan.MOST_AT_ONCE


@pytest.mark.parametrize(("jobs", "told"), [(None, 3), (2, 2), (1, 1), (50, 8)])
def test_the_report_says_how_many_at_once(
    jobs: int | None, told: int, shots: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was asked for, or what suits the machine, but no more than there are pictures."""
    monkeypatch.setattr(batch, "at_once", lambda budget: 3)
    result, _ = run(shots, tmp_path / "out", jobs)
    assert result.summary["settings"]["jobs"] == told


@pytest.mark.parametrize("jobs", [1, 2, 3])
def test_an_interrupted_batch_leaves_whole_files_and_goes_on(
    jobs: int, shots: Path, tmp_path: Path, low_bands: None
) -> None:
    """Ctrl-C in the fourth picture's network, while others are in the middle of theirs."""
    run(shots, tmp_path / "whole", 1)
    output = tmp_path / "out"
    begun = threading.Event()
    seen: list[Thumbnail] = []

    def slowly() -> None:
        begun.set()
        time.sleep(0.02)

    class Interrupted(Network):
        def predict(self, thumb: Thumbnail) -> object:
            seen.append(thumb)
            if len(seen) < 4:
                return Gain(0.5 + float(thumb.rgb.mean()) / 2, slowly)
            assert begun.wait(PATIENCE_S)
            assert list(output.rglob(".*.part")), "files have been begun"
            raise KeyboardInterrupt

    result, events = run(shots, output, jobs, Interrupted())

    assert result.interrupted and result.exit_code == 130
    there = files(output)
    assert not [name for name in there if name.endswith(".part")]
    assert there == {name: files(tmp_path / "whole")[name] for name in there}
    done = {str(Path(row.output).relative_to(output)) for row in result.outcomes if row.output}
    assert done == set(there), "told of, and no others"
    assert [e.row for e in events if e.row] == list(result.outcomes)
    assert json.loads((output / "report.json").read_text())["interrupted"] is True
    assert all(any(folder.iterdir()) for folder in output.rglob("*") if folder.is_dir())

    again, _ = run(shots, output, jobs)
    assert again.count("kept") == len(there)
    assert files(output) == files(tmp_path / "whole")
    assert rows(output) != []
    assert [row.change_mean for row in again.outcomes] == [
        row["change_mean"] for row in rows(tmp_path / "whole")
    ]


def test_a_picture_in_the_middle_is_given_up(shots: Path, tmp_path: Path, low_bands: None) -> None:
    """Its thread is not waited for to the end of the picture or the band, but of the tile."""
    tiles: list[int] = []
    begun = threading.Event()

    def tile() -> None:
        tiles.append(0)
        begun.set()
        time.sleep(0.3)

    class Interrupted(Network):
        def predict(self, thumb: Thumbnail) -> object:
            if not self.counts:
                return [self.counts.append(0), Gain(0.5, tile)][1]
            assert begun.wait(PATIENCE_S)
            raise KeyboardInterrupt

    result, _ = run(shots, tmp_path / "out", 2, Interrupted())

    assert result.count("done") == 0
    assert 1 <= len(tiles) <= 2
    assert files(tmp_path / "out") == {}
