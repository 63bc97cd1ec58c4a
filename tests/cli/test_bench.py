"""`hz bench` from end to end, on small pictures and few rounds."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_shots import Hz, shot

from hzcli.bench import runner
from hzcli.bench.runner import Configuration, Measured
from hzcli.commands import bench as verb
from hzcli.core.window import Size
from hzcli.engine.pairing import PairingRules

STAGES = ("read", "thumbnail", "network", "apply", "encode", "write", "total")


def told(configuration: Configuration, slower: float = 1.0) -> dict[str, Any]:
    """What a child might say."""
    width, height = map(int, configuration.label.split("x"))
    spent = {**dict.fromkeys(STAGES, 0.01 * slower), "total": 0.06 * slower}
    return {
        "device": "cpu", "threads": 1, "torch": "2", "width": width, "height": height,
        "mask_share": 0.25, "runs": 1, "parameters": 12345, "warnings": [], "plan": "bands",
        "bytes": {"source": 1, "result": 2}, "bind": {"seconds": 0.0, "cpu": 0.0},
        "memory": {"host_mb": 100.0, "imports_mb": 200.0, "gpu_mb": None},
        **({"macs": {"network": 1, "apply": 2, "how": "counted"}} if configuration.count else {}),
        "seconds": spent, "cpu": spent, "copy": {"seconds": 0.001, "cpu": 0.001},
        "codec": {"seconds": 0.02, "cpu": 0.02}, "matmul_gflops": {"seconds": 100.0, "cpu": 100.0},
    }  # fmt: skip


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> list[Configuration]:
    """No process is started: each configuration takes 1.0 times as long as the one before."""
    seen: list[Configuration] = []

    def run(configuration: Configuration, output: Path) -> Measured:
        seen.append(configuration)
        return Measured(configuration, told(configuration))

    monkeypatch.setattr(runner, "run", run)
    return seen


def test_a_network_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For real, in a process: all figures are there and fit each other; nothing is left over."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    settings = verb.BenchSettings(
        sizes=(Size(128, 192),), splits=(4,), device="cpu", threads=1, runs=1
    )

    result = verb.bench([], PairingRules(), settings, models=["s2crnet-compact"])

    (row,) = [row.as_dict() for row in result.outcomes]
    assert result.exit_code == 0, row["error"]
    assert (row["width"], row["height"], row["splits"]) == (192, 128, 4)
    assert row["mask_share"] == pytest.approx(0.25, abs=0.02)
    assert row["weights"] == "random weights" and row["configuration"] == "compact"
    assert row["macs"]["network"] > 1e6
    assert row["memory"]["host_mb"] > 0 and row["memory"]["gpu_mb"] is None
    assert set(row["seconds"]) == set(row["times_codec"]) == set(STAGES)
    assert all(row["seconds"][name] > 0 for name in STAGES)
    ratio = row["seconds"]["total"] / row["codec"]["seconds"]
    assert row["times_codec"]["total"] == pytest.approx(ratio)
    assert "4 parts" in row["plan"]
    assert result.summary["machine"]["cores"] == os.cpu_count()
    assert list(tmp_path.iterdir()) == []


def test_tables_fit_the_screen(bare_hz: Hz, tmp_path: Path, children: list[Configuration]) -> None:
    """80 columns; every split; papers' seconds with their hardware; a CSV with all figures."""
    said = bare_hz(
        "bench", "--res", "2048", "--res", "256x128", "-m", "hinet-published", "--csv", "a.csv"
    )

    assert said.exit_code == 0
    assert max(len(line) for line in said.out.splitlines()) <= 80
    for word in ("in 16 parts", "0.23 s [1]", "0.52 s [2]", "RTX 3090", "x codec", "memory copy",
                 "random weights", "256 x 128", "Written: a.csv"):  # fmt: skip
        assert word in said.out
    assert [c.splits for c in children] == [None, 1, 4, 16] * 2
    with open(tmp_path / "a.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert len(table) == 8
    assert float(table[0]["cpu_times_codec_total"]) == pytest.approx(3)
    assert table[1]["macs_apply"] == "2"


def test_a_loss_ends_with_7(
    bare_hz: Hz, tmp_path: Path, children: list[Configuration], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against --csv and --json of the same; within the tolerance all is well."""
    words = ("bench", "--res", "64", "-m", "hinet")
    assert bare_hz(*words, "--csv", "a.csv").exit_code == 0
    (tmp_path / "a.jsonl").write_text(bare_hz(*words, "--json").out)
    assert bare_hz(*words, "--baseline", "a.csv").exit_code == 0

    monkeypatch.setattr(runner, "run", lambda c, output: Measured(c, told(c, slower=1.4)))
    for file in ("a.csv", "a.jsonl"):
        worse = bare_hz(*words, "--baseline", file)
        assert worse.exit_code == 7
        assert "time by codec-only" in worse.out and "+40%" in worse.out
    assert bare_hz(*words, "--baseline", "a.csv", "--tolerance", "50%").exit_code == 0
    assert bare_hz(*words, "--res", "128", "--baseline", "a.csv").exit_code == 7
    missing = bare_hz("bench", "--res", "128", "-m", "hinet", "--baseline", "a.csv")
    assert missing.exit_code == 2


def test_pictures_of_ones_own(bare_hz: Hz, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder and a mask suffix: each picture that has a mask; none is an error."""
    seen: list[Configuration] = []

    def run(configuration: Configuration, output: Path) -> Measured:
        seen.append(configuration)
        return Measured(configuration, error={"code": "X", "message": "no", "hint": ""})

    monkeypatch.setattr(runner, "run", run)
    shot(tmp_path / "shots/a.png")
    shot(tmp_path / "shots/b.png", mask=None)

    said = bare_hz("bench", "shots", "--mask-suffix", "_m", "-m", "hinet")

    assert said.exit_code == 1
    assert {c.label for c in seen} == {"shots/a.png"}
    assert seen[0].mask == tmp_path / "shots/a_m.png"
    assert "failed" in said.out
    none = bare_hz("bench", "shots/b.png", "--mask-suffix", "_m")
    assert none.exit_code == 2


def test_a_scale_is_followed_and_drawn(
    bare_hz: Hz, tmp_path: Path, children: list[Configuration]
) -> None:
    """Sizes up to the one asked, one plan each; an exponent; a PNG."""
    pytest.importorskip("matplotlib")

    said = bare_hz("bench", "--scale", "1.5MP", "--plot", "a.png", "--json")

    assert said.exit_code == 0
    assert [c.splits for c in children] == [None, None]
    assert all(c.picture.suffix == ".tif" for c in children)
    assert set(said.lines[-1]["scaling"]["hinet"]) == {"apply", "total"}
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--res", "big"), 2),
        (("--res", "3"), 2),
        (("--mask-share", "0"), 2),
        (("--mask-share", "150%"), 2),
        (("--scale", "x"), 2),
        (("--plot", "a.png"), 2),
        (("--baseline", "nowhere"), 2),
        (("--model", "nowhere"), 4),
    ],
)
def test_what_cannot_be_is_refused(words: tuple[str, ...], code: int, bare_hz: Hz) -> None:
    """Before anything is measured, with a hint and without a traceback."""
    said = bare_hz("bench", *words)

    assert said.exit_code == code
    assert said.err.startswith("error: ")
    assert "Traceback" not in said.err


