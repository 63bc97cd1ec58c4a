"""The registry: each network by name, each file of weights by what it holds."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from hzcli import catalog, models
from hzcli.errors import ModelError
from hzcli.train.adopt import adopt
from hzcli.train.export import save_weights, share

# Tensors and parameters as published; of PCT-Net the authors' code alone tells them.
PUBLISHED = {
    "hinet": ("hinet", 2007, 38_205_139),
    "cdtnet": ("cdtnet", 139, 2_744_400),
    "cdtnet-sim": ("cdtnet", 139, 2_744_400),
    "s2crnet-s": ("s2crnet", 64, 1_145_472),
    "s2crnet-v": ("s2crnet", 46, 15_334_848),
    "aict": ("aict", 132, 5_181_140),
    "hdnet": ("hdnet", 65, 10_414_389),
    "hdnet-lite": ("hdnet", 65, 652_893),
    "pctnet": ("pctnet", 115, 2_185_736),
}
SYSTEMS = ("hinet", "cdtnet", "s2crnet", "aict", "hdnet", "pctnet")


def on_meta(name: str) -> nn.Module:
    with torch.device("meta"):
        return models.published(name)


def compact(system: str) -> nn.Module:
    """A system's own small network with seeded weights."""
    card = catalog.card(system)
    assert card is not None
    file = importlib.import_module(card.module)
    torch.manual_seed(0)
    return models.network(card, getattr(file, f"{card.network}Config").compact())


def stored(model: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.clone().contiguous() for key, value in model.state_dict().items()}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_networks_have_the_size_of_their_papers(name: str) -> None:
    """`published` gives every variant of the catalogue, in eval mode."""
    system, tensors, parameters = PUBLISHED[name]

    model = on_meta(name)

    assert not model.training
    assert len(model.state_dict()) == tensors
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert model.card.model == system
    assert {v for card in catalog.CARDS for v in card.variants} == set(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_each_published_network_is_recognised_by_itself_alone(name: str) -> None:
    """Every file's `detect` is asked: one says yes."""
    shapes = models.shapes_of(on_meta(name))

    said = {card.id: models.module(card).detect(shapes) for card in catalog.CARDS}

    system = PUBLISHED[name][0]
    assert {id: answer for id, answer in said.items() if answer is not None} == {system: system}
    assert models.detect(shapes) == system


def test_a_variance_beyond_fp16_survives_and_no_number_does_not(tmp_path: Path) -> None:
    network = compact("hinet")
    network.encoder.norm.running_var[3] = 123_456.5
    save_weights(network, tmp_path / "w.safetensors", id="w")
    assert models.load(tmp_path / "w.safetensors").encoder.norm.running_var[3] == 123_456.5
    for value in (float("nan"), 1e30):
        network.encoder.mix.weight.data[0, 0] = value
        with pytest.raises(ModelError, match=r"encoder\.mix\.weight"):
            save_weights(network, tmp_path / "bad.safetensors", id="bad")
    assert not (tmp_path / "bad.safetensors").exists()


def test_weights_that_hold_no_number_are_refused(tmp_path: Path) -> None:
    """Half precision made an infinity of a variance, which silences its channel unseen."""
    network = compact("hinet")
    save_weights(network, tmp_path / "w.safetensors", id="w")
    state = load_file(tmp_path / "w.safetensors")
    state["encoder.norm.running_var"][3] = float("inf")
    save_file(state, tmp_path / "bad.safetensors", {"residual": "True"})

    with pytest.raises(ModelError, match=r"encoder\.norm\.running_var holds 1 of"):
        models.load(tmp_path / "bad.safetensors")


def test_what_another_file_holds_is_stored_once(tmp_path: Path) -> None:
    """S2CRNet calls the encoder by another name; loaded, the tensors are those of before."""
    hinet, s2crnet = compact("hinet"), compact("s2crnet")
    adopt(s2crnet, hinet.state_dict())
    base, file = tmp_path / "hinet.safetensors", tmp_path / "s2crnet.safetensors"
    save_weights(hinet, base, id="hinet")
    save_weights(s2crnet, file, id="s2crnet")
    whole, size = models.load(file).state_dict(), file.stat().st_size

    assert share(file, base) >= len(hinet.encoder.state_dict())

    assert file.stat().st_size < size / 4
    found = models.load(file).state_dict()
    assert list(found) == list(whole)
    assert all(torch.equal(value, found[name]) for name, value in whole.items())

    hinet.encoder.mix.weight.data += 1
    save_weights(hinet, base, id="hinet")
    with pytest.raises(ModelError, match="made for another hinet"):
        models.load(file)
    base.rename(tmp_path / "x")
    with pytest.raises(ModelError, match="made for another hinet"):
        models.load(file)  # the installed one is asked next


@pytest.mark.parametrize("system", SYSTEMS)
def test_own_weights_come_back_without_a_word_about_them(system: str, tmp_path: Path) -> None:
    """Saved by the trainer, loaded by their tensors: same configuration, same numbers to fp16;
    what the file says of its model is not even looked at."""
    network = compact(system)
    path = tmp_path / "own.safetensors"
    save_weights(network, path, id="own")
    state, metadata = models.stored(path)
    assert metadata["model"] == system
    del metadata["model"], metadata["config"]
    save_file(state, path, metadata=metadata)

    loaded = models.load(path)

    assert loaded.config == network.config
    assert loaded.card.model == system
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())
    for key, value in loaded.state_dict().items():
        assert value.dtype != torch.float16
        expected = network.state_dict()[key]
        if value.is_floating_point() and value.ndim > 1:
            expected = expected.half().float()
        assert torch.equal(value, expected), key
    constants = [*loaded.parameters(), *loaded.buffers()]
    assert not any(tensor.is_meta for tensor in constants)


