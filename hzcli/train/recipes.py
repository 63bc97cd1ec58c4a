"""Recipes: everything that makes a training run what it is, one function each.

NAME is our own for a model, `modern`: compact network, better readings, residual outputs that
start at the identity, balanced loss, warm-up and cosine, averaged weights. NAME-paper is the
published recipe: network as published, its losses, constants and schedule, its crops.
"""

from __future__ import annotations

import importlib
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from hzcli import catalog
from hzcli.errors import UsageError
from hzcli.train.compose import Synthesis

# Model to the names of its class and of its configuration's, in the module of its card.
CLASSES = {
    "hinet": "HINet", "cdtnet": "CDTNet", "s2crnet": "S2CRNet", "aict": "AICT",
    "hdnet": "HDNet", "pctnet": "PCTNet",
}  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """A run: network, data, loss, schedule.

    model: id of the catalogue. published: a name of `models.published` instead of a config.
    objective: a name of `objectives.OBJECTIVES`. adversary: weight of an LSGAN discriminator.
    steps: length of the schedule, whatever time it takes. schedule: "cosine" (down to 2 % of
    the rate), "cosine0" (to nothing), "constant", or steps as ((share of the run, factor), ..);
    "linear" keeps the rate for half of the run and takes it to 0 in the other.
    stages: (share of the steps, thumbnail edge from there on), as small pictures teach the
    first lessons cheaper; several edges there stand for a random one of them a step, 0 for one
    of `edges`, so that no sharpness is taken for a law. picture: edge at which the loss is
    taken, in thumbnails. crop: window decoded of it, in thumbnails; 0: all. local_from: share of
    the steps after which position-dependent parts are trained too (before, a table alone, where
    the model has one). norms_until: share of the steps in which batches are normalised by their
    own statistics; after it by averaged ones, which stay, as in use.
    given: share of given composites in a batch, where the data have them. echo: how often each
    batch is used (train/echo.py); where composites are made on the CPU, two buys a fifth more
    steps in the same time. cache: edge of the photographs kept in memory. frozen: modules that
    are not trained, by name, because they come from other weights. refit: only the last layers
    are, on what is measured of the steps' composites (train/refit.py), of which each serves so
    many `turns`.
    """

    name: str
    model: str
    config: Any
    synthesis: Synthesis
    steps: int
    published: str = ""
    objective: str = "modern"
    adversary: float = 0.0
    batch: int = 32
    rate: float = 1.5e-3
    warmup: int = 200
    schedule: str | tuple[tuple[float, float], ...] = "cosine"
    optimizer: str = "adamw"
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.02
    clip: float = 1.0
    ema: float = 0.998
    stages: tuple[tuple[float, int | tuple[int, ...]], ...] = ((0.0, 0),)
    edges: tuple[int, ...] = (96, 128, 160, 192, 224)
    picture: float = 0.4
    crop: float = 0.0
    local_from: float = 0.0
    norms_until: float = 1.0
    given: float = 0.6
    echo: int = 1
    cache: int = 256
    frozen: tuple[str, ...] = ()
    refit: bool = False
    turns: int = 14

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Recipe:
        """The recipe behind `as_dict`'s answer, of an older hz, too: fields it lacks keep their
        defaults, and what is no field any more is passed over."""
        known = _fields(cls, stored)
        model, config = known.setdefault("model", "hinet"), known["config"]
        if config is not None:
            own = config_class(model)
            known["config"] = own(**_fields(own, config))
        known["synthesis"] = Synthesis(**_fields(Synthesis, stored["synthesis"]))
        return cls(**known)

    def edge_at(self, step: int) -> int:
        """Thumbnail edge at a step."""
        edge = [edge for start, edge in self.stages if step >= start * self.steps][-1] or self.edges
        return edge if isinstance(edge, int) else random.Random(step).choice(edge)

    @property
    def last_edge(self) -> int:
        """Edge to validate at: the last stage's, or of its edges the one before the largest."""
        edge = self.stages[-1][1] or self.edges
        return edge if isinstance(edge, int) else sorted(edge)[-2]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list | tuple) else value


def _fields(of: type[Any], stored: dict[str, Any]) -> dict[str, Any]:
    names = {f.name for f in fields(of)}
    return {k: _tuples(v) for k, v in stored.items() if k in names}


def _module(model: str) -> Any:
    card = catalog.card(model)
    assert card is not None, model
    return importlib.import_module(card.module)


def config_class(model: str) -> Any:
    """The class of a model's configurations."""
    return getattr(_module(model), f"{CLASSES[model]}Config")


