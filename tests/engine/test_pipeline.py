"""Several things at once: results in order, one thread that answers, an end that leaves nothing."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hzcli.engine.overlap import ahead
from hzcli.engine.pipeline import Pipeline, heed

PATIENCE_S = 20


def wait(event: threading.Event) -> None:
    assert event.wait(PATIENCE_S), "it never happened"


def until_stopped() -> None:
    """Work until the pipeline is stopped."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        heed()
        time.sleep(0.001)
    raise AssertionError("it was never stopped")


def test_results_come_in_order_whichever_is_ready_first() -> None:
    """The first item cannot end before the last two have."""
    ended = threading.Semaphore(0)

    def work(item: int, beside: int) -> int:
        if item == 0:
            assert all(ended.acquire(timeout=PATIENCE_S) for _ in range(2))
        else:
            ended.release()
        return item * 10

    pipeline = Pipeline(range(3), work, 2)
    assert list(pipeline) == [0, 10, 20]
    assert pipeline.stop() == []


@settings(max_examples=30, deadline=None)
@given(
    count=st.integers(0, 12),
    lanes=st.integers(1, 4),
    starved=st.sets(st.integers(0, 11)),
    slow=st.sets(st.integers(0, 11)),
)
def test_each_is_done_once_and_the_starved_once_more_alone(
    count: int, lanes: int, starved: set[int], slow: set[int]
) -> None:
    """Never more at once than lanes; who wants to be alone is, and only if it was not."""
    lock = threading.Lock()
    busy: set[int] = set()
    seen: list[tuple[int, int]] = []

    def work(item: int, beside: int) -> str:
        with lock:
            busy.add(item)
            assert len(busy) <= beside <= lanes
            seen.append((item, beside))
        time.sleep(0.002 * (item in slow))
        with lock:
            assert beside > 1 or busy == {item}
            busy.remove(item)
        return "starved" if item in starved and beside > 1 else f"done {item}"

    pipeline = Pipeline(range(count), work, lanes, alone=lambda result: result == "starved")
    assert list(pipeline) == [f"done {item}" for item in range(count)]
    assert pipeline.stop() == []
    first = max(1, min(lanes, count))
    again = [(item, 1) for item in range(count) if item in starved and first > 1]
    assert sorted(seen) == sorted([(item, first) for item in range(count)] + again)


def test_questions_are_answered_by_the_thread_that_iterates() -> None:
    """One at a time; an answer that fails, fails in the thread that asked."""
    here = threading.current_thread()

    def answer(item: int) -> int:
        assert threading.current_thread() is here
        return 100 // item

    def work(item: int, beside: int) -> str:
        assert threading.current_thread() is not here
        try:
            return str(pipeline.ask(answer, item))
        except ZeroDivisionError:
            return "no answer"

    pipeline = Pipeline([5, 0, 20], work, 3)
    assert list(pipeline) == ["20", "no answer", "5"]
    pipeline.stop()


def test_what_goes_wrong_ends_the_iteration() -> None:
    """And with it all that is being worked on."""

    def work(item: int, beside: int) -> int:
        if item == 1:
            raise LookupError("broken")
        until_stopped()
        return item

    pipeline = Pipeline(range(3), work, 2)
    with pytest.raises(LookupError, match="broken"):
        list(pipeline)
    assert pipeline.stop() == []


def test_stop_waits_until_all_have_tidied_up_and_tells_what_is_finished() -> None:
    """Ctrl-C in the network: one has ended out of its turn, one is past the point of return, one
    waits for an answer and one is at work; items that nobody took are not begun."""
    begun: list[int] = []
    tidied: list[str] = []
    ended, finishing, working = (threading.Event() for _ in range(3))

    def network(item: int) -> None:
        for event in (ended, finishing, working):
            wait(event)
        raise KeyboardInterrupt

    def work(item: int, beside: int) -> int:
        begun.append(item)
        try:
            if item == 1:
                ended.set()
            elif item == 2:
                finishing.set()
                time.sleep(0.2)
            elif item == 3:
                working.set()
                until_stopped()
            else:
                pipeline.ask(network, item)
        finally:
            time.sleep(0.05)
            tidied.append(f"{item}")
        return item

    pipeline = Pipeline(range(20), work, 4)
    with pytest.raises(KeyboardInterrupt):
        list(pipeline)
    assert pipeline.stop() == [1, 2]
    assert sorted(tidied) == sorted(map(str, begun))
    assert len(begun) < 20
    heed()  # here it says nothing


def test_a_thread_that_reads_ahead_is_stopped_between_two_bands() -> None:
    """`overlap.ahead` heeds."""
    reading = threading.Event()
    read: list[int] = []

    def one(band: int) -> int:
        read.append(band)
        return band

    def work(item: int, beside: int) -> int:
        if item == 0:
            wait(reading)
            pipeline.ask(stop)
        with ahead(one, range(10**9)) as bands:
            for _ in bands:
                reading.set()
                time.sleep(0.001)
        return item

    def stop() -> None:
        raise KeyboardInterrupt

    pipeline = Pipeline(range(2), work, 2)
    with pytest.raises(KeyboardInterrupt):
        list(pipeline)
    assert pipeline.stop() == []
    assert read
