import dataclasses
import json
import math
import re
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from harness.experiment.schema import load
from harness.experiment.spec import Model, RunSpec, Schedule, Training, file_digest, recipe_of
from harness.registry import datasets, strategies


def make(name, **parameters):
    return strategies.get(name).model_validate(parameters)


def source(name="digits", **parameters):
    return datasets.get(name).model_validate(parameters)


BASE = RunSpec(
    dataset=source(imbalance_factor=20),
    content="c0ffee",
    strategies=recipe_of((), (make("smote"), make("mixup", alpha=0.2))),
    model=Model(name="tiny_cnn"),
    training=Training(epochs=40, batch_size=32),
    metric="balanced_accuracy",
    seed=3,
    experiment="quickstart",
    recipe="smote+mixup(alpha=0.2)",
    levels=(("smote", "smote"), ("mixup", "mixup(alpha=0.2)")),
)


def but(**changes):
    return dataclasses.replace(BASE, **changes)


def golden(recipe=(), model=None, training=None):
    """Return a run of real digits, whose content is part of its key."""
    dataset = source(imbalance_factor=20)
    return RunSpec(
        dataset=dataset,
        content=dataset.indexed().content,
        strategies=recipe_of((), tuple(recipe)),
        model=model or Model(name="tiny_cnn"),
        training=training or Training(epochs=40, batch_size=32),
        metric="balanced_accuracy",
        seed=0,
    )


RECIPE_A = Schedule(name="multistep", warmup=5 / 200, milestones=(0.8, 0.9), gamma=0.01)
GOLDEN = {
    "89be8529a460": golden,
    "7644834b9d4f": lambda: golden(recipe=[make("smote"), make("mixup")]),
    "d0f261685af4": lambda: golden(recipe=[make("weighted_sampler", start=0.8)]),
    "03eca3cd99c1": lambda: golden(model=Model(name="tiny_cnn", width=48)),
    "38aa87df1140": lambda: golden(training=Training(epochs=30, schedule="cosine", lr=0.05)),
    "ed62221b0be5": lambda: golden(training=Training(epochs=200, schedule=RECIPE_A)),
    "bc01711250a0": lambda: golden(training=Training(schedule="constant", select="best")),
}


@pytest.mark.parametrize("key", GOLDEN)
def test_golden_keys(key):
    """Finished runs are found by these keys.

    When this fails, an edit has changed the identity of runs that people already have: with it,
    everything they did would be done again. If a result is now another, that is right: raise the
    `version` of the strategy, dataset, model or training block that changed, and pin the new key
    here in the same commit, with a line in the changelog. If results are the same as before, it is
    a mistake: give a new field a default (defaults are not part of the key), and undo what else
    changed the identity (`RunSpec(...).identity()` shows all of it).
    """
    assert GOLDEN[key]().key == key


def test_a_key_is_twelve_hexadecimal_digits_of_the_identity():
    assert re.fullmatch("[0-9a-f]{12}", BASE.key)
    assert but().key == BASE.key


@pytest.mark.parametrize(
    "changes",
    [
        {"experiment": "another"},
        {"recipe": "by another name"},
        {"levels": ()},
        {"levels": (("x", "y"),)},
        {"plugins": ("./plugin.py", "module")},
        {"metric": "macro_f1"},  # chooses no weights while select is last
        {"dataset": source(imbalance_factor=20, label="by another name")},
        {"dataset": source(imbalance_factor=20.0)},
        {"dataset": source(imbalance_factor=20, profile="exp", val_minimum=1)},
        {"strategies": (make("mixup", alpha=0.2), make("smote"))},
        {"strategies": (make("smote", k=5, target=1), make("mixup", alpha=0.2, p=1, start=0))},
        {"training": Training(epochs=40.0, batch_size=32, lr=0.1, schedule="cosine")},
        {"training": Training(batch_size=32, epochs=40, schedule={"name": "cosine"})},
        {"model": Model(name="tiny_cnn", freeze="none", width=None)},
        {"folds": 5},  # without a fold there is nothing folded
    ],
)
def test_the_key_is_the_same_where_the_result_is(changes):
    found = but(**changes)
    if "strategies" in changes:
        found = but(strategies=recipe_of((), changes["strategies"]))
    assert found.key == BASE.key


