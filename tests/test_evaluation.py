"""Judging results: origins, the classical baseline, pairs of results, sizes, the sheet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy.stats import bootstrap

from hzcli.core.window import Size, Window, bands
from hzcli.errors import UsageError
from hzcli.evaluation import against, contact_sheet, measure
from hzcli.evaluation.groups import Origin, Origins
from hzcli.evaluation.reinhard import Reinhard
from hzcli.metrics import measure as measured


class Held:
    """A picture or a mask in memory, as a reader."""

    def __init__(self, codes: np.ndarray) -> None:
        self.codes, self.depth = codes, 8 * codes.dtype.itemsize
        self.size = Size(*codes.shape[:2])

    def read(self, window: Window) -> np.ndarray:
        return self.codes[window.inside(Window.whole(self.size))]


def scene(height: int = 60, width: int = 80, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A cold foreground disc, soft at its rim, on a warm ground: (h, w, 3) and (h, w) uint8."""
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    mask = np.clip((height / 3 - np.hypot(y - height / 2, x - width / 2)) / 3, 0, 1)
    warm = np.array([190, 140, 90]) + 20 * np.sin(x / 9)[..., None]
    cold = np.array([60, 90, 130]) + 30 * np.cos(y / 5)[..., None]
    rgb = warm + mask[..., None] * (cold - warm) + draw.normal(0, 6, (height, width, 3))
    return np.clip(rgb, 0, 255).astype(np.uint8), np.round(255 * mask).astype(np.uint8)


# Origins


def test_the_table_of_a_made_set_tells(tmp_path: Path) -> None:
    (tmp_path / "composites.csv").write_text(
        "name,source,kind,foreground\nx-1_1_1.jpg,clothing,xiao,0.2\n"
    )
    origins = Origins()
    composite = tmp_path / "composite_images/X-1_1_1.jpg"

    assert origins.of(composite, Path("composite_images/x.tif")) == Origin("clothing", "xiao")
    assert origins.of(composite.with_name("y.jpg"), Path("deep/y.tif")) == Origin("deep", "")


@pytest.mark.parametrize(
    ("path", "origin"),
    [
        ("iHarmony4/HFlickr/composite_images/f800_1_1.jpg", Origin("HFlickr", "transfer")),
        ("flat/a0102_1_2.jpg", Origin("HAdobe5k", "retouch")),
        ("flat/c10001_283394_1.jpg", Origin("HCOCO", "transfer")),
        ("flat/d90000012-12_1_3.jpg", Origin("Hday2night", "hour")),
        ("flat/b0102_1_2.jpg", Origin("flat", "")),
        ("flat/art_1.jpg", Origin("flat", "")),
    ],
)
def test_iharmony4_names_tell(path: str, origin: Origin) -> None:
    assert Origins().of(Path(path), Path(path).relative_to(Path(path).parts[0])) == (
        origin if origin.kind else Origin("", "")
    )


# Reinhard


def test_reinhard_against_opencv() -> None:
    """Statistics and transfer by OpenCV's Lab, on float32."""
    rgb, mask = scene()
    reader = Reinhard(Held(rgb), Held(mask))
    got = np.concatenate([reader.read(window) for window in bands(reader.size, 7)]) / 65535

    lab = cv2.cvtColor((rgb / 255).astype(np.float32), cv2.COLOR_RGB2LAB)
    soft = mask[..., None] / 255
    (mean_f, std_f), (mean_b, std_b) = (
        (
            mean := (lab * w).sum((0, 1)) / w.sum(),
            np.sqrt(((lab - mean) ** 2 * w).sum((0, 1)) / w.sum()),
        )
        for w in (soft, 1 - soft)
    )
    like = ((lab - mean_f) * std_b / std_f + mean_b).astype(np.float32)
    wanted = rgb / 255 + soft * (cv2.cvtColor(like, cv2.COLOR_LAB2RGB).clip(0, 1) - rgb / 255)

    assert np.abs(got - wanted).max() < 2 / 255
    assert np.abs(got - wanted).mean() < 0.2 / 255
    assert np.array_equal(np.round(got[mask == 0] * 255), rgb[mask == 0])


@pytest.mark.parametrize("code", [0, 255])
def test_reinhard_leaves_alone_what_has_no_other_side(code: int) -> None:
    rgb, mask = scene()
    reader = Reinhard(Held(rgb), Held(np.full_like(mask, code)))

    got = reader.read(Window.whole(reader.size))

    assert np.abs(got / 257 - rgb).max() < 0.02


# Sizes


def test_full_size_is_what_the_metrics_say_and_floats_count_alike() -> None:
    rgb, mask = scene()
    truth = np.clip(rgb.astype(int) + 9, 0, 255).astype(np.uint8)
    floats = Held((rgb / 255).astype(np.float32))

    figures, share = measure.full_size(
        {"after": Held(rgb), "floats": floats}, Held(truth), Held(mask), ["standard"]
    )

    assert figures["standard"]["after"] == pytest.approx(measured(rgb, truth, mask), rel=1e-6)
    assert figures["standard"]["floats"] == pytest.approx(figures["standard"]["after"], rel=1e-4)
    assert share == pytest.approx(mask.mean() / 255, rel=1e-6)


