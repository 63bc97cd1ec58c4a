"""The published HINet: the numbers of its authors' code, and float64 oracles of its layers."""

from __future__ import annotations

import hashlib
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from hzcli.core.lut import lookup
from hzcli.models import hinet_published as hinet
from hzcli.nets.modulated import Modulated

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "hinet.json").read_text())


# --- The rules behind the golden numbers ----------------------------------------------------


def filled(name: str, place: int, like: Tensor) -> Tensor:
    """One tensor of the state by the golden weight rule; `place` counts all keys."""
    if not like.is_floating_point():
        return like
    rule = GOLDEN["weight_rule"]
    i = torch.arange(like.numel(), dtype=torch.float64)
    inner = torch.sin(rule["d"] * i + rule["e"] * place)
    v = torch.sin(rule["a"] * i + rule["b"] * place + rule["c"] + rule["g"] * inner)
    row = like[0].numel() if like.ndim > 1 else 1
    override = next((o for o in rule["overrides"] if re.search(o["match"], name)), None)
    if override is not None:
        scale = override.get("mul", 1.0)
        scale *= math.sqrt(override["row"] / row) if "row" in override else 1
        scale *= math.sqrt(override["fan"] / like.shape[-2]) if "fan" in override else 1
        v = scale * v + override.get("add", 0.0)
    elif name.endswith("running_var"):
        v = 1 + 0.5 * v * v
    elif like.ndim > 1:
        v = v * math.sqrt(rule["gain"] / row)
    else:
        v = 1 + 0.1 * v if name.endswith(".weight") else 0.05 * v
    return v.view(like.shape).float()


