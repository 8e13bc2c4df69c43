"""Runs as tasks of a Ray cluster: plain, streaming, and never retried by Ray.

A task trains one run on whichever node Ray finds room and streams what happens; its files travel
back at its end, so that nodes need the data, by the same path, and no results folder. A process
that dies costs its run, as in `local`; a node that dies costs nothing: its runs are trained
again on the others.
"""

import contextlib
import itertools
import os
import secrets
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from harness.cache import VARIABLE as CACHE
from harness.errors import ConfigError
from harness.execution.attempts import clear
from harness.execution.executors.failure_files import write_timeout
from harness.execution.executors.messages import decode, encode
from harness.execution.executors.ray_capacity import Capacity, Node, capacity
from harness.execution.executors.ray_cluster import connect
from harness.execution.executors.ray_node import Verdicts, check, train, version
from harness.execution.runner import Finished, Job, Judge, Message, Progressed
from harness.experiment.spec import RunSpec
from harness.training.run_options import RunOptions
from harness.training.rundir import CHECKPOINTS, RunDir

MOST_LOSSES = 5
"""So many nodes may die under a run before it is taken to be what kills them."""

_LOOK_SECONDS = 1.0
_CHECK_SECONDS = 600.0
_HALT_SECONDS = 20.0


@dataclass
class _Task:
    """A run under way: its job, a name for this try, and the node that has it, since when."""

    job: Job
    run: str
    node: str = "a node"
    begun: float | None = None


_DEFAULTS = RunOptions()


