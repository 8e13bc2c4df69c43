"""Metrics with parameters and of one class, against scikit-learn and by hand; labels; contracts."""

import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, fbeta_score, roc_auc_score, roc_curve

from harness.errors import ConfigError
from harness.metrics import Split, evaluate, key_of, metric_of, scores, standard
from harness.registry import metrics

RARE_LAST = np.array([90, 10])


def two(seed=0, n=120, levels=1000, counts=RARE_LAST, names=("well", "ill")):
    """A split of two classes with both in it; few `levels` make ties."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < 0.3).astype(np.int64)
    labels[:2] = 0, 1
    score = np.round((0.35 * labels + 0.65 * rng.random(n)) * levels) / levels
    return Split.checked(np.stack([1 - score, score], axis=1), labels, counts, class_names=names)


def value(label, split):
    return scores(split, [label])[metric_of(label).label()]


splits = st.builds(two, st.integers(0, 10_000), st.integers(5, 80), st.sampled_from([2, 5, 1000]))


@given(splits, st.sampled_from([0.5, 1.0, 2.0, 3.0]))
@settings(max_examples=40, deadline=None)
def test_f_beta_is_that_of_scikit_learn(split, beta):
    called, truth = split.decisions, split.labels
    want = fbeta_score(truth, called, beta=beta, average="macro", zero_division=0)
    assert value(f"f_beta(beta={beta})", split) == pytest.approx(want)
    want = fbeta_score(truth, called, beta=beta, pos_label=1, zero_division=0)
    assert value(f'f_beta(beta={beta},positive="ill")', split) == pytest.approx(want)


@given(splits, st.sampled_from([0.0, 0.5, 0.8, 0.95, 1.0]))
@settings(max_examples=40, deadline=None)
def test_sensitivity_at_specificity_is_the_best_point_of_the_roc_curve(split, level):
    false, true, _ = roc_curve(split.labels, split.probabilities[:, 1], drop_intermediate=False)
    want = true[1 - false >= level - 1e-12].max()
    got = value(f"sensitivity_at_specificity(specificity={level})", split)
    assert got == pytest.approx(want)


@given(splits, st.sampled_from([0.05, 0.1, 0.5, 1.0]))
@settings(max_examples=40, deadline=None)
def test_partial_auc_is_that_of_scikit_learn(split, most):
    want = roc_auc_score(split.labels, split.probabilities[:, 1], max_fpr=most)
    assert value(f"partial_auc(max_fpr={most})", split) == pytest.approx(want)


@given(splits)
@settings(max_examples=40, deadline=None)
def test_metrics_of_the_rare_class_are_those_of_scikit_learn(split):
    score, truth = split.probabilities[:, 1], split.labels
    want = average_precision_score(truth, score)
    assert value("rare_average_precision", split) == pytest.approx(want)
    assert value("rare_roc_auc", split) == pytest.approx(roc_auc_score(truth, score))
    for name in ("precision", "recall", "f1"):
        assert value(f"rare_{name}", split) == pytest.approx(getattr(split, name)[1])


def test_precision_at_k_shares_out_equal_scores():
    score = np.array([0.9, 0.8, 0.5, 0.5, 0.5, 0.1])
    labels = np.array([1, 0, 1, 1, 0, 1])
    split = Split.checked(np.stack([1 - score, score], axis=1), labels, RARE_LAST)
    at = {k: value(f"precision_at_k(k={k})", split) for k in (1, 2, 3, 4, 5, 6, 500)}
    assert at[1] == 1.0
    assert at[2] == 0.5
    assert at[3] == pytest.approx((1 + 2 / 3) / 3)
    assert at[5] == pytest.approx(3 / 5)
    assert at[6] == at[500] == pytest.approx(4 / 6)
    drawn = [labels[[0, 1, *tied]].mean() for tied in itertools.combinations((2, 3, 4), 2)]
    assert at[4] == pytest.approx(np.mean(drawn))


def test_costs_have_true_classes_in_rows_and_decided_ones_in_columns():
    labels, decided = np.array([0, 0, 1, 2]), np.array([0, 1, 2, 1])
    even = np.full((4, 3), 1 / 3)
    costs = [[0, 1, 2], [10, 0, 20], [100, 200, 0]]
    split = Split.checked(even, labels, np.ones(3), decided)
    assert value(f"expected_cost(costs={costs})", split) == (0 + 1 + 20 + 200) / 4
    turned = np.transpose(costs).tolist()
    assert value(f"expected_cost(costs={turned})", split) == (0 + 10 + 200 + 20) / 4
    other = metric_of(f"expected_cost(costs={costs})").unsuitable(("a", "b"), np.ones(2))
    assert other == "costs is 3 × 3, for 2 classes (a, b)"
    for wrong in ("[[0,1]]", "[]", "[[0,-1],[1,0]]", "[[0,NaN],[1,0]]"):
        with pytest.raises(ConfigError, match="expected_cost"):
            metric_of(f"expected_cost(costs={wrong})")


def test_decisions_change_what_is_decided_and_nothing_else():
    split = two(n=300)
    turned = 1 - split.decisions
    names = [*standard(2), "f_beta(beta=3)", "partial_auc", "precision_at_k(k=9)"]
    arguments = (split.probabilities, split.labels, RARE_LAST)
    by_most_probable = evaluate(*arguments, metrics=names)
    by_rule = evaluate(*arguments, decisions=turned, metrics=names)
    changed = {
        name for name in by_rule.summary if by_rule.summary[name] != by_most_probable.summary[name]
    }
    decided = {n for n in names if metric_of(n).source == "decisions"}
    undefined = {"recall_many", "recall_medium"} - {
        n for n in decided if by_rule.summary[n] is not None
    }
    assert changed == decided - undefined
    assert by_rule.summary["accuracy"] == pytest.approx(1 - by_most_probable.summary["accuracy"])
    assert np.array_equal(by_rule.confusion, by_most_probable.confusion[:, ::-1])
    column = by_rule.per_class["average_precision"]
    assert np.array_equal(column, by_most_probable.per_class["average_precision"])
    same = evaluate(*arguments, decisions=split.decisions, metrics=names)
    assert same.summary == by_most_probable.summary


@pytest.mark.parametrize("decisions", [[0, 2], [0], [-1, 0], [0.5, 0.5]])
def test_decisions_that_are_none_are_refused(decisions):
    with pytest.raises(ValueError, match="decisions"):
        evaluate(np.full((2, 2), 0.5), np.array([0, 1]), np.ones(2), decisions=np.array(decisions))


def test_the_rare_class_is_the_one_with_fewest_training_samples_or_the_one_named():
    split = two(counts=np.array([10, 90]))
    assert value("rare_recall", split) == split.recall[0]
    assert value('rare_recall(positive="ill")', split) == split.recall[1]
    even = two(counts=np.array([50, 50]))
    assert value("rare_recall", even) is None
    found = metric_of("rare_recall")
    assert "name one of well, ill by positive:" in found.unsuitable(("well", "ill"), np.ones(2))
    assert found.unsuitable(("well", "ill"), RARE_LAST) is None
    named = metric_of('rare_recall(positive="sick")')
    assert named.unsuitable(("well", "ill"), RARE_LAST) == "no class 'sick' (classes: well, ill)"
    assert metric_of("rare_f1(positive=7)").unsuitable(("3", "7"), np.ones(2)) is None
    one = Split.checked(np.full((3, 2), 0.5), np.zeros(3, int), RARE_LAST)
    assert value("rare_average_precision", one) is None


@pytest.mark.parametrize(
    "label",
    [
        "accuracy",
        "f_beta",
        "f_beta(beta=3)",
        'f_beta(beta=0.5,positive="a (b), \\"c\\"=d")',
        "expected_cost(costs=[[0,1],[5.5,0]])",
        "sensitivity_at_specificity(specificity=0.9)",
    ],
)
def test_a_label_is_read_back(label):
    found = metric_of(label)
    assert found.label() == label
    assert metric_of(found.label()) == found
    assert key_of(label) == found.key()
    assert set(found.key()) <= set("abcdefghijklmnopqrstuvwxyz0123456789_.-")


def test_a_label_says_what_differs_from_the_defaults():
    assert metric_of("f_beta(beta=2.0)").label() == "f_beta"
    assert metric_of("f_beta(beta=3.0)").label() == "f_beta(beta=3)"
    assert metric_of("f_beta(beta=3)").in_words() == "macro-F3"
    assert metric_of("f_beta(beta=3)").key() == "f_beta_beta_3"
    for wrong in ("f_beta(beta=0)", "f_beta(gamma=1)", "f_beta(beta=", "accuracy(x=1)"):
        with pytest.raises(ConfigError, match="metric '"):
            metric_of(wrong)
    with pytest.raises(ConfigError, match="did you mean 'f_beta'"):
        metric_of("fbeta")


def test_every_metric_says_what_it_is():
    for name in metrics:
        cls = metrics.get(name)
        assert cls.summary().endswith(".")
        assert cls.source in ("decisions", "probabilities")
        assert key_of(name) == name
        if not any(info.is_required() for info in cls.model_fields.values()):
            found = value(name, two())
            assert found is None or math.isfinite(found)


def test_the_room_needs_no_heavy_library():
    code = (
        "import sys; from harness.metrics import metric_of, standard; "
        "[metric_of(n) for n in standard(2)]; "
        "print([m for m in ('torch', 'sklearn', 'scipy', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
