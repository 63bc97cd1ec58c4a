"""HINet's native kernel against the processor's path by torch; when it is used."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
import types
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_local_card import function

from hzcli.core.window import Size, Window
from hzcli.nets import local_cpu, local_mlp, local_native
from hzcli.nets.local_mlp import LocalMlp
from hzcli.nets.modulated import Modulated

ROOT = Path(__file__).resolve().parents[2]
KERNEL = "hzcli.nets.local_llvm"
FILES = [
    *("core/llvm.py", "core/llvm_values.py", "core/lookups_llvm.py", "core/run_sums.py"),
    *("nets/local_layers.py", "nets/local_llvm.py"),
]


@pytest.fixture(scope="module")
def kernel() -> None:
    """Where the kernel is needed."""
    pytest.importorskip("llvmlite")


@pytest.fixture
def undecided(monkeypatch: pytest.MonkeyPatch) -> LocalMlp:
    monkeypatch.setattr(local_native, "_believed", {})
    monkeypatch.setattr(local_native, "LEAST", 1)
    local_native._made.cache_clear()
    yield function()
    local_native._made.cache_clear()


def picture(size: Size, seed: int = 1, share: float = 0.5) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise, and a soft mask with holes."""
    rng = torch.Generator().manual_seed(seed)
    rgb = torch.rand(1, 3, size.height, size.width, generator=rng)
    blobs = torch.rand(1, 1, -(-size.height // 9), -(-size.width // 9), generator=rng)
    mask = (blobs * (blobs < share)).repeat_interleave(9, 2).repeat_interleave(9, 3)
    return rgb, mask[..., : size.height, : size.width].contiguous()


def both(
    model: LocalMlp, rgb: torch.Tensor, mask: torch.Tensor, window: Window
) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.inference_mode():
        kinds = (local_native.Decoder, local_cpu.Decoder)
        ours, theirs = (model._region(rgb, mask, window, kind) for kind in kinds)
    return ours, theirs


@st.composite
def cases(draw: st.DrawFn) -> tuple[LocalMlp, Window]:
    """Functions of all shapes, and windows that begin at multiples of 4, of small pictures too."""
    size = Size(draw(st.integers(1, 150)), draw(st.integers(1, 150)))
    top, left = (draw(st.integers(0, (n - 1) // 4)) * 4 for n in (size.height, size.width))
    bottom, right = (
        draw(st.sampled_from([n, min(n, start + 4 * draw(st.integers(1, 30)))]))
        for n, start in ((size.height, top), (size.width, left))
    )
    model = function(
        seed=draw(st.integers(0, 99)),
        width=draw(st.sampled_from([3, 5, 8, 16, 20, 32])),
        hidden=draw(st.tuples(*[st.integers(0, 3)] * 3)),
        rank=draw(st.integers(1, 5)),
        nodes=draw(st.tuples(st.integers(1, 5), st.integers(1, 5))),
        waves=draw(st.integers(1, 12)),
        residual=draw(st.booleans()),
    )
    rng = torch.Generator().manual_seed(7)
    table = torch.randn(1, 3, draw(st.integers(1, 40)), draw(st.integers(1, 40)), generator=rng)
    nodes = draw(st.integers(2, 11))
    lut = torch.rand(1, 3, nodes, nodes, nodes, generator=rng)
    return dataclasses.replace(model, table=table, lut=lut), Window(top, bottom, left, right, size)


@given(case=cases(), seed=st.integers(0, 9), share=st.sampled_from([0.2, 0.6, 2]))
@settings(max_examples=60, deadline=None)
def test_the_kernel_decodes_what_torch_does(kernel, case, seed, share):
    model, window = case
    size = Size(window.bottom - window.top, window.right - window.left)
    rgb, mask = picture(size, seed, share)
    ours, theirs = both(model, rgb, mask, window)
    assert (ours - theirs).abs().max() < 2e-5
    assert torch.equal(ours == rgb, theirs == rgb)


@pytest.mark.parametrize("size", [Size(700, 1100), Size(1, 2100), Size(2100, 3)], ids=str)
def test_blocks_of_all_edges(kernel, size):
    """16 to 64 pixels, several rows of blocks to a call, cut ones."""
    model = function(width=16, hidden=(2, 1, 1), rank=4, nodes=(3, 5), waves=8)
    for seen in (size, Size(size.height * 5, size.width * 5)):
        inside = Window(0, size.height, 0, size.width, seen)
        rgb, mask = picture(size, share=0.9)
        ours, theirs = both(model, rgb, mask, inside)
        assert (ours - theirs).abs().max() < 2e-5
        assert seen != size or (ours - rgb).abs().mean() > 0.05


def test_windows_have_the_bytes_of_the_whole_picture(kernel):
    """Blocks that a window cuts are parts of whole ones, in every rounding."""
    model, size = function(width=16, rank=4, nodes=(3, 4)), Size(240, 344)
    rgb, mask = picture(size, share=2)
    whole, _ = both(model, rgb, mask, Window.whole(size))
    for inner in (Window(0, 60, 0, 344, size), Window(32, 153, 77, 270, size)):
        seen = inner.grow(model.reach.halo, model.reach.align)
        part = (..., *seen.inside(Window.whole(size)))
        got, _ = both(model, rgb[part].contiguous(), mask[part].contiguous(), seen)
        own = (..., *inner.inside(Window.whole(size)))
        assert torch.equal(got[(..., *inner.inside(seen))], whole[own])


@pytest.mark.parametrize("kind", ["native", "torch"])
def test_windows_of_small_pictures(kind):
    """Blocks of odd edges: columns that two levels read differently."""
    if kind == "native":
        pytest.importorskip("llvmlite")
    module = local_native if kind == "native" else local_cpu
    for wide in range(20, 100, 9):
        model, size = function(seed=wide, nodes=(1, 1 + wide % 7)), Size(5, wide)
        rgb, mask = picture(size, share=2)
        with torch.inference_mode():
            whole = model._region(rgb, mask, Window.whole(size), module.Decoder)
            for left in range(4, wide - 8, 4):
                seen = Window(0, 5, left, wide, size)
                part = (..., slice(left, wide))
                got = model._region(rgb[part], mask[part], seen, module.Decoder)
                assert (got[..., 4:] - whole[..., left + 4 :]).abs().max() < 2e-5


def test_tanh_is_exact_to_a_few_roundings(kernel):
    """Against float64, and what is not a number stays none."""
    from llvmlite import ir

    from hzcli.core import llvm
    from hzcli.nets import local_layers

    module = ir.Module("tanh")
    k = llvm.Kernel(module, "work", [llvm.ADDRESS])
    with k.loop(4096, llvm.LANES) as i:
        place = k.arguments[0][i]
        place.put(local_layers.tanh(place.lanes()))
    work, kept = llvm.compiled(k.done().module, "work")
    x = torch.linspace(-11, 11, 4096)
    x[7] = float("nan")
    found = x.clone()
    work(found.data_ptr())
    assert kept is not None
    assert found[7].isnan()
    assert (found.double() - x.double().tanh()).nan_to_num().abs().max() < 3e-7


def test_views_of_larger_arrays_are_read_as_they_are(kernel):
    model, size = function(), Size(60, 70)
    rgb, mask = picture(size)
    window = Window(8, 48, 12, 56, size)
    part = (..., *window.inside(Window.whole(size)))
    ours, _ = both(model, rgb[part], mask[part], window)
    again, _ = both(model, rgb[part].contiguous(), mask[part].contiguous(), window)
    assert torch.equal(ours, again)


def test_threads_do_not_disturb_each_other(kernel):
    """Pictures of different sizes at once, each the same as by itself."""
    works = [
        (function(seed=n, width=8 + 8 * (n % 2)), Size(90 + 31 * n, 200 - 23 * n)) for n in range(6)
    ]

    def run(work: tuple[LocalMlp, Size]) -> torch.Tensor:
        model, size = work
        return both(model, *picture(size), Window.whole(size))[0]

    alone = [run(work) for work in works]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            assert all(map(torch.equal, pool.map(run, works), alone))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1e30, 1e30])
def test_colours_that_are_no_colours_stay_where_they_are(kernel, value):
    """No address comes of them, and other pixels are as without them."""
    model, size = function(nodes=(1, 1)), Size(64, 64)
    rgb, mask = picture(size, share=2)
    clean, _ = both(model, rgb, mask, Window.whole(size))
    rgb[0, :, 30, 41] = value
    found, _ = both(model, rgb, mask, Window.whole(size))
    assert not torch.equal(found[..., 30, 41], clean[..., 30, 41])
    if value != value:
        assert found[..., 30, 41].isnan().all()
    far = torch.ones(64, 64, dtype=torch.bool)
    far[20:41, 30:53] = False  # what reads the pixel through coarser levels
    assert torch.equal(found[..., far], clean[..., far])


def test_large_pictures_are_the_kernels(kernel, undecided, monkeypatch):
    monkeypatch.setattr(local_native, "LEAST", 30 * 40)
    assert local_native.decoder(undecided, Size(30, 40)) is local_native.Decoder
    assert local_native.decoder(undecided, Size(30, 39)) is local_cpu.Decoder
    used = []
    monkeypatch.setattr(
        local_native.Decoder, "colours", lambda self, patch, prior, out: used.append(patch)
    )
    for size, native in ((Size(30, 40), True), (Size(30, 39), False)):
        used.clear()
        with torch.inference_mode():
            undecided.apply(*picture(size), Window.whole(size))
        assert bool(used) == native


def test_without_llvmlite_torch_decodes_and_says_nothing(undecided, monkeypatch):
    for name in [n for n in sys.modules if n.split(".")[0] == "llvmlite"]:
        monkeypatch.delitem(sys.modules, name)
    for name in FILES:
        module = f"hzcli.{name[:-3].replace('/', '.')}"
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, "llvmlite", None)
    size = Size(48, 40)
    rgb, mask = picture(size)
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("error")
        found = undecided.apply(rgb, mask, Window.whole(size))
        expected = undecided._region(rgb, mask, Window.whole(size), local_cpu.Decoder)
    assert local_native.decoder(undecided, size) is local_cpu.Decoder
    assert torch.equal(found, expected)


def failing(monkeypatch: pytest.MonkeyPatch, decode: object) -> None:
    """Put another kernel in the real one's place."""
    module = types.ModuleType(KERNEL)
    module.decode = decode  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, KERNEL, module)
    monkeypatch.setattr(sys.modules["hzcli.nets"], "local_llvm", module, raising=False)


def test_a_kernel_that_cannot_be_made_is_warned_of_once(kernel, undecided, monkeypatch):
    def decode() -> None:
        raise RuntimeError("no such processor\nand more")

    failing(monkeypatch, decode)
    with pytest.warns(RuntimeWarning, match="without its native kernel.*: no such processor$"):
        assert local_native.decoder(undecided, Size(40, 40)) is local_cpu.Decoder
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert local_native.decoder(function(seed=1), Size(50, 40)) is local_cpu.Decoder


@pytest.mark.parametrize(("off", "believed"), [(0.4, True), (1.6, False), (float("nan"), False)])
def test_a_kernel_that_is_wrong_is_not_used(kernel, undecided, monkeypatch, off, believed):
    """The bound is a code of 16 bits."""
    run = LocalMlp._region

    def moved(self: LocalMlp, *seen: object) -> torch.Tensor:
        return run(self, *seen) + (off / 65535 if seen[-1] is local_native.Decoder else 0)

    monkeypatch.setattr(LocalMlp, "_region", moved)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        kind = local_native.decoder(undecided, Size(40, 40))
    assert kind is (local_native.Decoder if believed else local_cpu.Decoder)
    assert ["codes of 16 bits" in str(w.message) for w in said] == [True] * (not believed)


def test_shapes_that_the_kernel_does_not_know_are_torchs(kernel, undecided):
    size = Size(40, 40)
    assert local_native.decoder(undecided, size) is local_native.Decoder
    for n, sizes in ((1, (33, 32, 16)), (3, (16, 16, 24, 16, 3)), (3, (16, 16, 4))):
        mlps = (*undecided.mlps[:n], Modulated(sizes, 2), *undecided.mlps[n + 1 :])
        model = dataclasses.replace(undecided, mlps=mlps)
        assert local_native.decoder(model, size) is local_cpu.Decoder


def test_only_what_decodes_large_pictures_imports_llvmlite():
    texts = {p: p.read_text() for p in (ROOT / "hzcli").rglob("*.py")}
    imports = [p for p, text in texts.items() if re.search("(import|from) llvmlite", text)]
    assert sorted(str(p.relative_to(ROOT / "hzcli")) for p in imports) == FILES
    code = (
        "import sys, hzcli.models, hzcli.models.hinet, hzcli.engine.stream;"
        "sys.exit(any(n.split('.')[0] == 'llvmlite' for n in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_pieces_are_larger_than_torchs():
    """Guard: a call is to decode many blocks."""
    assert local_mlp.CHUNK_LARGE > 16 * local_mlp.CHUNK
