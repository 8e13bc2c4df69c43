"""The driver's side of one slot: its process, its pipe, and the jobs it is at."""

import contextlib
import multiprocessing
import os
import sys
import time
import types
from collections import deque
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any

from harness import scratch
from harness.execution.executors.messages import encode
from harness.execution.executors.processes import end_group
from harness.execution.executors.slot import work
from harness.execution.runner import Job

_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

KEPT_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**33),
}
"""Has glibc give the memory of one batch to the next; by default the system takes large pieces back
and clears new ones page by page, which at 224 pixels costs more than the augmentation."""


@dataclass
class SlotHandle:
    """One process, our end of its pipe, and the jobs it is at.

    Attributes:
        gpu: The GPU it sees, or None.
        jobs: By key.
        begun: When each was begun, on `time.monotonic`'s clock.
        suspects: Jobs of a process that died, to be tried again one at a time.
        alone: Whether the job it is at must not be joined by others.
    """

    number: int
    gpu: str | None
    process: Any
    pipe: Connection
    jobs: dict[str, Job] = field(default_factory=dict)
    begun: dict[str, float] = field(default_factory=dict)
    suspects: deque[Job] = field(default_factory=deque)
    alone: bool = False

    def room(self, lanes: int) -> int:
        """Return how many more jobs it can take."""
        if self.jobs and (self.alone or self.suspects):
            return 0
        return 1 if self.suspects else lanes - len(self.jobs)

    def died(self) -> bool:
        """Whether its process has; who asks leaves it to be waited for."""
        return bool(wait([self.process.sentinel], 0))

    def hand(self, job: Job, order: dict[str, Any]) -> None:
        """Give it a job; its clock starts when the process, warmed up, says that it has it."""
        self.jobs[job.spec.key] = job
        self.send(order)

    def take(self, key: str) -> Job:
        """Return a job that has ended there."""
        self.begun.pop(key, None)
        return self.jobs.pop(key)

    def overdue(self, timeout: float) -> bool:
        """Whether a job has been there for longer than `timeout` seconds."""
        return bool(self.begun) and time.monotonic() - min(self.begun.values()) > timeout

    def send(self, message: dict[str, Any]) -> None:
        """Tell it something; a dead one is noticed when its pipe is read."""
        with contextlib.suppress(OSError):
            self.pipe.send_bytes(encode(message))

    def end(self) -> None:
        """Kill it, and what it has started; what they had on disk for a while goes, too."""
        self.pipe.close()
        end_group(self.process.pid)
        self.process.kill()  # it owns nothing but attempts, of which the driver disposes
        self.process.join()
        scratch.sweep()

    def anew(self) -> "SlotHandle":
        """Return a fresh one in its place, with its suspects."""
        self.end()
        fresh = spawn(self.number, self.gpu)
        fresh.suspects = self.suspects
        return fresh


def spawn(number: int, gpu: str | None) -> SlotHandle:
    """Start a slot, which warms up by itself."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=True)
    process = context.Process(target=work, args=(theirs,), name=f"slot-{number}", daemon=True)
    # libraries read these as they load
    settings = dict.fromkeys(_ONE_THREAD, "1")
    settings |= {name: value for name, value in KEPT_MEMORY.items() if name not in os.environ}
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
    return SlotHandle(number, gpu, process, ours)
