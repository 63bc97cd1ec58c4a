"""`hz train` for real, on packs that grow and on a folder of photographs, then `hz run`."""

from __future__ import annotations

import csv
import io
import json
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_shots import Hz, shot
from PIL import Image

from hzcli.train import recipes


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipe that takes seconds."""

    def tiny() -> recipes.Recipe:
        from hzcli.models.hinet import HINetConfig
        from hzcli.train.compose import Synthesis

        config = HINetConfig(channels=(8, 16, 32, 32), blocks=1, code=32, hyper=16, thumbnail=32)
        return replace(
            recipes.hinet(), name="tiny", config=config, synthesis=Synthesis(), steps=4, batch=2,
            warmup=1, stages=((0.0, 32),), cache=32,
        )  # fmt: skip

    monkeypatch.setitem(recipes.RECIPES, "tiny", tiny)


def _photo(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A shaded ground with two discs of other colours, and their labels."""
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[:48, :64]
    rgb = draw.uniform(60, 180, 3) + np.stack([x, y, x + y], -1) * draw.uniform(-0.5, 0.5, 3)
    labels = np.zeros((48, 64), np.uint8)
    for k in (1, 2):
        inside = (x - draw.uniform(14, 50)) ** 2 + (y - draw.uniform(12, 36)) ** 2 < 10**2
        labels[inside], rgb[inside] = k, draw.uniform(30, 220, 3)
    return np.clip(rgb, 0, 255).astype(np.uint8), labels


def _encoded(pixels: np.ndarray, kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def _pack(folder: Path, shards: int = 4, each: int = 5) -> Path:
    """Shards of a pack, every fifth photograph of which validates."""
    folder.mkdir()
    rows = []
    for shard in range(shards):
        with tarfile.open(folder / f"photos-{shard:02}.tar", "w") as tar:
            for i in range(each):
                rgb, labels = _photo(100 * shard + i)
                name = f"disc-{shard}{i}"
                for suffix, data in (
                    (".jpg", _encoded(rgb, "JPEG")),
                    (".png", _encoded(labels, "PNG")),
                ):
                    info = tarfile.TarInfo(name + suffix)
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
                split = "val" if i == 0 else "train"
                rows.append([name, split, "disc", "regions", f"photos-{shard:02}.tar"])
    with (folder / "index.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["name", "split", "source", "labels", "shard"], *rows])
    return folder


def test_two_shards_then_four_with_the_same_words(bare_hz: Hz, tmp_path: Path) -> None:
    """Shards that arrive later are used by the same command, also by a run that goes on."""
    every = _pack(tmp_path / "every")
    words = ("--data", "some", "-o", "run", "--device", "cpu")
    (tmp_path / "some").mkdir()
    for name in ("index.csv", "photos-00.tar", "photos-01.tar"):
        shutil.copy(every / name, tmp_path / "some")

    two = bare_hz("train", "tiny", *words, "--steps", "4", "--minutes", "0")
    for name in ("photos-02.tar", "photos-03.tar"):
        shutil.copy(every / name, tmp_path / "some")
    four = bare_hz("train", "tiny", *words, "--resume")
    fresh = bare_hz("train", "tiny", "--data", "some", "-o", "new", "--device", "cpu")

    assert (two.exit_code, four.exit_code, fresh.exit_code) == (0, 0, 0), four.err
    # Few photographs held back are judged by several composites each.
    assert "photos 8, " in two.err and "held 64" in two.err
    assert "photos 16, " in four.err and "held 64" in four.err
    card = json.loads((tmp_path / "run/tiny.json").read_text())
    assert card["steps"] == 4
    assert (
        card["figures"].keys()
        == json.loads((tmp_path / "new/tiny.json").read_text())["figures"].keys()
    )


def test_weights_from_ones_own_photographs_run(bare_hz: Hz, tmp_path: Path) -> None:
    """Photographs without any mask in; weights that `hz run --weights` takes out."""
    (tmp_path / "photographs").mkdir()
    for i in range(12):
        (tmp_path / f"photographs/IMG_{i}.jpg").write_bytes(_encoded(_photo(i)[0], "JPEG"))
    shot(tmp_path / "shots/a.png", truth="_gt.png")

    trained = bare_hz("train", "tiny", "--data", "photographs", "-o", "run", "--device", "cpu")
    assert trained.exit_code == 0, trained.err
    weights = next((tmp_path / "run").glob("*.safetensors"))
    ran = bare_hz(
        "run", "shots", "--mask-suffix", "_m", "--truth-suffix", "_gt", "-o", "out",
        "--weights", weights, "--json",
    )  # fmt: skip

    assert ran.exit_code == 0, ran.err
    assert ran.lines[0]["status"] == "done"
    assert (tmp_path / "out/a.tif").is_file()
