"""What is written for a picture: container and depth from the options and the picture's head.

format   depths           alpha   how it is written
tiff     8 16 32f         yes     as the rows come
exr      16 (half) 32f    yes     as the rows come; linear Rec. 709
png      8 16             yes     whole, at the end
jxl      8 16             yes     whole, at the end; lossless
webp     8                yes     whole, at the end; lossless at quality 100
jpeg     8                no      whole, at the end; 4:4:4
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from hzcli.errors import HzError, PictureError, UsageError

if TYPE_CHECKING:
    from hzcli.io.meta import Header

Format = Literal["tiff", "png", "jpeg", "webp", "exr", "jxl"]

# The depths that each holds, the one taken unasked first.
_DEPTHS: dict[str, tuple[int, ...]] = {
    "tiff": (16, 8, 32),
    "png": (16, 8),
    "jpeg": (8,),
    "webp": (8,),
    "exr": (16, 32),
    "jxl": (16, 8),
}
FORMATS = (*_DEPTHS, "keep")
_SUFFIXES: dict[str, tuple[str, ...]] = {
    "tiff": (".tif", ".tiff"),
    "png": (".png",),
    "jpeg": (".jpg", ".jpeg"),
    "webp": (".webp",),
    "exr": (".exr",),
    "jxl": (".jxl",),
}
_NAMES = {
    "tiff": "TIFF",
    "png": "PNG",
    "jpeg": "JPEG",
    "webp": "WebP",
    "exr": "OpenEXR",
    "jxl": "JPEG XL",
    "psd": "PSD",
    "heic": "HEIC",
    "avif": "AVIF",
}
# Longest edge: libjpeg's JPEG_MAX_DIMENSION; WebP's 14 bits (RFC 9649, section 2.6).
_LONGEST = {"jpeg": 65500, "webp": 16383}


@dataclass(frozen=True)
class OutputOptions:
    """What the user asks of the results.

    format: a container, or "keep" for that of each picture.
    depth: "8" | "16" | "32f" | "keep"; None takes 16 bits where the container has them, and
        the picture's own depth with format "keep".
    compression, bigtiff, tile: of TIFF; `tile` is the edge of square tiles, None for strips.
        "keep" keeps what a picture that is a TIFF of the result's depth has, and its strips or
        tiles, its predictor and its byte order with it (see `tiff_form.kept`); all others are
        compressed by deflate.
    quality: of JPEG and WebP, 1..100.
    """

    format: Literal["tiff", "png", "jpeg", "webp", "exr", "jxl", "keep"] = "tiff"
    depth: Literal["8", "16", "32f", "keep"] | None = None
    compression: Literal["keep", "deflate", "lzw", "zstd", "none"] = "keep"
    bigtiff: Literal["auto", "always", "never"] = "auto"
    tile: int | None = None
    quality: int = 95

    @property
    def afresh(self) -> str:
        """The compression of what has none to keep."""
        return "deflate" if self.compression == "keep" else self.compression


@dataclass(frozen=True)
class Resolved:
    """What is written for one picture.

    depth: of the rows that the writer wants: 8 and 16 as uint16, 32 as float32.
    half: whether floats are stored in 16 bits (OpenEXR). suffix: of the file's name.
    channels: what the picture is to be stored as. notes: what the user should be told.
    """

    format: Format
    depth: int
    suffix: str
    notes: tuple[str, ...] = ()
    channels: Literal["rgb", "grey"] = "rgb"
    half: bool = False
    options: OutputOptions = field(default_factory=OutputOptions)

    @property
    def holds_alpha(self) -> bool:
        """Whether the container has a place for an alpha channel."""
        return self.format != "jpeg"


def check_options(options: OutputOptions) -> None:
    """Raise UsageError for what no picture could be written with."""
    form, depth, tile = options.format, options.depth, options.tile
    choices = (
        ("--format", form, FORMATS),
        ("--depth", depth, (None, "8", "16", "32f", "keep")),
        ("--tiff-compression", options.compression, ("keep", "deflate", "lzw", "zstd", "none")),
        ("--bigtiff", options.bigtiff, ("auto", "always", "never")),
    )
    for flag, value, known in choices:
        if value not in known:
            words = ", ".join(word for word in known if word)
            raise UsageError(f'{flag} "{value}" is not known', f"Choose one of {words}.")
    if tile is not None and (tile % 16 or not 16 <= tile <= 4096):
        raise UsageError(
            f"--tiff-tile {tile} is no size of a tile",
            "TIFF wants a multiple of 16, up to 4096: --tiff-tile 256",
        )
    if tile is not None and form not in ("tiff", "keep"):
        raise UsageError(f"--tiff-tile does not go with --format {form}", "Leave it out.")
    if not 1 <= options.quality <= 100:
        raise UsageError(f"--quality {options.quality} is not in 1..100", "95 is the default.")
    if form != "keep" and depth not in (None, "keep"):
        _check_depth(form, depth)


def resolve(options: OutputOptions, header: Header) -> Resolved:
    """Say what is written for the picture that `header` describes.

    Raises:
        UsageError: the options contradict each other, whatever the picture.
        PictureError: this picture cannot be written so.
    """
    check_options(options)
    notes: list[str] = []
    form = _format(options, header, notes)
    asked = options.depth or ("keep" if options.format == "keep" else None)
    held = _DEPTHS[form]
    half = False
    if asked is None:
        depth = held[0]
    elif asked == "keep":
        depth = header.depth if header.depth in held else max(d for d in held if d <= 16)
        # Half floats have 11 bits of precision: enough for 8-bit codes only.
        depth = 32 if form == "exr" and header.depth > 8 else depth
    else:
        depth = _check_depth(form, asked)
    if form == "exr":
        half, depth = depth < 32, 32
        notes.append("OpenEXR holds linear light: colours are converted to linear Rec. 709")
        if half and header.depth > 8:
            notes.append(
                "floats of 16 bits: finer steps than 11 bits are lost, --depth 32f keeps them"
            )
    if depth < header.depth and not (asked and asked != "keep"):
        notes.append(_shallower(form, depth, header.depth))
    _check_size(form, header)
    if header.alpha:
        if form == "jpeg":
            notes.append("JPEG has no alpha channel: it is left out")
        elif form == "exr":
            notes.append("OpenEXR holds colours multiplied by alpha: hidden colours are lost")
    if form == "tiff" and options.compression == "zstd":
        notes.append("zstd is read by few photo applications: deflate is read by all")
    grey = header.channels in ("grey", "greya", "bilevel")
    return Resolved(
        form,  # type: ignore[arg-type]
        depth,
        _suffix(form, header.path) if options.format == "keep" else _SUFFIXES[form][0],
        tuple(notes),
        "grey" if grey else "rgb",
        half,
        options,
    )


def expected_suffix(options: OutputOptions, path: Path) -> str:
    """The suffix of the result as far as the picture's name tells, before it is opened."""
    if options.format != "keep":
        return _SUFFIXES[options.format][0]
    known = {suffix: form for form, all_ in _SUFFIXES.items() for suffix in all_}
    return path.suffix if path.suffix.lower() in known else _SUFFIXES["tiff"][0]


