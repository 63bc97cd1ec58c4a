"""Which mask (and ground truth) belongs to which picture, and where its result goes.

The order of the rules: one mask file for one picture; a folder of masks; a suffix beside the
picture; its alpha channel.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from hzcli.engine.walk import KINDS, Listing, fold, is_picture, natural_key, real, walk
from hzcli.errors import HzError, MaskError, PictureError, UsageError

# iHarmony4's folders, beside each other in each sub-dataset.
COMPOSITES, MASKS, REALS = "composite_images", "masks", "real_images"


@dataclass(frozen=True)
class PairingRules:
    """How masks and ground truths are found.

    output: the folder of results; pictures in it are never inputs.
    """

    mask_suffix: str | None = None
    mask_dir: Path | None = None
    mask_file: Path | None = None
    mask_from: Literal["alpha"] | None = None
    truth_dir: Path | None = None
    truth_suffix: str | None = None
    layout: Literal["iharmony4"] | None = None
    output: Path | None = None


@dataclass(frozen=True)
class Job:
    """One picture to harmonise.

    mask: None only where `error` says why. mask_source: "alpha" reads the alpha channel of `mask`.
    output: where the result goes, relative to the output folder.
    error: why this picture cannot be done; the others can.
    """

    composite: Path
    mask: Path | None
    output: Path
    mask_source: Literal["auto", "alpha"] = "auto"
    truth: Path | None = None
    error: HzError | None = None
    warnings: tuple[str, ...] = ()


def find(inputs: Sequence[Path], rules: PairingRules) -> list[Job]:
    """Pair every picture among `inputs` (files, and folders with all that is in them).

    Args:
        inputs: files and folders.
        rules: where masks and truths are.

    Returns:
        One job a picture, in the order of the inputs and in natural order inside a folder.
        A job that cannot be done carries its error.

    Raises:
        UsageError: the rules contradict each other, an input is not there, no picture was found,
            or two pictures would be written to one file or over an input.
    """
    _check_rules(inputs, rules)
    listing = Listing()
    if rules.layout == "iharmony4":
        jobs = list(_iharmony4(inputs, rules, listing))
    else:
        found = list(_composites(inputs, rules))
        jobs = [_pair(path, relative, rules, listing) for path, relative in found]
    if not jobs:
        raise _nothing_found(inputs, rules)
    _check_outputs(jobs, rules)
    return jobs


# The rules by themselves


def _check_rules(inputs: Sequence[Path], rules: PairingRules) -> None:
    if not inputs:
        raise UsageError("no input was given", "Name a folder or pictures: hz run ./shots")
    for path in inputs:
        if not path.exists():
            raise UsageError(f"{path} does not exist", "Check the spelling of the input.")
    for flag, folder in (("--mask-dir", rules.mask_dir), ("--truth-dir", rules.truth_dir)):
        if folder is not None and not folder.is_dir():
            raise UsageError(f"{flag} {folder} is not a folder", "Name an existing folder.")
    for flag, suffix in (
        ("--mask-suffix", rules.mask_suffix),
        ("--truth-suffix", rules.truth_suffix),
    ):
        if suffix is not None and (not suffix or "/" in suffix or os.sep in suffix):
            raise UsageError(
                f'{flag} "{suffix}" is no suffix', f"Give a few characters, for example {flag} _m"
            )
    if rules.mask_suffix and fold(rules.mask_suffix) == fold(rules.truth_suffix or ""):
        raise UsageError(
            f'masks and truths have the same suffix "{rules.mask_suffix}"',
            "Give two different ones.",
        )
    if rules.output is not None:
        if rules.output.exists() and not rules.output.is_dir():
            raise UsageError(f"{rules.output} is a file", "Name a folder with -o.")
        for path in inputs:
            if path.is_dir() and real(path) == real(rules.output):
                raise UsageError(
                    f"the output folder {rules.output} is the input folder",
                    "Inputs are never touched: name another folder with -o.",
                )
    masks = [rules.mask_suffix, rules.mask_dir, rules.mask_from, rules.mask_file]
    if rules.layout is not None:
        if any((*masks, rules.truth_dir, rules.truth_suffix)):
            raise UsageError(
                f"--layout {rules.layout} already says where masks and truths are",
                "Leave out the --mask and --truth options.",
            )
    elif rules.mask_file is not None:
        if any(masks[:-1]):
            raise UsageError("--mask goes with no other mask option", "Give one of them.")
        if len(inputs) != 1 or inputs[0].is_dir():
            raise UsageError(
                "--mask is one mask for one picture",
                "Give one picture, or pair many with --mask-suffix or --mask-dir.",
            )
        if not rules.mask_file.is_file():
            raise UsageError(f"--mask {rules.mask_file} is not a file", "Check its spelling.")
    elif not any(masks):
        guess = _guess_suffix(inputs)
        raise UsageError(
            "where are the masks?",
            f"Try --mask-suffix {guess}"
            if guess
            else "Give --mask-suffix _m (X.jpg with X_m.png),"
            " --mask-dir DIR, --mask FILE, --mask-from alpha or --layout iharmony4.",
        )
    elif rules.mask_dir is not None and not rules.mask_suffix:
        for path in inputs:
            if path.is_dir() and real(path) == real(rules.mask_dir):
                raise UsageError(
                    f"--mask-dir {rules.mask_dir} is the input folder itself",
                    "Say how masks are called there, for example --mask-suffix _m",
                )


def _guess_suffix(inputs: Sequence[Path]) -> str | None:
    """What most often follows another picture's name: "_m" where X.jpg and X_m.png lie."""
    counts: Counter[str] = Counter()
    for path in inputs:
        for folder, names in walk(path) if path.is_dir() else [(path.parent, [])]:
            names = names or [entry.name for entry in folder.iterdir()]
            stems = {Path(name).stem for name in names if is_picture(Path(name))}
            for stem in stems:
                counts.update(stem[cut:] for cut in range(1, len(stem)) if stem[:cut] in stems)
    words = [suffix for suffix in counts if re.fullmatch(r"[-_. ][a-zA-Z]+", suffix)]
    # Of two that are as frequent, the one that speaks of masks.
    masks = re.compile(r".(m|mask|matte|alpha|fg)$", re.IGNORECASE)
    return max(words, key=lambda word: (bool(masks.match(word)), counts[word]), default=None)