def golden_inputs(size: int) -> tuple[Tensor, Tensor]:
    """Picture in [-1, 1] and mask of the golden cases."""
    rule = GOLDEN["image_rule"]
    y = torch.arange(size, dtype=torch.float64).view(-1, 1)
    x = y.T
    channels = [
        rule["m"] + rule["amp"] * torch.sin(rule["p"] * (c + 1) * x + rule["q"] * (c + 2) * y)
        for c in range(3)
    ]
    image = torch.stack(channels)[None].float()
    inside = (y >= size // 4) & (y < 3 * size // 4) & (x < 5 * size // 8)
    return (image - 0.5) / 0.5, inside[None, None].float()


def misfits(t: Tensor, golden: dict) -> list[str]:
    """Which statistics of `t` differ from the golden ones by more than they may."""
    assert list(t.shape) == golden["shape"]
    f = t.double().flatten()
    n = f.numel()
    wave = torch.sin(0.01 * torch.arange(n, dtype=torch.float64))
    loose = {"min": f.min(), "max": f.max(), "first8": f[:8], "mid8": f[n // 2 : n // 2 + 8]}
    tight = {"mean": f.mean(), "std": f.std(), "proj": (f * wave).mean()}
    found = []
    for values, limit in ((loose, golden["tol"]), (tight, golden["tol_stat"])):
        for name, value in values.items():
            error = (value - torch.tensor(golden[name], dtype=torch.float64)).abs().max().item()
            if not error <= limit:
                found.append(f"{name} off by {error:.1e}, may be {limit:.1e}")
    return found


@pytest.fixture(scope="module")
def net() -> hinet.PublishedHINet:
    net = hinet.PublishedHINet().eval()
    state = net.state_dict()
    net.load_state_dict({n: filled(n, k, t) for k, (n, t) in enumerate(state.items())})
    return net


# --- Keys, weights, goldens -----------------------------------------------------------------


def test_keys_and_shapes_are_the_published_ones(net: hinet.PublishedHINet) -> None:
    """2007 keys in the published order and 38,205,139 parameters."""
    expected = GOLDEN["keys"]
    state = net.state_dict()
    lines = [f"{n} {'x'.join(map(str, t.shape))}" for n, t in state.items()]
    parameters = dict(net.named_parameters())
    counts = {
        prefix: [
            sum(n.startswith(prefix) for n in state),
            sum(p.numel() for n, p in parameters.items() if n.startswith(prefix)),
        ]
        for prefix in expected["prefixes"]
    }
    assert counts == expected["prefixes"]
    assert len(lines) == expected["count"] == 2007
    assert sum(p.numel() for p in parameters.values()) == 38_205_139
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == expected["sha256"]


def test_weights_by_rule_are_the_golden_weights(net: hinet.PublishedHINet) -> None:
    """Without this, a golden failure could be the rule's and not the network's."""
    state = net.state_dict()
    for name, first in GOLDEN["weight_check"].items():
        assert state[name].flatten()[:4].tolist() == pytest.approx(first, abs=1e-7)
    floats = [t.double() for t in state.values() if t.is_floating_point()]
    assert sum(t.sum().item() for t in floats) == pytest.approx(GOLDEN["weights_sum"], rel=1e-8)
    squares = sum(t.square().sum().item() for t in floats)
    assert squares == pytest.approx(GOLDEN["weights_sumsq"], rel=1e-8)


@pytest.mark.parametrize("size", [256, 512])
def test_numbers_are_those_of_the_authors_code(net: hinet.PublishedHINet, size: int) -> None:
    """Not told apart here: the raw table (a whole picture's 256 x 256 level lies on the table's
    own places) and the order of the two regions (the attention is symmetric)."""
    image, mask = golden_inputs(size)
    with torch.inference_mode():
        prediction = net.predict(image, mask)
        answer = {
            **net(image, mask),
            "hrnet_out": prediction.hrnet,
            "deconv_out": prediction.deconv,
            "appearance": prediction.appearance,
            **{f"hyper_block{2 - n}": cells for n, cells in enumerate(prediction.cells)},
        }
    golden = GOLDEN["cases"][str(size)]
    assert set(golden) == set(answer)
    assert {n: found for n in golden if (found := misfits(answer[n], golden[n]))} == {}


def test_aligned_prior_is_another_network(net: hinet.PublishedHINet) -> None:
    """The golden numbers tell the two readings of the prior apart, from the second level on."""
    image, mask = golden_inputs(256)
    golden = GOLDEN["cases"]["256"]
    net.prior = "aligned"
    try:
        with torch.inference_mode():
            answer = net(image, mask)
    finally:
        net.prior = "published"
    assert misfits(answer["rgb_level0"], golden["rgb_level0"]) == []
    assert misfits(answer["rgb_level1"], golden["rgb_level1"]) != []
    assert misfits(answer["rgb_level2"], golden["rgb_level2"]) != []


def test_batch_is_its_pictures_one_by_one(net: hinet.PublishedHINet) -> None:
    """Two pictures that are not square, together and alone."""
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(2, 3, 68, 100, generator=generator) * 2 - 1
    mask = torch.rand(2, 1, 68, 100, generator=generator)
    with torch.inference_mode():
        both = net(image, mask)
        second = net(image[1:], mask[1:])
    for name, expected in second.items():
        torch.testing.assert_close(both[name][1:], expected, atol=5e-5, rtol=0)


def test_sizes_that_do_not_nest_are_refused(net: hinet.PublishedHINet) -> None:
    """Levels are a half and a quarter of the picture: multiples of 4 only."""
    with torch.inference_mode():
        prediction = net.predict(*golden_inputs(256))
        with pytest.raises(ValueError, match="66x64"):
            net.render(prediction, torch.zeros(1, 3, 64, 66), torch.zeros(1, 1, 64, 66))


# --- Float64 oracles, one loop per pixel ----------------------------------------------------


def oracle_mlp(v: np.ndarray, p: np.ndarray, basics: list[np.ndarray]) -> np.ndarray:
    """One vector through one predicted MLP, number by number."""
    at = 0
    for basic in basics:
        inputs, outputs = basic.shape
        b_at = at + 10 * inputs
        bias_at = b_at + 10 * outputs
        y = np.empty(outputs)
        for o in range(outputs):
            y[o] = p[bias_at + o]
            for i in range(inputs):
                product = sum(p[at + 10 * i + r] * p[b_at + outputs * r + o] for r in range(10))
                y[o] += v[i] * np.tanh(product) * basic[i, o]
        v = np.where(y >= 0, y, 0.01 * y)
        at = bias_at + outputs
    assert at == len(p)
    return v


def oracle_cell(pixel: int, pixels: int, cells: int) -> int:
    """Nearest cell, ties to even, of a corner-aligned coordinate in [-1, 1]."""
    c = 2 * (pixel / (pixels - 1) - 0.5)
    return int(np.clip(np.rint((c + 1) / 2 * cells - 0.5), 0, cells - 1))


@pytest.mark.parametrize("height,width", [(6, 3), (5, 7), (2, 11)])
def test_local_mlps_against_float64_loops(height: int, width: int) -> None:
    """Whole cells, ragged cells, and fewer rows than cells."""
    widths, grid = (5, 4, 3), 3
    rng = np.random.default_rng(2)
    basics = [rng.normal(size=(1, 1, 1, i, o)) for i, o in [(5, 4), (4, 3)]]
    p = rng.normal(size=(2, grid, grid, Modulated(widths, hinet.RANK).length))
    x = rng.normal(size=(2, 5, height, width))
    mlp = Modulated(widths, hinet.RANK)
    layers = mlp.weights(torch.tensor(p), [torch.tensor(b) for b in basics])
    actual = hinet.run_cells(torch.tensor(x), layers).numpy()
    matrices = [b[0, 0, 0] for b in basics]
    for n, row, column in np.ndindex(2, height, width):
        cell = p[n, oracle_cell(row, height, grid), oracle_cell(column, width, grid)]
        expected = oracle_mlp(x[n, :, row, column], cell, matrices)
        np.testing.assert_allclose(actual[n, :, row, column], expected, atol=1e-12)


@pytest.mark.parametrize("pixels,cells", [(256, 64), (128, 32), (64, 16), (512, 64), (48, 16)])
def test_both_cell_rules_agree_where_cells_are_whole(pixels: int, cells: int) -> None:
    """pixel * cells // pixels is the nearest cell; every cell gets as many pixels."""
    expected = [oracle_cell(i, pixels, cells) for i in range(pixels)]
    assert hinet.cells_of(pixels, cells).tolist() == expected


def test_appearance_mlp_against_float64_loops() -> None:
    """Global weights, and tanh instead of LeakyReLU on the three outputs."""
    torch.manual_seed(3)
    mlp = hinet.AppearanceMlp().double()
    p = torch.randn(1, 2369, dtype=torch.float64) * 0.3
    x = torch.randn(1, 32, 1, 2, dtype=torch.float64)
    actual = mlp(x, p).detach().numpy()
    basics = [b[0].detach().numpy() for b in mlp.basic_params]
    for column in range(2):
        leaky = oracle_mlp(x[0, :, 0, column].numpy(), p[0].numpy(), basics)
        expected = np.tanh(np.where(leaky >= 0, leaky, leaky / 0.01))
        np.testing.assert_allclose(actual[0, :, 0, column], expected, atol=1e-12)


def test_lookup_against_float64_corners() -> None:
    """Trilinear between eight entries of [channel][r][g][b], clamped at the border."""
    rng = np.random.default_rng(4)
    lut = rng.normal(size=(3, 7, 7, 7))
    rgb = rng.uniform(-0.3, 1.3, size=(40, 3))
    given = torch.tensor(rgb.T.reshape(1, 3, 5, 8).copy())
    actual = lookup(torch.tensor(lut)[None], given)[0].flatten(1).numpy()
    for n, colour in enumerate(rgb):
        place = np.clip(colour * 6, 0, 6)
        low = np.minimum(place.astype(int), 5)
        part = place - low
        expected = np.zeros(3)
        for corner in np.ndindex(2, 2, 2):
            weight = np.prod(np.where(corner, part, 1 - part))
            r, g, b = low + corner
            expected += weight * lut[:, r, g, b]
        np.testing.assert_allclose(actual[:, n], expected, atol=1e-12)


@pytest.mark.parametrize("height,width", [(4, 6), (9, 5)])
def test_position_embedding_against_float64_loops(height: int, width: int) -> None:
    """Row, column, sin(linear(row, column)), bilinear table with corners on corners."""
    torch.manual_seed(5)
    embedding = hinet.PositionEmbedding().double()
    places = hinet.coordinates(height, width, torch.device("cpu"))
    actual = embedding(places).detach().numpy()[0]
    table = embedding.fourier_embed.input.detach().numpy().reshape(256, 256, 32)
    weight = embedding.predict_embed.ffm.weight.detach().numpy()
    bias = embedding.predict_embed.ffm.bias.detach().numpy()
    for row, column in np.ndindex(height, width):
        y, x = row / (height - 1), column / (width - 1)
        c = np.array([2 * y - 1, 2 * x - 1])
        ty, tx = min(int(y * 255), 254), min(int(x * 255), 254)
        fy, fx = y * 255 - ty, x * 255 - tx
        looked_up = (1 - fy) * ((1 - fx) * table[ty, tx] + fx * table[ty, tx + 1]) + fy * (
            (1 - fx) * table[ty + 1, tx] + fx * table[ty + 1, tx + 1]
        )
        expected = np.concatenate([c, np.sin(weight @ c + bias), looked_up])
        # coordinates are float32: 6e-8, times 127.5 table steps, times differences of about 5
        np.testing.assert_allclose(actual[:, row, column], expected, atol=5e-5)


@pytest.mark.parametrize("height,width", [(256, 256), (128, 512)])
def test_table_is_raw_for_65536_vectors(height: int, width: int) -> None:
    """As published, whatever the shape of the level and whatever the coordinates."""
    torch.manual_seed(6)
    table = hinet.PositionEmbedding().fourier_embed
    actual = table(torch.full((1, 2, height, width), 0.3))
    assert torch.equal(actual[0].flatten(1).T, table.input[0])


def test_prior_is_read_in_memory_order() -> None:
    """Pixel j reads elements 32 j ... 32 j + 31 of the flattened planes; aligned reads its own."""
    features = torch.randn(2, 32, 3, 4, dtype=torch.float64)
    pad = np.pad(features.numpy(), [(0, 0), (0, 0), (1, 1), (1, 1)], mode="edge")
    up = np.empty((2, 32, 6, 8))
    for row, column in np.ndindex(6, 8):  # centres at (i + 0.5) / 2 - 0.5
        y, x = (row + 0.5) / 2 + 0.5, (column + 0.5) / 2 + 0.5
        (fy, iy), (fx, ix) = math.modf(y), math.modf(x)
        i, j = int(iy), int(ix)
        up[:, :, row, column] = (1 - fy) * ((1 - fx) * pad[..., i, j] + fx * pad[..., i, j + 1])
        up[:, :, row, column] += fy * ((1 - fx) * pad[..., i + 1, j] + fx * pad[..., i + 1, j + 1])
    flat = up.reshape(2, -1)
    # Layout of the features must not matter: channels_last holds the same numbers.
    given = features.contiguous(memory_format=torch.channels_last)
    published = hinet.read_prior(given, 6, 8, "published").numpy()
    for n, j in np.ndindex(2, 48):
        expected = flat[n, 32 * j : 32 * j + 32]
        np.testing.assert_allclose(published[n, :, j // 8, j % 8], expected, atol=1e-12)
    aligned = hinet.read_prior(given, 6, 8, "aligned").numpy()
    np.testing.assert_allclose(aligned, up, atol=1e-12)


def test_coarse_levels_average_the_middle_four() -> None:
    """A half is the mean of 2 x 2, a quarter that of the central 2 x 2 of 4 x 4."""
    x = torch.randn(1, 1, 8, 12, dtype=torch.float64)
    blocks = x[0, 0].unfold(0, 4, 4).unfold(1, 4, 4)  # (2, 3, 4, 4)
    quarter = hinet._resize(x, 2, 3)[0, 0]
    torch.testing.assert_close(quarter, blocks[..., 1:3, 1:3].mean((2, 3)))
    half = hinet._resize(x, 4, 6)
    torch.testing.assert_close(half, torch.nn.functional.avg_pool2d(x, 2))


def test_gradient_reaches_every_parameter() -> None:
    """All three levels and the table together depend on all that is learnt."""
    torch.manual_seed(7)
    net = hinet.PublishedHINet().train()
    answer = net(torch.rand(2, 3, 32, 32) * 2 - 1, torch.rand(2, 1, 32, 32))
    loss = sum(answer[name].square().sum() for name in ("rgb_level0", "rgb_level2", "lut_image"))
    loss.backward()
    still = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []
