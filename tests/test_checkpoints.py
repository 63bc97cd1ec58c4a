"""Foreign checkpoints: every wrapper is opened, nothing in a file is ever run."""

from __future__ import annotations

import argparse
import builtins
import collections
import ctypes
import functools
import io
import os
import pickle
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim.lr_scheduler import OneCycleLR

from hzcli import checkpoints
from hzcli.errors import ModelError


def weights() -> dict[str, Tensor]:
    """A few tensors of all kinds: views, halves, counters, single numbers, none at all."""
    base = torch.arange(24, dtype=torch.float32).view(4, 6) / 7
    return {
        "conv.weight": base.clone(),
        "conv.turned": base.t(),
        "conv.part": base[1:3, 2:5],
        "half": torch.tensor([1.5, -2.0]).half(),
        "brain": torch.tensor([0.5, 3.0]).bfloat16(),
        "double": torch.tensor([0.1], dtype=torch.float64),
        "norm.num_batches_tracked": torch.tensor(7),
        "nothing": torch.zeros(0, 3),
    }


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(
        a[k].dtype == b[k].dtype and a[k].shape == b[k].shape and torch.equal(a[k], b[k]) for k in a
    )


class AnnealFunc:
    """Pickles as torch 1.12's OneCycleLR does its static method: getattr(OneCycleLR, name)."""

    def __reduce__(self) -> Any:
        return getattr, (OneCycleLR, "_annealing_cos")


def training(state: Any) -> dict[str, Any]:
    """A checkpoint as HINet's training leaves it: optimiser, scheduler with a function, epoch."""
    net = torch.nn.Linear(3, 2)
    optimiser = torch.optim.Adam(net.parameters())
    net(torch.ones(1, 3)).sum().backward()
    optimiser.step()
    scheduler = {"total_steps": 10, "anneal_func": AnnealFunc(), "_last_lr": [1e-4]}
    return {
        "model": state,
        "optimizer": optimiser.state_dict(),
        "last_epoch": 59,
        "scheduler": scheduler,
    }


WRAPPED: dict[str, Any] = {
    "bare": lambda w: w,
    "model": lambda w: {"model": w, "optimizer": {"state": {}}, "epoch": 3},
    "state_dict": lambda w: {"state_dict": w, "arch": "x", "best_acc": 0.5},
    "net": lambda w: {"net": w},
    "nested": lambda w: {"model": {"state_dict": w}, "epoch": 1},
    "module": lambda w: {f"module.{k}": v for k, v in w.items()},
    "module twice, wrapped": lambda w: {
        "state_dict": {f"module.module.{k}": v for k, v in w.items()}
    },
    "compiled": lambda w: {f"_orig_mod.module.{k}": v for k, v in w.items()},
    "parameters": lambda w: {
        k: torch.nn.Parameter(v, requires_grad=v.is_floating_point())
        if v.is_floating_point()
        else v
        for k, v in w.items()
    },
    "ordered, with thop's counters": lambda w: collections.OrderedDict(
        {**w, "total_ops": torch.zeros(1), "conv.total_params": torch.zeros(1), "epoch": 3}
    ),
    "a training run's": training,
    "options beside": lambda w: {"model": w, "args": argparse.Namespace(lr=1e-4, names=["a"])},
}


@pytest.mark.parametrize("older", [False, True], ids=["zip", "older format"])
@pytest.mark.parametrize("wrapper", WRAPPED)
def test_every_wrapper_gives_the_bare_weights(wrapper: str, older: bool, tmp_path: Path) -> None:
    """Same names, same numbers, same precision, whatever lies around them."""
    path = tmp_path / "x.pth"
    wrapped = WRAPPED[wrapper](weights())
    torch.save(wrapped, path, _use_new_zipfile_serialization=not older)

    assert same(checkpoints.read(path), weights())


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".pkl", ".tar", ".ckpt"])
def test_the_ending_does_not_matter(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"x{suffix}"
    torch.save(weights(), path)

    assert same(checkpoints.read(path), weights())


def test_safetensors_come_back(tmp_path: Path) -> None:
    """What was written is read, prefixes taken off."""
    path = tmp_path / "x.safetensors"
    checkpoints.write({f"module.{k}": v for k, v in weights().items()}, path, {"id": "x"})

    assert same(checkpoints.read(path), weights())
    assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]


