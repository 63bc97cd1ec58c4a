"""Make a folder of composites, masks and ground truths to try hz on, from photographs at hand.

    python examples/make_shots.py [shots]

The photographs are the samples that lie inside the scikit-image and scikit-learn packages, so
nothing is downloaded and no photograph is kept with the source. Each gets a foreground outline
(outlines.json, drawn by hand) and a plausible error: the foreground is recoloured by a fixed rule,
as if it had been pasted in from a picture taken in another light. Three files make a shot:

    X.jpg, X.png or X.tif       the composite
    X_m.png                     its mask, 8-bit grey, soft at the edge
    X.png or X.tif              the ground truth, in a folder of its own (shots-truth): the
                                photograph before the error

The truth is never a JPEG: it holds the photograph's own values, the composite is made from it, and
a JPEG composite differs from it in the background by one light compression and nothing else.
Sizes and ICC profiles are the photograph's own; in 16 bits, where there is no habit of taking what
is untagged for sRGB, a photograph without a profile gets sRGB's. The same packages give the same
bytes each time.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from PIL import Image
from skimage.color import lab2rgb, rgb2lab
from skimage.filters import gaussian

from hzcli.io.meta import Meta
from hzcli.io.profiles import profile
from hzcli.io.writers.blocks import PNG_HEAD, png_chunks

OUTLINES = Path(__file__).with_name("outlines.json")
SUPERSAMPLING = 4  # 4 x 4 samples a pixel: 17 levels on an edge, before the feather

# Takes and returns (H, W, 3) float64, encoded as in the photograph, [0, 1]; mask (H, W), [0, 1].
Recolour = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Outline:
    """One foreground: where its photograph lies, and its polygons in pixels of it."""

    package: str
    file: str
    size: tuple[int, int]  # width, height
    feather_px: float
    add: list[list[tuple[float, float]]]
    cut: list[list[tuple[float, float]]]


@dataclass(frozen=True)
class Photograph:
    """A sample as it was shipped: 8-bit RGB (H, W, 3), with its ICC profile if it has one."""

    rgb: np.ndarray
    icc: bytes | None


@dataclass(frozen=True)
class Shot:
    """One composite to make: its file, its outline, and what is wrong with its foreground."""

    file: str
    outline: str
    error: str
    recolour: Recolour
    depth: int = 8


# --- errors of colour --------------------------------------------------------------------------


def to_linear(encoded: np.ndarray) -> np.ndarray:
    """sRGB's curve to linear light, [0, 1] to [0, 1] (IEC 61966-2-1)."""
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def to_encoded(linear: np.ndarray) -> np.ndarray:
    """Linear light to sRGB's curve; what is out of [0, 1] clips, as highlights do."""
    linear = np.clip(linear, 0.0, 1.0)
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)


def relight(*, stops: float = 0.0, gains: tuple[float, float, float] = (1, 1, 1)) -> Recolour:
    """Exposure and white balance, as one gain a channel in linear light.

    Args:
        stops: exposure; +1 doubles the light.
        gains: red, green and blue; (1.2, 1, 0.8) is warmer.
    """
    factors = np.asarray(gains, dtype=np.float64) * 2.0**stops
    return lambda rgb, mask: to_encoded(to_linear(rgb) * factors)


def flatten(*, contrast: float, pivot: float, saturation: float = 1.0) -> Recolour:
    """Less contrast around a pivot and less colour around the luma (Rec. 709), on encoded values.

    Args:
        contrast: 1 keeps the picture, 0 makes all of it the pivot.
        pivot: the encoded level, [0, 1], that stays.
        saturation: 1 keeps the colours, 0 makes them grey.
    """

    def recolour(rgb: np.ndarray, mask: np.ndarray) -> np.ndarray:
        luma = rgb @ np.array([0.2126, 0.7152, 0.0722])
        muted = luma[..., None] + saturation * (rgb - luma[..., None])
        return np.clip(pivot + contrast * (muted - pivot), 0.0, 1.0)

    return recolour


def transfer(*, donor: str, amount: float) -> Recolour:
    """Mean and spread of another outline's colours in CIE Lab.

    Reinhard, Ashikhmin, Gooch, Shirley, "Color Transfer between Images", 2001; there in
    l-alpha-beta, here in Lab, and only a part of the way.

    Args:
        donor: the outline whose colours are taken.
        amount: 0 keeps the foreground, 1 takes the donor's mean and spread entirely.
    """

    def recolour(rgb: np.ndarray, mask: np.ndarray) -> np.ndarray:
        other = read_outlines()[donor]
        target_mean, target_spread = lab_statistics(
            rgb2lab(read_photograph(other).rgb / 255.0), draw_mask(other)
        )
        lab = rgb2lab(rgb)
        mean, spread = lab_statistics(lab, mask)
        moved = (lab - mean) * (target_spread / spread) + target_mean
        return np.clip(lab2rgb(lab + amount * (moved - lab)), 0.0, 1.0)

    return recolour


