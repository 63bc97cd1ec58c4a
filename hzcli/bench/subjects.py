"""Which network is measured: installed weights, or a network of its own size without any.

What a picture costs does not depend on the weights' values, so a network without weights gets
random ones, as they would be before training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from hzcli import catalog
from hzcli.errors import ModelError

if TYPE_CHECKING:
    from torch import nn

ALL = "all"
PUBLISHED, COMPACT = "-published", "-compact"
JITTER = 0.01


@dataclass(frozen=True)
class Subject:
    """A network to measure.

    kind: "installed" (weights by name or file), "published" (a variant as its authors published
        it) or "compact" (the small configuration of a system); the last two with random weights.
    target: the weights, the variant or the system. variant: the published network that papers'
        figures are about; empty if unknown.
    """

    name: str
    kind: str
    target: str
    variant: str = ""

    def as_dict(self) -> dict[str, str]:
        return asdict(self)


def subjects(names: Sequence[str]) -> list[Subject]:
    """The networks behind names, each once.

    Args:
        names: ids of installed weights, files of weights, published networks ("cdtnet-sim";
            "hinet-published" where installed weights have the name), "SYSTEM-compact", "all".

    Raises:
        ModelError: one of them is none of these.
    """
    known = _known()
    found: list[Subject] = []
    for name in names:
        if name == ALL:
            found += list(known.values())
        elif name in known:
            found.append(known[name])
        elif name.endswith(".safetensors"):
            found.append(Subject(name, "installed", name))
        elif name.endswith(PUBLISHED) and name.removesuffix(PUBLISHED) in _variants():
            variant = name.removesuffix(PUBLISHED)
            found.append(Subject(name, "published", variant, variant))
        elif (system := catalog.card(name.removesuffix(COMPACT))) and name.endswith(COMPACT):
            found.append(Subject(name, "compact", system.id, system.variants[0]))
        else:
            raise ModelError(f"there is no network {name!r} to measure", f"Known: {_list(known)}")
    return list(dict.fromkeys(found))


def _known() -> dict[str, Subject]:
    """All that has a name, the installed first."""
    known: dict[str, Subject] = {}
    for card in catalog.installed():
        system = catalog.card(card.model)
        variant = system.variants[0] if system else ""
        known[card.id] = Subject(card.id, "installed", card.id, variant)
    for system in catalog.CARDS:
        for variant in system.variants:
            name = variant + PUBLISHED if variant in known else variant
            known[name] = Subject(name, "published", variant, variant)
    for system in catalog.CARDS:
        if not any(card.model == system.id for card in catalog.installed()):
            name = system.id + COMPACT
            known[name] = Subject(name, "compact", system.id, system.variants[0])
    return known


def _variants() -> list[str]:
    return [variant for system in catalog.CARDS for variant in system.variants]


def _list(known: dict[str, Subject]) -> str:
    return ", ".join([*known, ALL]) + ", or a .safetensors file"


def build(kind: str, target: str, device: Any) -> nn.Module:
    """The network, in eval mode, on a device.

    Raises:
        ModelError: the weights cannot be loaded.
    """
    import torch

    from hzcli import models

    if kind == "installed":
        return models.load(target, device)
    torch.manual_seed(0)
    if kind == "published":
        net = models.published(target)
    else:
        system = catalog.card(target)
        assert system is not None, f"there is no system {target!r}"
        config = getattr(models.module(system), system.network + "Config")
        net = models.network(system, config.compact()).eval()
    with torch.no_grad():
        # Off what they start at: a table that is the identity could be left out.
        for parameter in net.parameters():
            if parameter.is_floating_point():
                parameter.add_(torch.randn_like(parameter), alpha=JITTER)
    return net.requires_grad_(False).to(device)
