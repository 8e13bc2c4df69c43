import hashlib
import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from harness.datasets.base import forget
from harness.errors import ConfigError, DataError
from harness.experiment.spec import RunSpec
from harness.metrics import evaluate
from harness.registry import strategies as registry
from harness.strategies.base import Batch, Loss, Mix, Strategy, Synthesis, Windowed
from harness.training.events import Command, Evaluated
from harness.training.loop import evaluation_steps
from harness.training.pipeline import Pipeline
from harness.training.prepare import prepare
from harness.training.run import drain, reproduce, start
from harness.training.run_options import RunOptions
from harness.training.step import Step, make_optimizer

MakeSpec = Callable[..., RunSpec]
CPU = torch.device("cpu")

EVERYTHING = [
    {"name": "augment", "policy": "strong"},
    {"name": "weighted_sampler", "start": 0.5},
    "smote",
    {"name": "mixup", "p": 0.5},
    {"name": "cutmix", "p": 0.5},
    {"name": "class_weights", "start": 0.5},
]
TAIL = {"name": "shapes", "classes": 3, "size": 8, "per_class": 40, "imbalance_factor": 4}


@pytest.fixture
def folder(tmp_path: Path) -> Callable[[str], Path]:
    def make(name: str) -> Path:
        path = tmp_path / name
        path.mkdir()
        return path

    return make


def train(spec: RunSpec, path: Path) -> dict[str, Any]:
    for _ in (events := drain_all(spec, path)):
        pass
    assert events.status == "done", (path / "error.json").read_text() + (
        path / "log.txt"
    ).read_text()
    result: dict[str, Any] = json.loads((path / "result.json").read_text())
    return result


class drain_all:
    def __init__(self, spec: RunSpec, path: Path) -> None:
        self._events = drain(spec, path, RunOptions("cpu"))
        self.status = ""

    def __iter__(self) -> Iterator[Any]:
        self.status = yield from self._events


def probabilities(path: Path) -> np.ndarray:
    with np.load(path / "predictions.npz", allow_pickle=False) as stored:
        found: np.ndarray = stored["test_probabilities"]
    return found


def test_a_run_leaves_every_file_and_metrics_that_follow_from_its_predictions(
    make_spec: MakeSpec, folder: Callable[[str], Path]
) -> None:
    spec, path = make_spec(EVERYTHING, datasets=[TAIL]), folder("a")
    result = train(spec, path)
    names = {file.name for file in path.iterdir()}
    assert names >= {
        "spec.json", "result.json", "history.csv", "per_class.csv", "confusion.csv",
        "predictions.npz", "env.json", "model.pt",
    }  # fmt: skip
    with np.load(path / "predictions.npz", allow_pickle=False) as stored:
        again = evaluate(
            stored["test_probabilities"], stored["test_labels"], np.array(result["train_counts"])
        )
    assert again.summary == result["metrics"]["test"]
    assert result["steps"] == spec.training.steps(result["train_size"])
    assert sum(result["delivered"]) == result["steps"] * spec.training.batch_size
    assert result["synthetic"] == 3 * max(result["train_counts"]) - sum(result["train_counts"])
    assert result["mixed_share"].keys() == {"mixup", "cutmix"}
    assert sum(result["mixed_share"].values()) == pytest.approx(1.0)
    assert RunSpec.from_json(json.loads((path / "spec.json").read_text())).key == spec.key


def test_t03_a_run_records_the_digests_of_its_rows_and_of_the_longtailed_subset(
    make_spec: MakeSpec, folder: Callable[[str], Path]
) -> None:
    spec = make_spec(datasets=[TAIL])
    rows = spec.dataset.split(spec.dataset.indexed(), spec.seed)
    found = train(spec, folder("a"))["row_digests"]
    assert found == rows.digests() == dict(spec.dataset.info(spec.seed).digests)
    drawn = np.asarray(rows.subset, "<i8")
    assert sorted(drawn) == sorted([*rows.train, *rows.val])
    assert found["subset"] == hashlib.sha256(drawn.tobytes()).hexdigest()
    assert found["subset_by_class"] == hashlib.sha256(rows.places.astype("<i8")).hexdigest()
    assert len(set(found.values())) == 5
    plain = make_spec()
    assert set(train(plain, folder("b"))["row_digests"]) == {"train", "val", "test"}


