"""An .xmp file beside a result: what the result itself could not be given.

EXIF in XMP: CIPA DC-010-2017 and ISO 16684-1 part 2; IPTC in XMP: IPTC Photo Metadata Standard,
IIM mapping. Maker notes and image resources have no form in XMP.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from hzcli.io.metadata import exif, photoshop
from hzcli.io.metadata.exif import BROKEN, Field, Ifds
from hzcli.io.metadata.xmp import AUX, CORE, DC, EXIF, EXIF_EX, PHOTOSHOP, TIFF, Packet

# code: (namespace, property, kind) with kinds text, number, ratio, version, time, list.
_ZEROTH = {
    271: (TIFF, "Make", "text"),
    272: (TIFF, "Model", "text"),
    274: (TIFF, "Orientation", "number"),
    270: (DC, "description", "Alt"),
    315: (DC, "creator", "Seq"),
    33432: (DC, "rights", "Alt"),
    18246: ("http://ns.adobe.com/xap/1.0/", "Rating", "number"),
}
_EXIF = {
    33434: (EXIF, "ExposureTime", "ratio"),
    33437: (EXIF, "FNumber", "ratio"),
    34850: (EXIF, "ExposureProgram", "number"),
    34855: (EXIF, "ISOSpeedRatings", "numbers"),
    36864: (EXIF, "ExifVersion", "version"),
    36867: (EXIF, "DateTimeOriginal", "time"),
    36868: (EXIF, "DateTimeDigitized", "time"),
    37377: (EXIF, "ShutterSpeedValue", "ratio"),
    37378: (EXIF, "ApertureValue", "ratio"),
    37379: (EXIF, "BrightnessValue", "ratio"),
    37380: (EXIF, "ExposureBiasValue", "ratio"),
    37381: (EXIF, "MaxApertureValue", "ratio"),
    37382: (EXIF, "SubjectDistance", "ratio"),
    37383: (EXIF, "MeteringMode", "number"),
    37384: (EXIF, "LightSource", "number"),
    37386: (EXIF, "FocalLength", "ratio"),
    40961: (EXIF, "ColorSpace", "number"),
    40962: (EXIF, "PixelXDimension", "number"),
    40963: (EXIF, "PixelYDimension", "number"),
    41495: (EXIF, "SensingMethod", "number"),
    41985: (EXIF, "CustomRendered", "number"),
    41986: (EXIF, "ExposureMode", "number"),
    41987: (EXIF, "WhiteBalance", "number"),
    41988: (EXIF, "DigitalZoomRatio", "ratio"),
    41989: (EXIF, "FocalLengthIn35mmFilm", "number"),
    41990: (EXIF, "SceneCaptureType", "number"),
    41991: (EXIF, "GainControl", "number"),
    41992: (EXIF, "Contrast", "number"),
    41993: (EXIF, "Saturation", "number"),
    41994: (EXIF, "Sharpness", "number"),
    42016: (EXIF, "ImageUniqueID", "text"),
    42032: (EXIF_EX, "CameraOwnerName", "text"),
    42033: (EXIF_EX, "BodySerialNumber", "text"),
    42034: (EXIF_EX, "LensSpecification", "ratios"),
    42035: (EXIF_EX, "LensMake", "text"),
    42036: (EXIF_EX, "LensModel", "text"),
    42037: (EXIF_EX, "LensSerialNumber", "text"),
}
_IPTC = {
    photoshop.TITLE: (DC, "title", "Alt"),
    photoshop.URGENCY: (PHOTOSHOP, "Urgency", "text"),
    photoshop.CATEGORY: (PHOTOSHOP, "Category", "text"),
    photoshop.OTHER_CATEGORIES: (PHOTOSHOP, "SupplementalCategories", "Bag"),
    photoshop.KEYWORD: (DC, "subject", "Bag"),
    photoshop.INSTRUCTIONS: (PHOTOSHOP, "Instructions", "text"),
    photoshop.CREATOR: (DC, "creator", "Seq"),
    photoshop.CREATOR_TITLE: (PHOTOSHOP, "AuthorsPosition", "text"),
    photoshop.CITY: (PHOTOSHOP, "City", "text"),
    photoshop.SUBLOCATION: (CORE, "Location", "text"),
    photoshop.STATE: (PHOTOSHOP, "State", "text"),
    photoshop.COUNTRY_CODE: (CORE, "CountryCode", "text"),
    photoshop.COUNTRY: (PHOTOSHOP, "Country", "text"),
    photoshop.REFERENCE: (PHOTOSHOP, "TransmissionReference", "text"),
    photoshop.HEADLINE: (PHOTOSHOP, "Headline", "text"),
    photoshop.CREDIT: (PHOTOSHOP, "Credit", "text"),
    photoshop.SOURCE: (PHOTOSHOP, "Source", "text"),
    photoshop.RIGHTS: (DC, "rights", "Alt"),
    photoshop.CAPTION: (DC, "description", "Alt"),
    photoshop.CAPTION_WRITER: (PHOTOSHOP, "CaptionWriter", "text"),
}
_LISTS = ("Alt", "Bag", "Seq")


def sidecar_text(
    block: bytes | None = None,
    packet: bytes | None = None,
    iptc: bytes | None = None,
    extension: str | None = None,
) -> str:
    """An XMP packet that says what an EXIF block and IPTC records say, besides its own.

    What `packet` says stands; of the others, EXIF comes before IPTC.

    Args:
        block: a TIFF structure. packet: XMP to start from. iptc: IIM records. extension: of the
            file that it is for, as others beside it may have the same name but for that.
    """
    xmp = Packet(packet)
    if block:
        with contextlib.suppress(*BROKEN):
            _add_exif(xmp, exif.read(block))
    records = photoshop.records(iptc)
    for number, (space, name, kind) in _IPTC.items():
        if number in records and not xmp.has(space, name):
            _put(xmp, space, name, kind, records[number])
    dates = records.get(photoshop.DATE, [""])[0]
    if len(dates) == 8 and not xmp.has(PHOTOSHOP, "DateCreated"):
        xmp.set(PHOTOSHOP, "DateCreated", f"{dates[:4]}-{dates[4:6]}-{dates[6:]}")
    if extension:
        xmp.set(PHOTOSHOP, "SidecarForExtension", extension)
    return xmp.tobytes().decode()


def _put(xmp: Packet, space: str, name: str, kind: str, values: list[str]) -> None:
    if kind in _LISTS:
        xmp.set_list(space, name, kind, values[:1] if kind == "Alt" else values)
    else:
        xmp.set(space, name, values[0])


def _add_exif(xmp: Packet, ifds: Ifds) -> None:
    for table, fields in ((_ZEROTH, ifds.zeroth), (_EXIF, ifds.exif)):
        for code, (space, name, kind) in table.items():
            if code not in fields or xmp.has(space, name):
                continue
            with contextlib.suppress(*BROKEN):
                values = _FORMS.get(kind, _FORMS["text"])(fields[code])
                if kind in ("numbers", "ratios"):
                    xmp.set_list(space, name, "Seq", values)
                elif values and values[0]:
                    _put(xmp, space, name, kind, values)
    _add_flash(xmp, ifds)
    _add_place(xmp, ifds)
    lens = ifds.exif.get(42036)
    if lens and not xmp.has(AUX, "Lens"):
        xmp.set(AUX, "Lens", words(lens))


def words(value: Field) -> str:
    """A field as text."""
    raw = value[1]
    if isinstance(raw, bytes):
        raw = raw.split(b"\0")[0]
        try:
            return raw.decode().strip()
        except UnicodeDecodeError:
            return raw.decode("latin-1").strip()
    return str(raw).strip()


def _several(value: Field) -> list[Any]:
    raw = value[1]
    return list(raw) if isinstance(raw, tuple) else [raw]


def _ratio(number: Any) -> str:
    return f"{int(number.numerator)}/{int(number.denominator)}"


def _time(value: Field) -> list[str]:
    """EXIF's "2024:05:06 07:08:09" in ISO 8601."""
    said = words(value)
    date, _, time = said.partition(" ")
    if len(date) != 10 or len(time) != 8 or not date[:4].isdigit():
        return []
    return [f"{date.replace(':', '-')}T{time}"]


