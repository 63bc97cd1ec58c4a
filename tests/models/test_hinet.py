"""HINet in its aligned reading: layers against float64, laws against the whole picture."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from hzcli import models
from hzcli.core.lut import Lut3D, identity_lut, lookup
from hzcli.core.transform import Thumbnail, lerp
from hzcli.core.window import Size, Window, bands
from hzcli.errors import ModelError
from hzcli.models import hinet
from hzcli.models.hinet import HINet, HINetConfig, LocalMlp
from hzcli.train.export import save_weights

SIZES = [(1, 1), (1, 37), (37, 1), (3, 5), (64, 64), (97, 130), (211, 61), (66, 300)]


@pytest.fixture(scope="module")
def network() -> HINet:
    """A small HINet whose predicted weights vary strongly from cell to cell."""
    torch.manual_seed(3)
    config = HINetConfig(channels=(8, 16, 32, 32), blocks=1, code=32, hyper=16, thumbnail=64)
    model = HINet(config).eval().requires_grad_(False)
    for head in [*model.hyper, model.appearance, model.lut]:
        head.weight.normal_(0, 0.15)
    return model


def _picture(height: int, width: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    rgb = torch.rand(1, 3, height, width, generator=generator)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    inside = ((y / height - 0.55) ** 2 + (x / width - 0.45) ** 2) < 0.09
    mask = inside.float()[None, None]
    mask[..., height // 2, width // 2] = 0.3
    return rgb, mask


def _transform(network: HINet, size: Size, seed: int = 0) -> LocalMlp:
    rgb, mask = _picture(64, 64, seed)
    return network.predict(Thumbnail(rgb, mask, size))


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("rows", [4, 16, 44])
def test_bands_equal_the_whole_picture(network, height, width, rows):
    """L1: decoding band by band with the stated halo gives the whole picture's pixels."""
    size = Size(height, width)
    transform = _transform(network, size)
    rgb, mask = _picture(height, width, 1)
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


def test_a_window_in_the_middle_equals_the_whole_picture(network):
    """L1 for columns: any window that starts at a multiple of `align` will do."""
    size = Size(120, 200)
    transform = _transform(network, size)
    rgb, mask = _picture(120, 200, 1)
    whole = transform.apply(rgb, mask, Window.whole(size))
    inner = Window(31, 90, 55, 141, size)
    grown = inner.grow(transform.reach.halo, transform.reach.align)
    rows, columns = slice(grown.top, grown.bottom), slice(grown.left, grown.right)
    got = transform.apply(rgb[..., rows, columns], mask[..., rows, columns], grown)
    ys, xs = inner.inside(grown)
    expected = whole[..., inner.top : inner.bottom, inner.left : inner.right]
    changed = mask[..., inner.top : inner.bottom, inner.left : inner.right] > 0
    assert ((got[..., ys, xs] - expected).abs() * changed).max() <= 1 / 131070


def test_blocks_that_miss_the_mask_are_not_computed(network, monkeypatch):
    """A mask of one pixel decodes one block a level, whatever the picture's size."""
    decoded = []
    run = hinet.run_mlp
    monkeypatch.setattr(hinet, "run_mlp", lambda x, w: decoded.append(x.shape[:2]) or run(x, w))
    size = Size(512, 512)
    transform = _transform(network, size)
    rgb, mask = torch.rand(1, 3, 512, 512), torch.zeros(1, 1, 512, 512)
    mask[..., 200, 300] = 1
    with torch.inference_mode():
        transform.apply(rgb, mask, Window.whole(size))
    assert sum(n * k for n, k in decoded) < 0.02 * 512 * 512


def test_pixels_far_from_the_mask_are_the_input(network):
    size = Size(256, 256)
    transform = _transform(network, size)
    rgb, mask = torch.rand(1, 3, 256, 256), torch.zeros(1, 1, 256, 256)
    mask[..., :20, :20] = 1
    with torch.inference_mode():
        out = transform.apply(rgb, mask, Window.whole(size))
    assert torch.allclose(out[..., 128:, 128:], rgb[..., 128:, 128:], atol=1e-6)


def test_training_and_inference_decode_the_same(network):
    """The batched path with gradients and the block-wise path agree."""
    size = Size(64, 96)
    transform = _transform(network, size)
    rgb, _ = _picture(64, 96, 2)
    mask = torch.ones(1, 1, 64, 96)
    with torch.enable_grad():
        trained = transform.apply(rgb, mask, Window.whole(size))
    with torch.inference_mode():
        inferred = transform.apply(rgb, mask, Window.whole(size))
    assert (trained - inferred).abs().max() < 1e-5


def test_same_picture_twice_gives_the_same_bytes(network):
    """L7."""
    size = Size(70, 90)
    rgb, mask = _picture(70, 90, 4)
    first = _transform(network, size).apply(rgb, mask, Window.whole(size))
    second = _transform(network, size).apply(rgb, mask, Window.whole(size))
    assert torch.equal(first, second)


def test_an_untrained_network_changes_nothing_much():
    """Our recipe starts at the identity: a residual near 0 and an identity LUT."""
    torch.manual_seed(0)
    model = HINet(HINetConfig.compact()).eval()
    rgb, mask = _picture(128, 128)
    with torch.inference_mode():
        transform, lut = model.predict_both(Thumbnail(rgb, mask, Size(128, 128)))
        out = transform.apply(rgb, mask, Window.whole(Size(128, 128)))
    assert torch.equal(lut.lut[0], identity_lut(7))
    assert (out - rgb).abs().mean() < 0.1


