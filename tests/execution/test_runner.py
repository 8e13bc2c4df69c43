import collections
import errno
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.errors import StoreError
from harness.execution.executors import handle
from harness.execution.executors.failure_files import whole
from harness.execution.executors.inline import Inline
from harness.execution.executors.local import Local
from harness.execution.executors.resources import Layout
from harness.execution.runner import (
    Executor,
    Finished,
    Job,
    Message,
    Progressed,
    run,
)
from harness.execution.signals import Interrupted, exit_code
from harness.execution.store import Store
from harness.execution.weights import WeightKeeper
from harness.experiment.expand import expand
from harness.experiment.schema import Experiment
from harness.experiment.spec import RunSpec
from harness.training.run_options import RunOptions
from harness.training.run_result import outcome_of
from harness.training.rundir import RunDir

PLUGIN = '''
import os, signal, sys, time
import numpy as np
from harness.strategies.base import Mix, Windowed, strategy
from harness.training import device

@strategy("mishap")
class Mishap(Windowed):
    """Something goes wrong."""

    how: str = "raise"

    def blend(self, batch, rng):
        if self.how == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how == "exit":
            sys.exit(7)
        if self.how == "raise":
            raise RuntimeError("it went wrong")
        if self.how == "bytes":
            raise OSError("cannot open caf\\udce9.png")
        if self.how == "lose":  # as an illegal access on a GPU does to its process
            device.is_lost = lambda place: True
            os.environ["LOST"] = "yes"
            raise RuntimeError("an illegal memory access was encountered")
        if self.how == "spoil":  # as a capture that fails does with an older torch
            device._spoiled = True
            os.environ["LOST"] = "yes"
        if self.how == "print":
            assert "LOST" not in os.environ, "in the process of before"
            os.write(1, b"said by C")
            print("said by Python on GPU", os.environ.get("CUDA_VISIBLE_DEVICES"))
        one = np.ones(len(batch.labels), np.float32)
        return Mix(np.arange(len(one)), one, one)
'''


@pytest.fixture
def plugin(tmp_path: Path) -> str:
    path = tmp_path / "mishap.py"
    path.write_text(PLUGIN)
    return str(path)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "results", "tiny")
    made.create()
    return made


def slots(count: int, lanes: int = 1) -> Local:
    return Local(Layout((None,) * count, "cpu", lanes))


class Heard:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []
        self.values: list[dict[str, float]] = []

    def started(self, spec: RunSpec) -> None:
        self.events.append(("started", spec.recipe))

    def progressed(self, spec: RunSpec, message: Progressed) -> None:
        self.values.append(message.values)

    def finished(self, spec: RunSpec, status: str, path: Path) -> None:
        assert path.is_dir()
        self.events.append((status, spec.recipe))

    def abandoned(self, spec: RunSpec) -> None:
        self.events.append(("abandoned", spec.recipe))


def predictions(path: Path) -> np.ndarray:
    with np.load(path / "predictions.npz", allow_pickle=False) as stored:
        found: np.ndarray = stored["test_probabilities"]
    return found


GRID: dict[str, Any] = {"factors": {"smote": ["none", "smote"], "mixup": ["none", "mixup"]}}


@pytest.mark.parametrize("make", [lambda: Inline(RunOptions("cpu")), lambda: slots(2)])
def test_every_run_is_executed_committed_and_told(
    make: Callable[[], Executor], make_experiment: Callable[..., Experiment], store: Store
) -> None:
    specs = expand(make_experiment(**GRID)).runs
    heard = Heard()
    summary = run(specs, store, make(), [heard])
    assert set(summary.statuses.values()) == {"done"}
    assert store.runs().keys() == {spec.key for spec in specs}
    for recipe in ("nothing", "smote", "mixup", "smote+mixup"):
        assert heard.events.index(("started", recipe)) < heard.events.index(("done", recipe))
    assert any("val/balanced_accuracy" in values for values in heard.values)
    assert list((store.path / ".running").iterdir()) == []


