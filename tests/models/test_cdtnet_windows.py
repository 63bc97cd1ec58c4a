"""CDTNet as published, window by window: what the engine asks for equals the whole picture."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from ruled_cdtnets import box, fill, reread, seen, soft_inputs, wildly_filled

from hzcli.core.lut import Lut3D
from hzcli.core.transform import Thumbnail
from hzcli.core.window import Size, Window, bands
from hzcli.models.cdtnet import PublishedCDTNet
from hzcli.nets import unet


@pytest.fixture(scope="module")
def net() -> PublishedCDTNet:
    return fill(wildly_filled)


@pytest.mark.parametrize("rows", [1, 7, 64, 200])
def test_bands_are_the_published_picture(net: PublishedCDTNet, rows: int) -> None:
    """`predict` and `apply`, in bands with their halo and in columns, give what `forward` gives:
    whole or in parts, to a thousandth of an 8-bit level."""
    inputs = soft_inputs()
    image, mask, lr = inputs["image"], inputs["mask"], inputs["lr"]
    size = Size(*image.shape[2:])
    with torch.inference_mode():
        expected = net(**inputs)["images"]
        transform = net.predict(seen(image, mask, lr, lr // 8))
        for band in bands(size, rows):
            if rows == 1 and band.top % 20:
                continue
            for left, right in ((0, 130), (130, size.width)):
                window = dataclasses.replace(band, left=left, right=right)
                wide = window.grow(transform.reach.halo, transform.reach.align)
                part = (..., slice(wide.top, wide.bottom), slice(wide.left, wide.right))
                result = transform.apply(image[part], mask[part], wide)
                got = result[(..., *window.inside(wide))]
                whole = expected[..., window.top : window.bottom, left:right]
                assert (got - whole).abs().max() < 4e-6


def test_halo_is_two_rows_and_no_less(net: PublishedCDTNet) -> None:
    """With a row less around it, a band is not the picture's any more."""
    inputs = soft_inputs()
    image, mask, lr = inputs["image"], inputs["mask"], inputs["lr"]
    window = Window(60, 100, 0, 333, Size(200, 333))
    with torch.inference_mode():
        transform = net.predict(seen(image, mask, lr, lr // 8))
        expected = net(**inputs)["images"][..., 60:100, :]
        for halo, same in ((2, True), (1, False)):
            wide = window.grow(halo)
            part = (..., slice(wide.top, wide.bottom), slice(None))
            got = transform.apply(image[part], mask[part], wide)[(..., *window.inside(wide))]
            assert ((got - expected).abs().max() < 4e-6) == same
    assert transform.reach.halo == 2


def test_the_full_pictures_mask_is_what_pooling_samples(net: PublishedCDTNet) -> None:
    """Point samples of a mask of thin stripes depend on the size that they are taken from:
    given the full picture's, colours are the published ones; by the thumbnail's, they are not."""
    image = soft_inputs()["image"]
    mask = box(200, 333, (37, 121), (55, 180))
    mask[..., ::7] = 0
    with torch.inference_mode():
        expected = net(image, mask, lr=128)
        thumb = seen(image, mask, 128, 16)
        given = net.predict(thumb).apply(image, mask, Window.whole(thumb.full))
        plain = net.predict(Thumbnail(thumb.rgb, thumb.mask, thumb.full))
        near = plain.apply(image, mask, Window.whole(thumb.full))
    assert (given - expected["images"]).abs().max() < 4e-6
    assert (near - expected["images"]).abs().max() > 0.01
    assert net.mask_edges == (32,)
    assert reread(net, pooling="area").mask_edges == ()


def test_sim_predicts_a_plain_table_and_runs_no_decoder(
    net: PublishedCDTNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table of `predict` is that of `predict_lut`, and gives `lut_images`."""
    inputs = soft_inputs()
    image, mask, lr = inputs["image"], inputs["mask"], inputs["lr"]
    sim = reread(net, refinement=False)
    thumb = seen(image, mask, lr, lr // 8)
    with torch.inference_mode():
        expected = sim(**inputs)["lut_images"]
        monkeypatch.setattr(unet.Decoder, "forward", None)
        table, same = sim.predict(thumb), net.predict_lut(thumb)
        assert isinstance(table, Lut3D)
        assert torch.equal(table.lut, same.lut)
        got = table.apply(image, mask, Window.whole(thumb.full))
    # Its nodes lie at k / (n - 1), not a millionth further: rough tables show that.
    assert (image + mask * (got - image) - expected).abs().max() < 2e-5