def test_a_scheduler_that_pickles_a_function_is_why_there_are_two_readers(tmp_path: Path) -> None:
    """torch's own careful reader stops at it; ours does not, and its function is never fetched."""
    path = tmp_path / "x.pth"
    torch.save(training(weights()), path)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)

    assert same(checkpoints.read(path), weights())


# What a pickle can do, and must not


class Runs:
    """Asks Python to call something when it is unpickled."""

    def __init__(self, call: Any, *args: Any) -> None:
        self.call, self.args = call, args

    def __reduce__(self) -> Any:
        return self.call, self.args


class Sets:
    """Asks for an object whose attributes are then set."""

    def __reduce__(self) -> Any:
        return functools.partial, (print, "ran"), {"x": 1}


def attacks(mark: Path) -> dict[str, Any]:
    code = f"open({str(mark)!r}, 'w').close()"
    inner = pickle.dumps(Runs(os.system, f"touch {mark}"))
    return {
        "os.system": Runs(os.system, f"touch {mark}"),
        "exec": Runs(exec, code),
        "eval": Runs(eval, code),
        "open": Runs(open, str(mark), "w"),
        "import": Runs(builtins.__import__, "os"),
        "getattr": Runs(getattr, Path, "touch"),
        "pathlib": Runs(Path.touch, mark),
        "torch's own loader": Runs(torch.load, str(mark)),
        "partial": Sets(),
        "a process": Runs(subprocess.Popen, ["touch", str(mark)]),
        "a pickle in the pickle": Runs(pickle.loads, inner),
        "a shared library": Runs(ctypes.CDLL, str(mark)),
    }


