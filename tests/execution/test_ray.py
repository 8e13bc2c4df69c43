"""The Ray executor on a real cluster of three nodes, all of them on this machine."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from harness.analysis.tables import runs_table
from harness.errors import ConfigError
from harness.execution.executors.local import Local
from harness.execution.executors.ray import Ray, _receive
from harness.execution.executors.ray_cluster import QUIET, connect
from harness.execution.executors.resources import Layout
from harness.execution.merge import merge
from harness.execution.runner import Job, Progressed, Summary, run
from harness.execution.store import Store
from harness.experiment.expand import expand
from harness.experiment.schema import Experiment
from harness.experiment.spec import RunSpec
from harness.training.run_options import RunOptions
from tests.conftest import tiny

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("default"),  # what Ray warns of, and leaves open, is its own
]

GRID: dict[str, Any] = {"factors": {"smote": ["none", "smote"], "mixup": ["none", "mixup"]}}

PLUGIN = '''
import os, signal, time
import numpy as np
from harness.strategies.base import Mix, Windowed, strategy

@strategy("mishap")
class Mishap(Windowed):
    """Something happens."""

    how: str = "nothing"
    tag: int = 0

    def blend(self, batch, rng):
        if self.how == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how == "raise":
            raise RuntimeError("it went wrong")
        if self.how == "wait":
            time.sleep(0.15)
        if self.how == "hang":
            time.sleep(1000)
        if self.how == "print":
            print("on GPU", os.environ.get("CUDA_VISIBLE_DEVICES"))
        one = np.ones(len(batch.labels), np.float32)
        return Mix(np.arange(len(one)), one, one)
'''


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Three nodes with a core each, and this process joined to them."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in QUIET.items():
            patch.setenv(name, value)
        patch.delenv("RAY_ADDRESS", raising=False)
        ray = pytest.importorskip("ray")
        from ray.cluster_utils import Cluster

        made = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
        )
        made.add_node(num_cpus=1)
        made.add_node(num_cpus=1)
        # joined once: what a task imports, torch among it, stays in the processes of a driver
        ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
        yield made
        ray.shutdown()
        made.shutdown()


@pytest.fixture
def on(cluster: Any) -> Callable[..., Ray]:
    def make(device: str = "cpu", checkpoint_every: float = 60.0, **options: Any) -> Ray:
        how = RunOptions(device, checkpoint_every=checkpoint_every)
        return Ray(cluster.address, how, **options)

    return make


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One file for all tests: the processes of the cluster, which stay, import it once."""
    path = tmp_path_factory.mktemp("plugin") / "mishap.py"
    path.write_text(PLUGIN)
    return str(path)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "results", "tiny")
    made.create()
    return made


@pytest.fixture(autouse=True)
def _known(plugin: str) -> Iterator[None]:
    """Have each test register the plugin anew: the registries forget what a test registered."""
    yield
    for name in [name for name in sys.modules if name.startswith("harness_plugin_mishap_")]:
        del sys.modules[name]


def by_recipe(specs: Any, summary: Summary) -> dict[str, str]:
    return {spec.recipe: summary.statuses[spec.key] for spec in specs}


class Heard:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []
        self.values: list[dict[str, float]] = []

    def started(self, spec: RunSpec) -> None:
        self.events.append(("started", spec.key))

    def progressed(self, spec: RunSpec, message: Progressed) -> None:
        self.events.append(("progressed", spec.key))
        self.values.append(message.values)

    def finished(self, spec: RunSpec, status: str, path: Path) -> None:
        self.events.append((status, spec.key))

    def abandoned(self, spec: RunSpec) -> None:
        self.events.append(("abandoned", spec.key))

    def count(self, what: str) -> int:
        return sum(name == what for name, _ in self.events)


