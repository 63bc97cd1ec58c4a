"""HINet's kernel, run by Triton's interpreter, against the processor's path; when it is used."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import subprocess
import sys
import types
import warnings
from pathlib import Path

import pytest
import torch

from hzcli.core.window import Size, Window
from hzcli.nets import local_card
from hzcli.nets.local_mlp import LocalMlp
from hzcli.nets.modulated import Modulated

ROOT = Path(__file__).resolve().parents[2]
KERNEL = "hzcli.nets.local_triton"
# What the interpreter runs: widths and features that fill the kernel's matrices and that do not,
# every depth, odd ends, windows inside the picture, cells and blocks of all sorts.
CASES = {
    "as it ships": {"size": (24, 20), "hidden": (2, 1, 1), "rank": 4},
    "no table to add to": {"size": (9, 13), "nodes": (1, 1), "residual": False},
    "many pixels a block": {"size": (17, 33), "width": 20, "nodes": (1, 1), "waves": 15},
    "deep, narrow, a window": {
        "size": (39, 42), "window": (8, 28, 4, 36), "width": 5, "hidden": (3, 2, 1), "nodes": (1, 2)
    },
}  # fmt: skip


def function(
    seed: int = 0,
    width: int = 16,
    hidden: tuple[int, int, int] = (1, 1, 1),
    rank: int = 2,
    nodes: tuple[int, int] = (2, 2),
    waves: int = 8,
    residual: bool = True,
) -> LocalMlp:
    """A function that changes from place to place and from block to block."""
    rng = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=rng)

    fans = (2 + waves + 3 + 4 + prior for prior in (0, width, width))
    levels = [
        Modulated((fan, *[width] * (n + 1)), rank) for fan, n in zip(fans, hidden, strict=True)
    ]
    mlps = (*levels, Modulated((*[width] * 4, 3), rank))
    return LocalMlp(
        mlps=mlps,
        maps=tuple(random(1, mlp.length, *nodes) * 0.7 for mlp in levels),
        appearance=random(1, mlps[3].length) * 0.7,
        basics=tuple(
            tuple(random(a, b) * (3 / a) ** 0.5 for a, b in zip(m.sizes, m.sizes[1:], strict=False))
            for m in mlps
        ),
        waves=random(2, waves) * 2,
        phases=random(waves),
        table=random(1, 3, 6, 7),
        lut=torch.rand(1, 3, 5, 5, 5, generator=rng),
        residual=residual,
    )


def seen(case: str) -> tuple[LocalMlp, torch.Tensor, torch.Tensor, Window]:
    """A function, and a window of a picture whose mask leaves out some blocks of it."""
    given = dict(CASES[case])
    size = Size(*given.pop("size"))
    window = Window(*given.pop("window", (0, size.height, 0, size.width)), size)
    rng = torch.Generator().manual_seed(1)
    rgb = torch.rand(1, 3, size.height, size.width, generator=rng)
    mask = torch.rand(1, 1, size.height, size.width, generator=rng)
    mask[..., : size.width // 2] = 0
    mask[..., : size.height // 3, :] = 0
    inside = (..., *window.inside(Window.whole(size)))
    return function(**given), rgb[inside], mask[inside], window


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """What the kernel makes of each case, in a process where Triton interprets it."""
    pytest.importorskip("triton")
    path = tmp_path_factory.mktemp("kernel") / "found.pt"
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, __file__, str(path)], env=environment, check=True, timeout=280)
    return torch.load(path, weights_only=True)


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_the_kernel_decodes_what_the_processor_does(interpreted, case):
    model, rgb, mask, window = seen(case)
    got = interpreted[case]
    assert (got - model.apply(rgb, mask, window)).abs().max() < 5e-6
    assert torch.equal(got == rgb, model.apply(rgb, mask, window) == rgb)


def test_cases_move_colours_and_leave_blocks_out():
    """Guard: where nothing changes any kernel would do."""
    for case in CASES:
        model, rgb, mask, window = seen(case)
        moved = (model.apply(rgb, mask, window) - rgb).abs().amax(1, keepdim=True)
        assert moved[mask > 0].mean() > 0.1
    model, rgb, mask, window = seen("as it ships")
    assert (model.apply(rgb, mask, window) == rgb).float().mean() > 0.2


@pytest.fixture
def undecided(monkeypatch: pytest.MonkeyPatch) -> LocalMlp:
    monkeypatch.setattr(local_card, "_believed", {})
    return function()


def region(model: LocalMlp) -> torch.Tensor | None:
    rgb, mask = torch.rand(1, 3, 24, 20), torch.ones(1, 1, 24, 20)
    return local_card.region(model, rgb, mask, Window.whole(Size(24, 20)))


def kernel(monkeypatch: pytest.MonkeyPatch, fill: float) -> None:
    """Put a kernel in Triton's place that writes `fill` everywhere."""

    class Fake:
        def __getitem__(self, grid: tuple[int, int]) -> object:
            return lambda rgb, mask, prior, out, *rest, **numbers: out.fill_(fill)

    module = types.ModuleType(KERNEL)
    module.decode = Fake()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, KERNEL, module)


