"""`--model auto`: which of the installed weights, for what is wanted.

Decided by what the weights' cards say, never by names:

- figures `val_fmse_ratio` (error on the validation set by that of doing nothing, at full size),
  `val_lut_fmse_ratio` (the same with `--mode lut`) and `seconds_12mp` (one picture of 12 million
  pixels on the reference processor). Weights that a user has trained carry `val_thumbnail`
  instead, measured on another set at another size, and only compare with each other.
- trait `look`: "exact" where what the model predicts is a table or curves and nothing else;
  "own" where it has such a table beside its full answer; "fitted" where one must be fitted.

Both of the first two are free of position: the same colour becomes the same everywhere, and a
video that moves does not shimmer. Imports neither torch nor numpy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hzcli.catalog import WeightsCard
from hzcli.errors import ModelError, UsageError

__all__ = ["PURPOSES", "Choice", "choose"]

Purpose = Literal["quality", "speed", "look", "video"]
PURPOSES: tuple[Purpose, ...] = ("quality", "speed", "look", "video")

# Ratios that differ by less say nothing: about the spread of a few hundred pictures.
ALIKE = 0.03
# What the quickest weights must undo, at least, of what the best ones do.
ENOUGH = 0.5


@dataclass(frozen=True)
class Choice:
    """Weights for a purpose.

    name: their id. reason: one line. mode: how to run them, as `hz run --mode` has it.
    """

    name: str
    reason: str
    mode: Literal["region", "lut"] = "region"


@dataclass(frozen=True)
class _Facts:
    """What a card says that matters here; None: it does not say.

    ours: whether its figures are those of the common validation set.
    """

    card: WeightsCard
    ratio: float | None
    table: float | None
    seconds: float | None
    look: str
    ours: bool


def choose(purpose: str, cards: Sequence[WeightsCard]) -> Choice:
    """Choose among weights.

    Args:
        purpose: of PURPOSES. "quality": the smallest error. "speed": the quickest of those that
            undo half of what the best ones do. "look": the smallest error of a table or curves,
            which another program can apply. "video": the same, and the quicker of equals.
        cards: of the installed weights.

    Raises:
        UsageError: there is no such purpose.
        ModelError: no weights are installed.
    """
    if purpose not in PURPOSES:
        raise UsageError(f'nobody chooses for "{purpose}"', f"Known: {', '.join(PURPOSES)}.")
    there = [card for card in cards if card.status == "done"]
    if not there:
        raise ModelError("no weights are installed", "hz models import FILE brings some in.")
    flat = purpose in ("look", "video")
    mode: Literal["region", "lut"] = "lut" if flat else "region"
    if len(there) == 1:
        return Choice(there[0].id, f"{there[0].id}: the only weights installed", mode)
    known = _comparable([_facts(card) for card in there], flat)
    if not known:
        first = min(there, key=lambda card: (card.parameters or float("inf"), card.id))
        return Choice(first.id, f"{first.id}: the smallest; no card has figures to go by", mode)
    if flat:
        return _for_tables(purpose, known)
    return _quickest(known) if purpose == "speed" else _best(known)


def _facts(card: WeightsCard) -> _Facts:
    figures, traits = card.figures, getattr(card, "traits", None) or {}
    look = str(traits.get("look", "fitted"))
    ours = _number(figures.get("val_fmse_ratio")) is not None
    own: dict[str, Any] = figures.get("val_thumbnail") or {}
    ratio = _number(figures.get("val_fmse_ratio") if ours else own.get("ratio"))
    table = _number(figures.get("val_lut_fmse_ratio") if ours else own.get("lut"))
    if table is None and look == "exact":  # the table is all there is
        table = ratio
    return _Facts(card, ratio, table, _number(figures.get("seconds_12mp")), look, ours)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and value == value else None


def _comparable(facts: Sequence[_Facts], flat: bool) -> list[_Facts]:
    """Those with figures of one set: the common one if any has them, else the users' own.

    For tables, those that hold one; if there are none, those with any figure for a fitted one.
    """
    for ours in (True, False):
        found = [entry for entry in facts if entry.ours is ours and entry.ratio is not None]
        if flat:
            tables = [entry for entry in found if entry.table is not None]
            found = [entry for entry in tables if entry.look != "fitted"] or tables or found
        if found:
            return found
    return []


def _error(entry: _Facts, flat: bool = False) -> float:
    value = entry.table if flat and entry.table is not None else entry.ratio
    assert value is not None, "only weights with figures are compared"
    return value


def _cost(entry: _Facts) -> tuple[bool, float, str]:
    """Known times first; the name makes the order certain."""
    seconds = entry.seconds
    return seconds is None, seconds or float(entry.card.parameters), entry.card.id


def _best(known: Sequence[_Facts]) -> Choice:
    least = min(_error(entry) for entry in known)
    equals = [entry for entry in known if _error(entry) <= least * (1 + ALIKE)]
    chosen = min(equals, key=_cost)
    words = "the least" if len(equals) == 1 else "the quickest of the best"
    return Choice(
        chosen.card.id, f"{chosen.card.id}: {_said(_error(chosen))}, {words} {_of(known)}"
    )


def _quickest(known: Sequence[_Facts]) -> Choice:
    undone = 1 - min(_error(entry) for entry in known)
    fit = [entry for entry in known if 1 - _error(entry) >= ENOUGH * undone]
    chosen = min(fit, key=_cost)
    time = "" if chosen.seconds is None else f"{chosen.seconds:.2g} s for 12 MP, "
    return Choice(
        chosen.card.id,
        f"{chosen.card.id}: {time}the quickest {_of(known)}; {_said(_error(chosen))}",
    )


def _for_tables(purpose: str, known: Sequence[_Facts]) -> Choice:
    least = min(_error(entry, flat=True) for entry in known)
    equals = [entry for entry in known if _error(entry, flat=True) <= least * (1 + ALIKE)]
    # Among equals: for a look the one that needs no second answer, for a video the quick one.
    exact = [entry for entry in equals if entry.look == "exact"]
    chosen = min(exact or equals if purpose == "look" else equals, key=_cost)
    what = {
        "exact": "by a table or curves, all that it predicts",
        "own": "by the table of its own",
    }.get(chosen.look, "by a table fitted to its answer")
    said = _said(_error(chosen, flat=True))
    return Choice(chosen.card.id, f"{chosen.card.id}: {said} {what}, best {_of(known)}", "lut")


def _said(ratio: float) -> str:
    return f"{ratio:.2f} of the error of doing nothing"


def _of(known: Sequence[_Facts]) -> str:
    return f"of {len(known)} with figures"
