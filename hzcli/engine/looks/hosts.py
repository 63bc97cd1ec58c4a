"""What a look is made for: the programs that read it, and what they want."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hzcli.errors import UsageError

Format = Literal["cube", "cube1d", "hald", "3dl", "npy"]
Interpolation = Literal["tetrahedral", "trilinear"]

EXTENSIONS: dict[str, str] = {
    "cube": ".cube",
    "cube1d": ".cube",
    "hald": ".png",
    "3dl": ".3dl",
    "npy": ".npy",
}
FORMATS: tuple[Format, ...] = ("cube", "cube1d", "hald", "3dl", "npy")
SIZE = 33
LARGEST, LARGEST_1D = 129, 65536  # that OpenColorIO reads
CURVE = 4096  # entries of curves that do not say how many they need
SPACES = ("srgb", "adobergb", "prophoto", "p3")


@dataclass(frozen=True)
class Host:
    """A program that reads looks.

    formats: that it reads, the usual one first. size: nodes a side to give it unasked;
    largest: that it takes. clamp: whether values beyond 0 to 1 disturb it.
    interpolation: between nodes, where it has a choice its first.
    """

    title: str
    formats: tuple[Format, ...] = FORMATS
    size: int = SIZE
    largest: int = LARGEST
    clamp: bool = False
    interpolation: Interpolation = "tetrahedral"


ANY = Host("a program as OpenColorIO")
HOSTS = {
    "photoshop": Host("Photoshop", ("cube", "3dl"), largest=65, clamp=True),
    # Camera Raw keeps 32 nodes a side in a profile and would resample 33.
    "lightroom": Host("Lightroom", ("cube",), size=32, largest=65, clamp=True),
    "resolve": Host("Resolve", ("cube", "cube1d", "3dl"), largest=65, interpolation="trilinear"),
    "ffmpeg": Host("ffmpeg", ("cube", "cube1d", "hald", "3dl")),
    "darktable": Host("darktable", ("cube", "hald", "3dl"), clamp=True),
    "camera": Host("a camera", ("cube",), largest=33, clamp=True),
}


@dataclass(frozen=True)
class Form:
    """How a look is written down.

    size: nodes a side; None where curves say it. host: what it was made for, or "".
    """

    format: Format = "cube"
    size: int | None = None
    space: str = "srgb"
    strength: float = 1.0
    clamp: bool = False
    interpolation: Interpolation = "tetrahedral"
    host: str = ""

    @property
    def extension(self) -> str:
        return EXTENSIONS[self.format]

    @property
    def curves(self) -> bool:
        return self.format == "cube1d"

    @property
    def steps(self) -> float | None:
        """Steps from 0 to 1 that a number in the file can say; None: any, nearly."""
        return {"hald": 65535, "3dl": 4095}.get(self.format)


def form(
    *,
    host: str | None = None,
    format: str | None = None,
    output: str | Path | None = None,
    size: int | None = None,
    space: str = "srgb",
    strength: float = 1.0,
    clamp: bool | None = None,
) -> Form:
    """Put together what was asked for and what the host wants.

    Args:
        host: one of HOSTS, or None. format: one of FORMATS; else the output's name says it,
            else the host. size: nodes a side, or entries of curves.
        clamp: None leaves it to the host.

    Raises:
        UsageError: they contradict each other.
    """
    if not 0 <= strength <= 1:
        raise UsageError(f"--strength {strength:g} is not between 0 and 1")
    taker = HOSTS[host] if host else ANY
    chosen = _format(format, output, taker)
    if chosen not in taker.formats:
        known = ", ".join(taker.formats)
        raise UsageError(f"{taker.title} does not read {chosen} files", f"It reads: {known}.")
    most = LARGEST_1D if chosen == "cube1d" else taker.largest
    if size is not None and not 2 <= size <= most:
        what = "entries" if chosen == "cube1d" else "nodes a side; 33 suits all"
        raise UsageError(
            f"--size {size} is out of range", f"{taker.title} reads 2 to {most} {what}."
        )
    if chosen == "cube1d":
        if space != "srgb":
            raise UsageError(
                "three curves cannot say what they do in another colour space",
                "Choose --format cube, or leave out --space.",
            )
    else:
        size = size or taker.size
    if chosen == "hald":
        assert size is not None
        size = square(size)
    held = taker.clamp if clamp is None else clamp
    held = held or chosen in ("hald", "3dl")  # whole numbers from 0 on: nothing lies beyond
    return Form(chosen, size, space, strength, held, taker.interpolation, host or "")


def _format(format: str | None, output: str | Path | None, host: Host) -> Format:
    if format is not None:
        return format  # type: ignore[return-value]
    suffix = Path(output).suffix.lower() if output not in (None, "-") else ""  # type: ignore[arg-type]
    for name in FORMATS:
        if EXTENSIONS[name] == suffix:
            return name
    return host.formats[0]


def square(size: int) -> int:
    """The square number nearest to a size, of those from 16 on: Hald CLUTs have such.

    >>> [square(size) for size in (17, 33, 65)]
    [16, 36, 64]
    """
    return min((n * n for n in range(4, 12)), key=lambda n: abs(n - size))
