"""Runs that share a GPU; what a CPU is told is tested where runs are compared bit by bit."""

import contextlib
import itertools
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from harness.experiment.spec import RunSpec
from harness.registry import strategies
from harness.training import device, pipeline
from harness.training.run import start
from harness.training.run_options import RunOptions
from tests.training.test_captured import BUDGET, RECIPES, TAIL, needs_cuda
from tests.training.test_checkpoint import Noisy, curve


def in_turns(specs: Mapping[str, RunSpec], folder: Path) -> dict[str, list[float]]:
    """Train on one GPU, an event of each run after the other; return their training losses."""
    runs = {}
    for name, spec in specs.items():
        (folder / name).mkdir(parents=True)
        runs[name] = start(spec, folder / name, RunOptions("cuda"))
    results: dict[str, Any] = {}
    while runs:
        for name, events in list(runs.items()):
            try:
                next(events)
            except StopIteration as end:
                results[name] = end.value
                del runs[name]
    for name, result in results.items():
        assert result["status"] == "done", name
        assert not any("not captured" in note for note in result["notes"]), result["notes"]
    return {name: curve(folder / name) for name in specs}


@needs_cuda
def test_on_a_gpu_runs_that_take_turns_end_where_each_ends_alone(
    make_spec: Callable[..., RunSpec], tmp_path: Path
) -> None:
    strategies.register("noisy")(Noisy)
    recipes = {name: recipe for name, (recipe, _) in RECIPES.items()}
    recipes |= {"noise": ["noisy"], "other_noise": ["noisy", "weighted_sampler"]}
    specs = {
        name: make_spec(recipe, datasets=[TAIL], training=BUDGET)
        for name, recipe in recipes.items()
    }
    together = in_turns(specs, tmp_path / "together")
    for name, spec in specs.items():
        alone = in_turns({name: spec}, tmp_path / "alone")
        assert together[name] == pytest.approx(alone[name], rel=0.05), name


class Streams:
    """Streams as torch deals them out: a few, in turn."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, count: int = 3) -> None:
        self._next = itertools.cycle(range(count))
        monkeypatch.setattr(torch.cuda, "Stream", self._dealt)

    def _dealt(self, place: torch.device) -> SimpleNamespace:
        return SimpleNamespace(cuda_stream=next(self._next))


def test_no_two_runs_under_way_have_the_same_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    Streams(monkeypatch)
    place = torch.device("cuda", 0)
    with contextlib.ExitStack() as first, contextlib.ExitStack() as others:
        long = device._own_stream(place)
        first.enter_context(device._under_way(long))
        for _ in range(5):  # runs that come and go beside it
            with device._under_way(short := device._own_stream(place)):
                assert short.cuda_stream != long.cuda_stream
        second = device._own_stream(place)
        others.enter_context(device._under_way(second))
        third = device._own_stream(place)
        assert len({long.cuda_stream, second.cuda_stream, third.cuda_stream}) == 3
    assert device._live == set()


def test_memory_that_torch_keeps_of_earlier_runs_is_free_for_a_dataset(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data: Any = SimpleNamespace(features=np.zeros(300, np.uint8))
    place = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda place: (500, 10_000))
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda place: 200)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda place: 200)
    assert not pipeline._fits(data, place), "300 of 500 are too large a share"
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda place: 700)
    assert pipeline._fits(data, place)


def test_a_run_on_a_cpu_has_one_thread_and_leaves_those_of_the_process_alone() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        events = device.isolated(torch.device("cpu"), 0, iter_threads())
        assert list(events) == [1]
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def iter_threads() -> Generator[int, None, None]:
    """Return how many threads an event of a run has."""
    yield torch.get_num_threads()
