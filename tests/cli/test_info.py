"""`hz info`: what it sees, foretells and prints. The oracle is how each file was made."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from made_shots import Hz, colours, disc, save, shot
from PIL import Image
from rich.console import Console

from hzcli import info_tables
from hzcli.commands.info import Asked, info
from hzcli.engine.pairing import PairingRules
from hzcli.errors import UsageError
from hzcli.io.masks import MaskOptions
from hzcli.io.writers import OutputOptions
from hzcli.report import plain

SUFFIX = PairingRules(mask_suffix="_m")
NONE = PairingRules()


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def seen(path: Path, rules: PairingRules = NONE, asked: Asked | None = None, **more):
    (row,) = info([path], rules, asked, **more).outcomes
    return row


def printed(*args, width: int = 80, **more) -> str:
    out = io.StringIO()
    info_tables.info(info(*args, **more), Console(file=out, width=width, highlight=False))
    return out.getvalue()


def test_what_a_camera_wrote_is_seen(tmp_path: Path) -> None:
    """Size as it stands upright, orientation, profile, resolution, camera, position."""
    from hzcli.io import profiles

    exif = Image.Exif()
    exif[274], exif[271], exif[272] = 6, "Canon", "EOS R5"
    exif.get_ifd(0x8825)[1], exif.get_ifd(0x8825)[2] = "N", (1.0, 2.0, 3.0)
    exif.get_ifd(0x8769)[37500] = b"maker" * 100
    icc = profiles.profile("adobergb")
    picture = Image.fromarray(colours(24, 32))
    picture.save("a.jpg", exif=exif, icc_profile=icc, dpi=(300, 300))
    row = seen(Path("a.jpg"))

    assert row.status == "ready" and row.error is None
    about = row.picture
    assert (about["width"], about["height"], about["orientation"]) == (24, 32, 6)
    assert (about["format"], about["depth"], about["channels"]) == ("jpeg", 8, "rgb")
    assert about["resolution"] == [300, 300, "inch"]
    assert about["bytes"] == Path("a.jpg").stat().st_size
    assert not row.profile["presumed"] and row.profile["bytes"] == len(icc)
    assert "Adobe" in row.profile["name"]
    assert row.metadata["camera"] == "Canon EOS R5" and row.metadata["gps"]
    assert row.metadata["maker_note"] == 500
    text = printed([Path("a.jpg")], NONE)
    for word in ("24 x 32", "90 degrees to the right", "Adobe", "Canon EOS R5", "GPS"):
        assert word in text


@pytest.mark.parametrize(
    ("name", "array", "facts"),
    [
        ("a.tif", colours().astype(np.uint16) * 257, ("tiff", 16, "rgb", False)),
        ("a.tif", (colours() / 255).astype(np.float32), ("tiff", 32, "rgb", False)),
        ("a.png", colours()[..., 0], ("png", 8, "grey", False)),
        ("a.png", np.dstack([colours(), disc()]), ("png", 8, "rgba", True)),
        ("a.tif", disc() > 100, ("tiff", 8, "bilevel", False)),
    ],
)
def test_depths_and_channels(name: str, array: np.ndarray, facts: tuple) -> None:
    if name.endswith("tif"):
        photometric = "rgb" if array.ndim == 3 else "minisblack"
        tifffile.imwrite(name, array, photometric=photometric)
    else:
        save(Path(name), array)
    about = seen(Path(name)).picture

    assert (about["format"], about["depth"], about["channels"], about["alpha"]) == facts


def test_what_would_happen(tmp_path: Path) -> None:
    """Output by the same rules as a run's; nothing is written."""
    shot(Path("in/day/x.jpg"))
    row = seen(Path("in"), SUFFIX, Asked(folder=Path("out")))

    assert row.run["output"] == str(Path("out/day/x.tif"))
    assert (row.run["format"], row.run["depth"], row.run["model"]) == ("tiff", 16, "hinet")
    assert row.run["memory_bytes"] > 100 << 20 and row.run["band_rows"] >= 24
    assert not Path("out").exists()
    kept = Asked(folder=Path("out"), format=OutputOptions(format="keep"))
    assert seen(Path("in"), SUFFIX, kept).run["output"] == str(Path("out/day/x.jpg"))
    save(Path("out/day/x.jpg"), colours())
    assert seen(Path("in"), SUFFIX, kept).run["exists"]


