"""Many pictures: settings that reach the engine, failures that stay alone, the report's sums."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import pytest
from memory_pictures import Model, bent_lut, colours, soft_disc
from PIL import Image

from hzcli import report
from hzcli.engine import fates, stream
from hzcli.engine.batch import Settings, run_batch
from hzcli.engine.outcome import Outcome
from hzcli.engine.pairing import PairingRules, find
from hzcli.io.metadata.ladder import Ladder
from hzcli.report import Event, Result


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    """Three pictures with masks."""
    for name in ("a", "b", "c"):
        Image.fromarray(colours(20, 30, 8)).save(tmp_path / f"{name}.png")
        mask = soft_disc(20, 30, 8, (0.5, 0.5), 5)
        Image.fromarray(mask).save(tmp_path / f"{name}_m.png")
    return tmp_path


def run(shots: Path, model: object = None, **settings: object) -> tuple[Result, list[Event]]:
    """Harmonise the three into `out`."""
    events: list[Event] = []
    jobs = find([shots], PairingRules(mask_suffix="_m", output=shots / "out"))
    result = run_batch(
        jobs, model or Model(bent_lut()), Settings(shots / "out", **settings), events.append
    )
    return result, events


def test_events_tell_the_run_as_it_goes(shots: Path) -> None:
    """How many, then the start and the row of each."""
    result, events = run(shots)

    assert [event.kind for event in events] == ["begin"] + ["start", "row"] * 3
    assert events[0].count == 3
    assert [event.row for event in events if event.row] == list(result.outcomes)
    assert (result.status, result.exit_code) == ("success", 0)


def test_settings_reach_the_engine(shots: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mode, strength, device and budget are handed on; protocols only where a truth is."""
    seen: list[dict] = []

    def harmonise(*files: object, **settings: object) -> Outcome:
        seen.append(settings)
        raise RuntimeError("enough")

    monkeypatch.setattr(stream, "harmonise", harmonise)
    run(shots, mode="lut", strength=0.25, device="cpu", budget_bytes=10**9, protocols=("hinet",))

    wanted = {
        "mode": "lut", "strength": 0.25, "device": "cpu", "budget_bytes": 10**9,
        "truth": None, "protocols": (),
    }  # fmt: skip
    assert {name: seen[0][name] for name in wanted} == wanted
    assert seen[0]["colour"].identity


