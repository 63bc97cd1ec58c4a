"""AICT: High-Resolution Image Harmonization with Adaptive-Interval Color Transformation.

Quanling Meng, Qinglin Liu, Zonglin Li, Xiangyuan Lan, Shengping Zhang, Liqiang Nie.
NeurIPS 2024, openreview.net/forum?id=jXgHEwtXs8. Authors' code: github.com/aipixel/AICT, commit
e100c16, without a licence: nothing here is taken from it; its weights load by their names.

  - intervals.py: the paper's equations: a curve a pixel and channel, from two maps.
  - network.py: what predicts the maps from a thumbnail.
  - config.py: sizes, and the readings in which our weights differ.

Where paper and published network differ, `published()` follows the network:
  - K = 8 in the paper's words; the network has 8 intervals, so 9 knots, in C, and 8 knots in F.
  - a "weight for each colour transformation" is one for each knot of F: 3 x 8 a picture.
  - the upsampling of the maps is the bilinear part of the lookup, corners on corners.
"""

from __future__ import annotations

from collections.abc import Mapping

from hzcli.models.aict.config import NO_TRANSFORMER, AICTConfig
from hzcli.models.aict.intervals import IntervalMap, interval_map
from hzcli.models.aict.network import AICT, Maps
from hzcli.models.told import told

__all__ = [
    "AICT", "AICTConfig", "IntervalMap", "Maps", "config_from", "detect", "interval_map",
    "published",
]  # fmt: skip

Shapes = Mapping[str, tuple[int, ...]]


def published(variant: str = "aict") -> AICT:
    """The network exactly as published, in eval mode, with random start values."""
    return AICT(AICTConfig.published(variant)).eval()


def detect(shapes: Shapes) -> str | None:
    """ "aict" if these are the weights of an AICT, the authors' or our own; else None."""
    heads = ("colors_layer.weight", "params_layer.weight", "class_layer.weight")
    first = ("encoder.patch_to_embedding.1.weight", "encoder.stages.0.down.weight")
    if not all(head in shapes for head in heads) or not any(key in shapes for key in first):
        return None
    knots = {shapes[head][0] for head in heads}
    return "aict" if len(knots) == 1 and knots.pop() % 3 == 0 else None


def config_from(shapes: Shapes, readings: Mapping[str, str]) -> AICTConfig:
    """The configuration behind weights.

    Args:
        shapes: every tensor's, by name. readings: those of READINGS that were stored; those
            that were not are as published.
    """

    def count(prefix: str, suffix: str) -> int:
        return sum(key.startswith(prefix) and key.endswith(suffix) for key in shapes)

    knots, latent = shapes["colors_layer.weight"][:2]
    sizes: dict = {"intervals": knots // 3, "latent": latent}
    if "encoder.patch_to_embedding.1.weight" in shapes:
        width = shapes["encoder.patch_to_embedding.1.weight"][0]
        sizes |= {
            "encoder": "vit",
            "patch": shapes["decoder.dec.weight"][2],
            "width": width,
            "depth": count("encoder.transformer_enc.layers.", ".linear1.weight"),
            "hidden": shapes["encoder.transformer_enc.layers.0.linear1.weight"][0],
            "bottom": tuple(shapes[f"bottom_convs.{n}.weight"][0] for n in (0, 4)),
        }
    else:
        stages = count("encoder.stages.", ".down.weight")
        sizes |= {
            "encoder": "compact",
            **NO_TRANSFORMER,
            "channels": tuple(shapes[f"encoder.stages.{n}.down.weight"][0] for n in range(stages)),
            "blocks": count("encoder.blocks.", ".qkv.weight"),
            "code": shapes["class_layer.weight"][1],
            "degrees": shapes["tone_layer.weight"][0] // 3,
        }
    return AICTConfig(**(sizes | told(AICTConfig, readings)))
