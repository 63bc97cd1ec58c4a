"""Weights to start from: a model's own, or the encoder of another model's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from torch import Tensor, nn

from hzcli.errors import UsageError
from hzcli.nets.compact import CompactEncoder

# A tensor that every compact encoder has, and no other part of a network.
_MARK = "share"


def adopt(model: nn.Module, state: Mapping[str, Tensor]) -> int:
    """Load every tensor of `state` that has a place in `model`.

    A place is the same name and shape. The compact encoder (nets/compact.py) has its place
    under whatever name a model gives it, so that one model's eyes serve another; blocks that it
    lacks keep their start values, which change nothing. A model may know more places, for
    tensors of other models: its method `kindred`, from their tensors to its own.

    Returns:
        How many tensors were taken.

    Raises:
        UsageError: none fits.
    """
    own = model.state_dict()
    state = {**getattr(model, "kindred", dict)(state), **state}
    here, there = _prefix(own), _prefix(state)
    taken = {}
    for name, value in own.items():
        source = name
        if here is not None and there is not None and name.startswith(here):
            source = there + name[len(here) :]
        if source in state and state[source].shape == value.shape:
            taken[name] = state[source]
    if not taken:
        raise UsageError(
            "the weights to start from have no tensor in common with this model",
            "Give weights of the same model, or of one with the compact encoder.",
        )
    model.load_state_dict(taken, strict=False)
    return len(taken)


def sized(config: Any, state: Mapping[str, Tensor]) -> Any:
    """The configuration with a compact encoder as large as that of `state`, if both have one."""
    prefix, names = _prefix(state), {field.name for field in fields(config)}
    if prefix is None or not getattr(config, "channels", ()):
        return config
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    sizes = CompactEncoder.sizes(shapes, prefix)
    if "code" not in names:
        sizes["hidden"] = sizes.pop("code")  # as S2CRNet calls it
    return replace(config, **sizes)


def _prefix(state: Mapping[str, Tensor]) -> str | None:
    """What the names of the compact encoder's tensors begin with."""
    for name in state:
        prefix, _, last = name.rpartition(".")
        if last == _MARK and f"{prefix}.stages.0.down.weight" in state:
            return prefix + "."
    return None


def freeze(model: nn.Module, names: tuple[str, ...]) -> None:
    """Keep the modules of these names as they are: no gradient, statistics as stored.

    Raises:
        UsageError: there is no module of such a name.
    """
    modules = dict(model.named_modules())
    for name in names:
        if name not in modules:
            parts = ", ".join(part for part, _ in model.named_children())
            raise UsageError(f"this model has no part {name!r}", f"Its parts are {parts}.")
        modules[name].requires_grad_(False).eval()


def hold_norms(model: nn.Module, averaged: nn.Module) -> None:
    """From here on normalise batches by statistics that stay: those of the averaged weights.

    A batch's own statistics make each picture's result hang on the pictures beside it, which is
    not so in use; what is learnt last is learnt on the function that is used.
    """
    for own, its in zip(model.modules(), averaged.modules(), strict=True):
        if isinstance(own, nn.modules.batchnorm._BatchNorm):
            own.load_state_dict({**own.state_dict(), **dict(its.named_buffers())})
            own.eval()
