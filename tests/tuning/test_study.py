import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace

import optuna
import pytest
from sqlalchemy import event

from harness.experiment.expand import expand
from harness.experiment.schema import load
from harness.tuning.database import open_storage, quiet
from harness.tuning.searches import Search, searches_of
from harness.tuning.study import TuningStudy, best_of, make_sampler, mean_and_sd
from tests.tuning.conftest import Bench, Fake, planted, trials_of, with_trials

Searches = Callable[..., tuple[Search, ...]]


class KilledError(BaseException):
    """What a process that is no longer there would not do."""


@contextmanager
def killed_after(commits: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let nothing reach the database once it has been written to so often."""
    count = 0

    def begin(connection: object) -> None:
        if count >= commits:
            raise KilledError

    def commit(connection: object) -> None:
        nonlocal count
        count += 1

    real = optuna.storages.RDBStorage.__init__

    def listened(self: optuna.storages.RDBStorage, *args: object, **kwargs: object) -> None:
        real(self, *args, **kwargs)  # type: ignore[arg-type]
        event.listen(self.engine, "begin", begin)
        event.listen(self.engine, "commit", commit)

    with monkeypatch.context() as patch, suppress(KilledError):
        patch.setattr(optuna.storages.RDBStorage, "__init__", listened)
        yield


@pytest.mark.parametrize(
    ("moment", "slots"),
    [(moment, 1) for moment in range(0, 60, 4)] + [(moment, 2) for moment in range(2, 60, 8)],
)
def test_a_search_killed_at_any_write_goes_on_without_a_trace(
    searches: Searches,
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    moment: int,
    slots: int,
) -> None:
    found = searches(trials=3, seeds=[100, 101])
    fake = Fake(slots=slots)
    with killed_after(moment, monkeypatch):
        bench.tune(found, fake)
    (left,) = bench.open(found)
    torn = any(len(trial.params) == 1 for trial in left.study.trials)
    (resumed,) = bench.tune(found, again := Fake(slots=slots))
    trials = resumed.study.trials
    assert [trial.number for trial in trials] == [0, 1, 2]
    assert {trial.state.name for trial in trials} == {"COMPLETE"}
    assert len({tuple(trial.params.items()) for trial in trials}) == 3
    assert [trial.user_attrs.get("default") for trial in trials] == [True, None, None]
    keys = [spec.key for spec, _ in fake.ran + again.ran]
    assert len(set(keys)) == 6
    assert len(keys) == 6
    if slots == 1 and not torn:  # between two values of a trial
        (undisturbed,) = Bench(bench.results / "other").tune(found, Fake())
        assert trials_of(resumed) == trials_of(undisturbed)


def test_the_moments_above_cover_a_whole_search(
    searches: Searches, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    for moment, runs in ((4, 0), (56, 6)):
        with killed_after(moment, monkeypatch):
            Bench(bench.results / str(moment)).tune(
                searches(trials=3, seeds=[100, 101]), fake := Fake()
            )
        assert len(fake.ran) == runs


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"space": {"planted.alpha": [0.1, 1.0]}}, "space changed (planted.alpha 0.01…10 → 0.1…1)"),
        ({"space": {"planted.p": 0.5}}, "space and held changed (planted.p 0…1 → not searched)"),
        ({"seeds": [100, 101]}, "seeds changed since"),
    ],
)
def test_a_changed_space_is_a_new_study_and_says_why(
    searches: Searches, bench: Bench, change: dict[str, object], said: str
) -> None:
    (first,) = bench.tune(searches(trials=2), Fake())
    assert first.note == ""
    (second,) = bench.open(searches(**{"trials": 2, **change}))
    assert said in second.note
    assert f"'{first.study.study_name}', which is kept" in second.note
    assert second.study.study_name != first.study.study_name
    (third,) = bench.open(searches(trials=2))
    assert third.note == ""
    assert len(third.study.trials) == 2


def test_trials_sampler_and_pruner_may_change_while_a_study_goes_on(
    searches: Searches, bench: Bench
) -> None:
    (first,) = bench.tune(searches(trials=2), Fake())
    (second,) = bench.tune(searches(trials=4, sampler="random", pruner="median"), Fake())
    assert second.study.study_name == first.study.study_name
    assert len(second.study.trials) == 4


def test_waiting_trials_count_for_what_is_left(searches: Searches, bench: Bench) -> None:
    (search,) = searches(trials=3)
    (studied,) = bench.open((search,))
    studied.ask()
    studied.ask()
    assert studied.left == 1
    (again,) = bench.open((search,))  # as after kill -9: two are RUNNING
    assert again.left == 3
    assert [again.ask().number for _ in range(3)] == [0, 1, 2]


def test_more_left_over_than_is_asked_for_is_left_waiting(searches: Searches, bench: Bench) -> None:
    (search,) = searches(trials=3)
    bench.tune((search,), Fake())
    with pytest.raises(KeyboardInterrupt):
        bench.tune(with_trials((search,), 5), Fake(stop_after=0))
    (fewer,) = bench.tune((search,), Fake())
    assert [t.state.name for t in fewer.study.trials] == ["COMPLETE"] * 3 + ["WAITING"]
    assert fewer.is_over()


def test_optunas_own_client_reads_the_file(searches: Searches, bench: Bench) -> None:
    (search,) = searches(trials=3)
    bench.tune((search,), Fake())
    study = optuna.load_study(
        study_name=search.name, storage=f"sqlite:///{bench.results / 'optuna.db'}"
    )
    assert study.direction.name == "MAXIMIZE"
    assert study.user_attrs["of"] == ["tiny", "shapes", "tiny_cnn(width=4)", "planted"]
    assert study.user_attrs["identity"]["seeds"] == [100]
    assert len(study.trials) == 3
    study.optimize(lambda trial: trial.suggest_float("planted.p", 0.0, 1.0), n_trials=1)
    assert len(study.trials) == 4
    with closing(sqlite3.connect(bench.results / "optuna.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_metric_that_is_better_when_lower_is_minimized(
    keys: Callable[..., dict[str, object]], bench: Bench
) -> None:
    found = searches_of(expand(load({**keys(trials=5), "metric": "nll"})))
    (studied,) = bench.tune(found, fake := Fake())
    lowest = min(planted(spec) for spec, _ in fake.ran)
    assert studied.study.best_value == lowest
    best = best_of(studied.study.trials, higher=False)
    assert best is not None
    assert best.value == lowest


def test_of_equal_trials_the_first_is_best(searches: Searches, bench: Bench) -> None:
    (studied,) = bench.tune(searches(trials=5), Fake(lambda spec: 0.5))
    best = best_of(studied.study.trials, higher=True)
    assert best is not None
    assert best.number == 0


def test_what_a_notebook_user_set_is_left_as_it_was(searches: Searches, bench: Bench) -> None:
    optuna.logging.set_verbosity(optuna.logging.DEBUG)
    try:
        bench.tune(searches(trials=1), Fake())
        assert optuna.logging.get_verbosity() == optuna.logging.DEBUG
    finally:
        optuna.logging.set_verbosity(optuna.logging.INFO)


def test_tpe_is_multivariate_and_grouped() -> None:
    with quiet():
        sampler = make_sampler("tpe", 3)
    assert isinstance(sampler, optuna.samplers.TPESampler)
    assert (sampler._multivariate, sampler._group) == (True, True)


def test_a_single_value_has_no_spread() -> None:
    assert mean_and_sd([0.25]) == (0.25, None)
    assert mean_and_sd([1.0, 2.0, 3.0]) == (2.0, 1.0)


def test_two_experiments_share_the_file(searches: Searches, bench: Bench) -> None:
    (search,) = searches(trials=2)
    other = replace(search, experiment="other")
    assert search.name != other.name
    bench.tune((search, other), Fake())
    storage = open_storage(bench.results)
    assert {len(TuningStudy(storage, one).study.trials) for one in (search, other)} == {2}