def test_without_triton_torch_decodes_and_one_warning_says_so(undecided, monkeypatch):
    monkeypatch.setitem(sys.modules, KERNEL, None)
    with pytest.warns(RuntimeWarning, match="without its kernel on cpu"):
        assert region(undecided) is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert region(undecided) is None
        assert region(function(seed=1)) is None  # another picture's, of the same shapes


@pytest.mark.parametrize("fill", [0.5, float("nan")])
def test_a_kernel_that_is_wrong_is_not_used(undecided, monkeypatch, fill):
    kernel(monkeypatch, fill)
    with pytest.warns(RuntimeWarning, match="codes of 16 bits"):
        assert region(undecided) is None


@pytest.mark.parametrize("off", [0.4, 1.6])
def test_the_bound_is_a_code_of_16_bits(undecided, monkeypatch, off):
    monkeypatch.setattr(LocalMlp, "_region", lambda *_: torch.full((), 0.25 + off / 65535))
    kernel(monkeypatch, 0.25)
    if off < 1:
        assert (region(undecided) == 0.25).all()
    else:
        with pytest.warns(RuntimeWarning, match=r"by 1\.6 codes"):
            assert region(undecided) is None


@pytest.mark.parametrize("change", ["float64", "too deep", "wide inside"])
def test_what_the_kernel_cannot_decode_is_left_to_torch(undecided, monkeypatch, change):
    kernel(monkeypatch, 0.5)
    monkeypatch.setattr(local_card, "_agrees", lambda *_: True)
    assert region(undecided) is not None
    sizes = {"too deep": (33, 16, 16, 16, 16, 16), "wide inside": (33, 32, 16)}.get(change)
    rgb, mask = torch.rand(1, 3, 8, 8), torch.ones(1, 1, 8, 8)
    model = undecided
    if sizes is None:
        rgb = rgb.double()
    else:
        mlps = (model.mlps[0], Modulated(sizes, 2), *model.mlps[2:])
        model = dataclasses.replace(model, mlps=mlps)
    assert local_card.region(model, rgb, mask, Window.whole(Size(8, 8))) is None


class OnCard(torch.Tensor):
    device = torch.device("cuda")  # as a picture's that lies there


@pytest.mark.parametrize("kernels", [True, False])
def test_only_a_cards_pictures_ask_for_the_kernel(monkeypatch, kernels):
    asked = []

    def ask(model: LocalMlp, rgb: torch.Tensor, *rest: object) -> str | None:
        asked.append(rgb)
        return "by the kernel" if kernels else None

    monkeypatch.setattr(local_card, "region", ask)
    monkeypatch.setattr(LocalMlp, "_region", lambda *_: "by torch")
    rgb, mask, window = torch.rand(1, 3, 8, 8), torch.ones(1, 1, 8, 8), Window.whole(Size(8, 8))
    assert function().apply(rgb, mask, window) == "by torch"
    assert not asked
    found = function().apply(rgb.as_subclass(OnCard), mask, window)
    assert (found, len(asked)) == ("by the kernel" if kernels else "by torch", 1)


def test_no_triton_is_needed_to_import_what_decides():
    """Guard: here the kernel's file is the only one that imports it."""
    names = [p.name for p in (ROOT / "hzcli").rglob("*.py") if "import triton" in p.read_text()]
    assert names == ["local_triton.py"]
    assert importlib.util.find_spec(KERNEL) is not None


def interpret(path: str) -> None:
    torch.set_num_threads(1)
    with torch.no_grad():
        torch.save({case: local_card.decode(*seen(case)) for case in CASES}, path)


if __name__ == "__main__":
    interpret(sys.argv[1])
