"""`hz models`: list, info, import and verify, from end to end."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from made_shots import Hz, contents, shot

from hzcli import catalog, models

# One network of each system, the small one where there are two.
VARIANTS = ("cdtnet", "s2crnet-s", "aict", "hdnet-lite", "pctnet")


def checkpoint(path: Path, variant: str, wrap: Any = lambda state: {"model": state}) -> Path:
    """A checkpoint of a published network with seeded weights."""
    torch.manual_seed(0)
    torch.save(wrap(models.published(variant).state_dict()), path)
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("variant", VARIANTS)
def test_authors_weights_come_in_and_work(
    variant: str, bare_hz: Hz, home: Path, tmp_path: Path
) -> None:
    """import recognises the system, list and verify know it, run takes it by name."""
    source = checkpoint(tmp_path / "best.pth", variant)

    said = bare_hz("models", "import", source, "--as", "theirs", "--json")

    assert said.exit_code == 0
    row, summary = said.lines
    system = next(card for card in catalog.CARDS if variant in card.variants)
    assert (row["event"], row["id"], row["model"]) == ("weights", "theirs", system.id)
    assert summary["command"] == "models import"
    made = home / "weights/theirs.safetensors"
    card = json.loads(made.with_suffix(".json").read_text())
    assert card["source"] == {"file": "best.pth", "sha256": sha256(source)}
    assert card["sha256"] == sha256(made)
    assert card["bytes"] == made.stat().st_size
    assert card["code_licence"] == system.code_licence
    assert "their authors" in card["data_terms"]
    assert card["parameters"] == sum(p.numel() for p in models.published(variant).parameters())
    assert card["readings"] == models.readings_of(models.load(made).config)
    assert sorted(contents(home)) == ["weights/theirs.json", "weights/theirs.safetensors"]
    if variant == "aict":  # attention among 4096 tokens: seconds a picture
        return
    assert "theirs" in [line.get("id") for line in bare_hz("models", "--json").lines]
    verified = bare_hz("models", "verify", "theirs", "--json")
    assert verified.exit_code == 0
    assert verified.lines[0]["checked"] == ["sha256", "tensors", "a picture"]
    shot(tmp_path / "shots/a.png")
    ran = bare_hz("run", "shots", "--mask-suffix", "_m", "--model", "theirs", "--json")
    assert (ran.exit_code, ran.lines[0]["status"]) == (0, "done")


def test_precision_stays_as_it_was_stored(bare_hz: Hz, home: Path, tmp_path: Path) -> None:
    """Halves stay halves in the file, and are widened when loaded."""
    checkpoint(
        tmp_path / "x.pth", "hdnet-lite", lambda state: {k: v.half() for k, v in state.items()}
    )

    assert bare_hz("models", "import", "x.pth").exit_code == 0

    state, _ = models.stored(home / "weights/x.safetensors")
    assert {value.dtype for value in state.values()} == {torch.float16}
    assert next(models.load(home / "weights/x.safetensors").parameters()).dtype == torch.float32


def test_a_variant_is_said_where_tensors_leave_a_choice(bare_hz: Hz, tmp_path: Path) -> None:
    """CDTNet and CDTNet (sim) have the same tensors; a variant of another system is refused."""
    checkpoint(tmp_path / "x.pth", "cdtnet")

    said = bare_hz("models", "import", "x.pth", "--variant", "cdtnet-sim", "-o", "here", "--json")

    assert said.lines[0]["readings"]["refinement"] == "False"
    assert models.load(tmp_path / "here/x.safetensors").config.refinement is False
    other = bare_hz("models", "import", "x.pth", "--variant", "aict", "--as", "y")
    assert other.exit_code == 2
    assert "cdtnet, cdtnet-sim" in other.err


def test_weights_are_never_replaced_unasked(bare_hz: Hz, home: Path, tmp_path: Path) -> None:
    """A name that is taken, that came with hz, or that is none."""
    checkpoint(tmp_path / "x.pth", "hdnet-lite")
    assert bare_hz("models", "import", "x.pth").exit_code == 0
    made = home / "weights/x.safetensors"
    made.write_bytes(b"mine")

    said = bare_hz("models", "import", "x.pth")

    assert said.exit_code == 2
    assert "--overwrite" in said.err
    assert made.read_bytes() == b"mine"
    assert bare_hz("models", "import", "x.pth", "-f").exit_code == 0
    assert made.read_bytes() != b"mine"
    for name in ("hinet", "all", "../x", ""):
        assert bare_hz("models", "import", "x.pth", "--as", name).exit_code == 2
    assert sorted(contents(home)) == ["weights/x.json", "weights/x.safetensors"]


def test_what_is_refused_leaves_nothing(bare_hz: Hz, home: Path, tmp_path: Path) -> None:
    """Damaged, foreign and ill-fitting files end with 4, each with its reason."""
    whole = checkpoint(tmp_path / "a.pth", "hdnet-lite").read_bytes()
    (tmp_path / "a.pth").write_bytes(whole[: len(whole) // 2])
    libcom = {"encoder.model.conv1.weight": torch.zeros(32, 4, 3, 3)}
    libcom |= {f"lut.LUT{n}.LUT": torch.zeros(3, 33, 33, 33) for n in range(6)}
    torch.save(libcom, tmp_path / "CDTNet.pth")
    state = models.published("hdnet-lite").state_dict()
    del state["LD.linear.bias"]
    torch.save(state, tmp_path / "b.pth")
    torch.save({"fc.weight": torch.zeros(2, 2)}, tmp_path / "c.pth")
    expected = {
        "a.pth": "no readable checkpoint",
        "CDTNet.pth": "CDTNet of libcom, another network",
        "b.pth": "HDNet: LD.linear.bias is missing",
        "c.pth": "no system that hz knows",
        "nowhere.pth": "there is no file",
    }

    for name, reason in expected.items():
        said = bare_hz("models", "import", name)
        assert said.exit_code == 4, name
        assert reason in " ".join(said.err.split())
        assert name in said.err

    assert contents(home) == {}


def test_verify_finds_what_is_broken(bare_hz: Hz, home: Path, tmp_path: Path) -> None:
    """Another byte, another tensor, a value that is no number: exit code 4, the rest still told."""
    torch.manual_seed(0)
    good = models.published("hdnet-lite").state_dict()
    for name in ("good", "bytes", "nan"):
        torch.save(good, tmp_path / f"{name}.pth")
        assert bare_hz("models", "import", f"{name}.pth").exit_code == 0
    folder = home / "weights"
    from hzcli import checkpoints

    spoilt = {**good, "model_out.1.bias": torch.full((3,), float("nan"))}
    checkpoints.write(spoilt, folder / "nan.safetensors", {})
    card = json.loads((folder / "nan.json").read_text())
    (folder / "nan.json").write_text(
        json.dumps({**card, "sha256": sha256(folder / "nan.safetensors")})
    )
    with open(folder / "bytes.safetensors", "r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x00")

    said = bare_hz("models", "verify", "good", "bytes", "nan", "nowhere", "--json")

    assert said.exit_code == 4
    rows = {line["id"]: line for line in said.lines[:-1]}
    assert {name: row["status"] for name, row in rows.items()} == {
        "good": "done", "bytes": "failed", "nan": "failed", "nowhere": "failed",
    }  # fmt: skip
    assert "sha256" in rows["bytes"]["error"]["message"]
    assert rows["nan"]["checked"] == ["sha256"]
    assert "no finite numbers" in rows["nan"]["error"]["message"]
    text = " ".join(bare_hz("models", "verify", "good", "bytes").out.split())
    assert "ok good good: sha256, tensors, a picture" in text
    assert "bad bytes good: nothing" in text


def test_info_tells_of_weights_files_and_systems(bare_hz: Hz, tmp_path: Path) -> None:
    """By id, by file and by the name of a paper; within 80 columns."""
    checkpoint(tmp_path / "x.pth", "s2crnet-s")
    bare_hz("models", "import", "x.pth", "-o", "here")

    for words in (("hinet",), ("here/x.safetensors",), ("s2crnet-v",), ("cdtnet",)):
        said = bare_hz("models", "info", *words)
        assert said.exit_code == 0
        assert max(len(line) for line in said.out.splitlines()) <= 80
    row = bare_hz("models", "info", "here/x.safetensors", "--json").lines[0]
    assert (row["model"], row["parameters"]) == ("s2crnet", 1_145_472)
    assert bare_hz("models", "info", "hdnet", "--json").lines[0]["variants"] == [
        "hdnet", "hdnet-lite",
    ]  # fmt: skip
    said = bare_hz("models", "info", "nothing")
    assert said.exit_code == 4
    assert "hinet" in said.err


def test_imported_weights_say_how_to_use_them(bare_hz: Hz, tmp_path: Path) -> None:
    """In hz's own folder by name, elsewhere by path; within 80 columns."""
    checkpoint(tmp_path / "x.pth", "pctnet")

    own = bare_hz("models", "import", "x.pth", "--as", "mine")
    elsewhere = bare_hz("models", "import", "x.pth", "-o", "here")

    assert "hz run ... --model mine" in own.out
    assert "hz run ... --weights here/x.safetensors" in elsewhere.out
    assert max(len(line) for line in own.out.splitlines()) <= 80
