"""HINet: Dense Pixel-to-Pixel Harmonization via Continuous Image Representation.

Jianqi Chen, Yilan Zhang, Zhengxia Zou, Keyan Chen, Zhenwei Shi. IEEE TCSVT 2023,
arXiv 2303.01681. The authors' code: github.com/WindVChen/INR-Harmonization (Apache-2.0).

  - as_published.py: the network with the authors' keys and the paper's equations in order;
    windows.py: the same function, window by window.
  - own.py: our configurations (compact, paper's size), in the aligned reading throughout.
"""

from __future__ import annotations

from collections.abc import Mapping

from hzcli.models.hinet.as_published import PublishedConfig, PublishedHINet
from hzcli.models.hinet.own import HINet, HINetConfig, LocalMlp
from hzcli.models.hinet.windows import AlignedMlp, ScrambledMlp

__all__ = [
    "AlignedMlp",
    "HINet",
    "HINetConfig",
    "LocalMlp",
    "PublishedConfig",
    "PublishedHINet",
    "ScrambledMlp",
    "build",
    "config_from",
    "detect",
    "published",
]

Shapes = Mapping[str, tuple[int, ...]]

# A few tensors that only this network has, of shapes that every file of it shares.
AUTHORS = {
    "backbone.backbone.hrnet.conv1.weight": (64, 3, 3, 3),
    "backbone.mask_conv.1.scale": (1,),
    "backbone.model.decoder.INR_encoding.fourier_embed.input": (1, 65536, 32),
    "backbone.model.decoder.content_mlp_blocks.block0.basic_params.0": (1, 1, 1, 102, 32),
    "backbone.model.decoder.appearance_mlps.basic_params.3": (1, 32, 3),
}
OWN = ("starts.0", "starts.3", "basics.0.0", "basics.3.3", "waves", "phases", "table")


def published(variant: str = "hinet") -> PublishedHINet:
    """The network as published, in eval mode, with random start values."""
    if variant != "hinet":
        raise ValueError(f"there is no published HINet called {variant!r}")
    return PublishedHINet().eval()


def detect(shapes: Shapes) -> str | None:
    """ "hinet" if these are the authors' keys, or those of one of our configurations."""
    authors = all(shapes.get(key) == shape for key, shape in AUTHORS.items())
    ours = all(key in shapes for key in OWN) and (
        "encoder.share" in shapes or "encoder.hrnet.conv1.weight" in shapes
    )
    return "hinet" if authors or ours else None


def config_from(shapes: Shapes, readings: Mapping[str, str]) -> HINetConfig | PublishedConfig:
    """Hyper-parameters from the shapes of tensors, readings from a file's metadata."""
    if not any(key in shapes for key in AUTHORS):
        return HINetConfig.from_shapes(shapes, readings)
    prior = readings.get("prior", PublishedConfig.prior)
    if prior not in ("published", "aligned"):
        raise ValueError(f"there is no prior {prior!r}: published or aligned")
    return PublishedConfig(prior)  # type: ignore[arg-type]


def build(config: HINetConfig | PublishedConfig) -> HINet | PublishedHINet:
    """The network of a configuration, with random start values."""
    return PublishedHINet(config) if isinstance(config, PublishedConfig) else HINet(config)
