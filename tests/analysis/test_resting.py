from pathlib import Path

import numpy as np
import pytest

from harness.analysis.images import image_scores
from harness.analysis.resting import resting
from harness.analysis.tables import load_results
from tests.sealed import reseal


def of(make, metric="balanced_accuracy", **options):
    runs = load_results(make(keys={"factors": {}, "seeds": 3}, **options).store.path)
    return runs, resting(runs, metric)


def test_classes_of_few_groups_are_named_with_their_share_of_the_metric(make):
    # groups of ten test images: class c is half of one and a whole one, class d a group and a half
    runs, found = of(make, groups=10, per_class=(50, 30, 15, 5))
    (rests,) = found.values()
    assert list(rests.few) == [("c", "2 groups"), ("d", "1 group")]
    assert rests.share == pytest.approx(0.5)
    assert not rests.certain
    assert rests.said() == (
        "50 % of the metric rests on one or two test groups (c on 2 groups, d on 1 group)"
    )
    assert rests.groups["test"] == [5, 3, 2, 1]
    assert resting(runs, "accuracy")[next(iter(found))].share == pytest.approx(0.2)


def test_a_group_that_outweighs_the_others_counts_as_one(make):
    runs, _ = of(make, groups=2)
    for path in runs["path"]:
        with np.load(f"{path}/predictions.npz") as stored:
            arrays = {name: stored[name] for name in stored.files}
        arrays["test_groups"][:20] = 999
        np.savez(f"{path}/predictions.npz", **arrays)
        reseal(Path(path))
    (rests,) = resting(runs, "balanced_accuracy").values()
    assert list(rests.few) == [("a", "one of 4 groups mostly")]


def test_many_groups_or_samples_are_no_reason_to_doubt(make):
    _, found = of(make, groups=2)
    (rests,) = found.values()
    assert not rests.few
    assert rests.certain
    _, found = of(make, groups=1)
    (rests,) = found.values()
    assert (rests.few, rests.groups, rests.share) == ([], {}, 0.0)


def test_without_groups_each_sample_is_one(make):
    _, found = of(make, per_class=(50, 30, 2, 1))
    (rests,) = found.values()
    assert (
        rests.said("image") == "50 % of the metric rests on one or two test images (c on 2, d on 1)"
    )
    assert not rests.certain


def test_damaged_runs_are_left_to_those_who_read_their_figures(make):
    runs, _ = of(make, groups=2)
    for path in runs["path"]:
        with open(f"{path}/predictions.npz", "wb") as file:
            file.write(b"torn")
    assert resting(runs, "balanced_accuracy") == {}


def test_why_new_images_have_no_interval(make):
    def why(metric="balanced_accuracy", **options):
        made = make(keys={"name": f"e{len(str(options))}{metric}", "factors": {}}, **options)
        runs = load_results(made.store.path)
        return dict(enumerate(image_scores(runs, metric).none.values()))

    assert why() == {}
    assert why("worst_class_recall") == {0: "worst class recall does not split into single samples"}
    assert why(groups=25)[0] == (
        "100 % of the metric rests on classes with a single test group (a, b, c, d), and one group "
        "does not tell how others vary"
    )
    alone = why(per_class=(50, 30, 1, 1))[0]
    assert "50 % of the metric rests on classes with a single test sample (c, d)" in alone
    runs = load_results(make(keys={"name": "two", "factors": {}, "seeds": 2}).store.path)
    assert list(image_scores(runs, "accuracy").none.values()) == ["fewer than 3 seeds"]
    folds = image_scores(runs.assign(fold=0, folds=3), "accuracy").none
    assert list(folds.values()) == ["with folds the interval speaks of new samples already"]
