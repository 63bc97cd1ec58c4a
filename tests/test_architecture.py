"""Who may import whom, and what must stay light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "hzcli"

# A file imports only from its own row and the rows above it.
ROWS = (
    ("errors", "catalog"),
    ("auto",),
    ("core",),
    ("nets",),
    ("models",),
    ("io",),
    ("engine", "metrics", "train", "report", "checkpoints", "evaluation"),
    ("bench",),
    ("commands",),
    (
        "options",
        "ui",
        "tables",
        "shelf",
        "wording",
        "cli",
        "__main__",
        "look_options",
        "look_tables",
        "look_cli",
        "bench_tables",
        "bench_cli",
        "models_cli",
        "train_cli",
        "signals",
        "eval_tables",
        "info_tables",
        "file_options",
        "train_options",
    ),
)
RANK = {name: rank for rank, row in enumerate(ROWS) for name in row}

# What each of these must not load, even inside a function of its own row.
BANNED = {
    "errors": {"torch", "numpy"},
    "catalog": {"torch", "numpy"},
    "io": {"torch"},
    "bench": {"typer", "rich", "tqdm"},
    "auto": {"torch", "numpy"},
    "commands": {"typer", "rich", "tqdm"},
    "engine": {"typer", "rich", "tqdm"},
    "report": {"torch", "typer", "rich", "tqdm"},
    "core": {"PIL", "tifffile", "imagecodecs", "cv2"},
    "models": {"PIL", "tifffile", "imagecodecs", "cv2"},
}
# `io` reads files and knows no model: of `core` it may use these.
IO_CORE = {"window", "mask"}

FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def _imports(path: Path) -> set[str]:
    """Dotted names that a file imports at any depth, those for type checkers left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = {
        id(node)
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and "TYPE_CHECKING" in ast.unparse(branch.test)
        for statement in branch.body
        for node in ast.walk(statement)
    }
    names: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names.add(node.module or "")
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _part(path: Path) -> str:
    """The row's member that a file belongs to: "io" for hzcli/io/tiff.py."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _ours(names: set[str]) -> set[str]:
    return {name.split(".")[1] for name in names if name.startswith("hzcli.")} & RANK.keys()


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_upwards_only(path: Path) -> None:
    """A file imports from its own row and from those above it."""
    part = _part(path)
    assert part in RANK, f"{part} has no row: give it one"

    wrong = {name for name in _ours(_imports(path)) if RANK[name] > RANK[part]}

    assert wrong == set()


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_part_imports_what_it_must_not_know(path: Path) -> None:
    """No torch in `io`, no printing in `commands`, no files in `core`."""
    tops = {name.split(".")[0] for name in _imports(path)}

    assert tops & BANNED.get(_part(path), set()) == set()


@pytest.mark.parametrize("path", sorted((PACKAGE / "io").glob("*.py")), ids=lambda path: path.name)
def test_io_knows_no_model(path: Path) -> None:
    """Of `core`, `io` takes windows and masks; nothing of nets and models."""
    ours = {name for name in _imports(path) if name.startswith("hzcli.")}

    assert {name.split(".")[2] for name in ours if name.startswith("hzcli.core.")} <= IO_CORE
    assert _ours(ours) <= {"errors", "core", "io"}


def test_nobody_prints_but_the_screen() -> None:
    """`print` stands in ui.py, and in cli.py for --version."""
    printing = {
        _part(path)
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "print"
    }

    assert printing <= {"ui", "cli"}


@pytest.mark.parametrize("module", ["hzcli.cli", "hzcli.commands.run", "hzcli.engine.batch"])
def test_the_command_line_is_light(module: str) -> None:
    """Importing the command line, and a run's verb, does not import torch."""
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_help_needs_no_numpy() -> None:
    """What `hz --help` loads is typer and rich."""
    code = "import sys, hzcli.cli; print({'torch', 'numpy', 'PIL', 'cv2'} & set(sys.modules))"

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    )

    assert done.stdout == "set()\n"
