"""Colours that a model has made, blended into large pictures by a native kernel."""

from __future__ import annotations

import numpy as np
import pytest
from memory_pictures import Blur, Position, colours, expected, run, soft_disc

from hzcli.core import native


@pytest.mark.parametrize("transform", [Blur(), Position()], ids=["blur", "position"])
@pytest.mark.parametrize(("depth", "mask_depth"), [(8, 16), (16, 8)])
@pytest.mark.parametrize("strength", [1.0, 0.4])
def test_large_pictures_are_blended_by_a_kernel(
    transform, depth, mask_depth, strength, monkeypatch
):
    """To the same codes, tile by tile; and what it does is counted as well."""
    pytest.importorskip("llvmlite")
    picture, mask = colours(90, 77, depth), soft_disc(90, 77, mask_depth, (0.4, 0.6), 30)
    used, right = [], native.planes
    monkeypatch.setattr(native, "planes", lambda planes: used.append(planes) or right(planes))
    how = {"bands": (40, 33), "strength": strength}
    plain, theirs = run(picture, mask, transform, **how)
    assert not used
    monkeypatch.setattr(native, "LEAST", picture[..., 0].size)
    output, ours = run(picture, mask, transform, **how)
    assert len(used) > 3
    assert np.abs(output.array - expected(picture, mask, transform, strength)).max() < 0.54
    assert np.abs(output.array.astype(int) - plain.array).max() <= 1
    assert np.array_equal(output.array[mask == 0], plain.array[mask == 0])
    assert ours.change_mean == pytest.approx(theirs.change_mean, abs=2e-3)
    assert ours.change_p99 == pytest.approx(theirs.change_p99, abs=0.1)
