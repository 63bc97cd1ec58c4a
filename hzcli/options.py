"""Every option of the command line, once: one name, one wording.

inputs    INPUT...  --mask --mask-from                                        run, looks
          --mask-suffix --mask-dir --truth-dir --truth-suffix --layout        run, eval, looks
          RESULTS  --composites --suffix                                      eval
output    -o/--output                                                         all but models
          -f/--overwrite                                                      run, models import
          -n/--dry-run --report/--no-report                                   run
model     -m/--model --weights --background --mode --strength                 run, looks
          --curves --for                                                      run
          --baseline --against --edge                                         eval
          --protocol                                                          run, eval
          NAME, FILE  --as --variant                                          models
machine   --device                                                            run, train
          --memory -j/--jobs --shard                                          run
screen    -q/--quiet -v/--verbose --json                                      all

Options about masks, colours and files are in file_options.py, those of train and synth in
train_options.py.
looks: export-lut, apply-lut, curves and mix, as far as it concerns them; what they alone have is
in look_options.py.
"""

from __future__ import annotations

import re
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from hzcli.errors import UsageError

PAIRING, OUTPUT, MODEL, MACHINE, SCREEN = "Pairing", "Output", "Model", "Machine", "Screen"


class Mode(str, Enum):
    region = "region"
    lut = "lut"


class Baseline(str, Enum):
    reinhard = "reinhard"


class Protocol(str, Enum):
    standard = "standard"
    hinet = "hinet"


class Layout(str, Enum):
    iharmony4 = "iharmony4"


class Purpose(str, Enum):
    quality = "quality"
    speed = "speed"
    look = "look"
    video = "video"


def _option(panel: str, *names: str, help: str, **more: Any) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=panel, **more)


Inputs = Annotated[
    list[Path],
    typer.Argument(metavar="INPUT", help="Pictures, and folders with all that is in them."),
]
MaskSuffix = Annotated[
    str | None,
    _option(PAIRING, "--mask-suffix", metavar="_m", help="X.jpg has its mask in X_m.png."),
]
MaskDir = Annotated[
    Path | None,
    _option(
        PAIRING,
        "--mask-dir",
        metavar="DIR",
        help="Masks lie in DIR, in the same tree or flat, under the picture's name.",
    ),
]
MaskFile = Annotated[
    Path | None,
    _option(PAIRING, "--mask", metavar="FILE", help="The mask of the one picture given."),
]
MaskFiles = Annotated[
    list[Path] | None,
    _option(
        PAIRING,
        "--mask",
        metavar="FILE",
        help="The mask of the one picture given; may be repeated.",
    ),
]
MaskSource = Annotated[
    str | None,
    _option(
        PAIRING,
        "--mask-from",
        metavar="alpha|psd:LAYER",
        help="Take the mask from the picture's alpha channel, or a PSD's layer.",
    ),
]
TruthDir = Annotated[
    Path | None,
    _option(PAIRING, "--truth-dir", metavar="DIR", help="Ground truths lie in DIR: adds metrics."),
]
TruthSuffix = Annotated[
    str | None,
    _option(
        PAIRING, "--truth-suffix", metavar="_gt", help="X.jpg has its ground truth in X_gt.png."
    ),
]
FolderLayout = Annotated[
    Layout | None,
    _option(PAIRING, "--layout", help="Folders composite_images, masks and real_images."),
]

Output = Annotated[Path, _option(OUTPUT, "-o", "--output", metavar="DIR", help="Where results go.")]
Overwrite = Annotated[
    bool, _option(OUTPUT, "-f", "--overwrite", help="Replace results that exist; else kept.")
]
DryRun = Annotated[
    bool, _option(OUTPUT, "-n", "--dry-run", help="Print every file's fate, write nothing.")
]
Report = Annotated[
    bool, _option(OUTPUT, "--report/--no-report", help="Write report.json and report.csv.")
]

Model = Annotated[
    list[str] | None,
    _option(
        MODEL,
        "-m",
        "--model",
        metavar="NAME",
        help="Weights, as hz models lists them; auto picks. Given again, or all: each into a folder"
        " of its own and compared.  \\[default: hinet]",
    ),
]
OneModel = Annotated[
    str, _option(MODEL, "-m", "--model", metavar="NAME", help="Weights that a run would use.")
]
PurposeOption = Annotated[
    Purpose, _option(MODEL, "--for", help="What --model auto is to choose for.")
]
Background = Annotated[
    Path | None,
    _option(
        MODEL,
        "--background",
        metavar="FILE",
        help="Harmonise towards this picture (S2CRNet) instead of each one's background.",
    ),
]
Curves = Annotated[
    Path | None,
    _option(
        MODEL,
        "--curves",
        metavar="FILE",
        help="Tone curves from a CSV file, as hz curves writes it, instead of a model.",
    ),
]
Weights = Annotated[
    Path | None,
    _option(MODEL, "--weights", metavar="FILE", help="Weights from a safetensors file."),
]
ModeOption = Annotated[
    Mode, _option(MODEL, "--mode", help="Decode each pixel, or apply the predicted 3D LUT.")
]
Strength = Annotated[
    float,
    _option(
        MODEL, "--strength", metavar="0..1", min=0, max=1, help="How much of the change to take."
    ),
]
Protocols = Annotated[
    list[Protocol] | None,
    _option(
        MODEL,
        "--protocol",
        metavar="standard|hinet",
        help="Definition of the metrics; may be given twice.  \\[default: standard]",
    ),
]

