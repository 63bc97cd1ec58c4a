"""HINet: Dense Pixel-to-Pixel Harmonization via Continuous Image Representation.

Jianqi Chen, Yilan Zhang, Zhengxia Zou, Keyan Chen, Zhenwei Shi. IEEE TCSVT 2023,
arXiv 2303.01681. The authors' code: github.com/WindVChen/INR-Harmonization (Apache-2.0).

The picture is a continuous function: a small MLP maps (position, colour, mask, prior) to the
harmonised colour at any coordinate. The MLP's weights differ from cell to cell of a grid and
are predicted from the encoded thumbnail; a last MLP, predicted from the whole picture's
appearance, is shared by all pixels. Three levels (1/4, 1/2 and full size) run coarse to fine,
each handing its features to the next as a prior (LRIP).

Differences from the authors' code: the `aligned` reading, see hzcli/nets/local_mlp.py, which is
stored with weights; predicted parameters and tables are offsets from a learnt start (an
identity table); the output is a residual on the table's colours (`residual=True`) in our own
recipes. What the paper's eq. (1) asks, weights interpolated between cells, is done block by
block. The network that reads the authors' weights is in as_published.py.

Letters: B pictures, (gh, gw) cells of a grid, P parameters of an MLP.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import isqrt
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hzcli.catalog import WeightsCard
from hzcli.core.lut import Lut3D, identity_lut, lookup
from hzcli.core.transform import Thumbnail
from hzcli.nets import paper_encoder as paper
from hzcli.nets.compact import CompactEncoder
from hzcli.nets.local_mlp import LocalMlp
from hzcli.nets.modulated import Modulated, normal
from hzcli.nets.tables import GAIN, POLYNOMIALS, doubted, table_of
from hzcli.nets.views import seen


@dataclass(frozen=True)
class HINetConfig:
    """Numbers that give a HINet its size.

    thumbnail: edge of the square thumbnail in pixels, a multiple of 32; a network trained on
    smaller ones reads more from this.
    channels, blocks, code: of the compact encoder alone. hyper: width of the hypernetworks.
    width: of every MLP. hidden: modulated layers after the first, a level, coarse to fine
    (the paper's best ablation is 3, 2, 1). rank: of the weight factorisation (paper: 10).
    waves: sine features of the position. table, table_edge: learnt position table.
    lut: nodes a side of the auxiliary 3D LUT (paper: 7).
    encoder: "compact", or "paper" (HRNet with OCR, and iDIH's encoder).
    closer: once trained, the compact encoder takes so many closer looks at the foreground
    besides, and the codes are averaged (nets/views.py). doubt: how much less is changed where it
    is little (nets/doubt.py).
    """

    # What the shapes of tensors cannot tell; stored beside weights.
    READINGS: ClassVar[tuple[str, ...]] = ("thumbnail", "residual", "closer", "doubt")

    thumbnail: int = 224
    channels: tuple[int, int, int, int] = (32, 64, 128, 192)
    blocks: int = 0
    code: int = 512
    hyper: int = 128
    width: int = 16
    hidden: tuple[int, int, int] = (2, 1, 1)
    rank: int = 4
    waves: int = 8
    table: int = 8
    table_edge: int = 32
    lut: int = 7
    residual: bool = True
    encoder: str = "compact"
    closer: int = 0
    doubt: float = 0.0

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> HINetConfig:
        """The configuration behind stored JSON; fields it lacks keep their defaults."""
        known = {f.name for f in fields(cls)}
        given: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in stored.items()
        }
        return cls(**{k: v for k, v in given.items() if k in known})

    @classmethod
    def compact(cls) -> HINetConfig:
        """Small enough to train and run on a CPU; the one that ships."""
        return cls()

    @classmethod
    def paper(cls) -> HINetConfig:
        """The size of the paper (section IV-A)."""
        return cls(
            thumbnail=256,
            hyper=512,
            width=32,
            hidden=(3, 2, 1),
            rank=10,
            waves=32,
            table=32,
            table_edge=256,
            encoder="paper",
        )

    @classmethod
    def from_shapes(
        cls, shapes: Mapping[str, tuple[int, ...]], readings: Mapping[str, str]
    ) -> HINetConfig:
        """The configuration of a network with tensors of these shapes.

        Args:
            shapes: of a `state_dict`.
            readings: the metadata of a file of weights. Those that older files lack stand in
                their `config`, as JSON; without either, defaults are taken.
        """
        stored = json.loads(readings.get("config", "{}"))
        stored |= {name: readings[name] for name in cls.READINGS if name in readings}
        compact = "encoder.share" in shapes
        layers = [sum(key.startswith(f"basics.{n}.") for key in shapes) for n in range(4)]
        width = shapes["basics.0.0"][1]
        sizes = [shapes[f"basics.0.{i}"] for i in range(layers[0])]
        biases = sum(b for _, b in sizes)
        known: dict[str, Any] = {
            "thumbnail": int(stored.get("thumbnail", cls.thumbnail)),
            "residual": str(stored.get("residual", cls.residual)).lower() == "true",
            "closer": int(stored.get("closer", cls.closer)),
            "doubt": float(stored.get("doubt", cls.doubt)),
            "hyper": shapes["hyper.0.weight" if compact else "hyper.0.0.weight"][int(compact)],
            "width": width,
            "hidden": tuple(count - 1 for count in layers[:3]),
            "rank": (shapes["starts.0"][0] - biases) // sum(a + b for a, b in sizes),
            "waves": shapes["waves"][1],
            "table": shapes["table"][1],
            "table_edge": shapes["table"][2],
            "lut": round((shapes["lut.weight" if compact else "lut.2.weight"][0] / 3) ** (1 / 3)),
            "encoder": "compact" if compact else "paper",
        }
        if compact:
            stages = [shapes[f"encoder.stages.{n}.down.weight"][0] for n in range(4)]
            known["channels"] = tuple(stages)
            known["blocks"] = sum(key.endswith(".qkv.weight") for key in shapes)
            known["code"] = shapes["encoder.share"][0]
        else:
            known["thumbnail"] = 4 * isqrt(shapes["encoder.compress_layer.0.weight"][1])
        return cls(**known)

    @property
    def mlps(self) -> tuple[Modulated, Modulated, Modulated, Modulated]:
        """Cell MLPs, coarse to fine: position, colour, mask (and prior) in, features out; and
        the global MLP: three hidden layers and the colour."""
        position = 2 + self.waves + self.table
        coarse, middle, fine = (
            Modulated((position + 4 + prior, *[self.width] * (hidden + 1)), self.rank)
            for prior, hidden in zip((0, self.width, self.width), self.hidden, strict=True)
        )
        return coarse, middle, fine, Modulated((*[self.width] * 4, 3), self.rank)


class HINet(nn.Module):
    """Predicts a LocalMlp, or the auxiliary 3D LUT, from a thumbnail."""

    def __init__(self, config: HINetConfig) -> None:
        super().__init__()
        self.config = config
        self.card = WeightsCard(id="untrained", model="hinet", file="")
        c = config
        mlps = c.mlps
        if c.encoder == "paper":
            self._paper_heads(c, mlps)
        elif c.encoder == "compact":
            self._compact_heads(c, mlps)
        else:
            raise ValueError(f"there is no encoder {c.encoder!r}: compact or paper")
        self.basics = nn.ModuleList(m.basics() for m in mlps)
        self.waves = nn.Parameter(torch.empty(2, c.waves).uniform_(-(4.5**0.5), 4.5**0.5))
        self.phases = nn.Parameter(torch.zeros(c.waves))
        self.table = nn.Parameter(normal(1, c.table, c.table_edge, c.table_edge, scale=0.02))
        self.starts = nn.ParameterList(m.initial() for m in mlps)
        if not self.table.is_meta:
            self._start_heads()

    def _compact_heads(self, c: HINetConfig, mlps: tuple[Modulated, ...]) -> None:
        self.encoder: nn.Module = CompactEncoder(c.channels, c.blocks, c.code)
        sources = (c.channels[3], c.channels[3], c.channels[2])
        self.local = nn.ModuleList(nn.Conv2d(s, c.hyper, 1) for s in sources)
        self.context = nn.ModuleList(nn.Linear(c.code, c.hyper) for _ in range(3))
        self.hyper = nn.ModuleList(nn.Conv2d(c.hyper, m.length, 1) for m in mlps[:3])
        self.appearance: nn.Module = nn.Linear(c.code, mlps[3].length)
        self.tone = nn.Linear(c.code, 3 * POLYNOMIALS)
        self.lut: nn.Module = nn.Linear(c.code, 3 * c.lut**3)

    def _paper_heads(self, c: HINetConfig, mlps: tuple[Modulated, ...]) -> None:
        self.encoder = paper.PaperEncoder(c.thumbnail)
        self.hyper = nn.ModuleList(
            paper.content_hypernet(channels, c.hyper, m.length)
            for channels, m in zip(paper.SHALLOW, mlps, strict=False)
        )
        self.appearance = paper.appearance_hypernet(c.hyper, mlps[3].length)
        self.lut = paper.lut_head(mlps[3].length, c.lut)

    def _start_heads(self) -> None:
        """Parameters of MLPs near their starts, tables at the identity."""
        for head in [*self.hyper, self.appearance]:
            last = _last(head)
            nn.init.kaiming_normal_(last.weight, nonlinearity="relu")
            with torch.no_grad():
                last.weight.mul_(0.3)
                nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        for head in [self.lut, *([self.tone] if self.config.encoder == "compact" else [])]:
            for parameter in _last(head).parameters():
                nn.init.zeros_(parameter)

    @property
    def thumbnail_edge(self) -> int:
        return self.config.thumbnail

    def measured(self, rgb: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """What `rendered` needs of composites (B, 3, h, w): statistics, and their colours."""
        return self.encoder.measured(rgb, mask)[1], rgb  # type: ignore[operator]

    def rendered(self, statistics: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Colours (B, 3, P) by the table, and the table."""
        table = self.lut_of(self.encoder.code(statistics)).lut  # type: ignore[operator]
        return lookup(table, pixels[:, :, None])[:, :, 0], table

    @property
    def last(self) -> list[nn.Parameter]:
        """What makes a table of the compact encoder's statistics (train/refit.py)."""
        behind: list[nn.Parameter] = self.encoder.behind  # type: ignore[assignment]
        return [*behind, *self.tone.parameters(), *self.lut.parameters()]

    @property
    def readers(self) -> list[nn.Linear]:
        """What reads the compact encoder's code besides the table's heads."""
        return [*self.context, self.appearance]  # type: ignore[list-item]

    def predict(self, thumb: Thumbnail) -> LocalMlp:
        """The INR decoder's function for each picture of a batch of thumbnails."""
        return self.predict_both(thumb)[0]

    def predict_lut(self, thumb: Thumbnail) -> Lut3D:
        """The auxiliary 3D LUT (section III-E) for each picture."""
        rgb, mask, _, code = seen(self, thumb.rgb, thumb.mask)
        return Lut3D(doubted(self, self.lut_of(code).lut, rgb, mask))

    def predict_both(self, thumb: Thumbnail) -> tuple[LocalMlp, Lut3D]:
        rgb, mask, maps, code = seen(self, thumb.rgb, thumb.mask)
        lut = Lut3D(doubted(self, self.lut_of(code).lut, rgb, mask, most=1.0))
        coarse, middle, fine = (
            self.starts[n][:, None, None] + GAIN * self._content(n, map_, code)
            for n, map_ in enumerate(maps)
        )
        transform = LocalMlp(
            mlps=self.config.mlps,
            maps=(coarse, middle, fine),
            appearance=self.starts[3] + GAIN * self.appearance(code),
            basics=tuple(tuple(basics.parameters()) for basics in self.basics),
            waves=self.waves,
            phases=self.phases,
            table=self.table,
            lut=lut.lut,
            residual=self.config.residual,
        )
        return transform, lut

    def _content(self, level: int, map_: Tensor, code: Tensor) -> Tensor:
        """A level's parameters (B, P, gh, gw), as offsets from the start."""
        if self.config.encoder == "paper":
            return self.hyper[level](map_)
        context = self.context[level](code)[:, :, None, None]
        return self.hyper[level](F.silu(self.local[level](map_) + context))

    def lut_of(self, code: Tensor) -> Lut3D:
        """The tables that codes (B, code) of the encoder stand for, doubted by nobody."""
        if self.config.encoder == "paper":
            n = self.config.lut
            free = self.lut(self.appearance(code)).view(-1, 3, n, n, n)
            return Lut3D(identity_lut(n, device=code.device) + GAIN * free)
        return Lut3D(table_of(self.tone(code), self.lut(code)))


def _last(head: nn.Module) -> nn.Linear | nn.Conv2d:
    """The layer of a head that predicts."""
    layer = head[-1] if isinstance(head, nn.Sequential) else head
    assert isinstance(layer, nn.Linear | nn.Conv2d)
    return layer
