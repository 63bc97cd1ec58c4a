"""What a file of weights says of itself that no tensor shows: readings, from text to fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args, get_type_hints

# How a thumbnail may be made, see engine/thumbnail.py.
Filter = Literal["area", "bilinear", "triangle"]


def told(config: type[Any], metadata: Mapping[str, str]) -> dict[str, Any]:
    """Those fields of a configuration that metadata speak of.

    Args:
        config: a dataclass; READINGS names the fields. Their types say what a text may be: bool,
            int, float, str, or a Literal of strings.
        metadata: texts by name, of other things too.

    Raises:
        ValueError: a text is not what its field may be.
    """
    kinds = get_type_hints(config)
    given = [name for name in config.READINGS if name in metadata]
    return {name: _read(name, metadata[name], kinds[name]) for name in given}


def _read(name: str, text: str, kind: Any) -> Any:
    if kind in (int, float, str):
        return kind(text)
    if kind is bool:
        text, known = text.lower(), ("false", "true")
    else:
        known = get_args(kind)
    if text not in known:
        raise ValueError(f"{name} is {text!r}, expected {' or '.join(known)}")
    return text == "true" if kind is bool else text
