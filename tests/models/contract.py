"""What every model of hz must do, whatever paper it comes from: subclass, and name the model.

class TestHINet(ModelContract):
    module = hzcli.models.hinet

    def model(self):
        return a small HINet whose weights are far from 0, in eval mode
"""

from __future__ import annotations

import importlib
import re
from types import ModuleType
from typing import Any, ClassVar
from unittest import mock

import numpy as np
import pytest
import torch
from held_pictures import (
    Codes,
    Held,  # noqa: F401 (tests of models that bind take it from here)
    Rows,
    Spy,
    bound,
    picture,
    readings_of,
    shapes_of,
    soft_mask,
    tensors,
    thumbnail,
)
from torch import nn

from hzcli.catalog import CARDS
from hzcli.core.lut import Lut3D
from hzcli.core.transform import Thumbnail, lerp
from hzcli.core.window import Size, Window
from hzcli.engine import stream
from hzcli.engine.plan import Plan

MODULES = sorted(
    {f"hzcli.models.{name}" for name in ("aict", "cdtnet", "hdnet", "hinet", "pctnet", "s2crnet")}
    | {card.module for card in CARDS}
)
# Half a code of 16 bits: what bands may differ by from the whole picture.
HALF_CODE = 1 / 131070
# Rows of bands and columns of tiles: odd, one block, more than the picture.
BANDS = ((5, 24), (16, 1000), (64, 37))
EXTREMES = ((1, 37), (41, 1), (3, 2), (2, 1), (1, 2), (7, 210))


# --- The contract ---------------------------------------------------------------------------


