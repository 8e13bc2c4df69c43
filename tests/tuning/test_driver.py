import math
from collections.abc import Callable
from typing import Any

import optuna
import pytest

from harness.execution.runner import Progressed
from harness.execution.store import Store
from harness.experiment.spec import RunSpec
from harness.tuning.driver import Driver
from harness.tuning.run_lookup import RunLookup
from harness.tuning.searches import Search
from harness.tuning.study import TuningStudy, best_of
from tests.tuning.conftest import ALPHA, Bench, Fake, P, planted, trials_of, with_trials, write

Searches = Callable[..., tuple[Search, ...]]


def test_a_trial_is_the_mean_over_its_seeds_with_its_spread(
    searches: Searches, bench: Bench
) -> None:
    (studied,) = bench.tune(searches(seeds=[101, 103, 104], trials=2), fake := Fake())
    first = studied.study.trials[0]
    values = [planted(spec) for spec, _ in fake.ran[:3]]
    assert first.value == pytest.approx(sum(values) / 3)
    assert first.user_attrs["by_seed"] == dict(zip(["101", "103", "104"], values, strict=True))
    mean = sum(values) / 3
    sd = math.sqrt(sum((value - mean) ** 2 for value in values) / 2)
    assert first.user_attrs["sd"] == pytest.approx(sd)
    assert [spec.seed for spec, _ in fake.ran] == [101, 103, 104] * 2


def test_the_recipes_own_values_come_first_and_once(searches: Searches, bench: Bench) -> None:
    (studied,) = bench.tune(searches(trials=3), Fake())
    assert studied.study.trials[0].params == {"planted.alpha": 5.0, "planted.p": 1.0}
    assert [t.user_attrs.get("default") for t in studied.study.trials] == [True, None, None]
    (again,) = bench.tune(with_trials(searches(trials=3), 5), Fake())
    assert [t.user_attrs.get("default") for t in again.study.trials] == [True] + 4 * [None]


def test_t02_only_val_decides(searches: Searches, bench: Bench) -> None:
    (studied,) = bench.tune(searches(trials=8), fake := Fake())
    best = best_of(studied.study.trials, higher=True)
    assert best is not None
    # what the runs left of test is best where val is worst
    assert best.value == max(planted(spec) for spec, _ in fake.ran)


@pytest.mark.parametrize("slots", [1, 2, 5])
def test_trials_is_the_total_however_often_it_is_asked_for(
    searches: Searches, bench: Bench, slots: int
) -> None:
    found = searches({"a": ["planted"], "b": [{"name": "planted", "k": 2}]}, trials=5)
    for _ in range(2):
        studies = bench.tune(found, fake := Fake(slots=slots))
        assert [len(one.study.trials) for one in studies] == [5, 5]
    assert fake.ran == []
    more = bench.tune(with_trials(found, 7), fake)
    assert [len(one.study.trials) for one in more] == [7, 7]
    assert len(fake.ran) == 4
    fewer = bench.tune(with_trials(found, 3), Fake(value=lambda spec: 1 / 0))
    assert [len(one.study.trials) for one in fewer] == [7, 7]


def test_slots_are_kept_busy_and_studies_take_turns(searches: Searches, bench: Bench) -> None:
    found = searches({"a": ["planted"], "b": [{"name": "planted", "k": 2}]}, trials=4)
    studies = bench.open(found)
    told = bench.drive(studies, fake := Fake(slots=2))
    assert fake.most == 2
    for end in range(2, 9, 2):
        recipes = [recipe for recipe, _ in told[:end]]
        assert recipes.count("a") == recipes.count("b")