def test_a_disc_that_is_full_is_said_in_words(shots: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the system names what it was about; the next picture is tried."""
    calls = []

    def harmonise(*files: object, **settings: object) -> Outcome:
        calls.append(files)
        raise OSError(28, "No space left on device", "out/a.tif")

    monkeypatch.setattr(stream, "harmonise", harmonise)
    result, _ = run(shots)

    assert len(calls) == 3
    assert (result.status, result.exit_code) == ("error", 1)
    error = result.outcomes[0].as_dict()["error"]
    assert "No space left on device (out/a.tif)" in error["message"]


def test_an_interrupt_keeps_what_is_finished(shots: Path) -> None:
    """Ctrl-C in the second picture: one row, code 130, and the report says so."""

    class Interrupted(Model):
        def predict(self, thumb):
            if len(self.seen) == 1:
                raise KeyboardInterrupt
            return super().predict(thumb)

    result, _ = run(shots, Interrupted(bent_lut()))

    assert [row.status for row in result.outcomes] == ["done"]
    assert (result.status, result.exit_code) == ("partial", 130)
    assert sorted(path.name for path in (shots / "out").iterdir()) == [
        "a.tif", "report.csv", "report.json",
    ]  # fmt: skip


def test_an_interrupt_that_comes_as_another_error_is_one(shots: Path) -> None:
    """As from a library that it ends while it starts, or from tidying up after it."""

    class Interrupted(Model):
        def predict(self, thumb):
            try:
                raise KeyboardInterrupt
            except KeyboardInterrupt as error:
                raise ImportError("initialization failed") from error

    result, _ = run(shots, Interrupted(bent_lut()))

    assert (result.interrupted, result.exit_code, result.outcomes) == (True, 130, ())


@pytest.mark.parametrize("where", [(report, "write"), (Ladder, "close")], ids=["report", "tools"])
def test_interrupted_when_all_is_done_the_report_is_written(
    shots: Path, monkeypatch: pytest.MonkeyPatch, where: tuple[object, str]
) -> None:
    """Ctrl-C comes once, as the last thing is done: it must not cost what all pictures gave."""
    thing, name = where
    real, calls = getattr(thing, name), []

    def interrupted(*words: object, **named: object) -> object:
        calls.append(words)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return real(*words, **named)

    monkeypatch.setattr(thing, name, interrupted)
    result, _ = run(shots)

    assert (result.exit_code, result.count("done")) == (130, 3)
    assert len(report.previous(shots / "out")) == 3


def test_a_report_that_cannot_be_written_is_a_warning(
    shots: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pictures are done; that is what counts."""

    def write(*anything: object, **named: object) -> list[Path]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(report, "write", write)
    result, events = run(shots)

    assert result.exit_code == 0
    assert any(event.kind == "warning" and "Permission" in event.text for event in events)


def test_kept_results_carry_their_figures_wherever_the_folder_is_seen_from(
    shots: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The earlier report is read by paths inside the output folder."""
    first, _ = run(shots)
    monkeypatch.chdir(shots)
    jobs = find([Path(".")], PairingRules(mask_suffix="_m", output=Path("out")))
    second = run_batch(jobs, Model(bent_lut()), Settings(Path("out")), lambda event: None)

    assert [row.status for row in second.outcomes] == ["kept"] * 3
    assert [row.change_mean for row in second.outcomes] == [
        row.change_mean for row in first.outcomes
    ]


def test_a_strangers_report_is_no_report(shots: Path) -> None:
    """What lies there under the same name is not trusted."""
    (shots / "out").mkdir()
    for text in ("{", "[]", '{"pictures": [{"output": "x"}]}', '{"output": 1, "pictures": 2}'):
        (shots / "out/report.json").write_text(text)
        assert report.previous(shots / "out") == {}


@pytest.mark.parametrize(
    ("share", "name"),
    [(0.0, "0-5 %"), (0.0499, "0-5 %"), (0.05, "5-15 %"), (0.15, "15-100 %"), (1.0, "15-100 %")],
)
def test_bins_of_the_foreground_share(share: float, name: str) -> None:
    """A bin begins with its lower bound, and the last one holds 100 %."""
    assert report.ratio_bin(share) == name


def test_means_over_pictures_and_by_foreground_share() -> None:
    """By hand: two small foregrounds, one large; an infinite PSNR is left out of its mean."""

    def row(share: float, before: float, after: float, psnr: float = 30.0) -> dict:
        sides = {"before": {"fmse": before, "psnr": 20.0}, "after": {"fmse": after, "psnr": psnr}}
        return {"foreground": share, "metrics": {"standard": sides}}

    rows = [row(0.01, 100, 50), row(0.04, 300, 100, math.inf), row(0.5, 50, 30, 40.0)]
    means = report.means([*rows, {"foreground": 0.2, "metrics": {}}])["standard"]

    assert list(means) == ["all", "0-5 %", "15-100 %"]
    assert means["all"]["pictures"] == 3
    assert means["all"]["before"] == {"fmse": 150, "psnr": 20}
    assert means["all"]["after"] == {"fmse": 60, "psnr": 35}
    assert means["0-5 %"]["after"] == {"fmse": 75, "psnr": 30}


def test_status_and_code_follow_from_the_rows() -> None:
    """Never set by hand: success, partial, error; 0, 1, 130."""

    def result(*statuses: str, interrupted: bool = False) -> tuple[str, int]:
        rows = [Outcome(input="x", status=status) for status in statuses]
        done = Result("run", rows, interrupted=interrupted)
        return done.status, done.exit_code

    assert result("done", "kept") == ("success", 0)
    assert result("done", "failed") == ("partial", 1)
    assert result("failed", "failed") == ("error", 1)
    assert result("done", interrupted=True) == ("partial", 130)


def test_an_exhausted_accelerator_is_said_in_words() -> None:
    """torch's own class is known by its name, so that torch need not be."""
    kind = type("OutOfMemoryError", (RuntimeError,), {})
    job = SimpleNamespace(composite="x.jpg", mask=None, warnings=())

    error = fates.failed(job, kind("CUDA out of memory")).error

    assert error is not None and "--memory" in error["hint"]
