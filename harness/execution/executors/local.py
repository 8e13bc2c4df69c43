"""Runs in local slots: per slot one spawned, warm process and one duplex pipe.

Nothing is shared between slots, large data goes by file, and a pipe that ends means that its run
died: that run failed, the slot is started anew, no other run notices. A slot ends by itself when
the driver does.
"""

import contextlib
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import types
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from harness.errors import ConfigError, did_you_mean
from harness.execution.executors.wire import decode, encode
from harness.execution.runner import Finished, Job, Judge, Message, Progressed
from harness.training.rundir import RunDir

_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass
class _Slot:
    """One worker process, its end of the pipe, and the job it is at."""

    number: int
    process: Any
    pipe: Connection
    job: Job | None = None

    def give(self, job: Job, device: str, keep_weights: bool, judged: bool) -> None:
        self.job = job
        order = {
            "spec": job.spec.to_json(),
            "attempt": str(job.attempt),
            "device": device,
            "keep_weights": keep_weights,
            "judged": judged,
        }
        self.send(order)

    def send(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # a dead slot is noticed when its pipe is read
            self.pipe.send_bytes(encode(message))

    def end(self) -> None:
        self.pipe.close()
        self.process.kill()  # it owns nothing but an attempt, which the driver deletes
        self.process.join()


class Local:
    """Executes jobs in slots of this machine; the slots start, and warm up, at once.

    Args:
        slots: Most processes at a time.
        device: As in `harness.training.device.choose`.
        keep_weights: Whether runs write their weights.
    """

    def __init__(self, slots: int, device: str = "auto", keep_weights: bool = True) -> None:
        self.slots = slots
        self._device = device
        self._gpus = visible_gpus() if device in ("auto", "cuda") else 0
        self._keep_weights = keep_weights
        self._slots = [_spawn(number) for number in range(slots)]

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
            for slot in list(self._slots):
                job = next(jobs, None)
                if job is None:
                    break
                self._give(slot, job, judge is not None)
            while busy := {slot.pipe: slot for slot in self._slots if slot.job is not None}:
                for pipe in wait(list(busy)):
                    yield from self._hear(busy[pipe], jobs, judge)  # type: ignore[index]
        finally:
            self.close()

    def _hear(
        self, slot: _Slot, jobs: Iterator[Job], judge: Judge | None
    ) -> Iterator[tuple[Job, Message]]:
        job = slot.job
        assert job is not None
        try:
            message = decode(slot.pipe.recv_bytes())
        except (EOFError, OSError):
            slot.end()
            _write_death(job.attempt, slot.process.exitcode)
            slot = self._slots[slot.number] = _spawn(slot.number)
            message = {"finished": "failed"}
        if "finished" not in message:
            progressed = Progressed(message["step"], message["steps"], message["values"])
            if judge is not None and progressed.values:
                slot.send({"stop": judge(job.spec, progressed)})
            yield job, progressed
            return
        slot.job = None
        yield job, Finished(message["finished"])
        following = next(jobs, None)
        if following is not None:
            self._give(slot, following, judge is not None)

    def _give(self, slot: _Slot, job: Job, judged: bool) -> None:
        """Hand a job to a slot, or to a new one where that died while it was idle."""
        if not slot.process.is_alive():
            slot.end()
            slot = self._slots[slot.number] = _spawn(slot.number)
        device = f"cuda:{slot.number % self._gpus}" if self._gpus else self._device
        slot.give(job, device, self._keep_weights, judged)


def _spawn(number: int) -> _Slot:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=True)
    process = context.Process(target=_work, args=(theirs,), name=f"slot-{number}", daemon=True)
    before = {name: os.environ.get(name) for name in _ONE_THREAD}
    main = sys.modules["__main__"]
    # A slot has no use for the script that called us; importing it again would run it again.
    sys.modules["__main__"] = types.ModuleType("__main__")
    os.environ.update(dict.fromkeys(_ONE_THREAD, "1"))  # libraries read these as they load
    try:
        process.start()
    finally:
        sys.modules["__main__"] = main
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    theirs.close()
    return _Slot(number, process, ours)


