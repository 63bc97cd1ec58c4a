"""Models by name: load weights that ship with hz, or a file.

A Predictor has `thumbnail_edge`, `card`, `predict(thumbnail) -> Transform` and
`predict_lut(thumbnail) -> Lut3D`. Weights are safetensors whose metadata names the model and
holds its configuration as JSON.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from hzcli import catalog
from hzcli.errors import ModelError

if TYPE_CHECKING:
    import torch

    from hzcli.models.hinet import HINet

DEFAULT = "hinet"


def load(name_or_path: str | Path = DEFAULT, device: torch.device | str = "cpu") -> HINet:
    """Build a model and fill in its weights, in eval mode.

    Args:
        name_or_path: the id of installed weights (see `hz models`) or a .safetensors file.
        device: where to put it.

    Raises:
        ModelError: unknown name, missing or broken file, keys that do not fit.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    from hzcli.models.hinet import HINet, HINetConfig

    path = _find(name_or_path)
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            state = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"{path.name} is not a readable safetensors file ({error})",
            "copy it again, or choose installed weights with --model",
        ) from error
    if metadata.get("model") != "hinet" or "config" not in metadata:
        raise ModelError(
            f"{path.name} does not say that it holds a model of hz",
            "give weights that `hz train` wrote, or choose installed ones with --model",
        )
    config = HINetConfig.from_dict(json.loads(metadata["config"]))
    with torch.device("meta"):
        model = HINet(config)
    missing, unexpected = model.load_state_dict(state, strict=False, assign=True)
    if missing or unexpected:
        raise ModelError(
            f"{path.name} does not fit its own configuration: "
            f"missing {missing[:1] or 'nothing'}, unexpected {unexpected[:1] or 'nothing'}"
        )
    beside = path.with_suffix(".json")
    model.card = (
        catalog.read_card(beside)
        if beside.is_file()
        else catalog.WeightsCard(id=metadata.get("id", path.stem), model="hinet", file=path.name)
    )
    return model.requires_grad_(False).eval().to(device)


def _find(name_or_path: str | Path) -> Path:
    """The file behind an id or a path."""
    text = str(name_or_path)
    if text.endswith(".safetensors"):
        path = Path(text)
        if not path.is_file():
            raise ModelError(f"there is no file {text}", "check the path given to --weights")
        return path
    folder = catalog.weights_folder()
    path = folder / f"{text}.safetensors"
    if not path.is_file():
        known = sorted(p.stem for p in folder.glob("*.safetensors")) if folder.is_dir() else []
        raise ModelError(
            f"there is no model {text!r}",
            f"installed: {', '.join(known) or 'none'}; a file of your own goes to --weights",
        )
    return path
