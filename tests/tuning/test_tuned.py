import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution

from harness.errors import StoreError
from harness.execution.search_results import FILE, SearchResult, Value, write
from harness.execution.store import Store
from harness.experiment.expand import Plan, expand
from harness.experiment.schema import load
from harness.tuning.database import open_storage
from harness.tuning.run_lookup import RunLookup
from harness.tuning.searches import searches_of
from harness.tuning.summary import result_of, study_record
from harness.tuning.tuned import found_of, with_tuned
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


def of_search(plan: Plan, recipe: str, values: dict[str, float], **changes: Any) -> SearchResult:
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
        own=dict(search.space.own),
    )
    return replace(made, **changes)


VALUES = {"planted.alpha": 0.25, "planted.p": 0.5}
NEAR = {"name": "smote", "k": 2, "target": 0.5}


def test_tuned_recipes_join_the_plan_seed_by_seed(plan: Plan, store: Store) -> None:
    assert with_tuned(plan, store) == plan
    write(store, [of_search(plan, "planted", VALUES)])
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
    write(store, [of_search(plan, "planted", {"planted.alpha": 5.0, "planted.p": 1.0})])
    found = with_tuned(plan, store)
    assert found.runs == plan.runs
    assert [(remark.recipe, remark.text) for remark in found.same] == [
        ("planted (tuned)", "the same runs as 'planted'")
    ]


def test_what_was_tuned_for_something_else_is_said_and_left_out(
    keys: Keys, plan: Plan, store: Store
) -> None:
    write(store, [of_search(plan, "planted", VALUES)])
    changed = expand(load(keys({"planted": ["planted"], "mixup": ["mixup"]}), ["training.lr=0.1"]))
    found = with_tuned(changed, store)
    assert found.runs == changed.runs
    assert found.notes[-1].startswith("'planted' on shapes, tiny_cnn(width=4) was tuned in another")
    assert found_of(changed, store) == []


def test_without_the_key_or_a_winner_the_plan_is_as_it_was(
    keys: Keys, plan: Plan, store: Store
) -> None:
    write(store, [of_search(plan, "planted", VALUES, best=None)])
    assert with_tuned(plan, store) == plan
    write(store, [of_search(plan, "planted", VALUES)])
    without = {key: value for key, value in keys().items() if key != "tune"}
    other = expand(load(without))
    assert with_tuned(other, store) == other


@pytest.mark.parametrize("text", ["{", "{}", '{"found": [{"study": "x"}]}', '{"found": 3}'])
def test_a_damaged_file_says_what_to_do(plan: Plan, store: Store, text: str) -> None:
    (store.path / FILE).write_text(text)
    with pytest.raises(StoreError, match=r"tuned\.json .*delete it: `harness tune` writes"):
        with_tuned(plan, store)


def test_values_that_are_not_legal_any_more_are_named(plan: Plan, store: Store) -> None:
    write(store, [of_search(plan, "planted", {"planted.alpha": -1.0})])
    with pytest.raises(StoreError, match="'planted': alpha: must be greater than 0"):
        with_tuned(plan, store)


def test_a_result_says_what_a_search_cost_and_came_to(
    searches: Callable[..., Any], bench: Bench
) -> None:
    def value(spec: Any) -> Any:
        ends = {"#2": "failed", "#3": "diverged"}
        return ends.get(spec.recipe[-2:], planted(spec))

    (studied,) = bench.tune(searches(trials=6, seeds=[100, 101]), fake := Fake(value))
    result = result_of(studied, RunLookup(bench.store, Store(bench.results, "tiny")))
    assert result.states == {"complete": 4, "pruned": 0, "failed": 1, "diverged": 1}
    assert result.default is not None
    assert result.best is not None
    assert result.default.trial == 0
    assert result.best.mean == studied.study.best_value
    assert result.best.sd is not None
    assert result.values == studied.study.best_params
    assert result.runs == len(fake.ran) == 10
    assert result.seconds == 2.0 * 9  # what failed left no cost
    assert json.loads(json.dumps(result.states)) == result.states