Device = Annotated[
    str, _option(MACHINE, "--device", metavar="NAME", help="auto, cpu, cuda, cuda:1 or mps.")
]
Memory = Annotated[
    str | None,
    _option(
        MACHINE, "--memory", metavar="1G", help="Memory to stay under; else half of what is free."
    ),
]
Jobs = Annotated[
    int | None,
    _option(
        MACHINE,
        "-j",
        "--jobs",
        metavar="N",
        min=1,
        help="Pictures worked on at once; else by cores and memory.",
    ),
]
Shard = Annotated[
    str | None,
    _option(
        MACHINE,
        "--shard",
        metavar="K/N",
        help="Only the K-th of N equal shares of the pictures: one for each of N machines.",
    ),
]

Quiet = Annotated[bool, _option(SCREEN, "-q", "--quiet", help="Print errors only.")]
Verbose = Annotated[
    bool, _option(SCREEN, "-v", "--verbose", help="Print plans, times and tracebacks too.")
]
Json = Annotated[bool, _option(SCREEN, "--json", help="Print one JSON object a line instead.")]

Results = Annotated[
    Path, typer.Argument(metavar="RESULTS", help="A folder of finished pictures, or one of them.")
]
Composites = Annotated[
    Path | None,
    _option(
        PAIRING,
        "--composites",
        metavar="DIR",
        help="What they were made from, in the same tree; masks and truths lie there. Adds the"
        " baseline of doing nothing.",
    ),
]
ResultSuffix = Annotated[
    str,
    _option(PAIRING, "--suffix", metavar="_harm", help="Composite X.jpg was made into X_harm.jpg."),
]
EvalOutput = Annotated[
    Path | None,
    _option(
        OUTPUT,
        "-o",
        "--output",
        metavar="DIR",
        help="Write eval.json, eval.csv and contact-worst.png there.",
    ),
]
Baselines = Annotated[
    list[Baseline] | None,
    _option(MODEL, "--baseline", help="Measure a classical transfer beside it."),
]
Against = Annotated[
    Path | None,
    _option(MODEL, "--against", metavar="PATH", help="Other results, or an earlier eval.json."),
]
EvalEdge = Annotated[
    int | None,
    _option(MODEL, "--edge", metavar="PX", min=16, help="Measure squares of so many pixels too."),
]

WeightsName = Annotated[
    str, typer.Argument(metavar="NAME", help="Weights, a .safetensors file, or a system.")
]
WeightsNames = Annotated[
    list[str] | None,
    typer.Argument(metavar="[NAME]...", help="Weights or .safetensors files; else all installed."),
]
Checkpoint = Annotated[
    Path, typer.Argument(metavar="FILE", help="What the authors' training saved: .pth, .pt, ...")
]
ImportAs = Annotated[
    str | None, typer.Option("--as", metavar="NAME", help="Name of the weights; else the file's.")
]
ImportFolder = Annotated[
    Path | None,
    typer.Option("-o", "--output", metavar="DIR", help="Where they go, if not to hz's own."),
]
Variant = Annotated[
    str | None,
    typer.Option(
        "--variant", metavar="NAME", help="Which published network, as cdtnet-sim, if in doubt."
    ),
]
ImportOverwrite = Annotated[
    bool, typer.Option("-f", "--overwrite", help="Replace weights of that name.")
]


def protocols(chosen: list[Protocol] | None) -> tuple[str, ...]:
    """The protocols of the metrics, each once; the standard one if none was chosen."""
    return tuple(dict.fromkeys(protocol.value for protocol in chosen or [Protocol.standard]))


# K, M, G count in thousands; KiB, MiB, GiB in 1024s.
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY = {"k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


def memory_bytes(text: str | None) -> int | None:
    """Bytes of a text such as "1G", "800M", "1.5GiB".

    >>> memory_bytes("1.5G"), memory_bytes("2 KiB")
    (1500000000, 2048)

    Raises:
        UsageError: the text says nothing of the kind.
    """
    if text is None:
        return None
    found = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([kmgt]?)(i?)b?\s*", text.lower())
    if not found or (found[3] and not found[2]) or float(found[1]) <= 0:
        raise UsageError(f'--memory "{text}" is no amount of memory', "Try 1G, 800M or 1.5GiB.")
    units = _BINARY if found[3] else _UNITS
    return int(float(found[1]) * units[found[2]])