def suffix_for(options: OutputOptions, path: Path) -> str:
    """The suffix of the result; with "keep" the picture's head is read, for names may lie."""
    from hzcli.io.picture import peek

    if options.format == "keep":
        try:
            return resolve(options, peek(path)).suffix
        except HzError:
            pass  # the picture will fail, and say why
    return expected_suffix(options, path)


def spellings(suffix: str) -> tuple[str, ...]:
    """The suffixes that mean the same as one, in small letters: .tif and .tiff for .TIF."""
    own = suffix.lower()
    return next((known for known in _SUFFIXES.values() if own in known), (own,))


def _format(options: OutputOptions, header: Header, notes: list[str]) -> str:
    if options.format == "keep" and header.channels == "cmyk":
        raise PictureError(
            f"{header.path.name} is CMYK, which hz reads but does not write",
            "Choose a format, for example --format tiff: the result is sRGB.",
        )
    if options.format != "keep":
        return options.format
    if header.format in _DEPTHS:
        return header.format
    name = _NAMES.get(header.format, header.format)
    notes.append(f"hz does not write {name}: the result is TIFF")
    return "tiff"


def _check_depth(form: str, asked: str) -> int:
    depth = {"8": 8, "16": 16, "32f": 32}[asked]
    if depth not in _DEPTHS[form]:
        held = ", ".join({32: "32f"}.get(d, str(d)) for d in sorted(_DEPTHS[form]))
        raise UsageError(
            f"{_NAMES[form]} does not hold --depth {asked}, only {held}",
            "Leave --depth out, or write --format tiff.",
        )
    return depth


def _shallower(form: str, depth: int, found: int) -> str:
    if found == 32:
        return (
            f"floats become {depth} bits, and what lies outside 0..1 is cut off: "
            "--depth 32f with --format tiff keeps it"
        )
    return f"{found} bits become {depth}, which is what {_NAMES[form]} holds"


def _check_size(form: str, header: Header) -> None:
    longest = _LONGEST.get(form)
    size = header.size
    if longest is not None and max(size.width, size.height) > longest:
        raise PictureError(
            f"{_NAMES[form]} holds at most {longest} pixels an edge, "
            f"the picture is {size.width} x {size.height}",
            "Write --format tiff.",
        )


def _suffix(form: str, path: Path) -> str:
    """The picture's own suffix where it fits, so that X.jpeg stays X.jpeg with "keep"."""
    own = path.suffix
    known = _SUFFIXES[form]
    return own if own.lower() in known else known[0]
