"""Ctrl-C and SIGTERM: the first one asks runs to write a checkpoint and end, the second one ends.

Only a process's main thread can hear signals; elsewhere, as in some notebooks, Python's own
handling stays.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

HEARD = (signal.SIGINT, signal.SIGTERM)

_ASKED = b"\nstopping: runs write a checkpoint; once more to stop at once\n"


class Interrupted(KeyboardInterrupt):
    """Somebody asked us to stop.

    Args:
        number: The signal.
        at_once: Whether they asked twice.
    """

    def __init__(self, number: int, at_once: bool = False) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number
        self.at_once = at_once


def exit_code(error: KeyboardInterrupt) -> int:
    """Return what a shell expects: 130 after Ctrl-C, 143 after SIGTERM."""
    return 128 + (error.number if isinstance(error, Interrupted) else signal.SIGINT)


class Interruption:
    """Whether somebody asked.

    Attributes:
        number: The signal that did, or None.
    """

    def __init__(self) -> None:
        self.number: int | None = None

    def raise_if_any(self) -> None:
        """Raise what was asked for.

        Raises:
            Interrupted: As said.
        """
        if self.number is not None:
            raise Interrupted(self.number)


@contextlib.contextmanager
def interruptible(halt: Callable[[], None]) -> Iterator[Interruption]:
    """Within it a first signal calls `halt`, a second one raises.

    Args:
        halt: Takes note of it and returns; called between any two instructions.

    Raises:
        Interrupted: Asked twice.
    """
    asked = Interruption()

    def hear(number: int, frame: FrameType | None) -> None:
        if asked.number is not None:
            raise Interrupted(asked.number, at_once=True)
        asked.number = number
        halt()
        with contextlib.suppress(OSError):
            os.write(2, _ASKED)

    with _handled(hear):
        yield asked


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Within it SIGTERM is an exception, as Ctrl-C is, so that what was begun is ended.

    Raises:
        Interrupted: At SIGTERM.
    """

    def hear(number: int, frame: FrameType | None) -> None:
        raise Interrupted(number)

    with _handled(hear, (signal.SIGTERM,)):
        yield


@contextlib.contextmanager
def _handled(
    hear: Callable[[int, FrameType | None], None], numbers: tuple[int, ...] = HEARD
) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[int, Any] = {}
    for number in numbers:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup and some shells set it
            before[number] = signal.signal(number, hear)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
