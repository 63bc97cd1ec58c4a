"""What is said of files that cannot be read, and the limits that stand before decoding."""

from __future__ import annotations

import os
import struct
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from hzcli.errors import BudgetError, PictureError
from hzcli.io.meta import Header

# What codecs and container parsers raise on bytes that are not what they should be.
BROKEN = (
    *(RuntimeError, ValueError, TypeError, LookupError, OSError, EOFError, struct.error),
    SyntaxError,  # what Pillow and its relatives raise on bytes they do not know
)

# 2 gigapixels: more than any stitched panorama that photo applications open today.
MAX_PIXELS = 2_000_000_000
# Where the memory of the machine is not known.
_LARGEST_DECODED = 8 << 30
# No codec packs a photograph, or a plain page, this tightly; and below this size it is no matter.
_LARGEST_RATIO = 20_000
_HARMLESS_BYTES = 1 << 30

_NAMES = {"heic": "HEIC", "jxl": "JPEG XL", "exr": "OpenEXR", "psd": "PSD", "webp": "WebP"}


def title(kind: str) -> str:
    """The name of a format as people write it."""
    return _NAMES.get(kind, kind.upper())


def unreadable(path: Path, kind: str, error: BaseException) -> PictureError:
    """A PictureError for a file whose contents cannot be made sense of."""
    return PictureError(
        f"{path} cannot be read as {title(kind)}: {error or type(error).__name__}",
        "The file is damaged or cut short; copy or export it again.",
    )


def truncated(path: Path, kind: str, what: str) -> PictureError:
    """A PictureError for a file that ends before its picture does."""
    return PictureError(
        f"{path} is cut short: {what}, expected a whole {title(kind)}",
        "Copy or export the picture again.",
    )


def exactly(file: BinaryIO | FileIO, start: int, count: int, header: Header) -> bytes:
    """The `count` bytes of a picture from `start` on, which a system may hand out in parts.

    Raises:
        PictureError: the file ends before. OSError: the disk refuses.
    """
    file.seek(start)
    data = file.read(count) or b""
    while len(data) < count:
        more = file.read(count - len(data))
        if not more:
            raise truncated(header.path, header.format, "it ends inside its pixels")
        data += more
    return data


def too_large(header: Header) -> BudgetError:
    """A BudgetError for pixels that the machine has no memory for."""
    size = f"{header.size.width} x {header.size.height}"
    return BudgetError(
        f"{header.path} ({size}) needs more memory than there is",
        "Save it as TIFF in strips or tiles, which is read piece by piece.",
    )


def missing(path: Path, kind: str, package: str, extra: str) -> PictureError:
    """A PictureError for a format whose reader is a package that is not installed."""
    return PictureError(
        f"{path} is a {title(kind)} file, which needs the package {package}",
        f"Install it: pip install {package} (or pip install 'hz[{extra}]').",
    )


def check_pixels(header: Header, max_pixels: int | None) -> None:
    """Refuse a picture of more than `max_pixels` (2 gigapixels if None); nothing is decoded.

    Raises:
        BudgetError: what was found, the limit and the option that moves it.
    """
    limit = MAX_PIXELS if max_pixels is None else max_pixels
    size = header.size
    if size.pixels > limit:
        raise BudgetError(
            f"{header.path} is {size.width} x {size.height} "
            f"({_mega(size.pixels)} megapixels), the limit is {_mega(limit)}",
            "If the file is to be trusted, raise the limit with --max-pixels.",
        )


def _mega(pixels: int) -> str:
    return f"{pixels / 1e6:,.0f}" if pixels >= 10e6 else f"{pixels / 1e6:.3g}"


def check_decoded(header: Header, samples: int, file_bytes: int) -> None:
    """Refuse what must be decoded whole and cannot be held, or claims more than it can hold.

    Args:
        header: of the file.
        samples: decoded channels.
        file_bytes: size of the file.

    Raises:
        BudgetError: more than the memory of this machine.
        PictureError: so many pixels out of so few bytes that the file is no photograph.
    """
    size = header.size
    needed = size.pixels * samples * (header.depth // 8)
    if needed > _memory():
        raise BudgetError(
            f"{header.path} is {size.width} x {size.height}; a {title(header.format)} is decoded "
            f"whole and that needs {needed / 2**30:.0f} GiB, this machine has "
            f"{_memory() / 2**30:.0f}",
            "Save it as TIFF, which is read row by row.",
        )
    if needed > _HARMLESS_BYTES and needed > _LARGEST_RATIO * max(1, file_bytes):
        raise PictureError(
            f"{header.path} has {file_bytes} bytes and claims {size.width} x {size.height} pixels",
            "It is damaged or made to fill the memory; export it again, as TIFF.",
        )


def _memory() -> int:
    """Bytes of memory of this machine, or a guess where the system does not tell."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return _LARGEST_DECODED
