"""How results are called: the source's name with a new suffix, or a template of the user's.

    {stem}     IMG_1          name of the picture without its suffix
    {suffix}   .tif           of the result's format, with its dot
    {parent}   day1           name of the folder that the picture lies in
    {index}    17             number of the picture in this run, from 1; {index:04} is 0017
    {model}    hinet          {mode}   region
    {width}    6000           {height} 4000           {size} 6000x4000, in pixels

A template that ends in no suffix of the result's format is given it. One without a slash names
the file, which keeps the sub-folder that it had below its
input; one with a slash names the whole path below the output folder.
"""

from __future__ import annotations

import os
import re
import string
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from hzcli.core.window import Size
from hzcli.engine.pairing import Job
from hzcli.engine.walk import fold, real
from hzcli.errors import UsageError
from hzcli.io.writers.choices import spellings

_NUMBERS = frozenset({"index", "width", "height"})
FIELDS = ("stem", "suffix", "parent", "index", "model", "mode", "size", "width", "height")
# What Windows refuses in a name (Microsoft, "Naming Files, Paths, and Namespaces"): characters,
# a dot or space at the end, and names of devices, whatever follows their first dot.
_REFUSED = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]')
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\.|$)", re.IGNORECASE)
# Bytes of a name on ext4, APFS and NTFS alike, less what a temporary neighbour adds to it.
_LONGEST = 255 - len(".") - len(".12345678.part")
_EXAMPLE = 'For example --name "{stem}_{model}{suffix}"'


@dataclass(frozen=True)
class Template:
    """A pattern that was checked.

    parts: (literal text, field or None, format specification), in order.
    """

    pattern: str
    parts: tuple[tuple[str, str | None, str], ...]

    @property
    def needs_size(self) -> bool:
        """Whether the pictures' heads must be read to name their results."""
        return any(field in ("size", "width", "height") for _, field, _ in self.parts)

    def fill(self, relative: Path, values: dict[str, str | int]) -> Path:
        """The path of one result below the output folder.

        Args:
            relative: where the picture lies below its input.
            values: of every field that the template has.

        Raises:
            UsageError: nothing is left of the name.
        """
        text = "".join(
            literal + ("" if field is None else _formatted(values[field], field, spec))
            for literal, field, spec in self.parts
        )
        ending = str(values.get("suffix", ""))
        *folders, last = text.split("/")
        if not last or last == ending:
            raise UsageError(
                f'--name "{self.pattern}" leaves no name for {relative}', f"{_EXAMPLE}."
            )
        if ending and not last.lower().endswith(spellings(ending)):
            last += ending
        names = [_allowed(name) for name in (*folders, last)]
        folder = relative.parent if len(names) == 1 else Path()
        return folder / Path(*names)


def parse(pattern: str) -> Template:
    """Check a pattern.

    Raises:
        UsageError: it has a field that hz does not know, is no template, or leaves the output
            folder.
    """
    # Whoever writes a template on Windows writes its slashes so; a name cannot hold one.
    text = pattern.replace("\\", "/")
    try:
        parsed = list(string.Formatter().parse(text))
    except ValueError as error:
        raise UsageError(f'--name "{pattern}" is no template: {error}', f"{_EXAMPLE}.") from error
    parts: list[tuple[str, str | None, str]] = []
    for literal, field, spec, conversion in parsed:
        if field is not None and (field not in FIELDS or conversion):
            known = ", ".join(f"{{{name}}}" for name in FIELDS)
            raise UsageError(
                f'--name "{pattern}" has an unknown field {{{field}}}', f"There are {known}."
            )
        if field is not None:
            _check_spec(pattern, field, spec or "")
        parts.append((literal, field, spec or ""))
    steps = "".join("x" if field else literal for literal, field, _ in _split(parts)).split("/")
    if text.startswith("/") or re.match(r"[A-Za-z]:", text) or {"..", "."} & set(steps):
        raise UsageError(
            f'--name "{pattern}" leaves the output folder',
            "Name files and folders below it; -o says where it is.",
        )
    if "" in steps:
        raise UsageError(f'--name "{pattern}" has a folder without a name', f"{_EXAMPLE}.")
    return Template(pattern, tuple(parts))


