"""Which format a file is in, from its first bytes; what hz does not read is named."""

from __future__ import annotations

import re
from pathlib import Path

from hzcli.errors import PictureError

FORMATS = "JPEG, PNG, TIFF, WebP, PSD, HEIC, AVIF, JPEG XL or OpenEXR"

_KNOWN = (
    (re.compile(rb"\xff\xd8\xff"), "jpeg"),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "png"),
    (re.compile(rb"II\*\0|MM\0\*|II\+\0|MM\0\+"), "tiff"),
    (re.compile(rb"RIFF.{4}WEBP", re.S), "webp"),
    (re.compile(rb"8BPS\0[\1\2]"), "psd"),
    (re.compile(rb".{4}ftyp(heic|heix|hevc|hevx|heim|heis)", re.S), "heic"),
    (re.compile(rb".{4}ftyp(avif|avis)", re.S), "avif"),
    (re.compile(rb"\0\0\0\x0cJXL |\xff\x0a"), "jxl"),
    (re.compile(rb"v/1\x01"), "exr"),
)
# Written by any maker of HEIF files: the brands that follow tell what is inside.
_ANY_HEIF = re.compile(rb".{4}ftyp(mif1|msf1|miaf|mif2)", re.S)

_RAW = "a camera raw file"
_STRANGERS = (
    (re.compile(rb"GIF8[79]a"), "a GIF picture"),
    (re.compile(rb"BM.{4}\0\0\0\0", re.S), "a BMP picture"),
    (re.compile(rb".{4}ftypcrx ", re.S), _RAW),
    (re.compile(rb".{4}ftyp", re.S), "a video"),
    (re.compile(rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51"), "a JPEG 2000 picture"),
    (re.compile(rb"%PDF"), "a PDF document"),
    (re.compile(rb"FUJIFILMCCD-RAW|FOVb|\0MRM|IIU\0|IIR[OS]|MMOR|II\x1a\0\0\0HEAPCCDR"), _RAW),
    (re.compile(rb"PK\x03\x04"), "a ZIP archive"),
)
# Makers whose raw files are TIFF inside, or anything else; what is developed has another name.
RAW_SUFFIXES = frozenset(
    re.findall(
        r"\.\w+",
        ".3fr .ari .arw .bay .cap .cr2 .cr3 .crw .dcr .dcs .dng .eip .erf .fff .gpr .iiq .k25 .kdc "
        ".mdc .mef .mos .mrw .nef .nrw .orf .ori .pef .ptx .pxn .r3d .raf .raw .rw2 .rwl .rwz .sr2 "
        ".srf .srw .x3f",
    )
)


def sniff(path: Path, head: bytes) -> str:
    """The format of a file, from its first bytes; its name plays no part but for camera raw.

    Args:
        path: for messages, and for the suffixes of camera makers.
        head: the first 64 bytes, or all there are.

    Returns:
        "jpeg" | "png" | "tiff" | "webp" | "psd" | "heic" | "avif" | "jxl" | "exr".

    Raises:
        PictureError: anything else, named as well as the bytes allow.
    """
    kind = next((name for pattern, name in _KNOWN if pattern.match(head)), None)
    if _ANY_HEIF.match(head):
        kind = "avif" if b"avif" in head[:64] else "heic"
    if kind == "tiff" and path.suffix.lower() in RAW_SUFFIXES:
        raise camera_raw(path)
    if kind is not None:
        return kind
    hint = "Save it as one of these and run again."
    if not head:
        raise PictureError(f"{path} is empty (0 bytes)", "Copy or export the picture again.")
    for pattern, name in _STRANGERS:
        if pattern.match(head):
            if name == _RAW:
                raise camera_raw(path)
            raise PictureError(f"{path} is {name}, expected {FORMATS}", hint)
    if not head.strip(b"\0"):
        found = "begins with zeros (an interrupted copy?)"
        raise PictureError(f"{path} {found}, expected {FORMATS}", "Copy the picture again.")
    if path.suffix.lower() in RAW_SUFFIXES:
        raise camera_raw(path)
    text = all(byte >= 32 or byte in b"\t\n\r\f" for byte in head)
    found = "a text file" if text else f"not a picture (it begins with {head[:4].hex(' ')})"
    raise PictureError(f"{path} is {found}, expected {FORMATS}", hint)


def camera_raw(path: Path) -> PictureError:
    """A PictureError for sensor data, which somebody must develop first."""
    return PictureError(
        f"{path} is a camera raw file, expected a developed picture",
        "Develop it first and export a 16-bit TIFF.",
    )
