"""Looks for hosts that work in other colour spaces."""

from __future__ import annotations

import numpy as np
import pytest

from hzcli.core import tetra
from hzcli.engine.looks import looks, spaces
from hzcli.engine.looks.looks import PictureLook
from hzcli.engine.looks.spaces import SPACES, SRGB


def test_known_matrices() -> None:
    """sRGB's as IEC 61966-2-1 prints it, Adobe RGB's as Adobe does; white stays white."""
    srgb = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    adobe = [[0.57667, 0.18556, 0.18823], [0.29734, 0.62736, 0.07529], [0.02703, 0.07069, 0.99134]]
    assert np.abs(SPACES["srgb"].to_xyz() - srgb).max() < 1e-4
    assert np.abs(SPACES["adobergb"].to_xyz() - adobe).max() < 1e-5
    for space in SPACES.values():
        assert np.abs(spaces.convert(np.ones(3), SRGB, space) - 1).max() < 1e-12


@pytest.mark.parametrize("name", ["adobergb", "prophoto", "p3"])
def test_conversions_agree_with_another_library(name: str) -> None:
    """colour-science's spaces, Bradford's adaptation."""
    colour = pytest.importorskip("colour")
    title = {"adobergb": "Adobe RGB (1998)", "prophoto": "ProPhoto RGB", "p3": "Display P3"}[name]
    rgb = np.random.default_rng(6).random((500, 3))
    wanted = colour.RGB_to_RGB(
        rgb, "sRGB", title, "Bradford", apply_cctf_decoding=True, apply_cctf_encoding=True
    )

    found = spaces.convert(rgb, SRGB, SPACES[name])

    # As light: near black, curves blow up what is rounded in the library's matrices.
    light = [SPACES[name].decode(x) for x in (found, wanted)]
    assert np.abs(light[0] - light[1]).max() < 4e-4
    assert np.abs(spaces.convert(found, SPACES[name], SRGB) - rgb).max() < 1e-12


@pytest.mark.parametrize("name", SPACES)
def test_doing_nothing_is_the_same_everywhere(name: str) -> None:
    """The identity's table in any space is the identity."""
    table = looks.table_of(PictureLook(table=spaces.nodes(2)), 17, space=SPACES[name])
    assert np.abs(table - spaces.nodes(17)).max() < 1e-6  # sRGB's curve has a gap of 1e-8


@pytest.mark.parametrize("name", ["adobergb", "prophoto", "p3"])
def test_a_host_in_another_space_gets_the_same_picture(name: str) -> None:
    """Convert, look up, convert back: as near as a table's interpolation allows."""
    look = PictureLook(table=spaces.nodes(33) ** 1.1 * [0.9, 0.95, 0.8] + [0.05, 0.0, 0.1])
    rgb = np.random.default_rng(7).random((5000, 3))
    table = looks.table_of(look, 65, space=SPACES[name])

    there = spaces.convert(rgb, SRGB, SPACES[name])
    found = spaces.convert(tetra.interpolate(table, there), SPACES[name], SRGB)

    away = 255 * np.abs(np.clip(found, 0, 1) - look(rgb))
    assert away.mean() < 0.2
    assert np.percentile(away, 99) < 2
    # Taken for sRGB's, the same table is far off: the test would notice.
    assert 255 * np.abs(tetra.interpolate(table, rgb) - look(rgb)).mean() > 4 * away.mean()
