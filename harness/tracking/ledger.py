"""`mirrored.jsonl`: what MLflow has of an experiment, one line per change.

It stands beside the results, is only ever appended to, and may be deleted: `sync` then asks
MLflow. A torn line counts for nothing.
"""

import contextlib
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from harness.files import append_line, read_lines

FILE = "mirrored.jsonl"

RUNNING, FINISHED, FAILED, KILLED = "RUNNING", "FINISHED", "FAILED", "KILLED"
"""Statuses of a run in MLflow."""

TOLD = "TOLD"
"""Of the line of no run: MLflow was told which runs the file asks for; `result` is their digest."""

ENDED = (FINISHED, FAILED)


@dataclass(frozen=True)
class Entry:
    """One line.

    Attributes:
        key: The run's key.
        run_id: Its id in MLflow.
        status: Its status in MLflow.
        place: Which MLflow experiment: fingerprint of the address, then id and time of creation,
            so that a database made anew is another place.
        result: Digest of the committed result, or empty.
    """

    key: str
    run_id: str
    status: str
    place: str
    result: str = ""


class Ledger:
    """The lines of one experiment.

    Args:
        folder: The experiment's folder in the results.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE

    def last(self, place: str) -> dict[str, Entry]:
        """Return the last line of each key at `place`."""
        return {entry.key: entry for entry in self._entries if entry.place == place}

    def ended(self, place: str) -> dict[str, Entry]:
        """Return the last line of each key at `place` that speaks of a committed run."""
        ended = (entry for entry in self._entries if entry.status in ENDED)
        return {entry.key: entry for entry in ended if entry.place == place}

    def run_ids(self, place: str) -> set[str]:
        """Return the id of every run that was ever written at `place`."""
        return {entry.run_id for entry in self._entries if entry.place == place}

    def place(self, fingerprint: str) -> str | None:
        """Return the place last written to at an address, or None."""
        places = [e.place for e in self._entries if e.place.startswith(f"{fingerprint}/")]
        return places[-1] if places else None

    def add(self, entry: Entry) -> None:
        """Append a line, after ending one that was torn.

        Raises:
            OSError: The file cannot be written.
        """
        known = self._entries
        self._path.parent.mkdir(exist_ok=True)  # not the results: somebody may have deleted them
        append_line(self._path, asdict(entry))
        known.append(entry)

    @cached_property
    def _entries(self) -> list[Entry]:
        """Every line, read once: nobody else writes while we do."""
        entries = []
        for line in read_lines(self._path):
            with contextlib.suppress(TypeError):
                if all(isinstance(value, str) for value in line.values()):
                    entries.append(Entry(**line))
        return entries
