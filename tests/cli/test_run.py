"""`hz run` from end to end, on small pictures and with a model made by rule."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from made_shots import Hz, colours, contents, disc, save, shot
from rich.cells import cell_len

from hzcli import __version__, tables

RUN = ("run", "shots", "--mask-suffix", "_m")


def test_a_tree_is_harmonised_mirrored_and_reported(hz: Hz, tmp_path: Path) -> None:
    """Every picture becomes a 16-bit TIFF at its place; the background is x257, bit for bit."""
    shot(tmp_path / "shots/a.png")
    shot(tmp_path / "shots/deep/er/b.png")

    said = hz(*RUN)

    assert said.exit_code == 0
    assert sorted(contents(tmp_path / "harmonized")) == [
        "a.tif", "deep/er/b.tif", "report.csv", "report.json",
    ]  # fmt: skip
    result = tifffile.imread(tmp_path / "harmonized/deep/er/b.tif")
    assert result.dtype == np.uint16
    background = disc() == 0
    assert (result[background] == colours()[background].astype(np.uint16) * 257).all()
    full = disc() == 255
    expected = np.round(colours()[full] / 255 * 0.5 * 65535)
    assert np.abs(result[full] - expected).max() <= 1


def test_inputs_are_never_touched(hz: Hz, tmp_path: Path) -> None:
    """Bytes, names and times of the inputs are the same after a run."""
    shot(tmp_path / "shots/a.png", truth="_gt.png")
    files = sorted((tmp_path / "shots").rglob("*"))
    before = [(path, path.read_bytes(), path.stat().st_mtime_ns) for path in files]

    assert hz(*RUN, "--truth-suffix", "_gt", "-f").exit_code == 0

    files = sorted((tmp_path / "shots").rglob("*"))
    assert before == [(path, path.read_bytes(), path.stat().st_mtime_ns) for path in files]


def test_the_report_has_one_row_a_picture_and_means(hz: Hz, tmp_path: Path) -> None:
    """With ground truths the metrics are given before and after, by picture and in the mean."""
    shot(tmp_path / "shots/a.png", truth="_gt.png")
    shot(tmp_path / "shots/b.png", truth="_gt.png")
    shot(tmp_path / "shots/c.png", mask=None)

    said = hz(*RUN, "--truth-suffix", "_GT", "--protocol", "standard", "--protocol", "hinet")

    assert said.exit_code == 1
    report = json.loads((tmp_path / "harmonized/report.json").read_text())
    assert report["v"] == 1
    assert report["version"] == __version__
    assert report["counts"] == {"done": 2, "ready": 0, "kept": 0, "failed": 1}
    done = report["pictures"][0]
    assert (done["status"], done["width"], done["height"], done["depth_in"]) == ("done", 32, 24, 8)
    assert done["model"] == "darker"
    assert done["foreground"] == pytest.approx(disc().mean() / 255, abs=1e-4)
    assert {"thumbnail", "network", "apply", "total"} <= done["seconds"].keys()
    after, before = done["metrics"]["standard"]["after"], done["metrics"]["standard"]["before"]
    # By the definition of the protocol; the model halves, the mask blends, the truth is half.
    source, weight = colours().astype(float), disc()[..., None] / 255
    truth = np.floor(source * 0.5)
    for figures, picture in ((before, source), (after, source * (1 - 0.5 * weight))):
        expected = (weight * (picture - truth) ** 2).sum() / (3 * weight.sum())
        assert figures["fmse"] == pytest.approx(expected, rel=1e-3)
    mean = report["means"]["standard"]["all"]
    assert mean["pictures"] == 2
    assert mean["before"]["fmse"] == pytest.approx(before["fmse"])
    assert "hinet" in report["means"]
    with open(tmp_path / "harmonized/report.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == ["done", "done", "failed"]
    assert float(rows[1]["standard_before_fmse"]) == pytest.approx(before["fmse"])
    assert rows[2]["error_code"] == "MaskError"


def test_one_failure_does_not_stop_the_rest(hz: Hz, tmp_path: Path) -> None:
    """A picture that cannot be done is named on stderr; the others are done; the code is 1."""
    shot(tmp_path / "shots/a.png", mask=None)
    shot(tmp_path / "shots/b.png")

    said = hz(*RUN)

    assert said.exit_code == 1
    assert (tmp_path / "harmonized/b.tif").is_file()
    assert "failed: shots/a.png: no mask: looked for a_m.* beside it." in said.err
    assert "1 harmonised, 1 failed" in said.out


def test_results_that_exist_are_kept_with_their_figures(hz: Hz, tmp_path: Path) -> None:
    """A second run keeps what is there, and its report still knows the first run's figures."""
    shot(tmp_path / "shots/a.png", truth="_gt.png")
    hz(*RUN, "--truth-suffix", "_gt")
    target = tmp_path / "harmonized/a.tif"
    target.write_bytes(b"mine")
    first = json.loads((tmp_path / "harmonized/report.json").read_text())

    said = hz(*RUN, "--truth-suffix", "_gt")

    assert said.exit_code == 0
    assert target.read_bytes() == b"mine"
    second = json.loads((tmp_path / "harmonized/report.json").read_text())
    assert second["pictures"][0]["status"] == "kept"
    assert second["means"] == first["means"]
    assert "1 kept (-f replaces them)" in said.out