def _work(pipe: Connection) -> None:
    """Be a slot: execute one job after another until the pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the driver, which decides
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from harness.execution.executors.wire import message_of
    from harness.experiment.spec import RunSpec
    from harness.training.loop import Command
    from harness.training.run import drain

    with contextlib.suppress(EOFError, OSError):
        while True:
            order = decode(pipe.recv_bytes())
            attempt = Path(order["attempt"])
            with _output_to(attempt / "log.txt"):
                try:
                    spec = RunSpec.from_json(order["spec"])
                    if spec.key != order["spec"]["key"]:
                        raise ConfigError(
                            "a plugin or a file of weights has changed since this run was planned; "
                            "run the experiment again"
                        )
                except Exception as error:  # also a plugin that does not import in this process
                    RunDir(attempt).write_error(
                        "exception", f"{type(error).__name__}: {error}", error
                    )
                    status = "failed"
                else:
                    events = drain(spec, attempt, order["device"], order["keep_weights"])
                    command: Command | None = None
                    while True:
                        try:
                            message = message_of(events.send(command))
                        except StopIteration as finished:
                            status = finished.value
                            break
                        pipe.send_bytes(encode(vars(message)))
                        asked = order["judged"] and bool(message.values)
                        stop = asked and decode(pipe.recv_bytes())["stop"]
                        command = Command.STOP if stop else None
            pipe.send_bytes(encode({"finished": status}))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
    os._exit(1)


@contextlib.contextmanager
def _output_to(path: Path) -> Iterator[None]:
    """Send what this process prints, C libraries included, to the log of its run."""
    with open(path, "ab") as log:
        saved = [os.dup(1), os.dup(2)]
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        try:
            yield
        finally:
            for target, source in enumerate(saved, start=1):
                os.dup2(source, target)
                os.close(source)


def _write_death(attempt: Path, exitcode: int | None) -> None:
    """Say of a run whose process ended that it did, and how."""
    how = f"exit code {exitcode}"
    if exitcode is not None and exitcode < 0:
        with contextlib.suppress(ValueError):
            how = signal.Signals(-exitcode).name
    hint = "; the system may have been out of memory" if how == "SIGKILL" else ""
    for name in ("result.json", "error.json"):
        (attempt / name).unlink(missing_ok=True)
    RunDir(attempt).write_error("killed", f"the process of this run ended with {how}{hint}")


def visible_gpus() -> int:
    """Return how many NVIDIA GPUs this machine lets us see, without importing torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([part for part in visible.split(",") if part.strip() not in ("", "-1")])
    if listed := list(Path("/proc/driver/nvidia/gpus").glob("*")):
        return len(listed)
    if shutil.which("nvidia-smi") is None:
        return 0
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        answer = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20, check=False
        )
        return sum(line.startswith("GPU ") for line in answer.stdout.splitlines())
    return 0


def check_device(wanted: str) -> None:
    """Refuse, without importing torch, a device that is none or is surely not here.

    Raises:
        ConfigError: As said.
    """
    match = re.fullmatch(r"auto|cpu|mps|cuda(?::(\d+))?", wanted)
    if match is None:
        known = ("auto", "cpu", "cuda", "mps")
        raise ConfigError(
            f"--device {wanted}: not a device{did_you_mean(wanted, known)} "
            "(auto, cpu, cuda, cuda:N, mps)"
        )
    if wanted.startswith("cuda") and int(match[1] or 0) >= (found := visible_gpus()):
        raise ConfigError(f"--device {wanted}: {found} NVIDIA GPUs are visible here")
    if wanted == "mps" and sys.platform != "darwin":
        raise ConfigError("--device mps: only Apple machines have it")


def default_slots(device: str, runs_per_gpu: int) -> int:
    """Return how many runs to do at a time: per GPU as told, else one per CPU core."""
    if device.startswith("cuda:"):
        return runs_per_gpu
    gpus = visible_gpus() if device in ("auto", "cuda") else 0
    if gpus:
        return gpus * runs_per_gpu
    if device == "mps":
        return 1
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
