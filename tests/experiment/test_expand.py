import dataclasses
import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from harness.datasets.base import Dataset, ImageDataset, Index, content_of, dataset
from harness.datasets.digits import Digits
from harness.errors import ConfigError, DataError
from harness.experiment.canonical import canonical_json
from harness.experiment.expand import expand
from harness.experiment.schema import load
from harness.experiment.spec import RunSpec

ROOT = Path(__file__).parents[2]


def keys(**changes):
    found = {
        "name": "x",
        "datasets": [{"name": "digits", "imbalance_factor": 20}],
        "seeds": 2,
        "training": {"epochs": 10, "batch_size": 32},
    }
    return {**found, **changes}


def planned(**changes):
    return expand(load(keys(**changes)))


def refused(error=ConfigError, **changes):
    with pytest.raises(error) as caught:
        planned(**changes)
    message = str(caught.value)
    assert message.startswith("experiment: ")
    return message


def write_table(path, rows=60, classes=3):
    lines = ["a,b,label", *(f"{i * 0.5},{i % 7},{'xyz'[i % classes]}" for i in range(rows))]
    path.write_text("\n".join(lines))
    return {"name": "table", "file": str(path)}


MIXES = {"mixup": ["none", "mixup"], "cutmix": ["none", "cutmix"]}


def test_runs_come_seed_by_seed_then_by_dataset_model_and_recipe():
    plan = planned(
        datasets=[{"name": "digits", "imbalance_factor": 20}, "digits"],
        factors={"mixup": ["none", "mixup"]},
        models=["tiny_cnn", "mlp"],
        seeds=[7, 3],
    )
    assert [
        (spec.seed, spec.dataset_label, spec.model.name, spec.recipe) for spec in plan.runs
    ] == [
        (seed, source, model, recipe)
        for seed in (7, 3)
        for source in ("digits-lt20", "digits")
        for model in ("tiny_cnn", "mlp")
        for recipe in ("nothing", "mixup")
    ]
    assert all(spec.experiment == "x" for spec in plan.runs)
    assert dict(plan.runs[1].levels) == {"mixup": "mixup"}


def test_folds_come_within_a_seed():
    plan = planned(folds=3, seeds=2, factors={"mixup": ["none", "mixup"]})
    assert [(spec.seed, spec.fold, spec.recipe) for spec in plan.runs] == [
        (seed, fold, recipe)
        for seed in (0, 1)
        for fold in (0, 1, 2)
        for recipe in ("nothing", "mixup")
    ]
    assert {spec.folds for spec in plan.runs} == {3}
    assert {spec.fold for spec in planned().runs} == {None}


def test_every_run_knows_base_and_recipe_in_canonical_order():
    plan = planned(base=["augment"], recipes={"it": ["cutmix", "smote"]}, seeds=1)
    assert [[s.name for s in spec.strategies] for spec in plan.runs] == [
        ["augment"],
        ["smote", "augment", "cutmix"],
    ]


def test_each_key_is_there_once_and_what_is_the_same_is_named():
    plan = planned(
        recipes={"plain": [], "one": ["mixup"], "again": [{"name": "mixup", "alpha": 1}]}, seeds=3
    )
    assert len({spec.key for spec in plan.runs}) == len(plan.runs) == 6
    assert [spec.recipe for spec in plan.runs[:2]] == ["nothing", "one"]
    assert [(remark.recipe, remark.text) for remark in plan.same] == [
        ("plain", "the same runs as 'nothing'"),
        ("again", "the same runs as 'one'"),
    ]


def test_one_dataset_under_two_labels_runs_once_and_says_so():
    twice = [{"name": "digits", "label": label} for label in "ab"]
    plan = planned(datasets=twice, seeds=1)
    assert [spec.dataset_label for spec in plan.runs] == ["a"]
    assert [(r.dataset, r.text) for r in plan.same] == [("b", "the same runs as 'nothing' on 'a'")]


def test_content_is_that_of_the_dataset():
    assert {spec.content for spec in planned().runs} == {Digits().indexed().content}


