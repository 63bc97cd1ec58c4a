"""HDNet's equations and RAIN, against float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hzcli.models.hdnet import dynamics
from hzcli.nets.rain import Rain, rain_


@pytest.fixture(autouse=True)
def _no_gradients(request: pytest.FixtureRequest):
    """Nothing here learns, except where the contract says so."""
    with torch.set_grad_enabled("gradient" in request.node.name):
        yield


def features(n: int = 9, soft: bool = False, seed: int = 0) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(2, 6, n, n + 2, generator=draw) + 0.5
    mask = torch.rand(2, 1, n, n + 2, generator=draw)
    return x, mask if soft else (mask > 0.6).float()


def dense_coded(x: Tensor, m: Tensor) -> Tensor:
    """phi_ref as coded, over all N x N pairs, float64: (C, N) and (N,)."""
    query, support = (x * m).double(), (x * (1 - m)).double()
    value, index = (query.T @ support).max(1)
    return value.softmax(0) * support[:, index]


KINDS = ("binary", "soft", "empty", "full", "nowhere sure", "opposite")


@pytest.mark.parametrize("kind", KINDS)
def test_local_dynamics_equal_all_pairs(kind: str, monkeypatch: pytest.MonkeyPatch):
    """The form that looks at foreground and background alone is exact, in any blocks."""
    monkeypatch.setattr(dynamics, "QUERIES", 7)
    monkeypatch.setattr(dynamics, "SUPPORTS", 11)
    x, mask = features(soft=kind == "soft")
    x *= 0.3  # products near 0, so that places of 0 have a share in the softmax
    if kind == "opposite":  # no product above 0: a place of 0 is the best
        x = torch.lerp(x.abs(), -x.abs(), mask)
        x[:, :, 0, :3], mask[:, :, 0, :3] = x[:, :, 0, 3:6], 1  # but for a few
    if kind == "soft":
        mask = mask.masked_fill(mask > 0.8, 1).masked_fill(mask < 0.3, 0)
    mask = {"empty": mask * 0, "full": mask * 0 + 1, "nowhere sure": mask * 0.8 + 0.1}.get(
        kind, mask
    )
    layer = dynamics.LocalDynamics(6, "coded", 1)
    found = layer(x, mask)
    weight, bias = layer.linear.weight[:, :, 0].double(), layer.linear.bias.double()
    for b in range(2):
        flat, m = x[b].flatten(1), mask[b].flatten()
        both = torch.cat([dense_coded(flat, m), (flat * m).double()])
        expected = (weight @ both + bias[:, None]) * m + flat * (1 - m)
        assert (found[b].flatten(1) - expected).abs().max() < 1e-5


@pytest.mark.parametrize("k", [1, 3, 500])
def test_paper_dynamics_equal_equations(k: int, monkeypatch: pytest.MonkeyPatch):
    """Eqs. (2) to (5) in float64, place by place."""
    monkeypatch.setattr(dynamics, "SUPPORTS", 11)
    x, mask = features()
    layer = dynamics.LocalDynamics(6, "paper", k)
    found = layer(x, mask)[0].flatten(1).double()
    flat, m = x[0].flatten(1).double(), mask[0].flatten()
    weight, bias = layer.linear.weight[:, :, 0].double(), layer.linear.bias.double()
    background = flat[:, m == 0]
    for i in range(len(m)):
        f = flat[:, i]
        expected = f
        if m[i] == 1:
            cosine = (f @ background) / f.norm() / background.norm(dim=0)
            top = cosine.topk(min(k, len(cosine)))
            reference = (top.values.softmax(0) * background[:, top.indices]).sum(1)
            expected = weight @ torch.cat([reference, f]) + bias
        assert (found[:, i] - expected).abs().max() < 1e-5


@pytest.mark.parametrize("soft", [False, True])
def test_rain_equals_its_definition(soft: bool):
    """Written out in float64; and the same in place, in rows."""
    x, mask = features(soft=soft)
    x = x * 3 + 20  # a mean that drowns careless sums
    mask[1] = 0  # an empty region
    norm = Rain(6)
    for n, parameter in enumerate(norm.parameters()):
        parameter.copy_(torch.linspace(-0.3, 0.4, 6).roll(n))
    g_f, b_f, g_b, b_b = (p.double()[None, :, None, None] for p in norm.parameters())
    y, m = x.double(), mask.double()

    def statistics(r: Tensor) -> tuple[Tensor, Tensor]:
        n = r.sum((2, 3), keepdim=True) + 1e-5
        mean = (y * r).sum((2, 3), keepdim=True) / n
        return mean, ((r * (y - mean)).square().sum((2, 3), keepdim=True) / n + 1e-5).sqrt()

    (mu_f, s_f), (mu_b, s_b) = statistics(m), statistics(1 - m)
    front = ((y - mu_f) / s_f * s_b + mu_b) * (1 + g_f) + b_f
    back = (y - mu_b) / s_b * (1 + g_b) + b_b
    expected = front * m + back * (1 - m)
    found = norm(x, mask)
    assert (found[:1] - expected[:1]).abs().max() < 3e-5
    # Without a foreground the deviation is sqrt(1e-5), and float32 shows: only of those pixels.
    assert (found[1:] - expected[1:]).abs().max() < 3e-5
    alone = x[:1].clone(memory_format=torch.channels_last)
    assert (rain_(alone, mask[:1], norm) - expected[:1]).abs().max() < 3e-5
