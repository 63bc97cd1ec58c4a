"""Losses and schedules against their definitions; windows and close-ups where they should be."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from hzcli.core.lut import Lut3D, identity_lut
from hzcli.core.transform import Thumbnail
from hzcli.train import loop, losses, recipes
from hzcli.train.adversary import Adversary, discriminator
from hzcli.train.compose import Batch, Synthesis
from hzcli.train.objectives import Stage, closer, cropped, modern, predictions

PLAN = recipes.Recipe("any", "hinet", None, Synthesis(), steps=1000, warmup=100, rate=2.0)


def _batch(n: int = 2, edge: int = 32) -> Batch:
    generator = torch.Generator().manual_seed(1)
    truth = torch.rand(n, 3, edge, edge, generator=generator)
    mask = torch.zeros(n, 1, edge, edge)
    mask[0, :, 4:12, 8:24] = 1
    mask[1:, :, 16:30, 2:9] = 1
    composite = truth * (1 - 0.4 * mask)
    zero = torch.zeros(n, dtype=torch.long)
    return Batch(composite, mask, truth, zero, zero)


class _Gain(nn.Module):
    """Multiplies by a learnt factor through a table."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def predict(self, thumb: Thumbnail) -> Lut3D:
        return Lut3D((identity_lut(5) * self.factor).expand(len(thumb.rgb), -1, -1, -1, -1))

    predict_lut = predict


@pytest.mark.parametrize(
    ("schedule", "step", "rate"),
    [
        ("cosine", 99, 2.0), ("cosine", 1000, 0.04), ("cosine0", 550, 1.0), ("cosine0", 1000, 0.0),
        ("constant", 900, 2.0), ("linear", 550, 2.0), ("linear", 775, 1.0), ("linear", 1000, 0.0),
        (((0.0, 1.0), (0.5, 0.1)), 500, 2.0), (((0.0, 1.0), (0.5, 0.1)), 600, 0.2),
        ("cosine", 49, 1.0),
    ],
)  # fmt: skip
def test_rates(schedule, step: int, rate: float):
    assert loop.rate_at(step, replace(PLAN, schedule=schedule)) == pytest.approx(rate, abs=1e-9)


def test_hinets_published_rates():
    """T = 1000: the figures its scheduler gives after 250, 500 and 750 steps."""
    plan = replace(PLAN, warmup=0, rate=1e-4, schedule="cosine0")
    for step, rate in ((251, 8.5244e-5), (501, 4.9843e-5), (751, 1.45341e-5)):
        assert loop.rate_at(step, plan) == pytest.approx(rate, rel=2e-4)


def test_foreground_normalised_counts_the_background_and_small_areas():
    b = _batch()
    wrong = b.truth + 0.1
    expected = 0.01 * 32 * 32 * 3 / (3 * torch.tensor([128.0, 100.0]))
    assert torch.allclose(losses.foreground_normalised(wrong, b.truth, b.mask, 100), expected)


def test_relative_l1_is_summed_over_channels():
    b = _batch()
    assert float(losses.relative_l1(b.truth + 0.1, b.truth, b.mask)) == pytest.approx(0.3, rel=1e-4)


def test_violations_average_over_the_entries_concerned():
    lut = torch.tensor([-0.2, 0.5, 0.7, 1.3, 1.1])
    assert float(losses.violations(lut)) == pytest.approx(0.04 + (0.09 + 0.01) / 2)
    assert float(losses.violations(torch.tensor([0.2, 0.9]))) == 0


def test_the_right_gain_costs_nothing_and_the_gradient_points_to_it():
    b = _batch()
    wrong, right = _Gain(1.0), _Gain(1 / 0.6)
    stage = Stage(32, 32)
    loss = modern(wrong, b, stage).total
    loss.backward()
    assert float(wrong.factor.grad) < 0
    table = modern(right, b, stage).total
    # What remains is the range penalty of a table that brightens.
    excess = ((identity_lut(5) / 0.6).clamp_min(1) - 1).square().mean()
    assert float(table.detach()) == pytest.approx(0.5 * float(excess), rel=1e-3)


def test_a_crop_shows_its_window_of_the_same_prediction():
    b = _batch(edge=64)
    torch.manual_seed(0)
    cut, window = cropped(b, 16)
    assert (window.height, window.width, window.size.height) == (16, 16, 64)
    rows, columns = slice(window.top, window.bottom), slice(window.left, window.right)
    assert torch.equal(cut.truth, b.truth[:, :, rows, columns])
    assert window.top % 4 == 0 and window.left % 4 == 0
    out, _, _, seen = predictions(_Gain(0.5), b, Stage(64, 64, crop=16))
    assert out is not None and torch.allclose(out, seen.composite * 0.5, atol=1e-6)


def test_a_closeup_is_the_bounding_box():
    b = _batch()
    near = closer(b, 8)
    assert torch.allclose(near.mask[0], torch.ones(1, 8, 8), atol=1e-5)
    assert near.mask[1].min() > 0.9  # a box of 7 columns is stretched a little beyond
    box = b.truth[:1, :, 4:12, 8:24]
    wanted = nn.functional.interpolate(box, (8, 8), mode="bilinear", align_corners=False)
    assert torch.allclose(near.truth[:1], wanted, atol=1e-5)


def test_the_discriminator_learns_to_tell_and_has_the_published_size():
    assert sum(p.numel() for p in discriminator().parameters()) == 4_316_545
    assert discriminator()(torch.zeros(1, 3, 256, 256)).shape == (1, 1, 12, 12)
    torch.manual_seed(0)
    adversary = Adversary(0.01, "cpu")
    real, fake = torch.rand(4, 3, 96, 96) * 0.2, torch.rand(4, 3, 96, 96) * 0.2 + 0.7
    for _ in range(6):
        adversary.learn(real, fake)
    adversary.net.eval()
    assert adversary.net(real).mean() > adversary.net(fake).mean() + 0.3
    fake.requires_grad_(True)
    loss = adversary.fooled(fake)
    loss.backward()
    assert fake.grad is not None and fake.grad.abs().sum() > 0
    assert float(loss.detach()) <= 0.01 * 30


def test_recipes_survive_a_checkpoint():
    for name in ("hinet", "hinet-paper"):
        recipe = recipes.get(name)
        assert recipes.Recipe.from_dict(recipe.as_dict()) == recipe
