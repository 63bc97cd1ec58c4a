"""HDNet and HDNet-lite: Hierarchical Dynamic Image Harmonization.

Haoxing Chen, Zhangxuan Gu, Yaohui Li, Jun Lan, Changhua Meng, Weiqiang Wang, Huaxiong Li.
ACM Multimedia 2023, arXiv 2211.08639. The authors' code: github.com/chenhaoxing/HDNet at
dcabe92, MIT; these files are written from the paper and from measurements, not from that code.

  - dynamics.py: the paper's equations.
  - as_published.py: the network with the authors' keys; native.py: on a picture of any
    size; whole.py: the pass behind that, in rows.
  - own.py: our configuration of it, which starts at doing nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from hzcli.models.hdnet.as_published import PublishedConfig, PublishedHDNet
from hzcli.models.hdnet.native import Native
from hzcli.models.hdnet.own import HDNet, HDNetConfig
from hzcli.models.told import told

__all__ = [
    "HDNet",
    "HDNetConfig",
    "Native",
    "PublishedConfig",
    "PublishedHDNet",
    "build",
    "config_from",
    "detect",
    "published",
]

Shapes = Mapping[str, tuple[int, ...]]

# Tensors that our network alone has.
OWN = ("encoder.share", "fusion.linear.weight", "levels.0.dynamics.kernels.weight")


def published(variant: str) -> PublishedHDNet:
    """The network exactly as published, in eval mode, with random start values.

    Raises:
        ValueError: `variant` is neither "hdnet" nor "hdnet-lite".
    """
    if variant not in ("hdnet", "hdnet-lite"):
        raise ValueError(f"there is no HDNet {variant!r}: hdnet or hdnet-lite")
    return PublishedHDNet(PublishedConfig.published(variant)).eval()


def detect(shapes: Shapes) -> str | None:
    """ "hdnet" if these are an HDNet's weights, published (of any width) or ours; else None."""
    if all(key in shapes for key in OWN):
        return "hdnet"
    first, fuse = shapes.get("model_layer0.weight"), shapes.get("LD.linear.weight")
    if first is None or fuse is None or len(first) != 4 or first[2:] != (3, 3):
        return None
    c = first[0]
    fits = first[1] in (3, 4) and fuse == (8 * c, 16 * c, 1)
    dynamic = shapes.get("model_layer13att.conv_kernel.3.weight") == (2 * (2 * c) ** 2, 2, 1, 1)
    return "hdnet" if fits and dynamic else None


def config_from(shapes: Shapes, readings: Mapping[str, str]) -> HDNetConfig | PublishedConfig:
    """The configuration behind weights: sizes from shapes, the rest from metadata.

    Args:
        shapes: of an HDNet, see `detect`. readings: some of the configuration's READINGS, as
            strings; those that lack are the published ones.

    Raises:
        ValueError: a reading is unknown.
    """
    if any(key in shapes for key in OWN):
        return HDNetConfig.from_shapes(shapes, readings)
    width, inputs = shapes["model_layer0.weight"][:2]
    return PublishedConfig(width=width, inputs=inputs, **told(PublishedConfig, readings))


def build(config: HDNetConfig | PublishedConfig) -> HDNet | PublishedHDNet:
    """The network of a configuration, with random start values."""
    return PublishedHDNet(config) if isinstance(config, PublishedConfig) else HDNet(config)