@pytest.mark.parametrize(
    "changes",
    [
        {"content": "decaf"},
        {"seed": 4},
        {"fold": 0, "folds": 5},
        {"dataset": source()},
        {"dataset": source(imbalance_factor=21)},
        {"dataset": source(imbalance_factor=20, profile="step")},
        {"dataset": source(imbalance_factor=20, balanced=True)},
        {"dataset": source(imbalance_factor=20, val_fraction=0.1)},
        {"dataset": source(imbalance_factor=20, val_fraction=0)},
        {"dataset": source(imbalance_factor=20, test_fraction=0.4)},
        {"dataset": source(imbalance_factor=20, val_minimum=2)},
        {"dataset": source(imbalance_factor=20, horizontal_flip=True)},
        {"dataset": source(imbalance_factor=20, mean=[0.5], std=[0.2])},
        {"strategies": ()},
        {"strategies": (make("smote"),)},
        {"strategies": (make("smote"), make("cutmix", alpha=0.2))},
        {"model": Model(name="mlp")},
        {"model": Model(name="tiny_cnn", width=8)},
        {"model": Model(name="tiny_cnn", weights="DEFAULT")},
        {"model": Model(name="tiny_cnn", weights="DEFAULT", freeze="backbone")},
        {"training": Training(epochs=40, batch_size=32, select="best")},
    ],
)
def test_the_key_is_another_where_the_result_may_be(changes):
    assert but(**changes).key != BASE.key


def test_folds_are_part_of_the_key_with_their_number():
    keys = {but(fold=fold, folds=folds).key for fold in (0, 1) for folds in (3, 5)}
    assert len(keys) == 4


def test_the_metric_is_part_of_the_key_where_it_chooses_weights():
    best = Training(epochs=40, batch_size=32, select="best")
    keys = {but(training=best, metric=m).key for m in ("balanced_accuracy", "macro_f1")}
    assert len(keys) == 2


OTHER_TRAINING = {
    "epochs": 41,
    "max_steps": 10,
    "batch_size": 33,
    "optimizer": "adamw",
    "lr": 0.2,
    "momentum": 0.8,
    "nesterov": True,
    "weight_decay": 1e-3,
    "schedule": "constant",
    "eval_every": 0.2,
    "select": "best",
    "label_smoothing": 0.1,
}


def test_every_field_of_training_is_part_of_the_key():
    assert set(OTHER_TRAINING) == set(Training.model_fields)
    given_ = {"epochs": 40, "batch_size": 32}
    keys = {
        but(training=Training(**{**given_, name: value})).key
        for name, value in OTHER_TRAINING.items()
    }
    assert len(keys | {BASE.key}) == len(OTHER_TRAINING) + 1


SCHEDULES = [
    {"name": "cosine", "warmup": 0.1},
    {"name": "constant"},
    {"name": "multistep", "milestones": [0.5]},
    {"name": "multistep", "milestones": [0.6]},
    {"name": "multistep", "milestones": [0.5, 0.6]},
    {"name": "multistep", "milestones": [0.5], "gamma": 0.2},
]


def test_every_field_of_the_schedule_is_part_of_the_key():
    keys = {but(training=Training(schedule=schedule)).key for schedule in SCHEDULES}
    assert len(keys) == len(SCHEDULES)