@pytest.mark.parametrize("where", ["beside", "inside", "optimizer"])
@pytest.mark.parametrize("older", [False, True], ids=["zip", "older format"])
@pytest.mark.parametrize("attack", sorted(attacks(Path("x"))))
def test_nothing_in_a_file_is_run(
    attack: str, older: bool, where: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever a file wants to call, wherever it hides: it is refused, and leaves no trace."""
    mark, path = tmp_path / "ran", tmp_path / "x.pth"
    evil = attacks(mark)[attack]
    content: dict[str, Any] = {"model": weights(), "epoch": 1, "optimizer": {}}
    if where == "inside":
        content["model"]["conv.bias"] = evil
    else:
        content["extra" if where == "beside" else "optimizer"] = {"state": [evil]}
    torch.save(content, path, _use_new_zipfile_serialization=not older)

    with pytest.raises(ModelError, match="refused, nothing was run"):
        checkpoints.read(path)

    assert not mark.exists()
    assert capsys.readouterr().out == ""


def test_names_are_not_even_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that runs on import stays unimported, also under a harmless name."""
    (tmp_path / "easydict.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "easydict", raising=False)
    # A pickle by hand: EasyDict() with the state {"a": 1}.
    state = b"}X\x01\x00\x00\x00aK\x01sb."
    reader = checkpoints._Reader(io.BytesIO(b"\x80\x02ceasydict\nEasyDict\n)R" + state))

    record = reader.load()

    assert type(record).name == "easydict.EasyDict"
    assert "easydict" not in sys.modules
    assert vars(record) == {"args": ()}, "its state was not taken"


def test_records_cannot_be_called() -> None:
    """getattr(OneCycleLR, name) is a record; calling what it stands for ends the reading."""
    called = (
        b"\x80\x02cbuiltins\ngetattr\nctorch.optim.lr_scheduler\nOneCycleLR\n"
        b"X\x0e\x00\x00\x00_annealing_cos\x86R)R."
    )

    with pytest.raises(TypeError, match="not callable"):
        checkpoints._Reader(io.BytesIO(called)).load()


@pytest.mark.parametrize("name", ["os.system", "builtins.eval", "torch.hub.load", "torch.load",
                                  "numpy.load", "torch.optim", "collections", "posix.system",
                                  "torch.storage", "builtins.getattr.x"])  # fmt: skip
def test_what_is_harmless_is_a_short_list(name: str) -> None:
    assert not checkpoints.HARMLESS.fullmatch(name)


# Damage


def test_truncated_files_are_refused(tmp_path: Path) -> None:
    """At whatever byte a download ended."""
    for wrap in (WRAPPED["bare"], WRAPPED["a training run's"]):
        for older in (False, True):
            path = tmp_path / "x.pth"
            torch.save(wrap(weights()), path, _use_new_zipfile_serialization=not older)
            whole = path.read_bytes()
            for share in (0.0, 0.01, 0.3, 0.6, 0.9, 0.999):
                path.write_bytes(whole[: int(share * len(whole))])
                with pytest.raises(ModelError, match=r"x\.pth"):
                    checkpoints.read(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"epoch": 3, "loss": 0.5}, "holds no weights, but epoch, loss"),
        ([1, 2], "holds no weights, but list"),
        ({"model": {}}, "holds no weights"),
        ({"model": {"a": torch.zeros(1), "b": [1, 2]}}, '"b" among the weights'),
        ({"a": torch.zeros(1), 3: torch.zeros(1)}, '"3" among the weights'),
        ({"a": torch.tensor([1.0, float("nan")])}, "no numbers"),
        ({"a": torch.tensor([1.0, float("inf")])}, "no numbers"),
        ({"a": torch.eye(3).to_sparse()}, "no plain tensor"),
        ({"a": torch.zeros(2, dtype=torch.complex64)}, "no plain tensor"),
        (torch.zeros(3), "holds no weights, but Tensor"),
    ],
)  # fmt: skip
def test_what_is_no_weights_is_said(content: Any, said: str, tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save(content, path)

    with pytest.raises(ModelError) as error:
        checkpoints.read(path)

    assert said in error.value.message


def test_a_whole_model_is_no_checkpoint(tmp_path: Path) -> None:
    """torch.save(model) pickles classes: the first is named, with what to save instead."""
    path = tmp_path / "x.pth"
    torch.save(torch.nn.Linear(2, 2), path)

    with pytest.raises(ModelError, match=r"torch\.nn\.modules\.linear\.Linear") as error:
        checkpoints.read(path)

    assert "state_dict()" in error.value.hint


def test_archives_and_other_files_are_refused(tmp_path: Path) -> None:
    """A tar, a zip, a text, a folder and nothing at all."""
    (tmp_path / "a.txt").write_text("hello")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(tmp_path / "a.txt", "storages")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as other:
        other.write(tmp_path / "a.txt")
    (tmp_path / "b.safetensors").write_bytes(b"\x00" * 20)
    for name in ("a.txt", "a.tar", "a.zip", "b.safetensors", "c.pth", "."):
        with pytest.raises(ModelError):
            checkpoints.read(tmp_path / name)


def test_a_tensor_beyond_its_numbers_is_refused(tmp_path: Path) -> None:
    """Sizes in the pickle are not believed: the storage says how much there is."""
    path = tmp_path / "x.pth"
    torch.save(training({"a": torch.arange(4.0)}), path)
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    index = next(name for name in files if name.endswith("data.pkl"))
    one = b"K\x04\x85"  # the size (4,)
    assert one in files[index]
    files[index] = files[index].replace(one, b"K\x05\x85", 1)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)

    with pytest.raises(ModelError, match=r"x\.pth is no readable checkpoint"):
        checkpoints.read(path)
    with open(path, "rb") as file, pytest.raises(ValueError, match="beyond its numbers"):
        checkpoints._zipped(file)
