"""How the user says where masks and ground truths are, and what of it cannot be."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hzcli.engine.walk import fold, is_picture, real, walk
from hzcli.errors import UsageError


@dataclass(frozen=True)
class PairingRules:
    """How masks and ground truths are found.

    mask_file: the mask of the one picture given; mask_files: its masks, where there are several.
    mask_from: "alpha" or "psd:LAYER", where no rule found a file.
    output: the folder of results; pictures in it are never inputs.
    """

    mask_suffix: str | None = None
    mask_dir: Path | None = None
    mask_file: Path | None = None
    mask_files: tuple[Path, ...] = ()
    mask_from: str | None = None
    truth_dir: Path | None = None
    truth_suffix: str | None = None
    layout: Literal["iharmony4"] | None = None
    output: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """The masks that were named, in order."""
        return (*(() if self.mask_file is None else (self.mask_file,)), *self.mask_files)

    @property
    def asks(self) -> bool:
        """Whether any rule says where masks are."""
        rules = (self.mask_suffix, self.mask_dir, self.mask_from, self.layout)
        return bool(self.files) or any(rules)


def check(inputs: Sequence[Path], rules: PairingRules, look: bool = False) -> None:
    """Raise UsageError where rules contradict each other, or name what is not there.

    Args:
        look: nothing is to be made of the pictures: they need no mask.
    """
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
            if not look and path.is_dir() and real(path) == real(rules.output):
                raise UsageError(
                    f"the output folder {rules.output} is the input folder",
                    "Inputs are never touched: name another folder with -o.",
                )
    masks = [rules.mask_suffix, rules.mask_dir, rules.mask_from]
    if rules.layout is not None:
        if any((*masks, *rules.files, rules.truth_dir, rules.truth_suffix)):
            raise UsageError(
                f"--layout {rules.layout} already says where masks and truths are",
                "Leave out --layout, or all other options for masks and truths.",
            )
    elif rules.files:
        if any(masks):
            raise UsageError("--mask goes with no other mask option", "Give one of them.")
        _check_files(inputs, rules.files)
    elif not any(masks) and not look:
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


def _check_files(inputs: Sequence[Path], files: Sequence[Path]) -> None:
    """Masks that were named one by one belong to one picture, and are there."""
    if len(inputs) != 1 or inputs[0].is_dir():
        raise UsageError(
            "--mask is the mask of one picture"
            if len(files) == 1
            else "--mask names one picture's",
            "Give one picture, or pair many with --mask-suffix or --mask-dir.",
        )
    for path in files:
        if not path.is_file():
            raise UsageError(f"--mask {path} is not a file", "Check its spelling.")
    twice = [path for path, count in Counter(real(path) for path in files).items() if count > 1]
    if twice:
        raise UsageError(f"--mask {twice[0]} is given twice", "Give each mask once.")


def _guess_suffix(inputs: Sequence[Path]) -> str | None:
    """What most often follows another picture's name: "_m" where X.jpg and X_m.png lie."""
    counts: Counter[str] = Counter()
    for path in inputs:
        for folder, names in walk(path) if path.is_dir() else [(path.parent, [])]:
            names = names or [entry.name for entry in folder.iterdir()]
            stems = {Path(name).stem for name in names if is_picture(Path(name))}
            for stem in stems:
                rests = (stem[cut:] for cut in range(1, len(stem)) if stem[:cut] in stems)
                counts.update(rest.rstrip("0123456789") for rest in rests)
    words = [suffix for suffix in counts if re.fullmatch(r"[-_. ][a-zA-Z]+", suffix)]
    # Of two that are as frequent, the one that speaks of masks.
    masks = re.compile(r".(m|mask|matte|alpha|fg)$", re.IGNORECASE)
    return max(words, key=lambda word: (bool(masks.match(word)), counts[word]), default=None)
