"""Photographers' files from end to end: colours, depth, names, companions, masks, limits."""

from __future__ import annotations

import json
import os
import struct
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from made_shots import HEIGHT, WIDTH, Hz, colours, contents, disc, save, shot
from PIL import Image

from hzcli.io import profiles

OUTSIDE = disc() == 0


def deep(kind: type = np.uint16) -> np.ndarray:
    """(h, w, 3) with a saturated corner, of codes or floats in 0..1."""
    share = colours() / 255
    share[:4, :8] = (0, 1, 0)
    if kind is np.float32:
        return share.astype(np.float32)
    return np.round(share * np.iinfo(kind).max).astype(kind)


def tiff(path: Path, pixels: np.ndarray, profile: str | None = None, **more: object) -> Path:
    icc = None if profile is None else profiles.profile(profile)
    kind = "rgb" if pixels.ndim == 3 else "minisblack"
    tifffile.imwrite(path, pixels, photometric=kind, iccprofile=icc, **more)
    save(path.with_name(path.stem + "_m.png"), disc())
    return path


def page(path: Path) -> tuple[np.ndarray, bytes | None]:
    with tifffile.TiffFile(path) as file:
        return file.pages[0].asarray(), file.pages[0].iccprofile


def done(hz: Hz, *words: str | Path) -> list[dict]:
    """The outcomes of a run in which every picture worked."""
    said = hz("run", *words, "--mask-suffix", "_m", "--json")
    assert said.exit_code == 0, said.out + said.err
    return [line for line in said.lines if "input" in line]


# Colours and depth


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("name", ["adobergb", "p3", "prophoto", "linear-rec2020"])
def test_profile_and_background_come_out_as_they_went_in(hz, tmp_path, name, kind):
    pixels = deep(kind)
    tiff(tmp_path / "a.tif", pixels, name)
    done(hz, "a.tif", "--depth", "keep")
    found, icc = page(Path("harmonized/a.tif"))
    assert icc == profiles.profile(name)
    assert found.dtype == kind
    assert np.array_equal(found[OUTSIDE], pixels[OUTSIDE])
    assert not np.array_equal(found[~OUTSIDE], pixels[~OUTSIDE])


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_nothing_changes_at_strength_0(hz, tmp_path, kind):
    pixels = deep(kind) * 3 - 1 if kind is np.float32 else deep(kind)
    tiff(tmp_path / "a.tif", pixels, "prophoto")
    done(hz, "a.tif", "--depth", "keep", "--strength", "0")
    assert np.array_equal(page(Path("harmonized/a.tif"))[0], pixels)


def test_grey_stays_grey_with_its_profile(hz, tmp_path):
    tiff(tmp_path / "a.tif", deep()[..., 0], "grey-gamma-2.2")
    done(hz, "a.tif")
    found, icc = page(Path("harmonized/a.tif"))
    assert found.ndim == 2 and icc == profiles.profile("grey-gamma-2.2")
    assert np.array_equal(found[OUTSIDE], deep()[..., 0][OUTSIDE])


def test_linear_floats_do_not_become_codes_without_a_profile(hz, tmp_path):
    tiff(tmp_path / "a.tif", deep(np.float32))
    done(hz, "a.tif", "-o", "codes")
    assert page(Path("codes/a.tif"))[1] == profiles.profile("linear")
    done(hz, "a.tif", "-o", "floats", "--depth", "keep")
    assert page(Path("floats/a.tif"))[1] is None


def test_every_code_of_a_ramp_survives(hz, tmp_path):
    ramp = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    pixels = np.stack([ramp, ramp[::-1], ramp.T], -1)
    tifffile.imwrite("a.tif", pixels, photometric="rgb", iccprofile=profiles.profile("prophoto"))
    save(tmp_path / "a_m.png", disc(256, 256))
    for form in ("tiff", "png"):
        done(hz, "a.tif", "--format", form, "-o", form)
    outside = disc(256, 256) == 0
    for found in (
        tifffile.imread("tiff/a.tif"),
        imagecodecs.png_decode(Path("png/a.png").read_bytes()),
    ):
        assert found.dtype == np.uint16
        assert np.array_equal(found[outside], pixels[outside])