def test_a_run_that_two_trials_asked_for_costs_once(
    searches: Callable[..., Any], bench: Bench
) -> None:
    (search,) = searches({"s": [NEAR]}, trials=8, space={"smote.k": [1, 2], "smote.target": 0.5})
    (studied,) = bench.tune((search,), fake := Fake(lambda spec: 0.5))
    result = result_of(studied, RunLookup(bench.store, Store(bench.results, "tiny")))
    assert (result.runs, result.seconds) == (2, 4.0)
    assert len(fake.ran) == 2


def test_runs_that_somebody_deleted_cost_nothing_and_change_no_value(
    searches: Callable[..., Any], bench: Bench
) -> None:
    (studied,) = bench.tune(searches(trials=2), Fake())
    before = result_of(studied, RunLookup(bench.store, Store(bench.results, "tiny")))
    shutil.rmtree(bench.store.path)
    after = result_of(studied, RunLookup(bench.store, Store(bench.results, "tiny")))
    assert (after.best, after.runs, after.seconds) == (before.best, 0, 0.0)


OWN = {"planted.alpha": 5.0, "planted.p": 1.0}
NARROW = {"space": {"planted.alpha": [0.01, 0.1], "planted.p": 0.25}}
"""Holds neither of the recipe's own values: one out of its range, one held at another."""


def alpha_of(spec: Any) -> float:
    return float(spec.strategies[0].parameters().get("alpha", 5.0))


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc", "nsgaii", "gp"])
def test_own_values_outside_the_space_are_the_first_trial(
    searches: Callable[..., Any], bench: Bench, sampler: str
) -> None:
    (search,) = searches(trials=13, seeds=[100, 101], sampler=sampler, **NARROW)
    (studied,) = bench.tune((search,), fake := Fake(lambda spec: 0.5 + alpha_of(spec) / 20))
    first = [spec for spec, _ in fake.ran][:2]
    untuned = [replace(spec, strategies=search.strategies).key for spec in first]
    assert [spec.key for spec in first] == untuned
    assert len(studied.study.trials) == 13
    for trial in studied.study.trials[1:]:
        assert trial.state.name == "COMPLETE"
        assert 0.01 <= trial.params["planted.alpha"] <= 0.1
    result = result_of(studied, RunLookup(bench.store, Store(bench.results, "tiny")))
    assert result.default == result.best == Value(0, 0.75, 0.0)
    assert result.values == result.own == OWN
    assert result.own_won
    assert result.states == {"complete": 13, "pruned": 0, "failed": 0, "diverged": 0}
    record = study_record(studied, RunLookup(bench.store, Store(bench.results, "tiny")), "over")
    assert record.best == record.trials[0]
    assert [trial.default for trial in record.trials] == [True, *(False,) * 12]
    assert (record.trials[0].state, record.trials[0].values) == ("complete", OWN)


def test_own_values_outside_the_space_that_win_are_the_same_runs(
    keys: Keys, bench: Bench, store: Store
) -> None:
    plan = expand(load(keys(trials=3, **NARROW)))
    (studied,) = bench.tune(searches_of(plan), Fake(lambda spec: 0.5 + alpha_of(spec) / 20))
    write(store, [result_of(studied, RunLookup(bench.store, Store(bench.results, "tiny")))])
    found = with_tuned(plan, store)
    assert found.runs == plan.runs
    assert [remark.text for remark in found.same] == ["the same runs as 'planted'"]


