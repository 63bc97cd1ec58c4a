"""Which mask (and ground truth) belongs to which picture, and where its result goes.

The order of the rules: mask files for one picture; a folder of masks; a suffix beside the
picture; its alpha channel or a layer. Where a suffix says what a mask is called, X_m1, X_m2, ...
are several masks of X.
"""

from __future__ import annotations

import functools
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from hzcli.engine import iharmony
from hzcli.engine.iharmony import COMPOSITES, MASKS, REALS
from hzcli.engine.job import Job
from hzcli.engine.rules import PairingRules, check
from hzcli.engine.walk import (
    KINDS,
    RAW_HINT,
    Listing,
    fold,
    is_picture,
    is_raw,
    natural_key,
    raws,
    real,
    walk,
)
from hzcli.errors import MaskError, PictureError, UsageError

__all__ = ["COMPOSITES", "MASKS", "REALS", "Job", "PairingRules", "find", "real"]


def find(
    inputs: Sequence[Path], rules: PairingRules, *, look: bool = False, named: bool = True
) -> list[Job]:
    """Pair every picture among `inputs` (files, and folders with all that is in them).

    Args:
        inputs: files and folders.
        rules: where masks and truths are.
        look: nothing is to be made of the pictures: they need no mask, and two of them may have
            one output.
        named: whether the results are called as the jobs say; False leaves it to the caller to
            make sure that no two of them meet (`naming.check`).

    Returns:
        One job a picture, in the order of the inputs and in natural order inside a folder.
        A job that cannot be done carries its error.

    Raises:
        UsageError: the rules contradict each other, an input is not there, no picture was found,
            or two pictures would be written to one file or over an input.
    """
    check(inputs, rules, look)
    listing = Listing()
    if rules.layout == "iharmony4":
        jobs = list(iharmony.jobs(inputs, rules, listing))
    else:
        found = list(_composites(inputs, rules, listing))
        jobs = [_pair(path, relative, rules, listing) for path, relative in found]
    if not jobs:
        raise _nothing_found(inputs, rules)
    if named and not look:
        _check_outputs(jobs, rules)
    return jobs


# Where nothing is


def _nothing_found(inputs: Sequence[Path], rules: PairingRules) -> UsageError:
    where = ", ".join(str(path) for path in inputs)
    if rules.layout == "iharmony4":
        return UsageError(
            f"no folder {COMPOSITES} with pictures in {where}",
            f"iHarmony4 has {COMPOSITES}, {MASKS} and {REALS} beside each other.",
        )
    bare = replace(rules, mask_suffix=None, truth_suffix=None, mask_dir=None, truth_dir=None)
    others = sum(1 for _ in _composites(inputs, bare, Listing()))
    if others:
        return UsageError(
            f"{where} holds only masks and truths ({others} of them) and no picture to harmonise",
            "Check the suffixes: a file whose name ends in one is never harmonised itself.",
        )
    raw = raws(inputs)
    if raw:
        files = "file" if raw == 1 else "files"
        return UsageError(f"no picture in {where}, but {raw} RAW {files}", RAW_HINT)
    return UsageError(f"no picture in {where}", f"hz reads {KINDS} files.")


# Pairing


def _composites(
    inputs: Sequence[Path], rules: PairingRules, listing: Listing
) -> Iterator[tuple[Path, Path]]:
    """Every picture that is neither mask nor truth, with its path relative to its input."""
    skip = [folder for folder in (rules.output, rules.mask_dir, rules.truth_dir) if folder]
    suffixes = [fold(s) for s in (rules.mask_suffix, rules.truth_suffix) if s]
    seen: set[Path] = set()
    folder = functools.cache(real)
    for root in inputs:
        if root.is_dir():
            found = [
                here / name
                for here, names in walk(root, skip)
                for name in names
                if is_picture(Path(name))
            ]
        else:
            found = [root]
        for path in sorted(found, key=natural_key):
            if any(fold(path.stem).endswith(suffix) for suffix in suffixes):
                continue
            if rules.mask_suffix and _is_numbered_mask(path, rules.mask_suffix, listing):
                continue
            # Through links, one folder may be given twice; one file may have two names on purpose.
            place = folder(path.parent) / path.name
            if place in seen:
                continue
            seen.add(place)
            yield path, path.relative_to(root) if root.is_dir() else Path(path.name)


def _is_numbered_mask(path: Path, suffix: str, listing: Listing) -> bool:
    """Whether X_m2 is a mask: of X, which lies beside it, and it has no mask itself."""
    name = fold(path.stem)
    before = name.rstrip("0123456789")
    stem = before.removesuffix(fold(suffix))
    if before in (name, stem) or not stem or suffix[-1].isdigit():
        return False
    if listing.find(path.parent, path.stem + suffix, but=path):
        return False
    return bool(listing.find(path.parent, stem, but=path))


def _pair(path: Path, relative: Path, rules: PairingRules, listing: Listing) -> Job:
    job = Job(path, None, relative.with_suffix(".tif"))
    if is_raw(path):
        error = PictureError(f"{path.name} is a camera's RAW file", RAW_HINT)
        return replace(job, error=error)
    if not is_picture(path):
        return replace(
            job,
            error=PictureError(
                f'"{path.suffix or path.name}" is no kind of picture that hz reads',
                f"Convert it to {KINDS}.",
            ),
        )
    masks: tuple[Path, ...] = ()
    source, rule = "auto", ""
    try:
        if rules.asks:
            masks, source, rule = _masks_of(path, relative, rules, listing)
        truth = _truth_of(path, relative, rules, listing)
    except PictureError as error:
        return replace(job, error=error)
    wanted = rules.truth_dir is not None or rules.truth_suffix is not None
    warnings = ("no ground truth was found: no metrics",) if wanted and truth is None else ()
    return replace(
        job,
        mask=masks[0] if masks else None,
        masks=masks,
        mask_source=source,
        rule=rule,
        truth=truth,
        warnings=warnings,
    )


