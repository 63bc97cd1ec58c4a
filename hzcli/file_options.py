"""Options about files: which mask, which colours, what is written and what is carried along.

masks     --mask-channel --mask-invert --feather --mask-threshold --resize-mask     run, info
colour    --assume-profile --output-profile --intent                                run, info
files     --format --depth --name --also --metadata --label-ai                      run, info
          --tiff-compression --bigtiff --tiff-tile --quality                        run, info
limits    --max-pixels                                                              run, info
look      --pixels                                                                  info
"""

from __future__ import annotations

import re
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hzcli.errors import UsageError

if TYPE_CHECKING:
    from hzcli.engine.delivery import FileSettings
    from hzcli.io.mask_options import MaskOptions
    from hzcli.io.writers.choices import OutputOptions

MASK, COLOUR, FILES = "Mask", "Colour", "Files"


class Channel(str, Enum):
    auto = "auto"
    red = "r"
    green = "g"
    blue = "b"
    luma = "luma"
    alpha = "alpha"


class Resize(str, Enum):
    bilinear = "bilinear"
    lanczos = "lanczos"


class Intent(str, Enum):
    relative = "relative"
    perceptual = "perceptual"
    saturation = "saturation"
    absolute = "absolute"


class Format(str, Enum):
    tiff = "tiff"
    png = "png"
    jpeg = "jpeg"
    webp = "webp"
    exr = "exr"
    jxl = "jxl"
    keep = "keep"


class Depth(str, Enum):
    keep = "keep"
    sixteen = "16"
    eight = "8"
    float32 = "32f"


class Carry(str, Enum):
    all = "all"
    safe = "safe"
    none = "none"


class Compression(str, Enum):
    keep = "keep"
    deflate = "deflate"
    lzw = "lzw"
    zstd = "zstd"
    none = "none"


class BigTiff(str, Enum):
    auto = "auto"
    always = "always"
    never = "never"


def _option(panel: str, *names: str, help: str, **more: Any) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=panel, **more)


MaskChannel = Annotated[
    Channel, _option(MASK, "--mask-channel", help="Which channel of a mask file counts.")
]
MaskInvert = Annotated[
    bool, _option(MASK, "--mask-invert", help="Black is the foreground, not white.")
]
Feather = Annotated[
    float,
    _option(MASK, "--feather", metavar="PX", min=0, help="Soften the mask's edge by so much."),
]
MaskThreshold = Annotated[
    float | None,
    _option(
        MASK, "--mask-threshold", metavar="0..1", min=0, max=1, help="Make the mask hard there."
    ),
]
ResizeMask = Annotated[
    Resize | None,
    _option(MASK, "--resize-mask", help="Take masks of another size; else they are refused."),
]

AssumeProfile = Annotated[
    str | None,
    _option(
        COLOUR,
        "--assume-profile",
        metavar="NAME|FILE",
        help="What untagged pictures are in: srgb, adobergb, p3, prophoto, rec2020,"
        " linear-rec2020, linear, or an .icc file.",
    ),
]
OutputProfile = Annotated[
    str | None,
    _option(
        COLOUR,
        "--output-profile",
        metavar="NAME|FILE",
        help="Convert results to this space; else each keeps its own.",
    ),
]
RenderingIntent = Annotated[
    Intent, _option(COLOUR, "--intent", help="How such a conversion treats what does not fit.")
]

FormatOption = Annotated[
    Format, _option(FILES, "--format", help="Kind of file to write; keep: that of the picture.")
]
DepthOption = Annotated[
    Depth | None,
    _option(
        FILES, "--depth", help="Bits a channel.  \\[default: 16, or the most that the format has]"
    ),
]
Name = Annotated[
    str | None,
    _option(
        FILES,
        "--name",
        metavar="TEMPLATE",
        help="Of results, as {stem}_{model}: stem, parent, index, model, mode, width, height.",
    ),
]
Also = Annotated[
    str | None,
    _option(
        FILES,
        "--also",
        metavar="mask,delta,layer",
        help="Write the mask, the change, or the foreground alone with soft alpha as well.",
    ),
]
Metadata = Annotated[
    Carry,
    _option(FILES, "--metadata", help="Carry it along; safe leaves out places, serials, owners."),
]
LabelAi = Annotated[
    bool, _option(FILES, "--label-ai", help="Mark results as made with the help of a model.")
]
TiffCompression = Annotated[
    Compression,
    _option(FILES, "--tiff-compression", help="keep: a TIFF's own, else deflate."),
]
BigTiffOption = Annotated[
    BigTiff, _option(FILES, "--bigtiff", help="Files beyond 4 GB; auto: where it is needed.")
]
TiffTile = Annotated[
    int | None,
    _option(FILES, "--tiff-tile", metavar="PX", min=16, help="Square tiles instead of strips."),
]
Quality = Annotated[
    int, _option(FILES, "--quality", metavar="1..100", min=1, max=100, help="Of JPEG and WebP.")
]
Pixels = Annotated[
    bool,
    _option(MASK, "--pixels", help="Read the pixels too: damage shows, masks are measured."),
]
MaxPixels = Annotated[
    str | None,
    _option(FILES, "--max-pixels", metavar="2G", help="Refuse larger pictures unread."),
]


def pixels(text: str | None) -> int | None:
    """A number of pixels such as "500M", "2G" or "40000".

    >>> pixels("1.5G"), pixels(None)
    (1500000000, None)

    Raises:
        UsageError: the text says nothing of the kind.
    """
    if text is None:
        return None
    found = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([kmg]?)(?:p|px|pixels)?\s*", text.lower())
    if not found or float(found[1]) <= 0:
        raise UsageError(f'--max-pixels "{text}" is no number of pixels', "Try 500M or 2G.")
    return int(float(found[1]) * {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}[found[2]])


def masks(
    source: str | None,
    channel: Channel,
    invert: bool,
    feather: float,
    threshold: float | None,
    resize: Resize | None,
) -> MaskOptions:
    """What is done to masks; raises UsageError where options contradict each other."""
    from hzcli.io.mask_options import MaskOptions

    return MaskOptions(
        source=source or "auto",
        channel=channel.value,
        invert=invert,
        feather=feather,
        resize=None if resize is None else resize.value,
        threshold=threshold,
    )


def out(
    format: Format,
    depth: Depth | None,
    compression: Compression = Compression.keep,
    bigtiff: BigTiff = BigTiff.auto,
    tile: int | None = None,
    quality: int = 95,
) -> OutputOptions:
    """What results are written as; raises UsageError where options contradict each other."""
    from hzcli.io.writers.choices import OutputOptions, check_options

    options = OutputOptions(
        format=format.value,
        depth=None if depth is None else depth.value,
        compression=compression.value,
        bigtiff=bigtiff.value,
        tile=tile,
        quality=quality,
    )
    check_options(options)
    return options


def settings(
    *, also: str | None, max_pixels: str | None, assume_profile: str | None,
    output_profile: str | None, **others: Any,
) -> FileSettings:  # fmt: skip
    """All of them; raises UsageError for a name that is not known."""
    from hzcli.engine.delivery import FileSettings
    from hzcli.engine.layers import check_kinds

    for name in (assume_profile, output_profile):
        if name is not None:
            from hzcli.io import profiles

            profiles.load(name)
    return FileSettings(
        also=() if also is None else check_kinds(also),
        max_pixels=pixels(max_pixels),
        assume_profile=assume_profile,
        output_profile=output_profile,
        **others,
    )
