"""Metadata of a batch on its way from pictures to results.

Three rungs, from the top:

1. What can be embedded by this package is: XMP, IPTC, image resources and descriptive tags as
   they are; EXIF byte for byte, or, into TIFF, its directories appended to the finished file.
2. Where that was not exact, and ExifTool is on PATH, it copies once more: it alone knows how
   maker notes are moved, and it reads what the libraries here do not.
3. What has still found no place goes into an .xmp file beside the result.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from hzcli.core.window import Size
from hzcli.io import atomic
from hzcli.io.metadata import exif, exiftool
from hzcli.io.metadata.blocks import Blocks, blocks, kind
from hzcli.io.metadata.embed import Carried, embed
from hzcli.io.metadata.exif import BROKEN
from hzcli.io.metadata.exiftool import Exiftool, ExiftoolError
from hzcli.io.metadata.policies import POLICIES, Edit, carried
from hzcli.io.metadata.sidecar import sidecar_text
from hzcli.io.metadata.xmp import PHOTOSHOP, XMP, Packet

_INSTALL = (
    "Some metadata has no proper place in the results: what they cannot hold stands in an .xmp "
    "file beside them, and maker notes may be unreadable where they had to be moved. "
    "Install exiftool (https://exiftool.org) to have it embedded as far as can be"
)

# Containers that have no place for IPTC; those that ExifTool writes.
_NO_IPTC = ("webp", "jxl", "exr")
_BY_EXIFTOOL = ("jpeg", "png", "tiff", "webp", "jxl")
# Maker notes that count positions from their own start, and so may be moved: of Nikon, Fujifilm,
# Olympus, OM System, Apple, Pentax (https://exiftool.org/makernote_types.html).
_MOVABLE = (b"Nikon\0\2", b"FUJIFILM", b"OLYMPUS\0", b"OM SYSTEM\0", b"Apple iOS\0", b"PENTAX \0")


class Ladder:
    """The metadata of a whole batch: holds the one ExifTool process; a context manager.

        with Ladder("all") as ladder:
            job = ladder.job(source, result, size, Edit("hz 1.0", {"model": "hinet"}))
            with open_writer(..., metadata=job.carried, finish=job.finish) as writer:
                ...
            job.settle()

    Args:
        policy: "all" | "safe" | "none".
        program: ExifTool's name or path; None works without.
        timeout_s: how long ExifTool may take for one picture.
    """

    def __init__(
        self,
        policy: str,
        program: str | None = exiftool.PROGRAM,
        timeout_s: float = 600.0,
    ) -> None:
        if policy not in POLICIES:
            raise ValueError(f"policy must be one of {POLICIES}, not {policy!r}")
        self.policy = policy
        usable = policy != "none" and program is not None and exiftool.available(program)
        self.tool = Exiftool(program, timeout_s) if usable and program else None
        self.warning: str | None = None  # one for the whole batch

    def job(
        self,
        source: Path,
        result: Path,
        size: Size,
        edit: Edit,
        *,
        overwrite: bool = False,
        profile_changed: bool = False,
    ) -> Job:
        """Read the metadata of `source`; never raises for what is in it."""
        found = blocks(source) if self.policy != "none" else Blocks()
        given = carried(found, self.policy, size, edit, profile_changed=profile_changed)
        return Job(self, source, result, found, given, overwrite, profile_changed)

    def close(self) -> None:
        if self.tool is not None:
            self.tool.close()

    def __enter__(self) -> Ladder:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


@dataclass
class Job:
    """One picture's way down the ladder; `notes` is what the user should be told of it."""

    ladder: Ladder
    source: Path
    result: Path
    found: Blocks
    carried: Carried
    overwrite: bool = False
    profile_changed: bool = False
    notes: list[str] = field(default_factory=list)
    _left: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.notes += self.found.notes

    def finish(self, temporary: Path) -> None:
        """Embed in the complete file what has a place there; raises nothing but OSError."""
        container = _container(temporary)
        if container in _NO_IPTC and self.carried.iptc:
            # The container has no place for IPTC, but XMP has one for what it says.
            text = sidecar_text(None, self.carried.xmp, self.carried.iptc)
            self.carried = replace(self.carried, xmp=text.encode(), iptc=None)
        try:
            self._left = embed(temporary, self.carried)
        except BROKEN as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the disk, and not what a library thinks of the file
            self._left = set(self.carried.names)
            self.notes.append(f"metadata not embedded: {error}")
        writable = container in _BY_EXIFTOOL and not _big(temporary)
        if self.ladder.tool is not None and writable and self._worth_it(container):
            self._by_exiftool(self.ladder.tool, temporary, container)
        elif self._moved(container):
            self._advise()

    def settle(self) -> Path | None:
        """Write the sidecar if one is needed; after the result has its name.

        Returns:
            Where it is, or None.
        """
        given = self.carried
        wanted = {name: getattr(given, name) for name in self._left & {"exif", "xmp", "iptc"}}
        # A history alone is no reason for a second file.
        if not wanted or (wanted.keys() == {"xmp"} and self.found.xmp is None):
            return None
        names = self.result.with_suffix(".xmp"), self.result.with_name(f"{self.result.name}.xmp")
        may_be = [p for p in names if not p.exists() or (self.overwrite and self._own(p))]
        if not may_be:
            there = " and ".join(path.name for path in names)
            self.notes.append(f"{there} exist already and are left as they are")
            return None
        path = may_be[0]
        text = sidecar_text(wanted.get("exif"), given.xmp, wanted.get("iptc"), self._extension)
        try:
            atomic.write_text(path, text)
        except OSError as error:
            # The result has its name: only this is lost.
            self.notes.append(f"{path.name} could not be written: {error.strerror or error}")
            return None
        self._advise()
        return path

    @property
    def _extension(self) -> str:
        return self.result.suffix.lstrip(".").upper()

    def _own(self, path: Path) -> bool:
        """Whether a sidecar is one that hz wrote for such a result: neither a photographer's own,
        nor of another picture that is called so but for its extension."""
        try:
            packet = Packet(path.read_bytes())
        except (OSError, ValueError):
            return False
        meant = packet.get(PHOTOSHOP, "SidecarForExtension") or self._extension
        return meant == self._extension and (packet.get(XMP, "CreatorTool") or "").startswith("hz ")

    def _advise(self) -> None:
        if self.ladder.tool is None:
            self.ladder.warning = _INSTALL

    def _worth_it(self, container: str) -> bool:
        """Whether ExifTool could do better than what was done."""
        unread = bool(self.found.notes)
        return unread or self._moved(container) or bool(self._left & {"exif", "xmp", "iptc"})

    def _moved(self, container: str) -> bool:
        """Whether maker notes lie at other bytes than they were written for."""
        if not self.carried.exif or (container != "tiff" and self.carried.verbatim):
            return False
        note = exif.maker_note(self.carried.exif)
        return bool(note) and not note.startswith(_MOVABLE)

    def _by_exiftool(self, tool: Exiftool, temporary: Path, container: str) -> None:
        groups = {"xmp": "XMP", "iptc": "IPTC", "photoshop": "Photoshop"}
        # A packet that holds hz's own entry alone does not stand for the source's.
        there = {name for name in self.carried.names - self._left if getattr(self.found, name)}
        without = [groups[name] for name in groups if name in there or not self.found.notes]
        try:
            with exiftool.readable(self.source) as source:
                tool.execute(
                    exiftool.copying(
                        source,
                        temporary,
                        safe=self.ladder.policy == "safe",
                        without=without,
                        jpeg=container == "jpeg",
                        profile_changed=self.profile_changed,
                    )
                )
        except (ExiftoolError, OSError) as error:
            self.notes.append(f"exiftool did not take part: {error}")
            return
        now_there = blocks(temporary)
        self._left = {name for name in self._left if getattr(now_there, name) is None}


def _container(path: Path) -> str:
    with open(path, "rb") as file:
        return kind(file.read(32))


def _big(path: Path) -> bool:
    """Whether it is a BigTIFF, which ExifTool does not write."""
    with open(path, "rb") as file:
        return file.read(4) in (b"II+\0", b"MM\0+")
