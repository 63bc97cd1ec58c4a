"""HINet's aligned decoding: layers against float64, laws against the whole picture."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from small_hinets import COMPACT, PAPER, picture, transform_of
from small_hinets import network as network_of

from hzcli.core.lut import lookup
from hzcli.core.transform import Thumbnail
from hzcli.core.window import Size, Window, bands
from hzcli.engine.recolour import Band, Recolour
from hzcli.models.hinet import HINet, LocalMlp
from hzcli.nets import cells, local_cpu, local_mlp, local_native

SIZES = [(1, 1), (1, 37), (37, 1), (3, 5), (64, 64), (97, 130), (211, 61), (66, 300)]


@pytest.fixture(autouse=True, params=["torch", "native"])
def decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> type:
    """What decodes here: each must obey the same laws."""
    if request.param == "torch":
        monkeypatch.setattr(local_native, "LEAST", math.inf)
        return local_cpu.Decoder
    pytest.importorskip("llvmlite")
    monkeypatch.setattr(local_native, "LEAST", 1)
    return local_native.Decoder


@pytest.fixture(scope="module")
def network() -> HINet:
    return network_of(COMPACT)


@pytest.fixture(scope="module")
def paper() -> HINet:
    return network_of(PAPER)


@pytest.fixture(scope="module", params=["network", "paper"])
def transform(request: pytest.FixtureRequest) -> LocalMlp:
    """What each encoder's network predicts from one thumbnail; it fits any picture."""
    return transform_of(request.getfixturevalue(request.param), Size(64, 64))


@torch.no_grad()
def test_each_level_matters(transform):
    """Guard: to a function that is the same everywhere almost any decoder would do justice."""
    rgb, mask = picture(64, 64, 1)
    whole = Window.whole(Size(64, 64))
    out = transform.apply(rgb, mask, whole)
    inside = mask[0, 0] > 0
    assert (out - lookup(transform.lut, rgb))[0, :, inside].std(1).mean() > 0.05
    for n in range(3):
        maps = list(transform.maps)
        maps[n] = maps[n].mean((2, 3), keepdim=True).expand_as(maps[n])
        flat = dataclasses.replace(transform, maps=tuple(maps)).apply(rgb, mask, whole)
        assert (flat - out).abs().max() > 0.01


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("rows", [4, 16, 44])
@torch.no_grad()
def test_bands_equal_the_wholepicture(transform, height, width, rows):
    """L1: decoding band by band with the stated halo gives the whole picture's pixels."""
    size = Size(height, width)
    rgb, mask = picture(height, width, 1)
    whole = transform.apply(rgb, mask, Window.whole(size))
    reach = transform.reach
    for band in bands(size, rows):
        grown = band.grow(reach.halo, reach.align)
        part = (slice(None), slice(None), slice(grown.top, grown.bottom))
        got = transform.apply(rgb[part], mask[part], grown)
        inside = band.inside(grown)
        difference = (got[..., inside[0], :] - whole[..., band.top : band.bottom, :]).abs()
        difference = difference * (mask[..., band.top : band.bottom, :] > 0)
        assert difference.max() <= 1 / 131070


@torch.no_grad()
def test_a_window_in_the_middle_equals_the_wholepicture(transform):
    """L1 for columns: any window that starts at a multiple of `align` will do."""
    size = Size(120, 200)
    rgb, mask = picture(120, 200, 1)
    whole = transform.apply(rgb, mask, Window.whole(size))
    inner = Window(31, 90, 55, 141, size)
    grown = inner.grow(transform.reach.halo, transform.reach.align)
    rows, columns = slice(grown.top, grown.bottom), slice(grown.left, grown.right)
    got = transform.apply(rgb[..., rows, columns], mask[..., rows, columns], grown)
    ys, xs = inner.inside(grown)
    expected = whole[..., inner.top : inner.bottom, inner.left : inner.right]
    changed = mask[..., inner.top : inner.bottom, inner.left : inner.right] > 0
    assert ((got[..., ys, xs] - expected).abs() * changed).max() <= 1 / 131070


def test_blocks_that_miss_the_mask_are_not_computed(network, decoder, monkeypatch):
    """A mask of one pixel decodes one block, and a few of each coarser level."""
    decoded = []
    for name in ("features", "colours"):
        held = getattr(decoder, name)

        def spied(self, patch, *others, held=held):
            held(self, patch, *others)
            rows, columns = patch
            decoded.append(rows.count * rows.size * columns.count * columns.size)

        monkeypatch.setattr(decoder, name, spied)
    size = Size(512, 512)
    transform = transform_of(network, size)
    rgb, mask = torch.rand(1, 3, 512, 512), torch.zeros(1, 1, 512, 512)
    mask[..., 200, 300] = 1
    with torch.inference_mode():
        transform.apply(rgb, mask, Window.whole(size))
    assert 0 < sum(decoded) < 0.02 * 512 * 512


