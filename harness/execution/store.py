"""The results folder: what is done, what failed, and the only code that commits to it.

A run is done when its folder has been renamed into place; an attempt lives under ``.running`` and
belongs to nobody else until then. Files are the truth; MLflow mirrors them.
"""

import contextlib
import errno
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
from pydantic_core import from_json

from harness.errors import StoreError
from harness.execution.attempts import RUNNING, Attempts, has_checkpoints
from harness.experiment.spec import RunSpec
from harness.files import NO_SPACE, delete, read_bytes, rename, sync, write_atomically
from harness.training.rundir import ERROR, PREDICTIONS, RESULT, SPEC, RunDir

UNWRITABLE = (*NO_SPACE, errno.EROFS, errno.EACCES, errno.EPERM)
"""Errors of a folder that cannot be written, which no run is to blame for."""

SCHEMA = 1
"""Raised when the layout of a results folder comes to mean something else."""

_PATIENCE = 2.0
"""Seconds for the lock: a program that a killed driver was just starting holds it until it runs."""

_LONGEST = 259 if os.name == "nt" else None
"""Characters of a path that every program on Windows can open."""

_KEYED = re.compile(r"-([0-9a-f]{12})$")


@dataclass(frozen=True)
class Stored:
    """A committed run: its key, its folder, and whether it failed.

    One that is `hollow` has neither a result nor an error: somebody has deleted it by half.
    """

    key: str
    folder: str
    failed: bool
    hollow: bool = False

    @property
    def path(self) -> Path:
        """Its folder; made when asked for, since ten thousand paths take a while."""
        return Path(self.folder)


