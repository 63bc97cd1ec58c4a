"""How many multiplications and additions a network and its Transform take, counted as it runs.

Counted are matrix products, convolutions and attention, wherever torch does them. Not counted
are looking up (tables, interpolation), element-wise work, and whatever does not pass through
torch: a Transform done by another library counts nothing. One MAC is two FLOPs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.utils.flop_counter import FlopCounterMode

HOW = "matrix products, convolutions and attention in torch; no lookups, no element-wise work"


class MacCounter:
    """Counts what is called through it, under two names."""

    def __init__(self) -> None:
        self.macs = {"network": 0, "apply": 0}

    def call(self, name: str, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function and add what it took to `name`."""
        with FlopCounterMode(display=False) as counter:
            result = function(*args)
        self.macs[name] += counter.get_total_flops() // 2
        return result

    def around(self, ask: Callable[[Any], Any], thumb: Any) -> Any:
        """Ask a network, and count what its answer takes as well as what the network takes."""
        return Counted(self.call("network", ask, thumb), self)


class Counted:
    """A Transform whose `apply` is counted."""

    def __init__(self, transform: Any, counter: MacCounter) -> None:
        self._transform, self._counter = transform, counter
        if hasattr(transform, "bind"):
            self.bind = self._bind

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transform, name)

    def _bind(self, source: Any) -> Counted:
        return Counted(self._counter.call("apply", self._transform.bind, source), self._counter)

    def apply(self, *args: Any) -> Any:
        """As the Transform's own."""
        return self._counter.call("apply", self._transform.apply, *args)
