"""The command line: each command parses, calls its verb, and lets `ui` say what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hzcli import __version__, bench_cli, look_cli, models_cli, signals, train_cli, ui
from hzcli import file_options as f
from hzcli import options as o

EXIT_CODES = """[bold]Exit codes[/bold]

0 all done · 1 some pictures failed · 2 wrong usage or a plan that cannot be
carried out, nothing written · 4 model or weights · 5 device · 7 beyond
--max-residual or --tolerance · 130 interrupted
"""

RUN = """Harmonise pictures and folders into 16-bit TIFFs and a report.

Folders are walked to the bottom and mirrored in the output folder. Inputs are \
never touched; pixels where the mask is 0 stay as they are, bit for bit.
"""

INFO = """Say what hz sees in pictures, what it would do with them, and what would be lost.

Reads heads of files; nothing is written and no network is loaded.
"""

EVAL_EXAMPLE = (
    "Example: [cyan]hz eval ./out --composites ./shots --mask-suffix _m --truth-suffix _gt[/cyan]"
)

app = typer.Typer(
    name="hz",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"hz {__version__}")
        raise typer.Exit


@app.callback(epilog=EXIT_CODES)
def hz(
    version: Annotated[
        bool, typer.Option("-V", "--version", callback=_version, is_eager=True, help="Version.")
    ] = False,
) -> None:
    """Harmonise photographs: make a pasted foreground fit its background.

    Full resolution, 16 bits, a folder at a time:

    [cyan]hz run ./shots --mask-suffix _m[/cyan]
    """


@app.command(help=RUN, epilog="Example: [cyan]hz run ./shots --mask-suffix _m -o ./out[/cyan]")
def run(
    inputs: o.Inputs,
    mask_suffix: o.MaskSuffix = None,
    mask_dir: o.MaskDir = None,
    mask: o.MaskFiles = None,
    mask_from: o.MaskSource = None,
    truth_dir: o.TruthDir = None,
    truth_suffix: o.TruthSuffix = None,
    layout: o.FolderLayout = None,
    mask_channel: f.MaskChannel = f.Channel.auto,
    mask_invert: f.MaskInvert = False,
    feather: f.Feather = 0.0,
    mask_threshold: f.MaskThreshold = None,
    resize_mask: f.ResizeMask = None,
    output: o.Output = Path("harmonized"),
    overwrite: o.Overwrite = False,
    dry_run: o.DryRun = False,
    report: o.Report = True,
    format: f.FormatOption = f.Format.tiff,
    depth: f.DepthOption = None,
    name: f.Name = None,
    also: f.Also = None,
    metadata: f.Metadata = f.Carry.all,
    label_ai: f.LabelAi = False,
    tiff_compression: f.TiffCompression = f.Compression.keep,
    bigtiff: f.BigTiffOption = f.BigTiff.auto,
    tiff_tile: f.TiffTile = None,
    quality: f.Quality = 95,
    max_pixels: f.MaxPixels = None,
    assume_profile: f.AssumeProfile = None,
    output_profile: f.OutputProfile = None,
    intent: f.RenderingIntent = f.Intent.relative,
    model: o.Model = None,
    purpose: o.PurposeOption = o.Purpose.quality,
    weights: o.Weights = None,
    background: o.Background = None,
    curves: o.Curves = None,
    mode: o.ModeOption = o.Mode.region,
    strength: o.Strength = 1.0,
    protocol: o.Protocols = None,
    device: o.Device = "auto",
    memory: o.Memory = None,
    jobs: o.Jobs = None,
    shard: o.Shard = None,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    json: o.Json = False,
) -> None:
    with ui.session("run", quiet=quiet, verbose=verbose, json_lines=json) as screen:
        from hzcli.commands.run import run as verb
        from hzcli.engine.batch import Settings
        from hzcli.engine.pairing import PairingRules
        from hzcli.engine.shard import parse

        rules = PairingRules(
            mask_suffix=mask_suffix,
            mask_dir=mask_dir,
            mask_files=tuple(mask or ()),
            mask_from=mask_from,
            truth_dir=truth_dir,
            truth_suffix=truth_suffix,
            layout=None if layout is None else layout.value,
        )
        files = f.settings(
            masks=f.masks(
                mask_from, mask_channel, mask_invert, feather, mask_threshold, resize_mask
            ),
            out=f.out(format, depth, tiff_compression, bigtiff, tiff_tile, quality),
            assume_profile=assume_profile,
            output_profile=output_profile,
            intent=intent.value,
            also=also,
            metadata=metadata.value,
            label_ai=label_ai,
            max_pixels=max_pixels,
        )
        settings = Settings(
            output=output,
            mode=mode.value,
            strength=strength,
            device=device,
            budget_bytes=o.memory_bytes(memory),
            background=background,
            curves=curves,
            protocols=o.protocols(protocol),
            overwrite=overwrite,
            report=report,
            jobs=jobs,
            shard=parse(shard),
            traces=verbose,
            files=files,
        )
        screen.finish(
            verb(
                inputs,
                rules,
                settings,
                models=[weights] if weights else model or ([] if curves else ["hinet"]),
                purpose=purpose.value,
                name=name,
                dry_run=dry_run,
                on_event=screen.on_event,
            )
        )


@app.command(help=INFO, epilog="Example: [cyan]hz info ./shots/IMG_1.tif --mask-suffix _m[/cyan]")
def info(
    inputs: o.Inputs,
    mask_suffix: o.MaskSuffix = None,
    mask_dir: o.MaskDir = None,
    mask: o.MaskFiles = None,
    mask_from: o.MaskSource = None,
    layout: o.FolderLayout = None,
    mask_channel: f.MaskChannel = f.Channel.auto,
    mask_invert: f.MaskInvert = False,
    feather: f.Feather = 0.0,
    mask_threshold: f.MaskThreshold = None,
    resize_mask: f.ResizeMask = None,
    pixels: f.Pixels = False,
    output: o.Output = Path("harmonized"),
    format: f.FormatOption = f.Format.tiff,
    depth: f.DepthOption = None,
    name: f.Name = None,
    metadata: f.Metadata = f.Carry.all,
    max_pixels: f.MaxPixels = None,
    assume_profile: f.AssumeProfile = None,
    output_profile: f.OutputProfile = None,
    model: o.OneModel = "hinet",
    mode: o.ModeOption = o.Mode.region,
    memory: o.Memory = None,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    json: o.Json = False,
) -> None:
    with ui.session("info", quiet=quiet, verbose=verbose, json_lines=json) as screen:
        from hzcli.commands.info import Asked
        from hzcli.commands.info import info as verb
        from hzcli.engine import naming
        from hzcli.engine.pairing import PairingRules

        rules = PairingRules(
            mask_suffix=mask_suffix,
            mask_dir=mask_dir,
            mask_files=tuple(mask or ()),
            mask_from=mask_from,
            layout=None if layout is None else layout.value,
        )
        asked = Asked(
            folder=output,
            model=model,
            mode=mode.value,
            masks=f.masks(
                mask_from, mask_channel, mask_invert, feather, mask_threshold, resize_mask
            ),
            format=f.out(format, depth),
            template=None if name is None else naming.parse(name),
            metadata=metadata.value,
            assume=assume_profile,
            output_profile=output_profile,
            budget_bytes=o.memory_bytes(memory),
            max_pixels=f.pixels(max_pixels),
        )
        screen.finish(verb(inputs, rules, asked, pixels=pixels, on_event=screen.on_event))


look_cli.register(app)
bench_cli.register(app)


@app.command("eval", epilog=EVAL_EXAMPLE)
def evaluate(
    results: o.Results,
    composites: o.Composites = None,
    suffix: o.ResultSuffix = "",
    mask_suffix: o.MaskSuffix = None,
    mask_dir: o.MaskDir = None,
    truth_dir: o.TruthDir = None,
    truth_suffix: o.TruthSuffix = None,
    layout: o.FolderLayout = None,
    output: o.EvalOutput = None,
    baseline: o.Baselines = None,
    against: o.Against = None,
    edge: o.EvalEdge = None,
    protocol: o.Protocols = None,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    json: o.Json = False,
) -> None:
    """Measure finished pictures, of any tool, against their ground truth."""
    with ui.session("eval", quiet=quiet, verbose=verbose, json_lines=json) as screen:
        from hzcli.commands.eval import evaluate as verb
        from hzcli.engine.pairing import PairingRules

        rules = PairingRules(
            mask_suffix=mask_suffix,
            mask_dir=mask_dir,
            truth_dir=truth_dir,
            truth_suffix=truth_suffix,
            layout=None if layout is None else layout.value,
        )
        screen.finish(
            verb(
                results,
                rules,
                composites=composites,
                suffix=suffix,
                protocols=o.protocols(protocol),
                baselines=tuple(dict.fromkeys(one.value for one in baseline or ())),
                against=against,
                edge=edge,
                output=output,
                on_event=screen.on_event,
            )
        )


app.add_typer(models_cli.models)
train_cli.register(app)


def main() -> None:
    """The program `hz`."""
    signals.listen()
    try:
        app()
    except KeyboardInterrupt:  # before there was a command to end
        raise SystemExit(130) from None
