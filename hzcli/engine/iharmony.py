"""iHarmony4's own way to name composites, masks and ground truths.

W. Cong et al., DoveNet, CVPR 2020; the data set's README.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from hzcli.engine.job import Job
from hzcli.engine.rules import PairingRules
from hzcli.engine.walk import Listing, is_picture, natural_key, walk
from hzcli.errors import MaskError, PictureError, UsageError

# iHarmony4's folders, beside each other in each sub-dataset.
COMPOSITES, MASKS, REALS = "composite_images", "masks", "real_images"


def jobs(inputs: Sequence[Path], rules: PairingRules, listing: Listing) -> Iterator[Job]:
    """Composite a_1_2.jpg, mask a_1.png, real a.jpg, in three folders beside each other."""
    skip = [rules.output] if rules.output else []
    for root in inputs:
        if root.is_file():
            raise UsageError(f"{root} is a file", "--layout iharmony4 takes folders.")
        for folder, names in sorted(walk(root, skip), key=lambda item: natural_key(item[0])):
            # Path.name of "." is empty.
            if Path(os.path.abspath(folder)).name != COMPOSITES:
                continue
            paths = (folder / name for name in names)
            for path in sorted((p for p in paths if is_picture(p)), key=natural_key):
                yield _job(path, path.relative_to(root), listing)


def _job(path: Path, relative: Path, listing: Listing) -> Job:
    job = Job(path, None, relative.with_suffix(".tif"))
    error: PictureError
    parts = path.stem.rsplit("_", 2)
    if len(parts) != 3:
        error = MaskError(
            f'"{path.stem}" is not an iHarmony4 name', "Expected NAME_MASK_VARIANT, as a0001_1_2."
        )
        return replace(job, error=error)
    # "." and ".." have no parent that could be read off their names.
    folder = path.parent if path.parent.name == COMPOSITES else Path(os.path.abspath(path.parent))
    base = folder.parent
    masks = listing.find(base / MASKS, "_".join(parts[:2]), but=path)
    reals = listing.find(base / REALS, parts[0], but=path)
    if len(masks) != 1:
        what = f"{len(masks)} masks" if masks else "no mask"
        error = MaskError(
            f"{what}: looked for {MASKS}/{parts[0]}_{parts[1]}.*", "There must be one."
        )
        return replace(job, error=error)
    if len(reals) > 1:
        error = PictureError(f"{len(reals)} ground truths called {parts[0]}", "Leave one of them.")
        return replace(job, error=error)
    warnings = () if reals else ("no ground truth was found: no metrics",)
    return replace(job, mask=masks[0], truth=reals[0] if reals else None, warnings=warnings)
