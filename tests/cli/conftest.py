from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from made_shots import Darker, Hz, Said
from typer.testing import CliRunner


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Models are `Darker`; the list holds what was asked for."""
    import hzcli.models

    asked: list[object] = []

    def load(name_or_path: object, device: object) -> Darker:
        asked.append(name_or_path)
        return Darker()

    monkeypatch.setattr(hzcli.models, "load", load)
    return asked


@pytest.fixture
def hz(loads: list[object], bare_hz: Hz) -> Hz:
    """The command line in an empty folder, with a model made by rule, on the CPU."""
    return bare_hz


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The user's own folder of hz, empty."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def bare_hz(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Hz:
    """The command line in an empty folder, with the models that are installed, on the CPU."""
    from hzcli.cli import app

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HZ_HOME", str(home))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")  # equal runs give equal files

    def call(*words: str | Path) -> Said:
        arguments = [str(word) for word in words]
        if arguments[0] == "run" and "--device" not in arguments:
            arguments += ["--device", "cpu"]
        result = CliRunner().invoke(app, arguments, catch_exceptions=False)
        return Said(result.exit_code, result.stdout, result.stderr)

    return call


@pytest.fixture
def python(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start Python on some code in the test's folder."""
    root = Path(__file__).resolve().parents[2]
    here = Path(__file__).resolve().parent

    def start(code: str, arguments: Sequence[str] = ()) -> subprocess.Popen[str]:
        paths = [str(root), str(here), os.environ.get("PYTHONPATH", "")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        # Whoever runs the tests in the background has Ctrl-C ignored, which is handed down.
        code = f"import signal; signal.signal(2, signal.default_int_handler)\n{code}"
        return subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start
