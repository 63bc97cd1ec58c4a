"""Systems by name, and weights by what they hold.

A Predictor has `thumbnail_edge`, `card`, `config`, `predict(thumbnail) -> Transform` and
`predict_lut(thumbnail) -> Lut3D`. Each system is one module here, which the catalogue names; it
gives `published(variant)`, `detect(shapes)` and `config_from(shapes, readings)`.

A file of weights needs no word about what it is: which system it belongs to and how large the
network is follow from the names and shapes of its tensors. What these cannot tell, the readings
of a paper, stands in the metadata; where it does not, the weights are read as published.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import json
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from hzcli import catalog
from hzcli.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor, device, nn

DEFAULT = "hinet"
Shapes = Mapping[str, tuple[int, ...]]

SHARED = "shared"  # metadata: which tensors are another file's

# Below this share of common names, two networks have nothing to do with each other.
AKIN = 0.5


def published(name: str) -> nn.Module:
    """A network exactly as its authors published it, in eval mode, with random weights.

    Args:
        name: a variant that the catalogue lists, for example "hinet" or "cdtnet-sim".

    Raises:
        ModelError: there is no such network.
    """
    for card in catalog.CARDS:
        if name in card.variants:
            return module(card).published(name).eval()
    known = ", ".join(chain.from_iterable(card.variants for card in catalog.CARDS))
    raise ModelError(f"there is no published network {name!r}", f"Known: {known}.")


def detect(shapes: Shapes) -> str | None:
    """The id of the system that tensors of these names and shapes belong to, or None."""
    found = (module(card).detect(shapes) for card in catalog.CARDS)
    return next((name for name in found if name is not None), None)


def identify(shapes: Shapes, metadata: Mapping[str, str] | None = None) -> str:
    """As `detect`, but says what the tensors are, or what is wrong with them.

    Raises:
        ModelError: they are another network's, or not quite one of those that hz knows.
    """
    name = detect(shapes)
    if name is not None:
        return name
    if "encoder.model.conv1.weight" in shapes and "lut.LUT0.LUT" in shapes:
        raise ModelError(
            "these are weights of the CDTNet of libcom, another network than the paper's: "
            "a residual encoder and tables, without decoder and refinement",
            "hz reads those of the paper's authors.",
        )
    known = _candidates(shapes, metadata or {})
    title, wanted = max(known, key=lambda candidate: _likeness(shapes, candidate[1]))
    if _likeness(shapes, wanted)[0] >= AKIN:
        wrong = misfits(shapes, wanted) or "their shapes contradict each other"
        raise ModelError(f"these weights are nearly those of {title}, but {wrong}")
    keys = list(shapes)
    raise ModelError(
        f"these are weights of no system that hz knows: {len(keys)} tensors, {', '.join(keys[:3])}",
        f"Known: {', '.join(card.id for card in catalog.CARDS)}; hz models info NAME tells more.",
    )


def misfits(shapes: Shapes, wanted: Shapes) -> str:
    """The first tensor that is missing, too many, or of another shape; empty if all is well."""
    missing = [key for key in wanted if key not in shapes]
    unexpected = [key for key in shapes if key not in wanted]
    bent = [key for key in wanted if key in shapes and tuple(shapes[key]) != tuple(wanted[key])]
    said = []
    if missing:
        said.append(f"{missing[0]} is missing{_more(missing)}")
    if unexpected:
        said.append(f"{unexpected[0]} is unexpected{_more(unexpected)}")
    if bent:
        found, expected = (_by(table[bent[0]]) for table in (shapes, wanted))
        said.append(f"{bent[0]} is {found}, expected {expected}{_more(bent)}")
    return "; ".join(said)


def build(state: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> nn.Module:
    """The network that these tensors are the weights of, filled in, in eval mode.

    Args:
        state: tensors by name; floating-point ones of any precision become float32.
        metadata: readings by name, and what else a file says of itself.

    Returns:
        The network, without gradients, on the CPU.

    Raises:
        ModelError: the tensors belong to no system, do not fit it, or hold what is no number.
    """
    import torch

    told = readings(metadata or {})
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    name = identify(shapes, told)
    card = catalog.card(name)
    assert card is not None, f"{name} detects, but has no card"
    try:
        config = module(card).config_from(shapes, told)
        with torch.device("meta"):
            model = network(card, config)
    except (KeyError, IndexError, ValueError, TypeError, RuntimeError) as error:
        raise ModelError(f"the {card.title} in these weights cannot be built: {error}") from error
    wrong = misfits(shapes, shapes_of(model))
    if wrong:
        raise ModelError(f"these weights do not fit {card.title}: {wrong}")
    wide = {
        key: value.float() if value.is_floating_point() else value for key, value in state.items()
    }
    for key, value in wide.items():
        # An infinite variance silences its channel and nothing else shows it.
        if bad := int((~value.isfinite()).sum()):
            raise ModelError(
                f"{key} holds {bad} of {value.numel()} values that are no finite numbers",
                "The file is damaged, or was written at too low a precision: export it again.",
            )
    if _without_numbers(model, set(wide)):
        model = network(card, config)
    model.load_state_dict(wide, strict=True, assign=True)
    return model.requires_grad_(False).eval()


def load(name_or_path: str | Path = DEFAULT, device: device | str = "cpu") -> Any:
    """A network with its weights, in eval mode, and its card.

    Args:
        name_or_path: the id of installed weights (see `hz models`) or a .safetensors file.
        device: where to put it.

    Raises:
        ModelError: unknown name, missing or broken file, tensors that do not fit.
    """
    path = find(name_or_path)
    state, metadata = stored(path)
    try:
        model: Any = build(state, metadata)
    except ModelError as error:
        raise ModelError(f"{path.name}: {error.message}", error.hint) from error
    beside = path.with_suffix(".json")
    model.card = (
        catalog.read_card(beside)
        if beside.is_file()
        else catalog.WeightsCard(
            id=metadata.get("id", path.stem),
            model=model.card.model,
            file=path.name,
            folder=path.parent,
        )
    )
    return model.to(device)


def find(name_or_path: str | Path) -> Path:
    """The file behind an id or a path.

    Raises:
        ModelError: there is none.
    """
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or text.endswith(".safetensors"):
        path = Path(text)
        if not path.is_file():
            raise ModelError(f"there is no file {text}", "check the path given to --weights")
        if path.suffix != ".safetensors":
            raise ModelError(
                f"{path.name} is not a safetensors file", f"First: hz models import {path}"
            )
        return path
    for folder in (catalog.weights_folder(), catalog.user_folder()):
        path = folder / f"{text}.safetensors"
        if path.is_file():
            return path
    known = ", ".join(card.id for card in catalog.installed()) or "none"
    raise ModelError(
        f"there is no model {text!r}",
        f"installed: {known}; a file of your own goes to --weights",
    )


def stored(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file, with those that it shares with another file
    (train/export.py `share`).

    Raises:
        ModelError: it, or the file that it shares with, cannot be read.
    """
    state, metadata = _read(path)
    if SHARED not in metadata:
        return state, metadata
    try:
        shared = json.loads(metadata[SHARED])
        name, digest, places = shared["file"], shared["sha256"], dict(shared["tensors"])
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path.name} does not say what it shares ({error!r})") from error
    name = Path(str(name)).name
    base = path.parent / name
    if not base.is_file():
        base = find(Path(name).stem)
    if hashlib.sha256(base.read_bytes()).hexdigest() != digest:
        raise ModelError(
            f"{path.name} was made for another {name} than {base}",
            "Take both files from one place.",
        )
    theirs, _ = _read(base)
    missing = [there for there in places.values() if there not in theirs]
    if missing:
        raise ModelError(f"{path.name} wants {missing[0]} of {name}, which has no such tensor")
    return {**state, **{own: theirs[there] for own, there in places.items()}}, metadata


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            return state, file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"{path.name} is not a readable safetensors file ({error})",
            "copy it again, or choose installed weights with --model",
        ) from error


