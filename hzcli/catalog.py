"""What can be run, as plain data: the papers that hz knows, and the weights installed beside it.

Imports neither torch nor numpy, so that `hz --help` and `hz models` answer at once.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from hzcli.errors import ModelError

__all__ = ["CARDS", "Card", "WeightsCard", "card", "find", "installed", "weights_folder"]


@dataclass(frozen=True)
class Card:
    """One published model.

    module: the file that holds the paper's equations.
    """

    id: str
    title: str
    paper: str
    arxiv: str
    year: int
    code_licence: str
    module: str


CARDS: tuple[Card, ...] = (
    Card(
        id="hinet",
        title="HINet",
        paper="Dense Pixel-to-Pixel Harmonization via Continuous Image Representation",
        arxiv="2303.01681",
        year=2023,
        code_licence="Apache-2.0",
        module="hzcli.models.hinet",
    ),
)


@dataclass(frozen=True)
class WeightsCard:
    """One file of weights, as the JSON card beside it describes it.

    file: name of the safetensors file in the card's folder. bytes: its size.
    thumbnail: edge of the square thumbnail that the network was trained on, in pixels.
    data_terms: under which terms the training pictures may be used.
    figures: measured quality, name to number.
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
    created: str = ""
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
        paper = {} if known is None else {"paper": known.paper, "arxiv": known.arxiv}
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


def read_card(path: Path) -> WeightsCard:
    """Read one card.

    Raises:
        ModelError: the file is not a card.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{path} cannot be read as a card of weights ({error})", "Install hz again."
        ) from error
    missing = [key for key in ("id", "model", "file") if not (isinstance(raw, dict) and key in raw)]
    if missing:
        raise ModelError(
            f"{path} is not a card of weights: it lacks {', '.join(missing)}", "Install hz again."
        )
    known = {entry.name for entry in fields(WeightsCard)} - {"folder"}
    given = {key: value for key, value in raw.items() if key in known}
    if "data" in given:
        data = given["data"]
        given["data"] = tuple(data) if isinstance(data, list) else (data,)
    return WeightsCard(**given, folder=path.parent)


def installed(folder: Path | None = None) -> list[WeightsCard]:
    """The cards in a folder (default: `weights_folder()`), by id.

    Raises:
        ModelError: one of the cards cannot be read.
    """
    where = weights_folder() if folder is None else folder
    cards = [read_card(path) for path in sorted(where.glob("*.json"))]
    return sorted(cards, key=lambda entry: entry.id)


def find(name: str, folder: Path | None = None) -> WeightsCard:
    """The card of installed weights by its id.

    Raises:
        ModelError: nothing of that name is installed.
    """
    cards = installed(folder)
    for entry in cards:
        if entry.id == name:
            return entry
    names = ", ".join(entry.id for entry in cards)
    raise ModelError(
        f'no weights called "{name}" are installed',
        f"Installed: {names}." if names else "No weights are installed: install hz again.",
    )
