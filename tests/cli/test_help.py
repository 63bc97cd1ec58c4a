"""Help, version and the list of weights."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_shots import Hz

from hzcli import __version__, catalog

FILES = {
    "--mask-channel", "--mask-invert", "--feather", "--mask-threshold", "--resize-mask",
    "--format", "--depth", "--name", "--metadata", "--max-pixels", "--assume-profile",
    "--output-profile",
}  # fmt: skip
SAID = {"--quiet", "--verbose", "--json"}
# A flag is a promise: adding one means adding it here, to a test and to the help.
FLAGS = {
    "run": {
        "--mask-suffix", "--mask-dir", "--mask", "--mask-from", "--truth-dir", "--truth-suffix",
        "--layout", "--output", "--overwrite", "--dry-run", "--report", "--no-report", "--model",
        "--weights", "--background", "--curves", "--mode", "--strength", "--protocol", "--device",
        "--memory", "--jobs", "--shard", "--also", "--label-ai", "--for", "--tiff-compression",
        "--bigtiff", "--tiff-tile", "--quality", "--intent", *SAID, *FILES,
    },
    "info": {
        "--mask-suffix", "--mask-dir", "--mask", "--mask-from", "--layout", "--output", "--model",
        "--mode", "--memory", "--pixels", *SAID, *FILES,
    },
    "export-lut": {
        "--mask-suffix", "--mask-dir", "--mask", "--mask-from", "--layout", "--output",
        "--overwrite", "--for", "--format", "--size", "--space", "--clamp", "--no-clamp",
        "--merge", "--max-residual", "--model", "--weights", "--background", "--mode",
        "--strength", "--device", "--memory", "--assume-profile", *SAID,
    },
    "apply-lut": {
        "--mask-suffix", "--mask-dir", "--mask", "--mask-from", "--layout", "--output",
        "--overwrite", "--everywhere", "--interpolation", "--strength", "--space", "--memory",
        "--assume-profile", *SAID,
    },
    "curves": {
        "--mask-suffix", "--mask-dir", "--mask", "--mask-from", "--output", "--overwrite",
        "--model", "--weights", "--background", "--device", "--assume-profile", *SAID,
    },
    "mix": {"--at", "--output", "--overwrite", *SAID},
    "bench": {
        "--mask-suffix", "--mask-dir", "--mask", "--mask-share", "--model", "--mode", "--device",
        "--res", "--scale", "--threads", "--runs", "--warmup", "--csv", "--plot", "--baseline",
        "--tolerance", *SAID,
    },
    "eval": {
        "--composites", "--suffix", "--mask-suffix", "--mask-dir", "--truth-dir", "--truth-suffix",
        "--layout", "--output", "--protocol", "--baseline", "--against", "--edge", *SAID,
    },
    "models": SAID,
    "models list": SAID,
    "models info": SAID,
    "models import": {"--as", "--output", "--variant", "--overwrite", *SAID},
    "models verify": SAID,
    "train": {
        "--data", "--output", "--resume", "--init", "--minutes", "--steps", "--device", "--seed",
        "--fit", "--freeze", *SAID,
    },
    "synth": {"--data", "--output", "--split", "--count", "--shards", "--seed", *SAID},
}  # fmt: skip


def test_help_has_the_exit_codes_and_an_example(hz: Hz) -> None:
    """`hz --help` lists commands, one example and all exit codes."""
    said = hz("--help")

    assert said.exit_code == 0
    text = " ".join(said.out.split())
    assert "hz run ./shots --mask-suffix _m" in text
    for code in ("0 all done", "1 some", "2 wrong usage", "4 model", "5 device", "130 interrupted"):
        assert code in text
    assert max(len(line) for line in said.out.splitlines()) <= 80


@pytest.mark.parametrize("command", FLAGS)
def test_each_command_has_help_and_an_example(command: str, hz: Hz) -> None:
    """Every flag of the list is explained, no other is there."""
    import typer.main

    from hzcli.cli import app

    words = command.split()
    said = hz(*words, "--help")
    assert said.exit_code == 0
    assert f"Example: hz {command}" in said.out
    assert max(len(line) for line in said.out.splitlines()) <= 80
    group: Any = typer.main.get_command(app)
    for word in words:
        group = group.commands[word]
    given = {
        flag
        for option in group.params
        for flag in (*option.opts, *option.secondary_opts)
        if flag.startswith("--")
    }
    assert given - {"--help"} == FLAGS[command]
    for flag in FLAGS[command]:
        assert flag in said.out


def test_version(hz: Hz) -> None:
    """`hz --version` is one line."""
    assert hz("--version").out == f"hz {__version__}\n"


def test_help_works_as_a_program(python: Callable[..., subprocess.Popen[str]]) -> None:
    """`python -m hzcli --help` ends well and loads nothing heavy."""
    code = (
        "import runpy, sys\n"
        "try:\n    runpy.run_module('hzcli', run_name='__main__')\n"
        "finally:\n    heavy = {'torch', 'numpy', 'PIL', 'cv2', 'tifffile'} & set(sys.modules)\n"
        "    sys.stderr.write(f'heavy={sorted(heavy)}')"
    )

    process = python(code, ["--help"])
    out, err = process.communicate(timeout=60)

    assert process.returncode == 0
    assert "Commands" in out
    assert err == "heavy=[]"


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one file of weights and its card."""
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "small.safetensors").write_bytes(b"12345")
    card = {
        "id": "small",
        "model": "hinet",
        "config": "compact",
        "file": "small.safetensors",
        "sha256": hashlib.sha256(b"12345").hexdigest(),
        "bytes": 5,
        "parameters": 1234,
        "thumbnail": 256,
        "licence": "Apache-2.0",
        "data_terms": "free to use",
        "data": ["photographs"],
        "recipe": "hinet",
        "steps": 10,
        "minutes": 0.5,
        "hardware": "two cores",
        "figures": {"val fMSE, share of doing nothing": 0.25},
        "created": "2025-01-01",
        "a field of tomorrow": True,
    }
    (folder / "small.json").write_text(json.dumps(card))
    monkeypatch.setattr(catalog, "weights_folder", lambda: folder)
    return folder


def test_models_lists_paper_size_licence_terms_and_figures(hz: Hz, weights: Path) -> None:
    """Everything that helps to choose, within 80 columns."""
    said = hz("models")

    assert said.exit_code == 0
    text = " ".join(said.out.split())
    for words in ("small", "2303.01681", "1,234", "Apache-2.0", "free to use", "0.25"):
        assert words in text
    assert max(len(line) for line in said.out.splitlines()) <= 80


def test_models_as_json(hz: Hz, weights: Path) -> None:
    """One object a file of weights, then the summary."""
    card, summary = hz("models", "--json").lines

    assert (card["event"], card["id"], card["parameters"]) == ("weights", "small", 1234)
    assert card["path"] == str(weights / "small.safetensors")
    assert (summary["event"], summary["status"]) == ("summary", "success")


def test_models_tells_of_a_lost_file_and_a_broken_card(hz: Hz, weights: Path) -> None:
    """A card without its weights fails with 1, a card that is none with 4."""
    (weights / "small.safetensors").unlink()
    assert hz("models").exit_code == 1

    (weights / "small.json").write_text("{")
    said = hz("models")
    assert said.exit_code == 4
    assert "small.json" in said.err


def test_no_weights_installed(hz: Hz, weights: Path) -> None:
    """An empty folder is said to be so."""
    for path in weights.iterdir():
        path.unlink()

    assert "No weights are installed" in hz("models").out
