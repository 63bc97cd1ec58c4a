"""Sums over rectangles by the native kernel: numpy's, to the last bit; and when it is used."""

from __future__ import annotations

import itertools
import sys
import warnings
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hzcli.core import run_sums as module
from hzcli.core.run_sums import run_sums


@pytest.fixture
def undecided(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(module, "_made", [])
    monkeypatch.setattr(module, "_met", 0)
    yield


@pytest.fixture(scope="module")
def kernel() -> Iterator[None]:
    """Where the kernel is needed; it is made at once."""
    pytest.importorskip("llvmlite")
    before, module.BEFORE = module.BEFORE, 0
    yield
    module.BEFORE = before


def summed(codes: np.ndarray, down: np.ndarray, across: np.ndarray) -> list:
    """By definition, in Python's whole numbers."""
    return [
        [
            [sum(map(int, codes[a:b, c:d, n].flat)) for n in range(codes.shape[2])]
            for c, d in itertools.pairwise(across)
        ]
        for a, b in itertools.pairwise(down)
    ]


@st.composite
def borders(draw: st.DrawFn, length: int) -> np.ndarray:
    inner = draw(st.sets(st.integers(1, max(1, length - 1)), max_size=12))
    return np.array(sorted({0, length, *(n for n in inner if n < length)}))


@given(st.data())
@settings(max_examples=120, deadline=None)
def test_every_rectangle_has_its_sum(kernel, data) -> None:
    """Of part of a picture too, which has others beside it."""
    height = data.draw(st.integers(1, 40))
    width = data.draw(st.sampled_from([1, 2, 5, 15, 16, 21, 22, 63, 64, 65, 130]))
    channels = data.draw(st.integers(1, 4))
    kind = data.draw(st.sampled_from([np.uint8, np.uint16]))
    chance = np.random.default_rng(data.draw(st.integers(0, 99)))
    larger = chance.integers(0, np.iinfo(kind).max + 1, (height + 3, width + 4, channels))
    codes = larger.astype(kind)[2 : 2 + height, 1 : 1 + width]
    down, across = data.draw(borders(height)), data.draw(borders(width))
    sums = run_sums(codes, down, across)
    assert module._made and module._made[0]
    assert sums.dtype == np.uint32 and sums.tolist() == summed(codes, down, across)


@pytest.mark.parametrize(
    "codes",
    [
        np.full((300, 300, 1), 65535, np.uint16),  # whose sum has 33 bits
        np.full((9, 8, 5), 200, np.uint8),
        np.full((9, 8, 3), 9, ">u2"),
        np.full((9, 8, 3), 9, np.uint32),
        np.full((9, 16, 3), 9, np.uint8)[:, ::2],
        np.full((9, 8, 4), 9, np.uint8)[..., :3],
    ],
)
def test_what_the_kernel_does_not_know_is_numpy_s(kernel, codes, monkeypatch) -> None:
    monkeypatch.setattr(module, "_by_kernel", None)
    down, across = np.array([0, len(codes)]), np.array([0, codes.shape[1]])
    assert run_sums(codes, down, across).tolist() == summed(codes, down, across)


def test_a_little_is_not_worth_a_kernel(undecided, monkeypatch) -> None:
    monkeypatch.setattr(module, "_believed", lambda: None)
    codes, ends = np.ones((100, 1000, 1), np.uint8), np.array([0, 1000])
    for _ in range(module.BEFORE // codes.size):
        run_sums(codes, ends // 10, ends)
        assert not module._made
    run_sums(codes, ends // 10, ends)
    assert module._made


def test_without_llvmlite_there_is_none_and_nothing_is_said(undecided, monkeypatch) -> None:
    monkeypatch.setattr(module, "BEFORE", 0)
    for name in [n for n in sys.modules if n.split(".")[0] == "llvmlite"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "llvmlite", None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ends = np.array([0, 5])
        assert run_sums(np.ones((5, 5, 1), np.uint8), ends, ends).item() == 25
    assert module._made == [None]


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (lambda: ((lambda told: None), None), "its sums are wrong"),
        (lambda: [][0], "list index out of range"),
    ],
)
def test_a_kernel_that_is_wrong_is_not_used(undecided, monkeypatch, written, said) -> None:
    monkeypatch.setattr(module, "BEFORE", 0)
    monkeypatch.setattr(module, "_written", written)
    ends, codes = np.array([0, 5]), np.ones((5, 5, 1), np.uint8)
    with pytest.warns(RuntimeWarning, match=f"without their native kernel.*: {said}"):
        assert run_sums(codes, ends, ends).item() == 25
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert run_sums(codes, ends, ends).item() == 25