def test_reduced_pictures_against_opencv() -> None:
    """Area means, then the same definition."""
    rgb, mask = scene(96, 128)
    truth = np.clip(rgb * np.linspace(0.3, 1, 128)[:, None], 0, 255).astype(np.uint8)

    got = measure.at_edge({"after": Held(rgb)}, Held(truth), Held(mask), ["standard"], 32)

    def small(codes: np.ndarray) -> np.ndarray:
        return cv2.resize(codes.astype(np.float32), (32, 32), interpolation=cv2.INTER_AREA)

    weight = small(mask)[..., None] / 255
    fmse = (weight * (small(rgb) - small(truth)) ** 2).sum() / (3 * weight.sum())
    assert got["standard@32"]["after"]["fmse"] == pytest.approx(fmse, rel=1e-3)


# Pairs


def _rows(new: np.ndarray, old: np.ndarray) -> list[dict[str, Any]]:
    return [
        {"metrics": {"standard": {"after": {"fmse": a}, "against": {"fmse": b}}}}
        for a, b in zip(new.tolist(), old.tolist(), strict=True)
    ]


def test_paired_against_scipy() -> None:
    """The percentile bootstrap of a quotient of means, on paired draws."""
    draw = np.random.default_rng(3)
    old = draw.gamma(1.0, 300, 80)
    new = old * draw.uniform(0.4, 1.2, 80)

    got = against.paired(_rows(new, old), "standard")

    assert got is not None
    oracle = bootstrap(
        (new, old), lambda a, b: a.mean() / b.mean(), paired=True, vectorized=False,
        method="percentile",
    ).confidence_interval  # fmt: skip
    assert (got["low"], got["high"]) == pytest.approx(tuple(oracle), abs=0.005)
    assert got["ratio"] == pytest.approx(new.mean() / old.mean())
    assert (got["better"], got["worse"]) == ((new < old).sum(), (new > old).sum())


def test_what_is_equal_is_neither_better_nor_worse() -> None:
    same = np.array([3.0, 5.0])
    got = against.paired(_rows(same, same), "standard")

    assert got is not None
    assert (got["better"], got["worse"], got["low"], got["high"]) == (0, 0, 1.0, 1.0)
    assert against.paired([{"metrics": {"standard": {"after": {"fmse": 1.0}}}}], "standard") is None


def test_earlier_reports_are_read_and_others_refused(tmp_path: Path) -> None:
    after = {"standard": {"after": {"fmse": 5.0}}}
    path = tmp_path / "eval.json"
    path.write_text(json.dumps({"pictures": [
        {"input": "out/a.tif", "composite": "in/a.jpg", "metrics": after},
        {"input": "out/b.tif", "name": "deep/b", "metrics": after},
        {"input": "out/c.tif", "metrics": {}},
    ]}))  # fmt: skip

    found = against.earlier(path)

    assert found.keys() == {"a", "deep/b"}
    assert against.look_up(found, "any/a") == after
    assert against.look_up(found, "deep/b") == after
    assert against.look_up(found, "c") == {}
    for text in ("{", "[]", '{"pictures": 3}', '{"pictures": [{"metrics": {"x": 1}}]}'):
        path.write_text(text)
        with pytest.raises(UsageError, match="no report"):
            against.earlier(path)
    path.write_text(json.dumps({"pictures": [
        {"input": f"{folder}/a.tif", "metrics": after} for folder in "xy"
    ]}))  # fmt: skip
    with pytest.raises(UsageError, match="one name"):
        against.earlier(path)


def test_the_worst_by_error_and_by_ratio() -> None:
    rows = [
        {"n": n, "metrics": {"standard": {"before": {"fmse": b}, "after": {"fmse": a}}}}
        for n, b, a in (("large", 900.0, 300.0), ("harmed", 10.0, 30.0), ("right", 0.0, 5.0))
    ]

    assert [row["n"] for row in against.worst(rows, "standard", "error")] == [
        "large", "harmed", "right",
    ]  # fmt: skip
    assert [row["n"] for row in against.worst(rows, "standard", "ratio", 1)] == ["harmed"]


# The sheet


def test_the_sheet_shows_each_picture_in_its_place(tmp_path: Path) -> None:
    """Flat colours are found again where the layout puts them; what is missing is grey."""
    colours = {"composite": (200, 30, 40), "result": (30, 160, 60), "truth": (40, 60, 210)}
    for name, colour in colours.items():
        Image.new("RGB", (64, 32), colour).save(tmp_path / f"{name}.png")
    mask = np.zeros((32, 64), np.uint8)
    mask[8:24, 16:48] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    paths = [tmp_path / f"{name}.png" for name in ("composite", "mask", "result", "truth")]
    whole = contact_sheet.Entry("a name " * 40, "fMSE 9 -> 12 \u2192 \u7f8e", *paths)
    gone = contact_sheet.Entry("b", "fMSE 3", None, None, tmp_path / "not there.png", None)

    contact_sheet.draw([("left", [whole, gone]), ("right", [gone])], tmp_path / "sheet.png")

    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    step, tile = contact_sheet.TILE + contact_sheet.GAP, contact_sheet.TILE
    left, top = contact_sheet.MARGIN, contact_sheet.MARGIN + 2 * contact_sheet.LINE

    def at(number: int, y: int, x: int) -> tuple[int, ...]:
        return tuple(int(v) for v in sheet[top + y, left + number * step + x])

    assert at(0, 40, 40) == colours["composite"]
    assert at(2, 40, 40) == colours["result"]
    assert at(3, 40, 40) == colours["truth"]
    assert at(1, tile // 4, tile // 2) == colours["composite"]  # inside the mask
    assert max(at(1, 4, 4)) < max(colours["composite"])  # outside it
    rim = sheet[top : top + tile // 2, left + step : left + step + tile]
    assert (rim == contact_sheet.OUTLINE).all(-1).any()
    assert (sheet == 200).all(-1).sum() > 2 * tile * tile
