import copy
import re
import textwrap
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.errors import ConfigError, HarnessError
from harness.experiment.schema import load, resolve
from harness.experiment.spec import Schedule
from harness.experiment.tree import Tree
from harness.registry import datasets, metrics, strategies

DESIGN_FILE = """\
name: cifar10-lt
datasets:
  - {name: cifar10, imbalance_factor: 100, val_fraction: 0}   # path: class folders
base: [{name: augment, policy: flip_crop}]       # in every recipe
factors:                                         # crossed; `none` leaves the factor out
  sampler: [none, weighted_sampler, {name: weighted_sampler, start: 0.8}]
  smote:   [none, smote]
  mixup:   [none, {alpha: 1.0}]
  cutmix:  [none, {alpha: 1.0}]
design: factorial                                # or one_at_a_time, leave_one_out
exclude: [{sampler: weighted_sampler, smote: smote}]
recipes: {both_mixes: [mixup, {name: cutmix, p: 0.5}]}   # hand-named extras
references: {balanced: [nothing, both_mixes]}    # `nothing` is always there
models: [resnet32]                               # or {name: resnet50, weights: FILE|DEFAULT}
seeds: 5                                         # 0…4, or an explicit list
# folds: 5
training: {epochs: 200, batch_size: 128, optimizer: sgd, lr: 0.1, momentum: 0.9, weight_decay: 2e-4,
           schedule: {name: multistep, warmup: 0.025, milestones: [0.8, 0.9], gamma: 0.01}, eval_every: 0.05, select: last}
metric: balanced_accuracy                        # the primary one
"""  # noqa: E501

HEAD = "name: x\ndatasets: [digits]\n"

JARGON = re.compile(
    r"pydantic|type=|input_value|value_error|Traceback|<class|constrained|\[type|"
    r"validation error|literal\[|\[key\]"
)


def read(text, edits=()):
    tree = Tree("f.yaml", text)
    for edit in edits:
        tree.set(edit)
    return resolve(tree)


def refused(text, edits=()):
    with pytest.raises(ConfigError) as error:
        read(text, edits)
    message = str(error.value)
    assert not JARGON.search(message), message
    return message


def test_the_example_of_the_design_loads(tmp_path):
    path = tmp_path / "cifar10_lt.yaml"
    path.write_text(DESIGN_FILE, encoding="utf-8")
    found = load(path)
    assert found.name == "cifar10-lt"
    assert found.source == str(path)
    (source,) = found.datasets
    assert (source.name, source.imbalance_factor, source.val_fraction) == ("cifar10", 100, 0)
    assert [s.label() for s in found.base] == ["augment(policy=flip_crop)"]
    assert [level.label for level in found.factors["sampler"]] == [
        "none",
        "weighted_sampler",
        "weighted_sampler(start=0.8)",
    ]
    assert [level.label for level in found.factors["mixup"]] == ["none", "mixup"]
    # 3·2·2·2 = 24, without weighted_sampler (each of its two levels) with smote: 2·4 = 8
    assert len(found.recipes) == 24 - 8 + 1
    assert found.recipes[0].name == "nothing"
    assert found.recipes[-1].name == "both_mixes"
    assert [s.label() for s in found.recipes[-1].strategies] == ["mixup", "cutmix(p=0.5)"]
    assert found.references == ("nothing", "both_mixes")
    assert [model.label() for model in found.models] == ["resnet32"]
    assert found.seeds == (0, 1, 2, 3, 4)
    assert found.folds is None
    assert found.training.epochs == 200
    assert found.training.weight_decay == 2e-4
    assert found.training.schedule == Schedule(
        name="multistep", warmup=0.025, milestones=(0.8, 0.9), gamma=0.01
    )
    assert found.metric == "balanced_accuracy"


def test_two_lines_are_an_experiment():
    found = read(HEAD)
    assert [recipe.name for recipe in found.recipes] == ["nothing"]
    assert found.seeds == (0, 1, 2)
    assert found.models[0].name == "tiny_cnn"
    assert found.references == ()
    assert found.metric in metrics


