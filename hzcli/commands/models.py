"""`hz models`: what is installed, without loading it."""

from __future__ import annotations

from hzcli import catalog
from hzcli.report import Result


def models() -> Result:
    """The cards of the installed weights.

    Raises:
        ModelError: a card cannot be read.
    """
    return Result(command="models", outcomes=tuple(catalog.installed()))
