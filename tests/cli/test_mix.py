"""`hz mix`: looks between looks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_shots import Hz

from hzcli.commands.mix import mix
from hzcli.errors import LookError, UsageError
from hzcli.io import looks
from hzcli.io.cube import Look, read_cube


def rough(n: int) -> Look:
    values = np.random.default_rng(n).integers(0, 1_000_001, (n, n, n, 3)) / 1e6
    return Look(f"rough {n}", values.astype(np.float32))


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """a.cube of 5 nodes and b.cube of 9."""
    monkeypatch.chdir(tmp_path)
    for name, n in (("a", 5), ("b", 9)):
        looks.write(rough(n), Path(f"{name}.cube"))
    return Path("a.cube"), Path("b.cube")


def test_the_ends_are_the_looks(bare_hz: Hz, two: tuple[Path, Path]) -> None:
    """At 0 the first, at 1 the second, at the nodes of the larger."""
    for at in ("0", "1"):
        assert bare_hz("mix", *two, "--at", at, "-o", f"{at}.cube").exit_code == 0

    first, second = read_cube(Path("0.cube")).table, read_cube(Path("1.cube")).table
    assert (first[::2, ::2, ::2] == rough(5).table).all()
    assert (
        Path("1.cube").read_text().split("SIZE")[1] == Path("b.cube").read_text().split("SIZE")[1]
    )
    assert (second == rough(9).table).all()


def test_between_them_nodes_lie_on_a_line(two: tuple[Path, Path]) -> None:
    """HINet's eq. 4: lut_M + (lut_N - lut_M) (K - M) / (N - M)."""
    for at in (0.0, 0.3, 1.0):
        mix(*two, at=at, output=Path(f"{at}.cube"))
    a, c, b = (read_cube(Path(f"{at}.cube")).table.astype(float) for at in (0.0, 0.3, 1.0))

    assert np.abs(c - (a + (b - a) * 0.3)).max() < 1.1e-6


def test_standard_output(bare_hz: Hz, two: tuple[Path, Path]) -> None:
    """Nothing but the look goes there."""
    said = bare_hz("mix", *two, "--at", "0.5", "-o", "-")

    mix(*two, at=0.5, output=Path("c.cube"))
    assert said.exit_code == 0
    assert said.out == Path("c.cube").read_text()


@pytest.mark.parametrize("name", ["c.png", "c.3dl", "c.npy"])
def test_other_formats(name: str, two: tuple[Path, Path]) -> None:
    done = mix(*two, at=0.5, output=Path(name))

    assert looks.read(Path(name)).table is not None
    assert done.summary["size"] == 9 and list(done.files) == [Path(name)]


def test_curves_stay_curves_and_mix_with_tables(two: tuple[Path, Path]) -> None:
    knots = np.linspace(0, 1, 17)[:, None] ** [0.5, 1.0, 2.0]
    looks.write(Look("", None, knots.astype(np.float32)), Path("c.cube"))

    mix(Path("c.cube"), Path("c.cube"), at=0.5, output=Path("d.cube"))
    assert np.abs(read_cube(Path("d.cube")).shaper - knots).max() < 1e-6

    mix(two[0], Path("c.cube"), at=1, output=Path("e.cube"))
    table = read_cube(Path("e.cube")).table
    assert table is not None and len(table) == 65
    assert np.abs(table[::4, 0, 0, 0] - knots[:, 0]).max() < 1e-6


def test_the_result_says_how_far_apart_they_are(two: tuple[Path, Path]) -> None:
    same = mix(two[0], two[0], at=0.5, output=Path("c.cube")).summary
    apart = mix(*two, at=0.5, output=Path("d.cube")).summary

    assert same["apart_max"] == 0
    assert 0 < apart["apart_mean"] < apart["apart_max"] <= 255


def test_what_cannot_be_done(bare_hz: Hz, two: tuple[Path, Path]) -> None:
    """Nothing is written then, and inputs never are."""
    for at in (-0.1, 1.1, float("nan")):
        with pytest.raises(UsageError, match="not between 0 and 1"):
            mix(*two, at=at, output=Path("c.cube"))
    with pytest.raises(UsageError, match="one of the looks"):
        mix(*two, at=0.5, output=Path("b.cube"))
    with pytest.raises(LookError, match="no kind of look"):
        mix(*two, at=0.5, output=Path("c.docx"))
    with pytest.raises(LookError, match="cannot be opened"):
        mix(two[0], Path("no.cube"), at=0.5, output=Path("c.cube"))
    Path("c.cube").write_text("mine")
    with pytest.raises(UsageError, match="exists"):
        mix(*two, at=0.5, output=Path("c.cube"), overwrite=False)

    assert sorted(path.name for path in Path().iterdir()) == ["a.cube", "b.cube", "c.cube"]
    assert Path("c.cube").read_text() == "mine"
