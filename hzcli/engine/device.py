"""Which device computes, and how its threads wait.

Nothing here imports torch until a device is asked for.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from hzcli.errors import DeviceError, UsageError

if TYPE_CHECKING:
    import torch

# An OpenMP thread that spins while it waits takes a core from decoding, encoding and from
# other programs: with one busy neighbour a small network was measured 6 times slower.
PASSIVE_WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", "KMP_BLOCKTIME": "0"}


def calm_threads() -> None:
    """Let torch's threads sleep while they wait; what the user has set is left alone.

    Read by OpenMP when torch is loaded, so call it before the first `import torch`.
    """
    for name, value in PASSIVE_WAITING.items():
        os.environ.setdefault(name, value)


def pick(name: str = "auto") -> tuple[torch.device, str]:
    """The device that `name` stands for, and a line that says what was taken.

    Args:
        name: "auto", "cpu", "cuda", "cuda:<i>" or "mps". "auto" takes the first that
            works of cuda, mps and cpu; a device named is taken or refused, never replaced.

    Returns:
        The device, and a note such as "cuda:0 (NVIDIA H200)".

    Raises:
        UsageError: `name` is no device's name.
        DeviceError: the device named is not there, or does not work.
    """
    calm_threads()
    import torch

    name = name.strip().lower()
    if name == "auto":
        failures = []
        for kind in ("cuda", "mps"):
            try:
                return _probe(kind)
            except DeviceError as error:
                failures.append(error.message)
        return torch.device("cpu"), f"cpu ({'; '.join(failures)})"
    if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", name):
        raise UsageError(
            f"'{name}' is not a device", "Use auto, cpu, cuda, cuda:1 (the second card) or mps"
        )
    if name == "cpu":
        return torch.device("cpu"), "cpu"
    return _probe(name)


def _probe(name: str) -> tuple[torch.device, str]:
    """The accelerator `name`, after one tensor has been put on it.

    A driver that is too old, or a card that another program fills, shows only then.
    """
    import torch

    hint = "Use --device auto to take what there is, or --device cpu"
    kind, _, index = name.partition(":")
    module = torch.cuda if kind == "cuda" else torch.backends.mps
    if not module.is_available():
        raise DeviceError(f"no {kind} device found", hint)
    if kind == "cuda":
        count = torch.cuda.device_count()
        if int(index or 0) >= count:
            there = ", ".join(f"cuda:{i}" for i in range(count)) or "no cuda device"
            raise DeviceError(f"no device {name}: found {there}", hint)
        device = torch.device("cuda", int(index or 0))
    else:
        device = torch.device("mps")
    try:
        torch.zeros(1, device=device)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "no reason given"
        raise DeviceError(f"{device} does not work: {reason}", hint) from error
    label = torch.cuda.get_device_name(device) if kind == "cuda" else "Apple GPU"
    return device, f"{device} ({label})"