def test_readings_in_the_metadata_decide(tmp_path: Path) -> None:
    """The same tensors without metadata are CDTNet as published, with it the LUT alone."""
    network = models.published("cdtnet-sim")
    path = tmp_path / "x.safetensors"
    save_file(stored(network), path)
    assert models.load(path).config.refinement is True

    save_file(stored(network), path, metadata=models.readings_of(network.config))

    assert models.load(path).config == network.config
    save_file(stored(network), path, metadata={"config": json.dumps({"refinement": False})})
    assert models.load(path).config.refinement is False


def test_counters_stay_whole_numbers() -> None:
    """Only floating-point tensors are widened."""
    state = {k: v.half() if v.is_floating_point() else v for k, v in
             models.published("aict").state_dict().items()}  # fmt: skip

    built = models.build(state).state_dict()

    assert built["bottom_convs.1.num_batches_tracked"].dtype == torch.int64
    assert built["class_layer.weight"].dtype == torch.float32


def broken(name: str, spoil: str) -> tuple[dict[str, torch.Tensor], str]:
    """A published network's tensors with one fault, and the key that an error must name."""
    state = stored(models.published(name))
    keys = list(state)
    if spoil == "missing":
        key = keys[len(keys) // 2]
        del state[key]
    elif spoil == "unexpected":
        key = "head.extra.weight"
        state[key] = torch.zeros(2)
    else:
        key = next(k for k in keys[len(keys) // 2 :] if state[k].ndim == 1)
        state[key] = torch.zeros(state[key].numel() + 1)
    return state, key


@pytest.mark.parametrize("spoil", ["missing", "unexpected", "bent"])
@pytest.mark.parametrize("name", ["cdtnet", "s2crnet-s", "aict", "hdnet-lite", "pctnet"])
def test_what_does_not_fit_is_named(name: str, spoil: str) -> None:
    """A tensor too few, too many or of another shape: the error names it and the system."""
    state, key = broken(name, spoil)

    with pytest.raises(ModelError) as error:
        models.build(state)

    assert key in error.value.message
    title = catalog.card(PUBLISHED[name][0]).title  # type: ignore[union-attr]
    assert title in error.value.message


def test_the_first_of_each_kind_is_named_with_both_shapes() -> None:
    """Missing, unexpected and mis-shaped tensors in one sentence."""
    found = {"a": (3, 4), "c": (2,), "d": (2,)}
    wanted = {"a": (3, 5), "b": (1,), "e": ()}

    said = models.misfits(found, wanted)

    assert said == (
        "b is missing (and 1 more); c is unexpected (and 1 more); a is 3 x 4, expected 3 x 5"
    )
    assert models.misfits(found, found) == ""


def libcom() -> dict[str, tuple[int, ...]]:
    """The network that libcom calls CDTNet, by a few of its tensors."""
    return {
        "encoder.model.conv1.weight": (32, 4, 3, 3),
        "encoder.model.bn1.weight": (32,),
        "encoder.model.layer1.0.conv1.weight": (32, 32, 1, 1),
        "encoder.model.fc.weight": (1000, 512),
        **{f"lut.LUT{n}.LUT": (3, 33, 33, 33) for n in range(6)},
        "lut.classifier.conv.weight": (256, 256, 1, 1),
        "lut.classifier.fc.weight": (6, 768, 1, 1),
    }


def test_libcoms_network_of_the_same_name_is_told_apart() -> None:
    """It shares the tables' keys with CDTNet, and is another network."""
    assert models.detect(libcom()) is None
    with pytest.raises(ModelError, match="CDTNet of libcom, another network"):
        models.identify(libcom())


def test_tensors_of_nobody_are_refused() -> None:
    """No system of hz: the first keys are told."""
    with pytest.raises(ModelError, match=r"no system.*conv\.weight"):
        models.identify({"conv.weight": (3, 3, 3, 3), "conv.bias": (3,)})
    assert models.detect({}) is None


def test_names_that_are_none() -> None:
    """Unknown names, missing files and files of another kind, each with what to do."""
    with pytest.raises(ModelError, match="cdtnet-sim"):
        models.published("dovenet")
    with pytest.raises(ModelError, match="there is no model 'nothing'"):
        models.load("nothing")
    with pytest.raises(ModelError, match="there is no file"):
        models.load(Path("nowhere.safetensors"))


def test_a_checkpoint_is_sent_to_import(tmp_path: Path) -> None:
    """--weights takes safetensors; a .pth is told how to become one."""
    path = tmp_path / "x.pth"
    torch.save({"a": torch.zeros(1)}, path)

    with pytest.raises(ModelError) as error:
        models.load(path)

    assert error.value.hint == f"First: hz models import {path}"


def test_loading_what_ships_imports_no_compiler() -> None:
    """On the meta device many a call of torch brings its tracer and sympy: a second and a half
    before the first picture."""
    code = (
        "import sys\nfrom hzcli import models\n"
        "for name in sys.argv[1:]:\n    models.load(name)\n"
        "print([n for n in ('torch._dynamo', 'sympy') if n in sys.modules])"
    )
    names = ("hinet", "cdtnet", "cdtnet-sim", "s2crnet", "aict", "hdnet-lite")
    ran = subprocess.run([sys.executable, "-c", code, *names], capture_output=True, text=True)
    assert ran.stdout == "[]\n", ran.stderr