@pytest.mark.parametrize("stop_after", range(9))
def test_ctrl_c_at_any_run_changes_nothing_but_the_time(
    searches: Searches, bench: Bench, stop_after: int, tmp_path: Any
) -> None:
    found = searches(trials=4, seeds=[100, 101])
    (undisturbed,) = Bench(tmp_path / "other").tune(found, Fake())
    fake = Fake(stop_after=stop_after)
    studies = bench.open(found)
    if stop_after < 8:
        with pytest.raises(KeyboardInterrupt):
            bench.drive(studies, fake)
    else:
        bench.drive(studies, fake)
    states = [trial.state.name for trial in studies[0].study.trials]
    assert "RUNNING" not in states
    assert states.count("COMPLETE") == stop_after // 2
    (resumed,) = bench.tune(found, again := Fake())
    assert trials_of(resumed) == trials_of(undisturbed)
    assert len(fake.ran) + len(again.ran) == 8  # no run is done twice


@pytest.mark.parametrize("stop_after", [1, 3, 4])
def test_ctrl_c_with_two_slots(searches: Searches, bench: Bench, stop_after: int) -> None:
    found = searches(trials=4, seeds=[100, 101])
    with pytest.raises(KeyboardInterrupt):
        bench.tune(found, fake := Fake(slots=2, stop_after=stop_after))
    (resumed,) = bench.tune(found, again := Fake(slots=2))
    assert [trial.state.name for trial in resumed.study.trials] == ["COMPLETE"] * 4
    assert len({tuple(trial.params.values()) for trial in resumed.study.trials}) == 4
    assert [trial.user_attrs.get("default") for trial in resumed.study.trials].count(True) == 1
    keys = [spec.key for spec, _ in fake.ran + again.ran]
    assert len(keys) == len(set(keys)) == 8


def test_what_is_done_is_looked_up(searches: Searches, bench: Bench) -> None:
    (search,) = searches(trials=1, seeds=[100, 101])
    (spec, other) = search.specs(dict(search.space.own), 0)
    ordinary = Store(bench.results, "tiny")
    ordinary.create()
    attempt = ordinary.begin(spec)
    write(spec, attempt, "done", 0.25)
    ordinary.commit(spec, attempt)
    (studied,) = bench.tune((search,), fake := Fake())
    assert [spec.seed for spec, _ in fake.ran] == [101]
    assert studied.study.trials[0].value == pytest.approx((0.25 + planted(other)) / 2)
    # another study that asks for the same runs, as after a change of the space
    (narrowed,) = searches(trials=1, seeds=[100, 101], space={"planted.alpha": [1, 10]})
    (second,) = bench.tune((narrowed,), fake := Fake())
    assert fake.ran == []
    assert second.study.study_name != studied.study.study_name
    assert second.study.trials[0].value == studied.study.trials[0].value


@pytest.mark.parametrize("slots", [1, 2])
def test_the_same_values_twice_are_run_once(searches: Searches, bench: Bench, slots: int) -> None:
    (search,) = searches(
        {"s": [{"name": "smote", "k": 2, "target": 0.5}]},
        trials=12,
        space={"smote.k": [1, 2], "smote.target": 0.5},
    )
    (studied,) = bench.tune((search,), fake := Fake(lambda spec: 0.5, slots=slots))
    assert [trial.state.name for trial in studied.study.trials] == ["COMPLETE"] * 12
    assert len(fake.ran) == 2


def test_trials_that_fail_or_diverge_are_never_best_and_leave_no_number(
    searches: Searches, bench: Bench
) -> None:
    def value(spec: RunSpec) -> float | str | None:
        if spec.recipe.endswith("#1"):
            return "diverged"
        if spec.recipe.endswith("#2"):
            return "failed"
        if spec.recipe.endswith("#3"):
            return None
        return {"#4": math.inf, "#5": math.nan}.get(spec.recipe[-2:], 0.25)

    (studied,) = bench.tune(searches(trials=7), Fake(value))
    trials = studied.study.trials
    assert [t.state.name for t in trials] == ["COMPLETE"] + 5 * ["FAIL"] + ["COMPLETE"]
    assert [t.user_attrs.get("status") for t in trials[1:6]] == [
        *("diverged", "failed", "failed", "diverged", "diverged")
    ]
    assert trials[2].user_attrs["reason"] == "seed 100: it went wrong"
    assert "balanced_accuracy is not defined" in trials[3].user_attrs["reason"]
    assert studied.study.best_trial.number == 0
    assert best_of(trials, higher=True).number == 0  # type: ignore[union-attr]
    raw = (bench.results / "optuna.db").read_bytes()
    assert b"1.797" not in raw
    for trial in trials:
        assert trial.value is None or math.isfinite(trial.value)


