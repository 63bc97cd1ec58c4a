"""The commands for looks: `hz export-lut`, `hz apply-lut`, `hz curves` and `hz mix`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from hzcli import file_options as f
from hzcli import look_options as lo
from hzcli import options as o
from hzcli import ui

EXPORT = """Write what a model does to a picture's colours as a LUT that other programs read.

Exact where the model holds a table or curves, else fitted to the foreground; in both \
cases printed is the residual: how far the look's picture is from that of hz run, where \
the mask is above 0, in 8-bit levels and as Delta E 2000.
"""

CURVES = """Show the tone curves that S2CRNet holds for a picture, and write them.

Edited, a .csv goes back into hz run with --curves.
"""


def register(app: typer.Typer) -> None:
    """Add the four commands."""

    def add(name: str, verb: Any, example: str, **more: Any) -> None:
        app.command(name, epilog=f"Example: [cyan]hz {name} {example}[/cyan]", **more)(verb)

    add("export-lut", export_lut, "img.png --mask-suffix _m -o look.cube", help=EXPORT)
    add("apply-lut", apply_lut, "look.cube ./shots --mask-suffix _m -o ./out")
    add("curves", curves, "img.png --mask-suffix _m -o curves.csv", help=CURVES)
    add("mix", mix, "a.cube b.cube --at 0.3 -o c.cube")


def export_lut(
    inputs: o.Inputs,
    mask_suffix: o.MaskSuffix = None,
    mask_dir: o.MaskDir = None,
    mask: o.MaskFile = None,
    mask_from: o.MaskSource = None,
    layout: o.FolderLayout = None,
    output: lo.LookOutput = "looks",
    overwrite: lo.LookOverwrite = False,
    host: lo.For = None,
    format: lo.Format = None,
    size: lo.NodeCount = None,
    space: lo.SpaceOption = lo.SpaceName.srgb,
    assume_profile: f.AssumeProfile = None,
    clamp: lo.Clamp = None,
    merge: lo.Merge = False,
    max_residual: lo.MaxResidual = None,
    model: lo.OneModel = None,
    weights: o.Weights = None,
    background: o.Background = None,
    mode: o.ModeOption = o.Mode.region,
    strength: o.Strength = 1.0,
    device: o.Device = "auto",
    memory: o.Memory = None,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    json: o.Json = False,
) -> None:
    session = ui.session(
        "export-lut", quiet=quiet, verbose=verbose, json_lines=json, data=output == "-"
    )
    with session as screen:
        from hzcli.commands.export_lut import LookSettings
        from hzcli.commands.export_lut import export_lut as verb
        from hzcli.engine.looks.hosts import form
        from hzcli.engine.pairing import PairingRules

        rules = PairingRules(
            mask_suffix=mask_suffix,
            mask_dir=mask_dir,
            mask_file=mask,
            mask_from=mask_from,
            layout=None if layout is None else layout.value,
        )
        settings = LookSettings(
            form=form(
                host=None if host is None else host.value,
                format=None if format is None else format.value,
                output=output,
                size=size,
                space=space.value,
                strength=strength,
                clamp=clamp,
            ),
            output="-" if output == "-" else Path(output),
            mode=mode.value,
            merge=merge,
            max_residual=max_residual,
            device=device,
            budget_bytes=o.memory_bytes(memory),
            background=background,
            assume=assume_profile,
            overwrite=overwrite,
            traces=verbose,
        )
        screen.finish(
            verb(
                inputs, rules, settings, model=weights or model or "hinet", on_event=screen.on_event
            )
        )


def apply_lut(
    look: lo.LookFile,
    inputs: o.Inputs,
    mask_suffix: o.MaskSuffix = None,
    mask_dir: o.MaskDir = None,
    mask: o.MaskFile = None,
    mask_from: o.MaskSource = None,
    layout: o.FolderLayout = None,
    output: lo.ApplyOutput = Path("recoloured"),
    overwrite: o.Overwrite = False,
    everywhere: lo.Everywhere = False,
    interpolation: lo.Interpolation = lo.Between.tetrahedral,
    strength: lo.ApplyStrength = 1.0,
    space: lo.LookSpace = lo.SpaceName.srgb,
    assume_profile: f.AssumeProfile = None,
    memory: o.Memory = None,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    json: o.Json = False,
) -> None:
    """Apply a LUT of any origin to pictures, in 16 bits, inside their masks or everywhere."""
    with ui.session("apply-lut", quiet=quiet, verbose=verbose, json_lines=json) as screen:
        from hzcli.commands.apply_lut import apply_lut as verb
        from hzcli.engine.pairing import PairingRules

        rules = PairingRules(
            mask_suffix=mask_suffix,
            mask_dir=mask_dir,
            mask_file=mask,
            mask_from=mask_from,
            layout=None if layout is None else layout.value,
        )
        screen.finish(
            verb(
                look,
                inputs,
                rules,
                output=output,
                everywhere=everywhere,
                interpolation=interpolation.value,
                strength=strength,
                space=space.value,
                assume=assume_profile,
                overwrite=overwrite,
                budget_bytes=o.memory_bytes(memory),
                traces=verbose,
                on_event=screen.on_event,
            )
        )


def curves(
    picture: lo.One,
    mask_suffix: o.MaskSuffix = None,
    mask_dir: o.MaskDir = None,
    mask: o.MaskFile = None,
    mask_from: o.MaskSource = None,
    output: lo.CurveOutputs = None,
    overwrite: lo.LookOverwrite = False,
    model: lo.OneModel = None,
    weights: o.Weights = None,
    background: o.Background = None,
    assume_profile: f.AssumeProfile = None,
    device: o.Device = "auto",
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    json: o.Json = False,
) -> None:
    with ui.session("curves", quiet=quiet, verbose=verbose, json_lines=json) as screen:
        from hzcli.commands.curves import curves as verb
        from hzcli.engine.pairing import PairingRules

        rules = PairingRules(
            mask_suffix=mask_suffix,
            mask_dir=mask_dir,
            mask_file=mask,
            mask_from=mask_from,
        )
        screen.finish(
            verb(
                picture,
                rules,
                model=weights or model,
                outputs=output or [],
                background=background,
                assume=assume_profile,
                device=device,
                overwrite=overwrite,
                on_event=screen.on_event,
            )
        )


def mix(
    a: lo.First,
    b: lo.Second,
    at: lo.At,
    output: lo.MixOutput,
    overwrite: lo.LookOverwrite = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    json: o.Json = False,
) -> None:
    """Write the look between two looks, node by node."""
    session = ui.session("mix", quiet=quiet, verbose=verbose, json_lines=json, data=output == "-")
    with session as screen:
        from hzcli.commands.mix import mix as verb

        to: Any = output if output == "-" else Path(output)
        screen.finish(verb(a, b, at=at, output=to, overwrite=overwrite))
