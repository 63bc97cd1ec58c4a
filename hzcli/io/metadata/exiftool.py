"""ExifTool as a companion process: one for a whole batch, spoken to through its standard input.

https://exiftool.org/exiftool_pod.html, "-stay_open". Arguments go one a line and never through
a shell; file names are absolute, so that none begins with "-" or "@"; answers end with a mark of
their own. A process that hangs is ended, and the next command starts another; one that dies is
replaced once for the same command.
"""

from __future__ import annotations

import contextlib
import os
import queue
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

PROGRAM = "exiftool"
# Rewriting a TIFF file of several gigabytes on a slow disk takes minutes, not more.
_TIMEOUT_S = 600.0
_QUIT_S = 2.0


class ExiftoolError(Exception):
    """Raised when ExifTool did not do what it was asked for: the message says why."""


class _Died(ExiftoolError):
    """The process is no more."""


@dataclass(frozen=True)
class Answer:
    """What one command printed, and the warnings among it."""

    text: str
    warnings: tuple[str, ...]


def available(program: str = PROGRAM) -> bool:
    """Whether ExifTool can be started."""
    return shutil.which(program) is not None


class Exiftool:
    """One process for many commands; may be used by several threads, one at a time.

    Args:
        program: name on PATH, or a path.
        timeout_s: how long one command may take.
    """

    def __init__(self, program: str = PROGRAM, timeout_s: float = _TIMEOUT_S) -> None:
        self.timeout_s = timeout_s
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._number = 0

    def __enter__(self) -> Exiftool:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def execute(self, arguments: Sequence[str]) -> Answer:
        """Run one command.

        Args:
            arguments: as on a command line; files by `file_name`.

        Raises:
            ExiftoolError: it cannot be started, died, took too long, or reported an error.
        """
        with self._lock:
            try:
                printed = self._run(arguments)
            except _Died:
                # As by a Ctrl-C, which reaches it too, while a result is being finished.
                printed = self._run(arguments)
        text = b"\n".join(printed).decode("utf-8", "replace")
        errors = [line for line in text.splitlines() if line.startswith("Error")]
        if errors:
            raise ExiftoolError(_said(errors[0]))
        warned = [_said(line) for line in text.splitlines() if line.startswith("Warning")]
        return Answer(text, tuple(warned))

    def _run(self, arguments: Sequence[str]) -> list[bytes]:
        """What is printed for a command, line by line."""
        self._start()
        self._number += 1
        mark = f"{{ready{self._number}}}".encode()
        lines = ["-charset", "filename=utf8", *arguments, f"-execute{self._number}"]
        try:
            self._send("".join(_line(argument) for argument in lines))
            return self._answer(mark)
        except BaseException:
            # Also on Ctrl-C: an answer that nobody waits for would be taken for the next.
            self._end()
            raise

    def close(self) -> None:
        """End the process; a later command starts another."""
        with self._lock:
            process = self._process
            if process is not None and process.poll() is None:
                with contextlib.suppress(ExiftoolError, subprocess.TimeoutExpired):
                    self._send("-stay_open\nFalse\n")
                    process.wait(_QUIT_S)
            self._end()

    def _start(self) -> None:
        if self._process is not None and self._process.poll() is None:
            return
        self._end()
        # "-config" with nothing: a user's own configuration must not change what hz writes.
        command = [self._program, "-config", "", "-stay_open", "True", "-@", "-"]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
        except OSError as error:
            raise ExiftoolError(f"it cannot be started: {error.strerror or error}") from error
        self._lines = queue.SimpleQueue()
        threading.Thread(
            target=_listen, args=(self._process, self._lines), name="hz-exiftool", daemon=True
        ).start()

    def _send(self, text: str) -> None:
        process = self._process
        if process is None or process.stdin is None:
            raise ExiftoolError("it is not running")
        try:
            process.stdin.write(text.encode("utf-8", "surrogateescape"))
            process.stdin.flush()
        except OSError as error:
            raise _Died("it ended unexpectedly") from error

    def _answer(self, mark: bytes) -> list[bytes]:
        printed: list[bytes] = []
        while True:
            try:
                line = self._lines.get(timeout=self.timeout_s)
            except queue.Empty:
                raise ExiftoolError(f"it did not answer within {self.timeout_s:g} s") from None
            if line is None:
                raise _Died("it ended unexpectedly")
            if line == mark:
                return printed
            printed.append(line)

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


