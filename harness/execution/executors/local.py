"""Runs in local slots: per slot one spawned, warm process and one duplex pipe.

Nothing is shared between slots, large data goes by file, and a pipe that ends means that what ran
there died: the slot is started anew, no other slot notices. A run that has written a checkpoint
since it was handed over goes on from there; one that has not is failed. Where several runs took
turns in the slot, each is tried again by itself, so that the one at fault is found and the others
are not blamed. A slot ends by itself when the driver does.
"""

import atexit
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from multiprocessing.connection import wait

from harness.execution.executors.failure_files import (
    again,
    reached,
    whole,
    write_death,
    write_timeout,
)
from harness.execution.executors.handle import SlotHandle, spawn
from harness.execution.executors.messages import decode
from harness.execution.executors.resources import Layout
from harness.execution.runner import Finished, Job, Judge, Message, Progressed
from harness.training.run_options import RunOptions

HALT_SECONDS = 5.0
"""How long runs may take to write a checkpoint when they are asked to end."""

_DEFAULTS = RunOptions()

_LOOK_SECONDS = 0.5
"""Longest wait for a message before looking at clocks, and at whether somebody asked to halt."""


class Local:
    """Executes jobs in slots of this machine; the slots start, and warm up, at once.

    Args:
        layout: How runs share the machine.
        options: How each run is carried out; device and image workers are those of `layout`.
        timeout: Seconds after which a run is taken to hang, or None.
    """

    def __init__(
        self,
        layout: Layout,
        options: RunOptions = _DEFAULTS,
        timeout: float | None = None,
    ) -> None:
        self.slots = layout.at_a_time
        self._layout = layout
        self._options = replace(options, device=layout.device, workers=layout.workers)
        self._timeout = timeout
        self._halted: float | None = None
        self._reached: dict[str, int] = {}
        self._slots = [spawn(number, gpu) for number, gpu in enumerate(layout.gpus)]
        atexit.register(self.close)  # or the interpreter would wait for slots that wait for it

    def close(self) -> None:
        """End the slots, whatever they are doing."""
        atexit.unregister(self.close)
        for slot in self._slots:
            slot.end()
        self._slots = []

    def halt(self) -> None:
        """Have what runs write a checkpoint and end, and start no more."""
        self._halted = time.monotonic()

    def execute(
        self, jobs: Iterator[Job], judge: Judge | None = None
    ) -> Iterator[tuple[Job, Message]]:
        """Pull jobs as slots become free; yield what happens; end when all have finished."""
        told = False
        try:
            for _ in range(self._layout.lanes):
                for slot in list(self._slots):
                    self._fill(slot, jobs, judge, most=1)
            while busy := {slot.pipe: slot for slot in self._slots if slot.jobs}:
                for pipe in wait(list(busy), _LOOK_SECONDS):
                    slot = busy[pipe]  # type: ignore[index]
                    yield from self._hear(slot, judge)
                    self._fill(self._slots[slot.number], jobs, judge)
                if self._halted is not None:
                    if not told:
                        for slot in busy.values():
                            slot.send({"halt": True})
                    told = True
                    if time.monotonic() - self._halted > HALT_SECONDS:
                        return
                elif self._timeout is not None:
                    yield from self._end_overdue(self._timeout)
                    for slot in list(self._slots):
                        self._fill(slot, jobs, judge)
        finally:
            self.close()

    def _hear(self, slot: SlotHandle, judge: Judge | None) -> Iterator[tuple[Job, Message]]:
        try:
            said = decode(slot.pipe.recv_bytes())
        except (EOFError, OSError):
            yield from self._replace(slot)
            return
        if "finished" in said:
            yield slot.take(said["key"]), Finished(said["finished"])
            return
        if "begun" in said:
            slot.begun[said["key"]] = time.monotonic()
            return
        job = slot.jobs[said["key"]]
        progressed = Progressed(said["step"], said["steps"], said["values"])
        if judge is not None and progressed.values:
            slot.send({"stop": judge(job.spec, progressed)})
        yield job, progressed

    def _replace(self, slot: SlotHandle) -> Iterator[tuple[Job, Message]]:
        """Start a slot anew whose process died; who was alone in it and got nowhere has failed."""
        fresh = self._slots[slot.number] = slot.anew()
        shared = len(slot.jobs) > 1
        for key in list(slot.jobs):
            job = slot.jobs[key]
            if (status := whole(job.attempt)) is not None:
                yield slot.take(key), Finished(status)
            elif shared or reached(job.attempt) != self._reached[key]:
                again(job, "the process of this run ended")
                fresh.suspects.append(job)
            else:
                write_death(job, slot.process.exitcode)
                yield job, Finished("failed")

    def _end_overdue(self, timeout: float) -> Iterator[tuple[Job, Message]]:
        """End slots whose run takes too long; where several share one, try each by itself."""
        for slot in list(self._slots):
            if not slot.overdue(timeout):
                continue
            if slot.died() or all(whole(job.attempt) for job in slot.jobs.values()):
                yield from self._replace(slot)  # it ended in time, and we are late to hear it
                continue
            fresh = self._slots[slot.number] = slot.anew()
            for job in slot.jobs.values():
                if len(slot.jobs) > 1:
                    again(job, f"a run of this process took more than {timeout:g} s")
                    fresh.suspects.append(job)
                else:
                    write_timeout(job, timeout)
                    yield job, Finished("failed")

    def _fill(
        self, slot: SlotHandle, jobs: Iterator[Job], judge: Judge | None, most: int | None = None
    ) -> None:
        """Hand jobs to a slot that has room, or to a new one where that died while it was idle."""
        if self._halted is not None:
            return
        for _ in range(min(slot.room(self._layout.lanes), most or self._layout.lanes)):
            suspected = bool(slot.suspects)
            job = slot.suspects.popleft() if suspected else next(jobs, None)
            if job is None:
                return
            if not slot.jobs and slot.died():
                slot = self._slots[slot.number] = slot.anew()
            slot.alone = suspected
            self._reached[job.spec.key] = reached(job.attempt)
            slot.hand(
                job,
                {
                    "spec": job.spec.to_json(),
                    "attempt": str(job.attempt),
                    "options": asdict(self._options),
                    "judged": judge is not None,
                },
            )
