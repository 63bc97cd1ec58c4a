"""The errors a user can meet.

    HzError                     exit code
    +-- UsageError              2   wrong arguments, or a plan that cannot be carried out
    +-- PictureError            1   one picture cannot be read, written or understood
    |   +-- MaskError           1   its mask is missing, ambiguous, empty or does not fit
    +-- LookError               1   one look file cannot be read, written or understood
    +-- ModelError              4   model or weights missing, broken or unknown
    +-- DeviceError             5   the device asked for is not there
    +-- BudgetError             1   the memory allowed is too small for this picture

Each error says what was found and what was expected (`message`), and what to try (`hint`).
"""

from __future__ import annotations


class HzError(Exception):
    """Base of every error that is the world's fault, not a bug in hz."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}. {self.hint}" if self.hint else self.message


class UsageError(HzError):
    """Raised when the arguments cannot be carried out; nothing has been written."""

    exit_code = 2


class PictureError(HzError):
    """Raised when one picture cannot be read, written or understood."""


class MaskError(PictureError):
    """Raised when a picture's mask is missing, ambiguous, empty or does not fit."""


class BudgetError(PictureError):
    """Raised when the memory allowed is too small for one picture."""


class LookError(HzError):
    """Raised when one look file cannot be read, written or understood."""


class ModelError(HzError):
    """Raised when a model or its weights are missing, broken or unknown."""

    exit_code = 4


class DeviceError(HzError):
    """Raised when the device that was named is not there."""

    exit_code = 5