def test_a_seed_that_fails_ends_its_trial(searches: Searches, bench: Bench) -> None:
    (studied,) = bench.tune(
        searches(trials=2, seeds=[100, 101, 102]),
        fake := Fake(lambda spec: "failed" if spec.recipe.endswith("#1") else 0.5),
    )
    assert [spec.seed for spec, _ in fake.ran] == [100, 101, 102, 100]
    assert studied.study.trials[1].state.name == "FAIL"


def test_values_that_are_not_legal_together_cost_a_trial_and_no_run(
    searches: Searches, bench: Bench
) -> None:
    recipe = [
        {"name": "stratified_batches", "stop": 0.5},
        {"name": "weighted_sampler", "start": 0.5},
    ]
    (studied,) = bench.tune(searches({"both": recipe}, trials=8), fake := Fake(lambda spec: 0.5))
    bad = [trial for trial in studied.study.trials if trial.state.name == "FAIL"]
    assert bad
    assert all(trial.params["weighted_sampler.start"] < 0.5 for trial in bad)
    assert all("both decide the order" in trial.user_attrs["reason"] for trial in bad)
    assert len(fake.ran) == 8 - len(bad)


def test_failed_trials_are_tried_again_only_when_asked(searches: Searches, bench: Bench) -> None:
    found = searches(trials=4)
    broken = Fake(lambda spec: "failed" if spec.recipe[-2:] in ("#0", "#2") else 0.5)
    (studied,) = bench.tune(found, broken)
    failed = [trial.params for trial in studied.study.trials if trial.state.name == "FAIL"]
    assert len(failed) == 2
    bench.tune(found, fake := Fake())
    assert fake.ran == []
    for _ in range(2):  # the second time there is nothing left to be tried again
        (studied,) = bench.tune(found, fake, retry_failed=True)
    assert [status for _, status in fake.ran] == ["done", "done"]
    trials = studied.study.trials
    assert [trial.params for trial in trials[4:]] == failed
    assert [trial.user_attrs["retry_of"] for trial in trials[4:]] == [0, 2]
    assert [trial.user_attrs.get("default") for trial in trials[4:]] == [True, None]
    assert len(trials) == 6


def test_after_a_first_failure_nothing_is_begun_where_that_was_asked_for(
    searches: Searches, bench: Bench
) -> None:
    studies = bench.open(searches(trials=5))
    assert bench.drive(studies, Fake(lambda spec: "failed"), fail_fast=True) == [("planted", 0)]


@pytest.mark.parametrize("slots", [1, 2])
def test_what_is_pruned_stops_at_that_evaluation_and_is_recorded_as_such(
    searches: Searches, bench: Bench, slots: int
) -> None:
    def value(spec: RunSpec) -> float:
        return 0.9 if int(spec.recipe.partition("#")[2]) < 6 else 0.1

    found = searches(trials=8, seeds=[100, 101], pruner="median")
    studies = bench.open(found)
    bench.drive(studies, fake := Fake(value, slots=slots, steps=9))
    states = [trial.state.name for trial in studies[0].study.trials]
    assert states == ["COMPLETE"] * 6 + ["PRUNED"] * 2
    for trial in studies[0].study.trials[6:]:
        # a third of the first seed is not judged
        assert next(iter(trial.intermediate_values)) == 3
        assert trial.user_attrs["status"] == "pruned"
    stopped = [spec.recipe for spec, status in fake.ran if status == "stopped"]
    assert {recipe[-2:] for recipe in stopped} == {"#6", "#7"}
    assert studies[0].study.best_trial.number < 6
    # a run that was pruned is no result: a trial that asks for it again has it done
    lookup = RunLookup(bench.store, Store(bench.results, "tiny"))
    pruned = next(spec for spec, status in fake.ran if status == "stopped")
    assert lookup.find(pruned.key).status == "stopped"  # type: ignore[union-attr]