@pytest.mark.parametrize(
    "make", [lambda: Inline(RunOptions("cpu")), lambda: slots(2), lambda: slots(1, 3)]
)
def test_a_judge_stops_a_run_at_the_evaluation_it_was_asked_of(
    make: Callable[[], Executor], make_experiment: Callable[..., Experiment], store: Store
) -> None:
    specs = expand(make_experiment(**GRID)).runs
    asked: list[tuple[str, int]] = []

    def judge(spec: RunSpec, message: Progressed) -> bool:
        assert "val/balanced_accuracy" in message.values
        asked.append((spec.recipe, message.step))
        return spec.recipe == "mixup"

    summary = run((spec for spec in specs), store, make(), judge=judge)
    by_recipe = {spec.recipe: summary.statuses[spec.key] for spec in specs}
    assert by_recipe == {
        **dict.fromkeys(("nothing", "smote", "smote+mixup"), "done"),
        "mixup": "stopped",
    }
    steps = {recipe: [step for name, step in asked if name == recipe] for recipe in by_recipe}
    assert len(steps["mixup"]) == 1
    assert steps["nothing"] == steps["smote"]
    assert len(steps["nothing"]) == 2


def test_one_process_and_two_slots_give_the_same_bits(
    make_experiment: Callable[..., Experiment], tmp_path: Path
) -> None:
    specs = expand(make_experiment(**GRID)).runs
    stores = [Store(tmp_path / name, "tiny") for name in "ab"]
    for each, executor in zip(stores, (Inline(RunOptions("cpu")), slots(2)), strict=True):
        each.create()
        run(specs if each is stores[0] else specs[::-1], each, executor)
    first, second = (each.runs() for each in stores)
    for spec in specs:
        np.testing.assert_array_equal(
            predictions(first[spec.key].path), predictions(second[spec.key].path)
        )


def test_runs_that_take_turns_in_a_slot_give_the_bits_of_runs_by_themselves(
    make_experiment: Callable[..., Experiment], tmp_path: Path
) -> None:
    specs = expand(make_experiment(**GRID)).runs
    stores = [Store(tmp_path / name, "tiny") for name in "ab"]
    heard = Heard()
    for each, executor in zip(stores, (Inline(RunOptions("cpu")), slots(1, lanes=3)), strict=True):
        each.create()
        run(specs, each, executor, [heard] if each is stores[1] else [])
    first, second = (each.runs() for each in stores)
    for spec in specs:
        np.testing.assert_array_equal(
            predictions(first[spec.key].path), predictions(second[spec.key].path)
        )
    started = [what for what, _ in heard.events[:3]]
    assert started == ["started"] * 3, "the first three run at the same time"


@pytest.mark.parametrize(("how", "lanes"), [("die", 1), ("raise", 1), ("die", 3)])
def test_a_run_that_dies_costs_only_itself(
    how: str, lanes: int, plugin: str, make_experiment: Callable[..., Experiment], store: Store
) -> None:
    recipes = {
        "a": [{"name": "mixup", "p": 0.1}],
        "bad": [{"name": "mishap", "how": how}],
        "b": [{"name": "mixup", "p": 0.2}],
        "c": [{"name": "mixup", "p": 0.3}],
    }
    specs = expand(make_experiment(recipes=recipes, plugins=[plugin])).runs
    summary = run(specs, store, slots(2, lanes), [Heard()])
    by_recipe = {spec.recipe: summary.statuses[spec.key] for spec in specs}
    assert by_recipe == {"nothing": "done", "a": "done", "bad": "failed", "b": "done", "c": "done"}
    (reason,) = summary.failures.values()
    assert ("SIGKILL" if how == "die" else "RuntimeError: it went wrong") in reason
    bad = next(stored for stored in store.runs().values() if stored.failed)
    error = json.loads((bad.path / "error.json").read_text())
    assert error["kind"] == ("killed" if how == "die" else "exception")


def test_a_run_that_calls_exit_has_failed_with_its_code_and_the_next_one_goes_on(
    plugin: str, make_experiment: Callable[..., Experiment], store: Store
) -> None:
    recipes = {"bad": [{"name": "mishap", "how": "exit"}], "after": [{"name": "mixup"}]}
    specs = expand(make_experiment(recipes=recipes, plugins=[plugin])).runs
    summary = run(specs, store, Inline(RunOptions("cpu")))
    by_recipe = {spec.recipe: summary.statuses[spec.key] for spec in specs}
    assert by_recipe == {"nothing": "done", "bad": "failed", "after": "done"}
    (reason,) = summary.failures.values()
    assert reason == "the code of this run called sys.exit: exit code 7"


