"""Curves as people edit them: a table of their points, out of a model and back into a run.

The file is CSV: columns input, red, green and blue, numbers from 0 to 1; between two rows a curve
is straight. Spreadsheets that write semicolons and decimal commas are understood.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from hzcli.errors import LookError, UsageError
from hzcli.io.atomic import write_text

if TYPE_CHECKING:
    from hzcli.core.curves import Curves
    from hzcli.core.transform import Thumbnail
    from hzcli.engine.colour import Colour
    from hzcli.engine.thumbnail import Reader

COLUMNS = ("input", "red", "green", "blue")
MOST_ROWS = 4097  # of a file that people are to edit; curves with more bends are sampled
LARGEST = 16 << 20  # bytes of a file that is read


@dataclass(frozen=True)
class Points:
    """A curve a channel over the same inputs. inputs: (K,), rising. values: (K, 3). Float64."""

    inputs: np.ndarray
    values: np.ndarray

    def at(self, x: np.ndarray) -> np.ndarray:
        """The curves at places (N,): (N, 3); held at their ends."""
        return np.stack([np.interp(x, self.inputs, v) for v in self.values.T], axis=-1)

    def pairs(self) -> np.ndarray:
        """(3, K, 2): input and output, a channel at a time."""
        inputs = np.broadcast_to(self.inputs[:, None], self.values.shape)
        return np.stack([inputs, self.values], axis=-1).swapaxes(0, 1)


def points_of(curves: Curves) -> Points:
    """The curves of one picture at all places where one of them bends."""
    knots = curves.knots[0].cpu().double().numpy()
    if curves.places is None:
        inputs = np.linspace(0, 1, knots.shape[1])
        places = np.broadcast_to(inputs, knots.shape)
    else:
        places = curves.places[0].cpu().double().numpy()
        inputs = np.unique(places)
        # Bends that rounding has moved apart are one.
        inputs = inputs[np.append(True, np.diff(inputs) > 1e-7)]
    if len(inputs) > MOST_ROWS:
        inputs = np.linspace(0, 1, MOST_ROWS)
    values = [np.interp(inputs, p, k) for p, k in zip(places, knots, strict=True)]
    return Points(inputs, np.stack(values, axis=-1))


def predicted(
    reader: Reader,
    mask_reader: Reader,
    predictor: Any,
    *,
    device: Any,
    reference: Any = None,
    colour: Colour | None = None,
    reference_colour: Colour | None = None,
) -> tuple[Curves, list[str]]:
    """The curves that a model holds for a picture, and warnings about its mask.

    Args:
        reference: another picture to harmonise towards. colour, reference_colour: how the numbers
            of both become sRGB, whose curves these are; None for sRGB.

    Raises:
        UsageError: it holds none. MaskError: the mask is empty or covers everything.
    """
    import torch

    from hzcli.engine import stream, thumbnail
    from hzcli.engine.looks.foreground import needed

    if not hasattr(predictor, "curves"):
        raise UsageError(
            f"{predictor.card.id} holds no curves",
            "Choose weights of S2CRNet with --model; hz models lists them.",
        )
    colour = needed(colour, reader)
    if reference is not None:
        reference_colour = needed(reference_colour, reference)
    with torch.inference_mode():
        survey = thumbnail.look(reader, mask_reader, predictor, reference, colour, reference_colour)
        warnings = stream.check_mask(survey, reader.size)
        return predictor.curves(stream.on_device(survey.thumbnail, device)), warnings


# --- CSV --------------------------------------------------------------------------------------


def write_csv(path: Path, points: Points, *, overwrite: bool = True) -> None:
    """Write curves so that reading them gives the same float32 values."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    for place, row in zip(points.inputs, points.values, strict=True):
        writer.writerow([f"{number:.9g}" for number in (place, *row)])
    write_text(path, buffer.getvalue(), overwrite=overwrite)


def read_csv(path: Path) -> Points:
    """Read curves back.

    Raises:
        LookError: the file cannot be opened, or says nothing of the kind; names the line.
    """
    try:
        with open(path, "rb") as file:
            raw = file.read(LARGEST + 1)
    except OSError as error:
        raise LookError(f"{path} cannot be opened: {error.strerror}", "Check its name.") from error
    try:
        text = raw[:LARGEST].decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise LookError(f"{path} is no text: byte {error.start}", "Save it as CSV.") from error
    if len(raw) > LARGEST or "\0" in text:
        raise LookError(f"{path} is no table of curves", "Save it as CSV.")
    lines = text.splitlines()
    semicolons = ";" in (lines[0] if lines else "")
    rows: list[list[float]] = []
    columns: list[int] | None = None
    for number, line in enumerate(lines, 1):
        cells = [cell.strip().strip('"') for cell in line.split(";" if semicolons else ",")]
        if not any(cells):
            continue
        if columns is None:
            columns = _columns(cells, f"{path}, line {number}")
            continue
        rows.append(_row(cells, columns, semicolons, f"{path}, line {number}"))
        if len(rows) > 1 and rows[-1][0] <= rows[-2][0]:
            raise LookError(
                f"{path}, line {number}: input {rows[-1][0]:g} follows {rows[-2][0]:g}",
                "Inputs must rise from row to row.",
            )
    if len(rows) < 2:
        raise LookError(f"{path} has {len(rows)} points, a curve needs two", "Add some.")
    table = np.array(rows)
    return Points(table[:, 0], table[:, 1:])


def _columns(cells: list[str], where: str) -> list[int]:
    names = [cell.lower() for cell in cells]
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        raise LookError(
            f"{where}: no column {missing[0]}", f"The first line is {','.join(COLUMNS)}."
        )
    return [names.index(name) for name in COLUMNS]


def _row(cells: list[str], columns: list[int], commas: bool, where: str) -> list[float]:
    if max(columns) >= len(cells):
        raise LookError(f"{where}: {len(cells)} cells, expected {max(columns) + 1}", "Fill it in.")
    row = []
    for name, column in zip(COLUMNS, columns, strict=True):
        cell = cells[column].replace(",", ".") if commas else cells[column]
        try:
            value = float(cell)
        except ValueError:
            value = np.nan
        if not -1 <= value <= 2:
            shown = cell if len(cell) < 20 else cell[:20] + "..."
            raise LookError(f'{where}: {name} is "{shown}"', "Numbers go from 0 to 1.")
        row.append(value)
    return row


# --- Back into a run --------------------------------------------------------------------------


class EditedCurves:
    """A model that answers every picture with the same curves."""

    thumbnail_edge = 8

    def __init__(self, points: Points, name: str) -> None:
        self.points = points
        self.card = SimpleNamespace(id=name)

    def predict(self, thumb: Thumbnail) -> Curves:
        import torch

        from hzcli.core.curves import Curves

        knots = torch.from_numpy(self.points.values.T.astype(np.float32).copy())[None]
        places = torch.from_numpy(self.points.inputs.astype(np.float32))
        alike = places.expand(3, -1)[None].contiguous()
        return Curves(knots.to(thumb.rgb.device), alike.to(thumb.rgb.device))

    predict_lut = predict


def load(path: Path) -> EditedCurves:
    """The curves of a file, as a model.

    Raises:
        UsageError: the file is not one of curves.
    """
    try:
        return EditedCurves(read_csv(path), path.name)
    except LookError as error:
        raise UsageError(f"--curves {error.message}", error.hint) from error
