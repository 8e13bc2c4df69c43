"""The folder of a committed run as an object: what it came to, read once, and whether it is whole.

Every reader goes through `read_run`. It reads ``result.json`` (or ``error.json``) and looks at the
sizes and times of the other files; each of those is read when it is asked for, and compared with
its digest then. A run that is not as it was written is a `DamagedRunError`, whatever happened to
it: nothing of it counts until it is done again. Nothing that is no regular file is ever opened.
"""

import contextlib
import csv
import functools
import hashlib
import io
import os
import re
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic_core import CoreSchema, SchemaValidator, ValidationError, core_schema, from_json

from harness.errors import HarnessError, StoreError
from harness.experiment.spec import RunSpec
from harness.files import kind_of, read_bytes
from harness.text import csv_text
from harness.training.run_status import FAILURES, RunStatus
from harness.training.rundir import (
    CONFUSION,
    ENV,
    ERROR,
    HISTORY,
    PER_CLASS,
    PREDICTIONS,
    RESULT,
    SCHEMA,
    SPEC,
    digest_of,
    is_sealed,
)

AGAIN = "--retry-failed does the run again"
"""What helps a damaged run."""

_KEYED = re.compile(r"-([0-9a-f]{12})$")

_OUTCOMES = {
    RunStatus.DONE: "",
    RunStatus.DIVERGED: "the loss is not finite",
    RunStatus.STOPPED: "it was stopped early",
}


class DamagedRunError(StoreError):
    """A run's folder is not as it was written.

    Args:
        folder: The run's.
        what: Which file, and what is wrong with it.

    Attributes:
        what: As given.
        short: The same with the name of the folder, for readers who have another machine.
    """

    def __init__(self, folder: str | Path, what: str) -> None:
        super().__init__(f"{folder} is damaged: {what}; {AGAIN}")
        self.what = what
        self.short = f"{Path(folder).name}/{what}"


_NUMBER = core_schema.union_schema([core_schema.int_schema(), core_schema.float_schema()])
_VALUES = core_schema.dict_schema(core_schema.str_schema(), core_schema.nullable_schema(_NUMBER))
_NAMES = core_schema.list_schema(core_schema.str_schema())


def _mapping(needed: Mapping[str, CoreSchema], more: Mapping[str, CoreSchema]) -> CoreSchema:
    """Return the type of a mapping that may hold more than what it must hold."""
    fields = {name: core_schema.typed_dict_field(kind) for name, kind in needed.items()}
    fields |= {
        name: core_schema.typed_dict_field(kind, required=False) for name, kind in more.items()
    }
    return core_schema.typed_dict_schema(fields, extra_behavior="allow")


_RESULT = SchemaValidator(
    _mapping(
        {
            "status": core_schema.str_schema(),
            "metrics": core_schema.dict_schema(core_schema.str_schema(), _VALUES),
            "cost": _VALUES,
        },
        {
            "notes": _NAMES,
            "device": _mapping(
                {"name": core_schema.str_schema(), "precision": core_schema.str_schema()}, {}
            ),
            "schema": core_schema.int_schema(),
            "key": core_schema.str_schema(),
            "steps": core_schema.int_schema(),
            "class_names": _NAMES,
            "train_counts": core_schema.list_schema(core_schema.int_schema()),
            "row_digests": core_schema.dict_schema(core_schema.str_schema()),
            "files": core_schema.dict_schema(
                core_schema.str_schema(),
                core_schema.tuple_schema([core_schema.int_schema(), core_schema.str_schema()]),
            ),
            "digest": core_schema.str_schema(),
        },
    )
)
"""What ``result.json`` must hold, as the right types."""


