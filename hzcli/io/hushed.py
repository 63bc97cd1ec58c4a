"""What libraries say through Python's `warnings` while several threads work.

`warnings.catch_warnings` swaps the filters of the whole process: a thread that hushes a library
hushes what others have to say as well, and another that puts its filters back lets it through. So
a batch gathers all warnings from before its first thread to after its last, and within it a thread
hushes itself alone.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from threading import Lock
from typing import TextIO

# What is meant for programmers, as Python itself has it by default.
_NOT_FOR_USERS = (
    DeprecationWarning, PendingDeprecationWarning, FutureWarning, ImportWarning, ResourceWarning,
)  # fmt: skip
_PACKAGE = Path(__file__).resolve().parents[1]

_hushed: ContextVar[bool] = ContextVar("hushed", default=False)
_gathering = Lock()  # held while somebody gathers


class Gathered:
    """Warnings as texts: one of hz's own once, a library's once for each place in its code."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._said: set[object] = set()
        self._new: list[str] = []

    def new(self) -> list[str]:
        """What was said since the last call."""
        with self._lock:
            new, self._new = self._new, []
        return new

    def hear(
        self, message: Warning | str, category: type[Warning], filename: str, lineno: int,
        file: TextIO | None = None, line: str | None = None,
    ) -> None:  # fmt: skip
        """Stands in for `warnings.showwarning`."""
        if _hushed.get():
            return
        text, path = " ".join(str(message).split()), Path(filename)
        own = path.is_relative_to(_PACKAGE)
        if not own:
            text = f"{text} ({category.__name__}, {'/'.join(path.parts[-2:])}:{lineno})"
        key = text if own else (filename, lineno)
        with self._lock:
            if key not in self._said:
                self._said.add(key)
                self._new.append(text)


@contextlib.contextmanager
def gathered() -> Iterator[Gathered]:
    """Within the block the warnings of all threads are gathered instead of shown."""
    heard = Gathered()
    with _gathering, warnings.catch_warnings():
        warnings.simplefilter("default")
        for category in _NOT_FOR_USERS:
            warnings.simplefilter("ignore", category)
        warnings.showwarning = heard.hear
        yield heard


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """Within the block what libraries say in this thread is passed over."""
    if not _gathering.locked():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
        return
    token = _hushed.set(True)
    try:
        yield
    finally:
        _hushed.reset(token)