def _nothing_found(inputs: Sequence[Path], rules: PairingRules) -> UsageError:
    where = ", ".join(str(path) for path in inputs)
    if rules.layout == "iharmony4":
        return UsageError(
            f"no folder {COMPOSITES} with pictures in {where}",
            f"iHarmony4 has {COMPOSITES}, {MASKS} and {REALS} beside each other.",
        )
    bare = replace(rules, mask_suffix=None, truth_suffix=None, mask_dir=None, truth_dir=None)
    others = sum(1 for _ in _composites(inputs, bare))
    if others:
        return UsageError(
            f"{where} holds only masks and truths ({others} of them) and no picture to harmonise",
            "Check the suffixes: a file whose name ends in one is never harmonised itself.",
        )
    return UsageError(f"no picture in {where}", f"hz reads {KINDS} files.")


# Pairing


def _composites(inputs: Sequence[Path], rules: PairingRules) -> Iterator[tuple[Path, Path]]:
    """Every picture that is neither mask nor truth, with its path relative to its input."""
    skip = [folder for folder in (rules.output, rules.mask_dir, rules.truth_dir) if folder]
    suffixes = [fold(s) for s in (rules.mask_suffix, rules.truth_suffix) if s]
    seen: set[str] = set()
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
            if os.path.abspath(path) in seen:
                continue
            seen.add(os.path.abspath(path))
            yield path, path.relative_to(root) if root.is_dir() else Path(path.name)


def _pair(path: Path, relative: Path, rules: PairingRules, listing: Listing) -> Job:
    job = Job(path, None, relative.with_suffix(".tif"))
    if not is_picture(path):
        return replace(
            job,
            error=PictureError(
                f'"{path.suffix or path.name}" is no kind of picture that hz reads',
                f"Convert it to {KINDS}.",
            ),
        )
    try:
        mask, source = _mask_of(path, relative, rules, listing)
        truth = _truth_of(path, relative, rules, listing)
    except PictureError as error:
        return replace(job, error=error)
    wanted = rules.truth_dir is not None or rules.truth_suffix is not None
    warnings = ("no ground truth was found: no metrics",) if wanted and truth is None else ()
    return replace(job, mask=mask, mask_source=source, truth=truth, warnings=warnings)


def _mask_of(
    path: Path, relative: Path, rules: PairingRules, listing: Listing
) -> tuple[Path, Literal["auto", "alpha"]]:
    if rules.mask_file is not None:
        return rules.mask_file, "auto"
    found: list[Path] = []
    looked: list[str] = []
    if rules.mask_dir is not None:
        found = _in_folder(rules.mask_dir, rules.mask_suffix, path, relative, listing)
        looked.append(f"{rules.mask_dir}{os.sep}{relative.with_suffix('')}.*")
    if not found and rules.mask_suffix is not None:
        found = listing.find(path.parent, path.stem + rules.mask_suffix, but=path)
        looked.append(f"{path.stem}{rules.mask_suffix}.* beside it")
    if not found and rules.mask_from == "alpha":
        return path, "alpha"
    if not found:
        raise MaskError(
            f"no mask: looked for {' and '.join(looked)}",
            _perhaps_truth(path, rules, listing)
            or "Add the mask, or check --mask-suffix and --mask-dir.",
        )
    if len(found) > 1:
        names = " and ".join(_shown(mask, path) for mask in found)
        raise MaskError(f"{len(found)} masks: {names}", "Leave one of them.")
    return found[0], "auto"


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


def _iharmony4(inputs: Sequence[Path], rules: PairingRules, listing: Listing) -> Iterator[Job]:
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
                yield _iharmony4_job(path, path.relative_to(root), listing)


def _iharmony4_job(path: Path, relative: Path, listing: Listing) -> Job:
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
        for path in (job.composite, job.mask, job.truth)
        if path is not None
    }
    for job in jobs:
        target = rules.output / job.output
        if real(target) in sources:
            raise UsageError(
                f"the result of {job.composite} would be written over the input {target}",
                "Inputs are never touched: name another folder with -o.",
            )
