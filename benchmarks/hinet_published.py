"""HINet's published weights at full resolution, beside the authors' own way, on this processor.

    git clone https://github.com/WindVChen/INR-Harmonization authors
    python benchmarks/hinet_published.py --authors authors --height 1024 --width 1400

The authors' script for arbitrary resolutions cuts a picture into patches and runs the whole
network, encoder and all, for each; hz encodes the thumbnail once and streams. Both sides get the
same weights by seed, one thread, one after the other in one process, and CPU-seconds are
counted. Some of the patches are run (--patches) and the rest is extrapolated; what the script
does besides (the first patch twice, resizing the picture for each, loading) is not counted
against it. The engine's side is all of it: survey, encoder, decoding, blending, 16-bit rows.

hz also checks itself: what the engine delivers must be what the published decoder gives for the
whole picture at once (--check; takes its memory).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import math
import sys
import time
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hzcli.core.window import Size, Window
from hzcli.engine import stream, thumbnail
from hzcli.models import hinet


class Codes:
    """Rows of an array, as an open file gives them."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.size = array, Size(*array.shape[:2])
        self.depth, self.path = array.dtype.itemsize * 8, "memory"

    def read(self, window: Window) -> np.ndarray:
        return self.array[window.top : window.bottom, window.left : window.right]


class Rows(list):
    def write(self, rows: np.ndarray) -> None:
        self.append(rows.copy())


