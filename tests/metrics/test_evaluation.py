"""Metrics against scikit-learn and imbalanced-learn, on ordinary and on degenerate inputs."""

import ast
import math
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from imblearn.metrics import geometric_mean_score
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    log_loss,
    matthews_corrcoef,
    precision_recall_fscore_support,
    roc_auc_score,
)

import harness
from harness.metrics import (
    COUNTS,
    STANDARD,
    Split,
    during_training,
    evaluate,
    groups,
    metric_of,
    scores,
    standard,
)

QUICK = ("accuracy", "balanced_accuracy", "macro_f1", "worst_class_recall", "nll")


def sample(n, classes, seed=0, present=None):
    rng = np.random.default_rng(seed)
    labels = rng.choice(classes if present is None else present, n)
    logits = rng.normal(size=(n, classes)) + 1.5 * np.eye(classes)[labels]
    logits[:, 0] += 0.5  # a favourite, so that accuracy and mean recall differ
    p = np.exp(logits)
    return (p / p.sum(axis=1, keepdims=True)).astype(np.float32), labels


def quick(probabilities, labels):
    split = Split.checked(probabilities, labels, np.ones(probabilities.shape[1]))
    return scores(split, during_training("balanced_accuracy", chooses=False))


def one_hot(predicted, classes):
    return np.eye(classes, dtype=np.float32)[predicted]


