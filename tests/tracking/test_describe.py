from dataclasses import replace

import pytest

from harness.registry import datasets, strategies
from harness.tracking import describe


@pytest.fixture
def mixed(specs):
    return next(spec for spec in specs if spec.recipe == "smote+mixup(alpha=0.2)")


def test_run_name(mixed):
    assert describe.run_name(mixed) == "smote+mixup(alpha=0.2) · digits-lt20 · tiny_cnn · s0"
    balanced = mixed.dataset.model_copy(update={"balanced": True})
    other = replace(mixed, dataset=balanced, seed=3, fold=1, folds=5)
    assert describe.run_name(other).count(" · digits-lt20 (balanced) · ")
    assert describe.run_name(other).endswith(" · s3 · f1")


def test_params_hold_factors_what_was_set_and_what_differs(mixed):
    params = describe.params(mixed, 44)
    assert params["smote"] == "smote"
    assert params["mixup"] == "mixup(alpha=0.2)"
    assert params["mixup.alpha"] == "0.2"
    assert "mixup.p" not in params
    assert params["steps"] == "44"
    assert (params["epochs"], params["batch_size"], params["lr"]) == ("4", "32", "0.1")
    assert params["training.momentum"] == "0.8"
    assert params["dataset.imbalance_factor"] == "20"
    assert params["reference"] == "none"
    assert "steps" not in describe.params(mixed, None)


def test_two_strategies_of_one_name_keep_their_parameters_apart(mixed):
    augment = strategies.get("augment")
    both = (augment(policy="flip_crop"), augment(transforms=[{"name": "Blur", "p": 0.5}] * 40))
    params = describe.params(replace(mixed, strategies=both), None)
    assert params["augment.policy"] == "flip_crop"
    assert params["augment.2.transforms"].startswith('[{"name"')
    assert len(params["augment.2.transforms"]) <= 500


def test_no_path_of_the_data_is_recorded(mixed, tmp_path):
    folder = datasets.get("image_folder")(path=tmp_path / "private", label="mine")
    spec = replace(mixed, dataset=folder)
    texts = [*describe.params(spec, 1).values(), *describe.tags(spec, spec.key).values()]
    assert not [text for text in texts if "private" in text]


def test_dataset_digest_fits_and_tells_subsets_apart(mixed):
    other = replace(mixed, dataset=mixed.dataset.model_copy(update={"imbalance_factor": 5.0}))
    assert len(describe.dataset_digest(mixed)) == 36
    assert describe.dataset_digest(mixed) != describe.dataset_digest(other)
    assert describe.dataset_digest(mixed) != describe.dataset_digest(replace(mixed, content="c"))


def test_the_note_has_the_command(mixed):
    note = describe.note(mixed, "abc", "study.yaml", "failed", "no memory")
    assert "`harness run study.yaml --only abc --force`" in note
    assert "failed: no memory" in note
    assert "\n" not in note


def test_a_factor_that_shares_a_name_with_a_param_is_told_apart(mixed):
    other = replace(mixed, levels=(("model", "none"), ("mixup", "none")))
    params = describe.params(other, None)
    assert params["model"] == "tiny_cnn"
    assert params["factor.model"] == "none"
    assert params["mixup"] == "none"
