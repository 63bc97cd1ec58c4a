"""What can be run, as plain data: the papers that hz knows, and the weights that are installed.

Weights are installed in two places: those that came with hz, and those of the user, which
`hz models import` writes. Imports neither torch nor numpy, so that `hz --help` and `hz models`
answer at once.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from hzcli.errors import ModelError

__all__ = [
    "CARDS",
    "Card",
    "WeightsCard",
    "card",
    "find",
    "installed",
    "user_folder",
    "weights_folder",
]


@dataclass(frozen=True)
class Card:
    """One system: a paper, the file that holds its equations, and the network in it.

    arxiv: empty for a paper that is not there.
    code: where the authors' code lies. code_licence: its licence, in words where there is none.
    module: a file or folder. network: the class there; its configuration is called as it with
        "Config".
    variants: the networks as published, by the names that `models.published` takes.
    """

    id: str
    title: str
    paper: str
    arxiv: str
    year: int
    venue: str
    code: str
    code_licence: str
    module: str
    network: str
    variants: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """The card, ready for JSON."""
        return {**asdict(self), "variants": list(self.variants)}


CARDS: tuple[Card, ...] = (
    Card(
        id="hinet",
        title="HINet",
        paper="Dense Pixel-to-Pixel Harmonization via Continuous Image Representation",
        arxiv="2303.01681",
        year=2023,
        venue="IEEE TCSVT",
        code="github.com/WindVChen/INR-Harmonization",
        code_licence="Apache-2.0",
        module="hzcli.models.hinet",
        network="HINet",
        variants=("hinet",),
    ),
    Card(
        id="cdtnet",
        title="CDTNet",
        paper="High-Resolution Image Harmonization via Collaborative Dual Transformations",
        arxiv="2109.06671",
        year=2022,
        venue="CVPR",
        code="github.com/bcmi/CDTNet-High-Resolution-Image-Harmonization",
        code_licence="none given",
        module="hzcli.models.cdtnet",
        network="CDTNet",
        variants=("cdtnet", "cdtnet-sim"),
    ),
    Card(
        id="s2crnet",
        title="S2CRNet",
        paper="Spatial-Separated Curve Rendering Network for Efficient and High-Resolution "
        "Image Harmonization",
        arxiv="2109.05750",
        year=2022,
        venue="ECCV",
        code="github.com/stefanLeong/S2CRNet",
        code_licence="MIT",
        module="hzcli.models.s2crnet",
        network="S2CRNet",
        variants=("s2crnet-s", "s2crnet-v"),
    ),
    Card(
        id="aict",
        title="AICT",
        paper="High-Resolution Image Harmonization with Adaptive-Interval Color Transformation",
        arxiv="",
        year=2024,
        venue="NeurIPS",
        code="github.com/aipixel/AICT",
        code_licence="none given",
        module="hzcli.models.aict",
        network="AICT",
        variants=("aict",),
    ),
    Card(
        id="hdnet",
        title="HDNet",
        paper="Hierarchical Dynamic Image Harmonization",
        arxiv="2211.08639",
        year=2023,
        venue="ACM MM",
        code="github.com/chenhaoxing/HDNet",
        code_licence="MIT",
        module="hzcli.models.hdnet",
        network="HDNet",
        variants=("hdnet", "hdnet-lite"),
    ),
    Card(
        id="pctnet",
        title="PCT-Net",
        paper="PCT-Net: Full Resolution Image Harmonization Using Pixel-Wise Color Transformations",
        arxiv="",
        year=2023,
        venue="CVPR",
        code="github.com/rakutentech/PCT-Net-Image-Harmonization",
        code_licence="MPL-2.0",
        module="hzcli.models.pctnet",
        network="PCTNet",
        variants=("pctnet",),
    ),
)


@dataclass(frozen=True)
class WeightsCard:
    """One file of weights, as the JSON card beside it describes it.

    file: name of the safetensors file in the card's folder. bytes: its size.
    thumbnail: edge of the square thumbnail that the network was trained on, in pixels.
    data_terms: under which terms the training pictures may be used.
    figures: measured quality, name to number. traits: what kind of answer they give, see
        `hzcli.auto`.
    source: the file that imported weights come from, name and sha256.
    readings: which reading of the paper they want, where tensor shapes cannot tell.
    code_licence: of the authors' code, for imported weights.
    folder: where the card was found; not part of the card.
    """

    id: str
    model: str
    file: str
    sha256: str = ""
    config: Any = None
    bytes: int = 0
    parameters: int = 0
    thumbnail: int = 0
    licence: str = ""
    data_terms: str = ""
    data: tuple[Any, ...] = ()
    recipe: str = ""
    steps: int = 0
    minutes: float = 0.0
    hardware: str = ""
    figures: dict[str, Any] = field(default_factory=dict)
    traits: dict[str, str] = field(default_factory=dict)
    created: str = ""
    source: dict[str, str] = field(default_factory=dict)
    readings: dict[str, str] = field(default_factory=dict)
    code_licence: str = ""
    folder: Path = Path()

    @property
    def path(self) -> Path:
        """The weights themselves."""
        return self.folder / self.file

    @property
    def status(self) -> str:
        """ "done", or "failed" when the file that the card describes is not there."""
        return "done" if self.path.is_file() else "failed"

    def as_dict(self) -> dict[str, Any]:
        """The card, its path and its model's paper, ready for JSON."""
        plain = asdict(self)
        del plain["folder"]
        known = card(self.model)
        about = ("title", "paper", "arxiv", "year", "venue")
        paper = {} if known is None else {name: getattr(known, name) for name in about}
        return {**plain, "data": list(self.data), **paper, "path": str(self.path)}


