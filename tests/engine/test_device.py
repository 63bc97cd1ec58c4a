"""Devices: what is named is taken or refused, and threads wait without spinning."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from hzcli.engine import device
from hzcli.errors import DeviceError, UsageError


@pytest.fixture
def cards(monkeypatch):
    """Lets a test say how many CUDA cards there are; no MPS, and every card works."""

    def set_count(count: int, works: bool = True) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda d: f"Card {d.index}")
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)

        def zeros(*_, **__):
            if not works:
                raise RuntimeError("CUDA error: out of memory\nmore lines")

        monkeypatch.setattr(torch, "zeros", zeros)

    return set_count


def test_auto_falls_back_and_says_so(cards):
    cards(0)
    chosen, note = device.pick("auto")
    assert chosen == torch.device("cpu")
    assert note == "cpu (no cuda device found; no mps device found)"


def test_auto_takes_a_card_that_works(cards):
    cards(2)
    assert device.pick() == (torch.device("cuda:0"), "cuda:0 (Card 0)")


def test_auto_passes_over_a_card_that_fails_but_a_named_one_is_an_error(cards):
    cards(1, works=False)
    chosen, note = device.pick("auto")
    assert chosen == torch.device("cpu") and "cuda:0 does not work: CUDA error" in note
    with pytest.raises(DeviceError, match="out of memory"):
        device.pick("cuda")


@pytest.mark.parametrize(("name", "count"), [("cuda", 0), ("cuda:1", 1), ("mps", 3)])
def test_a_device_named_and_absent_is_an_error_never_the_cpu(cards, name, count):
    cards(count)
    with pytest.raises(DeviceError, match=name) as caught:
        device.pick(name)
    assert caught.value.exit_code == 5 and "--device auto" in caught.value.hint


def test_names_are_taken_as_written(cards):
    cards(2)
    assert device.pick("CUDA:1") == (torch.device("cuda:1"), "cuda:1 (Card 1)")
    assert device.pick("cpu") == (torch.device("cpu"), "cpu")


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:-1", "cpu:0", ""])
def test_what_is_no_device_is_wrong_usage(name):
    with pytest.raises(UsageError):
        device.pick(name)


def test_threads_are_calmed_before_torch_is_loaded_and_not_by_an_import():
    code = (
        "import os, sys, hzcli.engine.device as d\n"
        "assert 'OMP_WAIT_POLICY' not in os.environ and 'torch' not in sys.modules\n"
        "d.pick('cpu')\n"
        "assert 'torch' in sys.modules\n"
        "print(*(os.environ[name] for name in d.PASSIVE_WAITING))\n"
    )
    clean = {k: v for k, v in os.environ.items() if k not in device.PASSIVE_WAITING}
    clean["KMP_BLOCKTIME"] = "7"  # what the user has set stays
    done = subprocess.run(
        [sys.executable, "-c", code], env=clean, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["PASSIVE", "0", "7"]