def _listen(process: subprocess.Popen[bytes], lines: queue.SimpleQueue[bytes | None]) -> None:
    """Pass on what the process prints, line by line; None when it has ended."""
    with contextlib.suppress(OSError, ValueError):
        for line in process.stdout or ():
            lines.put(line.rstrip(b"\r\n"))
    lines.put(None)


def _line(argument: str) -> str:
    """One argument as a line of the input."""
    if not argument or argument != argument.strip() or re.search(r"[\n\r\0]", argument):
        raise ExiftoolError(f"{argument!r} cannot be passed on")
    return argument + "\n"


def _said(line: str) -> str:
    return line.split(": ", 1)[-1].split(" - ")[0].strip()


def file_name(path: Path) -> str:
    """`path` as an argument: absolute, so that it is not taken for an option."""
    return os.path.abspath(path)


@contextlib.contextmanager
def readable(path: Path) -> Iterator[Path]:
    """`path`, or a link to it where -tagsFromFile would not understand the name.

    There % begins a code, without a way to mean the sign itself; and lines end at line breaks.
    """
    name = file_name(path)
    if name == name.strip() and not re.search(r"[%\n\r]", name):
        yield Path(name)
        return
    with tempfile.TemporaryDirectory(prefix="hz-") as folder:
        link = Path(folder) / ("source" + re.sub(r"[^.\w]", "", path.suffix))
        try:
            link.symlink_to(name)
        except OSError:  # Windows asks for a privilege
            shutil.copyfile(path, link)
        yield link


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# What describes the pixels of the source file and not the photograph, or is written by hz itself.
_OURS = _words("""
--ICC_Profile:all --JFIF:all --File:all --Composite:all --PNG:all --MPF:all --IFD1:all --SubIFD:all
--IFD0:Orientation --IFD0:Software --IFD0:ModifyDate --IFD0:XResolution --IFD0:YResolution
--IFD0:ResolutionUnit --IFD0:PrintIM --IFD0:TransferFunction --IFD0:ImageSourceData
--ExifIFD:ExifImageWidth --ExifIFD:ExifImageHeight --RelatedImageWidth --RelatedImageHeight
--ThumbnailImage --PreviewImage --JpgFromRaw --OtherImage --Photoshop:PhotoshopThumbnail
--XMP-xmp:Thumbnails --XMP-xmp:CreatorTool --XMP-xmp:ModifyDate --XMP-xmp:MetadataDate
--XMP-xmpMM:History --XMP-xmpMM:InstanceID --XMP-tiff:all --XMP-xmpNote:all
--XMP-exif:ExifImageWidth --XMP-exif:ExifImageHeight
""")
# Of JPEG's own encoding: the result has another.
_JPEG_ONLY = _words("""
--IFD0:YCbCrPositioning --IFD0:YCbCrCoefficients --IFD0:YCbCrSubSampling
--IFD0:ReferenceBlackWhite --CompressedBitsPerPixel --ComponentsConfiguration
""")
# What the policy "safe" leaves out.
_PERSONAL = _words("""
--GPS:all --MakerNotes:all --XMP:GPS* --XMP-drone-dji:all --SerialNumber --LensSerialNumber
--InternalSerialNumber --CameraSerialNumber --OwnerName --XMP-aux:OwnerName --HostComputer
--ImageUniqueID --ImageEditor --XMP-iptcExt:PersonInImage* --XMP-mwg-rs:all --XMP-MP:all
""")


def copying(
    source: Path,
    target: Path,
    *,
    safe: bool,
    without: Sequence[str] = (),
    jpeg: bool = False,
    profile_changed: bool = False,
) -> list[str]:
    """The command that copies the metadata of `source` into `target`, in place.

    Args:
        source: a name that `readable` gave.
        safe: leave out what the policy "safe" leaves out.
        without: groups that the target has already, as "XMP" or "IPTC".
        jpeg: whether the target is a JPEG file.
        profile_changed: what EXIF says of the colour space is no longer true.
    """
    command = ["-m", "-q", "-api", "LargeFileSupport=1", "-tagsFromFile", file_name(source)]
    command += ["-all:all", "-unsafe", *_OURS, *(() if jpeg else _JPEG_ONLY)]
    command += [f"--{group}:all" for group in without]
    command += _PERSONAL if safe else ()
    if profile_changed:
        command += ["--ExifIFD:ColorSpace", "--InteropIFD:all"]
    return [*command, "-overwrite_original", file_name(target)]
