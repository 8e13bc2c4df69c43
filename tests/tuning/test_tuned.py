import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from harness.errors import StoreError
from harness.execution.store import Store
from harness.experiment.expand import Plan, expand
from harness.experiment.schema import load
from harness.tuning import tuned
from harness.tuning.run_lookup import RunLookup
from harness.tuning.searches import searches_of
from harness.tuning.summary import finding_of
from harness.tuning.tuned import SearchResult, Value, found_of, read, with_tuned, write
from tests.tuning.conftest import Bench, Fake, planted

Keys = Callable[..., dict[str, Any]]


@pytest.fixture
def plan(keys: Keys) -> Plan:
    return expand(load(keys({"planted": ["planted"], "mixup": ["mixup"]})))


@pytest.fixture
def store(tmp_path: Any) -> Store:
    made = Store(tmp_path / "results", "tiny")
    made.create()
    return made


def finding(plan: Plan, recipe: str, values: dict[str, float], **changes: Any) -> SearchResult:
    (search,) = (s for s in searches_of(plan) if s.recipe == recipe)
    dataset, model, _ = search.group
    made = SearchResult(
        study=search.name,
        dataset=dataset,
        model=model,
        recipe=recipe,
        best=Value(3, 0.75, 0.01),
        default=Value(0, 0.5, None),
        values=values,
        held={},
        states={"complete": 4, "pruned": 0, "failed": 0, "diverged": 0},
        runs=4,
        seconds=8.0,
    )
    return replace(made, **changes)


VALUES = {"planted.alpha": 0.25, "planted.p": 0.5}


def test_what_was_found_is_read_back(plan: Plan, store: Store) -> None:
    assert read(store) == ()
    first = finding(plan, "planted", VALUES)
    write(store, [first])
    assert read(store) == (first,)
    second = finding(plan, "mixup", {"mixup.alpha": 1.0, "mixup.p": 0.5}, best=None)
    write(store, [second])
    assert read(store) == (first, second)
    better = finding(plan, "planted", VALUES, best=Value(9, 0.8, None))
    write(store, [better])
    assert read(store) == (better, second)


def test_nothing_new_is_not_written(plan: Plan, store: Store) -> None:
    write(store, [])
    assert not (store.path / tuned.FILE).exists()
    write(store, [finding(plan, "planted", VALUES)])
    before = (store.path / tuned.FILE).stat().st_mtime_ns
    write(store, [finding(plan, "planted", VALUES)])
    assert (store.path / tuned.FILE).stat().st_mtime_ns == before


def test_tuned_recipes_join_the_plan_seed_by_seed(plan: Plan, store: Store) -> None:
    assert with_tuned(plan, store) == plan
    write(store, [finding(plan, "planted", VALUES)])
    runs = with_tuned(plan, store).runs
    assert [(spec.seed, spec.recipe) for spec in runs] == [
        (seed, recipe)
        for seed in (0, 1)
        for recipe in ("nothing", "planted", "mixup", "planted (tuned)")
    ]
    one = next(spec for spec in runs if spec.recipe == "planted (tuned)")
    assert one.strategies[0].parameters() == {"alpha": 0.25, "p": 0.5}
    assert one.training == plan.experiment.training
    assert len({spec.key for spec in runs}) == 8


def test_own_values_that_won_are_the_same_runs(plan: Plan, store: Store) -> None:
    write(store, [finding(plan, "planted", {"planted.alpha": 5.0, "planted.p": 1.0})])
    found = with_tuned(plan, store)
    assert found.runs == plan.runs
    assert [(remark.recipe, remark.text) for remark in found.same] == [
        ("planted (tuned)", "the same runs as 'planted'")
    ]


def test_what_was_tuned_for_something_else_is_said_and_left_out(
    keys: Keys, plan: Plan, store: Store
) -> None:
    write(store, [finding(plan, "planted", VALUES)])
    changed = expand(load(keys({"planted": ["planted"], "mixup": ["mixup"]}), ["training.lr=0.1"]))
    found = with_tuned(changed, store)
    assert found.runs == changed.runs
    assert found.notes[-1].startswith("'planted' on shapes, tiny_cnn(width=4) was tuned in another")
    assert found_of(changed, store) == []


def test_without_the_key_or_a_winner_the_plan_is_as_it_was(
    keys: Keys, plan: Plan, store: Store
) -> None:
    write(store, [finding(plan, "planted", VALUES, best=None)])
    assert with_tuned(plan, store) == plan
    write(store, [finding(plan, "planted", VALUES)])
    without = {key: value for key, value in keys().items() if key != "tune"}
    other = expand(load(without))
    assert with_tuned(other, store) == other


@pytest.mark.parametrize("text", ["{", "{}", '{"found": [{"study": "x"}]}', '{"found": 3}'])
def test_a_damaged_file_says_what_to_do(plan: Plan, store: Store, text: str) -> None:
    (store.path / tuned.FILE).write_text(text)
    with pytest.raises(StoreError, match=r"tuned\.json .*delete it: `harness tune` writes"):
        with_tuned(plan, store)


def test_values_that_are_not_legal_any_more_are_named(plan: Plan, store: Store) -> None:
    write(store, [finding(plan, "planted", {"planted.alpha": -1.0})])
    with pytest.raises(StoreError, match="'planted': alpha: must be greater than 0"):
        with_tuned(plan, store)


def test_a_finding_says_what_a_search_cost_and_came_to(
    searches: Callable[..., Any], bench: Bench
) -> None:
    def value(spec: Any) -> Any:
        ends = {"#2": "failed", "#3": "diverged"}
        return ends.get(spec.recipe[-2:], planted(spec))

    (studied,) = bench.tune(searches(trials=6, seeds=[100, 101]), fake := Fake(value))
    found = finding_of(studied, RunLookup(bench.store, Store(bench.results, "tiny")))
    assert found.states == {"complete": 4, "pruned": 0, "failed": 1, "diverged": 1}
    assert found.default is not None
    assert found.best is not None
    assert found.default.trial == 0
    assert found.best.mean == studied.study.best_value
    assert found.best.sd is not None
    assert found.values == studied.study.best_params
    assert found.runs == len(fake.ran) == 10
    assert found.seconds == 2.0 * 9  # what failed left no cost
    assert json.loads(json.dumps(found.states)) == found.states


def test_a_run_that_two_trials_asked_for_costs_once(
    searches: Callable[..., Any], bench: Bench
) -> None:
    (search,) = searches({"s": ["smote"]}, trials=8, space={"smote.k": [1, 2], "smote.target": 0.5})
    (studied,) = bench.tune((search,), fake := Fake(lambda spec: 0.5))
    found = finding_of(studied, RunLookup(bench.store, Store(bench.results, "tiny")))
    assert (found.runs, found.seconds) == (2, 4.0)
    assert len(fake.ran) == 2


def test_runs_that_somebody_deleted_cost_nothing_and_change_no_value(
    searches: Callable[..., Any], bench: Bench
) -> None:
    (studied,) = bench.tune(searches(trials=2), Fake())
    before = finding_of(studied, RunLookup(bench.store, Store(bench.results, "tiny")))
    shutil.rmtree(bench.store.path)
    after = finding_of(studied, RunLookup(bench.store, Store(bench.results, "tiny")))
    assert (after.best, after.runs, after.seconds) == (before.best, 0, 0.0)