def test_own_values_outside_the_space_that_lose_keep_their_own_value(
    searches: Callable[..., Any], bench: Bench
) -> None:
    (studied,) = bench.tune(
        searches(trials=3, **NARROW), Fake(lambda spec: 0.75 - alpha_of(spec) / 20)
    )
    result = result_of(studied, RunLookup(bench.store, Store(bench.results, "tiny")))
    assert result.default == Value(0, 0.5, None)
    assert result.best is not None
    assert result.best.trial in (1, 2)
    assert result.won["planted.alpha"] <= 0.1
    assert result.won["planted.p"] == 0.25
    assert not result.own_won


def test_a_weight_decay_of_nothing_is_tried_beside_a_logarithmic_range(
    keys: Keys, bench: Bench
) -> None:
    given = keys({}, trials=12, space={"training.weight_decay": [1e-5, 1e-2]})
    found = searches_of(expand(load(given, ["training.weight_decay=0"])))
    (studied,) = bench.tune(found, fake := Fake(lambda spec: 0.5 + spec.training.weight_decay))
    assert fake.ran[0][0].training.weight_decay == 0.0
    result = result_of(studied, RunLookup(bench.store, Store(bench.results, "tiny")))
    assert result.default == Value(0, 0.5, None)
    assert result.states["complete"] == 12


@pytest.mark.parametrize("ends", ["failed", "diverged"])
def test_own_values_outside_the_space_may_fail(
    searches: Callable[..., Any], bench: Bench, ends: str
) -> None:
    def value(spec: Any) -> Any:
        return ends if alpha_of(spec) == 5.0 else 0.5

    found = searches(trials=3, **NARROW)
    (studied,) = bench.tune(found, Fake(value))
    lookup = RunLookup(bench.store, Store(bench.results, "tiny"))
    result = result_of(studied, lookup)
    assert result.default is None
    assert result.states[ends] == 1
    (again,) = bench.tune(found, Fake(), retry_failed=True)
    result = result_of(again, RunLookup(bench.store, Store(bench.results, "tiny")))
    assert (result.default is None) == (ends == "diverged")
    assert result.trials == 3


def test_a_study_that_took_the_nearest_values_for_the_own_ones_tries_those(
    searches: Callable[..., Any], bench: Bench
) -> None:
    """As it was done before: own values at the end of the range, called the default."""
    (search,) = searches(trials=3, **NARROW)
    bench.results.mkdir()
    study = optuna.create_study(
        storage=open_storage(bench.results), study_name=search.name, direction="maximize"
    )
    alphas = FloatDistribution(0.01, 0.1, log=True)
    for alpha, attributes in ((0.1, {"default": True}), (0.05, {}), (0.02, {})):
        study.add_trial(
            optuna.create_trial(
                params={"planted.alpha": alpha},
                distributions={"planted.alpha": alphas},
                value=0.8,
                user_attrs=attributes,
            )
        )
    (studied,) = bench.open((search,))
    result = result_of(studied, RunLookup(bench.store, Store(bench.results, "tiny")))
    assert result.default is None
    assert studied.left == 1
    (studied,) = bench.tune((search,), fake := Fake(lambda spec: 0.75))
    assert [alpha_of(spec) for spec, _ in fake.ran] == [5.0]
    result = result_of(studied, RunLookup(bench.store, Store(bench.results, "tiny")))
    assert result.default == Value(3, 0.75, None)
    assert result.trials == 3
    (studied,) = bench.tune((search,), again := Fake())
    assert again.ran == []
    assert len(studied.study.trials) == 4


def test_a_file_without_own_values_is_completed(keys: Keys, store: Store) -> None:
    """Where the space does not hold them, what it calls the default is of other values."""
    for given, kept in ((NARROW, None), ({}, Value(0, 0.5, None))):
        plan = expand(load(keys(**given)))
        write(store, [of_search(plan, "planted", VALUES)])
        data = json.loads((store.path / FILE).read_text())
        for item in data["found"]:
            del item["own"]
        (store.path / FILE).write_text(json.dumps(data))
        ((_, result),) = found_of(plan, store)
        assert result.default == kept
        assert result.own == OWN
