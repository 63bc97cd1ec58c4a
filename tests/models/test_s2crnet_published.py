"""S2CRNet against golden numbers of its authors' code."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from contract import shapes_of
from ruled_nets import key_misfits, picture
from ruled_nets import misfits as misfits_of
from ruled_s2crnets import GOLDEN, SMALL, inputs, lively, net_of, ramps, ruled, soft
from torch import Tensor, nn

from hzcli.core.curves import Curves
from hzcli.errors import ModelError
from hzcli.models import s2crnet
from hzcli.models.s2crnet import S2CRNet, S2CRNetConfig, curves_of
from hzcli.nets.trunks import pool

CASES = list(GOLDEN["cases"])


def answer(case: str, net: S2CRNet | None = None, **changed: Any) -> dict[str, Tensor]:
    variant, label = case.split(", label ")
    with torch.inference_mode():
        return (net or net_of(variant))(
            **{**inputs(), "label": None if label == "none" else int(label), **changed}
        )


def misfits(out: dict[str, Tensor], case: str) -> list[str]:
    """Which figures of a case differ by more than they may."""
    found = []
    for name, wanted in GOLDEN["cases"][case].items():
        if list(out[name].shape) != wanted["shape"]:
            found.append(f"{name} has shape {list(out[name].shape)}")
            continue
        flat = out[name].double().flatten()
        middle = len(flat) // 2
        figures = {
            "mean": (flat.mean(), "tol_stat"), "std": (flat.std(), "tol_stat"),
            "first4": (flat[:4], "tol"), "mid4": (flat[middle : middle + 4], "tol"),
        }  # fmt: skip
        for figure, (value, limit) in figures.items():
            error = (value - torch.tensor(wanted[figure], dtype=torch.float64)).abs().max().item()
            if not error <= wanted[limit]:
                found.append(f"{name}.{figure} off by {error:.1e}, may be {wanted[limit]:.1e}")
    return found


@pytest.mark.parametrize("name", list(GOLDEN["keys"]))
def test_keys_shapes_and_counts_are_the_published_ones(name: str) -> None:
    """Also of the authors' networks with three and four stages."""
    stages = {"one stage used, two kept": 2, "three stages": 3, "four stages": 4}
    if name.startswith("s2crnet"):
        config = S2CRNetConfig.published(name)
    else:
        config = dataclasses.replace(S2CRNetConfig.published(), stages=stages[name])
    with torch.device("meta"):
        net = S2CRNet(config)
    assert key_misfits(net, GOLDEN["keys"][name]) == []
    shapes = shapes_of(net.state_dict())
    assert s2crnet.detect(shapes) == "s2crnet"
    assert s2crnet.config_from(shapes, {}) == config


@pytest.mark.parametrize("case", CASES)
def test_golden(case: str) -> None:
    out = answer(case)
    assert misfits(out, case) == []
    mask = inputs()["mask"]
    assert torch.equal(out["composited"], out["y2"] * mask + inputs()["image"] * (1 - mask))


def _shifted(p: Tensor, curve: str = "published") -> Curves:
    """Knots at the pieces' centres."""
    knots = curves_of(p).knots
    return Curves((knots + knots.roll(-1, -1)) / 2)


WRONG = {
    "pooling over the region": lambda net, patch: patch.setattr(
        net, "config", dataclasses.replace(net.config, pooling="masked")
    ),
    "channels innermost": lambda net, patch: patch.setattr(
        s2crnet.network, "curves_of", lambda p, c: curves_of(p.view(-1, 64, 3).mT.flatten(1))
    ),
    "knots at the pieces' centres": lambda net, patch: patch.setattr(
        s2crnet.network, "curves_of", _shifted
    ),
    "stages the other way round": lambda net, patch: patch.setattr(
        net, "config", dataclasses.replace(net.config, cascade="21")
    ),
    "one stage used": lambda net, patch: patch.setattr(
        net, "config", dataclasses.replace(net.config, cascade="1")
    ),
    "a padded first convolution": lambda net, patch: patch.setattr(
        net.get_submodule("squeezenet1_1")[0], "padding", (1, 1)
    ),
    "the pool behind the trunk": lambda net, patch: patch.setattr(
        s2crnet.network, "pool", lambda x, r, p: pool(nn.functional.max_pool2d(x, 2), r, p)
    ),
    "pools that leave the border out": lambda net, patch: [
        patch.setattr(net.get_submodule("squeezenet1_1")[n], "ceil_mode", False) for n in (2, 5, 8)
    ],
    "rectified projections": lambda net, patch: [
        patch.setattr(layer, "forward", lambda x, layer=layer: type(layer).forward(layer, x).relu())
        for head in net.fusion.values()
        for layer in (head.fc_f_1, head.fc_b_1, head.fc_f_label)
    ],
}


