"""What another program's busy loop costs a network, as hz has torch's threads wait and otherwise.

    python benchmarks/neighbour.py --model hinet --rounds 8

Two processes hold the network: one is calmed as `hz` calms itself (`device.calm_threads`), the
other is as torch comes. Each answers a thumbnail in turn, alone and beside a process that only
counts. Printed are medians of wall and processor time, and the ratios of beside to alone. The
machine should be quiet: every other program is a neighbour too.
"""

from __future__ import annotations

import argparse
import multiprocessing as mp
import os
import time
from multiprocessing.connection import Connection
from statistics import median

from hzcli.engine import device


def answer(pipe: Connection, model: str, calm: bool) -> None:
    """A process with a network: told so many thumbnails, tells wall and processor time of one."""
    for name in device.PASSIVE_WAITING:
        os.environ.pop(name, None)
    if calm:
        device.calm_threads()
    import torch

    from hzcli import models
    from hzcli.core.transform import Thumbnail
    from hzcli.core.window import Size

    net = models.load(model, "cpu")
    edge = net.thumbnail_edge
    seen = Thumbnail(torch.rand(1, 3, edge, edge), torch.ones(1, 1, edge, edge), Size(4000, 6000))
    with torch.inference_mode():
        net.predict(seen)
        while count := pipe.recv():
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in range(count):
                net.predict(seen)
            spent = time.perf_counter() - wall, time.process_time() - cpu
            pipe.send([seconds / count for seconds in spent])


def count_up() -> None:
    """The neighbour."""
    while True:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="hinet")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--count", type=int, default=10, help="thumbnails a turn")
    args = parser.parse_args()
    context = mp.get_context("spawn")
    pipes = {}
    for name in ("calm", "as it comes"):
        pipes[name], theirs = context.Pipe()
        named = (theirs, args.model, name == "calm")
        context.Process(target=answer, args=named, daemon=True).start()

    def turn(name: str) -> list[float]:
        pipes[name].send(args.count)
        return pipes[name].recv()

    spent: dict[tuple[str, bool], list[list[float]]] = {}
    for name in pipes:
        turn(name)
    for _ in range(args.rounds):
        for busy in (False, True):
            neighbour = context.Process(target=count_up, daemon=True)
            if busy:
                neighbour.start()
                time.sleep(1)
            for name in pipes:
                spent.setdefault((name, busy), []).append(turn(name))
            if busy:
                neighbour.terminate()
                neighbour.join()
    for pipe in pipes.values():
        pipe.send(0)
    print(f"{args.model}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, one thumbnail")
    for name in pipes:
        alone, beside = (
            [median(column) for column in zip(*spent[name, busy], strict=True)]
            for busy in (False, True)
        )
        print(
            f"{name:12} wall {alone[0]:.3f} s alone, {beside[0]:.3f} s beside a busy loop: "
            f"{beside[0] / alone[0]:.2f}x; processor {alone[1]:.3f} and {beside[1]:.3f} s"
        )


if __name__ == "__main__":
    main()
