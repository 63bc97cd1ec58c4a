"""CDTNet in our configurations: what its branches start from, an oracle of them, the laws."""

from __future__ import annotations

import dataclasses

import own_networks
import pytest
import torch
from contract import ModelContract
from own_networks import WHOLE, change
from ruled_cdtnets import eight_corners, ellipse
from torch import Tensor
from torch.nn import functional as F

import hzcli.models.cdtnet
from hzcli.core.lut import Lut3D
from hzcli.core.transform import Thumbnail
from hzcli.core.window import Window
from hzcli.models.cdtnet import CDTNet, CDTNetConfig
from hzcli.models.cdtnet.own import Collaborative
from hzcli.models.hinet import HINet, HINetConfig
from hzcli.train.adopt import adopt

SMALL = CDTNetConfig(thumbnail=64, channels=(8, 16, 16, 32), blocks=1, code=16, luts=12, lut_size=5,
                     width=8, features=4, refine=6)  # fmt: skip


def wild(config: CDTNetConfig) -> CDTNet:
    return own_networks.wild(
        lambda: CDTNet(config), r"(to_rgb\.weight|to_rgb\.bias|classifier\.weight)$", 0.8
    )


def seen(edge: int) -> tuple[Tensor, Tensor, Thumbnail]:
    return own_networks.seen(edge, ellipse)


@pytest.mark.parametrize("edge", [128, 200, 72])
@pytest.mark.parametrize(
    "config", [CDTNetConfig.compact(), CDTNetConfig.sim()], ids=["full", "sim"]
)
def test_untrained_it_changes_nothing(config: CDTNetConfig, edge: int) -> None:
    torch.manual_seed(5)
    model = CDTNet(config).eval()
    assert sum(p.numel() for p in model.parameters()) <= 6e6
    assert change(model, *seen(edge)) < 5e-6


def test_the_branches_start_where_the_table_ends() -> None:
    """Whatever the table does, untrained pixel branch and refinement add nothing to it; once
    trained, each of them does."""
    model = wild(SMALL)
    image, mask, thumb = seen(64)
    window = Window.whole(WHOLE)
    refined = model.predict(thumb).apply(image, mask, window)
    for part in (model.refine, model.decoder):
        part.to_rgb.weight.zero_()
        part.to_rgb.bias.zero_()
        half, refined = refined, model.predict(thumb).apply(image, mask, window)
        assert (half - refined).abs().max() > 1e-3
    table = model.predict_lut(thumb).apply(image, mask, window)
    assert (refined - table).abs().max() < 1e-6
    assert (table - image).abs().max() > 0.05


def test_sim_is_the_table_alone() -> None:
    """Without D and R: the same table, and no tensor of theirs."""
    full = wild(SMALL)
    sim = CDTNet(dataclasses.replace(SMALL, refinement=False)).eval()
    sim.load_state_dict({k: v for k, v in full.state_dict().items() if k in sim.state_dict()})
    assert not any(k.startswith(("decoder.", "refine.")) for k in sim.state_dict())
    _, _, thumb = seen(64)
    with torch.inference_mode():
        table = sim.predict(thumb)
    assert isinstance(table, Lut3D)
    assert torch.equal(table.lut, full.predict_lut(thumb).lut)


def test_both_transformations_and_the_refinement_in_float64() -> None:
    """Pixel by pixel: the table's eight corners, the enlarged pixel branch, and R."""
    model = wild(SMALL)
    image, mask, thumb = seen(64)
    transform = model.predict(thumb)
    assert isinstance(transform, Collaborative)
    got = transform.apply(image, mask, Window.whole(WHOLE))[0].double()

    # The authors' lookup has its last node a millionth further out.
    table = eight_corners(transform.lut[0].permute(0, 3, 2, 1), image[0])
    size = (WHOLE.height, WHOLE.width)
    low = F.interpolate(transform.low.double(), size, mode="bilinear", align_corners=False)[0]
    pix = table + low[:3]
    x = torch.cat([2 * pix - 1, 2 * image[0].double() - 1, mask[0].double(), low[3:]])
    state = {k: v.double() for k, v in model.refine.state_dict().items()}
    for name in ("first", "second", "to_rgb"):
        x = torch.einsum("oc,chw->ohw", state[f"{name}.weight"][:, :, 0, 0], x)
        x = x + state[f"{name}.bias"][:, None, None]
        x = x if name == "to_rgb" else torch.where(x > 0, x, x.exp() - 1)
    assert (got - (pix + 0.1 * x)).abs().max() < 2e-5