def lab_statistics(lab: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of (H, W, 3) Lab under a soft mask (H, W), three values each."""
    weight = mask[..., None] / mask.sum()
    mean = (weight * lab).sum(axis=(0, 1))
    return mean, np.sqrt((weight * (lab - mean) ** 2).sum(axis=(0, 1)))


SHOTS = (
    Shot("astronaut.jpg", "astronaut", "cool light", relight(gains=(0.72, 0.98, 1.35))),
    Shot("cat.png", "cat", "one stop under", relight(stops=-1.0)),
    Shot(
        "dahlia.jpg",
        "dahlia",
        "faded",
        flatten(contrast=0.8, pivot=0.45, saturation=0.55),
    ),
    Shot(
        "motorcycle.tif",
        "motorcycle",
        "colours of the pagoda",
        transfer(donor="pagoda", amount=1.0),
        depth=16,
    ),
    Shot("pagoda.jpg", "pagoda", "hazy", flatten(contrast=0.6, pivot=0.62, saturation=0.9)),
    Shot("rocket.jpg", "rocket", "daylight", relight(stops=0.4, gains=(0.85, 1.0, 1.5))),
    Shot(
        "studio/coffee.jpg",
        "coffee",
        "cold and bright",
        relight(stops=0.6, gains=(0.7, 1.0, 1.8)),
    ),
    Shot(
        "studio/shuttle.png",
        "shuttle",
        "tungsten light",
        relight(stops=-0.4, gains=(1.25, 0.95, 0.55)),
        depth=16,
    ),
)

# --- photographs and masks ---------------------------------------------------------------------


def read_outlines() -> dict[str, Outline]:
    """The hand-drawn outlines by name, from outlines.json beside this script."""
    stored = json.loads(OUTLINES.read_text(encoding="utf-8"))["outlines"]
    return {
        name: Outline(
            package=entry["sample"][0],
            file=entry["sample"][1],
            size=(entry["size"][0], entry["size"][1]),
            feather_px=entry["feather_px"],
            add=entry["add"],
            cut=entry["cut"],
        )
        for name, entry in stored.items()
    }


def read_photograph(outline: Outline) -> Photograph:
    """The sample of an outline, from inside its installed package.

    Raises:
        SystemExit: the package is missing, no longer holds the sample, or holds another size.
    """
    # The place is looked up without an import: scikit-learn takes a second to import.
    found = importlib.util.find_spec(outline.package)
    path = Path(found.origin or "").parent / outline.file if found else None
    if path is None or not path.is_file():
        raise SystemExit(
            f"the sample photograph {outline.file} is not in the package {outline.package}; "
            "install the examples extra: pip install '.[examples]'"
        )
    with Image.open(path) as picture:
        if picture.size != outline.size:
            raise SystemExit(
                f"{path.name} is {picture.size[0]} x {picture.size[1]}, but its outline was drawn "
                f"on {outline.size[0]} x {outline.size[1]}; this version of {outline.package} "
                "holds another picture, and its outline has to be drawn again"
            )
        icc = picture.info.get("icc_profile")
        if icc and icc[64:68] == b"\x01\x00\x00\x00":
            # china.jpg's profile has its rendering intent written backwards; libpng complains.
            icc = icc[:64] + b"\x00\x00\x00\x01" + icc[68:]
        return Photograph(np.asarray(picture.convert("RGB")), icc)


def draw_mask(outline: Outline) -> np.ndarray:
    """The soft mask of an outline, (H, W) float64 in [0, 1], in steps of 1/255.

    Rounded here to what an 8-bit file holds, so that the composite is made with exactly the mask
    that is written.
    """
    width, height = outline.size
    fine = np.zeros((height * SUPERSAMPLING, width * SUPERSAMPLING), dtype=bool)
    for polygons, inside in ((outline.add, True), (outline.cut, False)):
        for polygon in polygons:
            fine[fill(np.asarray(polygon) * SUPERSAMPLING, fine.shape)] = inside
    blocks = fine.reshape(height, SUPERSAMPLING, width, SUPERSAMPLING)
    soft = gaussian(blocks.mean(axis=(1, 3)), sigma=outline.feather_px, mode="nearest")
    return np.rint(np.clip(soft, 0.0, 1.0) * 255.0) / 255.0


def fill(corners: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The inside of a polygon by the even-odd rule, True where a pixel's centre is in it.

    Row by row, each edge toggles everything to the right of where it crosses the row's centre
    line; skimage.draw.polygon2mask asks every pixel about every edge and takes 50 times longer.

    Args:
        corners: (N, 2) x and y, 0 at the outer corner of the first pixel.
        shape: rows and columns of the (H, W) result.
    """
    toggles = np.zeros((shape[0], shape[1] + 1), dtype=np.int32)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        first, last = (np.ceil(np.clip(y - 0.5, 0, shape[0])) for y in sorted((y0, y1)))
        rows = np.arange(int(first), int(last))
        if rows.size:  # else the edge crosses no centre line, as level ones do
            x = x0 + (rows + 0.5 - y0) * (x1 - x0) / (y1 - y0)
            toggles[rows, np.ceil(np.clip(x - 0.5, 0, shape[1])).astype(int)] += 1
    return np.cumsum(toggles, axis=1)[:, :-1] % 2 == 1


def quantise(rgb: np.ndarray, depth: int) -> np.ndarray:
    """[0, 1] to full-range uint8 or uint16, to the nearest step."""
    top, dtype = (255, np.uint8) if depth == 8 else (65535, np.uint16)
    return np.rint(rgb * top).astype(dtype)


# --- files -------------------------------------------------------------------------------------


def encode(rgb: np.ndarray, suffix: str, icc: bytes | None = None) -> bytes:
    """A picture file's bytes: uint8 (H, W[, 3]) for .jpg and .png, uint16 for .png and .tif."""
    file = io.BytesIO()
    if suffix == ".tif":
        tifffile.imwrite(
            file,
            rgb,
            photometric="rgb",
            compression="adobe_deflate",
            predictor=True,
            metadata=None,
            iccprofile=icc,
        )
    elif rgb.dtype == np.uint16:
        png = bytes(imagecodecs.png_encode(rgb, level=6))  # Pillow would cut it to 8 bits
        # What hz puts after the header: imagecodecs writes no profile.
        chunks = png_chunks(Meta(icc), None, None, None, grey=False)
        return png[:PNG_HEAD] + chunks + png[PNG_HEAD:]
    elif suffix == ".jpg":
        Image.fromarray(rgb).save(file, "JPEG", quality=95, subsampling=0, icc_profile=icc)
    else:
        Image.fromarray(rgb).save(file, "PNG", icc_profile=icc)
    return file.getvalue()


def write(path: Path, content: bytes) -> None:
    """Write beside the place and rename, so that an interrupted run leaves no half of a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.part")
    beside.write_bytes(content)
    os.replace(beside, path)


def truth_folder(folder: Path) -> Path:
    """Where the ground truths of a folder of shots go: beside it, `shots-truth` for `shots`."""
    return folder.with_name(f"{folder.name}-truth")


def make(shot: Shot, folder: Path) -> str:
    """Write one shot's composite and mask under a folder, and its truth beside the folder.

    Returns:
        One line about it, for people.
    """
    outline = read_outlines()[shot.outline]
    photograph = read_photograph(outline)
    mask = draw_mask(outline)
    truth = photograph.rgb / 255.0
    wrong = shot.recolour(truth, mask)
    composite = truth + mask[..., None] * (wrong - truth)

    path = folder / shot.file
    truth_suffix = ".png" if path.suffix == ".jpg" else path.suffix
    icc = photograph.icc or (profile("srgb") if shot.depth == 16 else None)
    write(path, encode(quantise(composite, shot.depth), path.suffix, icc))
    write(path.with_name(f"{path.stem}_m.png"), encode(quantise(mask, 8), ".png"))
    write(
        (truth_folder(folder) / shot.file).with_suffix(truth_suffix),
        encode(quantise(truth, shot.depth), truth_suffix, icc),
    )
    width, height = outline.size
    return (
        f"{shot.file:<20} {width:>4} x {height:<4} {shot.depth:>2} bits  "
        f"foreground {mask.mean():>4.0%}  {shot.error}"
    )


def main(arguments: list[str] | None = None) -> None:
    """Make every shot under the folder named on the command line."""
    parser = argparse.ArgumentParser(
        description="Make composites, masks and ground truths from bundled photographs.",
        epilog="example: python examples/make_shots.py shots",
    )
    parser.add_argument("folder", nargs="?", type=Path, default=Path("shots"))
    folder = parser.parse_args(arguments).folder
    for shot in SHOTS:
        print(make(shot, folder))


if __name__ == "__main__":
    main()