@pytest.mark.parametrize("wrote", ["nothing", "result.json", "error.json"])
def test_a_run_that_ended_in_time_is_not_overdue_however_late_the_driver_hears_of_it(
    wrote: str, make_spec: Callable[..., RunSpec], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handle, "spawn", lambda number, gpu: gone(number))
    spec = make_spec()
    job = Job(spec, store.begin(spec))
    if wrote != "nothing":
        result = {"status": "done", "metrics": {"test": {}}, "cost": {"seconds": 1.0}}
        text = result if wrote == "result.json" else {"kind": "exception", "message": "x"}
        (job.attempt / wrote).write_text(json.dumps(text))
    slot = gone(0)
    slot.jobs, slot.begun = {spec.key: job}, {spec.key: time.monotonic() - 100}
    executor = Local(Layout((), "cpu"), timeout=8.0)
    executor._slots, executor._reached = [slot], {spec.key: 0}
    ((_, message),) = executor._end_overdue(8.0)
    executor.close()
    if wrote == "result.json":
        assert message == Finished("done")
    else:
        assert message == Finished("failed")
        error = json.loads((job.attempt / "error.json").read_text())
        assert error["kind"] == ("killed" if wrote == "nothing" else "exception")
        assert "exit code 7" in error["message"] or wrote == "error.json"


def gone(number: int) -> handle.SlotHandle:
    """Return a slot whose process has ended with exit code 7."""
    context = multiprocessing.get_context("fork")
    process = context.Process(target=os._exit, args=(7,))
    process.start()
    wait([process.sentinel])
    ours, theirs = context.Pipe()
    theirs.close()
    return handle.SlotHandle(number, None, process, ours)


@pytest.mark.parametrize("lanes", [1, 3])
def test_a_run_that_loses_the_device_fails_by_itself_and_others_get_a_new_process(
    lanes: int, plugin: str, make_experiment: Callable[..., Experiment], store: Store
) -> None:
    recipes = {
        "bad": [{"name": "mishap", "how": "lose"}],
        "after": [{"name": "mishap", "how": "print"}],
    }
    specs = expand(make_experiment(recipes=recipes, plugins=[plugin])).runs
    summary = run(specs, store, slots(1, lanes), [Heard()])
    by_recipe = {spec.recipe: summary.statuses[spec.key] for spec in specs}
    assert by_recipe == {"nothing": "done", "bad": "failed", "after": "done"}
    (reason,) = summary.failures.values()
    assert "illegal memory access" in reason


def test_a_run_that_spoils_its_process_is_done_and_the_next_gets_a_new_one(
    plugin: str, make_experiment: Callable[..., Experiment], store: Store
) -> None:
    recipes = {
        "spoils": [{"name": "mishap", "how": "spoil"}],
        "after": [{"name": "mishap", "how": "print"}],
    }
    specs = expand(make_experiment(recipes=recipes, plugins=[plugin])).runs
    summary = run(specs, store, slots(1), [Heard()])
    by_recipe = {spec.recipe: summary.statuses[spec.key] for spec in specs}
    assert by_recipe == {"nothing": "done", "spoils": "done", "after": "done"}, summary.failures


def test_what_a_run_prints_goes_to_its_log(
    plugin: str, make_experiment: Callable[..., Experiment], store: Store, capfd: Any
) -> None:
    recipes = {"it": [{"name": "mishap", "how": "print"}]}
    specs = expand(make_experiment(recipes=recipes, plugins=[plugin])).runs
    executor = Local(Layout(("7",), "cpu"))  # a GPU that is not there: training is on the CPU
    summary = run(specs[1:], store, executor)
    (path,) = summary.paths.values()
    log = (path / "log.txt").read_text()
    assert "said by C" in log
    assert "said by Python on GPU 7" in log
    assert "said by" not in capfd.readouterr().out


def test_a_plugin_that_is_gone_fails_its_run_and_no_other(
    plugin: str, make_experiment: Callable[..., Experiment], store: Store
) -> None:
    recipes = {"it": [{"name": "mishap", "how": "none"}]}
    specs = expand(make_experiment(recipes=recipes, plugins=[plugin])).runs
    Path(plugin).unlink()
    summary = run(specs[1:], store, slots(1))
    assert "no such Python file" in next(iter(summary.failures.values()))