def test_modulated_layer_against_float64():
    """y = LeakyReLU(x (tanh(A B) * basic) + b), section III-C, written out in numpy."""
    rng = np.random.default_rng(1)
    mlp = hinet.Modulated((5, 7, 3), rank=2)
    assert mlp.length == (5 + 7) * 2 + 7 + (7 + 3) * 2 + 3
    vector = rng.normal(size=mlp.length)
    basics = [rng.normal(size=(5, 7)), rng.normal(size=(7, 3))]
    x = rng.normal(size=(4, 5))
    expected, start = x, 0
    for (a, b), basic in zip([(5, 7), (7, 3)], basics, strict=True):
        left = vector[start : start + a * 2].reshape(a, 2)
        right = vector[start + a * 2 : start + (a + b) * 2].reshape(2, b)
        bias = vector[start + (a + b) * 2 : start + (a + b) * 2 + b]
        start += (a + b) * 2 + b
        z = expected @ (np.tanh(left @ right) * basic) + bias
        expected = np.where(z > 0, z, 0.01 * z)
    weights = mlp.weights(
        torch.from_numpy(vector).float()[None],
        tuple(torch.from_numpy(b).float() for b in basics),
    )
    actual = hinet.run_mlp(torch.from_numpy(x).float()[None], weights)
    np.testing.assert_allclose(actual[0].numpy(), expected, atol=1e-5)


def test_position_features_against_float64(network):
    """[y, x, sin, table] at pixel centres; the table by scipy-free bilinear interpolation."""
    transform = _transform(network, Size(48, 40))
    like = torch.zeros(1, 4, 16, 20)
    got = transform._position(8, 12, like, 48, 40)[0].double().numpy()
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


def test_lookup_against_float64():
    """Trilinear interpolation, eight corners, in numpy."""
    rng = np.random.default_rng(0)
    table, colours = rng.random((3, 5, 5, 5)), rng.random((40, 3))
    expected = []
    for c in colours:
        p = c * 4
        low = np.minimum(p.astype(int), 3)
        f = p - low
        value = np.zeros(3)
        for corner in np.ndindex(2, 2, 2):
            weight = np.prod([f[k] if corner[k] else 1 - f[k] for k in range(3)])
            value += weight * table[:, low[0] + corner[0], low[1] + corner[1], low[2] + corner[2]]
        expected.append(value)
    rgb = torch.from_numpy(colours.T.reshape(1, 3, 5, 8)).float()
    actual = lookup(torch.from_numpy(table).float()[None], rgb)
    np.testing.assert_allclose(actual.reshape(3, -1).T.numpy(), expected, atol=1e-5)


def test_lerp_ends_are_exact():
    """L4."""
    a, b = Lut3D(torch.rand(1, 3, 4, 4, 4)), Lut3D(torch.rand(1, 3, 4, 4, 4))
    assert torch.equal(lerp(a, b, 0).lut, a.lut)
    assert torch.equal(lerp(a, b, 1).lut, b.lut)
    np.testing.assert_allclose(lerp(a, b, 0.25).lut, 0.75 * a.lut + 0.25 * b.lut, atol=1e-6)


def test_saved_weights_come_back(network, tmp_path):
    """Strict save and load; fp16 rounding is all that is lost."""
    path = tmp_path / "own.safetensors"
    save_weights(network, path, id="own")
    loaded = models.load(path)
    assert loaded.config == network.config
    assert not loaded.training
    for key, value in network.state_dict().items():
        other = loaded.state_dict()[key]
        assert torch.allclose(other.float(), value.float(), rtol=1e-3, atol=1e-4), key


@pytest.mark.parametrize("spoil", ["missing", "metadata", "bytes", "absent"])
def test_bad_weights_are_refused_with_a_reason(network, tmp_path, spoil):
    path = tmp_path / "bad.safetensors"
    save_weights(network, path, id="bad")
    if spoil == "missing":
        from safetensors import safe_open

        with safe_open(path, "pt") as f:
            metadata, keys = f.metadata(), list(f.keys())
            state = {k: f.get_tensor(k) for k in keys[1:]}
        save_file(state, path, metadata=metadata)
    elif spoil == "metadata":
        save_file({"a": torch.zeros(1)}, path)
    elif spoil == "bytes":
        path.write_bytes(path.read_bytes()[:1000])
    else:
        path.unlink()
    with pytest.raises(ModelError):
        models.load(path)


def test_gradient_reaches_every_parameter():
    torch.manual_seed(0)
    config = HINetConfig(channels=(8, 16, 32, 32), blocks=1, code=32, hyper=16, thumbnail=64)
    model = HINet(config)
    with torch.no_grad():
        for parameter in model.parameters():  # away from zero-initialised branches
            parameter.add_(torch.randn_like(parameter) * 0.05)
    rgb, mask = torch.rand(2, 3, 64, 64), (torch.rand(2, 1, 64, 64) > 0.5).float()
    size = Size(64, 64)
    transform, lut = model.predict_both(Thumbnail(rgb, mask, size))
    out = transform.apply(rgb, mask, Window.whole(size))
    (out.square().mean() + lut.apply(rgb, mask, Window.whole(size)).square().mean()).backward()
    dead = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert dead == []


def test_transform_is_a_value(network):
    transform = _transform(network, Size(8, 8))
    with pytest.raises(dataclasses.FrozenInstanceError):
        transform.waves = torch.zeros(1)
