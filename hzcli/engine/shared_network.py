"""One network, and torch's threads, for several pictures at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Threads:
    """How many threads torch takes: all of them for the network, their share for each picture.

    A network's last bits depend on the number, what is done at full size does not.
    """

    def __init__(self, lanes: int) -> None:
        self._lanes = lanes
        self._all = 1
        if lanes > 1:
            import torch

            self._all = torch.get_num_threads()

    def few(self) -> None:
        """For the thread that calls, and those that begin later."""
        import torch

        torch.get_num_threads()  # settles what the thread begins with, or that would win later
        torch.set_num_threads(max(1, self._all // self._lanes))

    def all(self) -> None:
        """The same, as it was before."""
        if self._lanes > 1:
            import torch

            torch.set_num_threads(self._all)


class Shared:
    """One network for several threads: all of its questions are answered by one, by `ask`."""

    def __init__(self, predictor: Any, ask: Callable[..., Any]) -> None:
        self._predictor, self._ask = predictor, ask

    def __getattr__(self, name: str) -> Any:
        return getattr(self._predictor, name)

    def predict(self, thumb: Any) -> Any:
        return self._ask(_answer, self._predictor.predict, thumb)

    def predict_lut(self, thumb: Any) -> Any:
        return self._ask(_answer, self._predictor.predict_lut, thumb)


def _answer(predict: Callable[[Any], Any], thumb: Any) -> Any:
    import torch

    with torch.inference_mode():  # which holds for a thread
        return predict(thumb)
