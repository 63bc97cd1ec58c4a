"""What the compact encoder measures, against OpenCV."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hzcli.nets.compact import both_sides


@pytest.mark.parametrize(("height", "width"), [(64, 48), (20, 90), (16, 16)])
def test_sides_near_the_edge_are_what_a_box_blur_says(height: int, width: int) -> None:
    cv2 = pytest.importorskip("cv2")
    mask = np.random.default_rng(1).random((height, width), np.float32)
    mask[: height // 2] = 0
    side = max(3, width // 7 | 1)
    held = {"ksize": (side, side), "borderType": cv2.BORDER_CONSTANT, "ddepth": -1}
    blurred = cv2.boxFilter(mask, normalize=False, **held)
    blurred /= cv2.boxFilter(np.ones_like(mask), normalize=False, **held)
    wanted = mask, 1 - mask, mask * (1 - blurred), (1 - mask) * blurred
    for found, expected in zip(both_sides(torch.from_numpy(mask)[None, None]), wanted, strict=True):
        assert np.allclose(found[0, 0], expected, atol=1e-5)