def build(recipe: Recipe) -> Any:
    """The recipe's network with its start values, ready to train."""
    if recipe.published:
        return _module(recipe.model).published(recipe.published).requires_grad_(True)
    return getattr(_module(recipe.model), CLASSES[recipe.model])(recipe.config)


# --- Our own ---------------------------------------------------------------------------------

COMPOSITES = Synthesis(
    oversample=1.15, spread=0.35, unsharp=(-0.5, 0.8), jpeg=0.05, table=17, transfers=0.6,
    hours=0.03, raws=0.12, small=0.6, near=0.6, feather=0.06, misfit=0.03, jitter=0.25,
)  # fmt: skip


# How weights look at pictures once they are trained, and which changes they doubt, as those that
# ship do. Training shows thumbnails of `edges`, once, and doubts nothing.
IN_USE: dict[str, Any] = {"thumbnail": 512, "closer": 2, "doubt": 20.0}


def _modern(model: str, **numbers: Any) -> Recipe:
    plan: dict[str, Any] = {"steps": 12_000, "echo": 2, "norms_until": 0.6, **numbers}
    config = config_class(model).compact()
    if hasattr(config, "closer"):
        config = replace(config, **IN_USE)
    return Recipe(model, model, config, COMPOSITES, **plan)


# Small parts on an encoder that is trained already, and stays: hundreds of steps, not thousands.
# No edge that would enlarge the photographs in memory: on soft thumbnails such parts learn nothing
# that holds for sharp ones.
HEADS: dict[str, Any] = {
    "steps": 240, "batch": 20, "rate": 8e-4, "warmup": 15, "ema": 0.98, "echo": 2,
    "edges": (128, 160, 192), "picture": 0.7,
}  # fmt: skip


def hinet() -> Recipe:
    """Compact HINet: the table first, the INR decoder at the end. Small thumbnails first, which
    allow half as many steps again in the same time; the last ones as they are in use."""
    stages = ((0.0, (96, 128, 160)), (0.8, (128, 160, 192, 224)))
    return _modern("hinet", local_from=0.85, stages=stages)


def hinet_encoder() -> Recipe:
    """HINet's convolutions alone, further (`--init`). The layers that read their statistics stay:
    what other models learnt on this encoder still holds."""
    stay = ("encoder.colours", "encoder.deep", "encoder.mix", "tone", "lut")
    plan = _modern("hinet", steps=9000, rate=3e-3, schedule="cosine0", local_from=1.0,
                   edges=(96, 128, 160), frozen=stay)  # fmt: skip
    return replace(plan, name="hinet-encoder")


def _refit(name: str, model: str, **numbers: Any) -> Recipe:
    plan = _modern(model, ema=0.995, refit=True, edges=(128, 160, 192, 224, 256), **numbers)
    return replace(plan, name=name)


def hinet_table() -> Recipe:
    """HINet's table alone, refitted to what its trained encoder measures (`--init`; refit.py): so
    much decay because composites are fewer than numbers. Position-dependent parts were trained on
    another code, and are carried over to the new one. All steps take 1.5 GB of disk and, at the
    end, 3 GB of memory."""
    return _refit("hinet-table", "hinet", steps=6000, rate=1e-3, weight_decay=1.0)


def s2crnet_curves() -> Recipe:
    """S2CRNet's curve rendering modules alone, refitted as HINet's table is. So few numbers need
    fewer composites, and more steps: they end as good on others as on those they learnt from."""
    return _refit("s2crnet-curves", "s2crnet", steps=1200, turns=40, rate=3e-2, weight_decay=0.03)


def aict_curves() -> Recipe:
    """AICT's position-independent curve alone, refitted as S2CRNet's modules are."""
    return _refit("aict-curves", "aict", steps=1200, turns=40, rate=1e-2, weight_decay=0.01)


def cdtnet() -> Recipe:
    """Compact CDTNet, for an encoder and a table that are HINet's (`--init hinet`): what the
    table leaves over. Without such weights it wants thousands of steps (`--steps`)."""
    return _modern("cdtnet", frozen=("encoder", "mapping"), **HEADS)


def cdtnet_sim() -> Recipe:
    """CDTNet's LUT alone."""
    plan = _modern("cdtnet")
    return replace(plan, name="cdtnet-sim", config=replace(plan.config, refinement=False))


def s2crnet() -> Recipe:
    """Compact S2CRNet with free end points."""
    return _modern("s2crnet")


def aict() -> Recipe:
    """Compact AICT."""
    return _modern("aict")


def hdnet_lite() -> Recipe:
    """Compact HDNet-lite, as CDTNet on HINet's encoder and table (`--init hinet`)."""
    plan = _modern("hdnet", frozen=("encoder", "tone", "lut"), **HEADS)
    return replace(plan, name="hdnet-lite")


