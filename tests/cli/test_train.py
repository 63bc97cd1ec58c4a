"""`hz train`: what is given reaches the verb, what it says reaches the screen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from made_shots import Hz

from hzcli.commands import train as command
from hzcli.errors import UsageError
from hzcli.report import Event, Result

GIVEN: list[dict[str, Any]] = []


@pytest.fixture(autouse=True)
def verb(monkeypatch: pytest.MonkeyPatch) -> None:
    """A training that takes two steps and no time."""
    GIVEN.clear()

    def train(recipe: str, data: list[Path], **more: Any) -> Result:
        if recipe == "soup":
            raise UsageError("there is no recipe soup", "try hinet")
        tell = more.pop("on_event")
        GIVEN.append({"recipe": recipe, "data": data, **more})
        for step in (1, 2):
            tell(Event("step", data={"step": step, "loss": 0.5 / step}))
        return Result("train", output=Path("runs"), summary={"step": 2, "loss": 0.25})

    monkeypatch.setattr(command, "train", train)


def test_all_that_is_given_arrives(hz: Hz) -> None:
    """Flags to arguments, one for one."""
    said = hz(
        "train", "hinet", "--data", "a", "--data", "b", "-o", "out", "--resume", "--init", "x",
        "--minutes", "2.5",
        "--steps", "9", "--device", "cpu", "--seed", "3", "--fit", "--freeze", "encoder",
    )  # fmt: skip

    assert said.exit_code == 0
    (call,) = GIVEN
    assert call == {
        "recipe": "hinet", "data": [Path("a"), Path("b")], "output": Path("out"),
        "resume": True, "init": "x", "minutes": 2.5, "steps": 9,
        "device": "cpu", "seed": 3, "fit": True, "freeze": ["encoder"],
    }  # fmt: skip


def test_figures_go_to_stderr_and_the_last_ones_to_stdout(hz: Hz) -> None:
    """So that a log of the training and its result can be kept apart."""
    said = hz("train", "hinet", "--data", "a")

    assert said.err.splitlines() == ["step 1, loss 0.5", "step 2, loss 0.25"]
    assert "step 2, loss 0.25" in said.out


def test_figures_as_json(hz: Hz) -> None:
    """A line a step, then the summary."""
    said = hz("train", "hinet", "--data", "a", "--json", "-q")

    assert [line["event"] for line in said.lines] == ["step", "step", "summary"]
    assert said.lines[-1]["loss"] == 0.25
    assert said.err == ""


def test_an_unknown_recipe_is_2(hz: Hz) -> None:
    """Errors of the verb become exit codes here as well."""
    said = hz("train", "soup", "--data", "a")

    assert said.exit_code == 2
    assert "try hinet" in said.err.lower()