class Ray:
    """Executes jobs on a Ray cluster.

    Args:
        address: ``auto`` for the cluster this machine is a node of, ``local`` for one on this
            machine alone, or ``HOST:PORT``.
        options: How each run is carried out; the cluster decides how many image workers it has.
        jobs: Most runs at a time; by default what the cluster has room for.
        runs_per_gpu: Runs that share a GPU.
        timeout: Seconds on a node after which a run is taken to hang, or None.

    Raises:
        ConfigError: There is no such cluster, or no room in it.
    """

    def __init__(
        self,
        address: str = "auto",
        options: RunOptions = _DEFAULTS,
        jobs: int | None = None,
        runs_per_gpu: int = 1,
        timeout: float | None = None,
    ) -> None:
        self._options = options
        self._timeout = timeout
        self._ray, self._ours = connect(address)
        try:
            self._room: Capacity = capacity(self._nodes(), options.device, jobs, runs_per_gpu)
        except ConfigError:
            self.close()
            raise
        self.slots = self._room.slots
        self._checked: set[tuple[str, str]] = set()
        self._running: dict[Any, _Task] = {}
        self._losses: dict[str, int] = {}
        self._numbers = itertools.count()
        self._session = secrets.token_hex(8)
        self._verdicts: Any = None
        self._halted: float | None = None

    def close(self) -> None:
        """Leave the cluster, or end it where it was started here."""
        if self._ours:
            self._ours = False
            self._ray.shutdown()

    def halt(self) -> None:
        """Have what runs write a checkpoint and end, and start no more."""
        self._halted = time.monotonic()

    def execute(
        self, jobs: Iterator[Job], judge: Judge | None = None
    ) -> Iterator[tuple[Job, Message]]:
        """Pull jobs while the cluster has room; yield what happens; end when all have finished.

        Raises:
            ConfigError: A node cannot reach the data by the same path, or is not like this one.
        """
        again: deque[Job] = deque()
        try:
            told = False
            while True:
                while self._halted is None and len(self._running) < self.slots:
                    job = again.popleft() if again else next(jobs, None)
                    if job is None:
                        break
                    self._check(job.spec)
                    self._submit(job, judged=judge is not None)
                if not self._running:
                    return
                ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=_LOOK_SECONDS)
                for stream in ready:
                    yield from self._hear(stream, judge, again)
                if self._timeout is not None:
                    yield from self._end_overdue(self._timeout)
                if self._halted is not None:
                    if not told and self._verdicts is not None:
                        self._verdicts.halt.remote()
                    told = True
                    if time.monotonic() - self._halted > _HALT_SECONDS:
                        return
        finally:
            for stream in self._running:
                self._kill(stream)
            self._running = {}
            self.close()

    def _submit(self, job: Job, judged: bool) -> None:
        if self._verdicts is None:
            self._verdicts = self._remote(
                Verdicts,
                num_cpus=0,
                scheduling_strategy=self._only_on(self._ray.get_runtime_context().get_node_id()),
            ).remote()
        task = _Task(job, f"{job.spec.key}.{next(self._numbers)}")
        remote = self._remote(
            train,
            num_cpus=self._room.cpus,
            num_gpus=self._room.gpus,
            max_retries=0,
            num_returns="streaming",
            scheduling_strategy="SPREAD",
        )
        order = {
            **self._order(job.spec),
            "run": task.run,
            "options": asdict(
                replace(self._options, device=self._room.device, workers=self._room.workers)
            ),
            "judged": judged,
        }
        files = {
            name: (job.attempt / name).read_bytes()
            for name in CHECKPOINTS
            if (job.attempt / name).exists()
        }
        stream = remote.remote(encode(order), files, self._verdicts)
        self._running[stream] = task

    def _remote(self, what: Any, **options: Any) -> Any:
        return self._ray.remote(**options)(what)

    def _order(self, spec: RunSpec) -> dict[str, Any]:
        cache = os.environ.get(CACHE)
        return {
            "spec": spec.to_json(),
            "version": version(),
            "session": self._session,
            "folder": os.getcwd(),
            **({"cache": cache} if cache else {}),
        }

    def _hear(
        self, stream: Any, judge: Judge | None, again: deque[Job]
    ) -> Iterator[tuple[Job, Message]]:
        task = self._running[stream]
        try:
            data: bytes = self._ray.get(next(stream))
        except StopIteration:
            yield self._ended(stream, "failed", "killed", "its task ended without a word")
            return
        except self._ray.exceptions.RayError as error:
            yield from self._lost(stream, error, again)
            return
        head, _, content = data.partition(b"\n")
        said = decode(head)
        if "node" in said:
            task.node, task.begun = said["node"], time.monotonic()
        elif "file" in said:
            _receive(task.job, said["file"], said["at"], content)
        elif said.get("finished") == "no_space":
            full = f"the disk for temporary files of {task.node} is full"
            yield self._ended(stream, "failed", "exception", full)
        elif "finished" in said:
            yield self._ended(stream, said["finished"])
        else:
            progressed = Progressed(said["step"], said["steps"], said["values"])
            if judge is not None and progressed.values:
                self._verdicts.give.remote(task.run, judge(task.job.spec, progressed))
            yield task.job, progressed

    def _ended(
        self, stream: Any, status: str, kind: str = "", message: str = ""
    ) -> tuple[Job, Message]:
        """Take a run off the list, with an error of its own where its process left none."""
        job = self._running.pop(stream).job
        if kind:
            clear(job.attempt)
            RunDir(job.attempt).log(message)
            RunDir(job.attempt).write_error(kind, message)
        return job, Finished(status)

    def _end_overdue(self, timeout: float) -> Iterator[tuple[Job, Message]]:
        """End the process of each run that takes too long."""
        for stream, task in list(self._running.items()):
            if task.begun is not None and time.monotonic() - task.begun > timeout:
                self._kill(stream)
                del self._running[stream]
                clear(task.job.attempt)
                write_timeout(task.job, timeout)
                yield task.job, Finished("failed")

    def _kill(self, stream: Any) -> None:
        with contextlib.suppress(self._ray.exceptions.RayError):
            self._ray.cancel(stream, force=True)

    def _lost(
        self, stream: Any, error: Exception, again: deque[Job]
    ) -> Iterator[tuple[Job, Message]]:
        """Have the run of a node that died trained again; any other has failed."""
        task, errors = self._running[stream], self._ray.exceptions
        key = task.job.spec.key
        if isinstance(error, errors.NodeDiedError | errors.ObjectLostError):
            self._losses[key] = self._losses.get(key, 0) + 1
            if self._losses[key] < MOST_LOSSES:
                del self._running[stream]
                clear(task.job.attempt)
                RunDir(task.job.attempt).log(f"{task.node} died; the run is trained again")
                again.append(task.job)
                return
            said = f"{MOST_LOSSES} nodes died under this run, {task.node} the last of them"
            yield self._ended(stream, "failed", "killed", said)
        elif isinstance(error, errors.OutOfMemoryError):
            said = f"{task.node} was out of memory, and Ray ended the process of this run"
            yield self._ended(stream, "failed", "out_of_memory", said)
        elif isinstance(error, errors.WorkerCrashedError):
            said = f"the process of this run died on {task.node}; it may have been out of memory"
            yield self._ended(stream, "failed", "killed", said)
        else:
            said = f"on {task.node}: {str(error).strip().splitlines()[-1]}"
            yield self._ended(stream, "failed", "exception", said)

    def _nodes(self) -> list[Node]:
        return [
            Node(
                node["NodeID"],
                node["NodeManagerHostname"],
                node["Resources"].get("CPU", 0.0),
                node["Resources"].get("GPU", 0.0),
            )
            for node in self._ray.nodes()
            if node["Alive"]
        ]

    def _only_on(self, node: str) -> Any:
        return self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node, soft=False)

    def _check(self, spec: RunSpec) -> None:
        """Refuse to start runs of a dataset that some node does not have as it was planned."""
        found = (spec.dataset_label, spec.content)
        if found in self._checked:
            return
        order = encode(self._order(spec))
        asked = {
            node: self._remote(
                check,
                num_cpus=0,
                max_retries=0,
                scheduling_strategy=self._only_on(node.id),
            ).remote(order)
            for node in self._nodes()
            if self._room.takes(node)
        }
        problems = []
        for node, answer in asked.items():
            try:
                said = self._ray.get(answer, timeout=_CHECK_SECONDS)
            except (
                self._ray.exceptions.NodeDiedError,
                self._ray.exceptions.TaskUnschedulableError,
            ):
                continue  # it is gone, and no run will be there
            except self._ray.exceptions.RayError as error:
                said = str(error).strip().splitlines()[-1]
            if said:
                problems.append(f"node {node.name}: {said}")
        if problems:
            raise ConfigError("\n".join(problems[:5]))
        self._checked.add(found)


def _receive(job: Job, name: str, place: int, content: bytes) -> None:
    if name in ("", ".", "..") or "/" in name or "\\" in name:
        raise ValueError(f"a node sent a file named {name!r}")
    # a log goes on where an earlier try, or we, left it
    with open(job.attempt / name, "ab" if place or name == "log.txt" else "wb") as file:
        file.write(content)