def module(card: catalog.Card) -> ModuleType:
    """The module of a system, imported."""
    return importlib.import_module(card.module)


def network(card: catalog.Card, config: Any) -> nn.Module:
    """The network of a configuration, with random weights: by the file's own `build`, where one
    class does not do for all configurations, else by its class."""
    file = module(card)
    return (getattr(file, "build", None) or getattr(file, card.network))(config)


def readings(metadata: Mapping[str, str]) -> dict[str, str]:
    """What a file says of its weights, by name; the configuration that it may hold as JSON
    speaks for what is not said by itself."""
    told: dict[str, str] = {}
    try:
        stored = json.loads(metadata.get("config", "{}"))
    except ValueError:
        stored = {}
    if isinstance(stored, dict):
        told = {key: str(value) for key, value in stored.items()}
    return {**told, **metadata}


def readings_of(config: Any) -> dict[str, str]:
    """The readings of a configuration, as metadata holds them."""
    return {name: str(getattr(config, name)) for name in config.READINGS}


def shapes_of(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a network's tensors."""
    return {key: tuple(value.shape) for key, value in model.state_dict().items()}


@functools.lru_cache(maxsize=32)
def published_shapes(name: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a published network's tensors."""
    import torch

    with torch.device("meta"):
        return shapes_of(published(name))


def _candidates(shapes: Shapes, metadata: Mapping[str, str]) -> list[tuple[str, Shapes]]:
    """Networks that the tensors may have been meant for: the published ones, and each system's
    own at the size that the tensors speak of."""
    import torch

    found: list[tuple[str, Shapes]] = []
    for card in catalog.CARDS:
        found += [(card.title, published_shapes(variant)) for variant in card.variants]
        try:
            config = module(card).config_from(shapes, metadata)
            with torch.device("meta"):
                found.append((card.title, shapes_of(network(card, config))))
        except Exception:  # of shapes that are another's, anything may come
            continue
    return found


def _likeness(shapes: Shapes, other: Shapes) -> tuple[float, int]:
    """Share of common names, and how many of these agree in their shapes."""
    common = shapes.keys() & other.keys()
    same = sum(tuple(shapes[key]) == tuple(other[key]) for key in common)
    return len(common) / max(1, len(shapes.keys() | other.keys())), same


def _without_numbers(model: nn.Module, given: set[str]) -> bool:
    """Whether the network, built without memory, holds more than its weights: constants."""
    named = chain(model.named_parameters(), model.named_buffers())
    if any(name not in given for name, _ in named):
        return True
    return any(
        getattr(value, "is_meta", False)
        for part in model.modules()
        for value in vars(part).values()
    )


def _more(keys: list[str]) -> str:
    return f" (and {len(keys) - 1} more)" if len(keys) > 1 else ""


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "a single number"