def same_as_local(specs: Any, store: Store, tmp_path: Path) -> None:
    """Compare every run with what `local` makes of it, bit by bit."""
    other = Store(tmp_path / "local", "tiny")
    other.create()
    run(specs, other, Local(Layout((None,) * 2, "cpu")))
    (merged,) = merge(tmp_path / "both", [store.results, other.results])
    assert merged.copied == len(specs)
    left, right = (
        runs_table(each, specs).drop(columns=["path", "seconds", "notes"])
        for each in (store, other)
    )
    pd.testing.assert_frame_equal(left, right, check_exact=True)


def test_runs_of_a_cluster_are_those_of_one_machine_bit_for_bit(
    on: Callable[..., Ray],
    make_experiment: Callable[..., Experiment],
    store: Store,
    tmp_path: Path,
) -> None:
    specs = expand(make_experiment(**GRID, seeds=2)).runs
    heard = Heard()
    executor = on()
    assert executor.slots == 3
    summary = run(specs, store, executor, [heard])
    assert set(summary.statuses.values()) == {"done"}
    assert any("val/balanced_accuracy" in values for values in heard.values)
    assert [what for what, _ in heard.events[:3]] == ["started"] * 3
    assert list((store.path / ".running").iterdir()) == []
    same_as_local(specs, store, tmp_path)


def test_a_judge_stops_a_run_at_the_evaluation_it_was_asked_of(
    on: Callable[..., Ray], make_experiment: Callable[..., Experiment], store: Store
) -> None:
    specs = expand(make_experiment(**GRID)).runs
    asked: list[tuple[str, int]] = []

    def judge(spec: RunSpec, message: Progressed) -> bool:
        assert "val/balanced_accuracy" in message.values
        asked.append((spec.recipe, message.step))
        return spec.recipe == "mixup"

    summary = run(specs, store, on(), judge=judge)
    done = dict.fromkeys(("nothing", "smote", "smote+mixup"), "done")
    assert by_recipe(specs, summary) == {**done, "mixup": "stopped"}
    assert sum(recipe == "mixup" for recipe, _ in asked) == 1
    assert sum(recipe == "smote" for recipe, _ in asked) == 2


def test_a_run_that_dies_costs_only_itself(
    on: Callable[..., Ray],
    plugin: str,
    make_experiment: Callable[..., Experiment],
    store: Store,
    capfd: pytest.CaptureFixture[str],
) -> None:
    recipes = {
        "a": [{"name": "mixup", "p": 0.1}],
        "dies": [{"name": "mishap", "how": "die"}],
        "raises": [{"name": "mishap", "how": "raise"}],
        "b": [{"name": "mixup", "p": 0.2}],
        "c": [{"name": "mixup", "p": 0.3}],
    }
    specs = expand(make_experiment(recipes=recipes, plugins=[plugin])).runs
    summary = run(specs, store, on())
    bad = dict.fromkeys(("dies", "raises"), "failed")
    assert by_recipe(specs, summary) == {**dict.fromkeys(("nothing", *"abc"), "done"), **bad}
    reasons = {spec.recipe: summary.failures.get(spec.key, "") for spec in specs}
    assert "the process of this run died on" in reasons["dies"]
    assert "RuntimeError: it went wrong" in reasons["raises"]
    raised = next(spec for spec in specs if spec.recipe == "raises")
    assert "Traceback" in (summary.paths[raised.key] / "log.txt").read_text()
    assert capfd.readouterr().out == "", "standard output is ours, not Ray's"


def test_a_run_that_hangs_is_ended_when_its_time_is_over(
    on: Callable[..., Ray],
    plugin: str,
    make_experiment: Callable[..., Experiment],
    store: Store,
) -> None:
    recipes = {
        "hangs": [{"name": "mishap", "how": "hang"}],
        **{name: [{"name": "mixup", "p": p}] for name, p in (("a", 0.1), ("b", 0.2), ("c", 0.3))},
    }
    specs = expand(make_experiment(recipes=recipes, plugins=[plugin])).runs
    summary = run(specs, store, on(timeout=20.0))
    assert by_recipe(specs, summary) == {
        **dict.fromkeys(("nothing", *"abc"), "done"),
        "hangs": "failed",
    }
    (key,) = summary.failures
    assert summary.failures[key] == "not done after 20 s (--run-timeout); its process was ended"
    error = json.loads((summary.paths[key] / "error.json").read_text())
    assert error["kind"] == "timeout"
    again = expand(make_experiment(recipes={"d": recipes["a"]}, plugins=[plugin])).runs
    assert set(run(again, store, on(timeout=20.0)).statuses.values()) == {"done"}


