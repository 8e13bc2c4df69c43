"""How many runs a cluster has room for, and what to ask of a node for each."""

from collections.abc import Sequence
from dataclasses import dataclass

from harness.errors import ConfigError
from harness.execution.executors.resources import MOST_WORKERS


@dataclass(frozen=True)
class Node:
    """A node of a cluster: its id, its host's name, and what it lends."""

    id: str
    name: str
    cpus: float
    gpus: float


@dataclass(frozen=True)
class Capacity:
    """How runs share a cluster.

    Attributes:
        slots: Runs at a time.
        device: What each is told to train on.
        cpus: CPU cores that each takes.
        gpus: Share of a GPU that each takes, or 0.
        workers: Processes that prepare images for each.
    """

    slots: int
    device: str
    cpus: int
    gpus: float
    workers: int

    def takes(self, node: Node) -> bool:
        """Whether a run could be put on a node."""
        return node.cpus >= self.cpus and node.gpus >= self.gpus


def check_device(device: str) -> None:
    """Refuse a device that cannot be asked of a cluster.

    Raises:
        ConfigError: As said.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise ConfigError(
            f"--device {device}: with --executor ray it is auto, cpu or cuda; Ray decides which GPU"
        )


def capacity(nodes: Sequence[Node], device: str, jobs: int | None, runs_per_gpu: int) -> Capacity:
    """Return how runs share a cluster.

    Args:
        nodes: Those that are alive.
        device: ``auto``, ``cpu`` or ``cuda``.
        jobs: Most runs at a time, or None.
        runs_per_gpu: Runs that share a GPU.

    Raises:
        ConfigError: The cluster has none of what is asked for.
    """
    check_device(device)
    if device == "cuda" or (device == "auto" and any(node.gpus >= 1 for node in nodes)):
        held = {node: int(node.gpus) * runs_per_gpu for node in nodes if node.gpus >= 1}
        if not held:
            raise ConfigError("--device cuda: no node of the Ray cluster has a GPU to lend")
        # the same for every run: what the node with the fewest cores can give
        cpus = max(1, min(int(node.cpus) // runs for node, runs in held.items()))
        cpus = min(cpus, 1 + MOST_WORKERS)
        runs = sum(min(runs, int(node.cpus) // cpus) for node, runs in held.items())
        share = int(10_000 / runs_per_gpu) / 10_000  # the finest that Ray tells apart
        found = Capacity(runs, "cuda", cpus, share, cpus - 1)
    else:
        found = Capacity(sum(int(node.cpus) for node in nodes), "cpu", 1, 0.0, 0)
    if found.slots < 1:
        raise ConfigError("the Ray cluster has no CPU core to lend")
    slots = min(found.slots, jobs or found.slots)
    return Capacity(slots, found.device, found.cpus, found.gpus, found.workers)
