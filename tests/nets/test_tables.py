"""Tables that change little change less: `doubted`, against its closed form in float64."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hzcli.core.lut import identity_lut
from hzcli.nets.doubt import EVEN
from hzcli.nets.tables import doubted


def model(doubt: float, training: bool = False) -> SimpleNamespace:
    return SimpleNamespace(config=SimpleNamespace(doubt=doubt), training=training)


def lifted(levels: list[float]) -> Tensor:
    """Tables that add so many 8-bit levels to every colour: (B, 3, 5, 5, 5)."""
    return identity_lut(5) + torch.tensor(levels).view(-1, 1, 1, 1, 1) / 255


def shown(count: int) -> tuple[Tensor, Tensor]:
    """Pictures and masks, half of them background."""
    mask = torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    mask[..., :4] = 0
    return torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(2)), mask


@given(
    st.lists(st.floats(-90, 90), min_size=1, max_size=4),
    st.floats(0.5, 300),
    st.sampled_from([1.0, 9.0]),
)
@settings(deadline=None)
def test_a_change_is_multiplied_by_what_its_size_says(
    levels: list[float], doubt: float, most: float
) -> None:
    found = doubted(model(doubt), lifted(levels), *shown(len(levels)), most)
    for table, level in zip(found, levels, strict=True):
        share = min(most, (1 + doubt / 17**2) * level**2 / (level**2 + doubt))
        wanted = identity_lut(5).double() + share * level / 255
        assert (table - wanted).abs().max() < 1e-5


def test_only_the_foreground_counts_by_its_mask() -> None:
    """A table that changes darks alone, of a picture whose darks lie outside the mask or at a
    fifth of it."""
    table = identity_lut(3)[None].clone()
    table[:, :, 0, 0, 0] += 0.1
    rgb, mask = torch.ones(1, 3, 1, 4), torch.tensor([0.0, 0.2, 1.0, 0.8]).view(1, 1, 1, 4)
    rgb[..., :2] = 0
    found = doubted(model(20.0), table, rgb, mask)
    mean = 0.2 * 25.5**2 / 2
    share = (1 + 20 / EVEN**2) * mean / (mean + 20)
    assert found[0, 0, 0, 0, 0].item() == pytest.approx(0.1 * share, abs=1e-6)


def test_a_change_of_that_size_stays_and_none_is_made() -> None:
    found = doubted(model(20.0), lifted([EVEN, 0.0]), *shown(2))
    assert torch.allclose(found, lifted([EVEN, 0.0]), atol=1e-5)
    nothing = doubted(model(20.0), lifted([30.0]), shown(1)[0], torch.zeros(1, 1, 8, 8))
    assert torch.equal(nothing, lifted([0.0]))


@pytest.mark.parametrize("of", [model(0.0), model(20.0, training=True)], ids=["none", "training"])
def test_else_tables_stay_as_they_are(of: SimpleNamespace) -> None:
    table = lifted([3.0])
    assert doubted(of, table, *shown(1)) is table