OTHER_PARAMETERS = {
    "augment": [
        {"policy": "flip_crop"},
        {"policy": "strong"},
        {"p": 0.5},
        {"magnitude": 0.3},
        {"start": 0.2},
        {"stop": 0.9},
        {"transforms": [{"name": "HorizontalFlip", "p": 0.25}]},
        {"transforms": [{"name": "HorizontalFlip", "p": 0.75}]},
        {
            "transforms": [
                {"name": "OneOf", "p": 1, "transforms": [{"name": "Rotate", "limit": [-9, 9]}]}
            ]
        },
    ],
    "weighted_sampler": [
        {"beta": 0.5},
        {"effective_number": 0.999},
        {"start": 0.8},
        {"stop": 0.5},
        {"effective_number": 0.99, "start": 0.25, "stop": 0.75},
    ],
    "stratified_batches": [{"start": 0.1}, {"stop": 0.9}],
    "smote": [{"k": 3}, {"target": 0.5}, {"k": 7, "target": 0.1}],
    "mixup": [{"alpha": 0.2}, {"p": 0.5}, {"per_sample": True}, {"start": 0.1}, {"stop": 0.9}],
    "cutmix": [{"alpha": 0.2}, {"p": 0.5}, {"per_sample": True}, {"start": 0.1}, {"stop": 0.9}],
    "class_weights": [
        {"scheme": "effective_number"},
        {"scheme": "effective_number", "beta": 0.99},
        {"start": 0.8},
        {"stop": 0.5},
    ],
    "focal": [{"gamma": 1}, {"gamma": 0}, {"start": 0.1}, {"stop": 0.9}],
    "balanced_softmax": [{"start": 0.1}, {"stop": 0.9}],
    "remix": [
        {"alpha": 0.2},
        {"kappa": 2.0},
        {"tau": 0.1},
        {"p": 0.5},
        {"cut": True},
        {"per_sample": True},
        {"start": 0.1},
        {"stop": 0.9},
    ],
    "cmo": [{"alpha": 0.2}, {"weighted_alpha": 0.5}, {"p": 1.0}, {"start": 0.1}, {"stop": 0.9}],
    "balanced_mixup": [{"alpha": 0.2}, {"p": 0.5}, {"start": 0.1}, {"stop": 0.9}],
    "logit_adjusted": [{"tau": 2.0}, {"start": 0.1}, {"stop": 0.9}],
    "label_aware_smoothing": [
        {"smooth_head": 0.2},
        {"smooth_tail": 0.1},
        {"curve": "convex"},
        {"start": 0.1},
        {"stop": 0.9},
    ],
    "random_over_sampling": [{"target": 0.5}, {"start": 0.1}, {"stop": 0.9}],
    "random_under_sampling": [{"ratio": 2.0}, {"start": 0.1}, {"stop": 0.9}],
    "progressive_sampler": [{"start": 0.1}, {"stop": 0.9}],
    "ldam": [{"max_m": 0.3}, {"s": 10}, {"effective_number": 0.9}, {"start": 0.1}, {"stop": 0.9}],
}


def test_the_examples_here_cover_every_parameter_of_every_strategy():
    assert set(OTHER_PARAMETERS) == set(strategies)
    for name, examples in OTHER_PARAMETERS.items():
        fields = strategies.get(name).model_fields.items()
        known = {info.alias or field for field, info in fields}
        covered = {key for example in examples for key in example}
        assert known == covered, name


@pytest.mark.parametrize("name", OTHER_PARAMETERS)
def test_every_parameter_of_a_strategy_is_part_of_the_key(name):
    recipes = [(make(name),), *((make(name, **given_),) for given_ in OTHER_PARAMETERS[name])]
    assert len({but(strategies=recipe).key for recipe in recipes}) == len(recipes)


@pytest.mark.parametrize("name", OTHER_PARAMETERS)
def test_every_strategy_survives_json_in_any_process(name):
    for given_ in OTHER_PARAMETERS[name]:
        built = make(name, **given_)
        assert built != make(name)
        spec = but(strategies=(built,))
        back = RunSpec.from_json(json.loads(json.dumps(spec.to_json())))
        assert back == spec
        assert back.strategies[0].identity() == built.identity()
        assert back.key == spec.key == spec.to_json()["key"]


def values_of(marker):
    if marker.integer:
        return st.integers(int(marker.low), int(marker.high))
    return st.floats(marker.low, marker.high, allow_nan=False)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(OTHER_PARAMETERS)), st.data())