@torch.no_grad()
def test_pixels_far_from_the_mask_are_the_input(transform):
    """L2, the Transform's part: blocks that miss the mask come back bit by bit."""
    rgb, mask = torch.rand(1, 3, 256, 256), torch.zeros(1, 1, 256, 256)
    mask[..., :20, :20] = 1
    out = transform.apply(rgb, mask, Window.whole(Size(256, 256)))
    assert torch.equal(out[..., 128:, 128:], rgb[..., 128:, 128:])
    assert not torch.equal(out[..., :20, :20], rgb[..., :20, :20])


@pytest.mark.parametrize("tile_columns", [24, 1000])
def test_background_codes_are_the_source(transform, tile_columns):
    """L2: through the engine, pixels with mask 0 keep their codes, others do not."""
    size = Size(60, 90)
    rng = np.random.default_rng(5)
    codes = rng.integers(0, 65536, (60, 90, 3)).astype(np.uint16)
    mask = (picture(60, 90)[1][0, 0].numpy() * 255).astype(np.uint8)
    recolour = Recolour(transform, 1.0, torch.device("cpu"), [1 / 65535, 1 / 255])
    rows = np.full_like(codes, 4711)
    whole = Window.whole(size)
    with torch.inference_mode():
        recolour.band(Band(whole, whole, codes, mask, None), rows, tile_columns)
    assert np.array_equal(rows[mask == 0], codes[mask == 0])
    assert (rows[mask > 0] != codes[mask > 0]).mean() > 0.9


@pytest.mark.parametrize("chunk", [1, 20_000])
@torch.no_grad()
def test_pieces_decode_what_the_whole_does(transform, chunk, monkeypatch):
    """`apply` by wanted blocks, a few at a time, against `levels`: all pixels at once. The mask
    has holes and islands, the window begins and ends inside blocks."""
    monkeypatch.setattr(local_mlp, "CHUNK", chunk)
    monkeypatch.setattr(local_mlp, "CHUNK_LARGE", chunk)
    size = Size(150, 233)
    window = Window(12, 130, 20, 211, size)
    rgb = torch.rand(1, 3, 118, 191)
    blobs = torch.rand(1, 1, 12, 20)
    mask = torch.nn.functional.interpolate((blobs > 0.7).float(), (118, 191))
    expected = transform.levels(rgb, mask, window, finest_only=True)[-1]
    got = transform.apply(rgb, mask, window)
    valid = torch.zeros_like(mask)
    valid[..., 4:-4, 4:-4] = 1  # the halo
    assert ((got - expected).abs() * (mask * valid > 0)).max() < 1e-5
    assert 0 < (got != rgb).float().mean() < 1


def test_training_and_inference_decode_the_same(network):
    """A batch with gradients and one picture without agree."""
    size = Size(64, 96)
    model = network_of(COMPACT).requires_grad_(True)
    first, second = picture(64, 64, 0), picture(64, 64, 1)
    thumbs = Thumbnail(*(torch.cat(pair) for pair in zip(first, second, strict=True)), size)
    rgb, mask = torch.rand(2, 3, 64, 96), torch.ones(2, 1, 64, 96)
    trained = model.predict(thumbs).apply(rgb, mask, Window.whole(size))
    assert trained.requires_grad
    with torch.inference_mode():
        both = model.predict(thumbs).apply(rgb, mask, Window.whole(size))
        alone = model.predict(Thumbnail(*second, size))
        inferred = alone.apply(rgb[1:], mask[1:], Window.whole(size))
    assert torch.equal(trained, both)
    assert (trained[1:] - inferred).abs().max() < 1e-5


@torch.no_grad()
def test_decoding_against_float64(transform):
    """The aligned reading written out for each pixel: three levels, cells, prior, residual."""
    size = Size(27, 22)
    rgb = torch.rand(1, 3, 27, 22)
    mask = torch.rand(1, 1, 27, 22)
    got = transform.apply(rgb, mask, Window.whole(size))[0].double().numpy()
    expected = _decode(transform, rgb[0].double().numpy(), mask[0].double().numpy())
    np.testing.assert_allclose(got, expected, atol=2e-5)


