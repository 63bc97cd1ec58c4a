"""`hz info`: what hz sees in a file, what it would do with it, and what would be lost.

Heads of files are read, no pixel is decoded unless `pixels` asks for it; no network is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from hzcli import catalog
from hzcli.core.window import bands
from hzcli.engine import naming, pairing
from hzcli.engine import plan as planning
from hzcli.engine.batch import OnEvent
from hzcli.engine.fates import failed
from hzcli.engine.pairing import Job, PairingRules
from hzcli.engine.walk import is_picture, passed_over
from hzcli.errors import HzError, MaskError, ModelError
from hzcli.io.masks import MaskOptions
from hzcli.report import Event, Result

__all__ = ["Asked", "Seen", "info"]

# What the process takes with torch and the largest of our own networks, measured on Linux.
_RUNTIME = 320 << 20
# Rows of a picture and its mask that are looked at together.
_PIXELS = 1 << 20


@dataclass(frozen=True)
class Asked:
    """What a run would be asked to do, as far as it shows in a file's fate.

    folder: of the results. model: id or file of weights. format: `writers.OutputOptions`; None
    for 16-bit TIFF. template: of names, checked. assume, output_profile: as on the command line.
    """

    folder: Path = Path("harmonized")
    model: str = "hinet"
    mode: str = "region"
    masks: MaskOptions = field(default_factory=MaskOptions)
    format: Any = None
    template: Any = None
    metadata: str = "all"
    assume: str | None = None
    output_profile: str | None = None
    budget_bytes: int | None = None
    max_pixels: int | None = None


@dataclass(frozen=True)
class Seen:
    """What hz sees in one picture.

    status: "ready", or "failed" where a run could not be done. picture, profile, metadata, run:
    facts by name, empty where nobody knows. masks: one such each. lost: what a result would not
    hold. notes: what a user should be told.
    """

    input: str
    status: str = "ready"
    picture: dict[str, Any] = field(default_factory=dict)
    profile: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    masks: tuple[dict[str, Any], ...] = ()
    run: dict[str, Any] = field(default_factory=dict)
    lost: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    error: dict[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """A copy for JSON."""
        return dict(vars(self))


def info(
    inputs: Sequence[Path],
    rules: PairingRules,
    asked: Asked | None = None,
    *,
    pixels: bool = False,
    on_event: OnEvent = lambda event: None,
) -> Result:
    """Look at pictures and folders of pictures.

    Args:
        inputs: files and folders.
        rules: where masks are; without any, no mask is looked for.
        asked: what a run would be asked.
        pixels: decode pictures and masks to the end: damage shows, masks are measured.
        on_event: told of every picture when it was seen.

    Returns:
        One `Seen` a picture.

    Raises:
        UsageError: the rules contradict each other, or nothing is there.
    """
    from hzcli.io.writers import OutputOptions, check_options
    from hzcli.io.writers.choices import suffix_for

    asked = asked or Asked()
    asked = replace(asked, format=asked.format or OutputOptions())
    check_options(asked.format)
    jobs = pairing.find(inputs, replace(rules, output=asked.folder), look=True)
    jobs = naming.named(
        jobs,
        asked.template,
        suffix=lambda path: suffix_for(asked.format, path),
        model=Path(asked.model).stem,
        mode=asked.mode,
        size=_size,
    )
    for text in passed_over(inputs, (asked.folder, rules.mask_dir)):
        on_event(Event("warning", text=text))
    rows = []
    on_event(Event("begin", count=len(jobs)))
    for job in jobs:
        on_event(Event("start", text=str(job.composite)))
        rows.append(_seen(job, asked, pixels))
        on_event(Event("row", row=rows[-1]))
    return Result(command="info", outcomes=tuple(rows))


def _size(job: Job) -> Any:
    from hzcli.io.picture import peek

    try:
        return peek(job.composite).size
    except HzError:
        return None


def _seen(job: Job, asked: Asked, pixels: bool) -> Seen:
    """One picture; what is wrong with it or its mask is said beside what is known of it."""
    from hzcli.io.formats.found import examine

    seen = Seen(input=str(job.composite))
    if job.error is not None and not is_picture(job.composite):
        return _wrong(seen, job, job.error)
    try:
        found = examine(job.composite)
        header, meta = found.header, found.meta
    except (HzError, OSError) as error:
        return _wrong(seen, job, error)
    seen = replace(seen, picture=_picture(job.composite, header, meta), notes=header.notes)
    try:
        seen = _profile(seen, header, meta, asked)
        seen = _run(seen, job, header, asked)
        seen = _metadata(seen, job.composite, header, asked)
        if pixels:
            _decode(job.composite, asked)
        if job.error is not None:
            raise job.error
    except (HzError, OSError) as error:
        return _wrong(seen, job, error)
    return _masks(seen, job, header, asked, pixels)


def _wrong(seen: Seen, job: Job, error: BaseException) -> Seen:
    return replace(seen, status="failed", error=failed(job, error).error)


def _picture(path: Path, header: Any, meta: Any) -> dict[str, Any]:
    size = header.size
    density = meta.resolution
    return {
        "format": header.format,
        "bytes": path.stat().st_size,
        "width": size.width,
        "height": size.height,
        "megapixels": round(size.pixels / 1e6, 3),
        "depth": header.depth,
        "channels": header.channels,
        "alpha": bool(getattr(header, "alpha", header.channels in ("rgba", "greya"))),
        "orientation": header.orientation,
        "resolution": None if density is None else list(density),
    }


def _profile(seen: Seen, header: Any, meta: Any, asked: Asked) -> Seen:
    from hzcli.io import profiles

    icc, why, warning = profiles.presume(header, meta, asked.assume)
    facts = profiles.describe(icc)
    said = {
        "name": facts.name,
        "presumed": why != "embedded",
        "why": why,
        "kind": facts.kind,
        "model": facts.model,
        "srgb": facts.is_srgb,
        "bytes": len(meta.icc) if meta.icc is not None else None,
        "output": None,
    }
    if asked.output_profile is not None:
        said["output"] = profiles.describe(profiles.load(asked.output_profile)).name
    return replace(seen, profile=said, notes=(*seen.notes, *([warning] if warning else [])))


def _run(seen: Seen, job: Job, header: Any, asked: Asked) -> Seen:
    """Where the result would go, how it would be stored, in which bands it would be made."""
    from hzcli.io.formats.faults import check_pixels
    from hzcli.io.writers import resolve

    check_pixels(header, asked.max_pixels)
    resolved = resolve(asked.format, header)
    target = asked.folder / job.output
    # The network is not there: what it takes is added, and its halo left out.
    reach: Any = SimpleNamespace(halo=0, align=1, bytes_per_pixel=64)
    box = (0, header.size.height, 0, header.size.width)
    chosen = planning.plan(
        header.size, box, reach, asked.budget_bytes, used_bytes=planning.resident_bytes() + _RUNTIME
    )
    notes = [note for note in resolved.notes if note not in seen.notes]
    lost = []
    for note in list(notes):
        if any(word in note for word in ("left out", "become", "lost")):
            notes.remove(note)
            lost.append(note)
    if header.format == "psd":
        lost.append("layers: the flattened picture is taken")
        seen = replace(seen, notes=tuple(n for n in seen.notes if "layers" not in n))
    if header.channels == "cmyk":
        lost.append("CMYK inks: the result is sRGB")
        seen = replace(seen, notes=tuple(n for n in seen.notes if "(CMYK)" not in n))
    try:
        catalog.find(asked.model)
    except ModelError as error:
        notes.append(error.message)
    said = {
        "model": asked.model,
        "output": str(target),
        "exists": target.exists(),
        "format": resolved.format,
        "depth": 16 if resolved.half else resolved.depth,
        "float": resolved.depth == 32,
        "alpha": seen.picture["alpha"] and resolved.holds_alpha,
        "band_rows": chosen.band_rows,
        "memory_bytes": chosen.peak_bytes,
    }
    return replace(seen, run=said, lost=tuple(lost), notes=(*seen.notes, *notes))


def _metadata(seen: Seen, path: Path, header: Any, asked: Asked) -> Seen:
    from hzcli.io.metadata import policies as metadata

    found = metadata.summary(path, seen.run["format"])
    said = {
        "blocks": found.sizes,
        "camera": found.camera,
        "lens": found.lens,
        "taken": found.taken,
        "software": found.software,
        "gps": found.gps,
        "maker_note": found.maker_note,
        "policy": asked.metadata,
    }
    lost = found.lost
    if asked.metadata == "none":
        lost = ("all metadata",) if found.sizes else ()
    elif asked.metadata == "safe":
        private = [*(["the position"] if found.gps else [])]
        private += ["serial numbers and maker notes"] if found.maker_note else []
        lost = (*(f"{word} (--metadata safe)" for word in private), *lost)
    return replace(seen, metadata=said, lost=(*seen.lost, *lost), notes=(*seen.notes, *found.notes))


def _decode(path: Path, asked: Asked) -> None:
    """Read a picture to its end; damage raises."""
    from hzcli.io.picture import open_picture

    with open_picture(path, max_pixels=asked.max_pixels) as reader:
        for window in bands(reader.size, max(1, _PIXELS // reader.size.width)):
            reader.read(window)


def _masks(seen: Seen, job: Job, header: Any, asked: Asked, pixels: bool) -> Seen:
    """The same with its masks; one that does not fit is shown beside the error."""
    from hzcli.io.masks import prepared, select
    from hzcli.io.picture import peek

    options = asked.masks.of(job.mask_source)
    for path in job.masks:
        row: dict[str, Any] = {"path": str(path), "rule": job.rule, "source": options.source}
        try:
            head = peek(path)
            row |= {
                "width": head.size.width,
                "height": head.size.height,
                "depth": head.depth,
                "channels": head.channels,
                "format": head.format,
            }
            with select(path, options, max_pixels=asked.max_pixels) as reader:
                mask = prepared(reader, options, header.size)
                seen = replace(seen, notes=(*seen.notes, *getattr(mask, "notes", ())))
                if pixels:
                    row |= _measured(mask)
                    if row["box"] is None:
                        raise MaskError(f"the mask {path.name} is empty: it is 0 everywhere")
        except (HzError, OSError) as error:
            return replace(_wrong(seen, job, error), masks=(*seen.masks, row))
        seen = replace(seen, masks=(*seen.masks, row))
    return seen


def _measured(mask: Any) -> dict[str, Any]:
    """Share of foreground, share of pixels in between, and bounding box of a mask."""
    import numpy as np

    size, full = mask.size, (1 << mask.depth) - 1
    rows, columns = np.zeros(size.height, bool), np.zeros(size.width, bool)
    total = soft = 0
    for window in bands(size, max(1, _PIXELS // size.width)):
        codes = mask.read(window)
        total += int(codes.sum(dtype=np.uint64))
        soft += int(np.count_nonzero((codes > 0) & (codes < full)))
        rows[window.top : window.bottom] = codes.any(axis=1)
        columns |= codes.any(axis=0)
    y, x = np.flatnonzero(rows), np.flatnonzero(columns)
    box = [int(x[0]), int(y[0]), int(x[-1]) + 1, int(y[-1]) + 1] if len(y) else None
    return {"foreground": total / full / size.pixels, "soft": soft / size.pixels, "box": box}