def test_weights_that_changed_since_the_plan_are_refused(
    make_experiment: Callable[..., Experiment], store: Store, tmp_path: Path
) -> None:
    weights = tmp_path / "w.pt"
    weights.write_bytes(b"planned")
    model = {"name": "tiny_cnn", "weights": str(weights)}
    (spec,) = expand(make_experiment(models=[model])).runs
    weights.write_bytes(b"changed since")
    summary = run([spec], store, slots(1))
    assert "file of weights has changed since this run was planned" in summary.failures[spec.key]


@pytest.mark.parametrize("make", [lambda: Inline(RunOptions("cpu")), lambda: slots(1)])
def test_a_message_that_no_file_can_hold_fails_its_run_alone(
    make: Callable[[], Executor],
    plugin: str,
    make_experiment: Callable[..., Experiment],
    store: Store,
) -> None:
    recipes = {"bad": [{"name": "mishap", "how": "bytes"}], "good": ["mixup"]}
    specs = expand(make_experiment(recipes=recipes, plugins=[plugin])).runs
    summary = run(specs[1:], store, make())
    assert list(summary.statuses.values()) == ["failed", "done"]
    assert list(summary.failures.values()) == [r"OSError: cannot open caf\udce9.png"]


def test_fail_fast_hands_out_no_more_after_a_failure(
    plugin: str, make_experiment: Callable[..., Experiment], store: Store
) -> None:
    recipes = {"bad": [{"name": "mishap"}], "good": ["mixup"]}
    specs = expand(make_experiment(recipes=recipes, plugins=[plugin])).runs
    summary = run(specs[1:], store, Inline(RunOptions("cpu")), fail_fast=True)
    assert list(summary.statuses.values()) == ["failed"]


class Interrupts:
    """An executor that is interrupted in the middle of its first job."""

    slots = 1

    def execute(self, jobs: Iterator[Job], judge: Any = None) -> Iterator[tuple[Job, Message]]:
        job = next(jobs)
        (job.attempt / "half").write_text("")
        yield job, Progressed(1, 2)
        raise KeyboardInterrupt


def test_an_interrupted_attempt_leaves_nothing_behind(
    make_spec: Callable[..., RunSpec], store: Store
) -> None:
    heard = Heard()
    with pytest.raises(KeyboardInterrupt):
        run([make_spec()], store, Interrupts(), [heard])
    assert heard.events[-1][0] == "abandoned"
    assert list((store.path / ".running").iterdir()) == []
    assert store.runs() == {}


def test_closing_the_local_executor_ends_its_slots(
    make_experiment: Callable[..., Experiment], store: Store
) -> None:
    specs = expand(make_experiment(seeds=4)).runs
    messages = slots(2).execute(Job(spec, store.begin(spec)) for spec in specs)
    next(messages)
    assert len(multiprocessing.active_children()) == 2
    messages.close()  # type: ignore[attr-defined]
    assert multiprocessing.active_children() == []


class Ends:
    """An executor that reports statuses and trains nothing."""

    slots = 1

    def __init__(self, scores: dict[str, float | None]) -> None:
        self._scores = scores

    def execute(self, jobs: Iterator[Job], judge: Any = None) -> Iterator[tuple[Job, Message]]:
        for job in jobs:
            value = self._scores[job.spec.recipe]
            metrics = {"val": {"balanced_accuracy": value}} if value is not None else {}
            (job.attempt / "spec.json").write_text(json.dumps(job.spec.to_json()))
            cost = {"seconds": 1.0}
            result = {"status": "done", "metrics": {**metrics, "test": {}}, "cost": cost}
            (job.attempt / "result.json").write_text(json.dumps(result))
            (job.attempt / "model.pt").write_bytes(bytes(1000))
            yield job, Finished("done")