class RunResult:
    """What a committed run left on disk.

    Attributes:
        folder: Its folder.
        key: Its key.
        status: How it ended.
        message: Why it is not done, or empty.
        digest: Twelve digits of what it came to: another attempt has others.
        values: ``result.json``, or empty where it failed.
    """

    def __init__(
        self,
        folder: str,
        key: str,
        status: RunStatus,
        message: str,
        digest: str,
        values: Mapping[str, Any],
    ) -> None:
        self.folder = folder
        self.key = key
        self.status = status
        self.message = message
        self.digest = digest
        self.values = values

    @property
    def reason(self) -> str:
        """Why it is not done, in one line, or empty."""
        return self.message.split("\n")[0]

    @property
    def ended(self) -> float:
        """When it ended, in seconds since the epoch."""
        name = ERROR if self.status in FAILURES else RESULT
        return os.stat(f"{self.folder}/{name}").st_mtime

    def metric(self, split: str, name: str) -> float | None:
        """Return a metric of a split, None where it is undefined or the run has none."""
        value: float | None = self.values.get("metrics", {}).get(split, {}).get(name)
        return value

    def spec_values(self) -> dict[str, Any]:
        """Return ``spec.json``.

        Raises:
            DamagedRunError: It is damaged, or of another run.
        """
        found = _json(self.folder, SPEC, self._content(SPEC))
        if found.get("key") != self.key:
            raise DamagedRunError(self.folder, f"{SPEC} is of another run")
        return found

    def spec(self) -> RunSpec:
        """Return what was run.

        Raises:
            DamagedRunError: It is damaged, or of another run.
            HarnessError: It cannot be made here: a plugin is gone, or has changed since.
        """
        values = self.spec_values()
        try:
            spec = RunSpec.from_json(values)
        except (ValidationError, HarnessError) as error:
            first = str(error).split("\n")[0]
            raise StoreError(f"{self.folder}: {SPEC} cannot be used here: {first}") from None
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise DamagedRunError(self.folder, f"{SPEC}: {error!r}") from None
        # with a digest that was looked at; a plugin or a file of weights may have changed since
        fixed = not spec.plugins and spec.model.weights is None
        known = SPEC in self.values.get("files", {})
        same = values.get("versions") == spec.versions()
        if fixed and same and not known and spec.key != self.key:
            raise DamagedRunError(self.folder, f"{SPEC} was changed after it was written")
        return spec

    def history(self) -> list[dict[str, str]]:
        """Return the rows of ``history.csv``, one per evaluation.

        Raises:
            DamagedRunError: It is damaged.
        """
        return self._rows(HISTORY, ("step",))

    def per_class(self, split: str = "test") -> list[dict[str, str]]:
        """Return the rows of ``per_class.csv`` of a split, one per class.

        Raises:
            DamagedRunError: It is damaged.
        """
        needed = ("split", "class", "name", "train_count", "support")
        rows = [
            row | {"name": csv_text(row["name"])}
            for row in self._rows(PER_CLASS, needed)
            if row["split"] == split
        ]
        names = self.values.get("class_names")
        if names is not None and [row["name"] for row in rows] != names:
            raise DamagedRunError(self.folder, f"{PER_CLASS} has other classes than {RESULT}")
        return rows

    def confusion(self) -> tuple[list[str], NDArray[np.int64]]:
        """Return class names and the confusion matrix of test, ``int64[C, C]``.

        Raises:
            DamagedRunError: It is damaged.
        """
        rows = self._csv(CONFUSION)
        try:
            (_, *names), *cells = rows
            matrix = np.array([[int(cell) for cell in row[1:]] for row in cells], np.int64)
        except ValueError as error:
            raise DamagedRunError(self.folder, f"{CONFUSION}: {error}") from None
        if matrix.shape != (len(names), len(names)):
            raise DamagedRunError(self.folder, f"{CONFUSION} is not square")
        return [csv_text(name) for name in names], matrix

    def splits(self) -> set[str]:
        """Return the splits that it has predictions of, from the names in their file.

        Raises:
            DamagedRunError: They are damaged.
        """
        try:
            with zipfile.ZipFile(io.BytesIO(self._content(PREDICTIONS))) as stored:
                names = [name.removesuffix(".npy") for name in stored.namelist()]
        except zipfile.BadZipFile as error:
            raise DamagedRunError(self.folder, f"{PREDICTIONS}: {error}") from None
        return {name.removesuffix("_labels") for name in names if name.endswith("_labels")}

    def predictions(self, split: str = "test", ids: bool = True) -> dict[str, NDArray[Any]]:
        """Return ``probabilities``, ``labels``, ``rows`` and perhaps ``groups`` and ``ids``.

        Args:
            split: ``val`` or ``test``.
            ids: Whether to read the ids, which are long texts in some data sets.

        Raises:
            DamagedRunError: They are damaged.
        """
        content = self._content(PREDICTIONS)
        start = f"{split}_"
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as stored:
                found = {
                    name.removeprefix(start): stored[name]
                    for name in stored.files
                    if name.startswith(start) and (ids or name != f"{start}ids")
                }
        except Exception as error:  # zipfile and zlib have errors of their own, without a base
            # of a file that is no archive NumPy says how to load it unsafely
            why = "" if isinstance(error, ValueError) else f": {error}"
            raise DamagedRunError(self.folder, f"{PREDICTIONS} cannot be read{why}") from None
        if missing := {"probabilities", "labels", "rows"} - found.keys():
            what = f"{PREDICTIONS} has no {split} {', '.join(sorted(missing))}"
            raise DamagedRunError(self.folder, what)
        if what := self._misfit(found, split):
            raise DamagedRunError(self.folder, f"{PREDICTIONS} {what}")
        return found

    def _misfit(self, found: Mapping[str, NDArray[Any]], split: str) -> str:
        """Return what of the predictions does not fit the result, or an empty string."""
        shape, labels = found["probabilities"].shape, found["labels"]
        said = self.values.get("metrics", {}).get(split, {}).get("n")
        names = self.values.get("class_names")
        classes = shape[1] if names is None and len(shape) == 2 else len(names or ())
        count = len(labels) if said is None else said
        if shape != (count, classes):
            return f"hold {list(shape)} probabilities and not {[count, classes]}"
        if any(len(array) != count for array in found.values()):
            return "hold arrays of different lengths"
        if count and not (labels.min() >= 0 and labels.max() < classes):
            return "hold labels of no class"
        return ""

    def env(self) -> dict[str, Any]:
        """Return ``env.json``: the versions and the machine that made the run.

        Raises:
            DamagedRunError: It is damaged.
        """
        return _json(self.folder, ENV, self._content(ENV))

    def sizes(self) -> dict[str, int]:
        """Return the bytes of every file of its folder, by name."""
        return {entry.name: entry.stat().st_size for entry in os.scandir(self.folder)}

    def check(self) -> None:
        """Look whether every file is there and has the size it was written with, unread.

        A file that is younger than the result was touched since, and is read.

        Raises:
            DamagedRunError: One is missing, or is not as it was written.
        """
        listed: Mapping[str, Any] | None = self.values.get("files")
        if listed is None:  # of a version that kept none: each is named by who reads it
            return
        written = os.stat(f"{self.folder}/{RESULT}").st_mtime_ns
        for name in listed:
            try:
                found = os.stat(f"{self.folder}/{name}")
            except OSError:
                raise DamagedRunError(self.folder, f"{name} is missing") from None
            if not stat.S_ISREG(found.st_mode):
                raise DamagedRunError(self.folder, f"{name} is {kind_of(found.st_mode)}")
            if found.st_size != listed[name][0]:
                raise DamagedRunError(self.folder, _resized(name, found.st_size, listed))
            if found.st_mtime_ns > written:
                self._content(name)

    def _content(self, name: str) -> bytes:
        """Return what is in a file, as it was written."""
        try:
            content = read_bytes(f"{self.folder}/{name}")
        except FileNotFoundError:
            raise DamagedRunError(self.folder, f"{name} is missing") from None
        except OSError as error:
            what = f"{name} cannot be read: {error.strerror or error}"
            raise DamagedRunError(self.folder, what) from None
        listed = self.values.get("files", {})
        if name in listed:
            if len(content) != listed[name][0]:
                raise DamagedRunError(self.folder, _resized(name, len(content), listed))
            if digest_of(content) != listed[name][1]:
                what = f"{name} was changed after it was written"
                raise DamagedRunError(self.folder, what)
        return content

    def _csv(self, name: str) -> list[list[str]]:
        try:
            text = self._content(name).decode("utf-8")
            return list(csv.reader(io.StringIO(text, newline=""), strict=True))
        except (UnicodeDecodeError, csv.Error) as error:
            raise DamagedRunError(self.folder, f"{name}: {error}") from None

    def _rows(self, name: str, needed: tuple[str, ...]) -> list[dict[str, str]]:
        (header, *rows) = self._csv(name) or [[]]
        if missing := set(needed) - set(header):
            what = f"{name} has no column {', '.join(sorted(missing))}"
            raise DamagedRunError(self.folder, what)
        if any(len(row) != len(header) for row in rows):
            raise DamagedRunError(self.folder, f"{name} has a torn row")
        return [dict(zip(header, row, strict=True)) for row in rows]


