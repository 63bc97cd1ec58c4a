"""The names of pictures, and the walk through their folders.

Names are compared without regard to case and to the way accents are composed.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hzcli.errors import UsageError

EXTENSIONS = frozenset(
    {".jpg", ".jpeg", ".jpe", ".png", ".tif", ".tiff", ".webp", ".psd", ".psb"}
    | {".heic", ".heif", ".hif", ".avif", ".jxl", ".exr"}
)
KINDS = "JPEG, PNG, TIFF, WebP, PSD, HEIC, AVIF, JPEG XL or OpenEXR"
# What cameras write before development: never read, and said so.
RAW_EXTENSIONS = frozenset(
    {".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dng", ".erf", ".fff", ".iiq", ".kdc", ".mef"}
    | {".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2"}
    | {".srf", ".srw", ".x3f"}
)
RAW_HINT = "Develop it first: save it from your RAW converter as a 16-bit TIFF."

# Folders and files that systems and archives leave behind; dot files are passed over as well.
SYSTEM_NAMES = frozenset(
    {"thumbs.db", "desktop.ini", "__macosx", "$recycle.bin", "system volume information", "@eadir"}
)

_DIGITS = "0123456789"


def natural_key(path: Path) -> list[tuple[tuple[int, int | str], ...]]:
    """Sorts IMG_9 before IMG_10, folder by folder.

    >>> sorted([Path("b10"), Path("b9"), Path("a/z")], key=natural_key)
    [PosixPath('a/z'), PosixPath('b9'), PosixPath('b10')]
    """
    return [
        tuple((0, int(bit)) if bit.isdecimal() else (1, bit) for bit in re.split(r"([0-9]+)", name))
        for name in (fold(part) for part in path.parts)
    ]


def fold(name: str) -> str:
    """A name for comparison: no case, and one way to write an accent (macOS splits them)."""
    return unicodedata.normalize("NFC", name).casefold()


def is_picture(path: Path) -> bool:
    """Whether the extension is one that hz reads."""
    return path.suffix.lower() in EXTENSIONS


def is_raw(path: Path) -> bool:
    """Whether the extension is that of a camera's undeveloped file."""
    return path.suffix.lower() in RAW_EXTENSIONS


def is_hidden(name: str) -> bool:
    """Whether a walk passes over a file or folder of this name."""
    return name.startswith(".") or name.lower() in SYSTEM_NAMES


@dataclass
class Listing:
    """The pictures of folders by folded stem; each folder is listed once."""

    folders: dict[Path, dict[str, list[Path]]] = field(default_factory=dict)
    # Folded stems that end in a number, by what stands before it.
    counted: dict[Path, dict[str, list[str]]] = field(default_factory=dict)

    def find(self, folder: Path, stem: str, *, but: Path) -> list[Path]:
        """The pictures of `folder` called `stem`, whatever the case and extension, but one."""
        found = self._stems(folder).get(fold(stem), [])
        return [path for path in found if not _same(path, but)]

    def numbered(self, folder: Path, stem: str, *, but: Path) -> list[Path]:
        """The pictures of `folder` called `stem` and a number, by that number, but one."""
        stems = self._stems(folder)
        if folder not in self.counted:
            counted: dict[str, list[str]] = {}
            for name in stems:
                before = name.rstrip(_DIGITS)
                if before != name:
                    counted.setdefault(before, []).append(name)
            self.counted[folder] = counted
        names = self.counted[folder].get(fold(stem), [])
        found = sorted((int(name[len(fold(stem)) :]), name) for name in names)
        return [path for _, name in found for path in stems[name] if not _same(path, but)]

    def _stems(self, folder: Path) -> dict[str, list[Path]]:
        if folder not in self.folders:
            stems: dict[str, list[Path]] = {}
            names = sorted(os.listdir(folder)) if folder.is_dir() else []
            for path in (folder / name for name in names):
                if is_picture(path) and not is_hidden(path.name) and path.is_file():
                    stems.setdefault(fold(path.stem), []).append(path)
            self.folders[folder] = stems
        return self.folders[folder]


def _same(a: Path, b: Path) -> bool:
    return os.path.abspath(a) == os.path.abspath(b)


def real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def walk(
    root: Path, skip: Sequence[Path] = (), above: list[Path] | None = None
) -> Iterator[tuple[Path, list[str]]]:
    """Folders below `root` and their visible files; neither in an order to rely on.

    Links to folders are followed, wherever they lead, but into no folder twice: what lies below
    `root` itself comes first, under its own name, then what is reached through one link in natural
    order of their names, then through two. A link to a folder that it lies in, or `root`, is not
    followed.

    Args:
        skip: folders that are left out, also where links lead to them or into them.
        above: is given those links that were not followed although they lead out of `root`.
    """

    def fail(error: OSError) -> None:
        raise UsageError(
            f"the folder {error.filename} cannot be read ({error.strerror})",
            "Check its permissions.",
        )

    avoided = {real(path) for path in skip}
    top = real(root)
    seen: set[Path] = set()
    starts = [root]
    while starts:
        links: list[Path] = []
        for start in starts:
            for folder, below, names in os.walk(start, onerror=fail):
                here = Path(folder)
                if real(here) in seen:
                    below.clear()
                    continue
                seen.add(real(here))
                below[:] = [
                    name
                    for name in below
                    if not is_hidden(name) and real(here / name) not in avoided
                ]
                links += [here / name for name in below if os.path.islink(here / name)]
                yield here, [name for name in names if not is_hidden(name)]
        starts = []
        for link in sorted(links, key=natural_key):
            target = real(link)
            if top.is_relative_to(target) or real(link.parent).is_relative_to(target):
                if above is not None and not target.is_relative_to(top):
                    above.append(link)
            elif not any(target.is_relative_to(folder) for folder in avoided):
                starts.append(link)


def raws(roots: Sequence[Path], skip: Sequence[Path] = (), above: list[Path] | None = None) -> int:
    """How many RAW files lie in the folders among `roots`, where a walk passes them over."""
    folders = [root for root in roots if root.is_dir()]
    return sum(
        is_raw(Path(name))
        for root in folders
        for _, names in walk(root, skip, above)
        for name in names
    )


def passed_over(roots: Sequence[Path], skip: Sequence[Path | None] = ()) -> list[str]:
    """What to say of RAW files in the folders among `roots`, and of links that are not followed."""
    above: list[Path] = []
    count = raws(roots, [path for path in skip if path], above)
    files = "RAW file is" if count == 1 else "RAW files are"
    said = [f"{count} {files} passed over. {RAW_HINT}"] if count else []
    said += [
        f"the link {link} is passed over: it leads to {real(link)}, which holds it. Name that "
        "folder as the input if all of it is meant."
        for link in above
    ]
    return said
