"""Several pictures at once, their results in order.

A few threads take a picture each, from opening it to giving the result its name: while one is
decoded and looked at, another is recoloured and a third is encoded, for codecs and torch leave
Python's lock. The thread that iterates hands the pictures out, one to a thread that is free, and
answers what they `ask` of it, one question at a time: there the network runs. So there is one
network, Ctrl-C reaches it, and torch takes as many threads for it as for a single picture, on
which its last bits depend.

Ctrl-C reaches that thread alone. The others are told by `stop` and leave their pictures at the
next `heed`, between two bands or tiles, by an exception that removes what was begun. What is past
the last of them is finished.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Done = TypeVar("Done")

# Ctrl-C does not end a wait without a limit on Windows.
_WAIT_S = 0.5
# How often one who waits for an answer looks whether it will still come.
_LOOK_S = 0.05
_STOPPING: ContextVar[threading.Event | None] = ContextVar("stopping", default=None)


def heed() -> None:
    """Raise KeyboardInterrupt in the threads of a pipeline that is being stopped."""
    stopping = _STOPPING.get()
    if stopping is not None and stopping.is_set():
        raise KeyboardInterrupt


@dataclass(frozen=True)
class _Question:
    """A call that one thread wants made by another."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    answer: Future[Any] = field(default_factory=Future)

    def run(self) -> None:
        """Make the call. What is no mere Exception is raised here, for it ends all."""
        try:
            value = self.function(*self.arguments)
        except Exception as error:
            self.answer.set_exception(error)
        else:
            self.answer.set_result(value)


class Pipeline(Generic[Item, Done]):
    """Works on items in several threads; iterating gives the results in the items' order.

        pipeline = Pipeline(jobs, work, 3)
        try:
            for result in pipeline:
                ...
        finally:
            left = pipeline.stop()

    Args:
        items: what is to be done.
        work: an item and how many are worked on at once, to its result. An exception of it ends
            the iteration.
        lanes: how many items at once; with 1, `work` is called by the thread that iterates, when
            the result is asked for.
        alone: whether a result is to be thrown away and the item done again with nothing beside
            it, as one for which the memory did not suffice.
        begin: called by each new thread first.
    """

    def __init__(
        self,
        items: Sequence[Item],
        work: Callable[[Item, int], Done],
        lanes: int = 1,
        *,
        alone: Callable[[Done], bool] = lambda result: False,
        begin: Callable[[], None] = lambda: None,
    ) -> None:
        self._items, self._work, self._alone, self._begin = items, work, alone, begin
        self.lanes = max(1, min(lanes, len(items)))
        self._pool = ThreadPoolExecutor(self.lanes, "hz-lane", self._enter)
        self._stopping = threading.Event()
        # What the threads have to say: questions, and that they are done.
        self._told: queue.SimpleQueue[_Question | Future[Done]] = queue.SimpleQueue()
        self._waiting, self._again = deque(range(len(items))), deque[int]()
        self._running: dict[Future[Done], tuple[int, int]] = {}  # which item, among how many
        self._results: dict[int, Done] = {}  # to be given

    # In the thread that iterates

    def __iter__(self) -> Iterator[Done]:
        if self.lanes == 1:
            for item in self._items:
                yield self._work(item, 1)
            return
        for at in range(len(self._items)):
            self._hand_out()
            while at not in self._results:
                self._listen()
                self._hand_out()
            yield self._results.pop(at)

    def stop(self) -> list[Done]:
        """Have what is being worked on given up or finished, and wait until it is.

        Returns:
            The results that were there, but not handed out yet, in order.
        """
        self._stopping.set()
        self._pool.shutdown()
        for future, (at, beside) in self._running.items():
            if future.exception() is None and not self._to_do_again(future.result(), beside):
                self._results[at] = future.result()
        self._running.clear()
        return [self._results.pop(at) for at in sorted(self._results)]

    def _listen(self) -> None:
        """Wait until a thread says something, and see to it."""
        try:
            told = self._told.get(timeout=_WAIT_S)
        except queue.Empty:
            return
        if isinstance(told, _Question):
            told.run()
            return
        at, beside = self._running[told]
        if self._to_do_again(told.result(), beside):
            self._again.append(at)
        else:
            self._results[at] = told.result()
        del self._running[told]  # only now, for Ctrl-C may come between any two lines

    def _hand_out(self) -> None:
        """Give work to the threads that have none."""
        if self._again:
            if not self._running:
                self._start(self._again.popleft(), 1)
            return
        if any(beside == 1 for _, beside in self._running.values()):
            return
        while self._waiting and len(self._running) < self.lanes:
            self._start(self._waiting.popleft(), self.lanes)

    def _start(self, at: int, beside: int) -> None:
        future = self._pool.submit(self._work, self._items[at], beside)
        self._running[future] = at, beside
        future.add_done_callback(self._told.put)

    def _to_do_again(self, result: Done, beside: int) -> bool:
        return beside > 1 and self._alone(result)

    # In the threads that work

    def _enter(self) -> None:
        _STOPPING.set(self._stopping)
        self._begin()

    def ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Have a function called by the thread that iterates, and wait for what it says.

        Raises:
            KeyboardInterrupt: the pipeline is being stopped.
        """
        question = _Question(function, arguments)
        self._told.put(question)
        while not wait([question.answer], _LOOK_S).done:
            heed()
        return question.answer.result()