def read_run(folder: str | Path) -> RunResult:
    """Return what a committed run came to; its other files are looked at and not read.

    Args:
        folder: The run's.

    Raises:
        DamagedRunError: It is not as it was written.
    """
    run = _of(str(folder))
    if run.status not in FAILURES:
        run.check()
    return run


def outcome_of(folder: str | Path) -> tuple[RunStatus, str]:
    """Return how a run ended and why it is not done, in one line; a damaged one is ``damaged``."""
    try:
        run = read_run(folder)
    except DamagedRunError as error:
        return RunStatus.DAMAGED, str(error)
    return run.status, run.reason


def recall_run(folder: str | Path) -> RunResult:
    """Return what `read_run` does for a reader of single files, which are looked at one by one.

    What was read not long ago is not read again.

    Raises:
        DamagedRunError: It is not as it was written.
    """
    try:
        found = os.stat(f"{folder}/{RESULT}")
    except OSError:
        return _of(str(folder))
    return _remembered(str(folder), found.st_ino, found.st_mtime_ns, found.st_size)


@functools.lru_cache(maxsize=2048)
def _remembered(folder: str, *_: int) -> RunResult:
    return _of(folder)


def _of(folder: str) -> RunResult:
    """Return a run by its result or its error alone."""
    name = RESULT
    try:
        content = read_bytes(f"{folder}/{RESULT}")
    except FileNotFoundError:
        name, content = ERROR, _error_content(folder)
    except OSError as error:
        what = f"{RESULT} cannot be read: {error.strerror or error}"
        raise DamagedRunError(folder, what) from None
    named = _KEYED.search(folder)
    digest = hashlib.sha256(content).hexdigest()[:12]
    if name == ERROR:
        said = _json(folder, ERROR, content)
        kind, message = said.get("kind"), said.get("message")
        if not isinstance(message, str):
            raise DamagedRunError(folder, f"{ERROR} has no message")
        status = RunStatus(kind) if kind in FAILURES else RunStatus.FAILED
        return RunResult(folder, named[1] if named else "", status, message.strip(), digest, {})
    values = _values(folder, content)
    key = values.get("key", "")
    if named is not None and key and key != named[1]:
        raise DamagedRunError(folder, f"{RESULT} is of another run, {key}")
    status = RunStatus(values["status"])
    return RunResult(folder, named[1] if named else key, status, _OUTCOMES[status], digest, values)


