"""Processes that prepare images ahead, for runs whose recipe has a per-image tail.

They live as long as the slot that started them and serve all of its runs. Images come back through
a file that both sides map (in memory where the system has a folder for that), never through a
pipe. A process ends when its standard input does.
"""

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from harness import scratch
from harness.errors import ConfigError, HarnessError
from harness.experiment.spec import RunSpec
from harness.text import named_error
from harness.training.feed import feed
from harness.training.pipeline import Pipeline
from harness.training.plan import BatchPlan


class ImageWorkers:
    """Processes that prepare images.

    Args:
        count: How many.
    """

    def __init__(self, count: int) -> None:
        self.folder = scratch.make(scratch.in_memory())
        self._done: dict[tuple[int, int], int] = {}
        self._problems: dict[int, Exception] = {}
        self._changed = threading.Condition()
        self._runs = 0
        self._listeners: list[threading.Thread] = []
        self._processes = [self._start() for _ in range(count)]

    def __len__(self) -> int:
        return len(self._processes)

    def _start(self) -> "subprocess.Popen[bytes]":
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        process = subprocess.Popen(
            [sys.executable, "-m", "harness.training.image_workers", str(self.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # ours is the log of a run, which they outlive
            env=environment,
        )
        listener = threading.Thread(target=self._listen, args=(process,), daemon=True)
        listener.start()
        self._listeners.append(listener)
        return process

    def _listen(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdout is not None
        with process.stdout as answers:
            self._heed(answers)
        died = RuntimeError("a process that prepares images has died")
        with self._changed:
            for run in range(self._runs):
                self._problems.setdefault(run, died)
            self._changed.notify_all()

    def _heed(self, answers: Iterable[bytes]) -> None:
        for line in answers:
            said = json.loads(line)
            with self._changed:
                if "problem" in said:
                    kind = ConfigError if said["input"] else RuntimeError
                    self._problems[said["run"]] = kind(said["problem"])
                else:
                    self._done[said["run"], said["step"]] = said["rows"]
                self._changed.notify_all()

    @property
    def alive(self) -> bool:
        """Whether every process is."""
        return all(process.poll() is None for process in self._processes)

    def open(self, spec: RunSpec, ring: Path, shape: tuple[int, ...], dtype: str) -> int:
        """Tell the processes of a run and where its images go; return its number."""
        run, self._runs = self._runs, self._runs + 1
        told = {"run": run, "spec": spec.to_json(), "ring": str(ring), "shape": shape}
        for process in self._processes:
            _tell(process, {**told, "dtype": dtype})
        return run

    def ask(self, run: int, step: int, place: int) -> None:
        """Have the images of a step prepared, into a place of the ring."""
        process = self._processes[step % len(self._processes)]
        _tell(process, {"run": run, "step": step, "place": place})

    def ready(self, run: int, step: int) -> bool:
        """Whether a step is prepared, or never will be."""
        with self._changed:
            return (run, step) in self._done or run in self._problems

    def take(self, run: int, step: int) -> int:
        """Wait for a step; return how many rows it has.

        Raises:
            ConfigError: A strategy or a transform does what it must not.
            RuntimeError: It could not be prepared for another reason.
        """
        with self._changed:
            self._changed.wait_for(lambda: (run, step) in self._done or run in self._problems)
            if (run, step) in self._done:
                return self._done.pop((run, step))
            raise self._problems[run]

    def forget(self, run: int) -> None:
        """Let the processes drop what they have of a run."""
        for process in self._processes:
            _tell(process, {"run": run, "close": True})
        with self._changed:
            self._done = {key: rows for key, rows in self._done.items() if key[0] != run}

    def close(self) -> None:
        """End the processes."""
        for process in self._processes:
            assert process.stdin is not None
            with contextlib.suppress(OSError):
                process.stdin.close()
        for process, listener in zip(self._processes, self._listeners, strict=True):
            process.wait()
            listener.join()
        scratch.drop(self.folder)


_workers: ImageWorkers | None = None


def image_workers(count: int) -> ImageWorkers:
    """Return this process's workers, started on first use and anew where one has died."""
    global _workers
    if _workers is not None and (len(_workers) != count or not _workers.alive):
        _workers.close()
        _workers = None
    if _workers is None:
        _workers = ImageWorkers(count)
    return _workers


def _tell(process: "subprocess.Popen[bytes]", message: dict[str, Any]) -> None:
    assert process.stdin is not None
    with contextlib.suppress(OSError):  # that it died is said by who listens to it
        process.stdin.write(json.dumps(message).encode() + b"\n")
        process.stdin.flush()


def serve(folder: Path) -> None:
    """Be a worker: prepare what standard input asks for, until it ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what plugins print must not look like an answer
    runs: dict[int, tuple[BatchPlan, Pipeline, NDArray[Any]]] = {}
    for line in sys.stdin.buffer:
        asked = json.loads(line)
        run = asked["run"]
        try:
            answer = _answer(asked, runs)
        except HarnessError as error:
            answer = {"run": run, "input": True, "problem": str(error)}
        except (Exception, SystemExit) as error:  # told to the run that it belongs to
            answer = {"run": run, "input": False, "problem": named_error(error)}
        if answer is not None:
            answers.write(json.dumps(answer).encode() + b"\n")
            answers.flush()
    scratch.drop(folder)  # also where the process that made it was killed


def _answer(
    asked: dict[str, Any], runs: dict[int, tuple[BatchPlan, Pipeline, NDArray[Any]]]
) -> dict[str, Any] | None:
    run = asked["run"]
    if "spec" in asked:
        shape = tuple(asked["shape"])
        ring: NDArray[Any] = np.memmap(asked["ring"], asked["dtype"], "r+", shape=shape)
        fed = feed(RunSpec.from_json(asked["spec"]), torch.device("cpu"))
        runs[run] = (fed.plan, fed.pipeline, ring)
    elif "close" in asked:
        runs.pop(run, None)
    elif run in runs:
        plan, pipeline, images = runs[run]
        values = pipeline.stage(plan.decide(asked["step"])).numpy()
        images[asked["place"], : len(values)] = values
        return {"run": run, "step": asked["step"], "rows": len(values)}
    return None


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    import cv2
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    with threadpool_limits(1):
        yield


if __name__ == "__main__":
    with _one_thread():
        serve(Path(sys.argv[1]))
