"""Killed at a random step, or while its checkpoint is written, a run ends as it would have."""

from __future__ import annotations

import csv
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hzcli.models.hinet import HINetConfig
from hzcli.train import loop, recipes
from hzcli.train.compose import Synthesis

STEPS, EVERY = 12, 4
PATIENCE = 120  # seconds until a process that says nothing is given up

# The command line itself, with a recipe small enough for a test, and a place to be killed at.
PROGRAM = """
import functools, os, sys, time
from pathlib import Path
import torch
sys.path.insert(0, os.environ["HERE"])
from test_kill_resume import EVERY, tiny
from hzcli.train import loop, recipes

recipes.RECIPES["tiny"] = tiny
loop.train = functools.partial(loop.train, validate_every=EVERY)
kill = os.environ["KILL"]

def hang():
    Path(os.environ["MARK"]).touch()
    time.sleep(600)

if kill == "writing":
    writes, save = [], torch.save
    def half(state, file):
        writes.append(state["step"])
        if len(writes) == 2:
            Path(file).write_bytes(b"half of a checkpoint")
            hang()
        save(state, file)
    torch.save = half
elif kill:
    rate = loop.rate_at
    loop.rate_at = lambda step, recipe: hang() if step == int(kill) else rate(step, recipe)

from hzcli.cli import main
sys.argv = ["hz", "train", "tiny", *sys.argv[1:]]
main()
"""


def tiny() -> recipes.Recipe:
    """A HINet of few numbers, trained from start to end in all its stages."""
    config = HINetConfig(channels=(8, 16, 32, 32), blocks=1, code=32, hyper=16, thumbnail=64)
    return replace(
        recipes.hinet(),
        name="tiny",
        config=config,
        synthesis=Synthesis(),
        steps=STEPS,
        batch=4,
        warmup=2,
        stages=((0.0, 48), (0.5, 64)),
        local_from=0.5,
        cache=64,
    )


def _start(pack: Path, folder: Path, mark: Path, kill: str, *more: str) -> subprocess.Popen[str]:
    here = Path(__file__).resolve().parent
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(here.parents[1]), os.environ.get("PYTHONPATH", "")]),
        "HERE": str(here),
        "MARK": str(mark),
        "KILL": kill,
    }
    words = ["--data", str(pack), "-o", str(folder), "--device", "cpu", *more]
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture(scope="module")
def whole(pack: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """The checkpoint of a run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    loop.train(tiny(), [pack], folder, validate_every=EVERY)
    return torch.load(folder / "checkpoint.pt", weights_only=True)


@pytest.mark.parametrize("when", ["step", "writing"])
@pytest.mark.timeout(300)
def test_a_killed_run_ends_as_the_undisturbed_one(
    when: str, pack: Path, whole: dict, tmp_path: Path
) -> None:
    """SIGKILL leaves no time to save; batches that depend on seed and step do the rest."""
    kill = str(random.randrange(EVERY + 1, STEPS)) if when == "step" else when
    folder, mark = tmp_path / "run", tmp_path / "mark"

    process = _start(pack, folder, mark, kill)
    limit = time.monotonic() + PATIENCE
    while not mark.exists() and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    said = process.communicate()[0]
    assert process.returncode == -signal.SIGKILL, said
    left = torch.load(folder / "checkpoint.pt", weights_only=True)
    assert 0 < left["step"] < STEPS, f"killed at {kill}"

    again = _start(pack, folder, mark, "", "--resume")
    said = again.communicate(timeout=PATIENCE)[0]
    assert again.returncode == 0, said

    ended = torch.load(folder / "checkpoint.pt", weights_only=True)
    assert ended["step"] == whole["step"] == STEPS
    for part in ("model", "ema"):
        for name, value in whole[part].items():
            close = {"rtol": 1e-3, "atol": 1e-4}
            torch.testing.assert_close(ended[part][name], value, **close, msg=f"{part} {name}")
    assert [row["step"] for row in ended["history"]] == [4, 8, 12]
    for row, wanted in zip(ended["history"], whole["history"], strict=True):
        assert row["ratio"] == pytest.approx(wanted["ratio"], rel=1e-3), f"killed at {kill}"
    with open(folder / "history.csv", newline="") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["4", "8", "12"]
    assert (folder / "tiny.safetensors").is_file()