def _error_content(folder: str) -> bytes:
    try:
        return read_bytes(f"{folder}/{ERROR}")
    except FileNotFoundError:
        raise DamagedRunError(folder, f"it has neither {RESULT} nor {ERROR}") from None
    except OSError as error:
        what = f"{ERROR} cannot be read: {error.strerror or error}"
        raise DamagedRunError(folder, what) from None


def _values(folder: str, content: bytes) -> dict[str, Any]:
    try:
        values: dict[str, Any] = _RESULT.validate_json(content, strict=True)
    except ValidationError as error:
        with contextlib.suppress(ValueError):
            _check_schema(folder, from_json(content))
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        what = f"{RESULT}{place and f': {place}'}: {first['msg']}"
        raise DamagedRunError(folder, what) from None
    _check_schema(folder, values)
    if "digest" in values and not is_sealed(content, values["digest"]):
        raise DamagedRunError(folder, f"{RESULT} was changed after it was written")
    if values["status"] not in _OUTCOMES:
        raise DamagedRunError(folder, f"{RESULT} has no such status: {values['status']}")
    if values["status"] == RunStatus.DONE and "test" not in values["metrics"]:
        raise DamagedRunError(folder, f"{RESULT} has no metrics of test")
    if values["cost"].get("seconds") is None:
        raise DamagedRunError(folder, f"{RESULT} has no seconds")
    return values


def _check_schema(folder: str, values: Any) -> None:
    schema = values.get("schema", SCHEMA) if isinstance(values, dict) else SCHEMA
    if schema != SCHEMA:
        raise DamagedRunError(
            folder, f"{RESULT} is of schema {schema}, and this version reads {SCHEMA}"
        )


def _json(folder: str, name: str, content: bytes) -> dict[str, Any]:
    try:
        found = from_json(content)
    except ValueError as error:
        raise DamagedRunError(folder, f"{name}: {error}") from None
    if not isinstance(found, dict):
        raise DamagedRunError(folder, f"{name} is a {type(found).__name__} and no mapping")
    return found


def _resized(name: str, size: int, listed: Mapping[str, Any]) -> str:
    return f"{name} has {size:,} of {listed[name][0]:,} bytes"
