"""Options of the commands that make weights and their composites.

training  RECIPE --data -o/--output --resume --init --minutes --steps --fit   train
          --freeze                                                            train
          --seed                                                              train, synth
synthesis --data -o/--output --split --count --shards                         synth
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Recipe = Annotated[str, typer.Argument(metavar="RECIPE", help="Name of a recipe.")]
Data = Annotated[
    list[Path],
    typer.Option("--data", metavar="PATH", help="Training pictures; may be given again."),
]
TrainOutput = Annotated[
    Path | None, typer.Option("-o", "--output", metavar="DIR", help="Where weights go.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on where the last run ended.")]
Init = Annotated[
    str | None,
    typer.Option("--init", metavar="NAME|FILE", help="Weights to start from."),
]
Minutes = Annotated[
    float | None, typer.Option("--minutes", min=0, help="Stop after so many minutes.")
]
Steps = Annotated[int | None, typer.Option("--steps", min=0, help="Length of the whole schedule.")]
Fit = Annotated[bool, typer.Option("--fit", help="Take the whole schedule within those minutes.")]
Freeze = Annotated[
    list[str] | None,
    typer.Option("--freeze", metavar="PART", help="Leave this part as it is; may be repeated."),
]
Pack = Annotated[
    Path, typer.Option("--data", metavar="DIR", help="A photo pack: tar shards and index.csv.")
]
SynthOutput = Annotated[
    Path, typer.Option("-o", "--output", metavar="DIR", help="A new folder for the composites.")
]
Split = Annotated[str, typer.Option("--split", help="Which photographs: train, val or all.")]
Count = Annotated[
    int | None, typer.Option("--count", min=1, help="So many, spread over the split.")
]
Shards = Annotated[
    str, typer.Option("--shards", metavar="GLOB", help="Tar files that the pixels come from.")
]
Seed = Annotated[int, typer.Option("--seed", help="Number that all chance is drawn from.")]
