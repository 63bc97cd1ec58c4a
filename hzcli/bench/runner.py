"""Configurations, and a process for each: see `child`."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hzcli
from hzcli.bench.published import printed
from hzcli.bench.subjects import Subject

REFERENCES = ("copy", "codec")
RANDOM = "random weights"
# Wall by CPU time, above which a machine was busy with other things (or its disk was).
BUSY = 2.0


@dataclass(frozen=True)
class Configuration:
    """What one process measures.

    picture, mask: files. share: what the mask was made to cover, None for a user's own.
    splits: parts of rows that the picture is handed over in, None for the engine's own plan.
    label: what the picture is called. count: whether MACs are counted (they are the same for
    every number of splits).
    """

    subject: Subject
    picture: Path
    mask: Path
    label: str
    share: float | None = None
    splits: int | None = None
    mode: str = "region"
    device: str = "auto"
    threads: int | None = None
    warmup: int = 1
    runs: int = 5
    count: bool = True

    def key(self) -> dict[str, Any]:
        """What tells it from the other configurations, in a report as well."""
        return {
            "model": self.subject.name,
            "picture": self.label,
            "mask_asked": self.share,
            "mode": self.mode,
            "splits": self.splits,
        }


@dataclass(frozen=True)
class Measured:
    """One line of the report.

    told: what the child measured; empty where it failed. Every time is there in seconds, wall
    ("seconds") and CPU ("cpu"), and as a multiple of a copy of the 16-bit picture in memory
    ("times_copy") and of decoding and encoding alone ("times_codec"); both are wall by wall,
    and "cpu_times_copy", "cpu_times_codec" are CPU by CPU.
    """

    configuration: Configuration
    told: Mapping[str, Any] = field(default_factory=dict)
    error: Mapping[str, str] | None = None

    @property
    def status(self) -> str:
        return "failed" if self.error else "done"

    def as_dict(self) -> dict[str, Any]:
        """The line, ready for JSON."""
        asked, told = self.configuration, self.told
        subject = asked.subject
        head: dict[str, Any] = {
            **asked.key(),
            "input": asked.label,
            "status": self.status,
            "system_variant": subject.variant,
            "weights": "installed" if subject.kind == "installed" else RANDOM,
            "configuration": subject.kind,
            "error": None if self.error is None else dict(self.error),
            "warnings": [*told.get("warnings", ()), *_busy(told)],
        }
        if self.error:
            return head
        wall, cpu = told["seconds"], told["cpu"]
        ratios: dict[str, Any] = {}
        for name in REFERENCES:
            by = told[name]
            ratios[f"times_{name}"] = {k: v / by["seconds"] for k, v in wall.items()}
            ratios[f"cpu_times_{name}"] = {k: v / by["cpu"] for k, v in cpu.items()}
        pixels = told["width"] * told["height"]
        square = told["width"] if told["width"] == told["height"] else None
        paper = printed(subject.variant, square, asked.splits)
        return {
            **head,
            **{k: v for k, v in told.items() if k != "warnings"},
            **ratios,
            "megapixels": pixels / 1e6,
            "masked_megapixels": told["mask_share"] * pixels / 1e6,
            "memory_by_picture": _share(told["memory"]["host_mb"], pixels * 6 / 1e6),
            "apply_by_matmul": _rate(told),
            "paper": None if paper is None else paper.as_dict(),
        }


def _busy(told: Mapping[str, Any]) -> list[str]:
    """A warning where others took the processor, for then only ratios of CPU time say much."""
    if not told or told["memory"]["gpu_mb"] is not None:
        return []
    slower = told["seconds"]["total"] / told["cpu"]["total"]
    if slower < BUSY:
        return []
    return [f"the machine was busy: wall time is {slower:.1f} times CPU time; trust the latter"]


def _share(value: float | None, by: float) -> float | None:
    return None if value is None else value / by


def _rate(told: Mapping[str, Any]) -> float | None:
    """How near applying comes to a large float32 matrix product, both by CPU time; None where
    the work was not counted, for it is no matrix product, or is done elsewhere."""
    macs = told.get("macs", {}).get("apply", 0)
    spent = told["cpu"]["apply"]
    if not macs or not spent or told["threads"] != 1 or told["memory"]["gpu_mb"] is not None:
        return None
    return float(2e-9 * macs / spent / told["matmul_gflops"]["cpu"])


def run(configuration: Configuration, output: Path) -> Measured:
    """Measure one configuration in a fresh process, which ends with this call in any case.

    Args:
        output: a folder for what it writes.
    """
    asked = configuration
    spec = {
        "kind": asked.subject.kind,
        "target": asked.subject.target,
        "mode": asked.mode,
        "device": asked.device,
        "threads": asked.threads,
        "picture": str(asked.picture),
        "mask": str(asked.mask),
        "output": str(output),
        "splits": asked.splits,
        "runs": asked.runs,
        "warmup": asked.warmup,
        "count": asked.count,
    }
    root = str(Path(hzcli.__file__).resolve().parents[1])
    paths = [root, os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    child = subprocess.Popen(
        [sys.executable, "-m", "hzcli.bench.child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        said, complaint = child.communicate(json.dumps(spec))
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
    try:
        told = json.loads(said.splitlines()[-1])
    except (ValueError, IndexError):
        return Measured(asked, error=_death(child.returncode, complaint))
    if "error" in told:
        return Measured(asked, error=told["error"])
    return Measured(asked, told)


def _death(code: int, complaint: str) -> dict[str, str]:
    """What a process that said nothing died of."""
    if code == -9:
        message, hint = "the system ended the process", "Its memory did not suffice, most likely."
    else:
        last = (complaint.strip().splitlines() or ["without a word"])[-1]
        message, hint = f"the process ended with {code}: {last}", "This is a fault of hz."
    return {"code": "ProcessDied", "message": message, "hint": hint}


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def same_work(configurations: Sequence[Configuration]) -> list[Configuration]:
    """The same, each network's MACs counted once a picture: splits do not change them."""
    from dataclasses import replace

    seen: set[tuple[Any, ...]] = set()
    out = []
    for asked in configurations:
        work = (asked.subject, asked.picture, asked.mask, asked.mode)
        out.append(replace(asked, count=asked.count and work not in seen))
        seen.add(work)
    return out
