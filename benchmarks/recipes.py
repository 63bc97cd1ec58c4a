"""Our own recipe of each model beside its paper's: same steps, same photographs, same composites.

    python benchmarks/recipes.py --data PHOTOGRAPHS --steps 100 --models s2crnet hdnet-lite

Both are trained from nothing, on composites that one composer makes of the same photographs, each
with its network, batch, crops, loss and schedule, which takes place within the steps. Printed is
what is left of doing nothing on held photographs' composites, by the averaged weights where a
recipe averages, how many became worse, and the minutes, validation not counted. On two cores a
paper's step takes 3 to 36 seconds, AICT's more.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

from hzcli.engine import device

device.calm_threads()  # before torch is imported

from hzcli.train import recipes  # noqa: E402
from hzcli.train.loop import train  # noqa: E402

MODELS = [name for name in recipes.RECIPES if f"{name}-paper" in recipes.RECIPES]


def trained(name: str, data: list[Path], steps: int, where: str) -> dict[str, float]:
    """The last row of a run's history."""
    # No part stays as other weights have it: there are none.
    recipe = replace(recipes.get(name, steps), synthesis=recipes.COMPOSITES, frozen=())
    with tempfile.TemporaryDirectory() as folder:
        done = train(recipe, data, Path(folder), device=where, validate_every=steps + 1)
    row = done["history"][-1]
    row["minutes"] = steps * recipe.batch / row["pictures_per_s"] / 60
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    print(f"{given.steps} steps{'':14}  left  worse  minutes")
    for model in given.models:
        for name in (f"{model}-paper", model):
            row = trained(name, given.data, given.steps, given.device)
            print(
                f"{name:20}{row['ratio']:8.3f}{row['worse']:7.0%}{row['minutes']:9.1f}", flush=True
            )


if __name__ == "__main__":
    main()