def test_whatever_a_search_tries_survives_json(name, data):
    plain = make(name)
    tried = {path: data.draw(values_of(range_)) for path, range_ in plain.tunables().items()}
    spec = but(strategies=(plain.with_values(tried),))
    back = RunSpec.from_json(json.loads(json.dumps(spec.to_json())))
    assert back.strategies == spec.strategies
    assert back.key == spec.key


def test_a_whole_spec_survives_json():
    spec = RunSpec(
        dataset=source("shapes", classes=3, imbalance_factor=5, balanced=True, label="a/b"),
        content="c",
        strategies=recipe_of((make("augment"),), (make("cutmix", p=0.5), make("smote", k=2))),
        model=Model(name="tiny_cnn", weights="DEFAULT", freeze="backbone", width=5),
        training=Training(
            **{**OTHER_TRAINING, "schedule": {"name": "multistep", "milestones": [0.5, 1]}}
        ),
        metric="macro_f1",
        seed=2**63 - 1,
        fold=2,
        folds=5,
        experiment="x",
        recipe="r",
        levels=(("b", "2"), ("a", "1")),
        plugins=("json",),
    )
    text = json.dumps(spec.to_json(), allow_nan=False)
    back = RunSpec.from_json(json.loads(text))
    assert back == spec
    assert list(back.levels) == [("b", "2"), ("a", "1")]
    assert back.to_json() == spec.to_json()


@pytest.mark.parametrize("part", ["strategy", "dataset", "model", "training"])
def test_a_raised_version_changes_the_key(part, monkeypatch):
    cls = {
        "strategy": type(make("mixup")),
        "dataset": type(BASE.dataset),
        "model": Model,
        "training": Training,
    }[part]
    before = but().key
    monkeypatch.setattr(cls, "version", cls.version + 1)
    assert but().key != before


def test_whole_numbers_in_free_parameters_are_the_same_however_spelled():
    keys = {
        but(
            strategies=(
                make("augment", transforms=[{"name": "Rotate", "limit": [-9, nine], "p": one}]),
            )
        ).key
        for nine in (9, 9.0)
        for one in (1, 1.0)
    }
    assert len(keys) == 1
    yes = make("augment", transforms=[{"name": "GridDistortion", "normalized": True}])
    assert yes.identity()["transforms"][0]["normalized"] is True


def test_recipes_have_one_order():
    parts = (
        make("cutmix"),
        make("mixup"),
        make("class_weights"),
        make("augment"),
        make("weighted_sampler"),
        make("smote"),
    )
    expected = ["smote", "weighted_sampler", "augment", "mixup", "cutmix", "class_weights"]
    for recipe in (recipe_of(parts[:3], parts[3:]), recipe_of(parts[::-1], ())):
        assert [s.name for s in recipe] == expected
    twice = (make("mixup", alpha=2), make("mixup", alpha=0.5))
    assert recipe_of((), twice) == recipe_of(twice[1:], twice[:1])


def test_two_files_that_mean_the_same_have_the_same_keys(make_spec):
    first = make_spec([{"name": "mixup", "alpha": 1}, "smote"], name="one")
    second = make_spec(["smote", "mixup"], name="two", metric="accuracy", keep_weights="none")
    assert first.key == second.key


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("image_folder", "path"),
        ("manifest", "file"),
        ("manifest", "images"),
        ("table", "file"),
        *((name, field) for name in ("cifar10", "svhn") for field in ("root", "path", "download")),
    ],
)
def test_where_data_lie_is_not_part_of_the_key(name, field, tmp_path):
    cls = datasets.get(name)
    assert field in cls.model_fields
    required = {key: str(tmp_path) for key, info in cls.model_fields.items() if info.is_required()}
    keys = {
        but(dataset=cls.model_validate({**required, field: value})).key
        for value in ([False, True] if field == "download" else [tmp_path, tmp_path / "elsewhere"])
    }
    assert len(keys) == 1