def named(
    jobs: Sequence[Job],
    template: Template | None,
    *,
    suffix: Callable[[Path], str],
    model: str = "",
    mode: str = "",
    size: Callable[[Job], Size | None] | None = None,
) -> list[Job]:
    """The jobs with the names of their results.

    Args:
        jobs: from `pairing.find`, whose `output` is the picture's place below its input.
        template: from `parse`; None keeps name and place, and changes the suffix.
        suffix: of the result for a picture's path, as `writers.choices.suffix_for`.
        model, mode: what fields of these names become.
        size: a picture's size from its head, asked only if the template needs it; None for a
            picture that cannot be read, whose result then has the size 0 in its name.

    Raises:
        UsageError: nothing is left of a name.
    """
    found = []
    for index, job in enumerate(jobs, 1):
        ending = suffix(job.composite)
        if template is None:
            found.append(replace(job, output=job.output.with_suffix(ending)))
            continue
        measured = size(job) if size is not None and template.needs_size else None
        height, width = (measured.height, measured.width) if measured else (0, 0)
        values: dict[str, str | int] = {
            "stem": job.composite.stem,
            "suffix": ending,
            # "." and ".." have no name that could be read off them.
            "parent": Path(os.path.abspath(job.composite)).parent.name or "root",
            "index": index,
            "model": model,
            "mode": mode,
            "size": f"{width}x{height}",
            "width": width,
            "height": height,
        }
        found.append(replace(job, output=template.fill(job.output, values)))
    return found


def beside(target: Path, kind: str) -> Path:
    """Where a companion of a result goes: X_mask.tif for X.png and "mask".

    The stem is cut where the name would be too long for a disc.
    """
    stem, end = target.stem, f"_{kind}.tif"
    while len(os.fsencode(stem)) > 255 - len(end):
        stem = stem[:-1]
    return target.with_name(stem + end)


def check(
    jobs: Sequence[Job], output: Path, also: Iterable[str] = (), inputs: Iterable[Path] = ()
) -> None:
    """Make sure that no two files are written to one place, and none over an input.

    Args:
        jobs: with the names of their results.
        output: the folder of results.
        also: kinds of companions that each result has.
        inputs: files beyond the jobs' own that must stay as they are.

    Raises:
        UsageError: two results share a name, or one has an input's.
    """
    also = tuple(also)
    taken: dict[str, Job] = {}
    for job in jobs:
        for path in _written(job, also):
            # Folded: "A.tif" and "a.tif" are one file on most photographers' discs.
            other = taken.setdefault(fold(PurePosixPath(path).as_posix()), job)
            if other is not job:
                raise UsageError(
                    f"{other.composite} and {job.composite} would both be written to {path}",
                    "Rename one of them, put {index} or {parent} into --name, or run them into "
                    "two output folders.",
                )
    own = [path for job in jobs for path in (job.composite, *job.masks, job.truth) if path]
    sources = {real(path) for path in (*own, *inputs)}
    for job in jobs:
        for path in _written(job, also):
            if real(output / path) in sources:
                raise UsageError(
                    f"the result of {job.composite} would be written over the input "
                    f"{output / path}",
                    "Inputs are never touched: name another folder with -o.",
                )


def _written(job: Job, also: tuple[str, ...]) -> Iterator[Path]:
    yield job.output
    for kind in also:
        yield beside(job.output, kind)


def _split(
    parts: Iterable[tuple[str, str | None, str]],
) -> Iterator[tuple[str, str | None, str]]:
    """The literal text and the field of each part, one after the other."""
    for literal, field, spec in parts:
        yield literal, None, ""
        if field is not None:
            yield "", field, spec


def _check_spec(pattern: str, field: str, spec: str) -> None:
    trial: str | int = 1 if field in _NUMBERS else "x"
    try:
        if "{" in spec:
            raise ValueError("fields within fields")
        # A width of millions would be a name of millions.
        if len(format(trial, spec)) > _LONGEST:
            raise ValueError("too long")
    except ValueError as error:
        raise UsageError(
            f'--name "{pattern}": {{{field}}} cannot be written as ":{spec}" ({error})',
            "Numbers take a width, as {index:04}; words take none.",
        ) from error


def _formatted(value: str | int, field: str, spec: str) -> str:
    text = format(value, spec)
    # A slash within a value is no folder.
    return text if field == "suffix" else _REFUSED.sub("_", text)


def _allowed(name: str) -> str:
    """A name that every system takes: refused characters replaced, too long a stem cut."""
    name = _REFUSED.sub("_", name)
    if _DEVICES.match(name):
        name = f"_{name}"
    stem, dot, ending = name.rpartition(".")
    while stem and len(os.fsencode(name)) > _LONGEST:
        stem = stem[:-1]
        name = stem + dot + ending
    if name.endswith((".", " ")):
        name = name.rstrip(". ") + "_"
    return name