def test_output_profile_converts_and_is_embedded(hz, tmp_path):
    tiff(tmp_path / "a.tif", deep(), "adobergb")
    done(hz, "a.tif", "--output-profile", "srgb", "--strength", "0")
    found, icc = page(Path("harmonized/a.tif"))
    assert profiles.describe(icc).is_srgb
    # Adobe RGB (1998) to XYZ, XYZ to IEC 61966-2-1, both under D65.
    xyz = [[0.57667, 0.18556, 0.18823], [0.29734, 0.62736, 0.07529], [0.02703, 0.07069, 0.99134]]
    rgb = [[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.2040, 1.0570]]
    light = (deep() / 65535) ** (563 / 256) @ (np.array(rgb) @ xyz).T
    light = np.clip(light, 0.0031308, 1)
    wanted = 65535 * (1.055 * light ** (1 / 2.4) - 0.055)
    lit = light > 0.01
    assert lit.mean() > 0.8
    assert np.abs(found - wanted)[lit].max() < 100


# Names and companions


@pytest.mark.parametrize(
    ("template", "name"),
    [("{stem}_{model}", "a_hinet.tif"), ("{stem}.v1", "a.v1.tif"), ("{stem}.TIF", "a.TIF")],
)
def test_a_template_without_a_suffix_gets_one(hz, tmp_path, template, name):
    shot(tmp_path / "a.png")
    done(hz, "a.png", "--name", template)
    assert (tmp_path / "harmonized" / name).read_bytes()[:2] == b"II"


def test_keep_goes_by_the_contents_of_a_file(hz, tmp_path):
    shot(tmp_path / "a.png").rename("a.jpg")
    done(hz, "a.jpg", "--format", "keep")
    assert Path("harmonized/a.png").read_bytes()[1:4] == b"PNG"
    assert not Path("harmonized/a.jpg").exists()


@pytest.mark.parametrize("form", ["tiff", "png", "jpeg", "webp", "keep"])
@pytest.mark.parametrize("name", [None, "x/{index:03}-{stem}"])
def test_results_are_kept_the_second_time(hz, tmp_path, form, name):
    shot(tmp_path / "a.png")
    words = ["a.png", "--format", form, "--also", "mask,layer", *(["--name", name] if name else [])]
    assert [row["status"] for row in done(hz, *words)] == ["done"]
    before = contents(tmp_path / "harmonized")
    assert [row["status"] for row in done(hz, *words)] == ["kept"]
    after = contents(tmp_path / "harmonized")
    assert {k: v for k, v in after.items() if "report" not in k} == {
        k: v for k, v in before.items() if "report" not in k
    }


def test_companions_of_a_run_that_was_cut_off_are_made_anew(hz, tmp_path):
    shot(tmp_path / "a.png")
    done(hz, "a.png", "--also", "mask,delta,layer")
    Path("harmonized/a.tif").unlink()
    assert [row["status"] for row in done(hz, "a.png", "--also", "mask,delta,layer")] == ["done"]


def test_a_file_with_a_companions_name_is_not_replaced(hz, tmp_path):
    shot(tmp_path / "a.png")
    tiff(save(tmp_path / "harmonized/a_mask.tif", disc()), disc())
    before = Path("harmonized/a_mask.tif").read_bytes()
    assert hz("run", "a.png", "--mask-suffix", "_m", "--also", "mask").exit_code == 1
    assert Path("harmonized/a_mask.tif").read_bytes() == before


def test_companions_that_a_kept_result_lacks_are_said(hz, tmp_path):
    shot(tmp_path / "a.png")
    done(hz, "a.png")
    for more in ([], ["--dry-run"]):
        (row,) = done(hz, "a.png", "--also", "mask,layer", *more)
        assert row["status"] == "kept"
        assert "a_mask.tif, a_layer.tif" in " ".join(row["warnings"])


@pytest.mark.skipif(os.name == "nt", reason="no limit on a file's size there")
def test_of_a_result_that_finds_no_room_no_companion_stays(hz, tmp_path):
    """The mask, which a disk this full would still take, has no name before the result is whole."""
    import resource

    noise = np.random.default_rng(0).integers(0, 65536, (HEIGHT, WIDTH, 3), np.uint16)
    tiff(tmp_path / "a.tif", noise)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, hard))
    try:
        said = hz("run", "a.tif", "--mask-suffix", "_m", "--also", "mask", "--no-report")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert said.exit_code == 1
    assert "a.tif cannot be written" in said.err
    assert contents(tmp_path / "harmonized") == {}