def test_gates_tell_foreground_from_background() -> None:
    """Of one map, what the code says of the foreground reaches only it (and what lies beside)."""
    model = wild(SMALL)
    decoder = model.decoder
    maps = tuple(torch.ones(1, c, 8 // n, 8 // n) for c, n in ((32, 4), (32, 2), (16, 1)))
    code, rgb, m = torch.randn(1, 16), torch.zeros(1, 3, 16, 16), torch.zeros(1, 1, 16, 16)
    m[..., :8] = 1
    before = decoder(maps, code, rgb, rgb, m)
    decoder.gates.weight[:8] *= -2  # the first half is the foreground's
    change = (decoder(maps, code, rgb, rgb, m) - before).abs().amax((0, 1, 2))
    assert change[:8].min() > 1e-4
    # Two convolutions of 3 x 3 and two enlargements look six places far.
    assert change[14:].max() < 1e-6


# --- Weights to start from ------------------------------------------------------------------


@pytest.fixture
def hinet() -> HINet:
    """A small one, whose tables are far from the identity."""
    torch.manual_seed(1)
    config = dataclasses.replace(
        HINetConfig.compact(), channels=SMALL.channels, blocks=1, code=SMALL.code, lut=5
    )
    model = HINet(config).eval().requires_grad_(False)
    for head in (model.tone, model.lut):
        for t in head.parameters():
            t.normal_(0, 0.3)
    return model


@pytest.mark.parametrize(("luts", "size"), [(17, 5), (40, 5), (17, 9)])
def test_hinets_table_comes_along(hinet: HINet, luts: int, size: int) -> None:
    """With a table a number of the code and one more, the whole of it, also at more nodes."""
    model = CDTNet(dataclasses.replace(SMALL, luts=luts, lut_size=size)).eval()
    adopt(model, hinet.state_dict())
    image, mask, thumb = seen(64)
    with torch.inference_mode():
        for transform in (model.predict_lut(thumb), model.predict(thumb)):
            got = transform.apply(image, mask, Window.whole(WHOLE))
            expected = hinet.predict_lut(thumb).apply(image, mask, Window.whole(WHOLE))
            assert (got - expected).abs().max() < 2e-5
    assert (expected - image).abs().max() > 0.05


def test_fewer_tables_hold_what_they_can(hinet: HINet) -> None:
    """The error falls with every table: principal ones come first."""
    _, _, thumb = seen(64)
    errors = []
    for luts in (2, 6, 10, 14, 17):
        model = CDTNet(dataclasses.replace(SMALL, luts=luts)).eval()
        adopt(model, hinet.state_dict())
        with torch.inference_mode():
            wanted = hinet.predict_lut(thumb).lut
            errors.append(float((model.predict_lut(thumb).lut - wanted).square().mean()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-10 < errors[0]


def test_of_others_there_is_no_table(hinet: HINet) -> None:
    model = CDTNet(SMALL)
    state = hinet.state_dict()
    assert model.kindred({k: v for k, v in state.items() if not k.startswith("tone")}) == {}
    other = CDTNet(dataclasses.replace(SMALL, code=8))
    assert other.kindred(state) == {}


# --- Training, and the laws -----------------------------------------------------------------


@pytest.mark.parametrize("refinement", [True, False], ids=["full", "sim"])
def test_a_few_steps_undo_a_tint(refinement: bool) -> None:
    """The same in every picture: tables and weights both move."""
    torch.manual_seed(6)
    model = CDTNet(dataclasses.replace(SMALL, refinement=refinement))
    own_networks.check_a_tint_is_undone(model, 5e-3, 15)


class TestCDTNet(ModelContract):
    module = hzcli.models.cdtnet

    def model(self) -> CDTNet:
        return wild(SMALL)


class TestCloser(ModelContract):
    """Several looks at each picture."""

    module = hzcli.models.cdtnet

    def model(self) -> CDTNet:
        return wild(dataclasses.replace(SMALL, closer=2))


class TestSim(ModelContract):
    """The table alone."""

    module = hzcli.models.cdtnet

    def model(self) -> CDTNet:
        numbers = {
            n: getattr(SMALL, n) for n in ("thumbnail", "channels", "blocks", "code", "luts")
        }
        return wild(CDTNetConfig(**numbers, lut_size=5, refinement=False))
