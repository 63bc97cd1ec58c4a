"""`hz export-lut` from end to end: what is written, what is said, and what is refused."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from made_shots import Darker, Hz, Said, colours, disc, save, shot

import hzcli.models
from hzcli.core import tetra
from hzcli.io import looks as files

EXPORT = ("export-lut", "a.png", "--mask-suffix", "_m", "--device", "cpu")
HALF = np.stack(np.meshgrid(*[np.linspace(0, 0.5, 33)] * 3, indexing="ij"), -1)


class Shaded(Darker):
    """Darkens the right more than the left: no table says that."""

    card = SimpleNamespace(id="shaded")

    def predict(self, thumb: Any) -> Any:
        from hzcli.core.affine import AffineMap, as_maps

        matrix = torch.eye(3)[None, :, :, None, None].repeat(1, 1, 1, 1, 2)
        matrix[..., 1] *= 0.4
        return AffineMap(as_maps(matrix, torch.zeros(1, 3, 1, 2)))


@pytest.fixture
def shaded(hz: Hz, monkeypatch: pytest.MonkeyPatch) -> Hz:
    monkeypatch.setattr(hzcli.models, "load", lambda name, device: Shaded())
    return hz


def narrow(said: Said) -> bool:
    return max(len(line) for line in (said.out + said.err).splitlines()) <= 80


def test_a_model_s_table_is_exported_exactly(hz: Hz, tmp_path: Path) -> None:
    """In the safe subset of .cube, with a residual of nothing."""
    shot(tmp_path / "a.png")

    said = hz(*EXPORT, "-o", "look.cube")

    assert said.exit_code == 0
    lines = (tmp_path / "look.cube").read_bytes().decode("ascii").split("\n")
    assert lines[0] == 'TITLE "a (darker)"'
    head = [line for line in lines if line.startswith("#")]
    assert lines[1 : 1 + len(head)] == head and "darker" in head[0]
    assert "sRGB" in head[1] and "tetrahedral" in head[1]
    assert lines[1 + len(head)] == "LUT_3D_SIZE 33"
    body = lines[2 + len(head) : -1]
    assert body[1] == "0.015625 0.000000 0.000000"  # red fastest
    assert len(body) == 33**3 and not any("DOMAIN" in line or "\r" in line for line in lines)
    look = files.read(tmp_path / "look.cube")
    assert np.abs(look.table - HALF).max() < 1e-6
    for words in ("exact", "0.00", "33 nodes a side", "1 look written", "Results: look.cube"):
        assert words in said.out
    assert narrow(said)


def test_what_is_not_exact_tells_its_residual(shaded: Hz, tmp_path: Path) -> None:
    """Mean, 99th percentile and maximum, in levels and Delta E; JSON has all of it."""
    shot(tmp_path / "a.png")

    said = shaded(*EXPORT, "-o", "look.cube", "--json")

    row, summary = said.lines
    assert (row["event"], row["status"], row["exact"], row["size"]) == (
        "picture",
        "done",
        False,
        33,
    )
    # By hand: hz's picture is its own, the look's is read with another code.
    shaded("run", "a.png", "--mask-suffix", "_m", "--no-report")
    import tifffile

    wanted = tifffile.imread(tmp_path / "harmonized/a.tif") / 65535
    source, soft = colours() / 255, disc()[..., None] / 255
    table = files.read(tmp_path / "look.cube").table
    found = source + soft * (np.clip(tetra.interpolate(table, source), 0, 1) - source)
    away = 255 * np.abs(found - wanted)[disc() > 0]
    levels = row["residual"]["levels"]
    assert levels["mean"] == pytest.approx(away.mean(), abs=5e-3)
    assert levels["p99"] == pytest.approx(np.percentile(away, 99), abs=0.3)
    assert levels["max"] == pytest.approx(away.max(), abs=0.02)
    assert levels["mean"] > 1.5
    color = pytest.importorskip("skimage.color")
    inside = disc() > 0
    delta = color.deltaE_ciede2000(color.rgb2lab(found), color.rgb2lab(wanted))[inside]
    assert row["residual"]["delta_e"]["mean"] == pytest.approx(delta.mean(), rel=0.01)
    assert row["residual"]["delta_e"]["max"] == pytest.approx(delta.max(), rel=0.02)
    assert any("no table gives this picture" in words for words in row["warnings"])
    assert summary["median_residual"] == levels["mean"]
    said = shaded(*EXPORT, "-o", "again.cube")
    assert "fitted" in said.out and f"{levels['mean']:.2f}" in said.out
    assert "warning: a.png: no table gives" in said.err


def test_max_residual_is_an_exit_code(shaded: Hz, tmp_path: Path) -> None:
    """7, with the look written; 0 where it is near enough."""
    shot(tmp_path / "a.png")

    said = shaded(*EXPORT, "-o", "look.cube", "--max-residual", "0.5")

    assert said.exit_code == 7
    assert (tmp_path / "look.cube").is_file()
    assert "Above --max-residual 0.5: 1 of 1." in said.out
    assert shaded(*EXPORT, "-o", "b.cube", "--max-residual", "90").exit_code == 0


def test_stdout_holds_the_look_and_nothing_else(hz: Hz, tmp_path: Path) -> None:
    """The bytes of the file; the table goes to stderr."""
    shot(tmp_path / "a.png")
    hz(*EXPORT, "-o", "look.cube")

    said = hz(*EXPORT, "-o", "-")

    assert said.out == (tmp_path / "look.cube").read_text()
    assert "exact" in said.err and "1 look to stdout" in said.err
    said = hz(*EXPORT, "-o", "-", "--json")
    assert (said.exit_code, said.out) == (2, "")


@pytest.mark.parametrize(
    ("words", "name", "size", "within"),
    [
        (("--format", "cube", "--size", "17"), "l.cube", 17, 1e-6),
        ((), "l.3dl", 33, 0.5 / 4095),
        ((), "l.npy", 33, 1e-7),
        (("--size", "17"), "l.png", 16, 0.5 / 65535),
        (("--size", "65"), "l.png", 64, 0.5 / 65535),
    ],
)
def test_every_format_holds_the_table(
    words: tuple[str, ...], name: str, size: int, within: float, hz: Hz, tmp_path: Path
) -> None:
    """Read back, within what the format can say."""
    shot(tmp_path / "a.png")

    assert hz(*EXPORT, "-o", name, *words).exit_code == 0

    table = files.read(tmp_path / name).table
    assert len(table) == size
    nodes = np.stack(np.meshgrid(*[np.linspace(0, 0.5, size)] * 3, indexing="ij"), -1)
    assert np.abs(table - nodes).max() <= within * 1.01


@pytest.mark.parametrize(
    ("host", "size", "trilinear"),
    [
        ("photoshop", 33, False), ("lightroom", 32, False), ("resolve", 33, True),
        ("ffmpeg", 33, False), ("darktable", 33, False), ("camera", 33, False),
    ],
)  # fmt: skip
def test_hosts_get_what_they_read(
    host: str, size: int, trilinear: bool, hz: Hz, tmp_path: Path
) -> None:
    """A .cube of their size."""
    shot(tmp_path / "a.png")

    row, _ = hz(*EXPORT, "-o", "l.cube", "--for", host, "--json").lines

    assert (row["format"], row["size"]) == ("cube", size)
    assert row["interpolation"] == ("trilinear" if trilinear else "tetrahedral")
    assert len(files.read(tmp_path / "l.cube").table) == size


class Overshooting(Darker):
    def predict_lut(self, thumb: Any) -> Any:
        from hzcli.core.lut import Lut3D, identity_lut

        return Lut3D(1.4 * identity_lut(3)[None] - 0.1)

    predict = predict_lut


def test_values_beyond_white_stay_unless_they_disturb(
    hz: Hz, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--clamp, or a host that warns of them."""
    monkeypatch.setattr(hzcli.models, "load", lambda name, device: Overshooting())
    shot(tmp_path / "a.png")
    ranges = []
    for words in ((), ("--clamp",), ("--for", "darktable"), ("--for", "darktable", "--no-clamp")):
        hz(*EXPORT, "-o", "l.cube", "-f", *words)
        table = files.read(tmp_path / "l.cube").table
        ranges.append((round(float(table.min()), 3), round(float(table.max()), 3)))

    assert ranges == [(-0.1, 1.3), (0, 1), (0, 1), (-0.1, 1.3)]