def _masks_of(
    path: Path, relative: Path, rules: PairingRules, listing: Listing
) -> tuple[tuple[Path, ...], str, str]:
    """The masks of a picture, what is read of them, and the option that found them."""
    if rules.files:
        return rules.files, "auto", "--mask"
    found: list[Path] = []
    looked: list[str] = []
    suffix, rule = rules.mask_suffix, ""
    if rules.mask_dir is not None:
        rule = f"--mask-dir {rules.mask_dir}"
        for where in dict.fromkeys((rules.mask_dir / relative.parent, rules.mask_dir)):
            found = found or _called(where, path, suffix, listing)
            found = found or listing.find(where, path.stem, but=path)
        looked.append(f"{rules.mask_dir}{os.sep}{relative.with_suffix('')}.*")
    if not found and suffix is not None:
        rule = f"--mask-suffix {suffix}"
        found = _called(path.parent, path, suffix, listing)
        looked.append(f"{path.stem}{suffix}.* beside it")
    if not found and rules.mask_from is not None:
        return (path,), rules.mask_from, f"--mask-from {rules.mask_from}"
    if not found:
        raise MaskError(
            f"no mask: looked for {' and '.join(looked)}",
            _perhaps_truth(path, rules, listing)
            or "Add the mask, or check --mask-suffix and --mask-dir.",
        )
    _check_masks(found, path, suffix)
    return tuple(found), "auto", rule


def _called(where: Path, path: Path, suffix: str | None, listing: Listing) -> list[Path]:
    """In a folder, X_m, then X_m1, X_m2, ... by their numbers, but those with masks themselves."""
    if suffix is None:
        return []
    found = listing.find(where, path.stem + suffix, but=path)
    if suffix[-1].isdigit():  # X_10 may be anything
        return found
    numbered = listing.numbered(where, path.stem + suffix, but=path)
    own = (listing.find(where, mask.stem + suffix, but=mask) for mask in numbered)
    return found + [mask for mask, masks in zip(numbered, own, strict=True) if not masks]


def _check_masks(found: Sequence[Path], path: Path, suffix: str | None) -> None:
    """Raise MaskError unless `found` are one mask, or masks with a number each."""
    if len(found) == 1:
        return
    ends = [fold(mask.stem)[len(fold(path.stem + (suffix or ""))) :] for mask in found]
    numbers = Counter(int(end) if end.isdecimal() else None for end in ends)
    shown = [_shown(mask, path) for mask in found]
    said = f"{len(found)} masks: {', '.join(shown[:-1])} and {shown[-1]}"
    if set(numbers) == {None}:
        raise MaskError(said, "Leave one of them.")
    if None in numbers:
        raise MaskError(said, "Number all of them, or leave one.")
    if max(numbers.values()) > 1:
        raise MaskError(said, "Each needs a number of its own.")


def _perhaps_truth(path: Path, rules: PairingRules, listing: Listing) -> str:
    """What to try when X_gt.png has no mask, but X.jpg lies beside it."""
    if rules.truth_suffix is None:
        for found in re.finditer(r"[-_. ]", path.stem[1:]):
            cut = found.start() + 1
            for other in listing.find(path.parent, path.stem[:cut], but=path):
                suffix = path.stem[cut:]
                return f"If it is the ground truth of {other.name}, add --truth-suffix {suffix}"
    return ""


def _truth_of(path: Path, relative: Path, rules: PairingRules, listing: Listing) -> Path | None:
    found: list[Path] = []
    if rules.truth_dir is not None:
        found = _in_folder(rules.truth_dir, rules.truth_suffix, path, relative, listing)
    if not found and rules.truth_suffix is not None:
        found = listing.find(path.parent, path.stem + rules.truth_suffix, but=path)
    if len(found) > 1:
        names = " and ".join(_shown(truth, path) for truth in found)
        raise PictureError(f"{len(found)} ground truths: {names}", "Leave one of them.")
    return found[0] if found else None


def _in_folder(
    folder: Path, suffix: str | None, path: Path, relative: Path, listing: Listing
) -> list[Path]:
    """What belongs to `path` in a folder that mirrors the tree or is flat; the nearest name."""
    for where in dict.fromkeys((folder / relative.parent, folder)):
        for stem in dict.fromkeys((path.stem + (suffix or ""), path.stem)):
            found = listing.find(where, stem, but=path)
            if found:
                return found
    return []


def _shown(path: Path, beside: Path) -> str:
    return path.name if path.parent == beside.parent else str(path)


# The plan as a whole


def _check_outputs(jobs: Sequence[Job], rules: PairingRules) -> None:
    """No two results in one file, none over an input."""
    taken: dict[str, Job] = {}
    for job in jobs:
        # Folded: "A.tif" and "a.tif" are one file on most photographers' discs.
        other = taken.setdefault(fold(job.output.as_posix()), job)
        if other is not job:
            raise UsageError(
                f"{other.composite} and {job.composite} would both be written to {job.output}",
                "Rename one of them, or run them into two output folders.",
            )
    if rules.output is None:
        return
    sources = {
        real(path)
        for job in jobs
        for path in (job.composite, *job.masks, job.truth)
        if path is not None
    }
    for job in jobs:
        target = rules.output / job.output
        if real(target) in sources:
            raise UsageError(
                f"the result of {job.composite} would be written over the input {target}",
                "Inputs are never touched: name another folder with -o.",
            )