def composite(height: int, width: int, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Smooth colours, and a box of a mask that covers `share` of the picture; 8 bits."""
    y, x = np.mgrid[:height, :width]
    shades = [0.5 + 0.5 * np.sin(0.05 * (c + 1) * x + 0.031 * (c + 2) * y) for c in range(3)]
    mask = np.zeros((height, width), np.uint8)
    side = math.sqrt(share)
    top, left = int(height * (1 - side) / 2), int(width * (1 - side) / 2)
    mask[top : top + round(height * side), left : left + round(width * side)] = 255
    return np.round(np.stack(shades, -1) * 255).astype(np.uint8), mask


def authors_network(folder: Path, split: int) -> nn.Module:
    """Their network in their mode for arbitrary resolutions, what it imports stood in for."""
    vision = types.ModuleType("torchvision")

    class Resize:
        """As torchvision 0.13, which they pin: bilinear, without antialiasing."""

        def __init__(self, size: list[int]) -> None:
            self.size = size

        def __call__(self, x: Tensor) -> Tensor:
            return F.interpolate(x, self.size, mode="bilinear", align_corners=False)

    vision.transforms = types.SimpleNamespace(Resize=Resize)  # type: ignore[attr-defined]
    optimiser = types.ModuleType("adamp")
    optimiser.AdamP = object  # type: ignore[attr-defined]
    sys.modules.setdefault("torchvision", vision)
    sys.modules.setdefault("adamp", optimiser)
    if not hasattr(np, "int"):
        np.int = int  # type: ignore[attr-defined]
    sys.path.insert(0, str(folder))
    from model.build_model import build_model  # type: ignore[import-not-found]
    from model.hrnetv2.hrnet_ocr import HighResolutionNet  # type: ignore[import-not-found]

    HighResolutionNet.load_pretrained_weights = lambda *_, **__: None
    options = types.SimpleNamespace(
        base_size=256, input_size=256, INR_input_size=256, INR_MLP_dim=32, LUT_dim=7,
        activation="leakyrelu_pe", param_factorize_dim=10, embedding_type="CIPS_embed",
        INRDecode=True, isMoreINRInput=True, hr_train=True, isFullRes=False, split_num=split,
        device="cpu", batch_size=1, transform_mean=[0.5] * 3, transform_var=[0.5] * 3,
    )  # fmt: skip
    return build_model(options).eval()


def patches(height: int, width: int, split: int) -> tuple[int, list[tuple[int, int]]]:
    """Edge and corners of the squares that the authors' script cuts."""
    edge = -(-min(height // split, width // split) // 4) * 4
    rows, columns = (-(-n // edge) for n in (height, width))
    corners = [
        (min(i * edge, height - edge), min(j * edge, width - edge))
        for i in range(rows)
        for j in range(columns)
    ]
    return edge, corners


def grid(height: int, width: int) -> Tensor:
    y, x = (2 * (torch.arange(n) / (n - 1) - 0.5) for n in (height, width))
    return torch.stack(torch.meshgrid(y, x, indexing="ij"))[None]


def run_patch(net: nn.Module, image: Tensor, mask: Tensor, at: tuple[int, int], edge: int) -> None:
    """One patch through the whole network, as the script calls it."""
    small = [F.interpolate(t, (256, 256), mode="bilinear") for t in (image, mask)]
    top, left = at
    part = (..., slice(top, top + edge), slice(left, left + edge))
    coordinates = []
    for n in (1, 1, 2, 4):  # the whole size twice, then the half and the quarter
        whole = grid(image.shape[2] // n, image.shape[3] // n)
        y, x = min(top // n, whole.shape[2] - edge // n), min(left // n, whole.shape[3] - edge // n)
        coordinates.append(whole[..., y : y + edge // n, x : x + edge // n].contiguous())
    crops = image[part].contiguous(), mask[part].contiguous()
    net([small[0], crops[0]], [small[1], crops[1]], coordinates[1:])


def measure(work: Any) -> tuple[float, Any]:
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--authors", type=Path, required=True, help="a clone of their repository")
    parser.add_argument("--height", type=int, default=1024)
    parser.add_argument("--width", type=int, default=1400)
    parser.add_argument("--share", type=float, default=0.25, help="of the picture in the mask")
    parser.add_argument("--split", type=int, default=4, help="their default: patches a short side")
    parser.add_argument("--patches", type=int, default=2, help="how many of them are run")
    parser.add_argument("--check", action="store_true", help="against the whole decoder")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    codes, mask = composite(args.height, args.width, args.share)
    ours = hinet.published().requires_grad_(False)
    with contextlib.redirect_stdout(io.StringIO()):
        theirs = authors_network(args.authors, args.split)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    rows = Rows()
    cost, outcome = measure(lambda: stream.harmonise(Codes(codes), Codes(mask), ours, rows))
    stages = ", ".join(f"{k} {v:.2f} s" for k, v in outcome.seconds.items())
    print(f"hz: {cost:.2f} CPU-seconds (wall: {stages})")
    if args.check:
        print(f"hz: off the whole decoder by {check(ours, codes, mask, rows):.2f} codes of 65535")
    image = torch.from_numpy(codes.transpose(2, 0, 1) / np.float32(127.5) - 1)[None]
    soft = torch.from_numpy(mask / np.float32(255))[None, None]
    edge, corners = patches(args.height, args.width, args.split)
    chosen = corners[:: max(1, len(corners) // args.patches)][: args.patches]
    with torch.inference_mode():
        costs = [measure(lambda c=c: run_patch(theirs, image, soft, c, edge))[0] for c in chosen]
    each = sum(costs) / len(costs)
    print(
        f"authors: {each:.2f} CPU-seconds a patch of {edge} x {edge}, {len(costs)} of "
        f"{len(corners)} measured; {each * len(corners):.1f} for all, extrapolated"
    )
    print(f"ratio: {each * len(corners) / cost:.1f}")


def check(net: hinet.PublishedHINet, codes: np.ndarray, mask: np.ndarray, rows: Rows) -> float:
    """Largest difference of what was delivered from the whole picture decoded at once."""
    thumb = thumbnail.make(Codes(codes), Codes(mask), 256, "bilinear").thumbnail
    rgb = torch.from_numpy(codes.transpose(2, 0, 1) / np.float32(255))[None]
    soft = torch.from_numpy(mask / np.float32(255))[None, None]
    height, width = mask.shape
    over = (0, -width % 4, 0, -height % 4)
    with torch.inference_mode():
        image, continued = (F.pad(t, over, mode="replicate") for t in (rgb * 2 - 1, soft))
        whole = net.render(net.encode(thumb.rgb * 2 - 1, thumb.mask), image, continued)[-1]
    colours = (whole[0, :, :height, :width] + 1) / 2
    expected = (rgb[0] + soft[0] * (colours - rgb[0])).permute(1, 2, 0).double().numpy()
    return float(np.abs(np.concatenate(rows) - expected * 65535).max())


if __name__ == "__main__":
    main()
