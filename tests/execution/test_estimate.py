import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.errors import ConfigError
from harness.execution.estimate import (
    DATABASE_BYTES,
    Measured,
    estimate,
    measure,
    shape_of,
    sizes_of,
)
from harness.execution.runner import Finished, Job, Message
from harness.experiment.expand import expand
from harness.experiment.schema import Experiment
from harness.training.run_options import RunOptions

GRID: dict[str, Any] = {
    "factors": {
        "augment": ["none", {"policy": "flip_crop"}, {"policy": "standard"}],
        "sampler": ["none", "weighted_sampler"],
        "mixup": ["none", {"alpha": 0.2}, {"alpha": 1.0}],
        "smote": ["none", "smote"],
    },
    "seeds": 4,
}


class Scripted:
    """An executor whose runs cost what a script says: seconds per step by recipe."""

    slots = 2
    steps: list[int]

    def __init__(self, step: Callable[[str], float]) -> None:
        self._step = step
        self.done: list[tuple[str, int, int]] = []

    def execute(self, jobs: Iterator[Job], judge: Any = None) -> Iterator[tuple[Job, Message]]:
        for job in jobs:
            spec, training = job.spec, job.spec.training
            steps = training.max_steps
            assert steps is not None
            self.done.append((spec.recipe, steps, spec.seed))
            each = self._step(spec.recipe)
            rates = [training.batch_size / (9 * each), training.batch_size / each]
            rows = "".join(f"{k},{rate}\n" for k, rate in enumerate(rates))
            (job.attempt / "history.csv").write_text("step,images_per_second\n" + rows)
            (job.attempt / "model.pt").write_bytes(bytes(5000))
            result = {
                "status": "done",
                "metrics": {"val": {"n": 10}, "test": {"n": 20}},
                "cost": {
                    "startup_seconds": 0.0,
                    "seconds": 1.0,
                    "prepare_seconds": 1.5,
                    "train_seconds": each * steps,
                    "evaluate_seconds": 0.5,
                    "images_per_second": 1.0,
                    "peak_memory_mb": 300.0,
                },
            }
            (job.attempt / "result.json").write_text(json.dumps(result))
            yield job, Finished("done")

    def close(self) -> None:
        """Nothing was started."""


def test_runs_of_one_shape_do_the_same_work(
    make_experiment: Callable[..., Experiment],
) -> None:
    specs = expand(make_experiment(**GRID)).runs
    shapes: dict[str, set[str]] = {}
    for spec in specs:
        shapes.setdefault(shape_of(spec), set()).add(spec.recipe)
    # three augmentations, with or without smote, with or without mixup
    assert len(shapes) == 12
    assert {"weighted_sampler", "nothing"} in shapes.values()
    assert {"mixup", "mixup(alpha=0.2)"} & set().union(
        *(names for names in shapes.values() if "weighted_sampler+mixup" in names)
    )


def test_as_many_steps_are_measured_as_make_a_stretch_worth_timing(
    make_experiment: Callable[..., Experiment],
) -> None:
    specs = expand(make_experiment(**GRID)).runs
    seconds = {"nothing": 0.02, "smote": 10.0, "mixup(alpha=0.2)": 1e-6}
    executors: list[Scripted] = []

    def make() -> Scripted:
        executors.append(Scripted(lambda recipe: seconds.get(recipe, 0.1)))
        return executors[-1]

    found = measure(specs, make, slots=2)
    assert found.keys() == {shape_of(spec) for spec in specs}
    first, second = ({recipe: steps for recipe, steps, _ in e.done} for e in executors)
    assert set(first.values()) == {8}
    assert (second["nothing"], second["smote"], second["mixup(alpha=0.2)"]) == (50, 8, 256)
    plain = found[shape_of(specs[0])]
    assert plain.step == pytest.approx(0.02)  # of the second stretch: the first one warms up
    assert plain.begin == 1.5
    assert plain.sample == pytest.approx(0.5 / (3 * 10 + 20))
    assert plain.weights == 5000
    assert 0 < plain.bytes < 5000


def test_every_slot_is_busy_while_a_single_shape_is_measured(
    make_experiment: Callable[..., Experiment],
) -> None:
    executor = Scripted(lambda recipe: 0.1)
    measure(expand(make_experiment()).runs, lambda: executor, slots=3)
    assert [seed for _, _, seed in executor.done] == [0, 1, 2] * 2


def test_the_estimate_is_the_sum_over_the_runs(make_experiment: Callable[..., Experiment]) -> None:
    plan = expand(make_experiment(seeds=5, training={"epochs": 10, "batch_size": 8}))
    one = Measured(2.0, 0.1, 0.01, 0.5, memory_mb=400.0, bytes=1000, weights=50)
    sizes = sizes_of(plan.infos)
    train, val, test = sizes(plan.runs[0])
    measured = {shape_of(plan.runs[0]): one}
    each = 2.0 + plan.runs[0].training.steps(train) * 0.1 + (11 * val + test) * 0.01 + 0.5
    got = estimate(plan.runs, measured, sizes, slots=2, processes=2, weights_cap=120)
    assert got.slot_seconds == pytest.approx(5 * each)
    assert got.seconds == pytest.approx(2.5 * each)
    assert got.memory_mb == 800.0
    assert got.bytes == 5 * (1000 + DATABASE_BYTES) + 120
    many = estimate(plan.runs[:1], measured, sizes, slots=8, processes=1, weights_cap=0)
    assert many.seconds == pytest.approx(each)
    assert many.memory_mb == 400.0


def test_a_shape_that_fails_is_named(
    make_experiment: Callable[..., Experiment], tmp_path: Path
) -> None:
    from harness.execution.executors.inline import Inline

    plugin = tmp_path / "fails.py"
    plugin.write_text(
        "from harness.strategies.base import Windowed, strategy\n"
        "@strategy('fails')\n"
        "class Fails(Windowed):\n"
        '    """Fail."""\n'
        "    def blend(self, batch, rng):\n"
        "        raise RuntimeError('no')\n"
    )
    plan = expand(make_experiment(recipes={"bad": ["fails"]}, plugins=[str(plugin)]))
    with pytest.raises(ConfigError, match="'bad' fails: RuntimeError: no"):
        measure(plan.runs, lambda: Inline(RunOptions("cpu")), slots=1)


def test_what_is_measured_is_what_a_real_run_leaves(
    make_experiment: Callable[..., Experiment],
) -> None:
    from harness.execution.executors.inline import Inline

    plan = expand(make_experiment(recipes={"it": [{"name": "augment", "policy": "standard"}]}))
    found = measure(plan.runs, lambda: Inline(RunOptions("cpu")), slots=1)
    assert len(found) == 2
    for one in found.values():
        assert min(one.begin, one.step, one.sample, one.end) > 0
        assert one.bytes > 1000
        assert one.weights > 1000
        assert one.memory_mb is None or one.memory_mb > 50
