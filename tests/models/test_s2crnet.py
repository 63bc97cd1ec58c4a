"""S2CRNet against golden numbers of its authors' code, and its laws."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch
from contract import ModelContract, shapes_of
from PIL import Image
from ruled_nets import fill as fill_by
from ruled_nets import golden, picture, rectangle
from ruled_nets import misfits as misfits_of
from torch import Tensor, nn

from hzcli.core.curves import Curves
from hzcli.core.transform import Thumbnail
from hzcli.core.window import Size, Window
from hzcli.errors import ModelError
from hzcli.models import s2crnet
from hzcli.models.s2crnet import S2CRNet, S2CRNetConfig, curves_of
from hzcli.nets.trunks import VGG16, close_up, pool

GOLDEN = golden("s2crnet")
CASES = list(GOLDEN["cases"])
SMALL = (8, 16, 16, 16, 16, 24, 24, 32)


# --- Rules ----------------------------------------------------------------------------------


def fill(net: nn.Module) -> nn.Module:
    """Weights by the rule of the golden numbers, loaded strictly."""
    state = {}
    for place, (name, like) in enumerate(net.state_dict().items()):
        v = torch.sin(0.37 * torch.arange(like.numel(), dtype=torch.float64) + place)
        v = v * (math.sqrt(1.5 / like[0].numel()) if like.ndim > 1 else 0.05)
        if name.endswith("fc_b_1.fc1.bias"):
            v = v + 3
        state[name] = v.view(like.shape).float()
    net.load_state_dict(state, strict=True)
    return net.eval()


@lru_cache(maxsize=2)
def net_of(variant: str) -> S2CRNet:
    return fill(s2crnet.published(variant))  # type: ignore[return-value]


def inputs() -> dict[str, Tensor]:
    mask, near = torch.zeros(1, 1, 256, 256), torch.ones(1, 1, 256, 256)
    mask[:, :, 64:160, 80:200] = 1
    near[:, :, :20] = 0
    return {
        "image": picture(256, 256), "mask": mask,
        "fg_image": picture(256, 256, 1.0), "fg_mask": near,
    }  # fmt: skip


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


def thumb_of(edge: int = 64, seed: float = 0.0, **more: Any) -> Thumbnail:
    return Thumbnail(picture(edge, edge, seed), rectangle(edge, edge), Size(edge, edge), **more)


def lively(config: S2CRNetConfig, seed: int = 0) -> S2CRNet:
    """Heads that say something, for every picture another thing."""
    torch.manual_seed(seed)
    net = S2CRNet(config).eval()
    with torch.no_grad():
        for name, p in net.fusion.named_parameters():
            # Our own heads are scaled down; published slopes need a sum far from 0.
            size = 0.5 if config.curve == "published" else 8.0
            p.normal_(0, size / (p.shape[-1] ** 0.5 if p.ndim > 1 else 2))
            if config.curve == "published" and name.endswith("fc_b_1.fc1.bias"):
                p += 1.5
        if config.channels and net.joint is not None:
            for p in net.joint.parameters():  # residual branches start at nothing
                p.add_(torch.randn_like(p), alpha=0.05)
    return net


# --- As published ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(GOLDEN["keys"]))
def test_keys_shapes_and_counts_are_the_published_ones(name: str) -> None:
    """Also of the authors' networks with three and four stages."""
    stages = {"one stage used, two kept": 2, "three stages": 3, "four stages": 4}
    if name.startswith("s2crnet"):
        config = S2CRNetConfig.published(name)
    else:
        config = dataclasses.replace(S2CRNetConfig.published(), stages=stages[name])
    with torch.device("meta"):
        state = S2CRNet(config).state_dict()
    wanted = GOLDEN["keys"][name]
    assert len(state) == wanted["count"]
    assert sum(t.numel() for t in state.values()) == wanted["parameters"]
    for prefix, (keys, values) in wanted["prefixes"].items():
        found = [t.numel() for key, t in state.items() if key.startswith(prefix)]
        assert (len(found), sum(found)) == (keys, values), prefix
    lines = [f"{key} {'x'.join(map(str, shape))}" for key, shape in shapes_of(state).items()]
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == wanted["sha256"]
    assert s2crnet.detect(shapes_of(state)) == "s2crnet"
    assert s2crnet.config_from(shapes_of(state), {}) == config


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
        s2crnet, "curves_of", lambda p, c: curves_of(p.view(-1, 64, 3).mT.flatten(1))
    ),
    "knots at the pieces' centres": lambda net, patch: patch.setattr(
        s2crnet, "curves_of", _shifted
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
        s2crnet, "pool", lambda x, r, p: pool(nn.functional.max_pool2d(x, 2), r, p)
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


@lru_cache(maxsize=2)
def ruled(network: str) -> S2CRNet:
    """Weights that see more than those of the first cases, which hardly look at the pictures."""
    config = S2CRNetConfig.published("s2crnet-v" if network.endswith("vgg") else "s2crnet-s")
    stages = {"fusion_re": 3}.get(network, 2)
    cascade = "1" if network == "fusionv3" else ""
    net = S2CRNet(dataclasses.replace(config, stages=stages, cascade=cascade))
    return fill_by(net, GOLDEN["weight_rule"])  # type: ignore[return-value]


def soft(height: int, width: int) -> Tensor:
    y = torch.arange(height, dtype=torch.float64).view(-1, 1)
    x = torch.arange(width, dtype=torch.float64)
    return (0.5 + 0.6 * torch.sin(0.043 * x + 0.071 * y)).clamp(0, 1)[None, None].float()


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


# --- Curves ---------------------------------------------------------------------------------


def ramps(x: Tensor, p: Tensor, pieces: int = 64) -> Tensor:
    """Eq. (1) term by term, in float64: a ramp of height 1 / L for each slope."""
    x, slopes = x.double(), p.double().view(-1, 3, pieces, 1, 1)
    total = slopes.sum(2) + 1e-30
    out = torch.zeros_like(x)
    for i in range(pieces):
        out += slopes[:, :, i] * (x - i / pieces).clamp(0, 1 / pieces)
    return out * pieces / total


@pytest.mark.parametrize("mean", [3.0, 1.0, -0.5])
def test_curves_are_eq_1(mean: float) -> None:
    """Slopes of one sign, of both, and negative sums, which turn out positive."""
    rng = torch.Generator().manual_seed(0)
    p = torch.randn(2, 192, generator=rng) + mean
    x = torch.rand(2, 3, 40, 50, generator=rng) * 1.2 - 0.1
    curves = curves_of(p)
    got = curves.at(x.flatten(2)).view(x.shape)
    assert (got - ramps(x, p)).abs().max() < 2e-5
    assert torch.equal(curves.knots[..., 0], torch.zeros(2, 3))
    assert (curves.knots[..., -1] - 1).abs().max() < 1e-6


@pytest.mark.parametrize("curve", ["monotone", "free"])
def test_our_curves_rise_and_are_bounded(curve: str) -> None:
    """Whatever is predicted; near a sum of 0, where published ones explode, too."""
    extra = curve == "free"
    count = 3 * (64 + extra)
    rng = torch.Generator().manual_seed(0)
    for scale in (1.0, 30.0, 1000.0):
        knots = curves_of(torch.randn(4, count, generator=rng) * scale, curve).knots
        assert knots.isfinite().all()
        assert (knots.diff(dim=-1) >= 0).all()
    zero_sum = torch.linspace(-1, 1, count)[None]
    assert curves_of(torch.linspace(-1, 1, 192)[None] + 1e-6).knots.abs().max() > 5
    assert curves_of(zero_sum, curve).knots.abs().max() < 1.2


@pytest.mark.parametrize("curve", ["monotone", "free"])
def test_our_curves_start_at_the_identity(curve: str) -> None:
    config = S2CRNetConfig(widths=SMALL, labels=3, hidden=8, curve=curve, pooling="masked")
    net = S2CRNet(config).eval()
    thumb = thumb_of()
    window = Window.whole(Size(64, 64))
    for label in (None, 2):
        net.label = label
        with torch.inference_mode():
            result = net.predict(thumb).apply(thumb.rgb, thumb.mask, window)
            assert (result - thumb.rgb).abs().max() < 1e-6


def test_ends_are_free_where_they_should_be() -> None:
    p = torch.zeros(1, 3 * 9)
    p[:, [0, 9, 18]] = 1.0
    knots = curves_of(p, "free").knots
    assert torch.allclose(knots[..., 0], torch.full((1, 3), s2crnet.GAIN))
    assert torch.allclose(knots[..., -1], torch.full((1, 3), 1 + s2crnet.GAIN))
    pinned = curves_of(torch.randn(1, 24), "monotone").knots
    assert torch.allclose(pinned[..., [0, -1]], torch.tensor([0.0, 1.0]).expand(1, 3, 2))


# --- What it sees ---------------------------------------------------------------------------


@pytest.mark.parametrize("box", [(3, 40, 10, 30), (0, 64, 0, 64), (17, 18, 60, 64)])
def test_close_up_is_pillows(box: tuple[int, int, int, int]) -> None:
    top, bottom, left, right = box
    rgb, mask = picture(64, 64), torch.zeros(1, 1, 64, 64)
    mask[..., top:bottom, left:right] = 0.5
    near = close_up(Thumbnail(rgb, mask, Size(64, 64)), (48, 64))
    for c in range(3):
        part = Image.fromarray(rgb[0, c, top:bottom, left:right].numpy())
        want = np.asarray(part.resize((64, 48), Image.Resampling.BILINEAR))
        assert np.abs(near.rgb[0, c].numpy() - want).max() < 1e-5
    assert (near.mask == 0.5).all()


def test_no_foreground_is_looked_at_as_a_whole() -> None:
    thumb = dataclasses.replace(thumb_of(), mask=torch.zeros(1, 1, 64, 64))
    assert torch.equal(close_up(thumb, (64, 64)).rgb, thumb.rgb)


def test_pooling_over_the_region_forgets_the_rest() -> None:
    """ "masked" gives what a region of its own would; "whole" fades with it."""
    rng = torch.Generator().manual_seed(0)
    maps, region = torch.rand(2, 5, 8, 8, generator=rng), torch.zeros(2, 1, 64, 64)
    region[:, :, 16:32, 8:40] = 1
    inside = maps[:, :, 2:4, 1:5].mean((2, 3))
    assert torch.allclose(pool(maps, region, "masked"), inside, atol=1e-6)
    assert torch.allclose(pool(maps, region, "whole"), maps.mean((2, 3)), atol=1e-6)
    assert (pool(maps, torch.zeros_like(region), "masked") == 0).all()


@pytest.mark.parametrize("net", ["published", "own"])
def test_another_background_guides(net: str | S2CRNet) -> None:
    """F_b comes from the reference, all of it, and from nothing else."""
    exact = net == "published"
    net = ruled("fusionv3s") if exact else lively(SMALL_CONFIG)
    first, second = picture(64, 64, 2.0), picture(64, 64, 4.0) ** 3
    thumb = thumb_of()
    with torch.inference_mode():
        own = net.predict(thumb).knots
        one, two = (
            net.predict(dataclasses.replace(thumb, reference=r)).knots for r in (first, second)
        )
        assert (own - one).abs().max() > 5e-4
        assert (one - two).abs().max() > 5e-4
        # Outside the mask the composite itself no longer counts.
        other = torch.where(thumb.mask > 0, thumb.rgb, 1 - thumb.rgb)
        again = net.predict(dataclasses.replace(thumb, rgb=other, reference=first)).knots
        assert (one - again).abs().max() < (1e-6 if exact else 0.05)
        # All of the reference counts, where the mask lies too.
        inside = torch.where(thumb.mask > 0, 1 - first, first)
        moved = net.predict(dataclasses.replace(thumb, reference=inside)).knots
        assert (one - moved).abs().max() > 1e-4
        # Another size of reference is the same reference.
        large = nn.functional.interpolate(first, (128, 128), mode="nearest")
        big = net.predict(dataclasses.replace(thumb, reference=large)).knots
        assert (one - big).abs().max() < 0.05


def test_labels_change_the_curves_and_none_is_the_default() -> None:
    net = lively(S2CRNetConfig(widths=SMALL, thumbnail=64))
    assert net.label is None
    assert sorted(net.labels.values()) == [0, 1, 2, 3, 4]
    thumb = thumb_of()
    knots = []
    with torch.inference_mode():
        for label in (None, *S2CRNet.labels.values()):
            net.label = label
            knots.append(net.predict(thumb).knots)
    for n, one in enumerate(knots):
        assert all((one - other).abs().max() > 1e-3 for other in knots[:n])


def test_a_label_for_weights_without_any_is_an_error() -> None:
    net = lively(S2CRNetConfig(widths=SMALL, thumbnail=64, labels=0))
    net.label = 1
    with pytest.raises(ModelError, match="without semantic labels"):
        net.predict(thumb_of())


# --- Full resolution ------------------------------------------------------------------------


def test_predict_renders_what_is_published() -> None:
    """The cascade as one table, on a larger picture, against eq. (1) twice in float64."""
    net, given = net_of("s2crnet-s"), inputs()
    near = Thumbnail(given["fg_image"], given["fg_mask"], Size(96, 120))
    thumb = Thumbnail(given["image"], given["mask"], Size(300, 411), near)
    full, mask = picture(300, 411), rectangle(300, 411)
    with torch.inference_mode():
        out = net(**given, image_fullres=full, mask_fullres=mask)
        result = net.predict(thumb).apply(full, mask, Window.whole(Size(300, 411)))
        few = net.curves(thumb).apply(full, mask, Window.whole(Size(300, 411)))
    want = ramps(ramps(full, out["p1"]), out["p2"])
    for got in (result, few, out["images_fullres"]):
        assert (got - want).abs().max() < 5e-6
    assert torch.equal(out["composited_fullres"], out["images_fullres"] * mask + full * (1 - mask))


def test_forward_cuts_the_foreground_out_itself() -> None:
    net, given = net_of("s2crnet-s"), inputs()
    near = close_up(Thumbnail(given["image"], given["mask"], Size(256, 256)), (256, 256))
    with torch.inference_mode():
        alone = net(given["image"], given["mask"])
        with_it = net(given["image"], given["mask"], near.rgb, near.mask)
    assert torch.equal(alone["y2"], with_it["y2"])


def test_published_networks_see_the_size_they_were_trained_on() -> None:
    net = net_of("s2crnet-s")
    assert (net.thumbnail_edge, net.thumbnail_filter, net.needs_closeup) == (256, "triangle", True)
    with torch.inference_mode():
        small, large = (net.stages(thumb_of(edge))[0].knots for edge in (128, 256))
    assert (small - large).abs().max() < 0.05


def test_the_table_is_exact_for_one_stage_and_near_for_two() -> None:
    for cascade, limit in (("1", 1e-5), ("12", 0.03)):
        config = dataclasses.replace(SMALL_CONFIG, hidden=8, cascade=cascade)
        net, thumb = lively(config), thumb_of()
        window = Window.whole(Size(64, 64))
        with torch.inference_mode():
            table = net.predict_lut(thumb).apply(thumb.rgb, thumb.mask, window)
            curves = net.predict(thumb).apply(thumb.rgb, thumb.mask, window)
        assert (table - curves).abs().max() < limit
        assert (curves - thumb.rgb).abs().max() > 0.03


def test_learning_renders_what_predicting_does() -> None:
    net, thumb = lively(dataclasses.replace(SMALL_CONFIG, thumbnail=64)), thumb_of()
    window = Window.whole(Size(64, 64))
    learning = net.predict(thumb).apply(thumb.rgb, thumb.mask, window)
    with torch.inference_mode():
        rendering = net.predict(thumb).apply(thumb.rgb, thumb.mask, window)
    assert learning.requires_grad
    assert (learning - rendering).abs().max() < 2e-3


# --- Weights --------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [0, 5])
def test_labels_are_read_from_the_weights(labels: int) -> None:
    """Strictly: without the semantic heads the others' weights do not fit, nor turned round."""
    config = S2CRNetConfig(widths=SMALL, labels=labels)
    state = S2CRNet(config).state_dict()
    found = s2crnet.config_from(shapes_of(state), {})
    assert found == config
    S2CRNet(found).load_state_dict(state, strict=True)
    with pytest.raises(RuntimeError, match="fc_f_label"):
        S2CRNet(dataclasses.replace(config, labels=5 - labels)).load_state_dict(state, strict=True)


def test_a_configuration_that_cannot_be_read_is_named() -> None:
    shapes = shapes_of(S2CRNet(S2CRNetConfig(widths=SMALL)).state_dict())
    with pytest.raises(ModelError, match=r"lack squeezenet1_1\.9\.expand1x1"):
        s2crnet.config_from(
            {k: s for k, s in shapes.items() if k != "squeezenet1_1.9.expand1x1.weight"}, {}
        )
    with pytest.raises(ModelError, match="pooling"):
        s2crnet.config_from(shapes, {"pooling": "some"})
    with pytest.raises(ModelError, match="no trunk"):
        s2crnet.config_from({"weight": (3,)}, {})
    with pytest.raises(ValueError, match="no variant"):
        s2crnet.published("s2crnet")


def test_compact_is_small_and_starts_at_the_identity() -> None:
    config = S2CRNetConfig.compact()
    with torch.device("meta"):
        assert sum(p.numel() for p in S2CRNet(config).parameters()) < 6e6
    assert config.thumbnail in range(128, 257)
    assert config.curve == "free" and config.pooling == "masked"


SMALL_CONFIG = dataclasses.replace(
    S2CRNetConfig.compact(), widths=SMALL, hidden=16, pieces=16, thumbnail=96, channels=(), blocks=0
)
WITH_ENCODER = dataclasses.replace(SMALL_CONFIG, hidden=32, channels=(8, 16, 32, 32), blocks=1)


class TestOwn(ModelContract):
    """The better readings, small."""

    module = s2crnet

    def model(self) -> nn.Module:
        return lively(SMALL_CONFIG)


class TestWithEncoder(ModelContract):
    """The same, and the encoder in the joint network's place."""

    module = s2crnet

    def model(self) -> nn.Module:
        return lively(WITH_ENCODER)


def test_the_encoder_sees_the_foreground_before_the_reference() -> None:
    net, thumb, seen = lively(WITH_ENCODER), thumb_of(), []
    other = torch.rand_like(thumb.rgb)
    net.joint.register_forward_pre_hook(lambda _, inputs: seen.append(inputs))  # type: ignore[union-attr]
    with torch.inference_mode():
        net.predict(dataclasses.replace(thumb, reference=other))
    ((rgb, mask),) = seen
    assert torch.equal(rgb, thumb.rgb * thumb.mask + other * (1 - thumb.mask))
    assert torch.equal(mask, thumb.mask)


class TestPublishedReadings(ModelContract):
    """The authors' readings, small, with their dead layers."""

    module = s2crnet
    # Without a label the semantic heads are not used.
    unused = ("fc_label_1", "fc_label_2", "fc_f_label")

    def model(self) -> nn.Module:
        return lively(S2CRNetConfig(widths=SMALL, thumbnail=96, pieces=16))


class TestLabelled(ModelContract):
    """The second trunk, three stages, a label and its heads."""

    module = s2crnet
    # With a label the plain foreground heads are not used.
    unused = ("fc_f_1",)

    def model(self) -> nn.Module:
        widths = tuple(width // 16 for width in VGG16)
        config = S2CRNetConfig(
            trunk="vgg16", widths=widths, thumbnail=64, pieces=8, stages=3, labels=3,
            curve="monotone", pooling="masked", thumbnail_filter="area",
        )  # fmt: skip
        net = lively(config)
        net.label = 1
        return net

    def test_configuration_is_read_back_from_weights(self) -> None:
        """The label is the caller's to set, not the weights'."""
        config = self.network().config
        shapes = shapes_of(self.network().state_dict())
        readings = {name: str(getattr(config, name)) for name in config.READINGS}
        assert s2crnet.config_from(shapes, readings) == config