def test_the_balanced_reference_has_the_same_n_and_equal_classes():
    plan = planned(
        factors=MIXES, references={"balanced": ["mixup"]}, seeds=2, models=["tiny_cnn", "mlp"]
    )
    found = [spec for spec in plan.runs if spec.reference]
    assert [(spec.seed, spec.model.name, spec.recipe) for spec in found] == [
        (seed, model, recipe)
        for seed in (0, 1)
        for model in ("tiny_cnn", "mlp")
        for recipe in ("nothing", "mixup")
    ]
    for spec in found:
        (twin,) = (
            other
            for other in plan.runs
            if dataclasses.replace(other, dataset=spec.dataset) == spec and not other.reference
        )
        flat, tail = spec.dataset.info(spec.seed), twin.dataset.info(spec.seed)
        assert flat.counts.sum(axis=1).tolist() == tail.counts.sum(axis=1).tolist()
        assert np.ptp(flat.counts[0]) <= 1 < np.ptp(tail.counts[0])
        sizes = [int(info.counts[0].sum()) for info in (flat, tail)]
        assert spec.training.steps(sizes[0]) == spec.training.steps(sizes[1])
        assert spec.key != twin.key


@pytest.mark.parametrize("factor", [1, 3, 7.5, 20, 100])
@pytest.mark.parametrize("val", [None, 0.0, 0.1, 0.35])
def test_the_balanced_reference_has_the_same_n_whatever_is_carved(factor, val):
    tail = Digits(imbalance_factor=factor, val_fraction=val)
    flat = tail.model_copy(update={"balanced": True})
    for seed in (0, 1):
        for fold in (None, 0):
            folds = None if fold is None else 4
            both = [source.split(source.indexed(), seed, fold, folds) for source in (tail, flat)]
            assert len(both[0].train) == len(both[1].train)
            np.testing.assert_array_equal(both[0].val, both[1].val)
            np.testing.assert_array_equal(both[0].test, both[1].test)
            parts = [set(part.tolist()) for part in (both[1].train, both[1].val, both[1].test)]
            assert sum(map(len, parts)) == len(set.union(*parts))


def test_a_reference_that_cannot_be_is_refused_before_anything_runs():
    message = refused(DataError, datasets=["digits"], references={"balanced": []})
    assert message.startswith("experiment: dataset 'digits': the dataset has no imbalance_factor")


def test_a_recipe_that_does_not_suit_one_dataset_is_left_out_there(tmp_path):
    plan = planned(
        datasets=[{"name": "digits", "imbalance_factor": 20}, write_table(tmp_path / "t.csv")],
        factors=MIXES,
        models=["mlp"],
        seeds=1,
    )
    assert [(spec.dataset_label, spec.recipe) for spec in plan.runs] == [
        ("digits-lt20", "nothing"),
        ("digits-lt20", "cutmix"),
        ("digits-lt20", "mixup"),
        ("digits-lt20", "mixup+cutmix"),
        ("table", "nothing"),
        ("table", "mixup"),
    ]
    assert [(r.dataset, r.recipe, r.text) for r in plan.unsuitable] == [
        ("table", "cutmix", "a table row has no area to cut a box from"),
        ("table", "mixup+cutmix", "a table row has no area to cut a box from"),
    ]


def test_a_model_for_images_is_refused_on_a_table(tmp_path):
    message = refused(datasets=[write_table(tmp_path / "t.csv")], models=["mlp", "tiny_cnn"])
    assert "models: 'tiny_cnn' takes images, and 'table' is a table; for a table use mlp" in message


def test_a_recipe_that_suits_no_dataset_is_refused(tmp_path):
    message = refused(datasets=[write_table(tmp_path / "t.csv")], factors=MIXES, models=["mlp"])
    assert message.splitlines() == [
        "experiment: recipe 'cutmix' cannot run: a table row has no area to cut a box from",
        "experiment: recipe 'mixup+cutmix' cannot run: a table row has no area to cut a box from",
    ]


def test_a_dataset_that_suits_no_recipe_is_refused(tmp_path):
    message = refused(
        datasets=["digits", write_table(tmp_path / "t.csv")], base=["cutmix"], models=["mlp"]
    )
    assert message == (
        "experiment: no recipe can run on 'table': a table row has no area to cut a box from"
    )


