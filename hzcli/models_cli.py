"""The commands for weights: `hz models` and what it can do."""

from __future__ import annotations

import typer

from hzcli import options as o
from hzcli import ui

models = typer.Typer(
    name="models",
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: [cyan]hz models import S2CRNet_pretrained.pth --as s2crnet[/cyan]",
)


@models.callback()
def models_group(
    context: typer.Context,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    json: o.Json = False,
) -> None:
    """List, import and check weights: paper, size, licence, data terms, figures."""
    if context.invoked_subcommand is None:
        models_list(quiet=quiet, verbose=verbose, json=json)


@models.command("list", epilog="Example: [cyan]hz models list --json[/cyan]")
def models_list(quiet: o.Quiet = False, verbose: o.Verbose = False, json: o.Json = False) -> None:
    """List the installed weights."""
    with ui.session("models", quiet=quiet, verbose=verbose, json_lines=json) as screen:
        from hzcli.commands.models import models as verb

        screen.finish(verb())


@models.command("info", epilog="Example: [cyan]hz models info cdtnet[/cyan]")
def models_info(
    name: o.WeightsName,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    json: o.Json = False,
) -> None:
    """Tell all about some weights, or about a system."""
    with ui.session("models info", quiet=quiet, verbose=verbose, json_lines=json) as screen:
        from hzcli.commands.models import info as verb

        screen.finish(verb(name))


@models.command(
    "import",
    epilog="Example: [cyan]hz models import S2CRNet_pretrained.pth --as s2crnet[/cyan]",
)
def models_import(
    file: o.Checkpoint,
    name: o.ImportAs = None,
    folder: o.ImportFolder = None,
    variant: o.Variant = None,
    overwrite: o.ImportOverwrite = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    json: o.Json = False,
) -> None:
    """Turn the authors' checkpoint into weights that hz runs.

    The system is recognised by its tensors. Nothing that the file says is executed.
    """
    with ui.session("models import", quiet=quiet, verbose=verbose, json_lines=json) as screen:
        from hzcli.commands.models import import_weights as verb

        screen.finish(verb(file, name=name, folder=folder, variant=variant, overwrite=overwrite))


@models.command("verify", epilog="Example: [cyan]hz models verify hinet[/cyan]")
def models_verify(
    names: o.WeightsNames = None,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    json: o.Json = False,
) -> None:
    """Check weights: their bytes, their tensors, and a picture harmonised with them."""
    with ui.session("models verify", quiet=quiet, verbose=verbose, json_lines=json) as screen:
        from hzcli.commands.models import verify as verb

        screen.finish(verb(names or []))