def test_a_node_that_is_killed_costs_no_run(
    cluster: Any,
    on: Callable[..., Ray],
    plugin: str,
    make_experiment: Callable[..., Experiment],
    store: Store,
    tmp_path: Path,
) -> None:
    recipes = {f"r{tag}": [{"name": "mishap", "how": "wait", "tag": tag}] for tag in range(4)}
    specs = expand(make_experiment(recipes=recipes, plugins=[plugin])).runs[1:]
    node = cluster.add_node(num_cpus=1)
    heard = Heard()
    killer: list[threading.Thread] = []

    class Kills(Heard):
        def progressed(self, spec: RunSpec, message: Progressed) -> None:
            super().progressed(spec, message)
            at_work = {key for what, key in self.events if what == "progressed"}
            if len(at_work) == 4 and not killer:  # every node has a run
                arguments = {"allow_graceful": False}
                killer.append(
                    threading.Thread(target=cluster.remove_node, args=(node,), kwargs=arguments)
                )
                killer[0].start()

    kills = Kills()
    executor = on()
    assert executor.slots == 4
    summary = run(specs, store, executor, [heard, kills])
    killer[0].join()
    assert set(summary.statuses.values()) == {"done"}
    assert heard.count("started") == len(specs), "trained again as the same attempt"
    assert heard.count("done") == len(specs)
    logs = [path / "log.txt" for path in summary.paths.values()]
    died = [
        log for log in logs if log.exists() and "died; the run is trained again" in log.read_text()
    ]
    assert len(died) == 1, "only the run of that node was trained again"
    same_as_local(specs, store, tmp_path)


def images(folder: Path) -> Path:
    import cv2
    import numpy as np

    rng = np.random.default_rng(0)
    for name in "ab":
        (folder / name).mkdir(parents=True)
        for i in range(12):
            image = rng.integers(0, 255, (8, 8, 3), np.uint8)
            cv2.imwrite(str(folder / name / f"{i}.png"), image)
    return folder


