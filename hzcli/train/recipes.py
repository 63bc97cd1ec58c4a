"""Recipes: everything that makes a training run what it is, one function each."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace

from hzcli.errors import UsageError
from hzcli.models.hinet import HINetConfig
from hzcli.train.compose import Synthesis


@dataclass(frozen=True)
class Recipe:
    """A run: network, data, schedule.

    steps: length of the cosine schedule, whatever time it takes. stages: (share of the steps,
    thumbnail edge from there on), as small pictures teach the first lessons cheaper; the
    predicted function is supervised at half that edge. local_from: share of the steps after
    which the INR decoder is trained too (before, the LUT head alone). cache: edge of the
    photographs kept in memory.
    """

    name: str
    config: HINetConfig
    synthesis: Synthesis
    steps: int
    batch: int = 32
    rate: float = 1.5e-3
    warmup: int = 200
    weight_decay: float = 0.02
    clip: float = 1.0
    ema: float = 0.998
    stages: tuple[tuple[float, int], ...] = ((0.0, 96), (0.955, 160))
    local_from: float = 0.5
    cache: int = 176

    @classmethod
    def from_dict(cls, stored: dict) -> Recipe:
        """The recipe behind `as_dict`'s answer."""
        synthesis = {
            k: tuple(v) if isinstance(v, list) else v for k, v in stored["synthesis"].items()
        }
        rest = {k: v for k, v in stored.items() if k in {f.name for f in fields(cls)}}
        return cls(
            **{
                **rest,
                "config": HINetConfig.from_dict(stored["config"]),
                "synthesis": Synthesis(**synthesis),
                "stages": tuple((start, edge) for start, edge in stored["stages"]),
            }
        )

    def edge_at(self, step: int) -> int:
        """Thumbnail edge at a step."""
        return [edge for start, edge in self.stages if step >= start * self.steps][-1]

    def as_dict(self) -> dict:
        return asdict(self)


def hinet() -> Recipe:
    """Compact HINet, trained in an hour or two on two CPU cores."""
    return Recipe("hinet", HINetConfig.compact(), Synthesis(edge=128), steps=7_600)


RECIPES = {"hinet": hinet}


def get(name: str, steps: int | None = None) -> Recipe:
    """The recipe of that name, with another length if `steps` is given."""
    if name not in RECIPES:
        raise UsageError(f"there is no recipe {name!r}", f"known: {', '.join(sorted(RECIPES))}")
    recipe = RECIPES[name]()
    return recipe if steps is None else replace(recipe, steps=steps)
