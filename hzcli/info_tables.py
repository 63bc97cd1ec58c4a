"""What `hz info` prints: a few lines a picture, of at most 80 columns."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hzcli.report import Result
from hzcli.wording import sentence, shown, stopped

_FORMATS = {
    "jpeg": "JPEG",
    "png": "PNG",
    "tiff": "TIFF",
    "webp": "WebP",
    "psd": "PSD",
    "heic": "HEIC",
    "avif": "AVIF",
    "jxl": "JPEG XL",
    "exr": "OpenEXR",
}
_CHANNELS = {
    "rgb": "RGB",
    "rgba": "RGB",
    "grey": "grey",
    "greya": "grey",
    "palette": "indexed colours",
    "cmyk": "CMYK",
    "bilevel": "black and white",
}
_TURNS = {
    2: "mirrored",
    3: "by 180 degrees",
    4: "upside down, mirrored",
    5: "by 90 degrees to the left, mirrored",
    6: "by 90 degrees to the right",
    7: "by 90 degrees to the right, mirrored",
    8: "by 90 degrees to the left",
}
_WHY = {
    "untagged": "presumed: it has none",
    "untagged float": "presumed: float without a profile",
    "said by the file": "presumed: the file says so, without a profile",
    "assumed": "presumed: --assume-profile",
    "converted from CMYK": "converted from CMYK",
}
_BLOCKS = {"exif": "EXIF", "xmp": "XMP", "iptc": "IPTC", "photoshop": "Photoshop"}
# The longest name on the left, and two spaces.
_LEFT = 10


def info(result: Result, console: Console) -> None:
    """Every picture, and how many there are of them."""
    rows = [row.as_dict() for row in result.outcomes]
    for row in rows:
        style = "bold" if row["status"] == "ready" else "bold red"
        console.print(Text(shown(row["input"]), style=style), soft_wrap=True)
        # A folder of its own for words on the left, so that long lines wrap beside them.
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(width=_LEFT - 2, style="dim", no_wrap=True)
        table.add_column(overflow="fold")
        for name, text in _lines(row):
            style = {"lost": "yellow", "note": "yellow", "error": "red"}.get(name, "")
            table.add_row(name, Text(shown(text), style=style))
        console.print(table)
        console.print()
    failed = result.count("failed")
    if len(rows) > 1:
        said = f"{len(rows)} pictures" + (f", {failed} cannot be harmonised" if failed else "")
        console.print(Text(said))


def _lines(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    picture = row["picture"]
    if picture:
        yield "picture", _picture(picture)
        if picture["orientation"] in _TURNS:
            turn = _TURNS[picture["orientation"]]
            yield "turned", f"{turn} (EXIF orientation {picture['orientation']})"
    if row["profile"]:
        yield "colours", _colours(row["profile"])
    if row["metadata"].get("blocks"):
        yield "metadata", _metadata(row["metadata"])
    for number, mask in enumerate(row["masks"], 1):
        name = "mask" if len(row["masks"]) == 1 else f"mask {number}"
        yield name, _mask(mask, row)
    if row["run"] and row["status"] == "ready":
        yield "run", _run(row["run"])
    for name, items in (("lost", row["lost"]), ("note", row["notes"])):
        for item in items:
            yield name, sentence(item) if name == "note" else item
    if row["error"] is not None:
        error = row["error"]
        hint = f" {sentence(error['hint'])}" if error["hint"] else ""
        yield "error", stopped(error["message"]) + hint


def _picture(picture: Mapping[str, Any]) -> str:
    channels = _CHANNELS.get(picture["channels"], picture["channels"])
    parts = [
        f"{picture['width']} x {picture['height']} ({_megapixels(picture)})",
        _FORMATS.get(picture["format"], picture["format"]),
        channels + (" with alpha" if picture["alpha"] else ""),
    ]
    if picture["channels"] != "bilevel":
        parts.append(_bits(picture["depth"], picture["depth"] == 32))
    if picture["resolution"] is not None:
        parts.append(_density(picture["resolution"]))
    parts.append(_amount(picture["bytes"]))
    return ", ".join(parts)


def _megapixels(picture: Mapping[str, Any]) -> str:
    count = picture["megapixels"]
    if count < 1:
        return f"{count:.2g} MP"
    return (
        f"{count:.0f} MP"
        if count >= 100
        else f"{count:.1f} MP"
        if count >= 1
        else f"{count:.2g} MP"
    )


def _bits(depth: int, floats: bool) -> str:
    return f"{depth} bits" + (" float" if floats else "")


def _density(resolution: Sequence[Any]) -> str:
    x, y, unit = resolution
    said = f"{x:g}" if x == y else f"{x:g} x {y:g}"
    return f"{said} per {unit}" if unit != "none" else f"pixels of {said}"


def _amount(count: int) -> str:
    for size, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if count >= size:
            value = count / size
            return f"{value:.1f} {name}" if value < 10 else f"{value:.0f} {name}"
    return f"{count} bytes"


def _colours(profile: Mapping[str, Any]) -> str:
    said = profile["name"]
    if profile["presumed"]:
        said += f", {_WHY.get(profile['why'], profile['why'])}"
    else:
        said += f", embedded ({_amount(profile['bytes'])})"
    if profile["output"] is not None:
        said += f"; to {profile['output']}"
    return said


def _metadata(metadata: Mapping[str, Any]) -> str:
    parts = [
        f"{_BLOCKS.get(name, name)} {_amount(size)}" for name, size in metadata["blocks"].items()
    ]
    if metadata["maker_note"]:
        parts.append(f"maker notes {_amount(metadata['maker_note'])}")
    if metadata["gps"]:
        parts.append("a position (GPS)")
    parts += [metadata[name] for name in ("camera", "lens") if metadata[name]]
    return ", ".join(parts)


def _mask(mask: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    name = mask["path"]
    if os.path.dirname(name) == os.path.dirname(row["input"]):
        name = os.path.basename(name)
    if mask["source"] == "alpha":
        said = "its alpha"
    elif "width" not in mask:
        said = name
    elif mask["source"] != "auto":
        said = f"its layer {mask['source'].partition(':')[2]}"
    else:
        channels = _CHANNELS.get(mask["channels"], mask["channels"])
        parts = [name, channels]
        if mask["channels"] != "bilevel":
            parts.append(_bits(mask["depth"], mask["depth"] == 32))
        picture = row["picture"]
        if (mask["width"], mask["height"]) != (picture["width"], picture["height"]):
            parts.append(f"{mask['width']} x {mask['height']}")
        said = ", ".join(parts)
    if not said.startswith("its "):
        said += f" (by {mask['rule']})"
    if "foreground" in mask:
        said += f"\n{_share(mask['foreground'])} foreground"
        said += f", {_share(mask['soft'])} soft edge" if mask["soft"] else ", hard edges"
    return said


def _share(value: float) -> str:
    percent = 100 * value
    if 0 < percent < 0.01:
        return "below 0.01 %"
    return f"{percent:.0f} %" if percent >= 10 or percent == 0 else f"{percent:.2g} %"


def _run(run: Mapping[str, Any]) -> str:
    # Floats of 16 bits are OpenEXR's.
    kind = f"{_FORMATS[run['format']]}, {_bits(run['depth'], run['float'])}"
    kind += " with alpha" if run["alpha"] else ""
    kept = "; it is there already" if run["exists"] else ""
    how = f"{run['model']}, {run['band_rows']} rows at once, about {_amount(run['memory_bytes'])}"
    return f"to {run['output']}: {kind}{kept}\nby {how}"