def test_which_mask_and_by_which_rule() -> None:
    shot(Path("x.jpg"))
    (mask,) = seen(Path("x.jpg"), SUFFIX).masks

    assert (mask["path"], mask["rule"]) == ("x_m.png", "--mask-suffix _m")
    assert (mask["width"], mask["height"], mask["channels"]) == (32, 24, "grey")
    assert "foreground" not in mask
    (mask,) = seen(Path("x.jpg"), SUFFIX, pixels=True).masks
    assert mask["foreground"] == pytest.approx(disc().mean() / 255, rel=1e-6)
    assert mask["soft"] == pytest.approx(((disc() > 0) & (disc() < 255)).mean())
    rows, columns = np.flatnonzero(disc().any(1)), np.flatnonzero(disc().any(0))
    assert mask["box"] == [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


def test_numbered_masks_are_all_told() -> None:
    shot(Path("x.jpg"), mask="_m1.png")
    save(Path("x_m2.png"), disc()[:, ::-1])

    assert [mask["path"] for mask in seen(Path("x.jpg"), SUFFIX).masks] == ["x_m1.png", "x_m2.png"]
    assert "mask 2" in printed([Path("x.jpg")], SUFFIX)


def test_the_mask_is_measured_as_it_would_be_used() -> None:
    shot(Path("x.jpg"))
    asked = Asked(masks=MaskOptions(invert=True, threshold=0.5))
    (mask,) = seen(Path("x.jpg"), SUFFIX, asked, pixels=True).masks

    assert mask["foreground"] == pytest.approx((255 - disc() >= 127.5).mean())
    assert mask["soft"] == 0


def test_a_mask_that_does_not_fit_is_shown_beside_the_error() -> None:
    shot(Path("x.jpg"), mask=None)
    save(Path("x_m.png"), disc(12, 16))
    row = seen(Path("x.jpg"), SUFFIX)

    assert row.status == "failed" and "--resize-mask" in row.error["hint"]
    assert row.masks[0]["width"] == 16
    row = seen(Path("x.jpg"), SUFFIX, Asked(masks=MaskOptions(resize="bilinear")))
    assert row.status == "ready" and "was resized" in row.notes[-1]


def test_what_is_wrong_does_not_hide_what_is_known() -> None:
    """No mask, an empty one, a text file: exit code 1, facts as far as there are any."""
    save(Path("x.jpg"), colours())
    save(Path("y.png"), colours())
    save(Path("y_m.png"), disc() * 0)
    Path("z.jpg").write_text("no picture")
    result = info([Path()], SUFFIX, pixels=True)
    x, y, z = result.outcomes

    assert result.exit_code == 1 and result.status == "error"
    assert x.picture["width"] == 32 and "no mask" in x.error["message"]
    assert "empty" in y.error["message"] and y.masks
    assert z.picture == {} and z.error
    text = printed([Path()], SUFFIX)
    assert "3 pictures, 2 cannot be harmonised" in text  # the empty one was not looked into


def test_damage_shows_where_pixels_are_read() -> None:
    save(Path("x.png"), np.random.default_rng(0).integers(0, 255, (90, 90, 3), np.uint8))
    data = Path("x.png").read_bytes()
    Path("x.png").write_bytes(data[: len(data) // 2])

    assert seen(Path("x.png")).status == "ready"
    assert seen(Path("x.png"), pixels=True).status == "failed"


def test_what_would_be_lost() -> None:
    """Inks, floats, alpha, metadata: each said once."""
    Image.fromarray(colours()).convert("CMYK").save("c.jpg")
    assert any("CMYK" in text for text in seen(Path("c.jpg")).lost)
    tifffile.imwrite("f.tif", (colours() / 255).astype(np.float32), photometric="rgb")
    assert any("16 bits" in text for text in seen(Path("f.tif")).lost)
    floats = Asked(format=OutputOptions(depth="32f"))
    assert not any("bits" in text for text in seen(Path("f.tif"), NONE, floats).lost)
    save(Path("a.png"), np.dstack([colours(), disc()]))
    jpeg = Asked(format=OutputOptions(format="jpeg"))
    row = seen(Path("a.png"), NONE, jpeg)
    assert any("alpha" in text for text in row.lost) and not row.run["alpha"]
    exif = Image.Exif()
    exif[271] = "Canon"
    Image.fromarray(colours()).save("e.jpg", exif=exif)
    assert seen(Path("e.jpg"), NONE, Asked(metadata="none")).lost == ("all metadata",)


def test_untagged_pictures_say_what_is_presumed() -> None:
    save(Path("x.png"), colours())
    row = seen(Path("x.png"))
    assert row.profile["presumed"] and row.profile["srgb"] and row.profile["bytes"] is None
    assert "presumed" in printed([Path("x.png")], NONE)
    row = seen(Path("x.png"), NONE, Asked(assume="adobergb"))
    assert "Adobe" in row.profile["name"] and row.profile["why"] == "assumed"


def test_every_line_fits_into_eighty_columns() -> None:
    """Names of files apart, which stay whole, but for those inside sentences."""
    shot(Path("a quite long name of a folder/x y.jpg"))
    tifffile.imwrite("f.tif", (colours() / 255).astype(np.float32), photometric="rgb")
    text = printed([Path()], SUFFIX, pixels=True)

    assert max(len(line) for line in text.splitlines()) <= 80
    assert text.count("\n") < 30


def test_rows_are_json() -> None:
    """One object a picture; numbers and texts only."""
    shot(Path("x.jpg"))
    row = json.loads(json.dumps(plain(seen(Path("x.jpg"), SUFFIX, pixels=True).as_dict())))
    names = ("input", "status", "picture", "profile", "metadata", "masks", "run", "lost", "notes")

    assert set(names) < set(row) and row["masks"][0]["rule"] == "--mask-suffix _m"


def test_nothing_there_is_wrong_usage() -> None:
    with pytest.raises(UsageError, match="does not exist"):
        info([Path("nowhere")], NONE)
    with pytest.raises(UsageError, match="depth 16"):
        info([save(Path("x.png"), colours())], NONE, Asked(format=OutputOptions("jpeg", "16")))


def test_looking_at_heads_takes_no_torch() -> None:
    shot(Path("x.jpg"))
    code = (
        "import sys; from pathlib import Path; from hzcli.commands.info import info\n"
        "from hzcli.engine.pairing import PairingRules\n"
        "info([Path('x.jpg')], PairingRules(mask_suffix='_m'), pixels=True)\n"
        "sys.exit('torch' in sys.modules)"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(root)!r})\n{code}"],
        check=False,
    )
    assert done.returncode == 0


def test_the_command_line(hz: Hz) -> None:
    shot(Path("x.jpg"))
    said = hz("info", "x.jpg", "--mask-suffix", "_m", "--pixels")
    assert said.exit_code == 0 and "x_m.png" in said.out
    lines = hz("info", "x.jpg", "--json").lines
    assert [line["event"] for line in lines] == ["picture", "summary"]
    assert lines[0]["picture"]["width"] == 32
    save(Path("y.jpg"), colours())
    assert hz("info", "y.jpg", "--mask-suffix", "_m").exit_code == 1
    assert hz("info", "nowhere.jpg").exit_code == 2