_FORMS: dict[str, Callable[[Field], list[str]]] = {
    "text": lambda value: [words(value)],
    "version": lambda value: [words(value)],
    "time": _time,
    "number": lambda value: [str(int(_several(value)[0]))],
    "numbers": lambda value: [str(int(v)) for v in _several(value)],
    "ratio": lambda value: [_ratio(_several(value)[0])],
    "ratios": lambda value: [_ratio(v) for v in _several(value)],
}


def _add_flash(xmp: Packet, ifds: Ifds) -> None:
    """EXIF's Flash is bits, XMP's a structure: EXIF 3.0 table of tag 37385."""
    flash = ifds.exif.get(37385)
    if flash is None or xmp.has(EXIF, "Flash"):
        return
    with contextlib.suppress(*BROKEN):
        bits = int(_several(flash)[0])
        truth = {True: "True", False: "False"}
        xmp.set_structure(
            EXIF,
            "Flash",
            {
                "Fired": truth[bool(bits & 1)],
                "Return": str(bits >> 1 & 3),
                "Mode": str(bits >> 3 & 3),
                "Function": truth[bool(bits & 32)],
                "RedEyeMode": truth[bool(bits & 64)],
            },
        )


def _add_place(xmp: Packet, ifds: Ifds) -> None:
    """GPS: degrees and minutes with the hemisphere, "48,51.502N" (ISO 16684-1)."""
    gps = ifds.gps
    for code, name in ((1, "GPSLatitude"), (3, "GPSLongitude")):
        with contextlib.suppress(*BROKEN):
            side = words(gps[code])[:1]
            degrees, minutes, seconds = (float(v) for v in _several(gps[code + 1]))
            total = degrees * 60 + minutes + seconds / 60
            if side and not xmp.has(EXIF, name):
                xmp.set(EXIF, name, f"{int(total // 60)},{total % 60:.7f}{side}")
    with contextlib.suppress(*BROKEN):
        if not xmp.has(EXIF, "GPSAltitude"):
            height = _ratio(_several(gps[6])[0])
            below = gps.get(5, (1, b"\0"))[1] in (b"\1", 1)
            xmp.set(EXIF, "GPSAltitudeRef", str(int(below)))
            xmp.set(EXIF, "GPSAltitude", height)
    with contextlib.suppress(*BROKEN):
        date = words(gps[29]).replace(":", "-")
        hours, minutes, seconds = (float(v) for v in _several(gps[7]))
        if not xmp.has(EXIF, "GPSTimeStamp"):
            clock = f"{int(hours):02}:{int(minutes):02}:{int(seconds):02}"
            xmp.set(EXIF, "GPSTimeStamp", f"{date}T{clock}Z")
