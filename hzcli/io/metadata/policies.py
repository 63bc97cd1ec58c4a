"""What of a picture's metadata its result is given, and what `hz info` says of it.

Policies:

- `all`: everything that describes the photograph.
- `safe`: without GPS positions (EXIF, XMP at any depth, drones' flight data); without serial
  numbers of body and lens and CameraSerialNumber; without CameraOwnerName, HostComputer,
  ImageEditor, ImageUniqueID; without maker notes, which hold serial numbers, owners and
  positions in forms of their own; without PersonInImage and the regions that name faces. Kept:
  artist, by-line, copyright, contact, keywords, and the city or country that somebody typed.
- `none`: nothing.

Under each: orientation 1, the new dimensions, no thumbnail or preview, no motion photo or gain
map. Under `all` and `safe`: software, time of change and an entry in xmpMM:History.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from hzcli.core.window import Size
from hzcli.io.metadata import exif, exiftool, photoshop
from hzcli.io.metadata.blocks import Blocks, blocks
from hzcli.io.metadata.embed import Carried
from hzcli.io.metadata.exif import BROKEN
from hzcli.io.metadata.sidecar import words
from hzcli.io.metadata.xmp import Packet

__all__ = ["POLICIES", "Blocks", "Carried", "Edit", "Summary", "blocks", "carried", "summary"]

POLICIES = ("all", "safe", "none")
_TITLES = {"exif": "EXIF", "xmp": "XMP", "iptc": "IPTC", "photoshop": "Photoshop resources"}


@dataclass(frozen=True)
class Edit:
    """What was done to a picture, as its metadata tells.

    software: name and version. parameters: as "model" and "strength". when: with a time zone.
    label_ai: whether XMP says that the picture is a composite made with trained algorithms.
    """

    software: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    when: datetime = field(default_factory=lambda: now())
    label_ai: bool = False

    @property
    def said(self) -> str:
        return "; ".join(f"{key}={value}" for key, value in self.parameters.items())


def now() -> datetime:
    """The time, or that of SOURCE_DATE_EPOCH, which makes equal runs give equal files."""
    fixed = os.environ.get("SOURCE_DATE_EPOCH", "")
    if fixed.isdigit():
        return datetime.fromtimestamp(int(fixed), timezone.utc)
    return datetime.now().astimezone().replace(microsecond=0)


def carried(
    found: Blocks, policy: str, size: Size, edit: Edit, *, profile_changed: bool = False
) -> Carried:
    """What a result of `size` is given of what was `found` in its source.

    Args:
        policy: "all" | "safe" | "none".
        size: of the result, upright.
        profile_changed: the result has another colour space than the source.

    Returns:
        Blocks; `extratags` for a TIFF file, whether or not it is to be one.
    """
    if policy not in POLICIES:
        raise ValueError(f"policy must be one of {POLICIES}, not {policy!r}")
    if policy == "none":
        label = Packet()
        label.stamp(edit.software, edit.when.isoformat(), "", label_ai=True)
        return Carried(xmp=label.tobytes() if edit.label_ai else None)
    safe = policy == "safe"
    block, ifds, verbatim = _exif(found, safe, size, edit, profile_changed)
    return Carried(
        exif=block,
        xmp=_xmp(found, safe, size, edit),
        iptc=found.iptc,
        photoshop=photoshop.kept(found.photoshop or b""),
        extratags=tuple(exif.tags(ifds)) if ifds else (),
        verbatim=verbatim,
    )


def _exif(
    found: Blocks, safe: bool, size: Size, edit: Edit, profile_changed: bool
) -> tuple[bytes | None, exif.Ifds | None, bool]:
    """The block, its directories, and whether it kept its bytes."""
    if found.exif is None:
        return None, None, True
    when = edit.when.strftime("%Y:%m:%d %H:%M:%S")
    try:
        ifds = exif.read(found.exif)
        if found.verbatim and not safe and not profile_changed:
            block = exif.corrected(found.exif, size, edit.software, when)
            return block, exif.read(block), True
        ifds = ifds.without_personal() if safe else ifds
        exif.stamp(ifds, size, edit.software, when)
        if profile_changed:
            ifds.interop = {}
            ifds.exif.pop(exif.COLOUR_SPACE, None)
        # Made anew, but of a policy that has no maker notes nothing is lost by that.
        return exif.rebuilt(ifds), ifds, safe
    except BROKEN:
        return None, None, False


def _xmp(found: Blocks, safe: bool, size: Size, edit: Edit) -> bytes:
    packet = Packet(found.xmp)
    packet.without_stale()
    if safe:
        packet.without_personal()
    packet.correct(size)
    packet.stamp(edit.software, edit.when.isoformat(), edit.said, label_ai=edit.label_ai)
    return packet.tobytes()


@dataclass(frozen=True)
class Summary:
    """What `hz info` says of a file's metadata.

    sizes: bytes of each block. lost: in words, what a result of `target` would not hold.
    """

    kind: str
    sizes: dict[str, int]
    camera: str | None = None
    lens: str | None = None
    taken: str | None = None
    software: str | None = None
    gps: bool = False
    maker_note: int = 0
    lost: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


# What a finished file of each container can be given.
_HOLDS = {
    "tiff": {"exif", "xmp", "iptc", "photoshop"},
    "jpeg": {"exif", "xmp", "iptc", "photoshop"},
    "png": {"exif", "xmp", "iptc", "photoshop"},
    "webp": {"exif", "xmp", "iptc"},  # IPTC by way of XMP
    "jxl": {"exif", "xmp", "iptc"},
    "exr": set(),
}


def summary(path: Path, target: str = "tiff", program: str | None = exiftool.PROGRAM) -> Summary:
    """What metadata a file has, and what would be lost on the way into `target`.

    Args:
        target: "tiff" | "jpeg" | "png" | "webp" | "jxl" | "exr".
        program: ExifTool's name or path; None says what holds without it.
    """
    found = blocks(path)
    sizes = {name: len(getattr(found, name) or b"") for name in _TITLES}
    ifds = exif.Ifds()
    with contextlib.suppress(*BROKEN):
        ifds = exif.read(found.exif or b"")
    tool = program is not None and exiftool.available(program)
    lost = []
    for name, title in _TITLES.items():
        if sizes[name] and name not in _HOLDS.get(target, set()):
            beside = name in ("exif", "xmp", "iptc")
            lost.append(
                f"{title} ({'in an .xmp file beside the result' if beside else 'left out'})"
            )
    maker_note = len(exif.maker_note(found.exif or b""))
    if maker_note and "exif" not in _HOLDS.get(target, set()):
        lost.append("maker notes")
    elif maker_note and not tool and (target == "tiff" or not found.verbatim):
        lost.append("positions inside maker notes (kept, but moved; exiftool mends them)")
    packet = None
    with contextlib.suppress(ValueError):
        packet = Packet(found.xmp) if found.xmp else None

    def said(fields: dict[int, exif.Field], *codes: int) -> str | None:
        return " ".join(words(fields[code]) for code in codes if code in fields) or None

    place = bool(ifds.gps) or bool(
        packet and packet.get("http://ns.adobe.com/exif/1.0/", "GPSLatitude")
    )
    return Summary(
        kind=found.kind,
        sizes={name: size for name, size in sizes.items() if size},
        camera=said(ifds.zeroth, exif.MAKE, exif.MODEL),
        lens=said(ifds.exif, 42036),
        taken=said(ifds.exif, 36867),
        software=said(ifds.zeroth, exif.SOFTWARE),
        gps=place,
        maker_note=maker_note,
        lost=tuple(lost),
        notes=found.notes,
    )
