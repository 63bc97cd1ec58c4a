"""Composites on disk: whole, seeded, and read by `hz run --layout iharmony4`."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hzcli.engine import pairing
from hzcli.errors import UsageError
from hzcli.train.synth import synthesise


def _digest(folder: Path) -> dict[str, str]:
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def test_a_seed_makes_the_same_files_and_another_seed_others(pack: Path, tmp_path: Path):
    synthesise(pack, tmp_path / "a", seed=4)
    synthesise(pack, tmp_path / "b", seed=4)
    synthesise(pack, tmp_path / "c", seed=5)
    assert _digest(tmp_path / "a") == _digest(tmp_path / "b")
    assert _digest(tmp_path / "a") != _digest(tmp_path / "c")


def test_the_layout_is_iharmony4s_and_pairs_up(pack: Path, tmp_path: Path):
    names = synthesise(pack, tmp_path / "set", split="val", seed=1)
    assert len(names) == 8
    rules = pairing.PairingRules(layout="iharmony4")
    jobs = pairing.find([tmp_path / "set"], rules)
    assert [job.error for job in jobs] == [None] * 8
    assert all(job.mask is not None and job.truth is not None for job in jobs)
    with (tmp_path / "set" / "composites.csv").open() as f:
        table = list(csv.DictReader(f))
    assert [row["name"] for row in table] == names
    assert {row["source"] for row in table} == {"disc", "spot"}


def test_composites_differ_from_the_truth_inside_the_mask_only(pack: Path, tmp_path: Path):
    for name in synthesise(pack, tmp_path / "set", seed=2):
        stem = name.split("_")[0]
        folder = tmp_path / "set"
        pair = [
            np.asarray(Image.open(folder / kind / file)).astype(int)
            for kind, file in (("composite_images", name), ("real_images", f"{stem}.jpg"))
        ]
        mask = np.asarray(Image.open(folder / "masks" / f"{stem}_1.png"))
        assert pair[0].shape == (72, 96, 3) and mask.shape == (72, 96)
        far = np.asarray(Image.fromarray(mask).resize((12, 9), Image.Resampling.BOX)) == 0
        blocks = np.abs(pair[0] - pair[1]).max(2).reshape(9, 8, 12, 8).max((1, 3))
        assert blocks[far].size == 0 or np.median(blocks[far]) <= 2  # JPEG noise, 8 x 8 blocks


def test_count_spreads_over_the_split_and_a_full_folder_is_refused(pack: Path, tmp_path: Path):
    assert len(synthesise(pack, tmp_path / "set", count=3)) == 3
    with pytest.raises(UsageError, match="not empty"):
        synthesise(pack, tmp_path / "set")