def _decode(t: LocalMlp, rgb: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(3, h, w) of a whole picture, pixel by pixel in float64."""
    waves, phases, table = (v.double().numpy() for v in (t.waves, t.phases, t.table[0]))
    pictures = [np.concatenate([rgb * 2 - 1, mask])]
    for _ in range(2):
        h, w = (n + n % 2 for n in pictures[-1].shape[1:])
        padded = np.full((4, h, w), np.nan)  # a mean over what there is at odd ends
        padded[:, : pictures[-1].shape[1], : pictures[-1].shape[2]] = pictures[-1]
        pictures.append(np.nanmean(padded.reshape(4, h // 2, 2, w // 2, 2), (2, 4)))
    features = None
    for level, pixels in enumerate(pictures[::-1]):
        _, h, w = pixels.shape
        map_ = t.maps[level][0].double().numpy()
        edges = [cells.block_edge(n, g) for n, g in zip((h, w), map_.shape[1:], strict=True)]
        found = np.empty((t.width, h, w))
        colours = np.empty((3, h, w))
        for i, j in np.ndindex(h, w):
            centre = [
                ((p // e + 0.5) * e) / n * g - 0.5
                for p, e, n, g in zip((i, j), edges, (h, w), map_.shape[1:], strict=True)
            ]
            y, x = (i + 0.5) / h * 2 - 1, (j + 0.5) / w * 2 - 1
            place = [(v + 1) / 2 * table.shape[-1] - 0.5 for v in (y, x)]
            sines = np.sin(y * waves[0] + x * waves[1] + phases)
            v = [[y, x], sines, _at(table, *place), pixels[:, i, j]]
            if features is not None:
                v.append(_at(features, (i + 0.5) / 2 - 0.5, (j + 0.5) / 2 - 0.5))
            v = np.concatenate(v)
            for weight, bias in _layers(t, level, _at(map_, *centre)):
                v = v @ weight + bias
                v = np.where(v > 0, v, 0.01 * v)
            found[:, i, j] = v
            *hidden, last = _layers(t, 3, t.appearance[0].double().numpy())
            for weight, bias in hidden:
                v = v @ weight + bias
                v = np.where(v > 0, v, 0.01 * v)
            colours[:, i, j] = np.tanh((v @ last[0] + last[1]) / 2)
        features = found
    base = lookup(t.lut.double(), torch.from_numpy(rgb)[None])[0].numpy()
    return base + colours


def _at(grid: np.ndarray, y: float, x: float) -> np.ndarray:
    """Bilinear interpolation of (C, h, w) at fractional indices, ends held."""
    y, x = (min(max(v, 0), n - 1) for v, n in zip((y, x), grid.shape[1:], strict=True))
    a, b = int(y), int(x)
    c, d = min(a + 1, grid.shape[1] - 1), min(b + 1, grid.shape[2] - 1)
    top = grid[:, a, b] * (1 - x + b) + grid[:, a, d] * (x - b)
    low = grid[:, c, b] * (1 - x + b) + grid[:, c, d] * (x - b)
    return top * (1 - y + a) + low * (y - a)


def _layers(t: LocalMlp, n: int, vector: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """tanh(A B) * basic and bias of each layer of MLP n."""
    found, start, r = [], 0, t.mlps[n].rank
    for basic in t.basics[n]:
        a, b = basic.shape
        left = vector[start : start + a * r].reshape(a, r)
        right = vector[start + a * r : start + (a + b) * r].reshape(r, b)
        start += (a + b) * r + b
        found.append((np.tanh(left @ right) * basic.double().numpy(), vector[start - b : start]))
    return found


@torch.no_grad()
def test_same_picture_twice_gives_the_same_bytes(network, paper):
    """L7."""
    size = Size(70, 90)
    rgb, mask = picture(70, 90, 4)
    for model in (network, paper):
        first = transform_of(model, size).apply(rgb, mask, Window.whole(size))
        second = transform_of(model, size).apply(rgb, mask, Window.whole(size))
        assert torch.equal(first, second)


def test_position_features_against_float64(network):
    """[y, x, sin, table] at pixel centres; the table by scipy-free bilinear interpolation."""
    level = local_mlp.Level(
        transform_of(network, Size(48, 40)),
        2,
        (torch.zeros(1, 3, 16, 20), torch.zeros(1, 1, 16, 20)),
        Window(8, 24, 12, 32, Size(48, 40)),
    )
    features = local_mlp.position_features(level.y, level.x, network.table)
    got = torch.cat(features, 1)[0].detach().double().numpy()
    y = (np.arange(8, 24) + 0.5) * 2 / 48 - 1
    x = (np.arange(12, 32) + 0.5) * 2 / 40 - 1
    waves, phases = network.waves.double().numpy(), network.phases.double().numpy()
    angle = y[:, None, None] * waves[0] + x[None, :, None] * waves[1] + phases
    np.testing.assert_allclose(got[0], np.broadcast_to(y[:, None], (16, 20)), atol=1e-6)
    np.testing.assert_allclose(got[1], np.broadcast_to(x, (16, 20)), atol=1e-6)
    n = network.config.waves
    np.testing.assert_allclose(got[2 : 2 + n], np.sin(angle).transpose(2, 0, 1), atol=1e-5)
    table = network.table[0].double().numpy()
    edge = table.shape[-1]

    def at(v: float) -> tuple[int, int, float]:
        p = min(max((v + 1) / 2 * edge - 0.5, 0), edge - 1)
        return int(p), min(int(p) + 1, edge - 1), p - int(p)

    for i in (0, 7, 15):
        for j in (0, 11, 19):
            (a, b, s), (c, d, t) = at(y[i]), at(x[j])
            top = table[:, a, c] * (1 - t) + table[:, a, d] * t
            low = table[:, b, c] * (1 - t) + table[:, b, d] * t
            np.testing.assert_allclose(got[2 + n :, i, j], top * (1 - s) + low * s, atol=1e-6)
