"""CDTNet: High-Resolution Image Harmonization via Collaborative Dual Transformations.

Wenyan Cong, Xinhao Tao, Li Niu, Jing Liang, Xuesong Gao, Qihao Sun, Liqing Zhang. CVPR 2022,
arXiv 2109.06671. The authors' code: github.com/bcmi/CDTNet-High-Resolution-Image-Harmonization
(no licence); these files are written from the paper and from measurements, not from that code.

  - as_published.py: the network with the authors' keys, and the paper's equations in order.
  - own.py: our configuration of it, whose branches start at doing nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from hzcli.models.cdtnet.as_published import PublishedCDTNet, PublishedConfig
from hzcli.models.cdtnet.own import CDTNet, CDTNetConfig
from hzcli.models.told import told

__all__ = [
    "CDTNet",
    "CDTNetConfig",
    "PublishedCDTNet",
    "PublishedConfig",
    "build",
    "config_from",
    "detect",
    "published",
]

Shapes = Mapping[str, tuple[int, ...]]

# Tensors that our network alone has, with and without its refinement.
OWN = ("encoder.share", "mapping.tables", "mapping.classifier.weight")


def published(variant: str = "cdtnet") -> PublishedCDTNet:
    """The network exactly as published, eval mode, with untrained weights.

    Args:
        variant: "cdtnet", or "cdtnet-sim" for the LUT alone; both have the same keys.
    """
    return PublishedCDTNet(PublishedConfig.published(variant)).eval()


_FIRST = ".convs.block.0.block.0.weight"


def detect(shapes: Shapes) -> str | None:
    """ "cdtnet" for keys and shapes of this network, published or ours; None for all others.

    Also None for the network of the same name in libcom, which has another encoder, and for a
    U-Net of iS2AM alone.
    """
    if all(key in shapes for key in OWN):
        return "cdtnet"
    try:
        config = _published_from(shapes, {})
    except (KeyError, ValueError, IndexError):
        return None
    wanted = {
        "encoder.block0.convs.block.0.block.0.weight": (config.widths[0], 4, 3, 3),
        "decoder.to_rgb.weight": (3, config.widths[0], 1, 1),
        "lut.LUT0.LUT": (3, *(config.lut_size,) * 3),
        "lut.classifier.conv.weight": (config.pooled, config.widths[-1], 1, 1),
        "lut.classifier.fc.weight": (config.luts, 2 * config.pooled, 1, 1),
        "refine.block.0.weight": (config.refine, config.widths[0] + 7, 3, 3),
    }
    fits = all(tuple(shapes.get(key, ())) == shape for key, shape in wanted.items())
    return "cdtnet" if fits else None


def config_from(shapes: Shapes, readings: Mapping[str, str]) -> CDTNetConfig | PublishedConfig:
    """The configuration behind weights.

    Args:
        shapes: of every tensor. readings: metadata; what it lacks is as published.

    Raises:
        KeyError: a tensor that tells a number is missing. ValueError: a reading is none.
    """
    if any(key in shapes for key in OWN):
        return CDTNetConfig.from_shapes(shapes, readings)
    return _published_from(shapes, readings)


def build(config: CDTNetConfig | PublishedConfig) -> CDTNet | PublishedCDTNet:
    """The network of a configuration, with random start values."""
    return PublishedCDTNet(config) if isinstance(config, PublishedConfig) else CDTNet(config)


def _published_from(shapes: Shapes, readings: Mapping[str, str]) -> PublishedConfig:
    """As the authors' tensors tell it."""
    levels = ["encoder.block0", "encoder.block1"]
    connected = "encoder.blocks_connected.block{}"
    while connected.format(len(levels)) + _FIRST in shapes:
        levels.append(connected.format(len(levels)))
    normed = [level + ".convs.block.0.block.1.weight" in shapes for level in levels]
    up = "decoder.up_blocks.{}.attention.learning_block.0.block.0.weight"
    attended = [up.format(d) for d in range(len(levels) - 1) if up.format(d) in shapes]
    first = attended[0] if attended else ""
    return PublishedConfig(
        widths=tuple(shapes[level + _FIRST][0] for level in levels),
        norm_from=normed.index(True) if True in normed else len(levels),
        attend_from=int(first.split(".")[2]) if attended else len(levels) - 1,
        attention=shapes[first][0] / shapes[first][1] if attended else PublishedConfig.attention,
        luts=sum(key.startswith("lut.LUT") for key in shapes),
        lut_size=shapes["lut.LUT0.LUT"][-1],
        pooled=shapes["lut.classifier.conv.weight"][0],
        refine=shapes["refine.block.0.weight"][0],
        **told(PublishedConfig, readings),
    )
