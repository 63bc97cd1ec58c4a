"""Clocks inside a process that does nothing but measure.

`install` replaces, for the rest of the process, the codecs' functions by ones that are timed
and the engine's clock by one that reads CPU time as well. Nothing of the engine is changed by
it but the time it takes to read a clock.
"""

from __future__ import annotations

import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any

import imagecodecs
import tifffile

from hzcli.core.window import Window
from hzcli.engine import overlap, stream

# Functions of the codecs that hz reads and writes with.
FORMATS = ("jpeg8", "png", "webp", "deflate", "lzw", "zstd", "packbits", "jpegxl", "avif", "heif")
FILTERS = ("delta", "xor", "floatpred", "packints")


class Stages:
    """Seconds by stage, wall and CPU, added up by any thread.

    phase: what the main thread is at: "thumbnail" until a network is asked, then "bind".
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        self.wall: dict[str, float] = defaultdict(float)
        self.cpu: dict[str, float] = defaultdict(float)
        self.phase = "thumbnail"

    @contextmanager
    def __call__(self, stage: str, after: Callable[[], None] | None = None) -> Iterator[None]:
        """Time a block; `after` runs before the clock is read again, as waiting for a GPU."""
        wall, cpu = time.perf_counter(), time.thread_time()
        try:
            yield
        finally:
            if after is not None:
                after()
            spent = time.perf_counter() - wall, time.thread_time() - cpu
            with self._lock:
                self.wall[stage] += spent[0]
                self.cpu[stage] += spent[1]

    def timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, timed."""

        @wraps(function)
        def call(*args: Any, **named: Any) -> Any:
            with self(stage):
                return function(*args, **named)

        return call


class TimedReader:
    """A reader whose `read` is timed: as "read", and as part of what asked for it."""

    def __init__(self, reader: Any, stages: Stages) -> None:
        self._reader, self._stages = reader, stages

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)

    def read(self, window: Window) -> Any:
        """As the reader's own."""
        inside = threading.current_thread() is threading.main_thread()
        with self._stages("read"):
            if not inside:
                return self._reader.read(window)
            with self._stages(f"read in {self._stages.phase}"):
                return self._reader.read(window)


class Asked:
    """A network that notes when it is asked; `around` wraps the question and the answer."""

    def __init__(self, net: Any, stages: Stages, around: Any = None) -> None:
        self._net, self._stages, self._around = net, stages, around

    def __getattr__(self, name: str) -> Any:
        return getattr(self._net, name)

    def predict(self, thumb: Any) -> Any:
        return self._ask(self._net.predict, thumb)

    def predict_lut(self, thumb: Any) -> Any:
        return self._ask(self._net.predict_lut, thumb)

    def _ask(self, ask: Callable[[Any], Any], thumb: Any) -> Any:
        self._stages.phase = "network"
        try:
            return ask(thumb) if self._around is None else self._around(ask, thumb)
        finally:
            self._stages.phase = "bind"


def install(stages: Stages, finished: Callable[[], None] | None = None) -> None:
    """Time codecs, writing and the engine's stages, until the process ends.

    Args:
        stages: where all is added up: "decode", "encode", "write", and the engine's own with
            "engine " before them.
        finished: waits until a graphics card has done what it was told.
    """
    for name in (*FORMATS, *FILTERS):
        for what in ("decode", "encode"):
            function = getattr(imagecodecs, f"{name}_{what}", None)
            if function is not None:
                setattr(imagecodecs, f"{name}_{what}", stages.timed(what, function))
    os.fsync = stages.timed("write", os.fsync)
    handle: Any = tifffile.FileHandle
    handle.write = stages.timed("write", handle.write)
    path: Any = Path
    path.write_bytes = stages.timed("write", path.write_bytes)

    class Clock(overlap.Clock):
        """The engine's clock, which tells `stages` too."""

        @contextmanager
        def __call__(self, stage: str) -> Iterator[None]:
            wait = finished if stage in ("network", "apply", "bind") else None
            with super().__call__(stage), stages(f"engine {stage}", wait):
                yield

    engine: Any = stream
    engine.Clock = Clock


@contextmanager
def handed_over_in(parts: int | None) -> Iterator[None]:
    """Let the engine take a picture in so many bands of rows, each in one piece.

    None leaves it to its own plan.
    """
    engine: Any = stream
    own = engine.plan

    def plan(size: Any, box: Any, reach: Any, *args: Any, **named: Any) -> Any:
        chosen = own(size, box, reach, *args, **named)
        assert parts is not None
        rows = -(-size.height // parts)
        rows = -(-rows // reach.align) * reach.align
        return replace(
            chosen, band_rows=rows, tile_columns=size.width, reason=f"{parts} parts, as asked"
        )

    if parts is not None:
        engine.plan = plan
    try:
        yield
    finally:
        engine.plan = own
