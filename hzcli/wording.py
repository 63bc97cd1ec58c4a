"""Texts and numbers as people read them."""

from __future__ import annotations

import sys
from typing import Any


def shown(text: str) -> str:
    """Text that any terminal takes: file names may hold bytes that are no text, and controls."""
    safe = text.encode(sys.stdout.encoding or "utf-8", "replace").decode(
        sys.stdout.encoding or "utf-8"
    )
    return "".join(sign if sign.isprintable() or sign == "\n" else "?" for sign in safe)


def stopped(text: str) -> str:
    """With one full stop. Its first letter stays: it may be a file's.

    >>> stopped("x.jpg is empty"), stopped("where are the masks?")
    ('x.jpg is empty.', 'where are the masks?')
    """
    return text if text.endswith("?") else text.rstrip(".") + "."


def sentence(text: str) -> str:
    """With a capital and one full stop.

    >>> sentence("give another mask")
    'Give another mask.'
    """
    return stopped(text[:1].upper() + text[1:])


def number(value: Any) -> str:
    """Three figures or so.

    >>> number(1234.5), number(12.345), number(0.12345), number(None)
    ('1234', '12.3', '0.123', '-')
    """
    if value is None:
        return "-"
    if isinstance(value, float):
        size = abs(value)
        return f"{value:.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.3g}"
    return str(value)
