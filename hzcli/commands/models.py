"""`hz models`: what is installed; the authors' weights in; do weights still work?"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from hzcli import catalog
from hzcli.catalog import WeightsCard
from hzcli.errors import HzError, ModelError, UsageError
from hzcli.report import Result

TERMS = "the terms of the weights are those of their authors"
RESERVED = ("all",)  # `hz run --model all` runs them all


def models() -> Result:
    """The cards of the installed weights.

    Raises:
        ModelError: a card cannot be read.
    """
    return Result(command="models", outcomes=tuple(catalog.installed()))


@dataclass(frozen=True)
class System:
    """A paper that hz knows, and which of the installed weights are its."""

    card: catalog.Card
    weights: tuple[str, ...]
    status: str = "done"

    def as_dict(self) -> dict[str, Any]:
        return {**self.card.as_dict(), "weights": list(self.weights)}


def info(name: str) -> Result:
    """All about one file of weights, or about one system.

    Args:
        name: id of installed weights, a .safetensors file, or a system or variant.

    Raises:
        ModelError: nothing is called so.
    """
    if name.endswith(".safetensors"):
        return Result("models info", outcomes=(_card_of(name),))
    cards = catalog.installed()
    for card in cards:
        if card.id == name:
            return Result("models info", outcomes=(card,))
    for system in catalog.CARDS:
        if name in (system.id, *system.variants):
            own = tuple(card.id for card in cards if card.model == system.id)
            return Result("models info", outcomes=(System(system, own),))
    catalog.find(name)  # says what there is
    raise AssertionError(name)


def import_weights(
    file: Path,
    *,
    name: str | None = None,
    folder: Path | None = None,
    variant: str | None = None,
    overwrite: bool = False,
) -> Result:
    """Turn a checkpoint of a published system into safetensors with a card.

    Args:
        file: what the authors' training saved; nothing in it is run.
        name: id of the weights from now on; default the file's name.
        folder: where they go; default the user's folder, where `--model NAME` finds them.
        variant: which published network it is, where keys and shapes leave a choice.
        overwrite: replace weights of that name.

    Returns:
        One row: the card of the new weights.

    Raises:
        ModelError: the file is no checkpoint, or of no system that hz knows.
        UsageError: the name cannot be used.
    """
    from hzcli import checkpoints
    from hzcli import models as registry
    from hzcli.engine.device import calm_threads
    from hzcli.io.atomic import write_text

    calm_threads()
    id = _usable(name or re.sub(r"[^\w.-]+", "-", file.stem).strip(".-_"), named=name is not None)
    into = folder or catalog.user_folder()
    path = into / f"{id}.safetensors"
    if path.exists() and not overwrite:
        raise UsageError(f"{path} exists already", "Pass --overwrite, or another name with --as.")
    state = checkpoints.read(file)
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    try:
        system = catalog.card(registry.identify(shapes))
        assert system is not None
        model: Any = registry.build(state, _readings(system, variant))
    except ModelError as error:
        raise ModelError(f"{file.name}: {error.message}", error.hint) from error
    readings = registry.readings_of(model.config)
    metadata = {"model": system.id, "id": id, "format": "2", **readings}
    checkpoints.write(state, path, metadata, overwrite=overwrite)
    card = WeightsCard(
        id=id,
        model=system.id,
        file=path.name,
        sha256=_sha256(path),
        config=asdict(model.config),
        bytes=path.stat().st_size,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        thumbnail=model.thumbnail_edge,
        licence="as their authors say",
        data_terms=TERMS,
        source={"file": file.name, "sha256": _sha256(file)},
        readings=readings,
        code_licence=system.code_licence,
        created=time.strftime("%Y-%m-%d"),
        folder=into,
    )
    write_text(path.with_suffix(".json"), json.dumps(_stored(card), indent=2) + "\n")
    return Result(
        "models import", outcomes=(card,), output=into, files=(path, path.with_suffix(".json"))
    )


def _usable(id: str, *, named: bool) -> str:
    """The id, if weights can be called so."""
    how = "--as" if named else "the file's name"
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", id) or id in RESERVED:
        raise UsageError(
            f'weights cannot be called "{id}" ({how})', "Letters and digits: --as my-weights"
        )
    if any(card.id == id for card in catalog.installed(catalog.weights_folder())):
        raise UsageError(
            f'"{id}" is the name of weights that came with hz', "Give another one with --as."
        )
    return id


def _readings(system: catalog.Card, variant: str | None) -> dict[str, str]:
    """The readings that a published network wants; by default the system's first variant's."""
    import torch

    from hzcli import models as registry

    chosen = variant or system.variants[0]
    if chosen not in system.variants:
        raise UsageError(
            f"these are weights of {system.title}, which has no variant {chosen!r}",
            f"Its variants: {', '.join(system.variants)}.",
        )
    if variant is None:
        return {}  # what is not said is read as published
    with torch.device("meta"):
        return registry.readings_of(registry.published(chosen).config)


def _stored(card: WeightsCard) -> dict[str, Any]:
    """What of a card goes into its file."""
    plain = asdict(card)
    empty = {name for name, value in plain.items() if value in ("", 0, 0.0, (), {}, None)}
    return {name: value for name, value in plain.items() if name not in empty | {"folder"}}


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def _card_of(name: str) -> WeightsCard:
    """The card beside a file of weights, or what the file itself says."""
    from hzcli import models as registry

    model = registry.load(Path(name))
    card: WeightsCard = model.card
    if card.bytes:
        return card
    return replace(
        card,
        bytes=Path(name).stat().st_size,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        thumbnail=model.thumbnail_edge,
    )


# Verification


@dataclass(frozen=True)
class Verified:
    """What became of the checks of one file of weights. checked: those that it passed."""

    id: str
    path: str
    status: str
    checked: tuple[str, ...]
    error: dict[str, str] | None = None

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "checked": list(self.checked)}


def verify(names: Sequence[str]) -> Result:
    """Check weights: bytes as their card says, tensors that fit, one picture harmonised.

    Args:
        names: ids of installed weights, or .safetensors files; none for all that is installed.

    Returns:
        A row for each; the exit code is that of broken weights if any check failed.
    """
    from hzcli.engine.device import calm_threads

    calm_threads()
    wanted = list(names) or [card.id for card in catalog.installed()]
    rows = tuple(_verify(name) for name in wanted)
    bad = any(row.status == "failed" for row in rows)
    return Result("models verify", outcomes=rows, exit=ModelError.exit_code if bad else None)


def _verify(name: str) -> Verified:
    passed: list[str] = []
    path = Path(name)
    try:
        from hzcli import models as registry

        path = registry.find(name)
        beside = path.with_suffix(".json")
        if beside.is_file():
            expected = catalog.read_card(beside).sha256
            if expected and _sha256(path) != expected:
                raise ModelError(
                    f"{path.name} is not the file that its card describes: another sha256",
                    "Copy it again, or import it again.",
                )
            passed += ["sha256"] if expected else []
        model = registry.load(path)
        passed.append("tensors")
        _try(model)
        passed.append("a picture")
    except HzError as error:
        said = {"code": type(error).__name__, "message": error.message, "hint": error.hint}
        return Verified(name, str(path), "failed", tuple(passed), said)
    return Verified(name, str(path), "done", tuple(passed))


def _try(model: Any) -> None:
    """Harmonise a picture made by rule; the engine refuses an answer that is no number."""
    import numpy as np

    from hzcli.core.window import Size, Window
    from hzcli.engine import stream

    y, x = np.mgrid[:72, :96]
    waves = [128 + 90 * np.sin(x / (9 + 4 * c) + y / 13 + c) for c in range(3)]

    class Rows:
        depth, path = 8, ""

        def __init__(self, codes: np.ndarray) -> None:
            self.codes, self.size = codes, Size(*codes.shape[:2])

        def read(self, window: Window) -> np.ndarray:
            return self.codes[window.top : window.bottom, window.left : window.right]

    class Nowhere:
        def write(self, rows: np.ndarray) -> None:
            pass

    picture = Rows(np.stack(waves, -1).astype(np.uint8))
    mask = Rows((255 * (np.hypot(y - 36, x - 40) < 25)).astype(np.uint8))
    for mode in stream.MODES:
        stream.harmonise(picture, mask, model, Nowhere(), mode=mode)