def test_strength_and_space(hz: Hz, tmp_path: Path) -> None:
    """Half a look; and a look for ProPhoto, whose residual counts what the host does."""
    shot(tmp_path / "a.png")
    hz(*EXPORT, "-o", "half.cube", "--strength", "0.5")
    row, _ = hz(*EXPORT, "-o", "wide.cube", "--space", "prophoto", "--json").lines

    assert np.abs(files.read(tmp_path / "half.cube").table - 1.5 * HALF).max() < 1e-6
    wide = files.read(tmp_path / "wide.cube").table
    assert np.abs(wide - HALF).max() > 0.03
    assert row["residual"]["levels"]["mean"] < 0.3
    assert "ProPhoto" in (tmp_path / "wide.cube").read_text()


def test_several_pictures_give_a_folder(hz: Hz, tmp_path: Path) -> None:
    """A mirror of the tree; one failure does not stop the rest; what exists is kept."""
    shot(tmp_path / "shots/a.png")
    shot(tmp_path / "shots/deep/b.png")
    shot(tmp_path / "shots/c.png", mask=None)
    words = ("export-lut", "shots", "--mask-suffix", "_m", "--device", "cpu")

    said = hz(*words)

    assert said.exit_code == 1
    assert "failed: shots/c.png: no mask" in said.err
    found = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.cube"))
    assert found == ["looks/a.cube", "looks/deep/b.cube"]
    assert "2 looks written, 1 failed" in said.out
    assert narrow(said)
    said = hz(*words, "-o", "looks")
    assert "0 looks written, 2 kept (-f replaces them), 1 failed" in said.out


