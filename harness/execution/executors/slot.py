"""The inside of a slot: a warm process that trains what its driver sends it.

On a GPU several runs take turns, each a generator that is asked for its next event; on a CPU there
is one at a time. What goes over the pipe is JSON.
"""

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Generator, Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from harness import scratch
from harness.errors import ConfigError
from harness.execution.executors.failure_files import whole
from harness.execution.executors.messages import decode, encode, message_of
from harness.execution.executors.processes import end_group, lead_group
from harness.text import named_error
from harness.training.events import Command, Event, Waiting
from harness.training.run_options import RunOptions
from harness.training.rundir import RunDir

TELL_SECONDS = 0.25
"""Shortest time between two messages that only say how far a run is."""

_IDLE_SECONDS = 0.0005


class Lane:
    """One run under way."""

    def __init__(self, order: dict[str, Any]) -> None:
        self.key: str = order["spec"]["key"]
        self.attempt = Path(order["attempt"])
        self.log = self.attempt / "log.txt"
        self.device: str = order["options"]["device"]
        self.judged: bool = order["judged"]
        self.told = 0.0
        self.begun = False
        self.command: Command | None = None
        with _output_to(self.log):
            self._events = _events(order)

    def advance(self) -> Event | str:
        """Return the next event, or the status of a run that has ended."""
        command, self.command, self.begun = self.command, None, True
        with _output_to(self.log):
            try:
                return self._events.send(command)
            except StopIteration as finished:
                return str(finished.value)


def _events(order: dict[str, Any]) -> Generator[Event, Command | None, str]:
    """Return the events of a run; none and ``failed`` where it cannot even be set up."""
    from harness.experiment.spec import RunSpec
    from harness.training.run import drain

    attempt = Path(order["attempt"])
    try:
        spec = RunSpec.from_json(order["spec"])
        if spec.key != order["spec"]["key"]:
            raise ConfigError(
                "a plugin or a file of weights has changed since this run was planned; run the "
                "experiment again"
            )
    except (Exception, SystemExit) as error:  # also a plugin that does not import here
        RunDir(attempt).write_error("exception", named_error(error), error)
        return _failed()
    return drain(spec, attempt, RunOptions(**order["options"]))


def _failed() -> Generator[Event, Command | None, str]:
    yield from ()
    return "failed"


class SlotServer:
    """What a slot has under way.

    Args:
        pipe: To the driver.
    """

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._lanes: dict[str, Lane] = {}
        self._halting = False

    def serve(self) -> None:
        """Train what the driver sends, until the pipe ends."""
        while True:
            while not self._lanes or self._pipe.poll():
                self._heed(decode(self._pipe.recv_bytes()))
            waiting = [self._advance(lane) for lane in list(self._lanes.values())]
            if all(waiting):
                time.sleep(_IDLE_SECONDS)

    def _heed(self, said: dict[str, Any]) -> None:
        if "spec" in said:
            self._send({"key": said["spec"]["key"], "begun": True})
            lane = Lane(said)
            self._lanes[lane.key] = lane
        elif "halt" in said:
            self._halting = True  # a verdict that comes after it is of no account

    def _advance(self, lane: Lane) -> bool:
        """Let a run do a stretch of steps; return whether all it could do was wait."""
        if self._halting:
            lane.command = Command.HALT
        # what was not begun needs no checkpoint, and could not hear the command
        event = "interrupted" if self._halting and not lane.begun else lane.advance()
        if isinstance(event, str):
            del self._lanes[lane.key]
            if self._is_over(event, lane.device) and whole(lane.attempt) is not None:
                os._exit(1)  # the driver starts another slot, and reads how this run ended
            self._send({"key": lane.key, "finished": event})
            return False
        if isinstance(event, Waiting):
            return True
        said = message_of(event)
        now = time.monotonic()
        if said.values or now - lane.told >= TELL_SECONDS:
            lane.told = now
            self._send({"key": lane.key, **vars(said)})
            if said.values and lane.judged:
                self._await_verdict(lane)
        return False

    def _is_over(self, ended: str, device: str) -> bool:
        """Whether runs had better be trained in another process."""
        from harness.training import device as devices

        if ended == "failed" and devices.is_lost(devices.choose(device)[0]):
            return True
        return devices.is_spoiled() and not self._lanes

    def _await_verdict(self, lane: Lane) -> None:
        while True:
            said = decode(self._pipe.recv_bytes())
            if "stop" in said:
                lane.command = Command.STOP if said["stop"] else None
                return
            self._heed(said)
            if self._halting:
                return

    def _send(self, message: dict[str, Any]) -> None:
        self._pipe.send_bytes(encode(message))


def work(pipe: Connection) -> None:
    """Be a slot."""
    for number in (signal.SIGINT, signal.SIGTERM):  # they reach the driver, which decides
        signal.signal(number, signal.SIG_IGN)  # what prepares images for us inherits this
    lead_group()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import harness.training.run  # noqa: F401  (torch, while the driver is at something else)

    with contextlib.suppress(EOFError, OSError):
        SlotServer(pipe).serve()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
    scratch.drop_all()
    end_group(os.getpid())
    os._exit(1)


@contextlib.contextmanager
def _output_to(path: Path) -> Iterator[None]:
    """Send what this process prints, C libraries included, to the log of its run."""
    # whose folder may have been deleted
    with open(path if path.parent.is_dir() else os.devnull, "ab") as log:
        saved = [os.dup(1), os.dup(2)]
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        try:
            yield
        finally:
            for target, source in enumerate(saved, start=1):
                os.dup2(source, target)
                os.close(source)
