"""`hz curves`, and edited curves back in `hz run`."""

from __future__ import annotations

import builtins
import csv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from made_shots import Darker, Hz, shot

import hzcli.models
from hzcli import catalog
from hzcli.core.curves import Curves
from hzcli.engine.looks import edited
from hzcli.errors import LookError

CURVES = ("curves", "a.png", "--mask-suffix", "_m", "--device", "cpu")
RUN = ("run", "a.png", "--mask-suffix", "_m", "--no-report")


class Bent(Darker):
    """Three curves with bends of their own."""

    card = SimpleNamespace(id="bent")
    knots = torch.tensor([[[0, 0.3, 0.9, 0.9], [0.1, 0.3, 0.6, 1], [0, 0.2, 0.5, 0.8]]])
    places = torch.tensor([[[0, 0.2, 0.8, 1], [0, 0.3, 0.6, 1], [0, 0.25, 0.5, 1]]])

    def predict(self, thumb: Any) -> Any:
        return Curves(self.knots, self.places)

    curves = predict_lut = predict


@pytest.fixture
def bent(hz: Hz, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Hz:
    monkeypatch.setattr(hzcli.models, "load", lambda name, device: Bent())
    monkeypatch.setattr("hzcli.commands.curves._default", lambda: "bent")
    shot(tmp_path / "a.png")
    return hz


def test_curves_are_drawn_and_said_in_figures(bent: Hz) -> None:
    """Within 80 columns; figures are the curves' own."""
    said = bent(*CURVES)

    assert said.exit_code == 0
    assert max(len(line) for line in said.out.splitlines()) <= 80
    red = next(line for line in said.out.splitlines() if line.startswith("red"))
    values = [float(word) for word in red.split()[1:]]
    places = np.array([0, *range(31, 256, 32)]) / 255
    wanted = 255 * np.interp(places, Bent.places[0, 0], Bent.knots[0, 0])
    assert values == pytest.approx(wanted, abs=0.051)
    plot = said.out.splitlines()[:17]
    assert plot[0].rstrip().endswith("G")  # green reaches white, red and blue do not
    assert sum(line.count("R") for line in plot) > 20
    assert "8 points" in said.out  # 0, .2, .25, .3, .5, .6, .8 and 1


def test_json_has_the_curves(bent: Hz) -> None:
    """At every 8-bit level."""
    row, summary = bent(*CURVES, "--json").lines

    assert (row["event"], row["status"], row["model"]) == ("picture", "done", "bent")
    assert row["curves"]["input"] == pytest.approx(np.linspace(0, 1, 256))
    wanted = np.interp(row["curves"]["input"], Bent.places[0, 2], Bent.knots[0, 2])
    assert row["curves"]["blue"] == pytest.approx(wanted, abs=1e-6)
    assert summary["status"] == "success"


def test_unedited_curves_give_the_model_s_picture(bent: Hz, tmp_path: Path) -> None:
    """CSV out and in again: a run with it is a run with the model, to a code."""
    assert bent(*CURVES, "-o", "c.csv").exit_code == 0
    with open(tmp_path / "c.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["input", "red", "green", "blue"]
    assert len(rows) == 9

    bent(*RUN, "-o", "model")
    said = bent(*RUN, "-o", "edited", "--curves", "c.csv")

    assert said.exit_code == 0
    one, two = (tifffile.imread(tmp_path / f"{name}/a.tif") for name in ("model", "edited"))
    assert np.abs(one.astype(int) - two).max() <= 1


def test_edited_curves_do_what_they_say(hz: Hz, loads: list[object], tmp_path: Path) -> None:
    """As a spreadsheet writes them: semicolons, decimal commas, CRLF and a BOM; no model."""
    shot(tmp_path / "a.png")
    text = "Input;Red;Green;Blue\r\n0;0;0;0\r\n0,5;0,25;0,5;0,75\r\n1;0,5;1;1\r\n"
    (tmp_path / "c.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())

    assert hz(*RUN, "--curves", "c.csv").exit_code == 0

    assert loads == []
    from made_shots import colours, disc

    full = disc() == 255
    source = colours()[full] / 255
    curves = ((0, 0.25, 0.5), (0, 0.5, 1), (0, 0.75, 1))
    wanted = np.stack([np.interp(x, (0, 0.5, 1), y) for x, y in zip(source.T, curves, strict=True)])
    found = tifffile.imread(tmp_path / "harmonized/a.tif")[full] / 65535
    assert np.abs(found - wanted.T).max() < 2 / 65535
    row = hz(*RUN, "--curves", "c.csv", "-f", "--json").lines[0]
    assert row["model"] == "c.csv"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "has 0 points"),
        ("input,red,green,blue\n0,0,0,0\n", "has 1 points"),
        ("input,red,green\n0,0,0\n", "line 1: no column blue"),
        ("input,red,green,blue\n0,0,0,0\n1,1,1\n", "line 3: 3 cells, expected 4"),
        ("input,red,green,blue\n0,0,0,0\n0,1,1,1\n", "line 3: input 0 follows 0"),
        ("input,red,green,blue\n0,0,0,0\n1,1,x,1\n", 'line 3: green is "x"'),
        ("input,red,green,blue\n0,0,0,0\n1,1,nan,1\n", 'line 3: green is "nan"'),
        ("input,red,green,blue\n0,0,0,0\n255,1,1,1\n", 'line 3: input is "255"'),
        ("\xff\xfe\0", "no t"),
    ],
)
def test_broken_files_are_refused_by_line(text: str, expected: str, hz: Hz, tmp_path: Path) -> None:
    """With 2, before anything is written; a dry run says so too."""
    shot(tmp_path / "a.png")
    (tmp_path / "c.csv").write_bytes(text.encode("latin-1"))

    for words in ((), ("-n",)):
        said = hz(*RUN, "--curves", "c.csv", *words)
        assert said.exit_code == 2
        assert expected in said.err
    assert not (tmp_path / "harmonized").exists()


