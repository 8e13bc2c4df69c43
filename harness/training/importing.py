"""How long this process spent on imports while runs were trained.

Libraries are imported where they are first needed, seconds each: the first run of a process would
seem to cost more than the same run later, and a remedy less than doing nothing, which runs first.
Python has no other place to see an import end than `builtins.__import__`.
"""

import builtins
import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

_real = builtins.__import__
_lock = threading.Lock()
_here = threading.local()
_watching = 0


def _timed(*arguments: Any, **options: Any) -> Any:
    if getattr(_here, "inside", False):  # a library's own imports are part of it
        return _real(*arguments, **options)
    _here.inside, begun = True, time.perf_counter()
    try:
        return _real(*arguments, **options)
    finally:
        _here.inside = False
        _here.spent = spent() + time.perf_counter() - begun


def spent() -> float:
    """Return the seconds that this thread has spent on imports while it was watched."""
    return float(getattr(_here, "spent", 0.0))


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """Watch imports meanwhile; several runs may be under way, and end in any order."""
    global _real, _watching
    with _lock:
        _watching += 1
        if _watching == 1:
            _real, builtins.__import__ = builtins.__import__, _timed
    try:
        yield
    finally:
        with _lock:
            _watching -= 1
            if not _watching and builtins.__import__ is _timed:
                builtins.__import__ = _real