def card(model: str) -> Card | None:
    """The card of a model by its id; None when hz does not know it."""
    return next((entry for entry in CARDS if entry.id == model), None)


def weights_folder() -> Path:
    """The folder of the weights that came with hz.

    `hzcli/weights` inside an installed wheel, `weights/` beside the package in a source tree.
    """
    package = Path(__file__).resolve().parent
    inside = package / "weights"
    return inside if inside.is_dir() else package.parent / "weights"


def user_folder() -> Path:
    """The user's own weights: `$HZ_HOME/weights`, else where the system keeps data."""
    if home := os.environ.get("HZ_HOME"):
        return Path(home).expanduser() / "weights"
    if sys.platform == "win32":
        data = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData/Local")
    elif sys.platform == "darwin":
        data = Path.home() / "Library/Application Support"
    else:
        data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share")
    return data / "hz" / "weights"


def read_card(path: Path) -> WeightsCard:
    """Read one card.

    Raises:
        ModelError: the file is not a card.
    """
    mend = f"Remove it, or put its weights there again ({path.parent})."
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read as a card of weights ({error})", mend) from error
    missing = [key for key in ("id", "model", "file") if not (isinstance(raw, dict) and key in raw)]
    if missing:
        raise ModelError(f"{path} is not a card of weights: it lacks {', '.join(missing)}", mend)
    known = {entry.name for entry in fields(WeightsCard)} - {"folder"}
    given = {key: value for key, value in raw.items() if key in known}
    if "data" in given:
        data = given["data"]
        given["data"] = tuple(data) if isinstance(data, list) else (data,)
    return WeightsCard(**given, folder=path.parent)


def installed(folder: Path | None = None) -> list[WeightsCard]:
    """The cards in a folder (default: those that came with hz and the user's), by id.

    Of two cards of one id the one that came with hz counts: a name never changes its meaning.

    Raises:
        ModelError: one of the cards cannot be read.
    """
    folders = [user_folder(), weights_folder()] if folder is None else [folder]
    found = {
        entry.id: entry
        for where in folders
        for entry in map(read_card, sorted(where.glob("*.json")))
    }
    return [found[name] for name in sorted(found)]


def find(name: str, folder: Path | None = None) -> WeightsCard:
    """The card of installed weights by its id.

    Raises:
        ModelError: nothing of that name is installed.
    """
    cards = installed(folder)
    for entry in cards:
        if entry.id == name:
            return entry
    names = ", ".join(entry.id for entry in cards) or "nothing"
    raise ModelError(
        f'no weights called "{name}" are installed',
        f"Installed: {names}. The authors' own come in with: hz models import FILE",
    )
