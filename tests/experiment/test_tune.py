"""The key ``tune:``: what it means, and what is said of what is wrong with it."""

from typing import Any

import pytest

from harness.errors import ConfigError
from harness.experiment.expand import expand
from harness.experiment.schema import load, resolve
from harness.experiment.tree import Tree
from harness.experiment.tune import Tuning
from harness.tuning.searches import Search, searches_of

FILE = """\
name: it
datasets: [{name: digits, imbalance_factor: 20}]
base: [{name: augment, policy: flip_crop}]
recipes:
  mixup: [mixup]
  both: [mixup, smote]
  loss: [class_weights]
seeds: [0, 1, 101]
tune:
"""


def tuning(**keys: Any) -> Tuning:
    found = load(
        {
            "name": "it",
            "datasets": ["digits"],
            "recipes": {"mixup": ["mixup"], "both": ["mixup", "smote"], "loss": ["class_weights"]},
            "seeds": [0, 1, 101],
            "tune": keys,
        }
    ).tuning
    assert found is not None
    return found


def refused(*lines: str, edits: tuple[str, ...] = ()) -> str:
    text = FILE + "".join(f"  {line}\n" for line in lines)
    tree = Tree("it.yaml", text)
    for edit in edits:
        tree.set(edit)
    with pytest.raises(ConfigError) as caught:
        resolve(tree)
    return str(caught.value)


def test_without_the_key_nothing_is_tuned() -> None:
    assert load({"name": "it", "datasets": ["digits"]}).tuning is None
    assert load({"name": "it", "datasets": ["digits"], "tune": None}).tuning is None


def test_by_default_every_recipe_that_has_anything_to_tune_is() -> None:
    found = tuning()
    assert list(found.spaces) == ["mixup", "both"]
    assert (found.trials, found.sampler, found.pruner) == (40, "tpe", "none")
    assert found.notes == (
        "'nothing' has nothing to tune and stands as it is",
        "'loss' has nothing to tune and stands as it is",
    )


def test_doing_nothing_is_always_tuned_where_it_has_anything_to_tune() -> None:
    found = load(
        {
            "name": "it",
            "datasets": ["digits"],
            "base": ["augment"],
            "recipes": {"mixup": ["mixup"]},
            "tune": {"recipes": ["mixup"], "trials": 7},
        }
    ).tuning
    assert found is not None
    assert {name: len(space.dimensions) for name, space in found.spaces.items()} == {
        "nothing": 2,
        "mixup": 4,
    }
    assert list(tuning(recipes=["mixup"], space={"training.lr": [0.01, 1]}).spaces) == [
        "nothing",
        "mixup",
    ]


def test_seeds_of_a_search_are_no_report_seeds() -> None:
    assert tuning().seeds == (100, 102, 103)
    assert tuning(seeds=5).seeds == (100, 102, 103, 104, 105)
    assert tuning(seeds=[7, 8, 9]).seeds == (7, 8, 9)
    assert tuning(seeds=[7, 8]).notes[-1] == (
        "fewer than 3 tuning seeds: which trial is best is mostly luck"
    )


@pytest.mark.parametrize("name", ["tpe", "TPESampler", "TPE"])
def test_optunas_own_names_are_known(name: str) -> None:
    assert tuning(sampler=name, pruner="MedianPruner").sampler == "tpe"
    assert tuning(sampler="NSGAIISampler").sampler == "nsgaii"
    assert tuning(pruner="median").pruner == "median"


def test_paths_may_be_nested_as_set_writes_them() -> None:
    keys = {
        "name": "it",
        "datasets": ["digits"],
        "recipes": {"a": [{"name": "augment", "transforms": [{"name": "Blur"}]}, "mixup"]},
        "tune": {"space": {"mixup": {"p": [0.2, 0.4]}}},
    }
    edits = ["tune.space.augment.transforms.0.p=0.25", "tune.space.mixup.alpha=[0.1, 1]"]
    found = load(keys, edits).tuning
    assert found is not None
    space = found.spaces["a"]
    assert space.fixed == (("augment.transforms.0.p", 0.25),)
    assert [(one.path, one.low, one.high) for one in space.dimensions] == [
        ("augment.p", 0.0, 1.0),
        ("mixup.alpha", 0.1, 1.0),
        ("mixup.p", 0.2, 0.4),
    ]


