"""HINet in our configurations: the contract, weights saved and read back, sizes."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from contract import ModelContract, readings_of, shapes_of
from safetensors.torch import save_file
from small_hinets import COMPACT, PAPER, picture, transform_of
from small_hinets import network as network_of

from hzcli import catalog, models
from hzcli.core.lut import identity_lut
from hzcli.core.transform import Thumbnail
from hzcli.core.window import Size, Window
from hzcli.errors import ModelError
from hzcli.models import hinet
from hzcli.models.hinet import HINet, HINetConfig
from hzcli.nets.tables import polynomials
from hzcli.train.export import save_weights


@pytest.fixture(scope="module")
def network() -> HINet:
    return network_of(COMPACT)


@pytest.fixture(scope="module")
def paper() -> HINet:
    return network_of(PAPER)


class TestHINet(ModelContract):
    module = hinet

    def model(self) -> HINet:
        torch.manual_seed(0)
        model = network_of(COMPACT)
        for parameter in model.parameters():  # away from zero-initialised branches
            parameter.add_(torch.randn_like(parameter) * 0.03)
        return model


def test_sizes_of_the_paper():
    """Parameters of the predicted MLPs, and of the whole network but our starts."""
    with torch.device("meta"):
        model = HINet(HINetConfig.paper())
    assert [m.length for m in model.config.mlps] == [3068, 2716, 2044, 2369]
    starts = 3068 + 2716 + 2044 + 2369
    assert sum(p.numel() for p in model.parameters()) - starts == 38_205_139


@pytest.mark.parametrize("config", [HINetConfig.compact(), PAPER], ids=["compact", "paper"])
def test_an_untrained_network_changes_nothing_much(config):
    """Our recipe starts at the identity: a residual near 0 and an identity LUT."""
    torch.manual_seed(0)
    model = HINet(config).eval()
    rgb, mask = picture(128, 128)
    with torch.inference_mode():
        transform, lut = model.predict_both(Thumbnail(rgb, mask, Size(128, 128)))
        out = transform.apply(rgb, mask, Window.whole(Size(128, 128)))
    assert torch.equal(lut.lut[0], identity_lut(config.lut))
    assert [m.shape[1] for m in transform.maps] == [m.length for m in config.mlps[:3]]
    assert (out - rgb).abs().mean() < 0.1


@pytest.mark.parametrize("which", ["network", "paper"])
def test_saved_weights_come_back(which, request, tmp_path):
    """Strict save and load; fp16 rounding is all that is lost."""
    network = request.getfixturevalue(which)
    path = tmp_path / "own.safetensors"
    save_weights(network, path, id="own")
    loaded = models.load(path)
    assert loaded.config == network.config
    assert not loaded.training
    state = loaded.state_dict()
    for key, value in network.state_dict().items():
        other = state[key]
        assert torch.allclose(other.float(), value.float(), rtol=1e-3, atol=1e-4), key


def test_weights_of_before_the_encoders_were_two_are_compact(network, tmp_path):
    """A stored configuration without newer fields takes their defaults."""
    state = {k: v.clone() for k, v in network.state_dict().items()}
    config = dataclasses.asdict(network.config)
    del config["encoder"]
    path = tmp_path / "old.safetensors"
    save_file(state, path, metadata={"model": "hinet", "config": json.dumps(config)})
    assert models.load(path).config == network.config


def test_keys_of_the_compact_network_are_those_of_its_weights(network):
    """Published weights go by these names: renaming one would orphan them."""
    state = network.state_dict()
    shapes = {k: v.ndim for k, v in state.items() if not k.startswith("encoder.")}
    expected = {"waves": 2, "phases": 1, "table": 4}
    for n in range(3):
        expected |= {f"local.{n}.weight": 4, f"local.{n}.bias": 1}
        expected |= {f"context.{n}.weight": 2, f"context.{n}.bias": 1}
        expected |= {f"hyper.{n}.weight": 4, f"hyper.{n}.bias": 1}
    for name in ("appearance", "tone", "lut"):
        expected |= {f"{name}.weight": 2, f"{name}.bias": 1}
    for n, count in enumerate((3, 2, 2, 4)):
        expected |= {f"basics.{n}.{i}": 2 for i in range(count)} | {f"starts.{n}": 1}
    assert shapes == expected


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


@pytest.mark.parametrize("config", [PAPER], ids=["paper"])
def test_gradient_reaches_every_parameter(config):
    torch.manual_seed(0)
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
    transform = transform_of(network, Size(8, 8))
    with pytest.raises(dataclasses.FrozenInstanceError):
        transform.waves = torch.zeros(1)


def test_a_run_before_training_does_no_harm():
    """The table's basis is kept; made without gradients, it must serve with them."""
    polynomials.cache_clear()
    model = network_of(COMPACT).requires_grad_(True)
    rgb, mask = picture(64, 64)
    thumb = Thumbnail(rgb, mask, Size(64, 64))
    with torch.inference_mode():
        model.predict_lut(thumb)
    model.predict_lut(thumb).lut.sum().backward()


@pytest.mark.parametrize("config", [HINetConfig.compact(), HINetConfig.paper(), PAPER], ids=str)
def test_every_configuration_is_read_back_from_shapes(config):
    """Also from files of before, whose readings stand in a stored configuration."""
    with torch.device("meta"):
        shapes = shapes_of(HINet(config).state_dict())
    assert hinet.detect(shapes) == "hinet"
    assert hinet.config_from(shapes, readings_of(config)) == config
    stored = {"config": json.dumps(dataclasses.asdict(config))}
    assert hinet.config_from(shapes, stored) == config
    other = dataclasses.replace(config, residual=False)
    assert hinet.config_from(shapes, readings_of(other)) == other


def test_the_weights_that_ship_are_read_from_their_shapes():
    """And agree with the configuration that is stored with them."""
    from safetensors import safe_open

    with safe_open(catalog.weights_folder() / "hinet.safetensors", "pt") as file:
        metadata = file.metadata()
        shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    assert hinet.detect(shapes) == "hinet"
    found = hinet.config_from(shapes, metadata)
    assert found == HINetConfig.from_dict(json.loads(metadata["config"]))
