"""Results folders brought together, such as those of the shards of one experiment.

Runs are copied whole; what is there already stays. Two folders that have a run of the same key
must agree on it: its figures, tables and predictions are compared, not what it cost, where it was
trained or what it printed. All is checked before anything is copied.
"""

import contextlib
import csv
import io
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import StoreError, counted, listing
from harness.execution.store import Store, Stored
from harness.files import read_bytes
from harness.training.run_result import DamagedRunError, read_run
from harness.training.rundir import CONFUSION, HISTORY, PER_CLASS, PREDICTIONS, RESULT

NOT_COMPARED = ("cost", "device", "notes", "files", "digest")
"""Keys of ``result.json`` in which two trainings of one run may differ."""

TIMED = "images_per_second"
"""The column of ``history.csv`` that is not compared."""

COMPARED = (HISTORY, PER_CLASS, CONFUSION, PREDICTIONS)


@dataclass(frozen=True)
class Merged:
    """What became of one experiment.

    Attributes:
        experiment: Its name.
        copied: Runs that were copied.
        known: Runs that were there already, the same.
        failed: Runs that are not done in any of the folders.
    """

    experiment: str
    copied: int
    known: int
    failed: int


def merge(target: Path, folders: Sequence[Path], unfinished: bool = False) -> tuple[Merged, ...]:
    """Copy the runs of results folders to another one.

    A run that failed in one folder and is done in another is done.

    Args:
        target: A results folder, made if need be.
        folders: Results folders, which stay as they are.
        unfinished: Also take folders in which attempts were cut off; these are left behind.

    Raises:
        StoreError: A folder is none, is in use or has attempts cut off, or two folders have
            different results of one run. Nothing was copied.
    """
    target = target.expanduser().absolute()
    sources = [folder.expanduser().absolute() for folder in folders]
    for number, folder in enumerate(sources):
        _check_folder(folder, target, sources[:number])
    with contextlib.ExitStack() as stack:
        for folder in sources:
            for name in _experiments(folder):
                if os.access(folder / name, os.W_OK):  # to a read-only one no driver writes
                    stack.enter_context(Store(folder, name).locked())
        names = sorted({name for folder in sources for name in _experiments(folder)})
        for name in names:
            stack.enter_context(Store(target, name).locked())
        chosen = {
            name: _choose(Store(target, name), [Store(folder, name) for folder in sources])
            for name in names
        }
        if not unfinished:
            _refuse_unfinished([Store(folder, name) for folder in sources for name in names])
        return tuple(_copy(Store(target, name), runs) for name, runs in chosen.items())


def _check_folder(folder: Path, target: Path, before: Sequence[Path]) -> None:
    if not folder.is_dir():
        raise StoreError(f"{folder}: there is no such results folder")
    if folder.resolve() in (target.resolve(), *(other.resolve() for other in before)):
        raise StoreError(f"{folder} is named twice; name each results folder once")
    if not _experiments(folder):
        raise StoreError(
            f"{folder} is no results folder: it holds no experiment (name the folder that was "
            "given as --results)"
        )


def _experiments(folder: Path) -> list[str]:
    return sorted(path.parent.name for path in folder.glob("*/schema.json"))


def _refuse_unfinished(stores: Sequence[Store]) -> None:
    left = {store: store.unfinished() for store in stores}
    cut = [f"{store.path} ({counted(len(keys), 'run')})" for store, keys in left.items() if keys]
    if cut:
        raise StoreError(
            f"attempts were cut off in {listing(cut)}: give the command of that shard again and it "
            "goes on, or leave them behind: --unfinished"
        )


def _choose(target: Store, sources: Sequence[Store]) -> dict[str, tuple[Stored, Store]]:
    """Return by key which run to have and the store it is in, after comparing all there are."""
    chosen: dict[str, tuple[Stored, Store]] = {}
    problems: list[str] = []
    damaged: list[str] = []
    for store in (target, *sources):
        for key, run in store.runs().items():
            try:
                read_run(run.path).spec_values()
            except DamagedRunError as error:
                damaged.append(f"{run.path} is damaged: {error.what}")
                continue
            known = chosen.get(key)
            if known is None or (known[0].failed and not run.failed):
                chosen[key] = (run, store)
            elif not run.failed and (what := _difference(known[0].path, run.path)) is not None:
                problems.append(f"{known[0].path}\n  {run.path}\n  differ in {what}")
    if damaged:
        raise StoreError(
            f"{counted(len(damaged), 'run is', 'runs are')} not as written; delete each folder, or "
            "do the run again where it was made, with --retry-failed:\n  "
            + "\n  ".join(damaged[:5])
        )
    if problems:
        raise StoreError(
            f"{counted(len(problems), 'run has', 'runs have')} two different results; keep one of "
            "each and delete the other folder (runs on a GPU need not repeat bit by bit):\n  "
            + "\n  ".join(problems[:5])
        )
    return chosen


def _copy(target: Store, runs: Mapping[str, tuple[Stored, Store]]) -> Merged:
    target.create()
    new = [run for run, store in runs.values() if store.path != target.path]
    for run in new:
        target.adopt(run)
    failed = sum(run.failed for run, _ in runs.values())
    return Merged(target.path.name, len(new), len(runs) - len(new), failed)


def _difference(first: Path, second: Path) -> str | None:
    """Return in which file two results of one run differ, or None."""
    if _compared(first) != _compared(second):
        return RESULT
    return next((name for name in COMPARED if not _same(first / name, second / name)), None)


def _compared(path: Path) -> dict[str, Any]:
    result = read_run(path).values
    return {name: value for name, value in result.items() if name not in NOT_COMPARED}


def _same(first: Path, second: Path) -> bool:
    if first.exists() != second.exists():
        return False
    if not first.exists():
        return True
    try:
        left, right = read_bytes(first), read_bytes(second)
        if first.name == HISTORY:
            return _untimed(left) == _untimed(right)
        if first.suffix != ".npz":
            return left == right
        # compressed by another version of a library, the same arrays are other bytes
        with (
            np.load(io.BytesIO(left), allow_pickle=False) as one,
            np.load(io.BytesIO(right), allow_pickle=False) as other,
        ):
            return sorted(one.files) == sorted(other.files) and all(
                _same_array(one[name], other[name]) for name in one.files
            )
    except (OSError, ValueError, EOFError, csv.Error, zipfile.BadZipFile) as error:
        raise StoreError(f"{first} or {second} cannot be read: {error}") from None


def _untimed(content: bytes) -> list[dict[str, str]]:
    rows = csv.DictReader(io.StringIO(content.decode(), newline=""))
    return [{name: cell for name, cell in row.items() if name != TIMED} for row in rows]


def _same_array(left: NDArray[Any], right: NDArray[Any]) -> bool:
    alike = left.dtype == right.dtype and left.shape == right.shape
    return alike and left.tobytes() == right.tobytes()
