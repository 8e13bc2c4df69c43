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
import socket
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from harness.cache import VARIABLE as CACHE
from harness.errors import ConfigError
from harness.execution.attempts import clear
from harness.execution.executors.ray_node import Verdicts, check, train, version
from harness.execution.executors.ray_room import Node, Room, room
from harness.execution.executors.wire import decode, encode
from harness.execution.runner import Finished, Job, Judge, Message, Progressed
from harness.experiment.spec import RunSpec
from harness.training.rundir import RunDir

MOST_LOSSES = 5
"""So many nodes may die under a run before it is taken to be what kills them."""

_LOOK_SECONDS = 1.0
_CHECK_SECONDS = 600.0
_KNOCK_SECONDS = 10.0
_NEVER = 1e12
"""Seconds between checkpoints: one on the disk of a node would be of no use to the next attempt."""

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # what Ray says of a worker's death goes to standard output, which is ours
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
"""What keeps Ray from sending statistics, and from printing; read when it is imported."""

_TOKEN: list[str] = []
"""The token of the clusters that this process starts, once it has imported Ray for one."""


@dataclass
class _Task:
    """A run under way: its job, a name for this try, and the node it is on once that is known."""

    job: Job
    run: str
    node: str = "a node"


class Ray:
    """Executes jobs on a Ray cluster.

    Args:
        address: ``auto`` for the cluster this machine is a node of, ``local`` for one on this
            machine alone, or ``HOST:PORT``.
        device: ``auto``, ``cpu`` or ``cuda``.
        jobs: Most runs at a time; by default what the cluster has room for.
        runs_per_gpu: Runs that share a GPU.
        keep_weights: Whether runs write their weights.

    Raises:
        ConfigError: There is no such cluster, or no room in it.
    """

    def __init__(
        self,
        address: str = "auto",
        device: str = "auto",
        jobs: int | None = None,
        runs_per_gpu: int = 1,
        keep_weights: bool = True,
    ) -> None:
        self._keep_weights = keep_weights
        self._ray, self._ours = connect(address)
        try:
            self._room: Room = room(self._nodes(), device, jobs, runs_per_gpu)
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
        self._halted = False

    def close(self) -> None:
        """Leave the cluster, or end it where it was started here."""
        if self._ours:
            self._ours = False
            self._ray.shutdown()

    def halt(self) -> None:
        """End the runs under way, and start no more; what they did is lost."""
        self._halted = True

    def execute(
        self, jobs: Iterator[Job], judge: Judge | None = None
    ) -> Iterator[tuple[Job, Message]]:
        """Pull jobs while the cluster has room; yield what happens; end when all have finished.

        Raises:
            ConfigError: A node cannot reach the data by the same path, or is not like this one.
        """
        again: deque[Job] = deque()
        try:
            while not self._halted:
                while len(self._running) < self.slots:
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
        finally:
            for stream in self._running:
                with contextlib.suppress(self._ray.exceptions.RayError):
                    self._ray.cancel(stream, force=True)
            self._running = {}
            self.close()

    def _submit(self, job: Job, judged: bool) -> None:
        if judged and self._verdicts is None:
            self._verdicts = self._remote(Verdicts, num_cpus=0).remote()
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
            "device": self._room.device,
            "keep_weights": self._keep_weights,
            "workers": self._room.workers,
            "checkpoint_every": _NEVER,
            "judged": judged,
        }
        stream = remote.remote(encode(order), self._verdicts if judged else None)
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
            task.node = said["node"]
        elif "file" in said:
            _receive(task.job, said["file"], content)
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

    def _check(self, spec: RunSpec) -> None:
        """Refuse to start runs of a dataset that some node does not have as it was planned."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        found = (spec.dataset_label, spec.content)
        if found in self._checked:
            return
        order = encode(self._order(spec))
        asked = {
            node: self._remote(
                check,
                num_cpus=0,
                max_retries=0,
                scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False),
            ).remote(order)
            for node in self._nodes()
            if self._room.takes(node)
        }
        problems = []
        for node, answer in asked.items():
            try:
                said = self._ray.get(answer, timeout=_CHECK_SECONDS)
            except self._ray.exceptions.NodeDiedError:
                continue  # no run will be there
            except self._ray.exceptions.RayError as error:
                said = str(error).strip().splitlines()[-1]
            if said:
                problems.append(f"node {node.name}: {said}")
        if problems:
            raise ConfigError("\n".join(problems[:5]))
        self._checked.add(found)


def connect(address: str) -> tuple[Any, bool]:
    """Join a cluster, or start one; return Ray, and whether it is ours to leave again.

    Raises:
        ConfigError: Ray is not installed, or there is no such cluster.
    """
    with _environment(address):
        return _join(address)


def _join(address: str) -> tuple[Any, bool]:
    try:
        import ray
    except ImportError as error:
        raise ConfigError(
            f"--executor ray: {error}; install it: pip install 'imbalance-harness[ray]'"
        ) from None
    if ray.is_initialized():
        return ray, False
    if address.startswith("ray://"):
        raise ConfigError(
            f"--address {address}: give the command on a node of the cluster, with --address auto"
        )
    _knock(address)
    how: dict[str, Any] = {"address": address, "log_to_driver": False, "logging_level": "ERROR"}
    if address == "local":
        how["include_dashboard"] = False
    try:
        ray.init(**how)
    except (OSError, RuntimeError, ValueError) as error:
        raise _nobody(address, error) from None
    return ray, True


def _knock(address: str) -> None:
    """Ask whether anybody is at an address: Ray itself would wait for minutes.

    Raises:
        ConfigError: Nobody is.
    """
    named = os.environ.get("RAY_ADDRESS", "") if address == "auto" else address
    host, _, port = named.rpartition(":")
    if not port.isdecimal():
        return
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _KNOCK_SECONDS):
            pass
    except (OSError, OverflowError) as error:
        raise _nobody(address, error) from None


def _nobody(address: str, error: Exception) -> ConfigError:
    reason = " ".join(str(error).split())[:300]
    return ConfigError(
        f"--address {address}: no Ray cluster can be joined there ({reason}); start one with "
        "`ray start --head`, or take --address local"
    )


@contextlib.contextmanager
def _environment(address: str) -> Iterator[None]:
    """Set what Ray reads as it is imported and started.

    The ports of a cluster that is started here are open to every machine: it obeys only who has
    its token, which nobody is told.
    """
    settings = dict(QUIET)
    if address == "local" and "RAY_AUTH_MODE" not in os.environ:
        if "ray" not in sys.modules:  # which reads as it is imported whether tokens are asked for
            _TOKEN.append(secrets.token_hex(32))
        for token in _TOKEN:
            settings |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    added = {name: value for name, value in settings.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def _receive(job: Job, name: str, content: bytes) -> None:
    if name in ("", ".", "..") or "/" in name or "\\" in name:
        raise ValueError(f"a node sent a file named {name!r}")
    with open(job.attempt / name, "ab") as file:
        file.write(content)
