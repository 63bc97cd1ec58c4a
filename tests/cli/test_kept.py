"""Results that are kept although this run would have made them otherwise."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from made_shots import Darker, Hz, Said, contents, disc, save, shot

from hzcli import catalog

RUN = ("run", "shots", "--mask-suffix", "_m")
REPORT = Path("harmonized/report.json")


@pytest.fixture
def named(hz: Hz, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hz:
    """Two pictures; the card of a model is called as the model was asked for."""
    import hzcli.models

    def load(name: object, device: object) -> Darker:
        model = Darker()
        model.card = SimpleNamespace(id=str(name))
        return model

    monkeypatch.setattr(hzcli.models, "load", load)
    cards = [catalog.WeightsCard(id=name, model="hinet", file="") for name in ("hinet", "other")]
    monkeypatch.setattr(catalog, "installed", lambda folder=None: cards)
    for name in "ab":
        shot(tmp_path / f"shots/{name}.png")
    return hz


def otherwise(said: Said) -> list[str]:
    """What was said of results made with other settings: on stderr and, if asked for, as JSON."""
    found = [line for line in said.err.splitlines() if "other settings" in line]
    if said.out.startswith("{"):
        told = [text for text in said.lines[-1]["warnings"] if "other settings" in text]
        assert [f"warning: {text}" for text in told] == found
    return [line.removeprefix("warning: ") for line in found]


def test_one_line_says_what_differs_and_each_entry_too(named: Hz) -> None:
    """The count, the settings then and now, and what to do; the report has it by picture."""
    named(*RUN)
    before = contents(Path("harmonized"))

    said = named(*RUN, "--strength", "0.5", "-m", "other", "--json")

    assert said.exit_code == 0
    assert otherwise(said) == [
        "2 results are kept but made with other settings: model hinet, now other; "
        "--strength 1.0, now 0.5 (-f makes all anew)"
    ]
    report = json.loads(REPORT.read_text())
    assert report["warnings"] == otherwise(said)
    for row in (*report["pictures"], *said.lines[:-1]):
        assert row["status"] == "kept"
        assert row["differs"] == ["model", "strength"]
        assert row["made_with"] == {
            "model": "hinet", "mode": "region", "strength": 1.0,
            "mask": row["mask"],
        }  # fmt: skip
    after = contents(Path("harmonized"))
    assert {name for name in before if before[name] != after[name]} == {"report.json", "report.csv"}

    assert otherwise(named(*RUN, "--strength", "0.5", "-m", "other", "-q")) == []
    assert otherwise(named(*RUN, "--strength", "0.5", "-m", "other", "-f", "--json")) == []
    assert otherwise(named(*RUN, "--strength", "0.5", "-m", "other", "--json")) == []
    assert json.loads(REPORT.read_text())["pictures"][0]["differs"] == []


def test_each_result_is_known_by_the_run_that_made_it(named: Hz, tmp_path: Path) -> None:
    """Through any number of runs that kept it, and beside others of another run."""
    named(*RUN)
    for _ in range(2):
        assert len(otherwise(named(*RUN, "--strength", "0.5", "--json"))) == 1
    shot(tmp_path / "shots/c.png")
    named(*RUN, "--strength", "0.5")

    said = named(*RUN, "--json")

    assert otherwise(said) == [
        "1 result is kept but made with other settings: --strength 0.5, now 1.0 (-f makes it anew)"
    ]
    assert [line["differs"] for line in said.lines[:-1]] == [[], [], ["strength"]]
    said = named(*RUN, "--strength", "0.25", "--json")
    assert otherwise(said) == [
        "3 results are kept but made with other settings: --strength 1.0, now 0.25 (2 of them); "
        "--strength 0.5, now 0.25 (1 of them) (-f makes all anew)"
    ]


@pytest.mark.parametrize(
    ("then", "now", "differs"),
    [
        ((), ("--mode", "lut"), "--mode region, now lut"),
        ((), ("--feather", "2"), "--feather not given, now 2.0"),
        (("--mask-invert",), (), "--mask-invert given, now not given"),
        (("--mask-threshold", "0.5"), ("--mask-threshold", "0.6"), "--mask-threshold 0.5, now 0.6"),
        ((), ("--mask-channel", "r"), "--mask-channel not given, now r"),
        ((), ("--depth", "8"), "--depth not given, now 8"),
        ((), ("--output-profile", "p3"), "--output-profile not given, now p3"),
        ((), ("--assume-profile", "adobergb"), "--assume-profile not given, now adobergb"),
        (
            ("--output-profile", "p3"),
            ("--output-profile", "p3", "--intent", "perceptual"),
            "--intent not given, now perceptual",
        ),
        (("--format", "jpeg"), ("--format", "jpeg", "--quality", "50"), "--quality"),
        # What leaves the pixels as they are, or cannot be told.
        ((), ("-j", "2", "--memory", "4G", "--max-pixels", "1G", "--protocol", "hinet"), ""),
        ((), ("--metadata", "none", "--label-ai", "--also", "mask"), ""),
        ((), ("--tiff-compression", "none", "--bigtiff", "always"), ""),
        ((), ("--depth", "16"), ""),
        ((), ("--intent", "perceptual"), ""),
        ((), ("--quality", "50"), ""),
        ((), ("--resize-mask", "lanczos"), ""),
    ],
)
def test_what_changes_pixels_counts(
    then: tuple[str, ...], now: tuple[str, ...], differs: str, named: Hz
) -> None:
    """And nothing else."""
    assert named(*RUN, *then).exit_code == 0

    said = named(*RUN, *now, "--json")

    assert [line["status"] for line in said.lines[:-1]] == ["kept", "kept"]
    found = otherwise(said)
    assert len(found) == bool(differs)
    assert all(differs in text for text in found)


def test_another_mask_counts_wherever_the_folder_is_seen_from(
    named: Hz, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the ends of their paths: the same folder has other names from elsewhere."""
    for folder in ("one", "two"):
        for name in "ab":
            os.utime(save(tmp_path / f"{folder}/{name}.png", disc()), (0, 0))
    named("run", "shots", "--mask-dir", "one", "--mask-suffix", "_x")
    both = ("--mask-suffix", "_x")

    (text,) = otherwise(named("run", "shots", "--mask-dir", "two", *both, "--json"))
    assert text == (
        "2 results are kept but made with other settings: another mask (-f makes all anew)"
    )
    monkeypatch.chdir(tmp_path / "shots")
    same = named("run", ".", "--mask-dir", tmp_path / "one", *both, "-o", "../harmonized", "--json")
    assert same.lines[-1]["counts"]["kept"] == 2
    assert otherwise(same) == []