@pytest.mark.parametrize("name", ["a.png", "a_m.png"])
def test_a_kept_result_of_what_was_changed_since_is_said(hz, tmp_path, name):
    shot(tmp_path / "a.png")
    done(hz, "a.png")
    assert done(hz, "a.png")[0]["warnings"] == []
    later = Path("harmonized/a.tif").stat().st_mtime + 10
    os.utime(name, (later, later))
    for more in ([], ["--dry-run"]):
        (row,) = done(hz, "a.png", *more)
        assert row["status"] == "kept"
        assert row["warnings"] == [f"kept, but changed since: {name} (-f makes all anew)"]


def test_layer_and_delta_give_the_result_with_two_masks(hz, tmp_path):
    save(tmp_path / "a.png", colours())
    for number, columns in ((1, slice(3, 9)), (2, slice(20, 28))):
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        mask[5:15, columns] = 255
        save(tmp_path / f"a_m{number}.png", mask)
    (row,) = done(hz, "a.png", "--also", "mask,delta,layer")
    assert len(row["parts"]) == 2
    source = colours().astype(float) * 257
    result, delta, mask, layer = (
        tifffile.imread(f"harmonized/a{kind}.tif").astype(float)
        for kind in ("", "_delta", "_mask", "_layer")
    )
    touched = np.zeros((HEIGHT, WIDTH), bool)
    touched[5:15, 3:9] = touched[5:15, 20:28] = True
    assert np.array_equal(mask, 65535.0 * touched)
    assert np.array_equal((result != source).any(-1), touched)
    assert np.abs(source + 2 * (delta - 32768) - result).max() <= 1
    alpha = layer[..., 3:] / 65535
    assert np.abs(source * (1 - alpha) + layer[..., :3] * alpha - result).max() <= 1


@pytest.mark.parametrize("form", ["tiff", "jpeg", "png"])
def test_names_as_long_as_a_disc_allows(hz, tmp_path, form):
    for stem in ("x" * 236, "é" * 118, " two  spaces 東京"):
        shot(tmp_path / f"{stem}.jpg")
    rows = done(hz, ".", "--format", form, "--also", "mask,delta,layer", "--no-report")
    assert len(rows) == 3
    assert len(list(Path("harmonized").iterdir())) == 12


# Limits and refusals


def test_a_bomb_is_refused_unread_and_stops_nobody(hz, tmp_path):
    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    Path("a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
    save(tmp_path / "a_m.png", disc())
    shot(tmp_path / "b.png")
    for more in ([], ["--dry-run"]):
        said = hz("run", ".", "--mask-suffix", "_m", "--json", *more)
        rows = {Path(row["input"]).name: row for row in said.lines if "input" in row}
        assert said.exit_code == 1
        assert "--max-pixels" in rows["a.png"]["error"]["hint"]
        assert rows["b.png"]["status"] in ("done", "kept")


def test_raw_files_in_a_folder_are_said(hz, tmp_path):
    shot(tmp_path / "a.png")
    (tmp_path / "b.NEF").write_bytes(bytes(64))
    for command in ("info", "run"):
        said = hz(command, ".", "--mask-suffix", "_m")
        assert said.exit_code == 0
        assert "1 RAW file is passed over. Develop it first" in said.err


def test_cmyk_is_read_with_a_warning_and_never_written(hz, tmp_path):
    Image.fromarray(colours()).convert("CMYK").save("a.jpg")
    save(tmp_path / "a_m.png", disc())
    (row,) = done(hz, "a.jpg")
    assert any("CMYK" in warning for warning in row["warnings"])
    said = hz("run", "a.jpg", "--mask-suffix", "_m", "--format", "keep", "-o", "kept")
    assert said.exit_code == 1 and "--format tiff" in said.err


def test_the_report_says_how_files_were_written(hz, tmp_path):
    shot(tmp_path / "a.png")
    done(hz, "a.png", "--format", "png", "--metadata", "safe", "--feather", "2", "--also", "mask")
    settings = json.loads(Path("harmonized/report.json").read_text())["settings"]
    wanted = {"format": "png", "metadata": "safe", "feather": 2.0, "also": ["mask"]}
    assert wanted.items() <= settings.items()


def test_one_warning_where_exiftool_is_missed(hz, tmp_path, monkeypatch):
    exif = Image.Exif()
    exif[0x010F] = "A maker"
    for name in ("a", "b"):
        Image.fromarray(colours()).save(f"{name}.jpg", exif=exif)
        save(tmp_path / f"{name}_m.png", disc())
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    said = hz("run", ".", "--mask-suffix", "_m", "--format", "exr", "--report")
    assert said.exit_code == 0, said.err
    assert said.err.count("Install exiftool") == 1
    assert Path("harmonized/a.xmp").exists()