def test_a_file_of_weights_counts_by_its_content(tmp_path):
    first, copy, other = (tmp_path / name for name in ("a.pt", "b.pt", "c.pt"))
    first.write_bytes(b"weights" * 300_000)
    copy.write_bytes(b"weights" * 300_000)
    other.write_bytes(b"Weights" * 300_000)
    keys = [but(model=Model(name="mlp", weights=str(path))).key for path in (first, copy, other)]
    assert keys[0] == keys[1] != keys[2]
    first.write_bytes(b"changed in place")
    assert but(model=Model(name="mlp", weights=str(first))).key not in keys
    assert str(tmp_path) not in json.dumps(
        but(model=Model(name="mlp", weights=str(copy))).identity()
    )


def test_a_file_of_weights_in_the_home_folder_counts_by_its_content(tmp_path, monkeypatch):
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path))
    (tmp_path / "w.pt").write_bytes(b"weights")
    here, home = (Model(name="mlp", weights=w) for w in (str(tmp_path / "w.pt"), "~/w.pt"))
    assert but(model=here).key == but(model=home).key


def test_a_file_is_read_again_only_when_it_changed(tmp_path, monkeypatch):
    path = tmp_path / "w.pt"
    path.write_bytes(b"x" * 3_000_000)
    first = file_digest(path)
    path_open = open
    opened = []
    monkeypatch.setattr("builtins.open", lambda *a, **k: opened.append(a) or path_open(*a, **k))
    assert file_digest(path) == first
    assert not opened
    with path_open(path, "ab") as file:
        file.write(b"y")
    assert file_digest(path) != first
    assert len(opened) == 1


@pytest.mark.parametrize(
    "label",
    ["a/b", "..", "../../etc", "größe", "日本語", "x" * 300, "", " ", ".", "-", "a\nb", "a\0b",
     "C:\\x", "~", "*?", "con", "a b", "\N{PILE OF POO}" * 100],
)  # fmt: skip
def test_a_slug_is_a_safe_part_of_a_folder_name(label):
    for changes in (
        {"dataset": source(label=label)},
        {"recipe": label},
        {"model": Model(name=label)},
        {"dataset": source(label=label), "recipe": label, "model": Model(name=label), "fold": 1},
    ):
        slug = but(**changes).slug
        assert re.fullmatch(r"[A-Za-z0-9_+][A-Za-z0-9._+-]{0,79}", slug), slug
        assert not slug.endswith((".", "-", "_", " "))


def test_a_slug_says_what_it_is():
    spec = but(dataset=source(imbalance_factor=20, balanced=True), fold=1, folds=5)
    assert spec.slug == "digits-lt20-balanced-smote+mixup_alpha_0.2_-tiny_cnn-s3-f1"
    assert BASE.slug == "digits-lt20-smote+mixup_alpha_0.2_-tiny_cnn-s3"


# The budget


def test_t10_the_budget_is_ceil_of_epochs_times_n_over_batch():
    assert Training(epochs=1, batch_size=32).steps(33) == 2
    assert Training(epochs=2, batch_size=32).steps(33) == 3
    assert Training(epochs=0.001, batch_size=128).steps(10) == 1
    assert Training(epochs=30, batch_size=10).steps(10) == 30


def test_t10_recipe_a_of_the_long_tail_papers_takes_19_385_steps():
    """200 epochs on CIFAR-10-LT with imbalance factor 100 (12,406 images) in batches of 128.

    The original takes ceil(12,406 / 128) = 97 steps an epoch, the last of them with 118 images:
    97 · 200 = 19,400. Here every batch is full and a pass runs on across the epoch's end, so the
    same 2,481,200 images are 19,385 steps: 15 fewer, 0.08 %.
    """
    steps = Training(epochs=200, batch_size=128).steps(12_406)
    assert steps == 19_385
    assert 97 * 200 - steps == 15
    assert (steps - 1) * 128 < 200 * 12_406 <= steps * 128


@given(st.integers(1, 40_000), st.integers(1, 2_000_000), st.integers(1, 4096))
def test_t10_the_budget_is_exact_in_the_decimals_of_the_file(hundredths, size, batch):
    epochs = hundredths / 100
    exact = math.ceil(Fraction(hundredths, 100) * size / batch)
    assert Training(epochs=epochs, batch_size=batch).steps(size) == max(1, exact)


