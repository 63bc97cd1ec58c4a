"""ICC profiles: those built in, what one describes, and which one an untagged file is given.

Profiles are made, read and applied by Little CMS (through imagecodecs; descriptions through
Pillow, which sees no pixel here). By hand are only names and curves put into a profile that
Little CMS made, ICC.1:2022 sections 7.3, 10.15 (multiLocalizedUnicode) and 10.18 (parametric).
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np

from hzcli.errors import PictureError, UsageError
from hzcli.io.meta import Header, Meta

INTENTS = ("perceptual", "relative", "saturation", "absolute")
_BLACK_POINT = int(imagecodecs.CMS.FLAGS.BLACKPOINTCOMPENSATION)

_D65, _D50 = (0.3127, 0.3290), (0.3457, 0.3585)
_P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
_REC709 = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
_REC2020 = ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046))
_ROMM = ((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001))
# g, a, b, c, d of (a x + b)^g from d on, c x below: IEC 61966-2-1, and ITU-R BT.2020 undone.
_SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
_TV_CURVE = (1 / 0.45, 1 / 1.0993, 0.0993 / 1.0993, 1 / 4.5, 0.08145)

# Name -> (title, primaries, white, a gamma or a parametric curve). Those called ProPhoto in
# the field have a plain 1.8.
_MADE: dict[str, tuple[str, Any, Any, Any]] = {
    "p3": ("Display P3", _P3, _D65, _SRGB_CURVE),
    "prophoto": ("ProPhoto RGB", _ROMM, _D50, 1.8),
    "rec2020": ("Rec. 2020", _REC2020, _D65, _TV_CURVE),
    "linear-rec2020": ("Rec. 2020, linear", _REC2020, _D65, 1.0),
    "linear": ("sRGB, linear", _REC709, _D65, 1.0),
    "grey-gamma-2.2": ("Grey, gamma 2.2", None, None, 2.2),
}
NAMES = ("srgb", "adobergb", *_MADE)

_KINDS = {b"RGB ": "rgb", b"GRAY": "grey", b"CMYK": "cmyk", b"Lab ": "lab"}
_CALLED = {"rgb": "RGB", "grey": "grey", "cmyk": "CMYK", "lab": "Lab"}
# Half a level of 8 bits: the most common profile of all, HP's "sRGB IEC61966-2.1", lies 0.45 away
# at most, and who has it means sRGB.
_SAME = 0.5 / 255


@dataclass(frozen=True)
class ProfileFacts:
    """What a profile says of itself, and how it behaves.

    kind: "rgb" | "grey" | "cmyk" | "lab" | "other", the pixels that it is for.
    model: "matrix" (curves and a matrix), "lut" (tables) or "grey" (one curve).
    is_srgb: whether its colours are sRGB's, to half an 8-bit level.
    """

    name: str
    kind: str
    model: str
    is_srgb: bool


@cache
def profile(name: str) -> bytes:
    """A built-in profile, the same bytes every time.

    Args:
        name: one of `NAMES`.

    Raises:
        UsageError: there is none of that name.
    """
    if name in ("srgb", "adobergb"):
        made = imagecodecs.cms_profile(name)
        return _dated(_retagged(made, {b"desc": _text("sRGB")}) if name == "srgb" else made)
    if name not in _MADE:
        raise UsageError(
            f"there is no colour profile called '{name}'", f"Built in are {', '.join(NAMES)}"
        )
    title, primaries, white, curve = _MADE[name]
    gamma = curve if isinstance(curve, float) else 1.0
    if primaries is None:
        made = imagecodecs.cms_profile("gray", gamma=gamma)
    else:
        xyy = [value for xy in primaries for value in (*xy, 1.0)]
        made = imagecodecs.cms_profile("rgb", whitepoint=[*white, 1.0], primaries=xyy, gamma=gamma)
    parts = {b"desc": _text(title)}
    if isinstance(curve, tuple):
        fixed = [round(value * 65536) for value in curve]
        para = struct.pack(">4s4xHH5i", b"para", 3, 0, *fixed)
        parts |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), para)
    return _dated(_retagged(made, parts))


def _text(words: str) -> bytes:
    coded = words.encode("utf-16-be")
    return struct.pack(">4s4xII2s2sII", b"mluc", 1, 12, b"en", b"US", len(coded), 28) + coded


def _dated(icc: bytes) -> bytes:
    """With a fixed day: the same picture must give the same bytes tomorrow."""
    return icc[:24] + struct.pack(">6H", 2024, 1, 1, 0, 0, 0) + icc[36:]


def _retagged(icc: bytes, parts: dict[bytes, bytes]) -> bytes:
    """A profile with other contents in some of its tags, put together anew."""
    (count,) = struct.unpack_from(">I", icc, 128)
    table, body = b"", b""
    places: dict[bytes, int] = {}
    for index in range(count):
        name, offset, length = struct.unpack_from(">4sII", icc, 132 + 12 * index)
        data = parts.get(name, icc[offset : offset + length])
        if data not in places:  # tags may share their contents, as three equal curves do
            places[data] = 132 + 12 * count + len(body)
            body += data + bytes(-len(data) % 4)
        table += struct.pack(">4sII", name, places[data], len(data))
    whole = icc[4:128] + struct.pack(">I", count) + table + body
    return struct.pack(">I", len(whole) + 4) + whole


def load(text: str) -> bytes:
    """The profile that an option names: a built-in one, or a file.

    Raises:
        UsageError: neither, or the file holds no profile that can be used.
    """
    if text.lower() in NAMES:
        return profile(text.lower())
    path = Path(text)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"the colour profile '{text}' is neither built in nor a file that can be read",
            f"Built in are {', '.join(NAMES)}; else give the path of an .icc file",
        ) from error
    try:
        describe(data)
    except PictureError as error:
        raise UsageError(f"{text}: {error.message}", "Give an .icc or .icm file") from error
    return data


@lru_cache(maxsize=64)
def describe(icc: bytes) -> ProfileFacts:
    """What a profile is.

    Raises:
        PictureError: the bytes are no profile.
    """
    from PIL import ImageCms

    try:
        core = ImageCms.ImageCmsProfile(io.BytesIO(icc)).profile
        title = (core.profile_description or "").strip("\0 ") or "without a name"
        tables = any(ways[0] for ways in (core.clut or {}).values()) or not core.is_matrix_shaper
    except (OSError, ValueError, TypeError, SyntaxError) as error:
        raise PictureError(
            f"the ICC profile ({len(icc)} bytes) is damaged: {error}",
            "Assign the picture a profile in an editor, or pass --assume-profile",
        ) from error
    kind = _KINDS.get(icc[16:20], "other")
    if kind == "grey":
        return ProfileFacts(title, kind, "grey", False)
    return ProfileFacts(title, kind, "lut" if tables else "matrix", kind == "rgb" and _srgb(icc))


def _srgb(icc: bytes) -> bool:
    """Whether a profile's colours are sRGB's: asked of colours, for names and makers vary."""
    if icc == profile("srgb"):
        return True
    axis = np.linspace(0, 1, 9)
    grid = np.stack(np.meshgrid(axis, axis, axis), -1).reshape(-1, 3)
    greys = np.repeat(np.linspace(0, 1, 256)[:, None], 3, 1)
    colours = np.concatenate([grid, greys]).astype(np.float32)
    try:
        found = transform(colours, icc, profile("srgb"))
    except PictureError:
        return False
    return bool(np.abs(found - colours).max() <= _SAME)


def transform(
    values: np.ndarray, source: bytes, target: bytes, intent: str = "relative"
) -> np.ndarray:
    """Colours from one profile to another, by Little CMS.

    Args:
        values: (..., c) float32 (not clipped on the way), uint16 or uint8, c as `source` wants.
        intent: one of `INTENTS`; "relative" with black point compensation.

    Returns:
        (..., c') of the same type, c' as `target` wants.

    Raises:
        PictureError: the two cannot be joined: damaged, or without tables for that direction.
    """
    spaces = []
    for icc in (source, target):
        kind = _KINDS.get(icc[16:20], "other")
        spaces.append({"grey": "gray", "other": "rgb"}.get(kind, kind))
    lines = np.ascontiguousarray(values).reshape(1, -1, values.shape[-1])
    if spaces[0] == "gray":
        lines = lines[..., 0]
    try:
        found = imagecodecs.cms_transform(
            lines,
            source,
            target,
            colorspace=spaces[0],
            outcolorspace=spaces[1],
            outdtype=values.dtype,
            intent=INTENTS.index(intent),
            flags=_BLACK_POINT if intent == "relative" else 0,
        )
    except (imagecodecs.CmsError, ValueError) as error:
        raise PictureError(
            f"colours cannot be converted from '{_name(source)}' to '{_name(target)}': a profile "
            f"is damaged, or has no tables for this direction ({error})",
            "Assign the picture an RGB profile in an editor, or choose another --output-profile",
        ) from error
    return np.asarray(found).reshape(*values.shape[:-1], -1)


def _name(icc: bytes) -> str:
    try:
        return describe(icc).name
    except PictureError:
        return "a damaged profile"


def fits(icc: bytes, channels: str) -> bool:
    """Whether a profile can be that of a picture with `Header.channels`; grey may be RGB."""
    grey = channels.startswith(("grey", "bilevel"))
    return icc[16:20] == b"RGB " or (grey and icc[16:20] == b"GRAY")


def require(icc: bytes, channels: str) -> None:
    """Raise where a profile cannot be that of a picture with `Header.channels`.

    Raises:
        PictureError: for other pixels, a grey profile on an RGB picture above all; or no profile.
    """
    facts = describe(icc)
    if not fits(icc, channels):
        found = _CALLED.get(facts.kind, "other")
        grey = channels.startswith(("grey", "bilevel"))
        picture = "grey" if grey else "RGB"
        raise PictureError(
            f"the colour profile '{facts.name}' is for {found} pixels, the picture is {picture}",
            "Assign it an RGB profile in an editor, or pass --assume-profile",
        )


def presume(header: Header, meta: Meta, assume: str | None = None) -> tuple[bytes, str, str | None]:
    """Which profile a picture's pixels are in, by what is embedded, else by stated rules.

    An embedded profile that fits holds; then what `assume` names; then what the file says
    otherwise (EXIF ColorSpace and InteropIndex, chunks of PNG); then float is linear sRGB and
    codes are sRGB, for 16 bits with a warning. CMYK was made sRGB on reading.

    Args:
        assume: a name or a path, as for `load`.

    Returns:
        The profile, why it is this one, and what a user should be told, if anything.

    Raises:
        PictureError: the embedded profile is for other pixels, and none was assumed.
        UsageError: `assume` is not known, or for other pixels.
    """
    if header.channels == "cmyk":
        return profile("srgb"), "converted from CMYK", None
    warning = None
    if meta.icc is not None:
        try:
            require(meta.icc, header.channels)
            return meta.icc, "embedded", None
        except PictureError as error:
            damaged = "damaged" in error.message
            if assume is None and not damaged:
                raise PictureError(f"{header.path}: {error.message}", error.hint) from error
            warning = f"{error.message}; it is not used"
    if assume is not None:
        icc = load(assume)
        try:
            require(icc, header.channels)
        except PictureError as error:
            raise UsageError(error.message, "Assume an RGB profile for RGB pictures") from error
        return icc, "assumed", warning
    said = getattr(meta, "colour", None)
    if said in NAMES:
        return profile(said), "said by the file", warning
    if header.depth == 32:
        return profile("linear"), "untagged float", warning
    if header.depth == 16 and warning is None:
        warning = "16 bits without a colour profile: taken as sRGB (--assume-profile says other)"
    return profile("srgb"), "untagged", warning


CMYK_NAIVE = "CMYK without a profile: converted to sRGB by the plain formula, colours are a guess"


def cmyk_to_srgb(codes: np.ndarray, icc: bytes | None = None) -> np.ndarray:
    """CMYK as sRGB: through its profile, else by (1 - ink)(1 - black), see `CMYK_NAIVE`.

    Args:
        codes: (h, w, 4) uint8 or uint16 amounts of ink: 0 is paper, full scale is solid.
        icc: the embedded profile; one that is not for CMYK is not used.

    Returns:
        (h, w, 3) of the same type.
    """
    if icc is not None and icc[16:20] == b"CMYK":
        return transform(codes, icc, profile("srgb"))
    full = np.iinfo(codes.dtype).max
    light = full - codes.astype(np.uint32)
    return ((light[..., :3] * light[..., 3:] + full // 2) // full).astype(codes.dtype)
