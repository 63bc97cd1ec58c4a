"""`hz eval`: finished pictures of any tool against their ground truth."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from made_shots import Hz, colours, contents, disc, save, shot

OUT = ("eval", "out", "--composites", "shots", "--mask-suffix", "_m", "--truth-suffix", "_gt")


def fmse(picture: np.ndarray, truth: np.ndarray) -> float:
    """sum m (p - g)^2 / (3 sum m), levels of 0..255."""
    weight = disc()[..., None] / 255
    return float((weight * (picture.astype(float) - truth) ** 2).sum() / (3 * weight.sum()))


def psnr(picture: np.ndarray, truth: np.ndarray) -> float:
    mse = np.mean((picture.astype(float) - truth) ** 2)
    return float(10 * np.log10(255**2 / mse))


def truth() -> np.ndarray:
    """What `shot` writes as ground truth."""
    return np.clip(colours() * 0.5, 0, 255).astype(np.uint8)


def three(folder: Path) -> dict[str, np.ndarray]:
    """Composites with masks and truths, and results as three tools may write them."""
    made = {}
    for name, kind, share in (("a", "tif", 0.6), ("b", "png", 0.9), ("deep/c", "png", 1.2)):
        shot(folder / f"shots/{name}.jpg", truth="_gt.png")
        picture = np.clip(colours() * share, 0, 255).astype(np.uint8)
        path = folder / f"out/{name}.{kind}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == "tif":  # 16 bits
            tifffile.imwrite(path, picture.astype(np.uint16) * 257, photometric="rgb")
        else:
            save(path, picture)
        made[path.name] = picture
    return made


def test_results_of_any_tool_are_measured(hz: Hz, tmp_path: Path) -> None:
    """16 and 8 bits, TIFF and PNG; the composite is the baseline; by definition of the protocol."""
    from PIL import Image

    made = three(tmp_path)

    said = hz(*OUT, "--json")

    assert said.exit_code == 0
    rows = {Path(line["input"]).name: line for line in said.lines[:-1]}
    assert rows.keys() == made.keys()
    composite = np.asarray(Image.open(tmp_path / "shots/a.jpg"))
    for name, picture in made.items():
        sides = rows[name]["metrics"]["standard"]
        assert sides["after"]["fmse"] == pytest.approx(fmse(picture, truth()), rel=1e-4)
        assert sides["after"]["psnr"] == pytest.approx(psnr(picture, truth()), rel=1e-5)
        assert sides["before"]["fmse"] == pytest.approx(fmse(composite, truth()), rel=1e-4)
        assert rows[name]["foreground"] == pytest.approx(disc().mean() / 255, rel=1e-6)
    assert (rows["a.tif"]["depth_in"], rows["b.png"]["depth_in"]) == (16, 8)
    means = said.lines[-1]["means"]["standard"]["all"]
    after = np.mean([fmse(picture, truth()) for picture in made.values()])
    assert means["ratio"] == pytest.approx(after / fmse(composite, truth()), rel=1e-4)
    assert means["worse"] == 1  # of the three, c alone is brighter than its composite
    sources = said.lines[-1]["sources"]["standard"]
    assert sources["deep"]["pictures"] == 1
    assert sources["deep"]["worse"] == 1
    assert not (tmp_path / "harmonized").exists()


def test_the_same_figures_as_a_run_that_made_them(hz: Hz, tmp_path: Path) -> None:
    """What `hz run` reports while it harmonises, `hz eval` finds in the files."""
    shot(tmp_path / "shots/a.png", truth="_gt.png")
    shot(tmp_path / "shots/deep/b.png", truth="_gt.png")
    rules = ("--mask-suffix", "_m", "--truth-suffix", "_gt")
    both = ("--protocol", "standard", "--protocol", "hinet", "--json")
    ran = hz("run", "shots", *rules, *both, "-o", "out").lines[:-1]

    measured = hz(*OUT, *both).lines[:-1]

    for run, score in zip(ran, measured, strict=True):
        assert score["metrics"].keys() == {"standard", "hinet"}
        for protocol, sides in run["metrics"].items():
            for side, figures in sides.items():
                assert score["metrics"][protocol][side] == pytest.approx(figures, rel=1e-6)


def test_without_composites_there_is_no_baseline(hz: Hz, tmp_path: Path) -> None:
    """Masks and truths in folders of their own; neither a ratio nor a "before"."""
    three(tmp_path)

    said = hz(
        "eval", "out", "--mask-dir", "shots", "--mask-suffix", "_m",
        "--truth-dir", "shots", "--truth-suffix", "_gt", "--json",
    )  # fmt: skip

    assert said.exit_code == 0
    assert [list(line["metrics"]["standard"]) for line in said.lines[:-1]] == [["after"]] * 3
    assert "ratio" not in said.lines[-1]["means"]["standard"]["all"]


def test_results_with_a_suffix_and_in_one_folder(hz: Hz, tmp_path: Path) -> None:
    """X_harm.jpg of another tool, which flattens folders."""
    shot(tmp_path / "shots/deep/a.png", truth="_gt.png")
    save(tmp_path / "out/a_harm.png", truth())

    said = hz(*OUT, "--suffix", "_harm", "--json")

    assert said.exit_code == 0
    assert said.lines[0]["input"] == "out/a_harm.png"
    assert said.lines[0]["metrics"]["standard"]["after"]["fmse"] == 0


@pytest.mark.parametrize("place", ["out/HCOCO/composite_images", "out/HCOCO", "out"])
def test_iharmony4(place: str, hz: Hz, tmp_path: Path) -> None:
    """Results in the set's tree, without its middle folder, or flat; sources are sub-datasets."""
    for name in ("HCOCO", "HFlickr"):
        save(tmp_path / f"set/{name}/composite_images/{name}_1_2.jpg", colours())
        save(tmp_path / f"set/{name}/masks/{name}_1.png", disc())
        save(tmp_path / f"set/{name}/real_images/{name}.jpg", truth())
        save(tmp_path / f"{place.replace('HCOCO', name)}/{name}_1_2.png", truth())

    said = hz("eval", "out", "--composites", "set", "--layout", "iharmony4", "--json")

    assert said.exit_code == 0
    assert [line["source"] for line in said.lines[:-1]] == ["HCOCO", "HFlickr"]
    assert said.lines[-1]["sources"]["standard"]["HCOCO"]["pictures"] == 1


