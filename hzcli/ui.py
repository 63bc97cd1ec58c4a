"""All that hz prints. Results on stdout; progress, warnings and errors on stderr.

With `--json` stdout holds one JSON object a line and nothing else: rows as they are finished,
then one "summary" with the version of this envelope.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TextIO

import typer

from hzcli.errors import HzError, UsageError
from hzcli.report import VERSION, Event, Result, plain
from hzcli.wording import number, sentence, shown, stopped

if TYPE_CHECKING:
    from rich.console import Console
    from tqdm import tqdm

# Width of tables when nobody looks at them: paths stay whole.
PIPE_COLUMNS = 160
# Commands whose rows are pictures.
PICTURES = ("run", "eval", "export-lut", "apply-lut", "curves", "info")


class Screen:
    """What one command says while it works and when it ends."""

    def __init__(
        self, command: str, *, quiet: bool, verbose: bool, json_lines: bool, data: bool = False
    ) -> None:
        self.command, self.quiet, self.verbose = command, quiet, verbose
        self.json_lines = json_lines
        self._data = data  # stdout is the result itself: tables go to stderr
        self._bar: tqdm[Any] | None = None
        self._sent = 0  # rows printed as JSON so far

    # While it works

    def on_event(self, event: Event) -> None:
        """Say what happened."""
        if event.kind == "begin":
            self._begin(event.count)
        elif event.kind == "start" and self._bar is not None:
            # A long name would push the bar over the edge.
            self._bar.set_postfix_str(shown(os.path.basename(event.text))[-24:])
        elif event.kind == "row" and event.row is not None:
            self._row(event.row.as_dict())
        elif event.kind == "step":
            self._figures(event.data)
        elif event.kind in ("info", "warning") and not self.quiet:
            prefix = "warning: " if event.kind == "warning" else ""
            self._say(prefix + event.text)
        elif event.kind == "note" and self.verbose and not self.quiet:
            self._say(event.text.rstrip())

    def _begin(self, count: int) -> None:
        self.close()  # the bar of another model
        if self.quiet or not sys.stderr.isatty():
            return
        from tqdm import tqdm

        self._bar = tqdm(
            total=count,
            unit="picture",
            leave=False,
            dynamic_ncols=True,
            bar_format="{n_fmt}/{total_fmt} |{bar}| {remaining} left{postfix}",
        )

    def _row(self, row: dict[str, Any]) -> None:
        if self.json_lines:
            self._json_row(row)
        name = shown(row["input"])
        if row["status"] == "failed":
            # Most messages about a file name it already.
            message = row["error"]["message"]
            about = "" if row["input"] in message else f"{name}: "
            self._say(f"failed: {about}{stopped(message)}")
            if row["error"]["hint"]:
                self._say(f"        {sentence(row['error']['hint'])}")
        elif not self.quiet:
            for warning in row["warnings"]:
                self._say(f"warning: {name}: {warning}")
            if self.verbose and row["status"] == "done":
                self._say(f"{name}: {row['plan']}")
                stages = row["seconds"].items()
                self._say("  " + ", ".join(f"{stage} {spent:.2f} s" for stage, spent in stages))
        if self._bar is not None:
            self._bar.update()

    def _figures(self, figures: Mapping[str, Any]) -> None:
        if self.json_lines:
            self._out(json.dumps({"event": "step", **plain(figures)}))
        if not self.quiet:
            self._say(", ".join(f"{key} {number(value)}" for key, value in figures.items()))

    def _json_row(self, row: dict[str, Any]) -> None:
        self._sent += 1
        about = "weights" if self.command.startswith("models") else "row"
        kind = "picture" if self.command in PICTURES else about
        self._out(json.dumps({"event": kind, **plain(row)}))

    # At the end

    def finish(self, result: Result) -> None:
        """Print the result and leave with its exit code."""
        self.close()
        if self.json_lines:
            for row in result.outcomes[self._sent :]:
                self._json_row(row.as_dict())
            self._out(json.dumps({"event": "summary", **plain(result.as_dict())}))
        elif not self.quiet or self.command in ("models", "models info"):
            self._print(result)
        if result.interrupted:
            self._say("interrupted: what was finished is kept; run again to go on")
        if result.exit_code:
            raise typer.Exit(result.exit_code)

    def fail(self, error: HzError) -> None:
        """Print an error that ended the command."""
        self.close()
        self._say(f"error: {stopped(error.message)}")
        if error.hint:
            self._say(f"       {sentence(error.hint)}")
        if self.json_lines:
            said = {"code": type(error).__name__, "message": error.message, "hint": error.hint}
            self._end_early("error", error.exit_code, error=said)

    def interrupt(self) -> None:
        """Say that Ctrl-C ended the command before it had a result."""
        self.close()
        self._say("interrupted")
        if self.json_lines:
            self._end_early("error", 130, interrupted=True)

    def _end_early(self, status: str, code: int, **more: Any) -> None:
        head = {"event": "summary", "v": VERSION, "command": self.command}
        self._out(json.dumps(plain({**head, "status": status, "exit_code": code, **more})))

    def close(self) -> None:
        """Take the progress bar off the screen."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _print(self, result: Result) -> None:
        from hzcli import bench_tables, eval_tables, info_tables, look_tables, shelf, tables

        printers: dict[str, Callable[[Result, Console], None]] = {
            "run": tables.run,
            "bench": bench_tables.bench,
            "apply-lut": tables.run,
            "eval": eval_tables.evaluation,
            "info": info_tables.info,
            "export-lut": look_tables.exported,
            "curves": look_tables.curves,
            "mix": look_tables.mixed,
            "models": shelf.models,
            "models info": shelf.models,
            "models import": shelf.imported,
            "models verify": shelf.verified,
        }
        stream = sys.stderr if self._data else sys.stdout
        with _closed_pipe(stream):
            printers.get(self.command, tables.summary)(result, console(stream))
            stream.flush()

    def _say(self, text: str) -> None:
        with _closed_pipe(sys.stderr):
            if self._bar is not None:
                self._bar.write(shown(text), file=sys.stderr)
            else:
                print(shown(text), file=sys.stderr, flush=True)

    def _out(self, line: str) -> None:
        with _closed_pipe(sys.stdout):
            print(line, flush=True)


@contextlib.contextmanager
def session(
    command: str, *, quiet: bool, verbose: bool, json_lines: bool, data: bool = False
) -> Iterator[Screen]:
    """A screen for one command; turns errors and Ctrl-C into words and exit codes.

    Args:
        data: whether stdout takes the result itself, so that nothing else may be said there.
    """
    # Told in JSON on stderr, nobody would look for it: what cannot be is said plainly.
    screen = Screen(
        command, quiet=quiet, verbose=verbose, json_lines=json_lines and not data, data=data
    )
    try:
        if data and json_lines:
            raise UsageError("--json and -o - both want stdout", "Leave one of them out.")
        yield screen
    except HzError as error:
        screen.fail(error)
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        screen.interrupt()
        raise typer.Exit(130) from None
    finally:
        screen.close()


def console(stream: TextIO) -> Console:
    """A stream for tables: as wide as the terminal, wide when it is a pipe."""
    from rich.console import Console

    wide = not stream.isatty() and "COLUMNS" not in os.environ
    width = PIPE_COLUMNS if wide else None
    return Console(file=stream, width=width, highlight=False, markup=False)


@contextlib.contextmanager
def _closed_pipe(stream: TextIO) -> Iterator[None]:
    """`hz run | head` must not end the run: what nobody reads goes nowhere."""
    try:
        yield
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
