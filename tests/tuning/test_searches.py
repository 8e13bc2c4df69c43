from collections.abc import Callable
from typing import Any

import pytest

from harness.errors import ConfigError
from harness.experiment.expand import expand
from harness.experiment.schema import load
from harness.tuning.searches import NAME_LENGTH, Search, check_possible, searches_of

Keys = Callable[..., dict[str, Any]]
Searches = Callable[..., tuple[Search, ...]]


def refused(keys: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        check_possible(expand(load(keys)))
    return str(caught.value)


def test_one_search_for_each_dataset_model_and_recipe(keys: Keys) -> None:
    changed = {
        **keys({"a": ["planted"], "b": ["mixup"], "c": ["class_weights"]}),
        "base": ["augment"],
        "datasets": [
            {"name": "shapes", "classes": 3, "size": 8, "per_class": n, "label": str(n)}
            for n in (24, 30)
        ],
        "models": ["tiny_cnn", "mlp"],
    }
    found = searches_of(expand(load(changed)))
    assert [search.group for search in found] == [
        (dataset, model, recipe)
        for dataset in ("24", "30")
        for model in ("tiny_cnn", "mlp")
        for recipe in ("nothing", "a", "b", "c")
    ]
    assert len({search.name for search in found}) == 16
    assert {search.tuning.trials for search in found} == {4}


def test_recipes_that_cannot_run_somewhere_are_not_searched_there(
    keys: Keys, tmp_path: Any
) -> None:
    rows = "\n".join(f"{i},{i * i},{'ab'[i % 2]}" for i in range(90))
    (tmp_path / "t.csv").write_text("x,y,label\n" + rows)
    changed = {
        **keys({"a": ["cutmix"], "b": ["mixup"]}),
        "datasets": ["digits", {"name": "table", "file": str(tmp_path / "t.csv")}],
        "models": ["mlp"],
    }
    found = searches_of(expand(load(changed)))
    assert [(s.group[0], s.recipe) for s in found] == [
        *(("digits", "a"), ("digits", "b"), ("table", "b"))
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"seeds": [100, 101]},
        {"space": {"planted.alpha": [0.1, 1]}},
        {"space": {"planted.p": 1.0}},
        {"space": {"training.lr": [0.1, 1.0]}},
    ],
)
def test_whatever_makes_values_incomparable_makes_another_study(
    searches: Searches, change: dict[str, Any]
) -> None:
    assert searches()[0].name != searches(**change)[-1].name


@pytest.mark.parametrize(
    ("edit", "same"),
    [
        ("training.epochs=4", False),
        ("datasets.0.per_class=25", False),
        ("datasets.0.imbalance_factor=2", False),
        ("models.0.width=5", False),
        ("recipes.planted.0={name: planted, k: 2}", False),
        ("metric=nll", False),
        ("tune.trials=9", True),
        ("tune.sampler=random", True),
        ("tune.pruner=median", True),
        ("seeds=5", True),
        ("tracking.per_class=3", True),
        ("tune.space={}", True),
    ],
)
def test_the_name_is_a_digest_of_what_counts(keys: Keys, edit: str, same: bool) -> None:
    before, after = (searches_of(expand(load(keys(), edits)))[0] for edits in ([], [edit]))
    assert (before.name == after.name) == same


def test_names_are_readable_and_never_too_long(searches: Searches) -> None:
    (search,) = searches()
    assert search.name.startswith("tiny/shapes/tiny_cnn(width=4)/planted-")
    (long,) = searches({"x" * 600: ["planted"]})
    assert len(long.name) == NAME_LENGTH + 9


def test_runs_of_a_trial_are_ordinary_runs_on_the_tuning_seeds(searches: Searches) -> None:
    (search,) = searches(seeds=[100, 101])
    specs = search.specs({"planted.alpha": 0.5, "planted.p": 0.25}, 7)
    assert [spec.seed for spec in specs] == [100, 101]
    assert {spec.recipe for spec in specs} == {"planted #7"}
    tuned = search.tuned({"planted.alpha": 0.5, "planted.p": 0.25}, (0, 1))
    assert [spec.seed for spec in tuned] == [0, 1]
    assert {spec.recipe for spec in tuned} == {"planted (tuned)"}
    assert tuned[0].levels == ()
    assert specs[0].strategies == tuned[0].strategies


def test_what_is_held_is_put_into_every_trial(searches: Searches) -> None:
    search = searches(space={"planted.p": 0.25})[0]
    (spec,) = search.specs({"planted.alpha": 0.5}, 0)
    assert spec.strategies[0].parameters() == {"alpha": 0.5, "p": 0.25}


def test_a_file_without_the_key_cannot_be_tuned(keys: Keys) -> None:
    without = {key: value for key, value in keys().items() if key != "tune"}
    assert searches_of(expand(load(without))) == ()
    assert refused(without).startswith("experiment: tune: a search needs this key, such as")


def test_without_val_there_is_nothing_to_choose_on(keys: Keys) -> None:
    changed = keys()
    changed["datasets"] = ["digits", {**changed["datasets"][0], "val_fraction": 0}]
    message = refused(changed)
    assert message.startswith("experiment: datasets[1]: 'shapes' has no val (val_fraction: 0)")
    assert "--set datasets.1.val_fraction=0.2" in message


def test_folds_leave_no_image_that_no_search_has_seen(keys: Keys) -> None:
    said = refused({**keys(), "datasets": ["digits"], "folds": 3})
    assert said.startswith("experiment: folds: every image is in the te")