def test_many_refusals_are_cut_with_their_number():
    message = refused(
        factors={
            "first": ["none", *({"name": "mixup", "alpha": a} for a in (2, 3))],
            "order": ["weighted_sampler"],
            "more": [
                "none",
                *({"name": "stratified_batches", "stop": s / 10} for s in range(1, 9)),
            ],
        }
    )
    assert len(message.splitlines()) == 6
    assert message.splitlines()[-1] == "(and 19 more)"


def test_two_orders_or_losses_at_once_are_refused_by_recipe():
    message = refused(
        factors={
            "sampler": ["none", "weighted_sampler"],
            "batches": ["none", {"name": "stratified_batches", "stop": 0.5}],
            "loss": ["none", "focal"],
        },
        base=[{"name": "class_weights", "start": 0.5}],
    )
    lines = message.splitlines()
    assert len(lines) == 5
    assert lines[0].startswith("experiment: recipe 'focal': 'class_weights(start=0.5)' and 'focal'")
    assert "both decide the order of samples at the same time" in message
    planned(
        factors={
            "sampler": ["none", {"name": "weighted_sampler", "start": 0.5}],
            "batches": ["none", {"name": "stratified_batches", "stop": 0.5}],
        }
    )


def test_a_batch_larger_than_the_training_set_is_refused():
    size = int(Digits(imbalance_factor=20).info(0).counts[0].sum())
    message = refused(training={"batch_size": size + 1})
    assert message == (
        f"experiment: training.batch_size: {size + 1} is larger than the training set of "
        f"'digits-lt20' ({size} samples)"
    )
    planned(training={"batch_size": size})


def test_the_smallest_fold_counts_for_the_batch():
    sizes = [int(Digits().info(0, fold, 7).counts[0].sum()) for fold in range(7)]
    assert len(set(sizes)) > 1
    planned(datasets=["digits"], folds=7, training={"batch_size": min(sizes)})
    refused(datasets=["digits"], folds=7, training={"batch_size": min(sizes) + 1})


def test_a_fold_that_leaves_a_class_without_training_rows_is_refused_whichever_it_is():
    class Rare(ImageDataset):
        """One class of a single sample, which folds put into one test set."""

        lonely: int = 0

        def index(self):
            labels = np.repeat([0, 1], 20)
            labels[self.lonely] = 2
            fold = np.arange(40) // 10
            names = ("a", "b", "c")
            return Index(labels, names, content_of(labels), (8, 8, 1), fold=fold)

    dataset("rare")(Rare)
    for lonely in (0, 35):
        message = refused(
            DataError,
            datasets=[{"name": "rare", "lonely": lonely}],
            folds=4,
            training={"batch_size": 4},
        )
        assert message == "experiment: dataset 'rare': classes without a training sample: 'c'"


def test_what_is_wrong_with_a_dataset_is_named_with_the_file_and_once(tmp_path):
    message = refused(DataError, datasets=[{"name": "digits", "imbalance_factor": 1000}])
    assert message.startswith("experiment: dataset 'digits-lt1000': imbalance_factor 1000 leaves")
    assert message.count("dataset '") == 1
    gone = {"name": "image_folder", "path": str(tmp_path / "nowhere")}
    message = refused(DataError, datasets=[gone])
    assert "nowhere" in message
    assert message.count("dataset '") == 1


def test_remarks_name_what_changes_nothing_and_what_may_overcorrect():
    plan = planned(
        factors={
            "sampler": ["none", "weighted_sampler"],
            "smote": ["none", "smote"],
            "loss": ["none", "class_weights"],
        },
        seeds=1,
    )
    assert len(plan.runs) == 8
    assert [(r.recipe, r.text) for r in plan.redundant] == [
        ("smote+class_weights", "the classes have equally many rows, so every weight is 1"),
        ("weighted_sampler+smote", "the classes already have equally many rows"),
        ("weighted_sampler+smote+class_weights", "the classes already have equally many rows"),
        (
            "weighted_sampler+smote+class_weights",
            "the classes have equally many rows, so every weight is 1",
        ),
    ]
    assert [r.recipe for r in plan.flags] == [
        "weighted_sampler+class_weights",
        "weighted_sampler+smote+class_weights",
    ]
    assert "over-correct" in plan.flags[0].text