class ModelContract:
    """The laws. `unused`: patterns (re.search) of parameters that no loss reaches, with a reason
    in a comment beside them. `batch_tolerance`: of a batch against its pictures one by one."""

    module: ClassVar[ModuleType]
    unused: ClassVar[tuple[str, ...]] = ()
    batch_tolerance: ClassVar[float] = 5e-5

    def model(self) -> nn.Module:
        """A small configuration, weights far from 0 by rule or seed, in eval mode."""
        raise NotImplementedError

    # --- what the laws stand on

    def network(self) -> nn.Module:
        """The model, made once for all tests of a class; no test may change it."""
        cls = type(self)
        if "_network" not in cls.__dict__:
            torch.manual_seed(0)
            cls._network = self.model().eval().requires_grad_(False)  # type: ignore[attr-defined]
        return cls._network  # type: ignore[attr-defined]

    def run(
        self,
        codes: np.ndarray,
        mask: np.ndarray,
        bands: tuple[int, int] = (64, 64),
        predictor: Any = None,
    ) -> np.ndarray:
        """Codes of 16 bits as the engine delivers them, in bands and tiles of a given size."""
        rows = Rows()
        plan = Plan(*bands, peak_bytes=0, reason="as the test wants it")
        with mock.patch.object(stream, "plan", return_value=plan):
            stream.harmonise(Codes(codes), Codes(mask), predictor or self.network(), rows)
        return rows.array

    # --- laws

    @pytest.mark.parametrize("size", [(131, 97), (75, 203)], ids=str)
    def test_bands_equal_the_whole_picture(self, size: tuple[int, int]) -> None:
        """L1: through the engine, in bands and tiles of three sizes, to half a code of 16 bits."""
        codes, mask = picture(*size), soft_mask(*size)
        spy = Spy(self.network())
        rgb, soft = tensors(codes, mask)
        for bands in BANDS:
            delivered = self.run(codes, mask, bands, spy)
            with torch.inference_mode():
                transform = bound(spy.transform, rgb, soft)
                result = transform.apply(rgb, soft, Window.whole(Size(*size)))
            change = soft.double() * (result.double().clamp(0, 1) - rgb.double())
            expected = (rgb.double() + change)[0].numpy().transpose(1, 2, 0)
            # The float picture may differ by half a code, and rounding adds half a code.
            error = np.abs(delivered / 65535 - expected).max()
            assert error <= 2 * HALF_CODE + 1e-7, f"{bands}: {error * 65535:.2f} codes"
        assert np.abs(change.numpy()).max() > 0.02, "the model changes too little to test"

    @pytest.mark.parametrize("depth", [8, 16])
    def test_background_is_bit_identical(self, depth: int) -> None:
        """L2: pixels with mask 0 keep their codes, 8-bit ones times 257."""
        codes, mask = picture(67, 90, depth), soft_mask(67, 90)
        delivered = self.run(codes, mask, (16, 40))
        source = codes.astype(np.uint16) * np.uint16(257 if depth == 8 else 1)
        assert np.array_equal(delivered[mask == 0], source[mask == 0])
        assert (delivered[mask > 0] != source[mask > 0]).mean() > 0.5

    def test_lerp_ends_are_the_transforms(self) -> None:
        """L4."""
        model, size = self.network(), (40, 56)
        first, second = (tensors(picture(*size, seed=seed), soft_mask(*size)) for seed in (1, 2))
        window = Window.whole(Size(*size))
        with torch.inference_mode():
            a, b = (model.predict(thumbnail(model, *pair)) for pair in (first, second))
            ends = lerp(a, b, 0), lerp(a, b, 1)
            for end, kept in zip(ends, (a, b), strict=True):
                got, expected = (bound(t, *first).apply(*first, window) for t in (end, kept))
                assert torch.equal(got, expected)
            got, other = (bound(t, *first).apply(*first, window) for t in ends)
        assert not torch.equal(got, other), "two pictures give one transform"

    def test_the_same_picture_twice_gives_the_same_bytes(self) -> None:
        """L7."""
        codes, mask = picture(70, 53), soft_mask(70, 53)
        assert self.run(codes, mask).tobytes() == self.run(codes, mask).tobytes()

    @pytest.mark.parametrize("size", EXTREMES, ids=str)
    def test_any_aspect_ratio_is_harmonised(self, size: tuple[int, int]) -> None:
        """Lines, columns and a few pixels: every row comes out (the engine refuses NaN)."""
        mask = np.zeros(size, np.uint8)
        mask.flat[mask.size // 2 :] = 255
        delivered = self.run(picture(*size), mask, (4, 64))
        assert delivered.shape == (*size, 3)

    def test_one_pixel_is_a_picture(self) -> None:
        model, window = self.network(), Window.whole(Size(1, 1))
        rgb, mask = torch.full((1, 3, 1, 1), 0.4), torch.ones(1, 1, 1, 1)
        with torch.inference_mode():
            transform = bound(model.predict(thumbnail(model, rgb, mask)), rgb, mask)
            result = transform.apply(rgb, mask, window)
        assert result.shape == rgb.shape
        assert result.isfinite().all()

    def test_a_mask_that_is_soft_everywhere(self) -> None:
        """No pixel at 0 and none at 1: as a hand-painted mask may be."""
        mask = np.random.default_rng(3).integers(1, 255, (45, 61)).astype(np.uint8)
        codes = picture(45, 61)
        delivered = self.run(codes, mask)
        assert delivered.shape == codes.shape
        assert (delivered != codes).any()

    def test_a_batch_is_its_pictures_one_by_one(self) -> None:
        """`predict` and, where nothing is to be bound, `apply` take batches."""
        model, size = self.network(), (48, 64)
        pairs = [tensors(picture(*size, seed=seed), soft_mask(*size)) for seed in (1, 2)]
        window = Window.whole(Size(*size))
        with torch.inference_mode():
            thumbs = [thumbnail(model, *pair) for pair in pairs]
            both = model.predict(_batch(thumbs))
            if hasattr(both, "bind"):
                pytest.skip("shown one picture at a time")
            rgb, mask = (torch.cat(parts) for parts in zip(*pairs, strict=True))
            got = both.apply(rgb, mask, window)
            for index, (pair, thumb) in enumerate(zip(pairs, thumbs, strict=True)):
                single = model.predict(thumb).apply(*pair, window)
                error = ((got[index : index + 1] - single).abs() * (pair[1] > 0)).max()
                assert error <= self.batch_tolerance

    def test_configuration_is_read_back_from_weights(self) -> None:
        """Hyper-parameters from shapes, readings from metadata: the same network, strictly."""
        model = self.network()
        state = model.state_dict()
        config = self.module.config_from(shapes_of(state), readings_of(model.config))
        assert config == model.config
        again = type(model)(config).eval()
        again.load_state_dict(state, strict=True)
        rgb, mask = tensors(picture(40, 56), soft_mask(40, 56))
        window = Window.whole(Size(40, 56))
        with torch.inference_mode():
            got, expected = (
                bound(m.predict(thumbnail(m, rgb, mask)), rgb, mask).apply(rgb, mask, window)
                for m in (again, model)
            )
        assert torch.equal(got, expected)

    def test_weights_are_recognised_by_this_model_alone(self) -> None:
        """By keys and shapes; by its own `detect`, and by no other's."""
        shapes = shapes_of(self.network().state_dict())
        name = self.module.__name__.split(".")[2]
        answers = {
            other.__name__.split(".")[2]: other.detect(shapes)
            for other in _modules()
            if hasattr(other, "detect")
        }
        assert answers.pop(name) == name
        assert {other: found for other, found in answers.items() if found is not None} == {}
        assert self.module.detect({}) is None
        assert self.module.detect({"weight": (3, 3)}) is None

    def test_gradient_reaches_every_parameter(self) -> None:
        """A loss on what `apply` and the 3D table give teaches all that is learnt."""
        model = self.model().eval().requires_grad_(True)
        pairs = [tensors(picture(48, 64, seed=seed), soft_mask(48, 64)) for seed in (1, 2)]
        noise = torch.Generator().manual_seed(7)
        loss = torch.zeros(())
        for rgb, mask in pairs:
            thumb = thumbnail(model, rgb, mask)
            transform = bound(model.predict(thumb), rgb, mask)
            result = transform.apply(rgb, mask, Window.whole(Size(48, 64)))
            target = torch.rand(result.shape, generator=noise)
            loss = loss + (mask * (result - target)).square().mean()
            table = model.predict_lut(thumb).lut
            if table.requires_grad:
                loss = loss + (table - torch.rand(table.shape, generator=noise)).square().mean()
        loss.backward()
        still = {
            name
            for name, p in model.named_parameters()
            if p.grad is None or not p.grad.abs().sum() > 0
        }
        dead = {n for n, _ in model.named_parameters() if any(re.search(u, n) for u in self.unused)}
        assert still == dead, (
            f"no gradient: {sorted(still - dead)[:5]}, unexpected: {sorted(dead - still)[:5]}"
        )

    def test_predict_lut_gives_a_table(self) -> None:
        model = self.network()
        rgb, mask = tensors(picture(60, 44), soft_mask(60, 44))
        with torch.inference_mode():
            table = model.predict_lut(thumbnail(model, rgb, mask))
            result = table.apply(rgb, mask, Window.whole(Size(60, 44)))
        assert isinstance(table, Lut3D)
        edge = table.lut.shape[-1]
        assert table.lut.shape == (1, 3, edge, edge, edge)
        assert table.lut.isfinite().all() and result.isfinite().all()

    def test_says_what_it_wants_to_see(self) -> None:
        """Attributes that the engine asks for."""
        model = self.network()
        assert model.thumbnail_edge >= 1
        assert getattr(model, "thumbnail_filter", "area") in ("area", "bilinear", "triangle")
        assert isinstance(getattr(model, "needs_closeup", False), bool)
        assert model.card.model == self.module.__name__.split(".")[2]


def _batch(thumbs: list[Thumbnail]) -> Thumbnail:
    closeup = None
    if thumbs[0].closeup is not None:
        closeup = _batch([thumb.closeup for thumb in thumbs if thumb.closeup is not None])
    rgb, mask = (torch.cat([getattr(t, name) for t in thumbs]) for name in ("rgb", "mask"))
    return Thumbnail(rgb, mask, thumbs[0].full, closeup)


def _modules() -> list[ModuleType]:
    """The models that exist."""
    found = []
    for name in MODULES:
        try:
            found.append(importlib.import_module(name))
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
    return found
