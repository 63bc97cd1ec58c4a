"""A share of a batch: several machines work on one folder, each on its own pictures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from hzcli.engine.pairing import Job
from hzcli.engine.walk import natural_key
from hzcli.errors import UsageError


@dataclass(frozen=True)
class Shard:
    """Share `number` of `of`, counted from 1.

    The pictures are dealt out like cards, sorted by their place below their input: shares differ
    by one picture at most, and neighbours, which are often of one size, go to different machines.
    The order in which inputs are named and folders are listed does not matter, nor where a machine
    has mounted them. All machines must see the same pictures: while some are still being copied
    there, one may be dealt twice or not at all, and a run without a share does what was left out.
    """

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @property
    def tag(self) -> str:
        """What its reports are called for: "2of5"."""
        return f"{self.number}of{self.of}"

    def places(self, jobs: Sequence[Job]) -> list[int]:
        """Which of the jobs are in the share, as places in their list, ascending.

        Args:
            jobs: all of the batch, as `pairing.find` gives them, not yet renamed.
        """
        order = sorted(range(len(jobs)), key=lambda at: _key(jobs[at]))
        return sorted(order[self.number - 1 :: self.of])


def parse(text: str | None) -> Shard | None:
    """The share that a text such as "2/5" says.

    >>> parse("2/5")
    Shard(number=2, of=5)

    Raises:
        UsageError: the text says nothing of the kind.
    """
    if text is None:
        return None
    found = re.fullmatch(r"\s*([0-9]{1,9})\s*/\s*([0-9]{1,9})\s*", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise UsageError(
            f'--shard "{text}" is no share of a batch',
            "Say which one and of how many: 1/5, 2/5, ... 5/5.",
        )
    return Shard(int(found[1]), int(found[2]))


def _key(job: Job) -> tuple[object, ...]:
    """By place and name; two inputs may have the same, whose own paths then decide."""
    place = job.output.with_name(job.composite.name)
    return natural_key(place), place.as_posix(), job.composite.as_posix()