def test_overwrite_replaces_results(hz: Hz, tmp_path: Path) -> None:
    """-f replaces a result that exists."""
    shot(tmp_path / "shots/a.png")
    save(tmp_path / "harmonized/a.tif", colours())

    assert hz(*RUN, "-f").exit_code == 0

    assert tifffile.imread(tmp_path / "harmonized/a.tif").dtype == np.uint16


def test_json_lines_and_nothing_else(hz: Hz, tmp_path: Path) -> None:
    """--json: stdout is one object a line, pictures first, the summary last."""
    shot(tmp_path / "shots/a.png", truth="_gt.png")
    shot(tmp_path / "shots/b.png", mask=None)

    said = hz(*RUN, "--truth-suffix", "_gt", "--json", "-v")

    assert [line["event"] for line in said.lines] == ["picture", "picture", "summary"]
    assert [line["status"] for line in said.lines] == ["done", "failed", "partial"]
    assert said.lines[1]["error"]["code"] == "MaskError"
    summary = said.lines[-1]
    assert (summary["v"], summary["exit_code"], said.exit_code) == (1, 1, 1)


def test_json_of_an_error_that_ends_the_run(hz: Hz) -> None:
    """A plan that cannot be carried out is a summary line too."""
    said = hz("run", "nowhere", "--mask-suffix", "_m", "--json")

    assert said.exit_code == 2
    assert [line["event"] for line in said.lines] == ["summary"]
    assert said.lines[0]["error"]["code"] == "UsageError"


def test_quiet_says_errors_only(hz: Hz, tmp_path: Path) -> None:
    """-q: nothing on stdout, and on stderr only what failed."""
    shot(tmp_path / "shots/a.png")
    said = hz(*RUN, "-q", "--device", "auto")
    assert (said.exit_code, said.out, said.err) == (0, "", "")

    shot(tmp_path / "shots/b.png", mask=None)
    said = hz(*RUN, "-q")
    assert said.exit_code == 1
    assert said.out == ""
    assert "b.png" in said.err


def test_auto_says_what_it_took_and_verbose_tells_the_plan(hz: Hz, tmp_path: Path) -> None:
    """`auto` names its device; -v adds the band height and the stages."""
    shot(tmp_path / "shots/a.png")

    assert "device: " in hz(*RUN, "--device", "auto").err
    said = hz(*RUN, "-v", "-f", "--memory", "4G")
    assert "bands of" in said.err
    assert "network" in said.err


def test_without_a_report(hz: Hz, tmp_path: Path) -> None:
    """--no-report leaves pictures only."""
    shot(tmp_path / "shots/a.png")

    assert hz(*RUN, "--no-report", "-o", "out").exit_code == 0

    assert list(contents(tmp_path / "out")) == ["a.tif"]


def test_a_failed_picture_leaves_no_empty_folder(hz: Hz, tmp_path: Path) -> None:
    """A folder of which no picture could be done does not appear in the output."""
    shot(tmp_path / "shots/a.png")
    shot(tmp_path / "shots/deep/er/b.png")
    save(tmp_path / "shots/deep/er/b_m.png", disc() * 0)

    assert hz(*RUN).exit_code == 1

    assert not (tmp_path / "harmonized/deep").exists()


def test_strength_and_mode_reach_the_engine(hz: Hz, tmp_path: Path) -> None:
    """Strength 0 gives the source back, in both modes."""
    shot(tmp_path / "shots/a.png")

    hz(*RUN, "--strength", "0", "--mode", "lut")

    result = tifffile.imread(tmp_path / "harmonized/a.tif")
    assert (result == colours().astype(np.uint16) * 257).all()


def test_weights_come_before_the_model(hz: Hz, tmp_path: Path, loads: list[object]) -> None:
    """The default is "hinet"; -m and --weights reach `models.load`."""
    shot(tmp_path / "shots/a.png")

    hz(*RUN)
    hz(*RUN, "-m", "small")
    hz(*RUN, "--weights", "mine.safetensors")

    assert loads == ["hinet", "small", Path("mine.safetensors")]