def test_a_window_without_a_step_is_named():
    late = {"name": "mixup", "start": 0.99}
    plan = planned(recipes={"late": [late]}, training={"batch_size": 32, "max_steps": 20})
    assert [(r.recipe, r.text) for r in plan.redundant] == [
        ("late", "mixup(start=0.99) never acts: no step of 20 is in its window")
    ]


def test_t27_a_sampler_with_a_weighted_loss_runs_and_is_flagged():
    plan = planned(recipes={"both": ["weighted_sampler", "class_weights"]}, seeds=1)
    assert [spec.recipe for spec in plan.runs] == ["nothing", "both"]
    assert [remark.recipe for remark in plan.flags] == ["both"]


def test_warnings_of_a_dataset_become_notes():
    plan = planned(datasets=[{"name": "digits", "imbalance_factor": 120}], seeds=1)
    said = "digits-lt120: no val sample of '8', '9': 1 sample left, which train keeps"
    assert plan.notes == (said,)


def test_infos_are_those_of_the_first_seed():
    plan = planned(seeds=[5, 6])
    expected = Digits(imbalance_factor=20).info(5)
    np.testing.assert_array_equal(plan.infos["digits-lt20"].counts, expected.counts)


def levels(name, parameter, number):
    return ["none", *({"name": name, parameter: i} for i in range(2, number + 1))]


def test_ten_thousand_runs_are_planned_with_one_look_at_the_data_and_one_at_each_recipe(
    monkeypatch,
):
    looks, recipes = [], []
    info, of = Dataset.info, RunSpec.of
    monkeypatch.setattr(Dataset, "info", lambda *a, **k: looks.append(1) or info(*a, **k))
    monkeypatch.setattr(RunSpec, "of", lambda *a: recipes.append(1) or of(*a))
    plan = planned(
        factors={
            "sampler": ["none", "weighted_sampler"],
            "smote": levels("smote", "k", 5),
            "mixup": levels("mixup", "alpha", 10),
            "cutmix": levels("cutmix", "alpha", 10),
        },
        seeds=10,
    )
    assert len(plan.runs) == len({spec.key for spec in plan.runs}) == 10_000
    assert len(looks) == 1
    assert len(recipes) == 1000


def test_a_run_that_was_made_from_another_is_as_if_made_by_itself():
    plan = planned(
        base=["focal"],
        factors={**MIXES, "order": ["none", "weighted_sampler"]},
        references={"balanced": ["mixup"]},
        models=["tiny_cnn", "mlp"],
        seeds=2,
    )
    assert len({spec.key for spec in plan.runs}) == len(plan.runs)
    for spec in plan.runs:
        alone = dataclasses.replace(spec)
        assert alone is not spec
        assert (alone.key, alone.settings) == (spec.key, spec.settings)


def test_each_key_is_the_digest_of_the_whole_identity():
    plan = planned(seeds=3, folds=2, references={"balanced": ["nothing"]})
    for spec in plan.runs:
        whole = canonical_json(spec.identity()).encode()
        assert spec.key == hashlib.sha256(whole).hexdigest()[:12]
        assert spec.key == RunSpec.from_json(spec.to_json()).key
    assert len({(spec.seed, spec.fold) for spec in plan.runs}) == 6


def test_a_grid_without_end_is_refused_before_it_is_built():
    message = refused(
        factors={"mixup": levels("mixup", "alpha", 100), "cutmix": levels("cutmix", "alpha", 100)},
        seeds=11,
    )
    assert message.startswith("experiment: 110,000 runs, more than 100,000;")


def test_planning_imports_no_heavy_library():
    code = """
import sys
from harness.experiment.schema import load
from harness.experiment.canonical import canonical_json
from harness.experiment.expand import expand
plan = expand(load("experiments/quickstart.yaml"))
assert len(plan.runs) == 96
heavy = {"torch", "torchvision", "albumentations", "sklearn", "imblearn", "mlflow", "optuna", "cv2"}
print(sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == "[]"