def test_a_configuration_that_fails_has_its_row(tmp_path: Path) -> None:
    """Weights that are none: the process says so; the others would go on."""
    broken = tmp_path / "x.safetensors"
    broken.write_bytes(b"no")
    settings = verb.BenchSettings(sizes=(Size(64, 64),), splits=(None,), device="cpu")

    result = verb.bench([], PairingRules(), settings, models=[str(broken)])

    (row,) = [row.as_dict() for row in result.outcomes]
    assert result.exit_code == 1
    assert row["error"]["code"] == "ModelError"


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_interrupted_it_cleans_up(
    python: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    """Ctrl-C while a child works: 130, what was finished is kept, no file and no process stays."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    code = (
        "import subprocess, sys, time\n"
        "from hzcli.bench import runner\n"
        "own = subprocess.Popen\n"
        "def popen(command, **named):\n"
        "    child = own([sys.executable, '-c', 'import time; time.sleep(60)'], **named)\n"
        "    print(child.pid, flush=True)\n"
        "    return child\n"
        "runner.subprocess.Popen = popen\n"
        f"import tempfile; tempfile.tempdir = {str(temporary)!r}\n"
        "from hzcli.cli import main\n"
        "sys.argv = ['hz', 'bench', '--res', '64', '-m', 'hinet', '--json']\n"
        "main()\n"
    )
    with python(code) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        time.sleep(0.5)  # it is told of before it is waited for
        process.send_signal(signal.SIGINT)
        try:
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()

    assert process.returncode == 130, err
    assert json.loads(out.splitlines()[-1])["interrupted"] is True
    assert list(temporary.iterdir()) == []
    for _ in range(50):
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail("the child is still there")
