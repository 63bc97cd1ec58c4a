"""The published HINet's parts, each against loops in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from hzcli.core.lut import lookup
from hzcli.models.hinet import as_published as hinet
from hzcli.nets import hinet_heads as heads
from hzcli.nets.hinet_cells import cells_of
from hzcli.nets.modulated import Modulated


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
    p = rng.normal(size=(2, grid, grid, Modulated(widths, heads.RANK).length))
    x = rng.normal(size=(2, 5, height, width))
    mlp = Modulated(widths, heads.RANK)
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
    assert cells_of(pixels, cells).tolist() == expected


def test_appearance_mlp_against_float64_loops() -> None:
    """Global weights, and tanh instead of LeakyReLU on the three outputs."""
    torch.manual_seed(3)
    mlp = heads.AppearanceMlp().double()
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
    embedding = heads.PositionEmbedding().double()
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
    table = heads.PositionEmbedding().fourier_embed
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