def test_own_values_outside_the_range_are_said_to_be() -> None:
    found = tuning(recipes=["mixup"], space={"mixup.alpha": [0.1, 0.5]})
    assert dict(found.spaces["mixup"].own) == {"mixup.alpha": 1.0, "mixup.p": 1.0}
    assert not found.spaces["mixup"].holds_own
    assert found.notes[-1] == (
        "mixup.alpha: the 1 of 'mixup' lies outside 0.1…0.5: only its first trial, of its own "
        "values, takes it"
    )
    assert not tuning(recipes=["mixup"], space={"mixup.p": 0.5}).spaces["mixup"].holds_own
    assert tuning(recipes=["mixup"], space={"mixup.p": 1.0}).spaces["mixup"].holds_own


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "recipes: [mixpu]",
            "it.yaml:10: tune.recipes[0]: no such recipe 'mixpu'; did you mean 'm",
        ),
        ("recipes: [both, both]", "it.yaml:10: tune.recipes[1]: 'both' stands there twice"),
        ("recipes: []", "it.yaml:10: tune.recipes: expected at least 1 items, not 0"),
        ("trails: 3", "it.yaml:10: tune.trails: unknown key for 'tune'; did you mean 'trials'?"),
        ("trials: 0", "it.yaml:10: tune.trials: must be greater than or equal to 1, not 0"),
        ("trials: many", "it.yaml:10: tune.trials: expected a whole number, not 'many'"),
        ("seeds: [5, 1, 101]", "it.yaml:10: tune.seeds: 1, 101 are report seeds too, on which a w"),
        ("seeds: [1, 7]", "it.yaml:10: tune.seeds: 1 is a report seed too, on which a winner chos"),
        ("seeds: [7, 7]", "it.yaml:10: tune.seeds: a seed stands there twice"),
        ("sampler: tpee", "it.yaml:10: tune.sampler: expected 'tpe', 'random', 'gp', 'qmc', 'cmae"),
        ("pruner: hyperband", "it.yaml:10: tune.pruner: expected 'none' or 'median', not 'hyperba"),
        (
            "space: {mixup.alhpa: 1}",
            "it.yaml:10: tune.space.mixup.alhpa: no such parameter to tune; did you mean 'mix",
        ),
        (
            "space: {cutmix.alpha: [0.1, 1]}",
            "it.yaml:10: tune.space.cutmix.alpha: no recipe that is tuned has 'cutmix'",
        ),
        (
            "space: {mixup.p: [0, 1.5]}",
            "it.yaml:10: tune.space.mixup.p: 1.5 is not legal: p: must be less than or equal to 1",
        ),
        ("space: {mixup.p: 2}", "it.yaml:10: tune.space.mixup.p: 2 is not legal: p: must be less"),
        (
            "space: {mixup.alpha: [0, 1]}",
            "it.yaml:10: tune.space.mixup.alpha: it is searched on a logarithmic scale, so a range",
        ),
        (
            "space: {mixup.alpha: [1, 0.5]}",
            "it.yaml:10: tune.space.mixup.alpha: the range is empty: expected [low, high]",
        ),
        (
            "space: {mixup.alpha: [0.5, 0.5]}",
            "it.yaml:10: tune.space.mixup.alpha: the range is empty: expected [low, high]",
        ),
        (
            "space: {mixup.alpha: [0.1, 0.2, 0.3]}",
            "it.yaml:10: tune.space.mixup.alpha: expected [low, high], or the number to hold",
        ),
        ("space: {mixup.p: lots}", "it.yaml:10: tune.space.mixup.p: expected [low, high], or the"),
        ("space: {mixup.p: true}", "it.yaml:10: tune.space.mixup.p: expected [low, high], or the"),
        ("space: {mixup.p: .nan}", "it.yaml:10: tune.space.mixup.p: expected [low, high], or the"),
        ("space: {smote.k: [1.5, 3]}", "it.yaml:10: tune.space.smote.k: expected whole numbers"),
        (
            "space: {training.lr: [0, 1]}",
            "it.yaml:10: tune.space.training.lr: it is searched on a logarithmic scale",
        ),
        (
            "space: {mixup.p: 1, mixup: {p: 1}}",
            "it.yaml:10: tune.space.mixup.p: 'mixup.p' stands there twice",
        ),
        ("space: [1]", "it.yaml:10: tune.space: expected keys and values, not [1]"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(line: str, message: str) -> None:
    assert refused(line).startswith(message)


def test_an_empty_space_is_refused() -> None:
    message = refused("recipes: [loss]", "space: {augment.p: 1}")
    assert message.startswith("it.yaml:10: tune.recipes[0]: 'loss' has nothing to tune")
    message = refused("recipes: [mixup]", "space: {mixup.p: 1, mixup.alpha: 1, augment.p: 1}")
    assert message.startswith("it.yaml:10: tune.recipes[0]: 'mixup' has nothing to tune")
    assert message.endswith("it.yaml:9: tune: no recipe has anything to tune")


def test_a_path_of_a_recipe_that_is_not_tuned_is_refused() -> None:
    message = refused("recipes: [mixup]", "space: {smote.k: [1, 3]}")
    assert "it.yaml:11: tune.space.smote.k: no recipe that is tuned has 'smote'" in message


def test_a_place_on_the_command_line_is_named() -> None:
    assert refused("trials: 3", edits=("tune.space.mixup.p=7",)).startswith(
        "--set tune.space.mixup.p: 7 is not legal"
    )


def test_a_recipe_called_as_a_tuned_one_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'mixup \(tuned\)' is what 'mixup' is called once"):
        load(
            {
                "name": "it",
                "datasets": ["digits"],
                "recipes": {"mixup": ["mixup"], "mixup (tuned)": [{"name": "mixup", "p": 0.5}]},
                "tune": {},
            }
        )


def test_a_pruner_needs_a_metric_that_is_measured_on_the_way() -> None:
    keys = {"name": "it", "datasets": ["digits"], "recipes": {"mixup": ["mixup"]}, "metric": "mcc"}
    with pytest.raises(ConfigError, match=r"tune.pruner: 'mcc' is not measured during training"):
        load({**keys, "tune": {"pruner": "median"}})
    assert load({**keys, "tune": {"pruner": "none"}}).tuning
    assert load({**keys, "tune": {"pruner": "median"}, "training": {"select": "best"}}).tuning


def test_the_rule_of_a_search_is_one_of_the_file_and_part_of_its_identity() -> None:
    keys = {"name": "it", "datasets": ["digits"], "recipes": {"mixup": ["mixup"]}}

    def search(**more: object) -> Search:
        tune = {"recipes": ["mixup"], **({"rule": more.pop("rule")} if "rule" in more else {})}
        return searches_of(expand(load({**keys, "tune": tune, **more})))[-1]

    assert search().name == search(rule="argmax").name
    assert "rule" not in search().identity()
    by_prior = search(rule="prior")
    assert by_prior.identity()["rule"] == {"name": "prior", "version": 1}
    deployed = search(rule="prior", decisions={"deploy": "train"})
    assert len({search().name, by_prior.name, deployed.name}) == 3
    with pytest.raises(ConfigError, match=r"tune.rule: no such rule 'pior'.*'prior'"):
        search(rule="pior")
    with pytest.raises(ConfigError, match=r"tune.rule: no such rule 'thresholds'"):
        search(rule="thresholds")
    assert search(rule="thresholds", decisions={"rules": ["thresholds"]})
    with pytest.raises(ConfigError, match=r"tune.pruner: trials are scored under rule prior"):
        load({**keys, "tune": {"rule": "prior", "pruner": "median"}})


def test_every_problem_is_named_at_once() -> None:
    message = refused("recipes: [nobody]", "trials: 3", "seeds: [1]")
    assert len(message.splitlines()) == 2