@st.composite
def splits(draw):
    """Few distinct scores (ties), classes without a sample, often one favourite prediction."""
    classes = draw(st.integers(2, 6))
    n = draw(st.integers(1, 30))
    levels = draw(st.sampled_from([1, 2, 4, 1000]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    weight = rng.integers(1, levels + 1, (n, classes)).astype(np.float64)
    if draw(st.booleans()):
        weight[:, rng.integers(classes)] += levels
    present = rng.choice(classes, draw(st.integers(1, classes)), replace=False)
    probabilities = weight / weight.sum(axis=1, keepdims=True)
    return probabilities.astype(np.float32), rng.choice(present, n)


def check_against_libraries(probabilities, labels):
    classes = probabilities.shape[1]
    result = evaluate(probabilities, labels, np.full(classes, 50))
    predicted, every = probabilities.argmax(axis=1), np.arange(classes)
    present = np.unique(labels)
    got, table = result.summary, result.per_class
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs, on classes that are absent
        precision, recall, f1, support = precision_recall_fscore_support(
            labels, predicted, labels=every, zero_division=0
        )
        want = {
            "accuracy": accuracy_score(labels, predicted),
            "balanced_accuracy": balanced_accuracy_score(labels, predicted),
            "macro_f1": f1_score(
                labels, predicted, labels=present, average="macro", zero_division=0
            ),
            "worst_class_recall": recall[present].min(),
            "mcc": matthews_corrcoef(labels, predicted),
            "nll": log_loss(labels, probabilities, labels=every),
        }
        if set(predicted) <= set(present):  # theirs is 0 where a class is only predicted
            want["g_mean"] = geometric_mean_score(labels, predicted)
    for name, value in want.items():
        assert got[name] == pytest.approx(value, rel=1e-5, abs=1e-9), name
    assert_allclose(table["precision"], precision)
    assert_array_equal(table["support"], support)
    assert_allclose(table["recall"][present], recall[present])
    assert_allclose(table["f1"][present], f1[present])
    assert_array_equal(result.confusion, confusion_matrix(labels, predicted, labels=every))
    assert_array_equal(table["predicted"], np.bincount(predicted, minlength=classes))
    for k in every:
        own = labels == k
        if not own.any():
            assert all(math.isnan(table[c][k]) for c in ("recall", "f1", "auc"))
            assert math.isnan(table["average_precision"][k])
            continue
        want_ap = average_precision_score(own, probabilities[:, k])
        assert table["average_precision"][k] == pytest.approx(want_ap)
        if own.all():
            assert math.isnan(table["auc"][k])
        else:
            assert table["auc"][k] == pytest.approx(roc_auc_score(own, probabilities[:, k]))
    return result


@given(splits())
@settings(max_examples=150, deadline=None)
def test_agrees_with_the_libraries_on_ties_absent_classes_and_one_prediction(split):
    check_against_libraries(*split)


def test_agrees_with_the_libraries_on_an_ordinary_split():
    probabilities, labels = sample(500, 7)
    result = check_against_libraries(probabilities, labels)
    want = roc_auc_score(labels, probabilities.astype(np.float64), multi_class="ovr")
    assert result.summary["macro_auc"] == pytest.approx(want)
    assert 0 < result.summary["g_mean"] < result.summary["balanced_accuracy"] < 1


def test_two_classes_have_one_auc():
    probabilities, labels = sample(80, 2)
    result = check_against_libraries(probabilities, labels)
    want = roc_auc_score(labels, probabilities[:, 1])
    assert result.summary["macro_auc"] == pytest.approx(want)


def naive_ece(probabilities, labels, bins=15):
    """Bins as Guo et al. 2017 write them: ((k − 1)/15, k/15]."""
    total = 0.0
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == labels
    for k in range(bins):
        inside = (confidence > k / bins) & (confidence <= (k + 1) / bins)
        if inside.any():
            gap = right[inside].mean() - confidence[inside].mean()
            total += inside.mean() * abs(gap)
    return total


def test_ece_by_its_definition():
    probabilities, labels = sample(400, 5, seed=3)
    got = evaluate(probabilities, labels, np.ones(5)).summary["ece"]
    assert got == pytest.approx(naive_ece(probabilities, labels))
    sure = one_hot(np.array([0, 0, 0, 1]), 2)
    assert evaluate(sure, np.array([0, 0, 1, 1]), np.ones(2)).summary["ece"] == 0.25


def test_underflown_probability_costs_a_finite_nll():
    nll = quick(one_hot(np.array([0, 1]), 2), np.array([0, 0]))["nll"]
    assert nll == pytest.approx(-np.log(np.finfo(np.float32).eps) / 2, rel=1e-6)


@given(splits())
@settings(max_examples=30, deadline=None)
def test_quick_is_a_part_of_evaluate_and_order_does_not_matter(split):
    probabilities, labels = split
    full = evaluate(probabilities, labels, np.zeros(probabilities.shape[1]))
    fast = quick(probabilities, labels)
    assert tuple(fast) == QUICK
    assert fast == {name: full.summary[name] for name in QUICK}
    turned = evaluate(probabilities[::-1], labels[::-1], np.zeros(probabilities.shape[1]))
    assert_array_equal(turned.confusion, full.confusion)
    assert_allclose(turned.per_class["auc"], full.per_class["auc"])
    assert_allclose(turned.per_class["average_precision"], full.per_class["average_precision"])


def test_summary_has_the_names_that_a_plan_knows():
    result = evaluate(*sample(60, 4), np.array([500, 60, 20, 3]))
    assert tuple(result.summary) == (*STANDARD, *COUNTS)
    assert tuple(evaluate(*sample(60, 2), np.array([50, 3])).summary) == (*standard(2), *COUNTS)
    lower = [name for name in standard(2) if not metric_of(name).higher_is_better]
    assert lower == ["ece", "nll"]
    assert result.summary["n"] == 60
    assert {len(column) for column in result.per_class.values()} == {4}
    assert_array_equal(result.per_class["train_count"], [500, 60, 20, 3])


def test_t11_mean_recall_is_the_accuracy_on_a_balanced_split_only():
    labels = np.repeat(np.arange(4), 25)
    probabilities = sample(100, 4)[0]
    balanced = quick(probabilities, labels)
    assert balanced["accuracy"] == pytest.approx(balanced["balanced_accuracy"])
    majority = quick(one_hot(np.zeros(100, int), 4), np.array([0] * 97 + [1, 2, 3]))
    assert majority["accuracy"] == 0.97
    assert majority["balanced_accuracy"] == 0.25
    assert majority["worst_class_recall"] == 0.0


def test_t11_groups_by_train_count_and_an_empty_group_is_none():
    counts = np.array([5000, 101, 100, 20, 19, 0])
    members = {name: np.flatnonzero(mask).tolist() for name, mask in groups(counts).items()}
    assert members == {"many": [0, 1], "medium": [2, 3], "few": [4, 5]}
    labels = np.arange(6).repeat(2)
    predicted = np.array([0, 0, 1, 0, 2, 2, 3, 3, 0, 4, 0, 0])
    summary = evaluate(one_hot(predicted, 6), labels, counts).summary
    assert (summary["recall_many"], summary["recall_medium"]) == (0.75, 1.0)
    assert summary["recall_few"] == 0.25
    summary = evaluate(one_hot(predicted, 6), labels, np.full(6, 5000)).summary
    assert summary["recall_many"] == pytest.approx(summary["balanced_accuracy"])
    assert summary["recall_medium"] is None
    assert summary["recall_few"] is None


def test_t11_group_whose_classes_are_all_absent_is_none():
    labels = np.array([0, 0, 1])
    summary = evaluate(one_hot(labels, 3), labels, np.array([900, 50, 4])).summary
    assert summary["recall_few"] is None
    assert summary["recall_medium"] == 1.0


def test_t12_metrics_are_of_the_whole_split_and_no_mean_over_batches():
    probabilities, labels = sample(256, 6, seed=1)
    rows = np.argsort(labels)  # batches of few classes each, as an unshuffled split has them
    probabilities, labels = probabilities[rows], labels[rows]
    result = check_against_libraries(probabilities, labels).summary
    parts = [quick(probabilities[at : at + 32], labels[at : at + 32]) for at in range(0, 256, 32)]
    for name in ("macro_f1", "balanced_accuracy", "worst_class_recall"):
        assert abs(np.mean([part[name] for part in parts]) - result[name]) > 0.01
    assert result["macro_f1"] != pytest.approx(result["accuracy"])  # macro, not micro


def test_t20_only_names_that_numpy_has():
    source = Path(harness.__file__).parent
    for file in source.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == "np"
            ):
                assert hasattr(np, node.attr), f"{file.name}:{node.lineno}: np.{node.attr}"
                assert node.attr not in ("bool", "long"), f"{file.name}:{node.lineno}"


def test_t23_an_absent_class_moves_no_index_and_is_left_out_of_means():
    labels = np.array([0, 0, 2, 2, 4, 4])
    predicted = np.array([0, 0, 2, 1, 4, 0])
    result = evaluate(one_hot(predicted, 5), labels, np.array([200, 50, 50, 9, 9]))
    table = result.per_class
    assert_array_equal(table["support"], [2, 0, 2, 0, 2])
    assert_array_equal(table["predicted"], [3, 1, 1, 0, 1])
    assert_array_equal(table["recall"], [1.0, np.nan, 0.5, np.nan, 0.5])
    assert_allclose(table["precision"], [2 / 3, 0.0, 1.0, 0.0, 1.0])
    assert result.summary["absent_classes"] == 2
    assert result.summary["balanced_accuracy"] == pytest.approx(2 / 3)
    assert result.summary["macro_f1"] == pytest.approx(np.nanmean(table["f1"]))
    assert result.summary["g_mean"] == pytest.approx(0.25 ** (1 / 3))
    assert result.summary["recall_few"] == 0.5
    assert result.confusion.shape == (5, 5)
    assert result.confusion[2, 1] == 1


def test_one_class_alone_has_no_auc_and_no_correlation():
    summary = evaluate(one_hot(np.array([1, 1]), 2), np.array([1, 1]), np.ones(2)).summary
    assert summary["macro_auc"] is None
    assert summary["mcc"] == 0.0
    assert summary["accuracy"] == summary["g_mean"] == 1.0


@pytest.mark.parametrize(
    ("probabilities", "labels", "message"),
    [
        ([[np.nan, 1.0]], [0], "not finite"),
        ([[np.inf, 1.0]], [0], "not finite"),
        ([[-2.0, 3.0]], [0], r"outside \[0, 1\]"),
        ([[0.5, 0.5]], [2], r"labels lie in \[2, 2\], outside \[0, 2\)"),
        ([[0.5, 0.5]], [-1], "labels lie in"),
        ([[0.5, 0.5]], [0, 1], "do not fit"),
        (np.zeros((0, 2)), [], "nothing to evaluate"),
    ],
)
def test_refuses_what_cannot_be_scored(probabilities, labels, message):
    labels = np.asarray(labels, np.int64)
    with pytest.raises(ValueError, match=message):
        quick(np.asarray(probabilities, np.float32), labels)
    with pytest.raises(ValueError, match=message):
        evaluate(np.asarray(probabilities, np.float32), labels, np.ones(2))


def test_refuses_train_counts_of_another_length():
    with pytest.raises(ValueError, match="train_counts has shape"):
        evaluate(*sample(5, 3), np.ones(2))