def _forget(report: dict[str, Any]) -> None:
    del report["settings"]


def _older_kept(report: dict[str, Any]) -> None:
    for row in report["pictures"]:
        row["status"] = "kept"
        del row["made_with"]


@pytest.mark.parametrize("change", [None, _forget, _older_kept])
def test_no_report_no_claim(change: Callable[[dict[str, Any]], None] | None, named: Hz) -> None:
    """Where there is none, or one that does not tell with what its results were made."""
    named(*RUN)
    if change is None:
        REPORT.unlink()
    else:
        report = json.loads(REPORT.read_text())
        change(report)
        REPORT.write_text(json.dumps(report))

    said = named(*RUN, "--strength", "0.5", "--json")

    assert otherwise(said) == []
    assert [line["made_with"] for line in said.lines[:-1]] == [{}, {}]


def test_what_was_made_anew_since_the_report_is_not_known(named: Hz) -> None:
    """A run without a report replaced one of them."""
    named(*RUN)
    made = Path("harmonized/a.tif")
    later = REPORT.stat().st_mtime_ns + 10**9
    os.utime(made, ns=(later, later))

    said = named(*RUN, "--strength", "0.5", "--json")

    assert [line["differs"] for line in said.lines[:-1]] == [[], ["strength"]]
    assert otherwise(said)[0].startswith("1 result is kept")


def test_a_dry_run_says_the_same_without_loading(named: Hz, loads: list[object]) -> None:
    named(*RUN)

    said = named(*RUN, "-m", "other", "--feather", "3", "-n", "--json")

    assert otherwise(said) == [
        "2 results are kept but made with other settings: model hinet, now other; "
        "--feather not given, now 3.0 (-f makes all anew)"
    ]
    assert said.lines[0]["differs"] == ["model", "feather"]
    assert "other settings: model hinet" in named(*RUN, "-m", "other", "-n").err
    assert otherwise(named(*RUN, "--weights", "unknown.safetensors", "-n")) == []


def test_shares_know_each_others_results(named: Hz) -> None:
    """What a share has made is known to a run of them all."""
    named(*RUN, "--shard", "1/2")
    named(*RUN, "--shard", "2/2", "--strength", "0.5")

    said = named(*RUN, "--json")

    assert [line["differs"] for line in said.lines[:-1]] == [[], ["strength"]]


def test_curves_that_were_edited_since_are_said(named: Hz, tmp_path: Path) -> None:
    """As a picture or a mask is."""
    curves = tmp_path / "c.csv"
    curves.write_text("input,red,green,blue\n0,0,0,0\n1,0.5,0.5,0.5\n")
    asked = (*RUN, "--curves", "c.csv", "--json")
    named(*asked)
    assert all(not line["warnings"] for line in named(*asked).lines)
    later = Path("harmonized/a.tif").stat().st_mtime + 10
    os.utime(curves, (later, later))

    said = named(*asked)

    for line in said.lines[:-1]:
        assert line["warnings"] == ["kept, but changed since: c.csv (-f makes all anew)"]
    os.utime(curves, (0, 0))  # and no longer
    assert named(*asked).lines[0]["warnings"] == []
    (text,) = otherwise(named(*RUN, "--json"))
    assert "model c.csv, now hinet; --curves c.csv, now not given" in text
    (text,) = otherwise(named(*RUN, "-n", "--json"))
    assert "model c.csv, now hinet; --curves c.csv, now not given" in text