@pytest.mark.parametrize(
    ("policy", "cap", "kept"),
    [
        ("all", 1.0, {"nothing", "smote", "mixup", "smote+mixup"}),
        ("all", 2.5e-6, {"nothing", "mixup"}),
        ("best", 1.0, {"smote"}),
        ("none", 1.0, set()),
    ],
)
def test_weights_stay_by_policy_and_under_the_cap(
    policy: Any,
    cap: float,
    kept: set[str],
    make_experiment: Callable[..., Experiment],
    store: Store,
) -> None:
    scores = {"nothing": 0.5, "smote": 0.9, "mixup": 0.6, "smote+mixup": None}
    specs = expand(make_experiment(**GRID)).runs
    # a second driver knows what the first one kept; a third one does everything again
    for part in (specs[:2], specs[2:], specs):
        run(part, store, Ends(scores), keeper=WeightKeeper(store, policy, cap))
    paths = {spec.recipe: store.runs()[spec.key].path for spec in specs}
    assert {recipe for recipe, path in paths.items() if (path / "model.pt").exists()} == kept


def test_a_stored_run_that_cannot_be_read_is_no_candidate_for_the_best_weights(
    make_experiment: Callable[..., Experiment], store: Store
) -> None:
    specs = expand(make_experiment(**GRID)).runs
    scores: dict[str, float | None] = dict.fromkeys(("nothing", "smote"), 0.5)
    run(specs[:1], store, Ends(scores), keeper=WeightKeeper(store, "best", 1.0))
    path = store.runs()[specs[0].key].path / "spec.json"
    path.write_text(json.dumps({**specs[0].to_json(), "plugins": ["gone.py"]}))
    run(specs[2:3], store, Ends(scores), keeper=WeightKeeper(store, "best", 1.0))
    assert (store.runs()[specs[2].key].path / "model.pt").exists()


def test_a_finished_run_that_fails_when_it_is_forced_is_kept(
    plugin: str, make_experiment: Callable[..., Experiment], store: Store
) -> None:
    recipes = {"bad": [{"name": "mishap"}]}
    spec = expand(make_experiment(recipes=recipes, plugins=[plugin])).runs[-1]
    attempt = store.begin(spec)
    (attempt / "result.json").write_text("{}")
    store.commit(spec, attempt)
    heard = Heard()
    summary = run([spec], store, Inline(RunOptions("cpu")), [heard])
    assert "it went wrong (the finished run of before is kept)" in summary.failures[spec.key]
    assert heard.events == [("started", "bad"), ("abandoned", "bad")]
    assert store.is_done(spec.key)
    assert list((store.path / ".running").iterdir()) == []


def test_a_slot_that_died_while_idle_costs_no_run(
    make_experiment: Callable[..., Experiment], store: Store
) -> None:
    executor = slots(1)
    executor._slots[0].process.kill()
    executor._slots[0].process.join()
    summary = run(expand(make_experiment()).runs, store, executor)
    assert set(summary.statuses.values()) == {"done"}


SCRIPT = """
import harness
runs = harness.run(
    {"name": "t", "datasets": [{"name": "shapes", "classes": 2, "size": 8, "per_class": 20}],
     "training": {"max_steps": 2, "batch_size": 8}, "seeds": 2},
    results=RESULTS, track=False, jobs=1,
)
print(runs["status"].tolist())
"""


