"""`--model auto`: chosen by what cards say, whatever the weights are called."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hzcli import auto
from hzcli.catalog import WeightsCard
from hzcli.errors import ModelError, UsageError


class Told(WeightsCard):
    """A card whose weights are there and that tells its traits."""

    status = "done"
    traits: dict[str, str]


def card(
    name: str, ratio: float | None, *, table: float | None = None, seconds: float | None = None,
    look: str = "fitted", own: dict[str, float] | None = None, parameters: int = 0,
) -> WeightsCard:  # fmt: skip
    figures: dict[str, Any] = {
        "val_fmse_ratio": ratio, "val_lut_fmse_ratio": table, "seconds_12mp": seconds,
        "val_thumbnail": own,
    }  # fmt: skip
    figures = {key: value for key, value in figures.items() if value is not None}
    made = Told(name, "hinet", f"{name}.safetensors", figures=figures, parameters=parameters)
    object.__setattr__(made, "traits", {"look": look})
    return made


# The best of each kind is no other's.
SEVERAL = [
    card("heavy", 0.20, table=0.33, seconds=30, look="own"),
    card("light", 0.30, table=0.31, seconds=3, look="own"),
    card("curves", 0.40, seconds=1, look="exact"),
    card("table", 0.32, seconds=2, look="exact"),
    card("toy", 0.90, seconds=0.1, look="exact"),
    card("places", 0.25, table=0.29, seconds=9, look="fitted"),
]


@pytest.mark.parametrize(
    ("purpose", "name", "mode"),
    [
        ("quality", "heavy", "region"),
        ("speed", "curves", "region"),  # the toy undoes too little
        ("video", "light", "lut"),  # a fitted table is none of its own
        ("look", "light", "lut"),
    ],
)
def test_each_purpose_has_its_own_best(purpose: str, name: str, mode: str) -> None:
    chosen = auto.choose(purpose, SEVERAL)

    assert (chosen.name, chosen.mode) == (name, mode)
    assert name in chosen.reason
    assert "\n" not in chosen.reason


def test_equals_are_told_apart_by_cost_or_by_being_exact() -> None:
    """Within what figures can tell: the quicker; for a look, what is a table and nothing else."""
    equals = [
        card("slow", 0.300, seconds=9, look="exact"),
        card("quick", 0.305, table=0.305, seconds=1, look="own"),
    ]

    assert [auto.choose(purpose, equals).name for purpose in auto.PURPOSES] == [
        "quick", "quick", "slow", "quick",
    ]  # fmt: skip


def test_figures_of_different_sets_are_not_compared() -> None:
    """A user's own validation at thumbnail size flatters; it decides among the user's only."""
    mine = card("mine", None, own={"ratio": 0.05, "lut": 0.06})
    worse = card("worse", None, own={"ratio": 0.10, "lut": 0.11})

    assert auto.choose("quality", [mine, worse, SEVERAL[0]]).name == "heavy"
    assert auto.choose("quality", [worse, mine]).name == "mine"


def test_one_is_taken_and_none_is_said(tmp_path: Path) -> None:
    for purpose in auto.PURPOSES:
        assert auto.choose(purpose, [card("only", None)]).name == "only"
    with pytest.raises(ModelError, match="no weights"):
        auto.choose("quality", [])
    gone = WeightsCard("gone", "hinet", "gone.safetensors", folder=tmp_path)
    with pytest.raises(ModelError, match="no weights"):
        auto.choose("quality", [gone])
    with pytest.raises(UsageError, match="beauty"):
        auto.choose("beauty", SEVERAL)


def test_without_figures_the_smallest() -> None:
    """Imported weights have none."""
    imported = [card("large", None, parameters=9), card("small", None, parameters=5)]

    assert {auto.choose(purpose, imported).name for purpose in auto.PURPOSES} == {"small"}


@given(
    st.permutations(range(len(SEVERAL))),
    st.lists(st.text("abcdef", min_size=1, max_size=4), min_size=6, max_size=6, unique=True),
    st.sampled_from(auto.PURPOSES),
)
def test_neither_names_nor_order_matter(order: list[int], names: list[str], purpose: str) -> None:
    """The same facts under other names, in another order: the same choice."""
    wanted = auto.choose(purpose, SEVERAL).name
    place = next(i for i, entry in enumerate(SEVERAL) if entry.id == wanted)
    renamed = []
    for name, entry in zip(names, SEVERAL, strict=True):
        again = Told(name, "cdtnet", "x", figures=entry.figures)
        object.__setattr__(again, "traits", entry.traits)
        renamed.append(again)

    assert auto.choose(purpose, [renamed[i] for i in order]).name == names[place]


def test_it_is_light() -> None:
    """So that `hz run -n` stays so."""
    code = "import sys, hzcli.auto; print({'torch', 'numpy'} & set(sys.modules))"

    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)

    assert done.stdout == "set()\n"