def more_misfits(name: str, **changed: Any) -> list[str]:
    case = GOLDEN["more"][name]
    (height, width), label = case["size"], case["label"]
    given: dict[str, Any] = {
        "image": picture(height, width), "mask": soft(height, width), "label": label,
        "fg_image": picture(height, width, 1.0) ** 2, "fg_mask": soft(width, height).mT,
    }  # fmt: skip
    with torch.inference_mode():
        out = ruled(case["network"])(**{**given, **changed})
    return [
        f"{tensor}: {text}"
        for tensor, wanted in case["tensors"].items()
        for text in misfits_of(out[tensor], wanted)
    ]


@pytest.mark.parametrize("name", list(GOLDEN["more"]))
def test_golden_at_other_sizes(name: str) -> None:
    """Not square, soft masks, one to three stages, both trunks."""
    assert more_misfits(name) == []


@pytest.mark.parametrize("wrong", list(WRONG))
@pytest.mark.parametrize("name", ["s2crnet-s, 203x141, no label", "s2crnet-s, 203x141, label 1"])
def test_golden_numbers_tell_other_readings_apart(
    wrong: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    WRONG[wrong](ruled("fusionv3s"), monkeypatch)
    assert more_misfits(name) != []


@pytest.mark.parametrize(
    "wrong", ["pooling over the region", "channels innermost", "stages the other way round"]
)
def test_golden_numbers_of_the_large_trunk_tell_readings_apart(
    wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    WRONG[wrong](ruled("fusionv3s_vgg"), monkeypatch)
    assert more_misfits("s2crnet-v, 67x90, label 2") != []


@pytest.mark.parametrize("wrong", ["channels innermost", "stages the other way round"])
@pytest.mark.parametrize("case", CASES[:2])
def test_the_first_golden_numbers_tell_readings_apart(
    wrong: str, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    WRONG[wrong](net_of("s2crnet-s"), monkeypatch)
    assert misfits(answer(case), case) != []


def test_golden_numbers_tell_inputs_apart() -> None:
    """Another foreground, no mask on it, one on the background's side, other labels."""
    name = "s2crnet-s, 203x141, label 1"
    one = torch.ones(1, 1, 203, 141)
    for changed in (
        {"fg_image": picture(203, 141)},
        {"fg_mask": one},
        {"mask": soft(203, 141).round()},
        {"mask": 1 - soft(203, 141)},
        {"label": 2},
        {"label": None},
    ):
        assert more_misfits(name, **changed) != [], changed


def test_labels_in_every_form() -> None:
    case = "s2crnet-s, label 3"
    kinds = torch.zeros(1, 5)
    kinds[0, 3] = 1
    for label in (torch.tensor(3), torch.tensor([3]), kinds):
        assert misfits(answer(case, label=label), case) == []
    with pytest.raises(ModelError, match="no semantic label"):
        answer(case, label=5)


@pytest.mark.parametrize("order", ["", "1", "123", "1233"])
def test_other_numbers_of_stages(order: str) -> None:
    """y3 is the third module's curve on y2; a module that is not in the cascade is not run."""
    stages = max(2, *map(int, order or "2"))
    if order == "1233":
        stages, order = 4, ""
    config = dataclasses.replace(S2CRNetConfig(widths=SMALL), stages=stages, cascade=order)
    net = lively(config)
    out = answer("s2crnet-s, label none", net)
    y = inputs()["image"]
    for n, _ in enumerate(config.order, 1):
        y = ramps(y, out[f"p{n}"], config.pieces).float()
        assert (out[f"y{n}"] - y).abs().max() < 1e-5
    if order == "1":
        assert torch.equal(out["y2"], out["y1"])
        for p in net.fusion["cr2"].parameters():
            p.data.fill_(torch.nan)
        assert answer("s2crnet-s, label none", net)["y2"].isfinite().all()
    if stages == 4:
        assert torch.equal(out["p4"], out["p3"])
