"""`hz apply-lut`: any look on any picture, inside masks or everywhere."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from made_shots import Hz, colours, contents, disc, save, shot

from hzcli.commands.apply_lut import apply_lut
from hzcli.engine.pairing import PairingRules
from hzcli.errors import LookError, UsageError
from hzcli.io.cube import Look, write_cube

HALF = "LUT_1D_SIZE 2\n0 0 0\n0.5 0.5 0.5\n"
SWAP = "LUT_3D_SIZE 2\n" + "".join(f"{b} {r} {g}\n" for b in (0, 1) for g in (0, 1) for r in (0, 1))


@pytest.fixture
def half(tmp_path: Path) -> Path:
    path = tmp_path / "half.cube"
    path.write_text(HALF)
    return path


def result(path: Path) -> np.ndarray:
    return tifffile.imread(path)


def test_inside_a_mask(bare_hz: Hz, half: Path) -> None:
    """16 bits, blended by the soft mask, the rest untouched."""
    shot(Path("shots/a.png"))

    said = bare_hz("apply-lut", half, "shots", "--mask-suffix", "_m", "-o", "out")

    source, soft = colours().astype(float) * 257, disc()[..., None] / 255
    assert said.exit_code == 0
    assert sorted(contents(Path("out"))) == ["a.tif"]
    got = result(Path("out/a.tif"))
    assert got.dtype == np.uint16
    assert np.abs(got - source * (1 - 0.5 * soft)).max() < 0.51
    assert (got[disc() == 0] == source[disc() == 0]).all()


@pytest.mark.parametrize("words", [[], ["--mask-suffix", "_m", "--everywhere"]])
def test_everywhere(words: list[str], bare_hz: Hz, half: Path) -> None:
    """Without a word about masks, or when asked to; masks are no pictures where they are known."""
    shot(Path("shots/a.png"), mask="_m.png" if words else None)

    said = bare_hz("apply-lut", half, "shots", *words, "-o", "out")

    assert said.exit_code == 0
    assert sorted(contents(Path("out"))) == ["a.tif"]
    assert np.abs(result(Path("out/a.tif")) - colours() * 128.5).max() < 0.51


@pytest.mark.parametrize("words", [["--everywhere"], ["--mask-suffix", "_m"]], ids=["all", "mask"])
@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("look", [HALF, SWAP], ids=["curves", "table"])
def test_alpha_stays_what_it_is(
    look: str, depth: int, words: list[str], bare_hz: Hz, tmp_path: Path
) -> None:
    """Colours change, also where alpha is 0; alpha is handed on, widened as colours are."""
    codes = np.random.default_rng(0).integers(0, 1 << depth, (*disc().shape, 4))
    codes[:4, :, 3] = 0
    Path("in").mkdir()
    Path("look.cube").write_text(look)
    if depth == 8:
        save(Path("in/a.png"), codes.astype(np.uint8))
    else:
        kinds = {"photometric": "rgb", "extrasamples": ["unassalpha"]}
        tifffile.imwrite("in/a.tif", codes.astype(np.uint16), **kinds)
    if "--mask-suffix" in words:
        save(Path("in/a_m.png"), disc())

    said = bare_hz("apply-lut", "look.cube", "in", *words, "-o", "out")

    assert said.exit_code == 0
    got, wide = result(Path("out/a.tif")), codes * (257 if depth == 8 else 1)
    assert got.shape == codes.shape and got.dtype == np.uint16
    assert (got[..., 3] == wide[..., 3]).all()
    source = wide[..., :3].astype(float)
    new = source / 2 if look is HALF else source[..., [2, 0, 1]]
    share = disc()[..., None] / 255 if "--mask-suffix" in words else 1
    assert np.abs(got[..., :3] - (source + share * (new - source))).max() < 0.6


def test_16_bits_and_three_dimensions(bare_hz: Hz, tmp_path: Path) -> None:
    """Red becomes blue, green red, blue green, to the code; `--strength` goes half the way."""
    codes = np.random.default_rng(0).integers(0, 65536, (20, 30, 3)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", codes, photometric="rgb")
    (tmp_path / "swap.cube").write_text(SWAP)

    for interpolation in ("tetrahedral", "trilinear"):
        said = bare_hz(
            *("apply-lut", "swap.cube", "a.tif", "-o", f"out-{interpolation}"),
            *("--interpolation", interpolation),
        )
        assert said.exit_code == 0
        assert (result(Path(f"out-{interpolation}/a.tif")) == codes[..., [2, 0, 1]]).all()

    assert (
        bare_hz("apply-lut", "swap.cube", "a.tif", "-o", "weak", "--strength", "0.5").exit_code == 0
    )
    between = (codes + codes[..., [2, 0, 1]].astype(float)) / 2
    assert np.abs(result(Path("weak/a.tif")) - between).max() < 0.6


@pytest.mark.parametrize("name", ["look.cube", "look.3dl", "look.npy", "look.png"])
def test_looks_of_every_format(name: str, bare_hz: Hz) -> None:
    """A name says the format."""
    from hzcli.io import looks

    axis = np.linspace(0, 1, 4)
    nodes = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1)
    looks.write(Look("", (1 - nodes).astype(np.float32)), Path(name), looks.format_of(Path(name)))
    save(Path("a.png"), colours())

    said = bare_hz("apply-lut", name, "a.png", "-o", "out")

    assert said.exit_code == 0
    assert np.abs(result(Path("out/a.tif")) - (65535 - colours() * 257.0)).max() < 1


def test_results_are_kept_unless_told(bare_hz: Hz, half: Path) -> None:
    save(Path("a.png"), colours())
    assert bare_hz("apply-lut", half, "a.png", "-o", "out").exit_code == 0
    before = contents(Path("out"))
    save(Path("a.png"), colours() // 2)

    assert bare_hz("apply-lut", half, "a.png", "-o", "out").exit_code == 0
    assert contents(Path("out")) == before

    assert bare_hz("apply-lut", half, "a.png", "-o", "out", "--overwrite").exit_code == 0
    assert contents(Path("out")) != before


def test_a_bad_picture_does_not_end_the_others(half: Path, tmp_path: Path) -> None:
    """It is told, and leaves nothing behind."""
    shot(tmp_path / "in/a.png")
    shot(tmp_path / "in/b.png", mask=None)
    shot(tmp_path / "in/c.png", mask=None)
    save(tmp_path / "in/c_m.png", np.zeros_like(disc()))
    shot(tmp_path / "in/d.png", mask=None)
    save(tmp_path / "in/d_m.png", disc()[:-1])
    (tmp_path / "in/e.png").write_bytes(b"no picture")
    save(tmp_path / "in/e_m.png", disc())

    done = apply_lut(
        half, [tmp_path / "in"], PairingRules(mask_suffix="_m"), output=tmp_path / "out"
    )

    told = [(row.status, (row.error or {}).get("code")) for row in done.outcomes]
    assert told == [
        ("done", None),
        *[("failed", "MaskError")] * 3,
        ("failed", "PictureError"),
    ]
    assert sorted(contents(tmp_path / "out")) == ["a.tif"]
    assert done.exit_code == 1
    assert done.outcomes[0].change_mean > 1 and done.outcomes[0].foreground == pytest.approx(
        disc().mean() / 255
    )


def test_a_bad_look_writes_nothing(bare_hz: Hz, tmp_path: Path) -> None:
    """The error names the line, and no traceback is shown."""
    save(Path("a.png"), colours())
    Path("bad.cube").write_text(HALF.replace("0.5 0.5 0.5", "0.5 0,5 0.5"))

    said = bare_hz("apply-lut", "bad.cube", "a.png", "-o", "out")

    assert said.exit_code == 1
    assert "line 3" in said.err.replace("\n", " ")
    assert not Path("out").exists()
    with pytest.raises(LookError, match="cannot be opened"):
        apply_lut(Path("no.cube"), [Path("a.png")], PairingRules(), output=Path("out"))
    with pytest.raises(UsageError, match="strength"):
        apply_lut(Path("x.cube"), [Path("a.png")], PairingRules(), output=Path("o"), strength=2)


def test_the_profile_is_carried(half: Path, tmp_path: Path) -> None:
    from PIL import Image, ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(colours()).save(tmp_path / "a.png", icc_profile=profile)

    apply_lut(half, [tmp_path / "a.png"], PairingRules(), output=tmp_path / "out")

    with tifffile.TiffFile(tmp_path / "out/a.tif") as tiff:
        assert tiff.pages[0].tags["InterColorProfile"].value == profile


def test_no_torch_is_needed(
    python: Callable[..., subprocess.Popen[str]], half: Path, tmp_path: Path
) -> None:
    """A look is applied without a network, and without what networks are made of."""
    save(tmp_path / "a.png", colours())
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from pathlib import Path\n"
        "from hzcli.commands.apply_lut import apply_lut\n"
        "from hzcli.engine.pairing import PairingRules\n"
        "r = apply_lut(Path('half.cube'), [Path('a.png')], PairingRules(), output=Path('out'))\n"
        "sys.exit(r.exit_code)"
    )

    process = python(code)

    assert process.communicate()[1] == "" and process.returncode == 0


def test_ffmpeg_agrees(bare_hz: Hz, tmp_path: Path) -> None:
    """The same file on the same picture; ffmpeg cuts 16 bits off where hz rounds."""
    import shutil

    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is not installed")
    axis = np.linspace(0, 1, 17)
    nodes = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1)
    write_cube(Look("a", (nodes**1.3 * 0.9 + 0.05).astype(np.float32)), tmp_path / "a.cube")
    codes = np.random.default_rng(0).integers(0, 65536, (20, 30, 3)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", codes, photometric="rgb")
    words = ["ffmpeg", "-v", "error", "-i", "a.tif", "-vf", "lut3d=a.cube:interp=tetrahedral"]
    words += ["-f", "rawvideo", "-pix_fmt", "rgb48le", "out.raw"]
    subprocess.run(words, cwd=tmp_path, check=True, stdin=subprocess.DEVNULL)

    assert bare_hz("apply-lut", "a.cube", "a.tif", "-o", "out").exit_code == 0

    theirs = np.frombuffer((tmp_path / "out.raw").read_bytes(), "<u2").reshape(codes.shape)
    assert np.abs(result(Path("out/a.tif")).astype(int) - theirs).max() <= 2