def pctnet() -> Recipe:
    """Compact PCT-Net."""
    return _modern("pctnet")


# --- The papers' -----------------------------------------------------------------------------

# What iHarmony4's loaders do: no recolouring of their own where composites are given.
AS_GIVEN = Synthesis(edge=256, jitter=0.0)
IHARMONY_EPOCH = 65_742  # training pictures of iHarmony4; the papers count in epochs


def _steps(epochs: int, batch: int) -> int:
    return epochs * (IHARMONY_EPOCH // batch)


def _paper(name: str, model: str, published: str, objective: str, **numbers: Any) -> Recipe:
    plan: dict[str, Any] = {
        "warmup": 0, "clip": 0.0, "ema": 0.0, "given": 1.0, "stages": ((0.0, 256),),
        "picture": 1.0, "cache": 320, "betas": (0.9, 0.999), **numbers,
    }  # fmt: skip
    return Recipe(name, model, None, AS_GIVEN, published=published, objective=objective, **plan)


def hinet_paper() -> Recipe:
    """Sec. IV-A and code: AdamW 1e-4 falling by half a cosine, batch 16, 60 epochs."""
    return _paper("hinet-paper", "hinet", "hinet", "hinet", steps=_steps(60, 16), batch=16,
                  rate=1e-4, weight_decay=1e-2, schedule="cosine0")  # fmt: skip


def cdtnet_paper() -> Recipe:
    """Code: Adam 1e-3, a tenth from epoch 50 and a hundredth from 100 of 120; batch 4, high
    resolution 1024 from low 256 (the paper prints L1 losses and 1e-4)."""
    return _paper("cdtnet-paper", "cdtnet", "cdtnet", "cdtnet", steps=_steps(120, 4), batch=4,
                  rate=1e-3, weight_decay=0.0, optimizer="adam", picture=4.0, cache=1024,
                  schedule=((0.0, 1.0), (50 / 120, 0.1), (100 / 120, 0.01)))  # fmt: skip


def s2crnet_paper() -> Recipe:
    """Sec. 4.1 and code: AdamW 2e-4, constant, batch 8, 20 epochs, LSGAN weight 0.01."""
    return _paper("s2crnet-paper", "s2crnet", "s2crnet-s", "s2crnet", steps=_steps(20, 8),
                  batch=8, rate=2e-4, weight_decay=1e-2, schedule="constant",
                  adversary=0.01)  # fmt: skip


def aict_paper() -> Recipe:
    """Code: Adam 1e-4, constant for 50 epochs, then linear to 0 in 50; batch 16."""
    return _paper("aict-paper", "aict", "aict", "aict", steps=_steps(100, 16), batch=16,
                  rate=1e-4, weight_decay=0.0, optimizer="adam", schedule="linear",
                  picture=2.0, cache=512)  # fmt: skip


def hdnet_paper() -> Recipe:
    """Code: Adam 1e-3, a tenth from epoch 100 and a hundredth from 110 of 120; batch 12."""
    return _paper("hdnet-paper", "hdnet", "hdnet", "hdnet", steps=_steps(120, 12), batch=12,
                  rate=1e-3, weight_decay=0.0, optimizer="adam",
                  schedule=((0.0, 1.0), (100 / 120, 0.1), (110 / 120, 0.01)))  # fmt: skip


def hdnet_lite_paper() -> Recipe:
    """The same with the small network."""
    return replace(hdnet_paper(), name="hdnet-lite-paper", published="hdnet-lite")


RECIPES: dict[str, Callable[[], Recipe]] = {
    "hinet": hinet, "hinet-encoder": hinet_encoder, "hinet-table": hinet_table,
    "s2crnet-curves": s2crnet_curves, "aict-curves": aict_curves,
    "cdtnet": cdtnet, "cdtnet-sim": cdtnet_sim,
    "s2crnet": s2crnet, "aict": aict, "hdnet-lite": hdnet_lite, "pctnet": pctnet,
    "hinet-paper": hinet_paper, "cdtnet-paper": cdtnet_paper, "s2crnet-paper": s2crnet_paper,
    "aict-paper": aict_paper, "hdnet-paper": hdnet_paper, "hdnet-lite-paper": hdnet_lite_paper,
}  # fmt: skip


def get(name: str, steps: int | None = None) -> Recipe:
    """The recipe of that name, with another length if `steps` is given; it warms up in a fifth of
    them at most."""
    if name not in RECIPES:
        raise UsageError(f"there is no recipe {name!r}", f"known: {', '.join(sorted(RECIPES))}")
    recipe = RECIPES[name]()
    if steps is None:
        return recipe
    return replace(recipe, steps=steps, warmup=min(recipe.warmup, steps // 5))
