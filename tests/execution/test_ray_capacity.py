import pytest

from harness.errors import ConfigError
from harness.execution.executors.ray_capacity import Capacity, Node, capacity, check_device

SMALL = Node("1", "small", 2, 0)
BIG = Node("2", "big", 8, 0)
GPUS = Node("3", "gpus", 16, 2)
FEW_CORES = Node("4", "few", 4, 2)


@pytest.mark.parametrize(
    ("nodes", "device", "jobs", "per_gpu", "expected"),
    [
        ([SMALL, BIG], "auto", None, 1, Capacity(10, "cpu", 1, 0.0, 0)),
        ([SMALL, BIG], "auto", 3, 4, Capacity(3, "cpu", 1, 0.0, 0)),
        ([SMALL, GPUS], "cpu", None, 1, Capacity(18, "cpu", 1, 0.0, 0)),
        ([SMALL, GPUS], "auto", None, 1, Capacity(2, "cuda", 8, 1.0, 7)),
        ([GPUS], "cuda", None, 4, Capacity(8, "cuda", 2, 0.25, 1)),
        ([GPUS], "cuda", None, 3, Capacity(6, "cuda", 2, 0.3333, 1)),
        # each run takes the same of a node, so the one with the fewest cores decides
        ([GPUS, FEW_CORES], "cuda", None, 2, Capacity(8, "cuda", 1, 0.5, 0)),
        # fewer cores than runs that could share its GPUs
        ([Node("5", "one", 1, 2)], "auto", None, 1, Capacity(1, "cuda", 1, 1.0, 0)),
        ([Node("6", "wide", 64, 1)], "auto", None, 1, Capacity(1, "cuda", 13, 1.0, 12)),
    ],
)
def test_runs_share_a_cluster(
    nodes: list[Node], device: str, jobs: int | None, per_gpu: int, expected: Capacity
) -> None:
    assert capacity(nodes, device, jobs, per_gpu) == expected


def test_every_run_on_a_gpu_fits_with_the_others() -> None:
    for per_gpu in range(1, 20):
        found = capacity([GPUS], "cuda", None, per_gpu)
        assert found.gpus * per_gpu <= 1
        assert found.takes(GPUS)
        assert not found.takes(BIG)


@pytest.mark.parametrize(
    ("nodes", "device", "message"),
    [
        ([SMALL], "cuda", "no node of the Ray cluster has a GPU"),
        ([], "auto", "no CPU core to lend"),
        ([Node("7", "x", 0, 0)], "cpu", "no CPU core to lend"),
        ([SMALL], "cuda:1", "Ray decides which GPU"),
        ([SMALL], "mps", "it is auto, cpu or cuda"),
    ],
)
def test_a_cluster_without_what_is_asked_for_is_refused(
    nodes: list[Node], device: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        capacity(nodes, device, None, 1)


def test_devices_of_a_cluster() -> None:
    for device in ("auto", "cpu", "cuda"):
        check_device(device)
