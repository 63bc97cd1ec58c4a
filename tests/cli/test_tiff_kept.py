"""TIFF to TIFF from end to end: the result keeps the form, and says what it always said."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import tifffile
from made_shots import Hz, save

from hzcli.io import profiles

HEIGHT, WIDTH = 150, 170
# Where segments lie, and when the result was written.
FORM = {"Compression", "Predictor", "RowsPerStrip", "TileWidth", "TileLength", "order"}
LEFT_OUT = {"StripOffsets", "StripByteCounts", "TileOffsets", "TileByteCounts", "DateTime"}
XMP = b"""<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:rights><rdf:Alt>
<rdf:li xml:lang="x-default">all mine</rdf:li></rdf:Alt></dc:rights></rdf:Description></rdf:RDF>
</x:xmpmeta><?xpacket end="w"?>"""


def shot(folder: Path, **form: object) -> tuple[np.ndarray, np.ndarray]:
    """`a.tif`, with what photo applications put into one, and its mask; as arrays."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    picture = np.stack([300 * x, 400 * y, 150 * (x + y)], -1).astype(np.uint16)
    mask = (255 * np.clip((20 - np.hypot(y - 40, x - 50)) / 8, 0, 1)).astype(np.uint8)
    with tifffile.TiffWriter(folder / "a.tif", byteorder=form.pop("byteorder", "<")) as file:
        file.write(
            picture, photometric="rgb", iccprofile=profiles.profile("adobergb"), metadata=None,
            resolution=(240, 240), resolutionunit="inch", description="a shot", **form,
            extratags=[(700, 1, len(XMP), XMP, True), (315, 2, 0, "Ada", True),
                       (33432, 2, 0, "all mine", True), (306, 2, 20, "2026:01:02 03:04:05", True)],
        )  # fmt: skip
        file.write(picture[::8, ::8], photometric="rgb", subfiletype=1, metadata=None)
    save(folder / "a_m.png", mask)
    return picture, mask


def facts(path: Path, but: set[str] = frozenset()) -> list[dict[str, object]]:
    """All tags of all pages, but for places, and for times and what is made of them."""
    with tifffile.TiffFile(path) as file:
        found = [
            {tag.name: tag.value for tag in page.tags if tag.name not in LEFT_OUT}
            | {"order": file.byteorder}
            for page in file.pages
        ]
    for page in found:
        for name in but:
            page.pop(name, None)
        page["XMP"] = re.sub(rb"\d{4}-\d\d-\d\dT[\d:.+-]+|iid:[\w-]+", b"", page["XMP"])
    return found


def encoded(path: Path) -> list[bytes]:
    with tifffile.TiffFile(path) as file:
        page, data = file.pages[0], path.read_bytes()
        places = zip(page.dataoffsets, page.databytecounts, strict=True)
        return [data[start : start + count] for start, count in places]


@pytest.mark.parametrize(
    "form",
    [
        {"compression": "lzw", "predictor": 2, "rowsperstrip": 5},
        {"compression": "zstd", "tile": (32, 48), "byteorder": ">"},
        {"rowsperstrip": 150},
    ],
    ids=["lzw strips", "big-endian zstd tiles", "one plain strip"],
)
@pytest.mark.parametrize("label", [[], ["--label-ai"]], ids=["plain", "labelled"])
def test_copies_say_what_results_say(hz: Hz, tmp_path: Path, form: dict, label: list[str]) -> None:
    """Beside a run that is to give a companion as well, for which all rows are written, and one
    that is to compress in another way."""
    picture, mask = shot(tmp_path, **form)
    words = ["run", "a.tif", "--mask-suffix", "_m", *label]
    runs = (["copied"], ["afresh", "--also", "mask"], ["other", "--tiff-compression", "deflate"])
    for more in (["-o", *run] for run in runs):
        assert hz(*words, *more).exit_code == 0

    copied, afresh = tmp_path / "copied" / "a.tif", tmp_path / "afresh" / "a.tif"
    assert facts(copied) == facts(afresh)
    assert facts(copied, FORM) == facts(tmp_path / "other" / "a.tif", FORM)
    found = tifffile.imread(copied)
    assert np.array_equal(found, tifffile.imread(afresh))
    assert np.array_equal(found[mask == 0], picture[mask == 0])
    assert (found != picture)[mask == 255].any()
    (said,) = facts(copied)
    assert said["Artist"] == "Ada" and said["XResolution"] == (240, 1)
    assert said["InterColorProfile"] == profiles.profile("adobergb")
    assert b"all mine" in said["XMP"] and (b"compositeWithTrained" in said["XMP"]) == bool(label)
    before, after = encoded(tmp_path / "a.tif"), encoded(copied)
    if form != {"rowsperstrip": 150}:  # which is cut anew
        same = sum(a == b for a, b in zip(before, after, strict=True))
        assert len(before) // 3 < same < len(before)


@pytest.mark.parametrize(
    ("asked", "name"),
    [([], "LZW"), (["--tiff-compression", "keep"], "LZW"), (["--tiff-tile", "64"], "DEFLATE"),
     (["--tiff-compression", "none"], "NONE"), (["--depth", "8"], "DEFLATE")],
)  # fmt: skip
def test_the_form_is_kept_unless_another_is_asked_for(hz, tmp_path, asked, name) -> None:
    shot(tmp_path, compression="lzw", rowsperstrip=9)
    said = hz("run", "a.tif", "--mask-suffix", "_m", "-o", "out", "--json", *asked)
    assert said.exit_code == 0, said.out
    with tifffile.TiffFile(tmp_path / "out" / "a.tif") as file:
        assert file.pages[0].compression.name.endswith(name)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert ("compression" in report["settings"]) == (asked[-1:] == ["none"])
