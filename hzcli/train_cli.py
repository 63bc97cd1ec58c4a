"""The commands that make weights and their composites: `hz train` and `hz synth`."""

from __future__ import annotations

from typing import Any

import typer

from hzcli import options as o
from hzcli import train_options as t
from hzcli import ui


def register(app: typer.Typer) -> None:
    """Add both commands."""

    def add(verb: Any, example: str) -> None:
        app.command(epilog=f"Example: [cyan]hz {verb.__name__} {example}[/cyan]")(verb)

    add(train, "hinet --data ./photographs --minutes 30")
    add(synth, "--data ./photographs --split val -o ./val")


def train(
    recipe: t.Recipe,
    data: t.Data,
    output: t.TrainOutput = None,
    resume: t.Resume = False,
    init: t.Init = None,
    minutes: t.Minutes = None,
    steps: t.Steps = None,
    fit: t.Fit = False,
    freeze: t.Freeze = None,
    device: o.Device = "auto",
    seed: t.Seed = 0,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    json: o.Json = False,
) -> None:
    """Train weights on photographs, resumable and within a set time."""
    with ui.session("train", quiet=quiet, verbose=verbose, json_lines=json) as screen:
        from hzcli.commands.train import train as verb
        from hzcli.train.heap import keep_freed

        keep_freed()  # here, and not where others may call the verb: it is for all of a process
        screen.finish(
            verb(
                recipe,
                data,
                output=output,
                resume=resume,
                init=init,
                minutes=minutes,
                steps=steps,
                fit=fit,
                freeze=freeze or (),
                device=device,
                seed=seed,
                on_event=screen.on_event,
            )
        )


def synth(
    data: t.Pack,
    output: t.SynthOutput,
    split: t.Split = "val",
    count: t.Count = None,
    shards: t.Shards = "photos-[0-9]*.tar",
    seed: t.Seed = 0,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    json: o.Json = False,
) -> None:
    """Write composites with known truth, in iHarmony4's layout."""
    with ui.session("synth", quiet=quiet, verbose=verbose, json_lines=json) as screen:
        from hzcli.commands.synth import synth as verb

        screen.finish(
            verb(
                data,
                output,
                split=split,
                seed=seed,
                count=count,
                shards=shards,
                on_event=screen.on_event,
            )
        )