def test_a_mapping_loads_like_a_file_and_stays_as_it_was():
    keys = {"name": "x", "datasets": [{"name": "digits"}], "training": {"lr": 0.1}}
    before = copy.deepcopy(keys)
    found = load(keys, ["training.lr=0.5", "datasets.0.imbalance_factor=20", "seeds=2"])
    assert (found.training.lr, found.datasets[0].imbalance_factor) == (0.5, 20)
    assert found.seeds == (0, 1)
    assert keys == before
    with pytest.raises(ConfigError, match=r"^experiment: training\.lr: must be greater than 0"):
        load({**keys, "training": {"lr": -1}})


@pytest.mark.parametrize(
    ("text", "place", "near", "accepts"),
    [
        ("dataset: []", "f.yaml:3: dataset", "datasets", "seeds"),
        ("training: {batchsize: 3}", "f.yaml:3: training.batchsize", "batch_size", "epochs"),
        (
            "training: {schedule: {warm_up: 0.1}}",
            "f.yaml:3: training.schedule.warm_up",
            "warmup",
            "milestones",
        ),
        ("base:\n- {name: cutmix, alhpa: 1}", "f.yaml:4: base[0].alhpa", "alpha", "p"),
        ("factors:\n  mixup:\n  - {alfa: 1}", "f.yaml:5: factors.mixup[0].alfa", "alpha", "p"),
        ("recipes: {it: [{name: smote, kk: 3}]}", "f.yaml:3: recipes.it[0].kk", "k", "target"),
        ("models: [{name: tiny_cnn, widht: 3}]", "f.yaml:3: models[0].widht", "width", "freeze"),
        ("tracking: {url: x}", "f.yaml:3: tracking.url", "uri", "per_class"),
        ("base: [{name: augment, polici: x}]", "f.yaml:3: base[0].polici", "policy", "transforms"),
    ],
)  # fmt: skip
def test_an_unknown_key_is_named_with_file_line_path_nearest_and_accepted(
    text, place, near, accepts
):
    message = refused(HEAD + text)
    assert message.startswith(f"{place}: unknown key for '")
    assert f"; did you mean '{near}'? (accepts: " in message
    assert accepts in message.partition("accepts: ")[2]


