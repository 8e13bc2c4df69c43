"""The errors a user can cause or meet.

Everything here prints as one clear message without a traceback and ends the command with exit
code 2. Any other exception is a bug of ours or of a plugin and keeps its traceback.

    HarnessError
    ├── ConfigError   the experiment file or the command line
    ├── DataError     files, labels or splits of a dataset
    │   └── BadFilesError   files that are bad or missing, each with the reason
    ├── StoreError    the results folder
    ├── DecisionError a decision rule that cannot be fitted for a run
    └── TrackingError the MLflow database or server
        └── UnreachableError  it does not answer now, and may later
"""

import copy
import difflib
from collections.abc import Iterable, Mapping
from typing import Self

from harness.text import brief

_LONGEST_WORD = 1000


class HarnessError(Exception):
    """A mistake that the message explains, with what to do about it.

    Args:
        message: For the user; what it echoes of a file or a command line is cut to some words.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(brief(message))

    def _render_traceback_(self) -> list[str]:
        """Return what a notebook shows: the message alone (a hook of IPython's)."""
        return [f"{type(self).__name__}: {self}"]

    def within(self, place: str) -> Self:
        """Return the same error with the place where it was met said first."""
        found = copy.copy(self)
        found.args = (f"{place}: {self}",)
        return found


class ConfigError(HarnessError):
    """The experiment file or the command line asks for something that cannot be."""


class DataError(HarnessError):
    """A dataset cannot be read or split as asked."""


class BadFilesError(DataError):
    """Files of a dataset are not what they should be.

    Args:
        message: For the user.
        reasons: What is wrong with each, by path.
    """

    def __init__(self, message: str, reasons: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.reasons = reasons or {}


class StoreError(HarnessError):
    """The results folder cannot be used."""


class DecisionError(HarnessError):
    """A decision rule cannot be fitted for a run: no val, or a trained prior that is not known."""


class TrackingError(HarnessError):
    """The tracking database or server cannot be used."""


class UnreachableError(TrackingError):
    """The server or database does not answer now; it may later."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the nearest of `known`, or an empty string."""
    if len(word) > _LONGEST_WORD:  # comparing takes as long as it is
        return ""
    folded = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower(), folded, n=1, cutoff=0.5)
    return f"; did you mean '{folded[near[0]]}'?" if near else ""


def counted(count: int, one: str, many: str = "") -> str:
    """Return a number with its noun: ``1 image``, ``2 images``.

    Args:
        count: How many.
        one: What follows 1, such as ``image is``.
        many: What follows any other number; `one` with an s where empty.
    """
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def lasting(seconds: float) -> str:
    """Return a duration in the unit that suits it: ``40 s``, ``12 min``, ``3.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def listing(names: Iterable[str], limit: int = 20) -> str:
    """Join `names` with commas, cut after `limit` with the number left out."""
    items = [str(name) for name in names]
    more = f", … ({len(items) - limit} more)" if len(items) > limit else ""
    return ", ".join(items[:limit]) + more
