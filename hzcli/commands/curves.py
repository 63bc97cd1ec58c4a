"""`hz curves`: the tone curves that a model holds for a picture, to look at and to edit."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hzcli import __version__, catalog
from hzcli.engine import pairing
from hzcli.engine.delivery import FileSettings, opened
from hzcli.engine.outcome import Outcome
from hzcli.engine.pairing import PairingRules
from hzcli.errors import ModelError, UsageError
from hzcli.report import Event, Result

__all__ = ["FORMATS", "CurveRow", "curves"]

FORMATS = {".csv": "csv", ".acv": "acv", ".png": "plot"}
SHOWN = 256  # places at which JSON and the screen have the curves


@dataclass(frozen=True)
class CurveRow(Outcome):
    """A picture's curves.

    knots: how many points it takes to say them. curves: {"input", "red", "green", "blue"}, at
    every 8-bit level, 0 to 1. files: what was written. acv_error: largest, in 8-bit levels.
    """

    knots: int = 0
    curves: dict[str, list[float]] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    acv_error: float | None = None


def curves(
    picture: Path,
    rules: PairingRules,
    *,
    model: str | Path | None = None,
    outputs: Sequence[Path] = (),
    background: Path | None = None,
    assume: str | None = None,
    device: str = "auto",
    overwrite: bool = False,
    on_event: Callable[[Event], None] = lambda event: None,
) -> Result:
    """Predict a picture's curves, and write them.

    Args:
        picture: one file. rules: where its mask is.
        model: weights of S2CRNet; None takes the first that are installed.
        outputs: files to write; .csv to edit, .acv for Photoshop, .png to look at.
        background: another picture to harmonise towards.
        assume: profile of pictures that embed none.
        device: a name as the user gives it. overwrite: files that exist.

    Raises:
        UsageError: the plan cannot be carried out. MaskError, PictureError, ModelError.
    """
    start = time.perf_counter()
    _check(picture, outputs, overwrite)
    if background is not None and not background.is_file():
        raise UsageError(f"--background {background} is not a file", "Check its spelling.")
    (job,) = pairing.find([picture], rules)
    name = model or _default()

    from hzcli.engine import device as devices

    taken, note = devices.pick(device)
    on_event(Event("info" if device == "auto" else "note", text=f"device: {note}"))
    from hzcli import models
    from hzcli.engine.looks import edited
    from hzcli.engine.looks.look_colour import colour_of
    from hzcli.io.masks import union
    from hzcli.io.picture import open_picture

    predictor = models.load(name, taken)
    with contextlib.ExitStack() as files:
        found = files.enter_context(opened(job, FileSettings(assume_profile=assume)))
        reader = found.reader
        colour, _, notes = colour_of(reader, assume)
        towards = towards_colour = None
        if background is not None:
            towards = files.enter_context(open_picture(background))
            towards_colour = colour_of(towards, assume)[0]
        held, warnings = edited.predicted(
            reader,
            union(found.masks),
            predictor,
            device=taken,
            reference=towards,
            colour=colour,
            reference_colour=towards_colour,
        )
        size, depth = reader.size, reader.depth
    points = edited.points_of(held)
    error = None
    for path in outputs:
        error = _write(path, points, overwrite) or error
    import numpy as np

    levels = np.linspace(0, 1, SHOWN)
    columns = (levels, *points.at(levels).T)
    row = CurveRow(
        input=str(picture),
        mask=", ".join(str(path) for path in job.masks),
        width=size.width,
        height=size.height,
        depth_in=depth,
        model=str(predictor.card.id),
        device=str(taken),
        seconds={"total": time.perf_counter() - start},
        warnings=(*job.warnings, *notes, *warnings),
        knots=len(points.inputs),
        curves={key: x.tolist() for key, x in zip(edited.COLUMNS, columns, strict=True)},
        files=tuple(str(path) for path in outputs),
        acv_error=error,
    )
    return Result(
        "curves",
        outcomes=(replace(row, output=row.files[0] if row.files else None),),
        files=tuple(outputs),
        summary={"version": __version__},
    )


def _check(picture: Path, outputs: Sequence[Path], overwrite: bool) -> None:
    if picture.is_dir():
        raise UsageError(f"{picture} is a folder", "Curves are of one picture: name it.")
    for path in outputs:
        if path.suffix.lower() not in FORMATS:
            raise UsageError(
                f"{path} is no file of curves", "Name a .csv, an .acv (Photoshop) or a .png."
            )
        if path.exists() and (not overwrite or pairing.real(path) == pairing.real(picture)):
            raise UsageError(f"{path} exists already", "Pass -f to replace it, or name another.")
        if path.suffix.lower() == ".png":
            _plotting()


def _default() -> str:
    for card in catalog.installed():
        if card.model == "s2crnet":
            return card.id
    raise ModelError(
        "no weights of S2CRNet are installed, the system that holds curves",
        "Bring some in with hz models import FILE, or name a file with --weights.",
    )


def _write(path: Path, points: Any, overwrite: bool) -> float | None:
    """One file; of an .acv the largest error."""
    from hzcli.engine.looks import edited

    kind = FORMATS[path.suffix.lower()]
    if kind == "csv":
        edited.write_csv(path, points, overwrite=overwrite)
    elif kind == "plot":
        _plot(path, points, overwrite)
    else:
        from hzcli.io.acv import write_acv

        return write_acv(path, points.pairs())
    return None


def _plotting() -> Any:
    try:
        import matplotlib
    except ImportError:
        raise UsageError(
            "a plot needs matplotlib, which is not installed",
            'pip install "hz[train]" brings it; .csv and .acv need nothing.',
        ) from None
    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    return Figure


def _plot(path: Path, points: Any, overwrite: bool) -> None:
    from hzcli.io.atomic import beside

    figure = _plotting()(figsize=(5, 5), dpi=150, layout="constrained")
    axes = figure.add_subplot(xlabel="input (8-bit level)", ylabel="output")
    axes.plot([0, 255], [0, 255], color="0.8", linewidth=1)
    for values, colour in zip(points.values.T, ("#c8102e", "#1a8f3c", "#1f4fd0"), strict=True):
        axes.plot(255 * points.inputs, 255 * values, color=colour, linewidth=1.5)
    axes.set(xlim=(0, 255), ylim=(0, 255), xticks=range(0, 256, 51), yticks=range(0, 256, 51))
    axes.set_aspect("equal")
    axes.grid(color="0.92")
    with beside(path, overwrite=overwrite) as temporary:
        figure.savefig(temporary, format="png")
