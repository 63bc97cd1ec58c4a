"""Files appear whole or not at all: write beside, then rename."""

from __future__ import annotations

import atexit
import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from hzcli.errors import PictureError

# Bytes of a name on ext4, APFS and NTFS alike, less "_exiftool_tmp", which ExifTool adds.
_LONGEST = 255 - len("_exiftool_tmp")
_begun: set[Path] = set()  # names given that have not become what they were for


def temporary_beside(path: Path) -> Path:
    """A name in the folder of `path` that nothing uses yet.

    Hidden, so that a walk over the folder never takes it for a picture, and in the same
    folder, so that the rename stays on one disk. Missing parent folders are made. What still has
    the name when the program ends is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    name, end = path.name, f".{secrets.token_hex(4)}.part"
    while len(os.fsencode(name)) > _LONGEST - 1 - len(end):
        name = name[:-1]
    temporary = path.with_name(f".{name}{end}")
    _begun.add(temporary)
    return temporary


def refuse_existing(path: Path) -> None:
    """Raise PictureError when there is a file at `path` already."""
    if path.exists():
        raise PictureError(
            f"{path} exists already", "Pass --overwrite to replace it, or choose another --output."
        )


def settle(temporary: Path, path: Path, *, overwrite: bool) -> None:
    """Force `temporary` to the disk and give it the name `path`, in one step.

    Raises PictureError when `path` came into being meanwhile and `overwrite` is not given.
    """
    with open(temporary, "rb+") as file:
        os.fsync(file.fileno())
    if not overwrite:
        refuse_existing(path)
    os.replace(temporary, path)
    _begun.discard(temporary)


def drop(temporary: Path) -> None:
    """Remove a temporary file, if it is there."""
    temporary.unlink(missing_ok=True)
    _begun.discard(temporary)


@atexit.register
def _tidy() -> None:
    """What a Ctrl-C that disturbed the tidying up after the first one has left."""
    for temporary in [*_begun]:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def beside(path: Path, *, overwrite: bool = True) -> Iterator[Path]:
    """A temporary path to write to; it becomes `path` when the block ends well.

    If the block raises, also on Ctrl-C, the temporary file is removed and `path` is as it was.
    """
    if not overwrite:
        refuse_existing(path)
    temporary = temporary_beside(path)
    try:
        yield temporary
        settle(temporary, path, overwrite=overwrite)
    finally:
        drop(temporary)


def write_text(path: Path, text: str, *, overwrite: bool = True) -> None:
    """Write `text` as UTF-8 with LF line ends, whole or not at all."""
    with beside(path, overwrite=overwrite) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