def test_without_a_pruner_nothing_is_judged(searches: Searches, bench: Bench) -> None:
    (studied,) = bench.tune(searches(trials=8), fake := Fake())
    assert {status for _, status in fake.ran} == {"done"}
    assert all(not trial.intermediate_values for trial in studied.study.trials)


def test_a_run_shared_by_two_trials_is_stopped_only_when_both_are_given_up(
    searches: Searches, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    (search,) = searches(trials=2, pruner="median", space={"planted.alpha": [1, 10]})
    (studied,) = bench.open((search,))
    gone: set[int] = set()
    monkeypatch.setattr(TuningStudy, "prune", lambda self, trial, value, step: trial.number in gone)
    monkeypatch.setattr(Search, "_runs", lambda self, values, seeds, recipe: _same(self, seeds))

    def _same(self: Search, seeds: tuple[int, ...]) -> tuple[RunSpec, ...]:
        return tuple(
            RunSpec(self.dataset, self.content, self.strategies, self.model, self.training,
                    self.metric, seed)
            for seed in seeds
        )  # fmt: skip

    bench.store.create()
    driver = Driver(
        [studied], RunLookup(bench.store, Store(bench.results, "tiny")), lambda *_: None
    )
    pending = driver.pending()
    spec = next(pending)
    assert next(pending, None) is None  # the second trial waits for the first one's run
    message = Progressed(3, 4, {"val/balanced_accuracy": 0.5})
    gone.add(0)
    assert driver.judge(spec, message) is False
    gone.add(1)
    assert driver.judge(spec, message) is True


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc", "nsgaii", "gp"])
def test_every_sampler_goes_on_where_it_was(
    searches: Searches, bench: Bench, sampler: str, tmp_path: Any
) -> None:
    found = searches(trials=6, sampler=sampler)
    (undisturbed,) = Bench(tmp_path / "other").tune(found, Fake())
    with pytest.raises(KeyboardInterrupt):
        bench.tune(found, Fake(stop_after=3))
    (resumed,) = bench.tune(found, Fake())
    assert trials_of(resumed) == trials_of(undisturbed)
    assert len({trial.params["planted.alpha"] for trial in resumed.study.trials}) == 6


def test_a_planted_optimum_is_found_better_than_by_random_search(
    searches: Searches, bench: Bench
) -> None:
    def loss(sampler: str, seed: int) -> float:
        (search,) = searches(trials=40, sampler=sampler, seeds=[seed])
        studied = TuningStudy(optuna.storages.InMemoryStorage(), search)
        lookup = RunLookup(bench.store, Store(bench.results, "tiny"))
        driver = Driver([studied], lookup, lambda *_: None)
        for spec in driver.pending():
            attempt = bench.store.begin(spec)
            write(spec, attempt, "done", planted(spec))
            driver.finished(spec, "done", bench.store.commit(spec, attempt))
        best = studied.study.best_trial
        assert len(studied.study.trials) == 40
        return (
            math.log10(best.params["planted.alpha"] / ALPHA) ** 2
            + (2 * (best.params["planted.p"] - P)) ** 2
        )

    bench.store.create()
    seeds = range(100, 108)
    found, by_chance = ([loss(name, seed) for seed in seeds] for name in ("tpe", "random"))
    assert sum(a < b for a, b in zip(found, by_chance, strict=True)) >= 6
    assert sorted(found)[4] < sorted(by_chance)[4] / 2
    assert max(found) < 0.1