def test_one_failure_does_not_stop_the_rest(hz: Hz, tmp_path: Path) -> None:
    """Missing, turned, broken and doubled results, and a missing truth; the others count."""
    for name in "abcdef":
        shot(tmp_path / f"shots/{name}.png", truth=None if name == "e" else "_gt.png")
    save(tmp_path / "out/b.png", truth().transpose(1, 0, 2))
    (tmp_path / "out/c.png").write_bytes(b"no picture")
    save(tmp_path / "out/d.png", truth())
    save(tmp_path / "out/d.jpg", truth())
    save(tmp_path / "out/e.png", truth())
    save(tmp_path / "out/f.png", truth())

    said = hz(*OUT, "--json")

    assert said.exit_code == 1
    rows = said.lines[:-1]
    assert [row["status"] for row in rows] == ["failed"] * 5 + ["done"]
    wanted = ("no result", "pixels", "c.png", "2 results", "no ground truth")
    for row, reason in zip(rows, wanted, strict=False):
        assert reason in row["error"]["message"]
    assert said.lines[-1]["means"]["standard"]["all"]["pictures"] == 1


def test_tables_and_files(hz: Hz, tmp_path: Path) -> None:
    """80 columns, the worst first, eval.json and eval.csv where they are wanted."""
    three(tmp_path)
    before = contents(tmp_path)

    said = hz(*OUT, "--protocol", "standard", "--protocol", "hinet")
    assert contents(tmp_path) == before
    assert max(len(line) for line in said.out.splitlines()) <= 80
    assert "Worse than doing nothing: 1 of 3." in said.out
    worst = said.out[said.out.index("Farthest from the truth") :].split("\n\n")[0]
    assert [name for name in ("c.png", "b.png", "a.tif") if name in worst] == [
        name.split("/")[-1] for line in worst.splitlines()[3:] for name in [line.split()[0]]
    ]

    assert hz(*OUT, "-o", "figures").exit_code == 0
    body = json.loads((tmp_path / "figures/eval.json").read_text())
    assert [row["status"] for row in body["pictures"]] == ["done"] * 3
    with open(tmp_path / "figures/eval.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert float(table[0]["standard_after_fmse"]) == pytest.approx(
        body["pictures"][0]["metrics"]["standard"]["after"]["fmse"]
    )
    assert not any(name.startswith("metrics") for name in table[0])


@pytest.mark.parametrize(
    ("words", "said_so"),
    [
        (("eval", "nowhere", "--truth-dir", "shots"), "nowhere does not exist"),
        (("eval", "out", "--mask-suffix", "_m"), "where are the ground truths?"),
        (("eval", "out", "--truth-suffix", "_gt"), "where are the masks?"),
        (("eval", "out", "--truth-suffix", "_gt", "--suffix", "_h"), "--composites"),
        (("eval", "out", "--composites", "out", "--truth-suffix", "_gt"), "Name two folders"),
        (("eval", "out", "--composites", "void", "--truth-suffix", "_gt"), "does not exist"),
    ],
)
def test_wrong_usage(words: tuple[str, ...], said_so: str, hz: Hz, tmp_path: Path) -> None:
    three(tmp_path)

    said = hz(*words)

    assert said.exit_code == 2
    assert said_so in " ".join(said.err.split())
