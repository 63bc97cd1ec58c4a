"""The foreground that looks are learnt from, in sRGB whatever the picture is in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from looks_by_rule import Blurring, Held, Model, delivered_by, picture, soft_mask
from torch import Tensor

from hzcli.core.window import Window
from hzcli.engine.colour import Colour
from hzcli.engine.looks import looks, spaces
from hzcli.engine.looks.foreground import Part, foreground
from hzcli.engine.looks.spaces import SPACES, SRGB
from hzcli.io.profiles import profile


def test_parts_are_what_a_run_delivers() -> None:
    """Every pixel with mask > 0 once, with the colours that the engine blends in."""
    model = Model(Blurring(0.3))
    wanted = delivered_by(model)
    mask = soft_mask().codes
    with foreground(picture(), soft_mask(), model) as seen:
        parts = list(seen.parts())
        assert seen.inside == np.count_nonzero(mask)
    rgb, soft, result = (np.concatenate(x) for x in zip(*map(_of, parts), strict=True))

    made = rgb + soft[:, None] * (np.clip(result, 0, 1) - rgb)

    order = np.lexsort(np.round(rgb.T * 255))
    inside = mask > 0
    source = picture().codes[inside] / 255
    other = np.lexsort(np.round(source.T * 255))
    assert np.abs(np.sort(made, 0) - np.sort(wanted[inside], 0)).max() < 1e-4
    assert np.abs(rgb[order] - source[other]).max() < 1e-6


def _of(part: Part) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return part.rgb, part.soft, part.result


class Channels:
    channels = "rgb"


@dataclass(frozen=True)
class Shown(Held):
    """With a header, as files have it."""

    header: Any = field(default_factory=Channels)


@pytest.mark.parametrize("name", ["adobergb", "p3", "prophoto"])
def test_a_look_is_found_in_srgb(name: str) -> None:
    """Of a picture in another space it is that of the picture converted beforehand, within the
    rounding of 16 bits; taken for sRGB, it would be another."""
    there = spaces.convert(0.2 + 0.5 * picture().codes / 255, SRGB, SPACES[name])
    own = Shown(np.rint(65535 * there).astype(np.uint16), 16)
    before = spaces.convert(own.codes / 65535, SPACES[name], SRGB)
    same = Shown(np.rint(65535 * before).astype(np.uint16), 16)
    tables, parts = [], []
    for shown, colour in ((own, Colour(profile(name))), (same, None), (own, None)):
        with foreground(shown, soft_mask(), Model(Blurring()), colour=colour) as seen:
            tables.append(looks.look_of(seen).table)
            parts.append(next(seen.parts()).rgb)

    # A profile's own numbers are rounded too: that is a hundredth of a level.
    assert np.abs(parts[0] - parts[1]).max() < 3 / 65535
    # What is rounded may fall into another bin of colours.
    away = 255 * np.abs(tables[0] - tables[1])
    assert away.max() < 0.5 and away.mean() < 0.05
    assert np.abs(tables[2] - tables[1]).max() > 1 / 255


def test_a_look_of_a_grey_picture_is_measured_as_it_is_delivered() -> None:
    """Of what a model makes of it, a grey picture keeps the luma."""

    class Warm(Blurring):
        def apply(self, rgb: Tensor, mask: Tensor, window: Window) -> Tensor:
            return rgb * torch.tensor([1.0, 0.9, 0.6]).view(1, 3, 1, 1)

    grey = Shown(np.repeat(picture().codes[..., :1], 3, axis=2))
    grey.header.channels = "grey"
    with foreground(grey, soft_mask(), Model(Warm())) as seen:
        part = next(seen.parts())

    luma = 0.2126 + 0.9 * 0.7152 + 0.6 * 0.0722
    assert np.abs(part.result - luma * part.rgb).max() < 1e-6
