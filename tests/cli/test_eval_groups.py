"""`hz eval` on sets that say how they were made, against other results, at two sizes."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from made_shots import colours, contents, disc, save
from PIL import Image
from rich.console import Console

from hzcli.commands.eval import evaluate
from hzcli.engine.pairing import PairingRules
from hzcli.errors import UsageError
from hzcli.eval_tables import evaluation

RULES = PairingRules(layout="iharmony4")
MADE = {"bsds-1": "retouch", "bsds-2": "xiao", "cars-3": "retouch"}


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """Three composites as `hz synth` writes them, and two sets of results."""
    lines = ["name,source,kind,foreground"]
    for i, (stem, kind) in enumerate(MADE.items()):
        truth = np.clip(colours() * 0.5, 0, 255).astype(np.uint8)
        save(tmp_path / f"set/composite_images/{stem}_1_1.png", colours())
        save(tmp_path / f"set/masks/{stem}_1.png", disc())
        save(tmp_path / f"set/real_images/{stem}.png", truth)
        lines.append(f"{stem}_1_1.png,{stem[:4]},{kind},0.2")
        for place, error in (("new", (20, 10, 200)[i]), ("old", 30)):
            result = np.clip(truth.astype(int) + error, 0, 255).astype(np.uint8)
            save(tmp_path / f"{place}/composite_images/{stem}_1_1.png", result)
    (tmp_path / "set/composites.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def said(result: object) -> str:
    text = io.StringIO()
    evaluation(result, Console(file=text, width=80))  # type: ignore[arg-type]
    return text.getvalue()


def test_tables_by_source_and_kind_with_baselines(made: Path) -> None:
    """Doing nothing, Reinhard and earlier results stand beside each group; at both sizes."""
    result = evaluate(
        made / "new", RULES, composites=made / "set", baselines=["reinhard"],
        against=made / "old", edge=16, output=made / "figures",
    )  # fmt: skip

    assert result.status == "success"
    assert result.summary["protocols"] == ["standard", "standard@16"]
    for protocol in result.summary["protocols"]:
        kinds = result.summary["kinds"][protocol]
        assert {name: group["pictures"] for name, group in kinds.items()} == {
            "all": 3, "retouch": 2, "xiao": 1,
        }  # fmt: skip
        sources = result.summary["sources"][protocol]
        assert {name: group["worse"] for name, group in sources.items()} == {
            "all": 1, "bsds": 0, "cars": 1,
        }  # fmt: skip
        assert kinds["xiao"]["others"].keys() == {"reinhard", "against"}
        # A constant error e has an fMSE of e squared, at every size.
        assert kinds["xiao"]["after"]["fmse"] == pytest.approx(100, rel=1e-3)
        assert kinds["xiao"]["others"]["against"]["fmse"] == pytest.approx(900, rel=1e-3)
        assert kinds["xiao"]["others"]["against"]["ratio"] == pytest.approx(
            900 / kinds["xiao"]["before"]["fmse"], rel=1e-3
        )
        paired = result.summary["paired"][protocol]
        assert (paired["better"], paired["worse"], paired["pictures"]) == (2, 1, 3)

    text = said(result)
    lines = text.splitlines()
    assert max(len(line) for line in lines if not line.startswith("Report: ")) <= 80
    for word in ("retouch", "xiao", "bsds", "cars", "Reinhard", "earlier", "16 x 16 pixels"):
        assert word in text
    assert "2 better, 1 worse" in text


def test_files(made: Path) -> None:
    """eval.json, eval.csv and the sheet; nothing else, and nothing in the folders measured."""
    before = contents(made)

    result = evaluate(made / "new", RULES, composites=made / "set", output=made / "figures")

    assert {path.name for path in result.files} == {"eval.json", "eval.csv", "contact-worst.png"}
    assert {k: v for k, v in contents(made).items() if not k.startswith("figures")} == before
    body = json.loads((made / "figures/eval.json").read_text())
    assert [row["kind"] for row in body["pictures"]] == list(MADE.values())
    with open(made / "figures/eval.csv", newline="") as file:
        assert [row["source"] for row in csv.DictReader(file)] == ["bsds", "bsds", "cars"]
    with Image.open(made / "figures/contact-worst.png") as sheet:
        assert sheet.format == "PNG"


def test_against_an_earlier_report(made: Path) -> None:
    """The same comparison from figures alone."""
    evaluate(made / "old", RULES, composites=made / "set", edge=16, output=made / "figures")
    earlier = made / "figures/eval.json"

    figures = [
        evaluate(made / "new", RULES, composites=made / "set", edge=16, against=path).summary
        for path in (made / "old", earlier)
    ]

    for protocol in ("standard", "standard@16"):
        direct, read = (each["paired"][protocol] for each in figures)
        assert read == pytest.approx(direct)


def test_a_picture_that_the_others_lack_still_counts(made: Path) -> None:
    (made / "old/composite_images/bsds-1_1_1.png").unlink()
    (made / "old/composite_images/bsds-2_1_1.png").write_bytes(b"broken")

    result = evaluate(made / "new", RULES, composites=made / "set", against=made / "old")

    assert result.status == "success"
    assert result.summary["paired"]["standard"]["pictures"] == 1
    rows = [row.as_dict() for row in result.outcomes]
    assert [bool(row["warnings"]) for row in rows] == [False, True, False]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"baselines": ["magic"]}, "magic"),
        ({"edge": 4}, "too small"),
        ({"against": Path("nowhere")}, "does not exist"),
        ({"composites": None, "baselines": ["reinhard"]}, "composites"),
    ],
)
def test_wrong_usage_of_what_is_compared(more: dict, message: str, made: Path) -> None:
    given = {"composites": made / "set", **more}

    with pytest.raises(UsageError, match=message):
        evaluate(made / "new", RULES, **given)
