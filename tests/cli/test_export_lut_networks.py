"""`hz export-lut` of real networks: their own curves and tables come out exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from made_shots import HEIGHT, WIDTH, Hz, colours, disc, shot

import hzcli.models
from hzcli.core import tetra
from hzcli.io import looks as files

EXPORT = ("export-lut", "a.png", "--mask-suffix", "_m", "--device", "cpu")


def perturbed(network: torch.nn.Module, by: float) -> Any:
    """Start values moved so far that something is changed."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in network.parameters():
            p.add_(by * torch.randn(p.shape, generator=generator))
    return network.eval()


def thumbnail_of(path: Path, model: Any) -> Any:
    from hzcli.engine import thumbnail
    from hzcli.io.picture import open_mask, open_picture

    with open_picture(path) as reader, open_mask(path.with_name(path.stem + "_m.png")) as mask:
        return thumbnail.look(reader, mask, model).thumbnail


@pytest.mark.parametrize("stages", [1, 2])
def test_s2crnet_is_a_cube_of_its_knots(stages: int, bare_hz: Hz, tmp_path: Path) -> None:
    """One stage: its own knots and no more, within 1e-6; two: the cascade, at 4096 places."""
    import dataclasses

    from hzcli.models.s2crnet import S2CRNet, S2CRNetConfig
    from hzcli.train.export import save_weights

    shot(tmp_path / "a.png")
    config = dataclasses.replace(S2CRNetConfig.compact(), stages=stages)
    torch.manual_seed(1)
    save_weights(perturbed(S2CRNet(config), 0.05), tmp_path / "w.safetensors", id="w")

    said = bare_hz(*EXPORT, "-o", "l.cube", "--format", "cube1d", "--weights", "w.safetensors")

    assert said.exit_code == 0, said.err
    shaper = files.read(tmp_path / "l.cube").shaper
    model = hzcli.models.load(tmp_path / "w.safetensors")
    with torch.inference_mode():
        curves = model.predict(thumbnail_of(tmp_path / "a.png", model))
    if stages == 1:
        assert np.abs(shaper.T - curves.knots[0].numpy()).max() < 1e-6
    else:
        places = torch.linspace(0, 1, 4096, dtype=torch.float64).expand(1, 3, -1)
        wanted = type(curves)(curves.knots.double()).at(places)[0].numpy()
        assert np.abs(shaper.T - wanted).max() < 1e-6
    assert np.abs(shaper - np.linspace(0, 1, len(shaper))[:, None]).max() > 0.01


def test_cdtnet_s_table_is_exact_at_its_nodes(bare_hz: Hz, tmp_path: Path) -> None:
    """Within 1e-6, as the network mixes it."""
    from hzcli.models.cdtnet import CDTNet, CDTNetConfig
    from hzcli.train.export import save_weights

    shot(tmp_path / "a.png")
    torch.manual_seed(1)
    save_weights(
        perturbed(CDTNet(CDTNetConfig.compact()), 0.01), tmp_path / "w.safetensors", id="w"
    )

    words = ("-o", "l.cube", "--mode", "lut", "--size", "31", "--weights", "w.safetensors")
    said = bare_hz(*EXPORT, *words)

    assert said.exit_code == 0, said.err
    model = hzcli.models.load(tmp_path / "w.safetensors")
    with torch.inference_mode():
        table = model.predict_lut(thumbnail_of(tmp_path / "a.png", model)).lut[0]
    found = files.read(tmp_path / "l.cube").table
    assert (len(found), table.shape[-1]) == (31, 7)
    assert np.abs(found[::5, ::5, ::5] - table.permute(1, 2, 3, 0).numpy()).max() < 1e-6


def test_hinet_s_own_table_and_its_fit(bare_hz: Hz, tmp_path: Path) -> None:
    """`--mode lut` is its head, exactly where its nodes are; else a fit that says how near."""
    shot(tmp_path / "a.png")
    words = (*EXPORT, "--json", "-f", "-o")

    exact, _ = bare_hz(*words, "l.cube", "--mode", "lut", "--size", "31", "--for", "resolve").lines
    fitted, _ = bare_hz(*words, "m.cube").lines
    hint = bare_hz(*EXPORT, "-o", "n.cube", "--mode", "lut").out

    assert (exact["exact"], exact["own"]) == (True, 7)
    assert exact["residual"]["levels"]["max"] < 0.01
    assert fitted["exact"] is False
    # Whatever the weights do: nearer to their picture than no change, and than the table they hold.
    bare_hz("run", *EXPORT[1:], "--no-report")
    wanted, inside = 255 * (tifffile.imread(tmp_path / "harmonized/a.tif") / 65535), disc() > 0
    source, soft = colours() / 255, disc()[..., None] / 255
    away = {}
    for name in ("l", "m"):
        changed = tetra.interpolate(files.read(tmp_path / f"{name}.cube").table, source)
        found = 255 * (source + soft * (np.clip(changed, 0, 1) - source))
        away[name] = np.abs(found - wanted)[inside].mean()
    assert fitted["residual"]["levels"]["mean"] == pytest.approx(away["m"], abs=5e-3)
    assert away["m"] < 0.5 * np.abs(colours() - wanted)[inside].mean()
    assert away["m"] < away["l"]
    assert "The model's own has 7: --size 31 holds it as it is." in hint
    assert (fitted["height"], fitted["width"]) == (HEIGHT, WIDTH)
