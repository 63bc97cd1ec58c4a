"""The command `hz bench` and the options that it alone has."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hzcli import options as o
from hzcli import ui
from hzcli.options import MACHINE, MODEL, OUTPUT, _option

MEASURE = "Measure"

BENCH = """Measure what harmonising costs here, beside a memory copy and the codecs.

Pictures are made by rule, unless some are given. Each configuration runs in a \
process of its own. Papers' own figures, for their hardware, stand in a column of their own.
"""

Pictures = Annotated[
    list[Path] | None,
    typer.Argument(metavar="[INPUT]...", help="Pictures and folders; else made by rule."),
]
Resolutions = Annotated[
    list[str] | None,
    _option(
        MEASURE,
        "--res",
        metavar="N|WxH",
        help="Size of a picture made by rule, 2048 if not given; may be given again.",
    ),
]
MaskShare = Annotated[
    list[str] | None,
    _option(
        MEASURE,
        "--mask-share",
        metavar="10%",
        help="How much of it the mask covers, 25% if not given; may be given again.",
    ),
]
Scale = Annotated[
    str | None,
    _option(
        MEASURE, "--scale", metavar="100MP", help="Follow the cost from 1 to so many megapixels."
    ),
]
Warmup = Annotated[int, _option(MEASURE, "--warmup", min=1, help="Rounds that do not count.")]
Runs = Annotated[int, _option(MEASURE, "--runs", min=1, help="Rounds that count: the median.")]
Models = Annotated[
    list[str] | None,
    _option(
        MODEL,
        "-m",
        "--model",
        metavar="NAME",
        help="Weights, a published network or SYSTEM-compact; may be given again, or all; hinet"
        " if none. Without installed weights random ones are taken: time is the same.",
    ),
]
Threads = Annotated[
    int | None, _option(MACHINE, "--threads", min=1, help="Threads of the arithmetic.")
]
Csv = Annotated[Path | None, _option(OUTPUT, "--csv", metavar="FILE", help="Write a table.")]
Plot = Annotated[
    Path | None, _option(OUTPUT, "--plot", metavar="FILE", help="Draw what --scale finds.")
]
Baseline = Annotated[
    Path | None,
    _option(
        OUTPUT,
        "--baseline",
        metavar="FILE",
        help="Compare with an earlier --csv or --json; exit code 7 on a loss.",
    ),
]
Tolerance = Annotated[
    str, _option(OUTPUT, "--tolerance", metavar="25%", help="What a ratio may grow by.")
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(help=BENCH, epilog="Example: [cyan]hz bench --res 2048 --mask-share 10%[/cyan]")(
        bench
    )


def bench(
    inputs: Pictures = None,
    mask_suffix: o.MaskSuffix = None,
    mask_dir: o.MaskDir = None,
    mask: o.MaskFile = None,
    res: Resolutions = None,
    mask_share: MaskShare = None,
    scale: Scale = None,
    warmup: Warmup = 1,
    runs: Runs = 5,
    csv: Csv = None,
    plot: Plot = None,
    baseline: Baseline = None,
    tolerance: Tolerance = "25%",
    model: Models = None,
    mode: o.ModeOption = o.Mode.region,
    device: o.Device = "auto",
    threads: Threads = None,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    json: o.Json = False,
) -> None:
    with ui.session("bench", quiet=quiet, verbose=verbose, json_lines=json) as screen:
        from hzcli.commands import bench as verb
        from hzcli.engine.pairing import PairingRules

        settings = verb.BenchSettings(
            sizes=tuple(verb.resolution(text) for text in res or ["2048"]),
            shares=tuple(verb.share(text) for text in mask_share or ["25%"]),
            mode=mode.value,
            device=device,
            threads=threads,
            warmup=warmup,
            runs=runs,
            scale=None if scale is None else verb.megapixels(scale),
            plot=plot,
            csv=csv,
            baseline=baseline,
            tolerance=verb.share(tolerance),
        )
        rules = PairingRules(mask_suffix=mask_suffix, mask_dir=mask_dir, mask_file=mask)
        screen.finish(
            verb.bench(
                inputs or [], rules, settings, models=model or ["hinet"], on_event=screen.on_event
            )
        )
