"""`hz run` with several models: a folder each, and one comparison; and --background."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from made_shots import Darker, Hz, colours, contents, disc, save, shot

import hzcli.models
from hzcli import catalog
from hzcli.errors import ModelError

RUN = ("run", "shots", "--mask-suffix", "_m", "--truth-suffix", "_gt")


class Brighter(Darker):
    """As `Darker`, but for the worse."""

    card = SimpleNamespace(id="brighter")

    def predict(self, thumb: Any) -> Any:
        from hzcli.core.lut import Lut3D, identity_lut

        return Lut3D(1.5 * identity_lut(2)[None])

    predict_lut = predict


class Towards(Darker):
    """Takes the mean colour of another picture."""

    takes_reference = True
    card = SimpleNamespace(id="towards")

    def predict(self, thumb: Any) -> Any:
        from hzcli.core.lut import Lut3D, identity_lut

        assert thumb.reference is not None
        mean = thumb.reference.mean((2, 3))[:, :, None, None, None]
        return Lut3D(0 * identity_lut(2)[None] + mean)

    predict_lut = predict


@pytest.fixture
def several(hz: Hz, monkeypatch: pytest.MonkeyPatch) -> Hz:
    """Three models by name, the third of which is broken; all are installed."""
    kinds = {"darker": Darker, "brighter": Brighter, "towards": Towards}

    def load(name: Any, device: Any) -> Any:
        if name not in kinds:
            raise ModelError(f"there is no model {name!r}", "see hz models")
        return kinds[name]()

    monkeypatch.setattr(hzcli.models, "load", load)
    cards = [
        catalog.WeightsCard(id=name, model="hinet", file="") for name in ("darker", "brighter")
    ]
    monkeypatch.setattr(catalog, "installed", lambda folder=None: cards)
    return hz


def two(folder: Path) -> None:
    shot(folder / "shots/a.png", truth="_gt.png")
    shot(folder / "shots/deep/b.png", truth="_gt.png")


@pytest.mark.parametrize("words", [("-m", "darker", "-m", "brighter"), ("--model", "all")])
def test_each_model_has_its_folder_and_one_report_compares(
    words: tuple[str, ...], several: Hz, tmp_path: Path
) -> None:
    """Results and reports as of single runs, one row a model above."""
    two(tmp_path)

    said = several(*RUN, *words)

    assert said.exit_code == 0
    report = json.loads((tmp_path / "harmonized/report.json").read_text())
    rows = {row["model"]: row for row in report["models"]}
    assert list(rows) == ["darker", "brighter"]
    for name, row in rows.items():
        own = json.loads((tmp_path / f"harmonized/{name}/report.json").read_text())
        assert (tmp_path / f"harmonized/{name}/deep/b.tif").is_file()
        figures = row["metrics"]["standard"]
        assert figures == own["means"]["standard"]["all"]
        assert figures["ratio"] == figures["after"]["fmse"] / figures["before"]["fmse"]
        times = [picture["seconds"]["total"] for picture in own["pictures"]]
        assert row["seconds"] == pytest.approx(np.mean(times))
        assert (row["done"], row["failed"], row["status"]) == (2, 0, "done")
    ratios = {name: row["metrics"]["standard"]["ratio"] for name, row in rows.items()}
    assert ratios["darker"] < 0.1 < 1 < ratios["brighter"]
    assert [row["metrics"]["standard"]["worse"] for row in rows.values()] == [0, 2]
    with open(tmp_path / "harmonized/report.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert [line["model"] for line in table] == ["darker", "brighter"]
    assert float(table[1]["standard_ratio"]) == pytest.approx(ratios["brighter"])
    assert max(len(line) for line in said.out.splitlines()) <= 80
    for word in ("darker", "brighter", "ratio", "worse", "->"):
        assert word in said.out


def test_results_are_those_of_single_runs(several: Hz, tmp_path: Path) -> None:
    """A comparison changes no pixel."""
    two(tmp_path)
    several(*RUN, "-m", "darker", "-m", "brighter", "--no-report")
    several(*RUN, "-m", "brighter", "-o", "alone", "--no-report")

    assert contents(tmp_path / "harmonized/brighter") == contents(tmp_path / "alone")
    assert not (tmp_path / "harmonized/report.json").exists()


def test_a_failing_model_does_not_stop_the_others(several: Hz, tmp_path: Path) -> None:
    """It has its row and its reason; the code is 1, and 4 where no model works."""
    two(tmp_path)

    said = several(*RUN, "-m", "nope", "-m", "darker", "--json")

    assert said.exit_code == 1
    assert "there is no model 'nope'" in said.err
    summary = said.lines[-1]
    assert (summary["status"], summary["exit_code"]) == ("partial", 1)
    assert [row["status"] for row in summary["models"]] == ["failed", "done"]
    assert summary["models"][0]["error"]["code"] == "ModelError"
    assert [line["model"] for line in said.lines[:-1]] == ["darker", "darker"]
    none = several(*RUN, "-m", "nope", "-m", "neither", "-o", "void")
    assert none.exit_code == 4
    assert not (tmp_path / "void").exists()


def test_a_failed_picture_is_counted_for_each_model(several: Hz, tmp_path: Path) -> None:
    """One picture without a mask, two models: code 1, one failure in each row."""
    two(tmp_path)
    shot(tmp_path / "shots/c.png", mask=None)

    said = several(*RUN, "--model", "all", "--json")

    assert said.exit_code == 1
    assert [row["failed"] for row in said.lines[-1]["models"]] == [1, 1]
    assert said.lines[-1]["counts"]["done"] == 4


def test_without_truths_the_change_is_compared(several: Hz, tmp_path: Path) -> None:
    """No metrics: how much was changed, and how long it took."""
    shot(tmp_path / "shots/a.png")

    said = several("run", "shots", "--mask-suffix", "_m", "--model", "all")

    assert said.exit_code == 0
    assert "change" in said.out and "fMSE" not in said.out


def test_a_dry_run_foretells_every_folder(several: Hz, tmp_path: Path) -> None:
    """One fate a picture and model; nothing is written."""
    two(tmp_path)

    said = several(*RUN, "--model", "all", "-n", "--json")

    assert [line["output"] for line in said.lines[:-1]] == [
        f"harmonized/{model}/{name}.tif"
        for model in ("darker", "brighter")
        for name in ("a", "deep/b")
    ]
    assert not (tmp_path / "harmonized").exists()


def test_one_model_writes_where_it_always_did(several: Hz, tmp_path: Path) -> None:
    """Named once, also if named twice: no folder of its own."""
    two(tmp_path)

    assert several(*RUN, "-m", "darker", "-m", "darker").exit_code == 0

    assert (tmp_path / "harmonized/a.tif").is_file()


def test_the_background_may_be_another_picture(several: Hz, tmp_path: Path) -> None:
    """The model sees it; its size does not matter; the report names it."""
    import tifffile

    shot(tmp_path / "shots/a.png")
    red = np.zeros((7, 13, 3), np.uint8) + np.uint8([204, 0, 51])
    save(tmp_path / "red.png", red)

    said = several("run", "shots", "--mask-suffix", "_m", "-m", "towards",
                   "--background", "red.png")  # fmt: skip

    assert said.exit_code == 0
    result = tifffile.imread(tmp_path / "harmonized/a.tif")
    assert np.abs(result[disc() == 255] / 257.0 - [204, 0, 51]).max() < 1
    assert (result[disc() == 0] == colours()[disc() == 0].astype(np.uint16) * 257).all()
    report = json.loads((tmp_path / "harmonized/report.json").read_text())
    assert report["settings"]["background"] == "red.png"


def test_models_that_take_no_background_say_so(several: Hz, tmp_path: Path) -> None:
    """Alone: 2, nothing written. Among others: its own failure. A file that is none: 2."""
    shot(tmp_path / "shots/a.png")
    save(tmp_path / "red.png", colours())
    words = ("run", "shots", "--mask-suffix", "_m", "--background")

    alone = several(*words, "red.png", "-m", "darker")
    assert alone.exit_code == 2
    assert "takes no --background" in alone.err
    assert not (tmp_path / "harmonized").exists()
    assert several(*words, "nowhere.png", "-m", "towards").exit_code == 2

    both = several(*words, "red.png", "-m", "darker", "-m", "towards", "--json")
    assert both.exit_code == 1
    assert [row["status"] for row in both.lines[-1]["models"]] == ["failed", "done"]
