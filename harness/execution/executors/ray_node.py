"""What happens on a node of a Ray cluster: a look at the data, and runs.

What comes and goes is bytes, JSON first. A run writes to a folder of its node; its files travel
back to the driver, which alone writes results.
"""

import asyncio
import math
import os
import socket
import time
from collections import defaultdict
from collections.abc import Generator, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from harness import scratch
from harness.cache import VARIABLE as CACHE
from harness.datasets.base import forget
from harness.errors import ConfigError, DataError, HarnessError
from harness.execution.executors.messages import decode, encode, message_of
from harness.execution.executors.slot import TELL_SECONDS, Lane
from harness.experiment.spec import RunSpec
from harness.text import named_error
from harness.training.events import Command, Waiting
from harness.training.rundir import RunDir

_CHUNK = 32 * 1024 * 1024
_IDLE_SECONDS = 0.0005
_ASK_SECONDS = 1.0

_SESSION: list[str] = []
"""The driver that this process last worked for; a process outlives them where they share a job."""


def version() -> str:
    """Return the version of the harness that is installed here."""
    return metadata.version("imbalance-harness")


class Verdicts:
    """An actor through which runs hear from the driver: what a judge says, and to halt."""

    def __init__(self) -> None:
        self._queues: dict[str, asyncio.Queue[bool]] = defaultdict(asyncio.Queue)
        self._halting = False

    async def halt(self) -> None:
        """Have every run write a checkpoint and end."""
        self._halting = True

    async def halting(self) -> bool:
        """Return whether that was asked for."""
        return self._halting

    async def give(self, run: str, stop: bool) -> None:
        """Answer a run: whether it is to stop."""
        await self._queues[run].put(stop)

    async def take(self, run: str) -> bool:
        """Wait for the answer to a run."""
        return await self._queues[run].get()


def check(order: bytes) -> str:
    """Return why runs like this one cannot be trained on this node, or nothing."""
    said = decode(order)
    try:
        _enter(said)
        spec = RunSpec.from_json(said["spec"])
        content = spec.dataset.indexed().content
        if content != spec.content:
            raise DataError(
                f"dataset '{spec.dataset_label}' {_place(spec)}has another content than on the "
                "machine that planned the runs"
            )
    except HarnessError as error:
        return str(error)
    except Exception as error:  # of a plugin
        return named_error(error)
    return ""


def train(order: bytes, files: dict[str, bytes], verdicts: Any) -> Iterator[bytes]:
    """Train a run; yield where it is, how far it is, its files, and how it ended.

    Args:
        order: The run and how to train it.
        files: Checkpoints to go on from.
        verdicts: The actor that tells whether to stop or to halt.
    """
    said = decode(order)
    yield encode({"node": socket.gethostname()})
    with scratch.folder() as attempt:
        for name, content in files.items():
            (attempt / name).write_bytes(content)
        try:
            _enter(said)
            status = yield from _train({**said, "attempt": str(attempt)}, verdicts)
        except ConfigError as error:
            RunDir(attempt).write_error("input", str(error), error)
            status = "failed"
        for file in sorted(attempt.iterdir()):
            if file.name != "spec.json":
                yield from _chunks(file)
    yield encode({"finished": status})


def _train(order: dict[str, Any], verdicts: Any) -> Generator[bytes, None, str]:
    import ray

    lane = Lane(order)
    asked = -math.inf
    while True:
        if time.monotonic() - asked >= _ASK_SECONDS:
            asked = time.monotonic()
            if ray.get(verdicts.halting.remote()):
                lane.command = Command.HALT
                if not lane.begun:  # there is nothing to write, and nobody to hear it
                    return "interrupted"
        if isinstance(event := lane.advance(), str):
            return event
        if isinstance(event, Waiting):
            time.sleep(_IDLE_SECONDS)
            continue
        told = message_of(event)
        now = time.monotonic()
        if told.values or now - lane.told >= TELL_SECONDS:
            lane.told = now
            yield encode(vars(told))
            if told.values and lane.judged:
                stop = ray.get(verdicts.take.remote(order["run"]))
                lane.command = Command.STOP if stop else None


def _chunks(file: Path) -> Iterator[bytes]:
    """Yield a file in parts that fit into memory, each after a line that names it."""
    with open(file, "rb") as content:
        place = 0
        while True:
            block = content.read(_CHUNK)
            if place and not block:
                return
            yield encode({"file": file.name, "at": place}) + b"\n" + block
            place += len(block)
            if not block:
                return


def _enter(order: dict[str, Any]) -> None:
    """Go where the driver is, so that paths mean the same, and check that we are alike.

    Raises:
        ConfigError: The folder is not here, or another version of the harness is.
    """
    if order["version"] != version():
        raise ConfigError(
            f"version {version()} of the harness is installed here, and the command was "
            f"given with {order['version']}"
        )
    try:
        os.chdir(order["folder"])
    except OSError as error:
        raise ConfigError(
            f"{order['folder']}, the folder the command was given in, is not here: "
            f"{error.strerror}; plugins and relative paths are looked up from there"
        ) from None
    if "cache" in order:
        os.environ[CACHE] = order["cache"]
    if _SESSION and _SESSION[-1] != order["session"]:
        forget()  # files may have changed since this process last looked
    _SESSION[:] = [order["session"]]


def _place(spec: RunSpec) -> str:
    """Return where a dataset lies, as its fields say."""
    fields = spec.dataset.config()
    found = [str(Path(str(fields[name])).absolute()) for name in ("path", "file") if name in fields]
    return f"({', '.join(found)}) " if found else ""
