"""Calls that are given up after a while, whatever they wait for.

A time limit of an HTTP client counts from one byte to the next: an answer that drips, or a name
that is looked up for ever, outlasts it.
"""

import queue
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")

_Tasks = queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None]


class GivenUpError(Exception):
    """A call took too long; it may still have its effect."""


class Caller:
    """Makes calls one at a time, in a thread that is left to itself where one takes too long."""

    def __init__(self) -> None:
        self._tasks: _Tasks | None = None

    def call(self, function: Callable[[], T], seconds: float) -> T:
        """Return what `function` returns, or raise what it raises.

        Raises:
            GivenUpError: It takes longer than `seconds`.
        """
        if self._tasks is None:
            self._tasks = queue.SimpleQueue()
            weakref.finalize(self, self._tasks.put, None)
            threading.Thread(target=_serve, args=(self._tasks,), daemon=True).start()
        answer: Future[T] = Future()
        self._tasks.put((function, answer))
        try:
            return answer.result(seconds)
        except TimeoutError:
            if answer.done():  # its own
                raise
            self._tasks.put(None)
            self._tasks = None
            raise GivenUpError from None


def _serve(tasks: _Tasks) -> None:
    while (task := tasks.get()) is not None:
        function, answer = task
        try:
            answer.set_result(function())
        except BaseException as error:  # belongs to who waits for it
            answer.set_exception(error)
        del task, function, answer
