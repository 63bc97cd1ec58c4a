"""Affine maps from code to code: against float64, F.interpolate, and themselves in windows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ruled_codes import SIZE, mask, picture, random, same_in_parts
from torch.nn import functional as F

from hzcli.core import affine_codes, grid_codes, native
from hzcli.core.affine import AffineMap
from hzcli.core.affine_codes import CodedMaps
from hzcli.core.window import Size, Window


def maps(seed: int = 1) -> AffineMap:
    """Near the identity, and far enough that colours leave [0, 1]."""
    near = torch.eye(3, 4).reshape(1, 12, 1, 1)
    return AffineMap(near + torch.from_numpy(random(1, 12, 7, 9, seed=seed) - 0.5).float() * 0.4)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("strength", [1.0, 0.4])
@pytest.mark.parametrize("large", [False, True])
def test_codes_are_those_of_the_numbers(mode, align_corners, kind, strength, large) -> None:
    """F.interpolate enlarges in float64, NumPy multiplies, clamps and blends; where there is a
    native kernel, that of large pictures too."""
    codes, held = picture(), mask(kind)
    transform = AffineMap(maps().maps, mode, align_corners)
    rows = codes.copy()
    CodedMaps(transform, strength).recolour(rows, held, Window.whole(SIZE), large=large)
    shape = (SIZE.height, SIZE.width)
    large = F.interpolate(
        transform.maps.double(), shape, mode=mode, align_corners=align_corners
    ).numpy()[0]
    source = codes / 65535
    new = np.einsum("ckyx,yxk->yxc", large.reshape(3, 4, *shape)[:, :3], source)
    new += large.reshape(3, 4, *shape)[:, 3].transpose(1, 2, 0)
    soft = (held / np.iinfo(kind).max * strength)[..., None]
    expected = source + soft * (new.clip(0, 1) - source)
    assert np.abs(rows - expected * 65535).max() < 0.55
    assert np.array_equal(rows[held == 0], codes[held == 0])


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("block", [(8, 2048), (3, 50), (64, 64)], ids=str)
@pytest.mark.parametrize("large", [False, True])
def test_windows_blocks_and_threads_change_no_byte(mode, block, large, monkeypatch) -> None:
    def cut() -> None:
        monkeypatch.setattr(affine_codes, "BLOCK", block)
        monkeypatch.setattr(grid_codes, "PART", 60)

    same_in_parts(lambda: CodedMaps(AffineMap(maps().maps, mode)), cut, large)


@pytest.mark.parametrize("shape", [(1, 1), (1, 17), (5, 15), (3, 16), (40, 333)], ids=str)
def test_large_pictures_are_the_kernels(shape, monkeypatch) -> None:
    """Of any width; nothing beside the part of a picture is touched."""
    pytest.importorskip("llvmlite")
    used, right = [], native.Native.recolour

    def seen(self: native.Native, *args: object) -> None:
        used.append(self)
        right(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(native.Native, "recolour", seen)
    native.kernel("maps")
    used.clear()
    size = Size(*shape)
    codes = (random(shape[0] + 2, shape[1] + 2, 3) * 65536).astype(np.uint16)
    held = (random(*shape, seed=3) * 256).astype(np.uint8)
    plain, fast = codes.copy(), codes.copy()
    for rows, large in ((plain, False), (fast, True)):
        CodedMaps(maps()).recolour(rows[1:-1, 1:-1], held, Window.whole(size), large=large)
    assert used
    assert np.abs(plain.astype(int) - fast).max() <= 1
    fast[1:-1, 1:-1] = codes[1:-1, 1:-1]
    assert np.array_equal(fast, codes)
