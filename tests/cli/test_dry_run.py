"""`hz run -n`: every file's fate, nothing written, torch not even imported."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

from made_shots import Hz, colours, contents, save, shot

RUN = ("run", "shots", "--mask-suffix", "_m", "--truth-suffix", "_gt")


def test_every_fate_is_told_and_nothing_written(hz: Hz, tmp_path: Path) -> None:
    """Run, keep and fail, each with its reason."""
    shot(tmp_path / "shots/a.png", truth="_gt.png")
    shot(tmp_path / "shots/b.png")
    shot(tmp_path / "shots/c.png", mask=None)
    save(tmp_path / "harmonized/b.tif", colours())
    before = contents(tmp_path)

    said = hz(*RUN, "-n")

    assert said.exit_code == 1
    assert contents(tmp_path) == before
    lines = [line.strip() for line in said.out.splitlines()]
    assert lines == [
        "run   shots/a.png",
        "32 x 24, 8 bits; mask a_m.png; truth a_gt.png",
        "to harmonized/a.tif",
        "keep  shots/b.png",
        "harmonized/b.tif exists; -f replaces it",
        "fail  shots/c.png",
        "no mask: looked for c_m.* beside it. Add the mask, or check --mask-suffix",
        "and --mask-dir.",
        "Dry run: 1 to harmonise, 1 kept, 1 would fail. Nothing was written.",
    ]
    assert "1 to harmonise" not in hz(*RUN, "-n", "-q").out


def test_fates_as_json(hz: Hz, tmp_path: Path) -> None:
    """Composite, mask, truth and output of each picture, then a summary."""
    shot(tmp_path / "shots/a.png", truth="_gt.png")

    said = hz(*RUN, "-n", "--json")

    assert said.exit_code == 0
    picture, summary = said.lines
    names = ("status", "input", "mask", "truth", "output")
    assert [picture[name] for name in names] == [
        "ready", "shots/a.png", "shots/a_m.png", "shots/a_gt.png", "harmonized/a.tif",
    ]  # fmt: skip
    assert summary["event"] == "summary"


def test_a_dry_run_loads_no_model_and_no_torch(
    python: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    """It answers at once, whatever the folder holds."""
    shot(tmp_path / "shots/a.png")
    code = (
        "import sys\n"
        "from hzcli.cli import main\n"
        "try:\n    main()\n"
        "finally:\n    sys.stderr.write(f'torch={\"torch\" in sys.modules}')"
    )

    process = python(code, [*RUN, "-n", "--json"])
    out, err = process.communicate(timeout=60)

    assert process.returncode == 0, err
    assert err.endswith("torch=False")
    assert len(out.splitlines()) == 2
