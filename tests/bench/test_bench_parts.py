"""What a measurement is made of: names, counted work, ratios, growth, baselines, clocks."""

from __future__ import annotations

import copy
import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hzcli import catalog
from hzcli.bench import baseline, scaling
from hzcli.bench.macs import MacCounter
from hzcli.bench.published import PRINTED, printed
from hzcli.bench.runner import Configuration, Measured, same_work
from hzcli.bench.subjects import Subject, build, subjects
from hzcli.errors import ModelError, UsageError
from hzcli.report import plain


def test_every_network_has_one_name() -> None:
    """All: what is installed, each published network, and small ones of the other systems."""
    found = subjects(["all"])

    names = [subject.name for subject in found]
    assert len(set(names)) == len(names)
    published = {subject.target for subject in found if subject.kind == "published"}
    assert published == {variant for card in catalog.CARDS for variant in card.variants}
    assert {s.target for s in found if s.kind == "installed"} == {
        card.id for card in catalog.installed()
    }
    assert subjects(["s2crnet-v", "s2crnet-v"])[0].variant == "s2crnet-v"
    assert [s.kind for s in subjects(["aict-compact", "hdnet-published", "a/b.safetensors"])] == [
        "compact", "published", "installed",
    ]  # fmt: skip
    assert subjects(["hdnet-published"])[0].target == "hdnet"
    with pytest.raises(ModelError, match="nothing_such"):
        subjects(["nothing_such"])


def test_random_networks_are_complete() -> None:
    """A network without weights is the one that its paper counts, and answers in numbers."""
    net = build("published", "hdnet-lite", "cpu")

    assert sum(p.numel() for p in net.parameters()) == pytest.approx(0.65e6, rel=0.01)
    assert all(torch.isfinite(p).all() for p in net.parameters())
    assert not net.training


def test_macs_are_those_of_the_definition() -> None:
    """A convolution: inputs x outputs x kernel x places; a layer: inputs x outputs x rows.
    In inference mode too, where operators reach the counter in one piece."""
    counter = MacCounter()
    convolve, linear = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.Linear(10, 20, bias=False)

    with torch.inference_mode():
        counter.call("network", convolve, torch.rand(1, 3, 16, 24))
        counter.call("apply", linear, torch.rand(7, 10))
        counter.call(
            "apply", torch.einsum, "nij,njk->nik", torch.rand(2, 3, 4), torch.rand(2, 4, 5)
        )

    assert counter.macs == {"network": 3 * 8 * 9 * 16 * 24, "apply": 7 * 10 * 20 + 2 * 3 * 4 * 5}


def test_papers_figures_are_found_by_network_size_and_parts() -> None:
    """HINet's table V: seconds in 1, 4 and 16 parts; nothing for sizes that nobody prints."""
    seconds = [printed("hinet", 2048, parts) for parts in (None, 1, 4, 16)]

    assert [line.seconds for line in seconds if line] == [0.23, 0.23, 0.52, 1.12]
    assert printed("hinet", 1024) is None
    assert printed("cdtnet", None) is None
    assert printed("hdnet-lite", 777) is not None  # its paper names no size
    variants = {variant for card in catalog.CARDS for variant in card.variants}
    assert {line.variant for line in PRINTED} <= variants
    assert all(line.hardware and line.source for line in PRINTED)


def asked(**changes: Any) -> Configuration:
    return Configuration(
        **{
            "subject": Subject("small", "published", "hinet", "hinet"),
            "picture": Path("a.jpg"),
            "mask": Path("a_m.png"),
            "label": "2048x2048",
            "share": 0.25,
            **changes,
        }
    )


STAGES = ("read", "thumbnail", "network", "apply", "encode", "write", "total")
TOLD: dict[str, Any] = {
    "device": "cpu", "threads": 1, "width": 2048, "height": 2048, "mask_share": 0.25, "runs": 3,
    "parameters": 1000, "warnings": [], "plan": "bands",
    "macs": {"network": 10**9, "apply": 2 * 10**9, "how": "by hand"},
    "memory": {"host_mb": 100.0, "imports_mb": 200.0, "gpu_mb": None},
    "seconds": {**dict.fromkeys(STAGES, 0.5), "total": 2.0},
    "cpu": {**dict.fromkeys(STAGES, 0.25), "total": 1.5},
    "copy": {"seconds": 0.01, "cpu": 0.005},
    "codec": {"seconds": 0.4, "cpu": 0.3},
    "matmul_gflops": {"seconds": 80.0, "cpu": 100.0},
}  # fmt: skip


