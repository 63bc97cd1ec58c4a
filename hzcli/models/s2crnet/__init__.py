"""S2CRNet: Spatial-Separated Curve Rendering Network for Efficient and High-Resolution Image
Harmonization.

Jingtang Liang, Xiaodong Cun, Chi-Man Pun, Jue Wang. ECCV 2022, arXiv 2109.05750. The authors'
code: github.com/stefanLeong/S2CRNet (MIT); these files are written from the paper and from
measurements, not from that code.

A shared trunk sees the foreground and the background apart (Sec. 3.1); each is averaged to one
vector, F_f and F_b. From the two, a curve rendering module (CRM) predicts the slopes of a
piecewise-linear curve per channel, which recolours the full picture (Sec. 3.2); a semantic label
may join in, and further modules may refine what the first one rendered.

  - rendering.py: the paper's equations: a curve and the modules that predict it.
  - config.py: sizes, and the readings in which paper, authors' code and our weights differ.
  - network.py: the network, the same for all readings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hzcli.errors import ModelError
from hzcli.models.s2crnet.config import S2CRNetConfig
from hzcli.models.s2crnet.network import S2CRNet
from hzcli.models.s2crnet.rendering import curves_of
from hzcli.models.told import told
from hzcli.nets.compact import CompactEncoder
from hzcli.nets.trunks import TRUNKS, width_keys, widths_from

__all__ = ["S2CRNet", "S2CRNetConfig", "config_from", "curves_of", "detect", "published"]

Shapes = Mapping[str, tuple[int, ...]]


def published(variant: str = "s2crnet-s") -> S2CRNet:
    """The network as published, random start values, in eval mode."""
    return S2CRNet(S2CRNetConfig.published(variant)).eval()


def detect(shapes: Shapes) -> str | None:
    """ "s2crnet" if these tensors are one's, whatever its trunk, stages and size; else None."""
    heads = shapes.get("fusion.cr1.fc_b_1.fc1.weight", ())
    known = len(heads) == 2 and heads[0] % 3 == 0 and _trunk_of(shapes) is not None
    return "s2crnet" if known else None


def config_from(shapes: Shapes, readings: Mapping[str, str]) -> S2CRNetConfig:
    """The configuration behind tensors, and readings kept beside them (missing: as published).

    Raises:
        ModelError: a tensor that tells the size is missing, or a reading is not known.
    """
    trunk = _trunk_of(shapes)
    if trunk is None:
        raise ModelError("these weights hold no trunk of S2CRNet", "They may be another model's.")
    prefix = TRUNKS[trunk][0] + "."
    own = {key.removeprefix(prefix): s for key, s in shapes.items() if key.startswith(prefix)}
    needed = [prefix + key for key in width_keys(trunk)] + ["fusion.cr1.fc_f_1.fc1.bias"]
    missing = [key for key in needed if key not in shapes]
    if missing:
        raise ModelError(f"the weights lack {missing[0]}", "The file may be cut off.")
    outputs = shapes["fusion.cr1.fc_f_1.fc1.bias"][0] // 3
    stages = 1
    while f"fusion.cr{stages + 1}.fc_b_1.fc1.weight" in shapes:
        stages += 1
    try:
        given = told(S2CRNetConfig, readings)
        return S2CRNetConfig(
            trunk=trunk,
            widths=widths_from(trunk, own),
            pieces=outputs - (given.get("curve") == "free"),
            stages=stages,
            labels=shapes.get("fusion.cr1.fc_label_1.weight", (0, 0))[1],
            **_joint_sizes(shapes),
            **given,
        )
    except ValueError as error:
        raise ModelError(f"the weights' configuration is not known: {error}") from error


def _joint_sizes(shapes: Shapes) -> dict[str, Any]:
    if "joint.share" not in shapes:
        return {"hidden": shapes.get("joint.first.weight", (0,))[0]}
    sizes = CompactEncoder.sizes(shapes, "joint.")
    return {"hidden": sizes.pop("code"), **sizes}


def _trunk_of(shapes: Shapes) -> str | None:
    """Which trunk the keys speak of."""
    for name, (prefix, _, _) in TRUNKS.items():
        if len(shapes.get(f"{prefix}.0.weight", ())) == 4:
            return name
    return None
