"""Several GPUs on one machine, which has none: what each slot is told to see."""

import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.app import options
from harness.app.options import Options, make_executor
from harness.execution.executors.handle import KEPT_MEMORY
from harness.execution.executors.local import Local
from harness.execution.executors.resources import Layout
from harness.execution.runner import run
from harness.execution.store import Store
from harness.experiment.expand import expand
from harness.experiment.schema import Experiment

PLUGIN = '''
import json, os
import numpy as np
from harness.strategies.base import Mix, Windowed, strategy

def born_with(name):
    """Return what this process was started with, before it imported anything."""
    with open("/proc/self/environ", "rb") as file:
        pairs = dict(pair.split(b"=", 1) for pair in file.read().split(b"\\0") if b"=" in pair)
    return pairs[name.encode()].decode()

@strategy("witness")
class Witness(Windowed):
    """Tells what its process sees."""

    tag: int = 0

    def blend(self, batch, rng):
        names = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "MALLOC_TRIM_THRESHOLD_")
        seen = {name: [os.environ[name], born_with(name)] for name in names}
        print("seen:", json.dumps({**seen, "process": os.getpid()}))
        one = np.ones(len(batch.labels), np.float32)
        return Mix(np.arange(len(one)), one, one)
'''


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="this system does not tell")
def test_each_slot_sees_its_gpu_and_no_other_from_its_first_moment(
    make_experiment: Callable[..., Experiment], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-4a")
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_", raising=False)
    kept = KEPT_MEMORY["MALLOC_TRIM_THRESHOLD_"]
    plugin = tmp_path / "witness.py"
    plugin.write_text(PLUGIN)
    recipes = {str(tag): [{"name": "witness", "tag": tag}] for tag in range(4)}
    specs = expand(make_experiment(recipes=recipes, plugins=[str(plugin)])).runs[1:]
    store = Store(tmp_path / "results", "tiny")
    store.create()
    summary = run(specs, store, Local(Layout(("3", "GPU-4a"), "cpu", lanes=2)))
    assert set(summary.statuses.values()) == {"done"}, summary.failures
    processes: dict[str, set[int]] = {}
    runs: Counter[str] = Counter()
    for path in summary.paths.values():
        lines = [line for line in (path / "log.txt").read_text().splitlines() if "seen:" in line]
        seen = json.loads(lines[0].partition("seen: ")[2])
        now, born = seen["CUDA_VISIBLE_DEVICES"]
        assert now == born
        assert seen["OMP_NUM_THREADS"] == ["1", "1"]
        assert seen["MALLOC_TRIM_THRESHOLD_"] == [kept, kept]
        processes.setdefault(now, set()).add(seen["process"])
        runs[now] += 1
    assert set(processes) == {"3", "GPU-4a"}, "every GPU has runs"
    assert all(len(found) == 1 for found in processes.values()), "in one process each"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3,GPU-4a", "ours is as it was"


def test_options_become_slots_of_the_gpus_that_are_visible(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[Layout] = []
    monkeypatch.setattr(options, "Local", lambda layout, *rest: made.append(layout))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,6")
    make_executor(Options(runs_per_gpu=3), True, 100)
    make_executor(Options(device="cuda:1"), True, 100)
    make_executor(Options(device="cpu", jobs=2), True, 100)
    assert [(layout.gpus, layout.device, layout.lanes) for layout in made] == [
        (("5", "6"), "cuda", 3),
        (("6",), "cuda", 1),
        ((None, None), "cpu", 1),
    ]
