"""`hz train`, the verb: what it says of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from hzcli.commands import train as command
from hzcli.errors import UsageError
from hzcli.train import export, loop


@pytest.mark.parametrize("best", [500, 716])
def test_the_summary_has_the_best_figures_and_the_whole_time(
    best: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = [
        {"step": 500, "minutes": 7.4, "ratio": 0.53},
        {"step": 716, "minutes": 10.1, "ratio": 0.54},
    ]
    done = {"step": 716, "best": best, "history": history}
    monkeypatch.setattr(loop, "train", lambda *_, **__: done)
    monkeypatch.setattr(export, "export", lambda folder: folder / "hinet.safetensors")
    said = command.train("hinet", [tmp_path], output=tmp_path / "run", device="cpu").summary
    assert (said["step"], said["minutes"], said["best_step"]) == (716, 10.1, best)
    assert said["ratio"] == (0.53 if best == 500 else 0.54)


def test_nothing_is_frozen_where_a_table_alone_is_refitted(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="alone"):
        command.train("hinet-table", [tmp_path], freeze=["encoder"], device="cpu")