def test_a_script_needs_no_main_guard(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(f"RESULTS = {str(tmp_path / 'r')!r}" + SCRIPT)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "['done', 'done']", done.stderr


class Full:
    """An executor whose jobs meet a full disk."""

    slots = 1

    def execute(self, jobs: Iterator[Job], judge: Any = None) -> Iterator[tuple[Job, Message]]:
        job = next(jobs)
        (job.attempt / "checkpoint.latest").write_text("")
        yield job, Finished("no_space")


def test_i15_a_full_disk_ends_the_grid_and_blames_no_run(
    make_spec: Callable[..., RunSpec], store: Store
) -> None:
    heard = Heard()
    with pytest.raises(StoreError, match="No space left on device; free some"):
        run([make_spec()], store, Full(), [heard])
    assert [what for what, _ in heard.events] == ["started", "abandoned"]
    assert store.runs() == {}
    (attempt,) = (store.path / ".running").iterdir()
    assert [file.name for file in attempt.iterdir()] == ["checkpoint.latest"]


def test_i15_a_run_that_meets_a_full_disk_says_so_and_not_that_it_failed(
    make_spec: Callable[..., RunSpec], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: RunDir, rows: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(RunDir, "write_history", full)
    spec = make_spec()
    with pytest.raises(StoreError, match="free some"):
        run([spec], store, Inline(RunOptions("cpu")))
    monkeypatch.undo()
    assert run([spec], store, Inline(RunOptions("cpu"))).statuses == {spec.key: "done"}


@pytest.mark.parametrize("most", [1, 2])
def test_no_more_runs_than_may_fail_are_started(
    most: int, plugin: str, make_experiment: Callable[..., Experiment], store: Store
) -> None:
    recipes = {f"bad{i}": [{"name": "mishap", "stop": 1 - i / 10}] for i in range(4)}
    specs = expand(make_experiment(recipes=recipes, plugins=[plugin])).runs
    summary = run(specs[1:], store, Inline(RunOptions("cpu")), max_failures=most)
    assert list(summary.statuses.values()) == ["failed"] * most


def test_past_the_deadline_nothing_is_started_and_what_runs_goes_on(
    make_experiment: Callable[..., Experiment], store: Store
) -> None:
    specs = expand(make_experiment(seeds=3, **GRID)).runs
    summary = run(specs, store, Inline(RunOptions("cpu")), deadline=time.monotonic() + 0.2)
    assert summary.out_of_time
    assert 0 < len(summary.statuses) < len(specs)
    assert set(summary.statuses.values()) == {"done"}
    counts = collections.Counter(spec.recipe for spec in specs if spec.key in summary.statuses)
    done = [counts[spec.recipe] for spec in specs]
    assert max(done) - min(done) <= 1, "recipes differ by one seed at most"


def test_a_killed_run_goes_on_while_it_gets_further_and_fails_when_it_does_not(
    plugin: str, make_experiment: Callable[..., Experiment], store: Store, tmp_path: Path
) -> None:
    (tmp_path / "dies.py").write_text(DIES.replace("MARK", str(tmp_path / "mark")))
    recipes = {"dies": [{"name": "dies"}], "bad": [{"name": "mishap", "how": "die"}]}
    plugins = [plugin, str(tmp_path / "dies.py")]
    training = {"max_steps": 100, "epochs": 100, "batch_size": 8, "eval_every": 0.5}
    specs = expand(make_experiment(recipes=recipes, plugins=plugins, training=training)).runs
    layout = Layout((None,), "cpu")
    summary = run(specs[1:], store, Local(layout, RunOptions(checkpoint_every=0.0)))
    by_recipe = {spec.recipe: spec for spec in specs}
    assert summary.statuses[by_recipe["dies"].key] == "done"
    path = summary.paths[by_recipe["dies"].key]
    assert "resumed from step" in json.loads((path / "result.json").read_text())["notes"][0]
    assert "the process of this run ended; this attempt goes on" in (path / "log.txt").read_text()
    assert summary.statuses[by_recipe["bad"].key] == "failed"
    assert outcome_of(summary.paths[by_recipe["bad"].key])[0] == "killed"


DIES = """
import os, pathlib, signal
import numpy as np
from harness.strategies.base import Mix, Windowed, strategy

@strategy("dies")
class Dies(Windowed):
    \"\"\"Die once, in the last third.\"\"\"

    def blend(self, batch, rng):
        mark = pathlib.Path("MARK")
        if batch.progress > 0.7 and not mark.exists():  # in the second chunk of steps
            mark.write_text("")
            os.kill(os.getpid(), signal.SIGKILL)
        one = np.ones(len(batch.labels), np.float32)
        return Mix(np.arange(len(one)), one, one)
"""


@pytest.mark.parametrize("lanes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_i19_a_run_that_hangs_is_ended_and_others_are_not_blamed(
    lanes: int, make_experiment: Callable[..., Experiment], store: Store, tmp_path: Path
) -> None:
    (tmp_path / "hangs.py").write_text(HANGS)
    recipes = {"hangs": [{"name": "hangs"}], "good": ["mixup"]}
    specs = expand(make_experiment(recipes=recipes, plugins=[str(tmp_path / "hangs.py")])).runs
    executor = Local(Layout((None,), "cpu", lanes), timeout=8.0)
    summary = run(specs, store, executor)
    by_recipe = {spec.recipe: summary.statuses[spec.key] for spec in specs}
    assert by_recipe == {"nothing": "done", "hangs": "failed", "good": "done"}
    (reason,) = summary.failures.values()
    assert reason == "not done after 8 s (--run-timeout); its process was ended"
    bad = next(stored.path for stored in store.runs().values() if stored.failed)
    assert outcome_of(bad)[0] == "timeout"


HANGS = """
import time
from harness.strategies.base import Windowed, strategy

@strategy("hangs")
class Hangs(Windowed):
    \"\"\"Never answer.\"\"\"

    def blend(self, batch, rng):
        time.sleep(3600)
"""


def test_a_result_that_was_whole_when_its_process_died_counts(
    make_spec: Callable[..., RunSpec], store: Store
) -> None:
    path = store.begin(make_spec())
    assert whole(path) is None
    (path / "result.json").write_text('{"status": "do')
    assert whole(path) is None
    whole_result = {"status": "done", "metrics": {"test": {}}, "cost": {"seconds": 1.0}}
    (path / "result.json").write_text(json.dumps(whole_result))
    assert whole(path) == "done"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("make", [lambda: Inline(RunOptions("cpu")), lambda: slots(1)])
def test_i04_asked_to_stop_what_runs_is_set_aside_with_a_checkpoint(
    number: int,
    make: Callable[[], Executor],
    make_experiment: Callable[..., Experiment],
    store: Store,
) -> None:
    specs = expand(make_experiment(training={"epochs": 3000, "batch_size": 8}, **GRID)).runs

    asked: list[int] = []

    class Asks(Heard):
        def progressed(self, spec: RunSpec, message: Progressed) -> None:
            if message.step > 1 and not asked:
                asked.append(message.step)
                os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    heard = Asks()
    with pytest.raises(Interrupted) as raised:
        run(specs, store, make(), [heard])
    assert exit_code(raised.value) == 128 + number
    assert signal.getsignal(number) is before
    assert [what for what, _ in heard.events] == ["started", "abandoned"]
    (attempt,) = (store.path / ".running").iterdir()
    assert [file.name for file in attempt.iterdir()] == ["checkpoint.latest"]


def test_i04_asked_twice_it_ends_at_once(
    make_experiment: Callable[..., Experiment], store: Store
) -> None:
    specs = expand(make_experiment(**GRID)).runs

    class Asks(Heard):
        def progressed(self, spec: RunSpec, message: Progressed) -> None:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted) as asked:
        run(specs, store, Inline(RunOptions("cpu")), [Asks()])
    assert asked.value.at_once
    assert list((store.path / ".running").iterdir()) == []


class Deletes:
    """An executor during whose first job somebody deletes a folder."""

    slots = 1

    def __init__(self, which: Callable[[Job], Path]) -> None:
        self._which = which

    def execute(self, jobs: Iterator[Job], judge: Any = None) -> Iterator[tuple[Job, Message]]:
        for number, job in enumerate(jobs):
            if number == 0:
                shutil.rmtree(self._which(job))
            else:
                RunDir(job.attempt).write_error("exception", "as told")
            yield job, Finished("done" if number == 0 else "failed")

    def halt(self) -> None:
        """Nothing runs."""

    def close(self) -> None:
        """Nothing was started."""


def test_an_attempt_that_is_deleted_under_way_fails_alone(
    make_experiment: Callable[..., Experiment], store: Store
) -> None:
    specs = expand(make_experiment(**GRID)).runs[:2]
    summary = run(specs, store, Deletes(lambda job: job.attempt))
    assert list(summary.statuses.values()) == ["failed", "failed"]
    assert "were deleted while it was under way" in summary.failures[specs[0].key]
    assert summary.failures[specs[1].key] == "as told"
    assert all(run.failed for run in store.runs().values())


def test_results_that_are_deleted_under_way_end_the_grid_with_one_message(
    make_experiment: Callable[..., Experiment], store: Store
) -> None:
    specs = expand(make_experiment(**GRID)).runs[:2]
    with pytest.raises(StoreError, match="tiny is gone: it was deleted or moved"):
        run(specs, store, Deletes(lambda job: store.results))
    assert not store.results.exists()


def test_a_run_whose_folder_is_deleted_is_told_as_failed_and_not_raised(
    make_spec: Callable[..., RunSpec], store: Store
) -> None:
    spec = make_spec()
    for executor in (Inline(RunOptions("cpu")), slots(1)):
        job = Job(spec, store.begin(spec))
        heard = []
        for _, message in executor.execute(iter([job])):
            shutil.rmtree(job.attempt, ignore_errors=True)
            heard.append(message)
        assert heard[-1] == Finished("failed")
