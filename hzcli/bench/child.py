"""One configuration, measured in a process of its own: `python -m hzcli.bench.child < spec`.

A fresh process says honestly how much memory a picture takes, and nothing that an earlier one
has cached helps the next. The specification comes in as JSON, the measurement goes out as the
last line of stdout. In every round the memory copy, the codec-only pass, the matrix product and
the picture take their turns, so that a busy neighbour falls on all of them alike.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from hzcli.errors import HzError

# No further round begins after so many seconds of them.
LONGEST = 90.0
COPY_BYTES = 256 << 20
MATRIX = 1024
STAGES = ("read", "thumbnail", "network", "apply", "encode", "write", "total")
OPENMP_LIMITS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def measure(spec: dict[str, Any]) -> dict[str, Any]:
    """Measure what a specification asks for.

    Args:
        spec: kind, target (see `subjects.build`), mode, device, threads, picture, mask, output
            (a folder), splits (or None), runs, warmup, count (whether to count MACs).

    Returns:
        Figures, ready for JSON: see `Measured.as_dict`.

    Raises:
        HzError: the picture cannot be harmonised so.
    """
    from hzcli.engine import device as devices

    device, label = devices.pick(spec["device"])
    import torch

    from hzcli.bench import probes
    from hzcli.io import picture  # noqa: F401  what a picture takes is above the imports

    if spec["threads"]:
        torch.set_num_threads(spec["threads"])
    on_card = device.type == "cuda"
    finished = (lambda: torch.cuda.synchronize(device)) if on_card else None
    stages = probes.Stages()
    probes.install(stages, finished)
    if on_card:
        torch.cuda.init()
    imports = _resident()
    _forget_peak()

    from hzcli.bench.subjects import build

    net = build(spec["kind"], spec["target"], device)
    if on_card:
        torch.cuda.reset_peak_memory_stats(device)
    job = _Job(spec, net, device, stages)
    with probes.handed_over_in(spec["splits"]):
        outcome = job.run()
        peak = _peak()
        card_peak = torch.cuda.max_memory_allocated(device) if on_card else None
        result = {
            "device": label,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "width": outcome.width,
            "height": outcome.height,
            "mask_share": outcome.foreground,
            "plan": outcome.plan,
            "warnings": [text for text in outcome.warnings if "no visible change" not in text],
            "parameters": sum(p.numel() for p in net.parameters()),
            "bytes": {
                "source": Path(spec["picture"]).stat().st_size,
                "result": job.target.stat().st_size,
            },
            "memory": {
                "host_mb": (peak - imports) / 1e6 if peak else None,
                "imports_mb": imports / 1e6,
                "gpu_mb": None if card_peak is None else card_peak / 1e6,
            },
        }
        if spec["count"]:
            result["macs"] = job.count()
        for _ in range(spec["warmup"] - 1):  # the first one was for the memory
            job.run()
        return {**result, **_rounds(job, spec["runs"], outcome.width * outcome.height)}


class _Job:
    """The one picture that is harmonised again and again."""

    def __init__(self, spec: dict[str, Any], net: Any, device: Any, stages: Any) -> None:
        self._spec, self._net, self._device, self.stages = spec, net, device, stages
        self.target = Path(spec["output"]) / "result.tif"

    def run(self, around: Any = None) -> Any:
        """From files to a file, as `hz run` does it; the engine's outcome."""
        from hzcli.bench.probes import Asked, TimedReader
        from hzcli.engine import stream
        from hzcli.io.picture import open_mask, open_picture
        from hzcli.io.tiff import TiffWriter

        self.stages.clear()
        with contextlib.ExitStack() as files:
            reader = files.enter_context(open_picture(Path(self._spec["picture"])))
            mask = files.enter_context(open_mask(Path(self._spec["mask"])))
            writer = TiffWriter(self.target, reader.size, reader.meta, overwrite=True)
            return stream.harmonise(
                TimedReader(reader, self.stages),
                TimedReader(mask, self.stages),
                Asked(self._net, self.stages, around),
                files.enter_context(writer),
                mode=self._spec["mode"],
                device=self._device,
            )

    def count(self) -> dict[str, Any]:
        """MACs of network and apply."""
        from hzcli.bench.macs import HOW, MacCounter

        counter = MacCounter()
        self.run(counter.around)
        return {**counter.macs, "how": HOW}

    def codec(self) -> None:
        """The same files decoded, and the picture written again, with no harmonising between."""
        import numpy as np

        from hzcli.core.window import bands
        from hzcli.engine.overlap import ahead, behind
        from hzcli.io.picture import open_mask, open_picture
        from hzcli.io.tiff import TiffWriter

        with contextlib.ExitStack() as files:
            reader = files.enter_context(open_picture(Path(self._spec["picture"])))
            mask = files.enter_context(open_mask(Path(self._spec["mask"])))
            target = self.target.with_name("codec.tif")
            writer = TiffWriter(target, reader.size, reader.meta, overwrite=True)
            files.enter_context(writer)

            def read(window: Any) -> Any:
                mask.read(window)
                return reader.read(window)

            send = files.enter_context(behind(writer.write))
            windows = bands(reader.size, max(64, (4 << 20) // reader.size.width))
            for codes in files.enter_context(ahead(read, windows)):
                rows = np.empty(codes.shape, np.uint16)
                if codes.dtype == np.uint8:
                    np.multiply(codes, np.uint16(257), out=rows, dtype=np.uint16)
                else:
                    np.copyto(rows, codes)
                send(rows)


def _rounds(job: _Job, runs: int, pixels: int) -> dict[str, Any]:
    """Medians of rounds in which everything takes its turn."""
    import torch

    copy, copies = _copy(pixels)
    square = torch.rand(MATRIX, MATRIX)
    product = torch.empty_like(square)

    def multiply() -> None:
        torch.mm(square, square, out=product)

    works: dict[str, Callable[[], object]] = {
        "copy": copy, "codec": job.codec, "matmul": multiply, "total": job.run,
    }  # fmt: skip
    for name in ("copy", "matmul", "codec"):
        works[name]()
    samples: dict[str, list[tuple[float, float]]] = {}
    begun = time.perf_counter()
    done = 0
    while done < max(1, runs) and (done == 0 or time.perf_counter() - begun < LONGEST):
        for name, work in works.items():
            scale = copies if name == "copy" else 1.0
            seconds, cpu_seconds = _timed(work)
            samples.setdefault(name, []).append((seconds * scale, cpu_seconds * scale))
        for name, spent in _by_stage(job.stages).items():
            samples.setdefault(name, []).append(spent)
        done += 1
    wall, cpu = ({k: median(s[i] for s in v) for k, v in samples.items()} for i in (0, 1))
    rate = 2e-9 * MATRIX**3
    return {
        "runs": done,
        "seconds": {name: wall[name] for name in STAGES},
        "cpu": {name: cpu[name] for name in STAGES},
        "bind": {"seconds": wall["bind"], "cpu": cpu["bind"]},
        "copy": {"seconds": wall["copy"], "cpu": cpu["copy"]},
        "codec": {"seconds": wall["codec"], "cpu": cpu["codec"]},
        "matmul_gflops": {"seconds": rate / wall["matmul"], "cpu": rate / cpu["matmul"]},
    }


def _by_stage(stages: Any) -> dict[str, tuple[float, float]]:
    """Wall and CPU seconds of each stage of the last run. What was read within a stage counts
    as reading; what a Transform looks at before it applies counts as applying."""
    out: dict[str, tuple[float, float]] = {}
    both = (stages.wall, stages.cpu)

    def of(name: str, *less: str) -> tuple[float, float]:
        wall, cpu = (max(0.0, s[name] - sum(s[other] for other in less)) for s in both)
        return wall, cpu

    out["read"] = of("read")
    out["thumbnail"] = of("engine thumbnail", "read in thumbnail")
    out["network"] = of("engine network")
    out["bind"] = of("engine bind", "read in bind")
    apply = of("engine apply")
    out["apply"] = apply[0] + out["bind"][0], apply[1] + out["bind"][1]
    out["encode"] = of("encode")
    out["write"] = of("write")
    return out


def _copy(pixels: int) -> tuple[Callable[[], None], float]:
    """A copy of so many pixels of three 16-bit samples, and what to multiply its time by:
    a very large picture is copied in part."""
    import numpy as np

    count = min(pixels * 3, COPY_BYTES // 2)
    source, target = np.ones(count, np.uint16), np.zeros(count, np.uint16)
    return (lambda: np.copyto(target, source)), pixels * 3 / count


def _timed(work: Callable[[], object]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, max(time.process_time() - cpu, 1e-9)


def _resident() -> int:
    from hzcli.engine.plan import resident_bytes

    return resident_bytes()


def _forget_peak() -> None:
    """Let the peak begin at what is taken now (Linux); importing may have been higher."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int | None:
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def main() -> None:
    spec = json.load(sys.stdin)
    if spec["threads"]:
        for name in OPENMP_LIMITS:
            os.environ[name] = str(spec["threads"])
    try:
        told = measure(spec)
    except HzError as error:
        said = {"code": type(error).__name__, "message": error.message, "hint": error.hint}
        told = {"error": said}
    except (MemoryError, RuntimeError) as error:  # torch's out of memory is a RuntimeError
        lines = str(error).strip().splitlines() or [type(error).__name__]
        told = {"error": {"code": type(error).__name__, "message": lines[0], "hint": ""}}
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
