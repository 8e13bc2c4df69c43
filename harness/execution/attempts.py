"""The folders of attempts, and what one attempt leaves to the next: its checkpoints.

An attempt has a folder of its own under ``.running`` until it is committed. Whatever ended it
before, the next attempt at the same run takes its checkpoints over; nothing else is kept.
``attempts.jsonl`` has one line for each that was begun.
"""

import os
import time
from collections import Counter
from collections.abc import Collection, Iterator
from functools import cached_property
from pathlib import Path

from harness.files import append_line, delete, read_lines
from harness.training.rundir import CHECKPOINTS, SPEC

FILE = "attempts.jsonl"

RUNNING = ".running"
"""Folder of attempts that are not committed yet."""

_KEPT_DAYS = 30
"""Checkpoints of a run that nobody has gone on with for so long are deleted."""


class Attempts:
    """The attempts at the runs of one experiment.

    Args:
        folder: The experiment's, in the results.
    """

    def __init__(self, folder: Path) -> None:
        self.running = folder / RUNNING
        self._file = folder / FILE
        self._under_way: set[Path] = set()

    @cached_property
    def _begun(self) -> Counter[str]:
        """Attempts begun, by key; a torn line counts for nothing."""
        return Counter(str(line.get("key")) for line in read_lines(self._file))

    def count(self, key: str) -> int:
        """Return how many attempts at a run were begun."""
        return self._begun[key]

    def clean(self, done: Collection[str]) -> None:
        """Delete what no attempt can use any more, while none is under way.

        Args:
            done: Keys of the runs that are done.
        """
        self.running.mkdir(exist_ok=True)
        for path in list(self.running.iterdir()):
            if path.name.partition(".")[0] in done or ".replaced" in path.name or _is_old(path):
                delete(path)
            else:
                self.set_aside(path)

    def begin(self, key: str, before: Path | None) -> Path:
        """Return a new folder for an attempt, with the checkpoints of the ones before it.

        Args:
            key: Of the run.
            before: Folder of a committed attempt that failed, or None.
        """
        line = {"key": key, "began": time.strftime("%Y-%m-%d %H:%M:%S"), "pid": os.getpid()}
        earlier = [*self._left(key), *([before] if before is not None else [])]
        while True:
            self._begun[key] += 1
            path = self.running / f"{key}.{self._begun[key]}"
            try:
                path.mkdir(parents=True)
                break
            except FileExistsError:
                continue
        self._under_way.add(path)
        append_line(self._file, line)
        for source in earlier:
            if not has_checkpoints(path):
                _hand_over(source, path)
            if source != before:
                delete(source)
        return path

    def _left(self, key: str) -> list[Path]:
        """Return folders of attempts at a run that have ended, the last one first."""

        def number(path: Path) -> int:
            text = path.name.rpartition(".")[2]
            return int(text) if text.isdecimal() else 0

        found = set(self.running.glob(f"{key}.*")) - self._under_way
        ended = [path for path in found if ".replaced" not in path.name]
        return sorted(ended, key=number, reverse=True)

    def ended(self, path: Path) -> None:
        """Take note that an attempt is under way no more."""
        self._under_way.discard(path)

    def set_aside(self, path: Path) -> None:
        """Keep of an attempt its checkpoints alone, and nothing where it has none."""
        self.ended(path)
        if not has_checkpoints(path):
            delete(path)
            return
        for file in _others(path):
            delete(file)


def has_checkpoints(path: Path) -> bool:
    """Whether there is something to go on from."""
    return any((path / name).exists() for name in CHECKPOINTS)


def clear(path: Path) -> None:
    """Delete what an attempt has written, but for what it is at and what it can go on from."""
    for file in _others(path):
        if file.name != SPEC:
            delete(file)


def _others(path: Path) -> Iterator[Path]:
    return (file for file in list(path.iterdir()) if file.name not in CHECKPOINTS)


def _hand_over(source: Path, target: Path) -> None:
    for name in CHECKPOINTS:
        if (source / name).exists():
            (source / name).rename(target / name)


def _is_old(path: Path) -> bool:
    return time.time() - path.stat().st_mtime > _KEPT_DAYS * 24 * 3600