@pytest.mark.parametrize("words", [("-m", "x"), ("--weights", "x"), ("--background", "a.png")])
def test_curves_take_the_model_s_place(words: tuple[str, ...], hz: Hz, tmp_path: Path) -> None:
    """Both cannot be."""
    shot(tmp_path / "a.png")
    (tmp_path / "c.csv").write_text("input,red,green,blue\n0,0,0,0\n1,1,1,1\n")

    said = hz(*RUN, "--curves", "c.csv", *words)

    assert said.exit_code == 2
    assert "--curves goes with no" in said.err


def test_reading_is_the_inverse_of_writing(tmp_path: Path) -> None:
    """To the last bit of float32."""
    rng = np.random.default_rng(1)
    inputs = np.unique(rng.random(50).astype(np.float32)).astype(np.float64)
    points = edited.Points(inputs, rng.random((len(inputs), 3)).astype(np.float32))
    edited.write_csv(tmp_path / "c.csv", points)

    again = edited.read_csv(tmp_path / "c.csv")

    assert (again.inputs.astype(np.float32) == inputs).all()
    assert (again.values.astype(np.float32) == points.values).all()


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    """By its name."""
    with pytest.raises(LookError, match=r"c\.csv cannot be opened"):
        edited.read_csv(tmp_path / "c.csv")


def test_photoshop_and_plot(bent: Hz, tmp_path: Path) -> None:
    """Both are written at once; the .acv says how near its spline is."""
    pytest.importorskip("matplotlib")
    said = bent(*CURVES, "-o", "c.acv", "-o", "plot.png")

    assert said.exit_code == 0
    assert "Photoshop's spline stays within" in said.out
    assert (tmp_path / "c.acv").read_bytes()[:4] == bytes([0, 4, 0, 4])
    assert (tmp_path / "plot.png").read_bytes()[:4] == b"\x89PNG"


def test_without_matplotlib_the_plot_says_so(bent: Hz, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before any work."""
    real = builtins.__import__

    def missing(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    said = bent(*CURVES, "-o", "plot.png")

    assert said.exit_code == 2
    assert "matplotlib" in said.err and "hz[train]" in said.err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("-o", "c.txt"), "no file of curves"),
        (("-o", "there.csv"), "exists already"),
        (("-o", "a.png", "-f"), "exists already"),
    ],
)
def test_outputs_are_checked_first(
    words: tuple[str, ...], expected: str, bent: Hz, tmp_path: Path
) -> None:
    """With 2; inputs are never written over."""
    (tmp_path / "there.csv").write_text("mine")
    said = bent(*CURVES, *words)
    assert (said.exit_code, expected in said.err) == (2, True)
    assert (tmp_path / "there.csv").read_text() == "mine"


def test_models_without_curves(hz: Hz, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another model is refused; where no S2CRNet is installed, it is said how to get one."""
    shot(tmp_path / "a.png")
    said = hz(*CURVES, "-m", "darker")
    assert (said.exit_code, "darker holds no curves" in said.err) == (2, True)

    monkeypatch.setattr(catalog, "installed", list)
    said = hz(*CURVES)
    assert said.exit_code == 4
    assert "hz models import" in said.err