def test_a_merge_is_one_look(hz: Hz, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean, without the one that is unlike the others; its residual on each."""
    for k in range(4):
        shot(tmp_path / f"shots/s{k}.png")
    factors = iter([0.5, 0.52, 0.48, 1.6] * 2)

    class Moody(Darker):
        def predict(self, thumb: Any) -> Any:
            from hzcli.core.lut import Lut3D, identity_lut

            return Lut3D(next(factors) * identity_lut(2)[None])

    monkeypatch.setattr(hzcli.models, "load", lambda name, device: Moody())

    said = hz("export-lut", "shots", "--mask-suffix", "_m", "--merge", "-o", "l.cube",
              "--device", "cpu", "--json")  # fmt: skip

    *rows, summary = said.lines
    table = files.read(tmp_path / "l.cube").table
    assert np.abs(table - HALF).max() < 0.01
    trust = [row["trust"] for row in rows]
    assert min(trust[:3]) > 0.5 and trust[3] == 0
    means = [row["residual"]["levels"]["mean"] for row in rows]
    assert max(means[:3]) < 4 and means[3] > 40
    assert "unlike the others" in rows[3]["warnings"][0]
    assert summary["merged"] is True


def test_masks_by_file_and_from_alpha(hz: Hz, tmp_path: Path) -> None:
    """As in a run."""
    shot(tmp_path / "a.png")
    save(tmp_path / "cut.png", np.dstack([colours(), disc()]))
    tables = []
    for words in (("a.png", "--mask", "a_m.png"), ("cut.png", "--mask-from", "alpha")):
        said = hz("export-lut", *words, "--device", "cpu", "-o", "l.cube", "-f")
        assert said.exit_code == 0
        tables.append(files.read(tmp_path / "l.cube").table)
    assert (tables[0] == tables[1]).all()


def test_a_profile_can_be_assumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Untagged pixels taken for Adobe RGB are those that say so."""
    from PIL import Image

    from hzcli.commands.export_lut import LookSettings, export_lut
    from hzcli.engine.pairing import PairingRules
    from hzcli.io.profiles import profile

    monkeypatch.setattr(hzcli.models, "load", lambda name, device: Shaded())
    shot(tmp_path / "a.png")
    shot(tmp_path / "b.png")
    Image.fromarray(colours()).save(tmp_path / "b.png", icc_profile=profile("adobergb"))
    tables, said = [], []
    for name, assume in (("a", "adobergb"), ("b", None), ("a", None)):
        settings = LookSettings(
            output=tmp_path / "l.cube", assume=assume, device="cpu", overwrite=True
        )
        rules = PairingRules(mask_suffix="_m")
        done = export_lut([tmp_path / f"{name}.png"], rules, settings, model="shaded")
        tables.append(files.read(tmp_path / "l.cube").table)
        said.append(done.outcomes[0].warnings)

    assert (tables[0] == tables[1]).all()
    assert np.abs(tables[2] - tables[1]).max() > 0.5 / 255
    assert any("is in Adobe RGB" in words for words in said[0])
    assert not any("Adobe" in words for words in said[2])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("shots", "-o", "l.cube"), "2 pictures have 2 looks"),
        (("shots/a.png", "-o", "l.png", "--format", "cube"), "no name for the format cube"),
        (("shots/a.png", "-o", "shots/a.png", "-f"), "over the input"),
        (("shots/a.png", "-o", "there.cube"), "exists already"),
        (("shots/a.png", "--for", "darktable", "--format", "cube1d"), "does not read cube1d"),
        (("shots/a.png", "--for", "camera", "--size", "65"), "--size 65 is out of range"),
        (("shots/a.png", "--size", "1"), "--size 1 is out of range"),
        (("shots/a.png", "--format", "cube1d"), "mixes channels"),
        (("shots/a.png", "--format", "cube1d", "--space", "p3"), "another colour space"),
        (("shots/a.png", "--background", "shots/b.png"), "takes no --background"),
        (("shots/a.png", "-o", "there.cube/x"), "is a file"),
    ],
)
def test_what_cannot_be_is_refused(
    words: tuple[str, ...], expected: str, hz: Hz, tmp_path: Path
) -> None:
    """With 2, and nothing written."""
    shot(tmp_path / "shots/a.png")
    shot(tmp_path / "shots/b.png")
    (tmp_path / "there.cube").write_text("mine")
    before = sorted(tmp_path.rglob("*"))

    said = hz("export-lut", *words, "--mask-suffix", "_m", "--device", "cpu")

    assert said.exit_code == 2
    assert expected in said.err
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "there.cube").read_text() == "mine"