def test_alpha_masks(hz: Hz, tmp_path: Path) -> None:
    """--mask-from alpha takes the alpha channel; a picture without one fails by itself."""
    save(tmp_path / "shots/a.png", np.dstack([colours(), disc()]))
    save(tmp_path / "shots/b.png", colours())

    said = hz("run", "shots", "--mask-from", "alpha", "--json")

    assert [line["status"] for line in said.lines[:-1]] == ["done", "failed"]
    assert "alpha" in said.lines[1]["error"]["message"]
    result = tifffile.imread(tmp_path / "harmonized/a.tif")
    background = disc() == 0
    assert (result[background, :3] == colours()[background].astype(np.uint16) * 257).all()
    assert (result[..., 3] == disc().astype(np.uint16) * 257).all(), "transparency is given back"


def test_a_file_name_that_is_no_text(hz: Hz, tmp_path: Path) -> None:
    """Bytes that are no UTF-8 in a name neither stop the run nor spoil the report."""
    bad = b"caf\xe9".decode("utf-8", "surrogateescape")
    try:
        shot(tmp_path / f"shots/{bad}.png")
    except (OSError, ValueError):
        pytest.skip("this file system takes text only")

    assert hz(*RUN).exit_code == 0
    assert hz(*RUN, "--json").lines[0]["status"] == "kept"
    assert json.loads((tmp_path / "harmonized/report.json").read_text())["counts"]["kept"] == 1


def test_tables_keep_within_80_columns(hz: Hz, tmp_path: Path) -> None:
    """Neither a result nor a dry run is wider than a terminal of 80 columns."""
    shot(tmp_path / ("shots/" + "a" * 90 + ".png"), truth="_gt.png")
    shot(tmp_path / "shots/b.png", mask=None)
    hidden = (*RUN, "--truth-suffix", "_gt", "--protocol", "hinet")

    out = hz(*hidden).out

    assert max(len(line) for line in out.splitlines()) <= 80
    assert "1 harmonised, 1 failed" in out


def test_a_name_takes_one_line(hz: Hz, tmp_path: Path) -> None:
    """With all metrics 18 letters stand whole; of more the middle goes, the end is told apart."""
    names = ["studio/evening.png", "studio/a_long_walk_by_the_sea_0041.png"]
    for name in [*names, "studio/a_long_walk_by_the_sea_0042.png"]:
        shot(tmp_path / "shots" / name, truth="_gt.png")
    shot(tmp_path / "shots/a.png", truth="_gt.png")

    lines = hz(*RUN, "--truth-suffix", "_gt", "-j", "1").out.splitlines()

    assert max(map(len, lines)) <= 80
    table = lines[2 : lines.index("")]
    assert len(table) == 4
    found = [line.split()[0] for line in table]
    assert found[0] == "a.png" and found[3] == names[0]
    for short, number in zip(found[1:3], ("0041.png", "0042.png"), strict=True):
        assert short.startswith("studio") and "\u2026" in short and short.endswith(number)


@given(
    st.text(st.characters(categories=["L", "N", "P"]), min_size=1),
    st.integers(1, 40),
    st.sampled_from(["\u2026", "..."]),
)
def test_a_shortened_name_fills_its_column(name: str, width: int, gap: str) -> None:
    """As many cells as there are, wide letters counted; what fits stays; both ends are its own."""
    found = tables.Name(name).within(width, gap)

    if cell_len(name) <= width:
        assert found == name
    elif width >= len(gap):
        assert cell_len(found) == width
        first, last = found.split(gap, 1) if gap not in name else ("", "")
        assert name.startswith(first.rstrip()) and name.endswith(last.lstrip())


@pytest.mark.parametrize("jobs", ["1", "3"])
def test_several_pictures_at_once_share_one_network(
    jobs: str, hz: Hz, loads: list[object], tmp_path: Path
) -> None:
    """Loaded once; rows come in the pictures' order, and say what one at a time would."""
    for name in "edcba":
        shot(tmp_path / f"shots/{name}.png")

    said = hz("run", "shots", "--mask-suffix", "_m", "--json", "-j", jobs)

    assert said.exit_code == 0
    assert len(loads) == 1
    assert [line.get("input") for line in said.lines[:-1]] == [f"shots/{n}.png" for n in "abcde"]
    assert said.lines[-1]["settings"]["jobs"] == int(jobs)


def test_no_picture_at_once_is_wrong_usage(hz: Hz, tmp_path: Path) -> None:
    shot(tmp_path / "shots/a.png")
    said = hz("run", "shots", "--mask-suffix", "_m", "-j", "0")

    assert said.exit_code == 2
    assert not (tmp_path / "harmonized").exists()
