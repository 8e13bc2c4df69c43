"""Groups of images told by their names: a patient, a lesion or a scene that several show."""

import re
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from harness.errors import DataError, listing

_SECONDS = 20.0
"""For which all names may be searched: a million of them take one second."""


def compiles(pattern: str | None) -> str | None:
    """Return a regular expression that is one.

    Raises:
        ValueError: It is none.
    """
    try:
        re.compile(pattern or "")
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    return pattern


def groups_of(names: Sequence[str], pattern: str, ids: Sequence[str]) -> NDArray[np.int64]:
    """Return the group of each name, ``int64[N]``.

    Args:
        names: N names, in which the pattern is searched.
        pattern: A regular expression: its first group, or all that it matches, names the group.
        ids: What messages call them.

    Raises:
        DataError: A name has none, or the search comes to no end.
    """
    search = re.compile(pattern)
    try:
        with _in_time(_SECONDS):
            matches = [search.search(name) for name in names]
    except TimeoutError:
        raise DataError(
            f"the pattern '{pattern}' takes more than {_SECONDS:g} s on {len(names):,} file names: "
            "write it without a repetition inside another, such as (a+)+, and with fewer of .*"
        ) from None
    found = [match and match[1 if search.groups else 0] for match in matches]
    outside = [name for name, group in zip(ids, found, strict=True) if not group]
    if outside:
        raise DataError(
            f"no group in {len(outside)} of {len(found)} file names by the pattern '{pattern}': "
            f"{listing(outside, 3)}"
        )
    return np.unique(np.array(found, dtype=str), return_inverse=True)[1].astype(np.int64)


@contextmanager
def _in_time(seconds: float) -> Iterator[None]:
    """End what is done inside by a `TimeoutError`, where this thread and system can be interrupted.

    Python's own regular expressions have no limit, but look for signals now and then.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGALRM"):
        yield
        return

    def over(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, over)
    left, _ = signal.setitimer(signal.ITIMER_REAL, seconds)
    begun = time.monotonic()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if left:  # somebody else's clock goes on
            signal.setitimer(signal.ITIMER_REAL, max(left - (time.monotonic() - begun), 0.001))