@pytest.fixture
def threads() -> Iterator[int]:
    """Have torch use two threads, as it does on a machine of as many cores; tests have one."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield 2
    torch.set_num_threads(before)


def test_the_same_run_gives_the_same_bits_and_leaves_every_generator_alone(
    make_spec: MakeSpec, folder: Callable[[str], Path], threads: int
) -> None:
    spec = make_spec(EVERYTHING, datasets=[TAIL])
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]
    a, b = folder("a"), folder("b")
    first = train(spec, a)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert np.random.get_state()[1].tolist() == states[2]  # type: ignore[index]
    assert torch.get_num_threads() == threads
    torch.manual_seed(2)
    torch.set_num_threads(1)
    forget()
    assert train(spec, b)["metrics"] == first["metrics"]
    np.testing.assert_array_equal(probabilities(a), probabilities(b))


def test_t19_weights_reproduce_the_stored_probabilities(
    make_spec: MakeSpec, folder: Callable[[str], Path]
) -> None:
    path = folder("a")
    train(make_spec(EVERYTHING, datasets=[TAIL]), path)
    forget()
    np.testing.assert_allclose(reproduce(path, "cpu"), probabilities(path), atol=1e-6)


def test_t10_every_recipe_has_the_same_number_of_steps(
    make_spec: MakeSpec, folder: Callable[[str], Path]
) -> None:
    recipes: list[Any] = [None, ["smote"], ["weighted_sampler"], EVERYTHING]
    steps = {
        train(make_spec(recipe, datasets=[TAIL]), folder(str(i)))["steps"]
        for i, recipe in enumerate(recipes)
    }
    assert len(steps) == 1


def test_t01_a_sampler_reaches_the_batches(
    make_spec: MakeSpec, folder: Callable[[str], Path]
) -> None:
    plain = train(make_spec(datasets=[TAIL]), folder("a"))
    balanced = train(make_spec(["stratified_batches"], datasets=[TAIL]), folder("b"))
    assert max(plain["delivered"]) > 2 * min(plain["delivered"])
    assert max(balanced["delivered"]) - min(balanced["delivered"]) <= 1


class Spy(Strategy):
    """Record what the hooks are given."""

    seen: ClassVar[dict[str, Any]] = {}

    def synthesize(self, features: Any, labels: Any, rng: Any) -> Synthesis:
        Spy.seen["features"], Spy.seen["labels"] = features.copy(), labels.copy()
        none = np.zeros(0, np.int64)
        return Synthesis(none, none, none.astype(np.float32))

    def blend(self, batch: Batch, rng: Any) -> Mix:
        Spy.seen.setdefault("indices", set()).update(batch.indices.tolist())
        same = np.arange(len(batch.labels))
        return Mix(same, np.ones(len(same), np.float32), np.ones(len(same), np.float32))


def test_t02_t15_no_strategy_sees_a_val_or_test_row(
    make_spec: MakeSpec, folder: Callable[[str], Path]
) -> None:
    with registry.temporary():
        registry.register("spy")(Spy)
        spec = make_spec(["spy"], datasets=[TAIL])
        train(spec, folder("a"))
    data = spec.dataset.load(spec.seed)
    train_rows = data.features[data.rows.train].reshape(len(data.rows.train), -1)
    np.testing.assert_array_equal(Spy.seen["features"], train_rows)
    assert max(Spy.seen["indices"]) < len(train_rows)
    held = np.concatenate([data.rows.val, data.rows.test])
    assert not set(held) & set(data.rows.train)


class Mute(Exception):
    """Fails at saying what it is."""

    def __str__(self) -> str:
        raise RuntimeError


class Fails(Strategy):
    how: str = "raise"

    def loss(self, class_counts: Any) -> Loss:
        if self.how == "raise":
            raise RuntimeError("out of ideas")
        if self.how == "memory":
            raise MemoryError
        if self.how == "bytes":
            raise ValueError("cannot open 'caf\udce9.png'")
        if self.how == "mute":
            raise Mute
        return lambda logits, targets: (logits * float("nan")).sum(1)


@pytest.mark.parametrize(
    ("how", "kind", "message"),
    [
        ("raise", "exception", "RuntimeError: out of ideas"),
        (
            "memory",
            "out_of_memory",
            "out of memory; a smaller training.batch_size, --jobs or --runs-per-gpu needs less",
        ),
        ("bytes", "exception", r"ValueError: cannot open 'caf\udce9.png'"),
        ("mute", "exception", "Mute: (its message cannot be shown)"),
    ],
)
def test_a_failure_is_written_and_not_raised(
    make_spec: MakeSpec, folder: Callable[[str], Path], how: str, kind: str, message: str
) -> None:
    path = folder("a")
    with registry.temporary():
        registry.register("fails")(Fails)
        assert (
            list_status(drain(make_spec([{"name": "fails", "how": how}]), path, RunOptions("cpu")))
            == "failed"
        )
    error = json.loads((path / "error.json").read_text())
    assert (error["kind"], error["message"]) == (kind, message)
    assert not (path / "result.json").exists()
    assert "Traceback" in (path / "log.txt").read_text()


def list_status(events: Any) -> str:
    while True:
        try:
            next(events)
        except StopIteration as finished:
            return str(finished.value)


def test_a_loss_that_is_not_finite_is_diverged_and_has_no_metrics(
    make_spec: MakeSpec, folder: Callable[[str], Path]
) -> None:
    path = folder("a")
    with registry.temporary():
        registry.register("fails")(Fails)
        status = list_status(
            drain(make_spec([{"name": "fails", "how": "nan"}]), path, RunOptions("cpu"))
        )
    result = json.loads((path / "result.json").read_text())
    assert status == result["status"] == "diverged"
    assert result["metrics"] == {}
    assert not (path / "model.pt").exists()


class Unlearns(Windowed):
    """Minus the loss: what was learnt before its window is lost in it."""

    def loss(self, class_counts: Any) -> Loss:
        def away(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            return (targets * torch.log_softmax(logits, dim=1)).sum(dim=1)

        return away


@pytest.mark.parametrize("metric", ["balanced_accuracy", "nll", "g_mean"])
def test_t02_select_best_reports_the_weights_that_val_chose(
    metric: str, make_spec: MakeSpec, folder: Callable[[str], Path]
) -> None:
    keys = {"epochs": 20, "batch_size": 8, "lr": 0.1, "eval_every": 0.1, "select": "best"}
    with registry.temporary():
        registry.register("unlearns")(Unlearns)
        recipe = [{"name": "unlearns", "start": 0.6}]
        best, last = folder("best"), folder("last")
        chosen = train(make_spec(recipe, training=keys, metric=metric), best)
        final = train(make_spec(recipe, training={**keys, "select": "last"}, metric=metric), last)
    rows = [line.split(",") for line in (best / "history.csv").read_text().splitlines()]
    column = rows[0].index(f"val/{metric}")
    values = [float(row[column]) for row in rows[1:]]
    place = int(np.argmin(values) if metric == "nll" else np.argmax(values))
    assert 0 < place < 6, "the best step is neither the first nor one of the last"
    assert chosen["selected_step"] == int(float(rows[place + 1][0]))
    assert chosen["metrics"]["val"][metric] == pytest.approx(values[place], rel=1e-5)
    assert final["metrics"]["val"][metric] == pytest.approx(values[-1], rel=1e-5)
    assert chosen["metrics"]["test"][metric] != final["metrics"]["test"][metric]


def test_t02_which_weights_are_chosen_does_not_depend_on_test(
    make_spec: MakeSpec, folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {"epochs": 6, "batch_size": 8, "lr": 0.2, "eval_every": 0.1, "select": "best"}
    spec, scored = make_spec(training=keys), []
    inner = Pipeline.rows

    def rows(self: Pipeline, wanted: np.ndarray) -> Iterator[torch.Tensor]:
        scored.append(len(wanted))
        return inner(self, wanted)

    monkeypatch.setattr(Pipeline, "rows", rows)
    train(spec, folder("a"))
    test = len(spec.dataset.load(0).rows.test)
    assert scored.count(test) == 1
    assert scored[-1] == test, "and that is the last thing"


class Listens(Windowed):
    heard: ClassVar[list[Any]] = []

    def loss(self, class_counts: Any) -> Loss:
        self.heard.append(class_counts.tolist())
        return lambda logits, targets: -(targets * torch.log_softmax(logits, dim=1)).sum(dim=1)


def test_losses_are_told_the_counts_with_synthetic_rows(
    make_spec: MakeSpec, folder: Callable[[str], Path]
) -> None:
    with registry.temporary():
        registry.register("listens")(Listens)
        plain = train(make_spec(["listens"], datasets=[TAIL]), folder("a"))
        full = train(make_spec(["listens", "smote"], datasets=[TAIL]), folder("b"))
    counts = plain["train_counts"]
    assert full["train_counts"] == counts
    assert Listens.heard == [counts, [max(counts)] * len(counts)]


def test_outside_the_window_of_its_loss_a_head_of_cosines_is_scaled_all_the_same(
    make_spec: MakeSpec,
) -> None:
    loop = prepare(make_spec([{"name": "ldam", "start": 0.9}]), torch.device("cpu")).loop
    step = Step(loop.model, loop.pipeline, make_optimizer(loop.model, loop.training), "fp32", CPU)
    criterion = loop.setup(step).losses.at(0)
    cosines, targets = torch.tensor([[0.9, -0.2, 0.1]]), torch.tensor([[0.7, 0.3, 0.0]])
    expected = -(targets * torch.log_softmax(30.0 * cosines, dim=1)).sum(dim=1)
    torch.testing.assert_close(criterion(cosines, targets), expected)


def test_columns_that_smote_takes_whole_are_named(
    make_spec: MakeSpec, folder: Callable[[str], Path], tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    rows = [
        f"{rng.normal():.3f},{colour},{'ab'[i % 4 == 0]}"
        for i, colour in enumerate(rng.choice(["red", "green", "blue"], 120))
    ]
    (tmp_path / "t.csv").write_text("\n".join(["x,colour,label", *rows]))
    table = {"name": "table", "file": str(tmp_path / "t.csv"), "label_column": "label"}
    notes = train(make_spec(["smote"], datasets=[table], models=["mlp"]), folder("a"))["notes"]
    assert "3 one-hot columns are taken whole from the base row in synthetic rows" in notes


def test_stop_ends_a_run_at_its_next_evaluation(
    make_spec: MakeSpec, folder: Callable[[str], Path]
) -> None:
    events = start(make_spec(), folder("a"), RunOptions("cpu"))
    event: Any = next(events)
    while not isinstance(event, Evaluated):
        event = next(events)
    with pytest.raises(StopIteration) as finished:
        events.send(Command.STOP)
    assert finished.value.value["status"] == "stopped"


def test_t24_evaluations_and_phases_are_fractions_of_the_budget() -> None:
    assert evaluation_steps(1000, 0.1) == {100 * i for i in range(1, 11)}
    assert evaluation_steps(7, 0.3) == {2, 5, 7}
    assert evaluation_steps(1, 0.05) == {1}
    assert max(evaluation_steps(19_385, 0.05)) == 19_385


def test_content_that_changed_since_the_plan_is_refused(
    make_spec: MakeSpec, folder: Callable[[str], Path]
) -> None:
    spec = make_spec()
    changed = RunSpec(
        **{**{f: getattr(spec, f) for f in spec.__dataclass_fields__}, "content": "0"}
    )
    with pytest.raises(DataError, match="has changed since"):
        next(start(changed, folder("a"), RunOptions("cpu")))


def test_a_batch_larger_than_the_training_set_is_refused(make_spec: MakeSpec) -> None:
    spec = make_spec()
    large = spec.training.model_copy(update={"batch_size": 10_000})
    changed = RunSpec(
        **{**{f: getattr(spec, f) for f in spec.__dataclass_fields__}, "training": large}
    )
    with pytest.raises(ConfigError, match="larger than the training set"):
        prepare(changed, torch.device("cpu"))


def test_paired_runs_start_from_the_same_weights(make_spec: MakeSpec) -> None:
    cpu = torch.device("cpu")
    models = [prepare(make_spec(recipe), cpu).loop.model for recipe in (None, ["mixup", "smote"])]
    models.append(prepare(make_spec(None, seeds=[5]), cpu).loop.model)
    first, same, other = (list(model.state_dict().values()) for model in models)
    assert all(torch.equal(a, b) for a, b in zip(first, same, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize(
    "schedule", ["constant", "cosine", {"name": "multistep", "milestones": [0.5]}]
)
def test_every_optimizer_and_schedule_learns_the_shapes(
    make_spec: MakeSpec, folder: Callable[[str], Path], optimizer: str, schedule: Any
) -> None:
    keys = {
        "epochs": 25, "batch_size": 8, "lr": 0.05 if optimizer == "sgd" else 0.01,
        "optimizer": optimizer, "schedule": schedule, "eval_every": 1.0,
    }  # fmt: skip
    easy = {"name": "shapes", "classes": 2, "size": 8, "per_class": 40}
    result = train(make_spec(training=keys, datasets=[easy]), folder("a"))
    assert result["metrics"]["test"]["balanced_accuracy"] > 0.7


def test_folds_have_disjoint_test_sets_that_cover_everything(make_experiment: Any) -> None:
    from harness.experiment.expand import expand

    runs = expand(make_experiment(datasets=["digits"], folds=4)).runs
    tests = [spec.dataset.load(spec.seed, spec.fold, spec.folds).rows.test for spec in runs]
    assert sorted(np.concatenate(tests).tolist()) == list(range(1797))


def test_ldam_trains_with_its_normalised_head(
    make_spec: MakeSpec, folder: Callable[[str], Path]
) -> None:
    recipe = [
        {"name": "ldam", "stop": 0.8},
        {"name": "ldam", "start": 0.8, "effective_number": 0.99},
    ]
    spec = make_spec(recipe, datasets=[TAIL])
    assert type(prepare(spec, torch.device("cpu")).loop.model.head).__name__ == "NormalizedLinear"
    path = folder("a")
    train(spec, path)
    # scaled as in the loss: of bare cosines no probability of 3 classes exceeds e / (e + 2/e)
    assert probabilities(path).max() > np.e / (np.e + 2 / np.e)
    np.testing.assert_allclose(reproduce(path, "cpu"), probabilities(path), atol=1e-6)


def test_a_frozen_backbone_keeps_its_weights_and_statistics_to_the_bit(
    make_spec: MakeSpec, folder: Callable[[str], Path]
) -> None:
    first, second = folder("a"), folder("b")
    train(make_spec(datasets=[TAIL]), first)
    weights = str(first / "model.pt")
    frozen = {"name": "tiny_cnn", "width": 4, "weights": weights, "freeze": "backbone"}
    train(make_spec(["mixup"], datasets=[TAIL], models=[frozen], seeds=[3]), second)
    before, after = (torch.load(p / "model.pt", weights_only=True) for p in (first, second))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"head.weight", "head.bias"}


def test_a_metric_that_val_does_not_define_cannot_choose_and_says_so(
    make_spec: MakeSpec, folder: Callable[[str], Path]
) -> None:
    keys = {"max_steps": 4, "batch_size": 8, "select": "best"}
    result = train(make_spec(training=keys, metric="recall_many"), folder("a"))
    assert "recall_many is not defined on this val" in " ".join(result["notes"])
    assert result["selected_step"] == 4


def test_t19_another_process_reproduces_the_stored_probabilities(
    make_spec: MakeSpec, folder: Callable[[str], Path]
) -> None:
    path = folder("a")
    train(make_spec(["smote", "mixup"], datasets=[TAIL]), path)
    code = (
        "import sys, pathlib, numpy as np; from harness.training.run import reproduce; "
        "np.save(sys.argv[2], reproduce(pathlib.Path(sys.argv[1]), 'cpu'))"
    )
    command = [sys.executable, "-c", code, str(path), str(path / "again.npy")]
    subprocess.run(command, check=True)
    np.testing.assert_allclose(np.load(path / "again.npy"), probabilities(path), atol=1e-6)
