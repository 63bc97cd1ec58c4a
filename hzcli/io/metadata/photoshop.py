"""Photoshop's image resources (8BIM) and the IPTC-IIM records among them.

Adobe Photoshop File Formats Specification, "Image Resource Blocks"; IPTC-NAA Information
Interchange Model 4.2, section 3. Resources are taken over whole or left out, never rewritten.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

IPTC, EXIF, EXIF_OLD, XMP = 0x0404, 0x0422, 0x0423, 0x0424
# Of the old picture, or kept elsewhere: thumbnails, ICC profile, IPTC and its digest, EXIF, XMP,
# layer states, alpha channels' names and colours, pixel aspect ratio.
_STALE = frozenset(
    {0x0409, 0x040C, 0x040F, 0x0411, IPTC, EXIF, EXIF_OLD, XMP, 0x0400, 0x0402, 0x0425, 0x0426}
    | {0x03EE, 0x03EF, 0x0415, 0x0416, 0x0417, 0x041D, 0x042D, 0x0430, 0x0435}
)
_UTF8 = b"\x1b%G"  # ISO 2022, in record 1:90

# Records whose texts have a place in XMP (IPTC Photo Metadata Standard 2023.2, IIM mapping).
TITLE, URGENCY, CATEGORY, OTHER_CATEGORIES, KEYWORD, INSTRUCTIONS = 5, 10, 15, 20, 25, 40
DATE, TIME, CREATOR, CREATOR_TITLE, CITY, SUBLOCATION, STATE = 55, 60, 80, 85, 90, 92, 95
COUNTRY_CODE, COUNTRY, REFERENCE, HEADLINE, CREDIT, SOURCE = 100, 101, 103, 105, 110, 115
RIGHTS, CAPTION, CAPTION_WRITER = 116, 120, 122


def resources(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """(number, the resource's data, the whole resource) for each; a broken end is left out."""
    at = 0
    while data[at : at + 4] in (b"8BIM", b"MeSa", b"PHUT", b"AgHg", b"DCSR"):
        start = at
        if at + 7 > len(data):
            return
        (number,) = struct.unpack_from(">H", data, at + 4)
        at += 6 + (data[at + 6] // 2 + 1) * 2  # a Pascal string, padded to even
        if at + 4 > len(data):
            return
        (length,) = struct.unpack_from(">I", data, at)
        at += 4
        if at + length > len(data):
            return
        body = data[at : at + length]
        at += length + length % 2
        whole = data[start:at]
        yield number, body, whole + b"\0" * (len(whole) % 2)


def kept(data: bytes) -> bytes | None:
    """Resources that stay true of the result, without IPTC, which containers place themselves.

    Returns:
        None if nothing is left.
    """
    return b"".join(whole for n, _, whole in resources(data) if n not in _STALE) or None


def resource(number: int, body: bytes) -> bytes:
    """One resource without a name."""
    return struct.pack(">4sHHI", b"8BIM", number, 0, len(body)) + body + b"\0" * (len(body) % 2)


def find(data: bytes | None, number: int) -> bytes | None:
    """The data of resource `number`, or None."""
    return next((body for n, body, _ in resources(data or b"") if n == number), None)


def records(iptc: bytes | None) -> dict[int, list[str]]:
    """Texts of the application records (2:xx) by number; a broken end is left out.

    Texts are UTF-8 where record 1:90 says so or where they are valid UTF-8, else Latin-1.
    """
    found: dict[int, list[str]] = {}
    data, at, utf8 = iptc or b"", 0, False
    while at + 5 <= len(data) and data[at] == 0x1C:
        record, number, length = struct.unpack_from(">BBH", data, at + 1)
        at += 5
        if length & 0x8000:  # an extended record: the length of the length
            count = length & 0x7FFF
            length, at = int.from_bytes(data[at : at + count], "big"), at + count
        body = data[at : at + length]
        if len(body) < length:
            break
        at += length
        if (record, number) == (1, 90):
            utf8 = body == _UTF8
        elif record == 2:
            found.setdefault(number, []).append(_text(body, utf8))
    return found


def _text(body: bytes, utf8: bool) -> str:
    try:
        return body.decode("utf-8", "replace" if utf8 else "strict").rstrip("\0")
    except UnicodeDecodeError:
        return body.decode("latin-1").rstrip("\0")