def test_every_time_is_a_multiple_of_both_references() -> None:
    """Wall by wall, CPU by CPU; rates by the definition."""
    row = Measured(asked(), TOLD).as_dict()

    assert row["times_copy"]["apply"] == pytest.approx(50)
    assert row["times_codec"]["total"] == pytest.approx(5)
    assert row["cpu_times_copy"]["network"] == pytest.approx(50)
    assert row["cpu_times_codec"]["total"] == pytest.approx(5)
    assert set(row["times_copy"]) == set(row["cpu_times_codec"]) == set(STAGES)
    # 2 GMAC are 4 GFLOP, in a quarter of a second 16 GFLOP/s, of 100 that a product reaches.
    assert row["apply_by_matmul"] == pytest.approx(0.16)
    assert row["masked_megapixels"] == pytest.approx(2048**2 / 4e6)
    assert row["memory_by_picture"] == pytest.approx(100e6 / (6 * 2048**2))
    assert row["paper"]["seconds"] == 0.23
    assert row["warnings"] == []


def test_a_busy_machine_is_told() -> None:
    """Wall time far above CPU time says little."""
    busy = {**TOLD, "seconds": {**TOLD["seconds"], "total": 9.0}}

    (warning,) = Measured(asked(), busy).as_dict()["warnings"]

    assert "6.0 times" in warning


def test_work_is_counted_once_for_all_splits() -> None:
    """The first configuration of a network and picture counts; another picture counts anew."""
    several = [asked(splits=n) for n in (None, 1, 4)] + [asked(label="b", picture=Path("b.jpg"))]

    assert [c.count for c in same_work(several)] == [True, False, False, True]


def lines(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps({"event": "row", **plain(r)}) + "\n" for r in rows))
    return path


def test_what_grew_beyond_the_tolerance_is_a_loss(tmp_path: Path) -> None:
    """By ratios alone: a machine twice as slow in all is no loss, a slower apply is one."""
    before = Measured(asked(), TOLD).as_dict()
    earlier = baseline.read(lines(tmp_path / "before.jsonl", before))
    slow: dict[str, Any] = copy.deepcopy(TOLD)
    for name in ("seconds", "cpu", "copy", "codec"):
        slow[name] = {k: 2 * v for k, v in slow[name].items()}
    same = baseline.compare([Measured(asked(), slow).as_dict()], earlier, 0.1)
    assert (same["compared"], same["losses"]) == (1, [])

    slow["cpu"]["apply"] *= 1.5
    found = baseline.compare([Measured(asked(), slow).as_dict()], earlier, 0.1)
    assert [loss["what"] for loss in found["losses"]] == ["apply by memory copy"]
    assert found["losses"][0]["growth"] == pytest.approx(0.5)
    assert baseline.compare([Measured(asked(), slow).as_dict()], earlier, 0.6)["losses"] == []

    other = Measured(asked(splits=4), TOLD).as_dict()
    assert baseline.compare([other], earlier, 0.1)["missing"] == 1


@pytest.mark.parametrize(
    "text", ["", "what?", '{"event": "summary"}\n', "model,status\nx,failed\n"]
)
def test_a_baseline_that_is_none_is_refused(text: str, tmp_path: Path) -> None:
    """Empty, something else, a report without measurements, and no file at all."""
    path = tmp_path / "x"
    path.write_text(text)

    for file in (path, tmp_path / "none"):
        with pytest.raises(UsageError):
            baseline.read(file)


def test_growth_is_the_exponent_of_a_power() -> None:
    """Of points on a power law, its exponent; linear is 1, spread 1."""

    def rows(power: float) -> list[dict[str, Any]]:
        return [
            {"masked_megapixels": x, "cpu": {"total": 0.3 * x**power}} for x in (0.25, 1, 5, 250)
        ]

    linear = scaling.growth(rows(1.0), "total")
    assert linear == pytest.approx({"exponent": 1, "seconds_by_megapixel": 0.3, "spread": 1})
    steeper = scaling.growth(rows(1.3), "total")
    assert steeper is not None and steeper["exponent"] == pytest.approx(1.3)
    assert scaling.growth(rows(1.0)[:1], "total") is None


@pytest.mark.parametrize("most", [1, 2.5, 10, 1000])
def test_a_scale_ends_where_asked(most: float) -> None:
    """Growing sizes, the first of about a megapixel, the last of the number asked."""
    sizes = [size.pixels / 1e6 for size in scaling.sizes(most)]

    assert sizes == sorted(sizes)
    assert sizes[-1] == pytest.approx(most, rel=0.01)
    assert sizes[0] == pytest.approx(1, rel=0.01)


def test_stages_add_up_wall_and_cpu() -> None:
    """Sleeping takes wall time alone; what was nested is in both stages."""
    from hzcli.bench.probes import Stages

    stages = Stages()
    with stages("outer"), stages("inner"):
        time.sleep(0.05)
    stages.timed("inner", time.sleep)(0.05)

    assert stages.wall["inner"] >= 0.1 > stages.cpu["inner"]
    assert 0.05 <= stages.wall["outer"] < stages.wall["inner"]
