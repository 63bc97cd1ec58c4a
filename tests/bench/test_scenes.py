"""Pictures made by rule: their masks cover what was asked, and codecs see a photograph in them."""

from __future__ import annotations

from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from hzcli.bench import scenes
from hzcli.core.window import Size

SIZE = Size(384, 576)


@pytest.mark.parametrize("share", [0.05, 0.1, 0.25, 0.5, 0.8])
def test_a_mask_covers_the_share_asked(share: float) -> None:
    """Its mean is the share, within a hundredth of the picture; it is soft at its border."""
    codes = np.concatenate(list(scenes.mask(SIZE, share)))

    assert codes.shape == (SIZE.height, SIZE.width)
    assert codes.mean() / 255 == pytest.approx(share, abs=0.01)
    assert codes.min() == 0 and codes.max() == 255
    assert ((codes > 0) & (codes < 255)).any()


def test_a_whole_mask_leaves_a_background() -> None:
    """One row: else there is nothing to harmonise to."""
    codes = np.concatenate(list(scenes.mask(SIZE, 1.0)))

    assert (codes[0] == 0).all() and (codes[1:] == 255).all()


def test_a_scene_is_the_same_each_time_and_of_any_height() -> None:
    """A last band that is lower than the others, and no chance."""
    size = Size(130, 96)

    one, two = (np.concatenate(list(scenes.scene(size))) for _ in range(2))

    assert one.shape == (130, 96, 3) and one.dtype == np.uint8
    assert (one == two).all()
    assert (one != np.concatenate(list(scenes.scene(size, seed=1)))).any()


def test_codecs_see_a_photograph() -> None:
    """As many bits a pixel as photographs take, within a third: 1.16 as JPEG of quality 95 and
    11.4 as 16-bit deflate are the means of photographs of 4 to 12 megapixels."""
    size = Size(1500, 2250)
    pixels = np.concatenate(list(scenes.scene(size)))
    jpeg = imagecodecs.jpeg8_encode(pixels, level=95)
    wide = imagecodecs.jpeg8_decode(jpeg).astype(np.uint16) * 257
    deflated = imagecodecs.deflate_encode(
        imagecodecs.delta_encode(wide, axis=-2).tobytes(), level=1
    )

    assert 0.8 < len(jpeg) * 8 / size.pixels < 1.55
    assert 11.4 * 0.7 < len(deflated) * 8 / size.pixels < 11.4 * 1.3


@pytest.mark.parametrize("tiff", [False, True])
def test_files_hold_the_scene(tiff: bool, tmp_path: Path) -> None:
    """The TIFFs exactly, as another library reads them; JPEG nearly. Written once."""
    picture, mask = scenes.write(tmp_path, SIZE, 0.25, tiff=tiff)

    expected = np.concatenate(list(scenes.scene(SIZE)))
    cover = np.concatenate(list(scenes.mask(SIZE, 0.25)))
    if tiff:
        assert (tifffile.imread(picture) == expected).all()
        assert (tifffile.imread(mask) == cover).all()
    else:
        assert np.abs(np.asarray(Image.open(picture), int) - expected).mean() < 4
        assert (np.asarray(Image.open(mask)) == cover).all()
    before = picture.stat().st_mtime_ns
    assert scenes.write(tmp_path, SIZE, 0.25, tiff=tiff) == (picture, mask)
    assert picture.stat().st_mtime_ns == before
