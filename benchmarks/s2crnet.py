"""What S2CRNet costs on this machine's processor, beside the published way to render.

    python benchmarks/s2crnet.py --res 2048

The published network renders each of its two stages over the whole picture, adding up 64 clamped
ramps (eq. (1) as it stands); hz makes both stages one table and looks each value up. Both predict
from the same thumbnail, and both are timed from there to the rendered picture, in turn, in one
process: the best of some rounds, in CPU-seconds of all threads. hz is shown twice: for the whole
picture, and for the bounding box of a mask that covers a share of it, as its engine does.
"""

from __future__ import annotations

import argparse
import math
import resource
import time
from collections.abc import Callable

import torch
from torch import Tensor

from hzcli.core.transform import Thumbnail
from hzcli.core.window import Size, Window
from hzcli.models import s2crnet
from hzcli.models.s2crnet import S2CRNet, S2CRNetConfig

VARIANTS: dict[str, Callable[[], S2CRNet]] = {
    "s2crnet-s": lambda: s2crnet.published("s2crnet-s"),
    "s2crnet-v": lambda: s2crnet.published("s2crnet-v"),
    "compact": lambda: S2CRNet(S2CRNetConfig.compact()).eval(),
}


def ramps(x: Tensor, p: Tensor, pieces: int) -> Tensor:
    """Eq. (1) over a whole picture, term by term, in place where that is possible."""
    slopes = p.view(len(p), 3, pieces)
    total = slopes.sum(2)[..., None, None] + 1e-30
    out = torch.zeros_like(x)
    for i in range(pieces):
        out += (x - i / pieces).clamp(0, 1 / pieces) * slopes[:, :, i, None, None]
    out *= pieces / total
    return out


def box_of(size: Size, share: float) -> Window:
    """A centred box that covers `share` of a picture."""
    height, width = (round(n * math.sqrt(share)) for n in (size.height, size.width))
    top, left = (size.height - height) // 2, (size.width - width) // 2
    return Window(top, top + height, left, left + width, size)


def cpu_seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--res", type=int, default=2048, help="edge of the picture, pixels")
    parser.add_argument("--share", type=float, default=0.25, help="share that the mask covers")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--variant", choices=VARIANTS, default="s2crnet-s")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    net = VARIANTS[args.variant]()
    if net.config.curve == "published":
        with torch.no_grad():  # sums far from 0, so that curves are as tame as trained ones
            for module in net.fusion.values():
                module.fc_b_1.fc1.bias += 1
    size = Size(args.res, args.res)
    box = box_of(size, args.share)
    rgb = torch.rand(1, 3, args.res, args.res)
    part = rgb[..., box.top : box.bottom, box.left : box.right]
    edge = net.thumbnail_edge
    mask = torch.zeros(1, 1, edge, edge)
    inner = box_of(Size(edge, edge), args.share)
    mask[..., inner.top : inner.bottom, inner.left : inner.right] = 1
    thumb_rgb = torch.rand(1, 3, edge, edge)
    near = Thumbnail(thumb_rgb, torch.ones_like(mask), Size(box.height, box.width))
    thumb = Thumbnail(thumb_rgb, mask, size, near)
    whole, one = Window.whole(size), torch.ones(1, 1, 1, 1)

    def as_published() -> Tensor:
        y = rgb
        for p in net._parameters_of(thumb, None):
            y = ramps(y, p[:, : 3 * net.config.pieces], net.config.pieces)
        return y

    works: dict[str, Callable[[], object]] = {
        "prediction": lambda: net.predict(thumb),
        "published, whole": as_published,
        "hz, whole": lambda: net.predict(thumb).apply(rgb, one, whole),
        f"hz, {args.share:.0%} mask": lambda: net.predict(thumb).apply(part, one, box),
    }
    best = dict.fromkeys(works, math.inf)
    with torch.inference_mode():
        for _ in range(args.rounds):
            for name, work in works.items():
                best[name] = min(best[name], cpu_seconds(work))
        difference = (net.predict(thumb).apply(rgb, one, whole) - as_published()).abs().max()
    print(f"{args.variant}, {args.res} x {args.res}, {args.threads} threads")
    print(f"{'':18}{'CPU s':>8}{'cheaper':>10}")
    for name, seconds in best.items():
        ratio = best["published, whole"] / seconds
        print(f"{name:18}{seconds:8.3f}{ratio:9.1f}x")
    if net.config.curve == "published":
        print(f"largest difference of colours {difference:.1e}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory of the process {peak:.0f} MB (on Linux)")


if __name__ == "__main__":
    main()
