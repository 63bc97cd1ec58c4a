"""From a memory budget to bands, without a picture."""

from __future__ import annotations

import mmap

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hzcli.core.transform import Reach
from hzcli.core.window import Size
from hzcli.engine import plan as planning
from hzcli.engine.plan import plan
from hzcli.errors import BudgetError

MB = 1 << 20
REACHES = st.builds(
    Reach, st.integers(0, 40), st.sampled_from([1, 2, 4, 16]), st.integers(0, 20_000)
)
SIZES = st.builds(Size, st.integers(1, 60_000), st.integers(1, 60_000))


def box_of(size: Size) -> planning.Box:
    return size.height // 3, size.height // 3 + 1, 0, -(-size.width // 2)


@given(SIZES, REACHES, st.integers(300, 8000))
def test_a_plan_keeps_within_its_budget_or_says_what_it_needs(size, reach, budget_mb):
    try:
        chosen = plan(size, box_of(size), reach, budget_mb * MB, used_bytes=250 * MB)
    except BudgetError as error:
        assert "--memory" in error.hint
        return
    assert chosen.peak_bytes <= budget_mb * MB
    assert chosen.band_rows >= 1 and chosen.band_rows % reach.align == 0
    assert chosen.tile_columns >= 1


@given(SIZES, REACHES)
def test_what_an_error_asks_for_is_enough(size, reach):
    with pytest.raises(BudgetError) as caught:
        plan(size, box_of(size), reach, 1, used_bytes=250 * MB)
    asked = int(caught.value.hint.split()[-1].rstrip("M")) * MB
    plan(size, box_of(size), reach, asked, used_bytes=250 * MB)


@given(SIZES, REACHES, st.integers(4, 64))
def test_more_memory_than_the_target_changes_nothing(size, reach, gigabytes):
    """Bytes must not depend on the machine: plenty, and more than plenty, are one plan."""
    plenty = plan(size, box_of(size), reach, 1 << 42, used_bytes=0)
    more = plan(size, box_of(size), reach, (1 << 42) + (gigabytes << 30), used_bytes=0)
    assert (plenty.band_rows, plenty.tile_columns) == (more.band_rows, more.tile_columns)


def test_less_memory_gives_smaller_bands():
    size, reach = Size(10_000, 20_000), Reach(halo=4, align=4, bytes_per_pixel=576)
    plans = [
        plan(size, box_of(size), reach, mb * MB, used_bytes=300 * MB) for mb in (700, 400, 340)
    ]
    areas = [chosen.band_rows * chosen.tile_columns for chosen in plans]
    assert areas == sorted(areas, reverse=True) and areas[0] > areas[2]


def test_the_usual_plan_is_near_square_and_modest():
    """24 megapixels and HINet's reach: little halo, a fraction of a gigabyte."""
    size, reach = Size(4000, 6000), Reach(halo=4, align=4, bytes_per_pixel=576)
    chosen = plan(size, (0, 4000, 0, 6000), reach, 1 << 30, used_bytes=400 * MB)
    assert chosen.peak_bytes < 650 * MB
    assert 1 / 3 < chosen.band_rows / chosen.tile_columns < 3


def test_a_plan_explains_itself():
    size, reach = Size(4000, 6000), Reach()
    said = plan(size, (0, 9, 0, 9), reach, 1 << 30, used_bytes=200 * MB).reason
    assert "rows" in said and "of 1.0 GB allowed" in said
    said = plan(size, None, reach, used_bytes=200 * MB).reason
    assert "tiles" not in said and "taken from what is free" in said


@example(70, 0, 64)
@given(st.integers(0, 500), st.integers(0, 500), st.integers(1, 300))
def test_cuts_cover_a_range_once_in_order(start, length, step):
    parts = list(planning.cuts(start, start + length, step))
    assert [i for a, b in parts for i in range(a, b)] == list(range(start, start + length))
    assert all(0 < b - a <= step for a, b in parts)
    assert len(parts) <= -(-length // step) + 1


def test_the_process_and_the_machine_are_measured():
    used = planning.resident_bytes()
    # Fresh pages of the system, so that no allocator can hand out what it still holds.
    with mmap.mmap(-1, 256 * MB) as ballast:
        for page in range(0, len(ballast), mmap.PAGESIZE):
            ballast[page] = 1
        assert planning.resident_bytes() >= used + 128 * MB
    assert planning.free_bytes() > 0


def test_a_container_limit_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(planning, "CGROUP", tmp_path)
    monkeypatch.setattr(planning, "_system_free", lambda: 1 << 40)
    assert planning.free_bytes() == 1 << 40
    (tmp_path / "memory.max").write_text("max\n")
    assert planning.free_bytes() == 1 << 40
    (tmp_path / "memory.max").write_text(f"{900 * MB}\n")
    (tmp_path / "memory.current").write_text(f"{200 * MB}\n")
    assert planning.free_bytes() == 700 * MB


def test_a_container_has_so_many_cores(tmp_path, monkeypatch):
    monkeypatch.setattr(planning, "CGROUP", tmp_path)
    monkeypatch.setattr(planning.os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    assert planning.cores() == 16
    for said, count in (("max 100000", 16), ("250000 100000", 2), ("10000 100000", 1)):
        (tmp_path / "cpu.max").write_text(said + "\n")
        assert planning.cores() == count
    (tmp_path / "cpu.max").write_text("6400000 100000\n")
    assert planning.cores() == 16
