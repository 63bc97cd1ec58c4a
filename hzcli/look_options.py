"""Options of the commands for looks, once; those that they share with others are in options.py.

inputs    LOOK, A, B, IMG                                                     apply-lut, mix, curves
output    -o/--output, each its own                                           all four
          --for --format --size --space --clamp/--no-clamp --merge            export-lut
          --max-residual                                                      export-lut
          --everywhere --interpolation                                        apply-lut
          --at                                                                mix
model     -m/--model, one only                                                export-lut, curves
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from hzcli.options import MODEL, OUTPUT, _option

LOOK = "Look"


class Target(str, Enum):
    photoshop = "photoshop"
    lightroom = "lightroom"
    resolve = "resolve"
    ffmpeg = "ffmpeg"
    darktable = "darktable"
    camera = "camera"


class LookFormat(str, Enum):
    cube = "cube"
    cube1d = "cube1d"
    hald = "hald"
    threedl = "3dl"
    npy = "npy"


class SpaceName(str, Enum):
    srgb = "srgb"
    adobergb = "adobergb"
    prophoto = "prophoto"
    p3 = "p3"


class Between(str, Enum):
    tetrahedral = "tetrahedral"
    trilinear = "trilinear"


LookOutput = Annotated[
    str,
    _option(
        OUTPUT,
        "-o",
        "--output",
        metavar="PATH",
        help="A file for one look, a folder for several, or - for stdout.",
    ),
]
LookOverwrite = Annotated[
    bool, _option(OUTPUT, "-f", "--overwrite", help="Replace files that exist.")
]
For = Annotated[
    Target | None,
    _option(
        LOOK,
        "--for",
        metavar="HOST",
        help="Who reads it: photoshop, lightroom, resolve, ffmpeg, darktable or camera. Decides"
        " on format, size and range, and refuses what it cannot read.",
    ),
]
Format = Annotated[
    LookFormat | None,
    _option(
        LOOK,
        "--format",
        metavar="NAME",
        help="cube, cube1d, hald, 3dl or npy; else the output's name says it.",
    ),
]
NodeCount = Annotated[
    int | None,
    _option(
        LOOK,
        "--size",
        metavar="17|33|65",
        help="Nodes a side, 33 if nobody says; entries of a cube1d.",
    ),
]
LookSpace = Annotated[
    SpaceName,
    _option(LOOK, "--space", metavar="NAME", help="The colour space that the look is meant for."),
]
SpaceOption = Annotated[
    SpaceName,
    _option(
        LOOK,
        "--space",
        metavar="NAME",
        help="srgb, adobergb, prophoto or p3, encoded: where the program applies it.",
    ),
]
Clamp = Annotated[
    bool | None,
    _option(
        LOOK,
        "--clamp/--no-clamp",
        help="Hold its values in 0..1; else as --for wants.",
        show_default=False,
    ),
]
Merge = Annotated[
    bool, _option(LOOK, "--merge", help="One look for all pictures: their mean, without outliers.")
]
MaxResidual = Annotated[
    float | None,
    _option(
        LOOK,
        "--max-residual",
        metavar="LEVELS",
        min=0,
        help="Exit with 7 if a look is farther from hz run, on average, in 8-bit levels.",
    ),
]
OneModel = Annotated[
    str | None,
    _option(MODEL, "-m", "--model", metavar="NAME", help="Weights, as hz models lists them."),
]

LookFile = Annotated[
    Path, typer.Argument(metavar="LOOK", help="A .cube, .3dl or .npy file, or a Hald CLUT.")
]
Everywhere = Annotated[
    bool, _option(LOOK, "--everywhere", help="Leave masks alone; default where none is named.")
]
Interpolation = Annotated[
    Between, _option(LOOK, "--interpolation", help="Between the nodes of a table.")
]
ApplyOutput = Annotated[
    Path, _option(OUTPUT, "-o", "--output", metavar="DIR", help="Where results go.")
]
ApplyStrength = Annotated[
    float,
    _option(LOOK, "--strength", metavar="0..1", min=0, max=1, help="How much of it to take."),
]

One = Annotated[Path, typer.Argument(metavar="IMG", help="One picture.")]
CurveOutputs = Annotated[
    list[Path] | None,
    _option(
        OUTPUT,
        "-o",
        "--output",
        metavar="FILE",
        help="Write .csv (to edit), .acv (Photoshop) or .png (a plot); may be given again.",
    ),
]
First = Annotated[Path, typer.Argument(metavar="A", help="A look.")]
Second = Annotated[Path, typer.Argument(metavar="B", help="Another look.")]
At = Annotated[float, _option(LOOK, "--at", metavar="0..1", min=0, max=1, help="0 is A, 1 is B.")]
MixOutput = Annotated[
    str, _option(OUTPUT, "-o", "--output", metavar="FILE", help="Any format, or - for stdout.")
]