class Store:
    """The results of one experiment.

    Args:
        results: The results folder, shared by experiments.
        experiment: Name of the experiment.

    Raises:
        StoreError: The folder is a file or was written by a newer version.
    """

    def __init__(self, results: Path, experiment: str) -> None:
        self.results = results.expanduser().absolute()
        self.path = self.results / experiment
        for folder in (self.results, self.path):
            if folder.exists() and not folder.is_dir():
                raise StoreError(f"results folder {folder} is a file; name a folder")
        self.attempts = Attempts(self.path)
        self._named: dict[str, set[str]] = {}
        self._listed = -1
        self._check_schema()

    def _check_schema(self) -> None:
        marker = self.path / "schema.json"
        try:
            schema = int(from_json(read_bytes(marker))["schema"])
        except (FileNotFoundError, NotADirectoryError):
            return
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{marker} cannot be read ({error}); restore or remove it") from None
        if schema > SCHEMA:
            raise StoreError(
                f"{self.path} was written by a newer version of the harness (schema {schema}, this "
                f"one knows {SCHEMA}); upgrade, or choose another --results folder"
            )

    def create(self) -> None:
        """Make the folder; of attempts that no living driver owns, keep the checkpoints alone.

        Raises:
            StoreError: The folder cannot be written, or its name differs from another's by case.
        """
        try:
            self.results.mkdir(parents=True, exist_ok=True)
            self._check_case()
            self.path.mkdir(parents=True, exist_ok=True)
            write_atomically(self.path / "schema.json", json.dumps({"schema": SCHEMA}))
            self._put_back()
            self.attempts.clean({key for key, run in self.runs().items() if not run.failed})
        except OSError as error:
            raise unwritable(self.path, error) from None

    def _check_case(self) -> None:
        """Refuse a new experiment that shares its folder with another where case does not count."""
        if not self.path.parent.is_dir():
            return
        names = os.listdir(self.path.parent)
        name = self.path.name
        twins = [other for other in names if other.casefold() == name.casefold()]
        if twins and name not in twins:
            raise StoreError(
                f"{self.path.parent} has an experiment '{twins[0]}', and on Windows and macOS "
                f"'{name}' is the same folder; choose a name that differs in more than its case"
            )

    def _put_back(self) -> None:
        """Restore runs that a driver had set aside for a new one when it was killed."""
        committed = self.runs()
        for path in sorted((self.path / RUNNING).glob("*.replaced*")):
            key = path.name.partition(".")[0]
            if key not in committed:
                rename(path, self.path / f"restored-{key}")
                committed = self.runs()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder of this experiment for this driver; other experiments may go on.

        Raises:
            StoreError: Another driver holds it, and the message says which; or its name differs
                from another's by case alone.
        """
        try:
            self._check_case()
            self.path.mkdir(parents=True, exist_ok=True)
            lock = filelock.FileLock(self.path / ".lock", timeout=_PATIENCE)
            lock.acquire()
        except filelock.Timeout:
            raise StoreError(f"{self.path} is in use by {self._owner()}") from None
        except OSError as error:
            raise unwritable(self.path, error) from None
        try:
            self._sign()
            yield
        finally:
            lock.release()

    def _sign(self) -> None:
        """Say who holds the folder; the system lets go of the lock however this process ends."""
        owner = {"host": socket.gethostname(), "pid": os.getpid()}
        since = {"since": time.strftime("%Y-%m-%d %H:%M:%S")}
        try:
            write_atomically(self.path / ".owner.json", json.dumps(owner | since))
        except OSError as error:
            raise unwritable(self.path, error) from None

    def _owner(self) -> str:
        try:
            owner = read_json(self.path / ".owner.json")
            return f"process {owner['pid']} on {owner['host']} since {owner['since']}"
        except (StoreError, KeyError):
            return "another process"

    def runs(self, hollow: bool = False) -> dict[str, Stored]:
        """Return every committed run by key.

        Args:
            hollow: Whether to return those that were deleted by half, too.
        """
        found: dict[str, Stored] = {}
        halves: dict[str, Stored] = {}
        try:
            entries = list(os.scandir(self.path))
        except FileNotFoundError:
            return found
        for entry in entries:
            match = _KEYED.search(entry.name)
            if match is None or not entry.is_dir():
                continue
            if os.path.exists(f"{entry.path}/{RESULT}"):
                found[match[1]] = Stored(match[1], entry.path, failed=False)
            elif os.path.exists(f"{entry.path}/{ERROR}"):
                found.setdefault(match[1], Stored(match[1], entry.path, failed=True))
            elif hollow:
                halves[match[1]] = Stored(match[1], entry.path, failed=True, hollow=True)
        return {**halves, **found} if halves else found

    def is_done(self, key: str) -> bool:
        """Whether a run of this key is committed and did not fail."""
        return any((path / RESULT).exists() for path in self._of(key))

    def _of(self, key: str) -> list[Path]:
        """Return the committed folders of a run; looks again where others changed the folder."""
        try:
            changed = self.path.stat().st_mtime_ns
        except FileNotFoundError:
            return []
        if changed != self._listed:
            named: dict[str, set[str]] = {}
            for name in os.listdir(self.path):
                if match := _KEYED.search(name):
                    named.setdefault(match[1], set()).add(name)
            self._named, self._listed = named, changed
        paths = [self.path / name for name in sorted(self._named.get(key, ()))]
        return [path for path in paths if os.path.lexists(path)]

    def begin(self, spec: RunSpec) -> Path:
        """Return a new folder for an attempt at a run, which says what it is an attempt at.

        It holds the checkpoints of the attempts before.

        Raises:
            OSError: It cannot be written.
            StoreError: The results folder was deleted.
        """
        self.check_there()
        committed = self._of(spec.key)
        path = self.attempts.begin(spec.key, committed[0] if committed else None)
        RunDir(path).write_json(SPEC, spec.to_json())
        return path

    def folder_of(self, spec: RunSpec, longest: int | None = _LONGEST) -> Path:
        """Return where a run is committed; it is found by its key, so its name may be cut.

        Args:
            spec: The run.
            longest: Most characters of a path to a file, or None where there is no such limit.
        """
        slug = spec.slug
        if longest is not None:
            spare = longest - len(str(self.path / f"-{spec.key}" / PREDICTIONS))
            slug = slug[: max(spare, 0)].rstrip("-_. ") or "r"
        return self.path / f"{slug}-{spec.key}"

    def check_there(self) -> None:
        """Look whether the folder is still there.

        Raises:
            StoreError: It was deleted or moved away after `create`.
        """
        if not (self.path / "schema.json").is_file():
            raise StoreError(
                f"{self.path} is gone: it was deleted or moved while runs were under way; put it "
                "back, or give the same command again to begin anew"
            )

    def remake(self, spec: RunSpec, attempt: Path) -> None:
        """Make the folder of an attempt anew that was deleted while it ran, as one that failed.

        Raises:
            StoreError: The whole folder is gone.
        """
        self.check_there()
        attempt.mkdir(parents=True, exist_ok=True)
        folder = RunDir(attempt)
        folder.write_json(SPEC, spec.to_json())
        folder.write_error("exception", "files of this run were deleted while it was under way")

    def commit(self, spec: RunSpec, attempt: Path) -> Path:
        """Rename an attempt into place, whole or not at all, and return where it is.

        An earlier run of the same key gives way only when the new one is on disk.
        """
        placed = self._place(self.folder_of(spec).name, spec.key, attempt)
        self.attempts.ended(attempt)
        return placed

    def adopt(self, run: Stored) -> Path:
        """Copy a committed run of another results folder into place, whole or not at all.

        Raises:
            StoreError: It holds something other than files, or cannot be copied.
        """
        attempt = self.path / RUNNING / f"{run.key}.adopted"
        try:
            delete(attempt)
            attempt.mkdir(parents=True)
            for file in run.path.iterdir():
                if file.is_symlink() or not file.is_file():
                    raise StoreError(f"{file} is no file: a run's folder holds nothing else")
                shutil.copy2(file, attempt / file.name)
            return self._place(run.path.name, run.key, attempt)
        except OSError as error:
            raise StoreError(f"cannot copy {run.path} to {self.path}: {error.strerror}") from None

    def has_checkpoint(self, key: str) -> bool:
        """Whether an attempt at a run has something to go on from."""
        return any(has_checkpoints(path) for path in (self.path / RUNNING).glob(f"{key}.*"))

    def unfinished(self) -> list[str]:
        """Return the keys of attempts that were cut off; call it while no driver runs."""
        found = (self.path / RUNNING).glob("*") if self.path.exists() else ()
        return sorted({path.name.partition(".")[0] for path in found})

    def _place(self, name: str, key: str, attempt: Path) -> Path:
        target = self.path / name
        for file in attempt.iterdir():
            sync(file)
        sync(attempt)
        old = self._of(key)
        for number, path in enumerate(old):
            rename(path, self.path / RUNNING / f"{key}.replaced{number}.{os.getpid()}")
        rename(attempt, target)
        self._named[key] = {name}
        self._listed = self.path.stat().st_mtime_ns
        sync(self.path)
        for number in range(len(old)):
            gone = self.path / RUNNING / f"{key}.replaced{number}.{os.getpid()}"
            delete(gone)
        return target

    def discard(self, attempt: Path) -> None:
        """Delete an attempt that came to nothing."""
        self.attempts.ended(attempt)
        delete(attempt)

    def set_aside(self, attempt: Path) -> None:
        """Keep what the next attempt can go on from; delete the rest."""
        self.attempts.set_aside(attempt)


def unwritable(path: Path, error: OSError) -> StoreError:
    """Return what to tell of a folder that cannot be written."""
    reason = error.strerror or str(error)
    if error.errno in NO_SPACE:
        reason += "; free some, and give the same command again: it goes on from there"
    return StoreError(f"cannot write to {path}: {reason}")


def read_json(path: str | Path) -> dict[str, Any]:
    """Return a JSON file of a results folder.

    Raises:
        StoreError: It is missing or torn, or holds something other than a mapping.
    """
    try:
        value = from_json(read_bytes(path))
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise StoreError(f"{path} cannot be read: {error}") from None
    if not isinstance(value, dict):
        raise StoreError(f"{path} cannot be read: it holds no mapping")
    return value
