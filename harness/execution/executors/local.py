"""Runs in local slots: per slot one spawned, warm process and one duplex pipe.

Nothing is shared between slots, large data goes by file, and a pipe that ends means that what ran
there died: the slot is started anew, no other slot notices. Where several runs took turns in the
slot, each is tried again by itself, so that the one at fault is found and the others are not
blamed. A slot ends by itself when the driver does.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import types
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from harness.execution.executors.resources import Layout
from harness.execution.executors.slot import work
from harness.execution.executors.wire import decode, encode
from harness.execution.runner import Finished, Job, Judge, Message, Progressed
from harness.training.rundir import RunDir

_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass
class _Slot:
    """One process, our end of its pipe, and the jobs it is at.

    Attributes:
        gpu: The GPU it sees, or None.
        suspects: Jobs of a process that died, to be tried again one at a time.
        alone: Whether the job it is at must not be joined by others.
    """

    number: int
    gpu: str | None
    process: Any
    pipe: Connection
    jobs: dict[str, Job] = field(default_factory=dict)
    suspects: deque[Job] = field(default_factory=deque)
    alone: bool = False

    def room(self, lanes: int) -> int:
        """How many more jobs it can take."""
        if self.jobs and (self.alone or self.suspects):
            return 0
        return 1 if self.suspects else lanes - len(self.jobs)

    def send(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # a dead slot is noticed when its pipe is read
            self.pipe.send_bytes(encode(message))

    def end(self) -> None:
        self.pipe.close()
        self.process.kill()  # it owns nothing but attempts, which the driver deletes
        self.process.join()


class Local:
    """Executes jobs in slots of this machine; the slots start, and warm up, at once.

    Args:
        layout: How runs share the machine.
        keep_weights: Whether runs write their weights.
    """

    def __init__(self, layout: Layout, keep_weights: bool = True) -> None:
        self.slots = layout.at_a_time
        self._layout = layout
        self._keep_weights = keep_weights
        self._slots = [_spawn(number, gpu) for number, gpu in enumerate(layout.gpus)]

    def close(self) -> None:
        """End the slots, whatever they are doing."""
        for slot in self._slots:
            slot.end()
        self._slots = []

    def execute(
        self, jobs: Iterator[Job], judge: Judge | None = None
    ) -> Iterator[tuple[Job, Message]]:
        """Pull jobs as slots become free; yield what happens; end when all have finished."""
        try:
            for _ in range(self._layout.lanes):
                for slot in list(self._slots):
                    self._fill(slot, jobs, judge, most=1)
            while busy := {slot.pipe: slot for slot in self._slots if slot.jobs}:
                for pipe in wait(list(busy)):
                    slot = busy[pipe]  # type: ignore[index]
                    yield from self._hear(slot, judge)
                    self._fill(self._slots[slot.number], jobs, judge)
        finally:
            self.close()

    def _hear(self, slot: _Slot, judge: Judge | None) -> Iterator[tuple[Job, Message]]:
        try:
            said = decode(slot.pipe.recv_bytes())
        except (EOFError, OSError):
            yield from self._replace(slot)
            return
        job = slot.jobs[said["key"]]
        if "finished" in said:
            del slot.jobs[said["key"]]
            yield job, Finished(said["finished"])
            return
        progressed = Progressed(said["step"], said["steps"], said["values"])
        if judge is not None and progressed.values:
            slot.send({"stop": judge(job.spec, progressed)})
        yield job, progressed

    def _replace(self, slot: _Slot) -> Iterator[tuple[Job, Message]]:
        """Start a slot anew whose process died; whoever was alone in it has failed."""
        slot.end()
        fresh = self._slots[slot.number] = _spawn(slot.number, slot.gpu)
        fresh.suspects = slot.suspects
        if len(slot.jobs) > 1:
            for job in slot.jobs.values():
                _clear(job.attempt)
            fresh.suspects.extend(slot.jobs.values())
            return
        for job in slot.jobs.values():
            _write_death(job, slot.process.exitcode)
            yield job, Finished("failed")

    def _fill(
        self, slot: _Slot, jobs: Iterator[Job], judge: Judge | None, most: int | None = None
    ) -> None:
        """Hand jobs to a slot that has room, or to a new one where that died while it was idle."""
        for _ in range(min(slot.room(self._layout.lanes), most or self._layout.lanes)):
            suspected = bool(slot.suspects)
            job = slot.suspects.popleft() if suspected else next(jobs, None)
            if job is None:
                return
            if not slot.jobs and not slot.process.is_alive():
                slot.end()
                suspects = slot.suspects
                slot = self._slots[slot.number] = _spawn(slot.number, slot.gpu)
                slot.suspects = suspects
            slot.alone = suspected
            slot.jobs[job.spec.key] = job
            slot.send(
                {
                    "spec": job.spec.to_json(),
                    "attempt": str(job.attempt),
                    "device": self._layout.device,
                    "keep_weights": self._keep_weights,
                    "workers": self._layout.workers,
                    "judged": judge is not None,
                }
            )


def _spawn(number: int, gpu: str | None) -> _Slot:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=True)
    process = context.Process(target=work, args=(theirs,), name=f"slot-{number}", daemon=True)
    # libraries read these as they load
    settings = dict.fromkeys(_ONE_THREAD, "1")
    if gpu is not None:
        settings["CUDA_VISIBLE_DEVICES"] = gpu
    before = {name: os.environ.get(name) for name in settings}
    main = sys.modules["__main__"]
    # A slot has no use for the script that called us; importing it again would run it again.
    sys.modules["__main__"] = types.ModuleType("__main__")
    os.environ.update(settings)
    try:
        process.start()
    finally:
        sys.modules["__main__"] = main
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    theirs.close()
    return _Slot(number, gpu, process, ours)


def _clear(attempt: Path) -> None:
    """Delete what an attempt has written, but for what it is an attempt at."""
    for file in attempt.iterdir():
        if file.name != "spec.json":
            file.unlink()


def _write_death(job: Job, exitcode: int | None) -> None:
    """Say of a run whose process ended that it did, and how."""
    how = f"exit code {exitcode}"
    if exitcode is not None and exitcode < 0:
        with contextlib.suppress(ValueError):
            how = signal.Signals(-exitcode).name
    hint = "; the system may have been out of memory" if how == "SIGKILL" else ""
    for name in ("result.json", "error.json"):
        (job.attempt / name).unlink(missing_ok=True)
    folder, message = RunDir(job.attempt), f"the process of this run ended with {how}{hint}"
    folder.log(message)
    folder.write_error("killed", message)