def test_t10_max_steps_only_cuts():
    assert Training(epochs=10, batch_size=10, max_steps=7).steps(100) == 7
    assert Training(epochs=10, batch_size=10, max_steps=1000).steps(100) == 100


def test_t25_recipe_a_decays_by_a_hundred_twice():
    steps = 19_385
    factors = [RECIPE_A.factor(step, steps) for step in range(steps)]
    rise = 0.025 * steps
    assert factors[0] == pytest.approx(1 / rise)
    assert factors[: math.ceil(rise)] == sorted(factors[: math.ceil(rise)])
    assert max(factors) == 1.0
    assert factors[485:15_508] == [1.0] * (15_508 - 485)
    assert factors[15_508:17_447] == pytest.approx([0.01] * (17_447 - 15_508))
    assert factors[17_447:] == pytest.approx([0.0001] * (steps - 17_447))


@pytest.mark.parametrize("epochs", [1, 30, 200, 300, 321, 400, 1000])
def test_t24_phases_are_fractions_of_any_budget(epochs):
    steps = Training(epochs=epochs, batch_size=128).steps(12_406)
    factors = [RECIPE_A.factor(step, steps) for step in range(steps)]
    assert sum(factor == 1.0 for factor in factors) / steps == pytest.approx(0.775, abs=2 / steps)
    assert factors[-1] == pytest.approx(0.0001)
    assert make("class_weights", start=0.8).window() == (0.8, 1.0)


@given(st.integers(1, 100), st.integers(1, 5_000))
def test_t24_a_milestone_falls_on_the_step_that_its_decimals_say(hundredths, steps):
    schedule = Schedule(name="multistep", milestones=(hundredths / 100,), gamma=0.5)
    first = math.ceil(Fraction(hundredths, 100) * steps)
    if first < steps:
        assert schedule.factor(first, steps) == 0.5
    assert schedule.factor(first - 1, steps) == 1.0


@given(
    st.sampled_from(["constant", "cosine"]),
    st.floats(0, 0.99),
    st.integers(1, 300),
)
def test_the_rate_rises_to_the_base_rate_and_never_above(name, warmup, steps):
    schedule = Schedule(name=name, warmup=warmup)
    factors = [schedule.factor(step, steps) for step in range(steps)]
    rise = math.ceil(warmup * steps)
    assert all(0.0 < factor <= 1.0 for factor in factors)
    assert factors[:rise] == sorted(factors[:rise])
    assert factors[rise:] == sorted(factors[rise:], reverse=True)
    if name == "constant":
        assert set(factors[rise:]) <= {1.0}


def test_cosine_ends_near_zero_and_is_half_in_the_middle():
    schedule = Schedule(name="cosine")
    assert schedule.factor(0, 1000) == 1.0
    assert schedule.factor(500, 1000) == pytest.approx(0.5)
    assert schedule.factor(999, 1000) < 1e-5
    assert Schedule(name="cosine", warmup=0.5).factor(750, 1000) == pytest.approx(0.5)


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "multistep"},
        {"name": "cosine", "milestones": [0.5]},
        {"name": "multistep", "milestones": [0.9, 0.8]},
        {"name": "multistep", "milestones": [80]},
        {"name": "multistep", "milestones": [0.5], "gamma": 0},
        {"warmup": 1.0},
        {"warmup": -0.1},
        {"warmup": math.nan},
        {"name": "step"},
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValidationError):
        Schedule.model_validate(wrong)


def test_a_schedule_may_be_given_by_name():
    assert Training(schedule="constant").schedule == Schedule(name="constant")
    found = load({"name": "x", "datasets": ["digits"], "training": {"schedule": "constant"}})
    assert found.training.schedule == Schedule(name="constant")


def test_labels_of_models_say_what_was_set():
    assert Model(name="mlp").label() == "mlp"
    assert Model(name="mlp", width=8, freeze="backbone").label() == "mlp(freeze=backbone,width=8)"