def test_an_unknown_key_of_a_dataset_is_named():
    message = refused("name: x\ndatasets:\n  - name: digits\n    imbalance_facto: 20")
    assert message.startswith("f.yaml:4: datasets[0].imbalance_facto: unknown key for 'digits'; ")
    assert "did you mean 'imbalance_factor'?" in message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seeds: many", "f.yaml:3: seeds: expected a whole number or expected a list, not 'many'"),
        ("seeds: 0", "f.yaml:3: seeds: must be greater than or equal to 1"),
        ("seeds: -1", "f.yaml:3: seeds: must be greater than or equal to 1"),
        ("seeds: 1.5", "f.yaml:3: seeds: expected a whole number"),
        ("seeds: true", "f.yaml:3: seeds: expected a number, not true"),
        ("seeds: 100000000000", "f.yaml:3: seeds: must be less than or equal to 10000"),
        ("seeds: []", "f.yaml:3: seeds: at least one seed is needed"),
        ("seeds: [1, 2, 1]", "f.yaml:3: seeds: a seed stands there twice"),
        ("seeds: [-1]", "f.yaml:3: seeds[0]: must be greater than or equal to 0"),
        ("seeds: [9223372036854775808]", "f.yaml:3: seeds[0]: must be less than 92233"),
        ("folds: 1", "f.yaml:3: folds: must be greater than or equal to 2, not 1"),
        ("folds: 1000000000", "f.yaml:3: folds: must be less than or equal to 100"),
        ("models: []", "f.yaml:3: models: expected at least 1 items, not 0"),
        ("models: tiny_cnn", "f.yaml:3: models: expected a list, not 'tiny_cnn'"),
        ("models: [tiny_cnn, {name: tiny_cnn}]", "f.yaml:3: models[1]: 'tiny_cnn' stands there tw"),
        ("models: [{width: 3}]", "f.yaml:3: models[0].name: 'model' needs it"),
        ("models: [{name: tiny_cnn, width: 0}]", "f.yaml:3: models[0].width: must be greater"),
        ("models: [{name: resnet32, freeze: backbone}]", "f.yaml:3: models[0]: freeze: backbone n"),
        ("models: [{name: resnet32, weights: no.pt}]", "f.yaml:3: models[0].weights: no such file"),
        (f"models: [{{name: mlp, weights: {'a' * 300}.pt}}]", "f.yaml:3: models[0].weights: no su"),
        ("models: [{name: resnet32, width: 4}]", "f.yaml:3: models[0].width: only tiny_cnn, mlp h"),
        ("models: [{name: mlp, weights: DEFAULT}]", "f.yaml:3: models[0].weights: 'DEFAULT' is no"),
        ("training: {nesterov: true, momentum: 0}", "f.yaml:3: training: nesterov needs a momentu"),
        ("models: [3]", "f.yaml:3: models[0]: expected keys of model, not 3"),
        ("training: fast", "f.yaml:3: training: expected keys and values, not 'fast'"),
        ("training:", "f.yaml:3: training: expected keys and values, not null"),
        ("training: {epochs: 0}", "f.yaml:3: training.epochs: must be greater than 0, not 0"),
        ("training: {epochs: true}", "f.yaml:3: training.epochs: expected a number, not true"),
        ("training: {batch_size: 0}", "f.yaml:3: training.batch_size: must be greater than or eq"),
        ("training: {batch_size: 3.5}", "f.yaml:3: training.batch_size: expected a whole number"),
        ("training: {lr: -1e-3}", "f.yaml:3: training.lr: must be greater than 0, not -0.001"),
        ("training: {lr: .nan}", "f.yaml:3: training.lr: expected a finite number, not nan"),
        ("training: {lr: .inf}", "f.yaml:3: training.lr: expected a finite number, not inf"),
        ("training: {momentum: 1}", "f.yaml:3: training.momentum: must be less than 1, not 1"),
        ("training: {optimizer: adam}", "f.yaml:3: training.optimizer: expected 'sgd' or 'adamw'"),
        ("training: {nesterov: 7}", "f.yaml:3: training.nesterov: expected true or false, not 7"),
        ("training: {schedule: 3}", "f.yaml:3: training.schedule: expected keys and values, not 3"),
        ("training: {schedule: cosin}", "f.yaml:3: training.schedule: expected 'constant', 'cosin"),
        ("training: {schedule: multistep}", "f.yaml:3: training.schedule: milestones are given wi"),
        ("training: {schedule: {milestones: [0.5]}}", "f.yaml:3: training.schedule: milestones ar"),
        (
            "training: {schedule: {name: multistep, milestones: [160, 180]}}",
            "f.yaml:3: training.schedule.milestones[0]: must be less than or equal to 1, not 160",
        ),
        (
            "training: {schedule: {name: multistep, milestones: [0.9, 0.8]}}",
            "f.yaml:3: training.schedule: milestones must rise",
        ),
        ("training: {select: best_val}", "f.yaml:3: training.select: expected 'last' or 'best'"),
        ("base: augment", "f.yaml:3: base: expected a list, not 'augment'"),
        ("base: [{name: mixup, alpha: -1}]", "f.yaml:3: base[0].alpha: must be greater than 0, no"),
        ("base: [{name: mixup, alpha: .nan}]", "f.yaml:3: base[0].alpha: expected a finite number"),
        ("base: [{name: mixup, p: 1.5}]", "f.yaml:3: base[0].p: must be less than or equal to 1"),
        ("base: [{name: mixup, p: true}]", "f.yaml:3: base[0].p: expected a number, not true"),
        ("base: [{name: smote, k: 0}]", "f.yaml:3: base[0].k: must be greater than or equal to 1"),
        ("base: [{name: mixup, start: 0.9, stop: 0.1}]", "f.yaml:3: base[0]: start (0.9) must lie"),
        ("base: [mixpu]", "f.yaml:3: base[0]: unknown strategy 'mixpu'; did you mean 'mixup'?"),
        ("base: [{name: mixpu}]", "f.yaml:3: base[0].name: unknown strategy 'mixpu'; did you mean"),
        ("base: [{alpha: 1}]", "f.yaml:3: base[0]: a strategy needs a name (one of: augment, "),
        ("base: [null]", "f.yaml:3: base[0]: expected a strategy"),
        ("base: [none]", "f.yaml:3: base[0]: unknown strategy 'none'"),
        ("factors: [mixup]", "f.yaml:3: factors: expected keys and values, not ['mixup']"),
        ("factors: {mixup: []}", "f.yaml:3: factors.mixup: expected at least 1 items, not 0"),
        ("factors: {mixup: mixup}", "f.yaml:3: factors.mixup: expected a list, not 'mixup'"),
        ("factors: {mixup: [3]}", "f.yaml:3: factors.mixup[0]: expected a strategy"),
        ("factors: {mix: [none, {alpha: 1}]}", "f.yaml:3: factors.mix[1]: a strategy needs a name"),
        ("factors: {mixup: [none, mixup, {}]}", "f.yaml:3: factors.mixup: level 'mixup' stands th"),
        ("factors: {mixup: [none, null, mixup]}", "f.yaml:3: factors.mixup: level 'none' stands t"),
        ("factors: {mixup: [{alpha: 1}, {alpha: 1.0}]}", "f.yaml:3: factors.mixup: level 'mixup' "),
        ("design: full", "f.yaml:3: design: expected 'factorial', 'one_at_a_time' or 'leave_one_o"),
        ("exclude: {mixup: none}", "f.yaml:3: exclude: expected a list"),
        ("exclude: [{}]", "f.yaml:3: exclude[0]: an empty exclusion would leave out everything"),
        ("exclude: [{mixup: none}]", "f.yaml:3: exclude[0].mixup: no such factor"),
        ("exclude: [{mixup: null}]", "f.yaml:3: exclude[0].mixup: expected text, not null"),
        ("recipes: [mixup]", "f.yaml:3: recipes: expected keys and values"),
        ("recipes: {it: mixup}", "f.yaml:3: recipes.it: expected a list, not 'mixup'"),
        ("recipes: {nothing: [mixup]}", "f.yaml:3: recipes.nothing: the design already has a rec"),
        ("references: {balanced: nothing}", "f.yaml:3: references.balanced: expected a list"),
        ("references: {balancd: []}", "f.yaml:3: references.balancd: expected 'balanced'"),
        ("metric: balanced_acuracy", "f.yaml:3: metric: unknown metric 'balanced_acuracy'; did yo"),
        ("metric: 3", "f.yaml:3: metric: expected text or expected keys and values"),
        ("keep_weights: some", "f.yaml:3: keep_weights: expected 'all', 'best' or 'none'"),
        ("weights_gb: -1", "f.yaml:3: weights_gb: must be greater than or equal to 0"),
        ("tracking: {per_class: 1000}", "f.yaml:3: tracking.per_class: must be less than or equal"),
        ("description: 3", "f.yaml:3: description: expected text, not 3"),
        ("plugins: it.py", "f.yaml:3: plugins: expected a list, not 'it.py'"),
        ("plugins: [nowhere.py]", "f.yaml:3: plugins[0]: plugin '"),
        ("plugins: [no_such_module]", "f.yaml:3: plugins[0]: plugin 'no_such_module': no such mod"),
        ("1: 2", "f.yaml:3: [1]: expected text as a key, not 1"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_file_line_and_path(text, message):
    assert refused(HEAD + text).startswith(message)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("digit", "datasets[0]: unknown dataset 'digit'; did you mean 'digits'? (available: cifar"),
        ("{name: digit}", "datasets[0].name: unknown dataset 'digit'; did you mean 'digits'?"),
        ("{label: x}", "datasets[0]: a dataset needs a name (one of: cifar10, "),
        ("3", "datasets[0]: expected a dataset"),
        ("{name: digits, imbalance_factor: 0.5}", "datasets[0].imbalance_factor: must be greater"),
        ("{name: digits, val_fraction: 1}", "datasets[0].val_fraction: must be less than 1, not 1"),
        ("{name: digits, profile: expo}", "datasets[0].profile: expected 'exp' or 'step', not 'ex"),
        ("{name: digits, label: 5}", "datasets[0].label: expected text, not 5"),
        ("{name: digits, horizontal_flip: maybe}", "datasets[0].horizontal_flip: expected true or"),
        ("{name: digits, mean: [0.5]}", "datasets[0]: mean and std go together"),
        ("image_folder", "datasets[0].path: 'image_folder' needs it"),
        ("digits, digits", "datasets[1]: another dataset is shown as 'digits' too; give one a lab"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_dataset_is_named(item, message):
    assert refused(f"name: x\ndatasets: [{item}]").startswith(f"f.yaml:2: {message}")


@pytest.mark.parametrize("missing", ["name", "datasets"])
def test_name_and_datasets_must_be_there(missing):
    kept = [line for line in HEAD.splitlines() if not line.startswith(missing)]
    assert refused("\n".join(kept)) == f"f.yaml: {missing}: an experiment needs it"


def test_datasets_must_not_be_empty():
    assert (
        refused("name: x\ndatasets: []") == "f.yaml:2: datasets: expected at least 1 items, not 0"
    )


@pytest.mark.parametrize(
    "name", ["", "a/b", "../up", ".hidden", "-x", "größe", "a b", "a" * 101, "a\\nb", "x\\n"]
)
def test_a_name_that_is_no_folder_name_is_refused(name):
    message = refused(f'name: "{name}"\ndatasets: [digits]')
    assert message.startswith("f.yaml:1: name: a name has up to 100 letters, digits and . _ -")


@pytest.mark.parametrize("name", ["CON", "nul.csv", "lpt1", "com9.a.b", "q.", "a.b.."])
def test_a_name_that_windows_has_no_folder_for_is_refused(name):
    assert f"Windows has no folder '{name}'" in refused(f"name: {name}\ndatasets: [digits]")


@pytest.mark.parametrize("name", ["console", "com", "com10", "q.a", "lpt0"])
def test_a_name_that_only_looks_like_a_device_is_taken(name):
    load({"name": name, "datasets": ["digits"]})


@pytest.mark.parametrize("name", ["reference", "mlartifacts", "mlflow.db", "Optuna.db"])
def test_a_name_that_the_results_folder_needs_itself_is_refused(name):
    assert "is a part of the results folder" in refused(f"name: {name}\ndatasets: [digits]")


@pytest.mark.parametrize("name", ["x", "1", "a" * 100, "cifar10-lt_v1.2"])
def test_a_folder_name_is_a_name(name):
    assert read(f"name: '{name}'\ndatasets: [digits]").name == name


def test_all_problems_of_a_file_are_reported_together():
    message = refused(
        textwrap.dedent("""\
        nmae: x
        datasets: [{name: digit}, {name: digits, imbalance_factor: 0}]
        base: [mixpu]
        factors: {mixup: [none, {alpha: -1}], cutmix: [{p: 3}]}
        recipes: {both: [mixup, {name: cutmix, p: 2}]}
        models: [resnet23]
        seeds: 0
        training: {lr: 0, schedule: {warmup: 2}}
        metric: acc
        tracking: {per_class: -1}
        """)
    )
    places = [line.split(": ")[1] for line in message.splitlines()]
    assert sorted(places) == sorted(
        [
            "nmae",
            "name",
            "datasets[0].name",
            "datasets[1].imbalance_factor",
            "base[0]",
            "factors.mixup[1].alpha",
            "factors.cutmix[0].p",
            "recipes.both[1].p",
            "models[0]",
            "seeds",
            "training.lr",
            "training.schedule.warmup",
            "metric",
            "tracking.per_class",
        ]
    )


def test_t26_an_unknown_name_fails_with_the_list_of_valid_ones():
    for text, known in (
        ("base: [nope]", strategies),
        ("metric: nope", metrics),
        ("models: [nope]", ["tiny_cnn", "mlp", "resnet32"]),
    ):
        message = refused(HEAD + text)
        assert all(name in message for name in known)
    message = refused("name: x\ndatasets: [nope]")
    assert all(name in message for name in datasets)


@pytest.mark.parametrize(
    ("transforms", "message"),
    [
        ("[{name: HorizontalFlop}]", "transforms[0] HorizontalFlop: no such image transform; did "),
        (
            "[{name: Rotate, limt: 3}]",
            "transforms[0] Rotate: unknown parameter 'limt'; did you mea",
        ),
        ("[{name: Rotate, p: 3}]", "transforms[0] Rotate"),
        ("[{p: 3}]", "transforms[0]: an item is a mapping with the name of a transform"),
        ("[]", ".transforms: expected at least 1 items"),
        ("x", ".transforms: expected a list, not 'x'"),
    ],
)
def test_what_is_wrong_with_a_transform_is_named(transforms, message):
    found = refused(HEAD + f"base: [{{name: augment, transforms: {transforms}}}]")
    assert found.startswith("f.yaml:3: base[0]")
    assert message in found
    assert len(found.splitlines()) == 1


@pytest.mark.parametrize("zero", ["0", "0.0"])
def test_select_best_needs_val(zero):
    digits = f"{{name: digits, val_fraction: {zero}}}"
    text = f"name: x\ndatasets: [cifar10, {digits}]\ntraining: {{select: best}}"
    assert refused(text) == "f.yaml:2: datasets[1]: select: best needs val, and val_fraction is 0"
    read(text.replace("best", "last"))
    read(text.replace(f"fraction: {zero}", "fraction: 0.1"))


def test_the_forms_of_a_level():
    found = read(
        HEAD
        + textwrap.dedent("""\
        factors:
          sampler: [null, weighted_sampler, {name: stratified_batches}]
          mixup: [none, {}, {alpha: 0.2}, {name: cutmix, p: 0.5}, {name: mixup, alpha: 2}]
        """)
    )
    assert [level.label for level in found.factors["sampler"]] == [
        "none",
        "weighted_sampler",
        "stratified_batches",
    ]
    assert [level.label for level in found.factors["mixup"]] == [
        "none",
        "mixup",
        "mixup(alpha=0.2)",
        "cutmix(p=0.5)",
        "mixup(alpha=2)",
    ]
    assert found.factors["sampler"][0].strategy is None


def test_levels_that_only_look_alike_are_numbered_and_can_be_excluded():
    found = read(
        HEAD
        + textwrap.dedent("""\
        factors:
          augment:
          - none
          - {transforms: [{name: HorizontalFlip}]}
          - {transforms: [{name: VerticalFlip}]}
          mixup: [none, mixup]
        exclude: [{augment: "augment(transforms=[1])#2", mixup: mixup}]
        """)
    )
    assert [recipe.name for recipe in found.recipes] == [
        "nothing",
        "mixup",
        "augment(transforms=[1])",
        "augment(transforms=[1])+mixup",
        "augment(transforms=[1])#2",
    ]
    assert found.recipes[2].strategies != found.recipes[4].strategies


def test_a_hand_named_recipe_may_not_take_the_name_of_a_crossed_one():
    factors = "factors: {mixup: [none, mixup], cutmix: [none, cutmix]}\n"
    message = refused(HEAD + factors + "recipes: {mixup+cutmix: [smote]}")
    assert message == "f.yaml:4: recipes.mixup+cutmix: the design already has a recipe of this name"
    read(HEAD + factors + "recipes: {both: [mixup, cutmix]}")


def test_references_name_recipes():
    factors = "factors: {mixup: [none, mixup]}\n"
    assert read(HEAD + factors + "references: {balanced: [mixup]}").references == (
        "nothing",
        "mixup",
    )
    assert read(HEAD + "references: {balanced: []}").references == ("nothing",)
    message = refused(HEAD + factors + "references:\n  balanced:\n  - nothing\n  - mixp")
    assert message == (
        "f.yaml:7: references.balanced[1]: no such recipe 'mixp'; did you mean 'mixup'? "
        "(recipes: nothing, mixup)"
    )


def test_exclusions_name_factors_and_levels():
    factors = "factors: {sampler: [none, weighted_sampler], smote: [none, smote]}\n"
    message = refused(HEAD + factors + "exclude:\n- {samplr: none}\n- {smote: smoot}")
    assert message.splitlines() == [
        "f.yaml:5: exclude[0].samplr: no such factor; did you mean 'sampler'? "
        "(factors: sampler, smote)",
        "f.yaml:6: exclude[1].smote: no such level 'smoot'; did you mean 'smote'? "
        "(levels: none, smote)",
    ]


def test_a_design_without_end_is_refused_before_it_is_built():
    levels = "[none, " + ", ".join(f"{{alpha: {i}}}" for i in range(1, 10)) + "]"
    factors = "".join(f"  f{i}: {levels.replace('{', '{name: mixup, ')}\n" for i in range(9))
    message = refused(HEAD + "factors:\n" + factors)
    assert message.startswith("f.yaml:3: factors: 1,000,000,000 combinations, more than 10,000;")
    assert len(read(HEAD + "design: one_at_a_time\nfactors:\n" + factors).recipes) == 82


def test_seeds_are_a_number_or_a_list():
    assert read(HEAD + "seeds: 1").seeds == (0,)
    assert read(HEAD + "seeds: 10000").seeds == tuple(range(10_000))
    assert read(HEAD + "seeds: [7, 3, 9223372036854775807]").seeds == (7, 3, 2**63 - 1)


def test_words_of_yaml_1_1_are_text():
    assert "expected true or false" not in refused(HEAD + "metric: no")
    assert read(HEAD + "description: no").description == "no"
    assert read(HEAD + "training: {lr: 1e-3}").training.lr == 0.001


def test_set_edits_are_named_as_such():
    assert read(HEAD, ["training.lr=0.5"]).training.lr == 0.5
    assert refused(HEAD, ["training.lr=-1"]).startswith("--set training.lr: must be greater than 0")
    assert refused(HEAD, ["trainin.lr=1"]).startswith(
        "--set trainin: unknown key for 'an experiment'; did you mean 'training'?"
    )
    assert refused(HEAD, ["training.lrr=1"]).startswith("--set training.lrr: unknown key for")
    assert refused(HEAD, ["datasets.0=mnst"]).startswith(
        "--set datasets[0]: unknown dataset 'mnst'"
    )
    message = refused(HEAD + "training: {lr: 0}", ["seeds=0"])
    assert sorted(message.splitlines()) == [
        "--set seeds: must be greater than or equal to 1 or expected a list, not 0",
        "f.yaml:3: training.lr: must be greater than 0, not 0",
    ]


PLUGIN = '''
from typing import Annotated
from pydantic import Field
from harness.strategies.base import Strategy, strategy


@strategy("from_plugin")
class FromPlugin(Strategy):
    """A strategy of a plugin."""

    weight: Annotated[float, Field(ge=0)] = 1.0
'''


def test_plugins_by_file_by_module_and_from_the_command_line(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("one", "two", "three"):
        (tmp_path / f"plugin_{name}_x.py").write_text(PLUGIN.replace("from_plugin", f"from_{name}"))
    file = str(tmp_path / "plugin_one_x.py")
    other = str(tmp_path / "plugin_three_x.py")
    text = HEAD + f"plugins: ['{file}', plugin_two_x]\nbase: [from_one, from_two, from_three]"
    found = resolve(Tree("f.yaml", text), [other])
    assert [s.name for s in found.base] == ["from_one", "from_two", "from_three"]
    assert found.plugins == (file, "plugin_two_x", other)
    message = refused(HEAD + f"plugins: ['{file}']\nbase: [{{name: from_one, wieght: 1}}]")
    assert "did you mean 'weight'? (accepts: weight)" in message


def test_a_missing_plugin_is_told_without_calling_its_names_unknown(tmp_path):
    file = tmp_path / "plugin.py"
    message = refused(HEAD + f"plugins: ['{file}']\nbase: [from_plugin]")
    assert message == f"f.yaml:3: plugins[0]: plugin '{file}': no such Python file"
    with pytest.raises(ConfigError, match="no such module"):
        resolve(Tree("f.yaml", HEAD), ["no_such_module"])


def test_what_breaks_the_file_itself_is_told_with_its_line():
    assert refused(HEAD + "name: y") == 'f.yaml:3: found duplicate key "name"'
    assert "could not determine a constructor" in refused(HEAD + "base: !!python/name:os.system ''")
    assert "more than 100,000 values" in refused(
        "a0: &a0 [x, x]\n" + "\n".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 60))
    )


def message_of(function, argument):
    try:
        function(argument)
    except HarnessError as error:
        return str(error)
    return "loaded"


HOSTILE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([2**70, -(2**70), 10**400]),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(
        ["none", "nothing", "mixup", "digits", "augment", "smote", "cutmix", "balanced", "best",
         "multistep", "tiny_cnn", "../x", "x.py", "\0", "a" * 300, "~x", "1e-3", "DEFAULT", "*"]
    ),
)  # fmt: skip
KEYS = st.sampled_from(
    ["name", "datasets", "base", "factors", "design", "exclude", "recipes", "references", "models",
     "seeds", "folds", "training", "metric", "tracking", "keep_weights", "alpha", "p", "k", "start",
     "stop", "transforms", "policy", "lr", "epochs", "batch_size", "schedule", "warmup",
     "select", "balanced", "label", "imbalance_factor", "val_fraction", "path", "weights", "width",
     "mixup", "sampler", "uri", "plugins", "", "é", 0, 1]
)  # fmt: skip
VALUES = st.recursive(
    HOSTILE,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=10,
)
SOUND = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["x", "a b"]) | VALUES,
        "datasets": st.just(["digits"])
        | st.lists(
            st.dictionaries(KEYS, VALUES, max_size=3).map(lambda d: {"name": "digits", **d}),
            max_size=2,
        )
        | VALUES,
        "base": st.lists(st.sampled_from(["mixup", "smote", "augment"]) | VALUES, max_size=3),
        "factors": st.dictionaries(KEYS, st.lists(VALUES, max_size=3), max_size=3) | VALUES,
        "exclude": st.lists(st.dictionaries(KEYS, VALUES, max_size=2), max_size=2) | VALUES,
        "recipes": st.dictionaries(KEYS, st.lists(VALUES, max_size=2), max_size=2) | VALUES,
        "training": st.dictionaries(KEYS, VALUES, max_size=3) | VALUES,
        "models": st.lists(st.just("tiny_cnn") | VALUES, max_size=2) | VALUES,
        "references": st.dictionaries(st.just("balanced") | KEYS, VALUES, max_size=2),
        "seeds": st.integers(1, 3) | VALUES,
        "metric": st.sampled_from(["accuracy", "acc"]) | VALUES,
    },
)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(SOUND | st.dictionaries(KEYS, VALUES, max_size=6))
def test_whatever_stands_in_a_file_it_loads_or_is_refused_in_plain_words(keys):
    message = message_of(load, keys)
    assert not JARGON.search(re.sub(r"'[^']*'|\"[^\"]*\"", "", message))


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60) | st.text(alphabet="{}[]:,-&*!|>'\"%@#? \n\tab1", max_size=60))
def test_whatever_text_a_file_holds_it_loads_or_is_refused(text):
    assert message_of(read, text).startswith(("f.yaml", "loaded"))


