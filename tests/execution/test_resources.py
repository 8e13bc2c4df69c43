import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import ConfigError
from harness.execution.executors import resources
from harness.execution.executors.resources import Layout, check_device, layout, visible_gpus


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "_cores", lambda: 8)


def test_gpus_are_named_as_cuda_names_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-8a,-1")
    assert visible_gpus() == ["3", "GPU-8a"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible_gpus() == []


@pytest.mark.usefixtures("cores")
def test_a_gpu_is_a_slot_in_which_runs_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    assert layout("auto", runs_per_gpu=3) == Layout(("4", "7"), "cuda", 3, 3)
    assert layout("cuda:1", runs_per_gpu=3) == Layout(("7",), "cuda", 3, 7)
    assert layout("cuda", jobs=5) == Layout(("4", "7"), "cuda", 3, 3)
    assert layout("auto", runs_per_gpu=3, runs=1) == Layout(("4",), "cuda", 1, 7)
    assert layout("auto", runs_per_gpu=3).at_a_time == 6
    assert layout("cpu", runs_per_gpu=3).gpus == (None,) * 8


@pytest.mark.usefixtures("cores")
def test_without_a_gpu_there_is_a_slot_for_each_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert layout() == Layout((None,) * 8, "auto", 1, 0)
    assert layout(runs=3) == Layout((None,) * 3, "auto", 1, 1)
    assert layout("cpu", jobs=2) == Layout((None,) * 2, "cpu", 1, 3)
    assert layout("mps", jobs=None).at_a_time == 1


def test_the_cores_that_this_process_may_use_are_counted() -> None:
    if not hasattr(os, "sched_getaffinity"):
        pytest.skip("this system does not tell them")
    assert layout("cpu").at_a_time == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("gpu", "not a device; did you mean 'cpu'"),
        ("cuda:5", "2 NVIDIA GPUs are visible here"),
        ("cuda:x", "not a device"),
    ],
)
def test_a_device_that_is_not_here_is_refused(
    wanted: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with pytest.raises(ConfigError, match=message):
        check_device(wanted)
    check_device("cuda:1")


def test_asking_imports_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from harness.execution.executors.resources import layout; layout(); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