def test_data_that_a_node_cannot_reach_are_named_with_node_and_path(
    on: Callable[..., Ray],
    make_experiment: Callable[..., Experiment],
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = images(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    dataset = {"name": "image_folder", "path": "data", "image_size": 8}
    training = {"max_steps": 2, "batch_size": 8}
    specs = expand(make_experiment(datasets=[dataset], training=training)).runs
    assert by_recipe(specs, run(specs, store, on())) == {"nothing": "done"}
    shutil.move(data, tmp_path / "away")
    with pytest.raises(ConfigError, match=rf"node \S+: .*{data}"):
        run(specs, store, on())
    images(data)
    next((data / "a").iterdir()).unlink()
    with pytest.raises(ConfigError, match=rf"node \S+: .*{data}.*another content"):
        run(specs, store, on())
    assert list((store.path / ".running").iterdir()) == []


def test_a_node_without_the_folder_of_the_command_is_named(
    on: Callable[..., Ray],
    make_spec: Callable[..., RunSpec],
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "getcwd", lambda: "/nowhere/at/all")
    with pytest.raises(ConfigError, match=r"node \S+: /nowhere/at/all.*is not here"):
        run([make_spec()], store, on())


def test_runs_share_a_gpu_and_see_only_it(
    cluster: Any,
    plugin: str,
    make_experiment: Callable[..., Experiment],
    store: Store,
) -> None:
    node = cluster.add_node(num_cpus=2, num_gpus=1)
    recipes = {str(tag): [{"name": "mishap", "how": "print", "tag": tag}] for tag in range(2)}
    specs = expand(make_experiment(recipes=recipes, plugins=[plugin])).runs[1:]
    executor = Ray(cluster.address, runs_per_gpu=2)
    assert (executor.slots, executor._room.device, executor._room.gpus) == (2, "cuda", 0.5)
    executor._room = replace(executor._room, device="cpu")  # there is no GPU to train on
    summary = run(specs, store, executor)
    assert set(summary.statuses.values()) == {"done"}, summary.failures
    for path in summary.paths.values():
        assert "on GPU 0\n" in (path / "log.txt").read_text()
    cluster.remove_node(node)


def test_what_is_halted_leaves_checkpoints_and_goes_on_from_them(
    on: Callable[..., Ray],
    plugin: str,
    make_experiment: Callable[..., Experiment],
    store: Store,
    tmp_path: Path,
) -> None:
    recipes = {"it": [{"name": "mishap", "how": "wait"}]}
    training = {**tiny()["training"], "eval_every": 0.1}
    experiment = make_experiment(recipes=recipes, plugins=[plugin], seeds=3, training=training)
    specs = [spec for spec in expand(experiment).runs if spec.recipe == "it"]
    executor = on(checkpoint_every=0.0)
    heard = Heard()

    class Halts(Heard):
        def progressed(self, spec: RunSpec, message: Progressed) -> None:
            executor.halt()  # it decides its steps, which takes seconds, and then trains

    summary = run(specs, store, executor, [heard, Halts()])
    assert summary.statuses == {}, summary.failures
    left = {path.name for path in (store.path / ".running").glob("*/checkpoint.*")}
    assert "checkpoint.latest" in left
    assert heard.count("started") == heard.count("abandoned")
    assert store.runs() == {}
    summary = run(specs, store, on())
    assert set(summary.statuses.values()) == {"done"}
    table = runs_table(store, specs)
    assert any("resumed from step" in note for notes in table["notes"] for note in notes)
    same_as_local(specs, store, tmp_path)


def test_leaving_at_once_ends_what_runs(
    on: Callable[..., Ray],
    plugin: str,
    make_experiment: Callable[..., Experiment],
    store: Store,
) -> None:
    recipes = {"it": [{"name": "mishap", "how": "wait"}]}
    specs = expand(make_experiment(recipes=recipes, plugins=[plugin])).runs
    executor = on()
    messages = executor.execute(Job(spec, store.begin(spec)) for spec in specs)
    next(messages)
    messages.close()  # type: ignore[attr-defined]
    assert executor._running == {}
    summary = run(specs[:1], store, on())
    assert set(summary.statuses.values()) == {"done"}


def test_there_is_no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(ConfigError, match=r"--address 127\.0\.0\.1:1: no Ray cluster"):
        connect("127.0.0.1:1")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:2")
    with pytest.raises(ConfigError, match=r"--address auto: no Ray cluster"):
        connect("auto")
    with pytest.raises(ConfigError, match="give the command on a node"):
        connect("ray://somewhere:10001")


def test_a_command_starts_a_cluster_of_its_own_and_ends_it(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    (tmp_path / "it.yaml").write_text(json.dumps(tiny(seeds=2)))
    command = [sys.executable, "-m", "harness", "run", "it.yaml", "--smoke", "--json"]
    command += ["--executor", "ray", "--address", "local"]
    environment = {name: value for name, value in os.environ.items() if "RAY_" not in name}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["runs"] == 1
    assert "ray" not in done.stderr.lower(), "Ray says nothing of its own"


def test_ray_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pip install 'imbalance-harness\[ray\]'"):
        connect("auto")


@pytest.mark.parametrize("name", ["../x", "/x", "..", "", "a\\b"])
def test_a_node_cannot_write_outside_the_folder_of_its_run(
    name: str, store: Store, make_spec: Callable[..., RunSpec]
) -> None:
    spec = make_spec()
    with pytest.raises(ValueError, match="sent a file named"):
        _receive(Job(spec, store.begin(spec)), name, 0, b"")