def test_it_is_called_with_what_was_given_beside_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my file.yaml").write_text("name: x\ndatasets: [digits]\n")
    edits = [
        "training.epochs=5",
        "tracking.uri=http://me:secret@host",
        "datasets=[{name: table, file: /data/t.csv, label_column: y}]",
    ]
    experiment = load("my file.yaml", edits[:2])
    assert experiment.called == "'my file.yaml' --set training.epochs=5"
    tree = Tree.read(tmp_path / "my file.yaml")
    for edit in edits:
        tree.set(edit)
    said = replace(experiment, given=tuple(("--set", edit) for edit in tree.edits)).called
    assert "/data" not in said
    assert "secret" not in said
    assert str(tmp_path) not in load(tmp_path / "my file.yaml").called


def test_of_very_many_problems_the_first_are_told():
    message = refused(HEAD + "base: [" + ", ".join(f"smoote{i}" for i in range(4_000)) + "]")
    lines = message.splitlines()
    assert len(lines) == 51
    assert "unknown strategy 'smoote0'; did you mean 'smote'?" in lines[0]
    assert lines[-1] == "f.yaml: and perhaps more; mend these first"
    message = refused(HEAD + "seeds: [" + ", ".join(["x"] * 4_000) + "]")
    assert len(message.splitlines()) == 51
    assert "seeds[0]: expected a whole number, not 'x'" in message
