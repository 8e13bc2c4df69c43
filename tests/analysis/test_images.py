from pathlib import Path

import numpy as np
import pytest

from harness.analysis.images import (
    ImageScores,
    Predictions,
    image_scores,
    read_predictions,
)
from harness.analysis.tables import load_results
from harness.errors import StoreError
from harness.metrics import STANDARD, Split, evaluate, metric_of
from tests.sealed import reseal

COUNTS = np.array([300, 150, 50, 30, 10, 4])


def predictions(seed=0, absent=()):
    rng = np.random.default_rng(seed)
    labels = np.array([k for k in rng.integers(0, 6, 120) if k not in absent])
    logits = rng.normal(size=(len(labels), 6)) + 1.2 * np.eye(6)[labels]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return Predictions(probabilities.astype(np.float32), labels, np.arange(len(labels)), None)


SPLITTING = [name for name in STANDARD if metric_of(name).splits_into_images()]
SPLITTING += ["f_beta(beta=3)", 'f_beta(positive="c")']
SPLITTING += [f"expected_cost(costs={[[abs(i - 2 * j) for i in range(6)] for j in range(6)]})"]


def score(found, metric):
    split = Split(found.probabilities, found.labels, COUNTS, class_names=tuple("abcdef"))
    return np.asarray(metric_of(metric).image_scores(split))


def weights(labels, metric, counts):
    return metric_of(metric).image_weights(labels, counts, tuple("abcdef"))


def test_what_splits_into_images():
    assert SPLITTING[:7] == [
        "accuracy",
        "balanced_accuracy",
        "macro_f1",
        "nll",
        "recall_many",
        "recall_medium",
        "recall_few",
    ]


@pytest.mark.parametrize("metric", SPLITTING)
@pytest.mark.parametrize("absent", [(), (2, 5)])
def test_scores_add_up_to_the_metric(metric, absent):
    found = predictions(absent=absent)
    asked = {"metrics": [metric], "class_names": tuple("abcdef")}
    summary = evaluate(found.probabilities, found.labels, COUNTS, **asked).summary
    total = score(found, metric).astype(float) @ weights(found.labels, metric, COUNTS)
    if (value := summary[metric_of(metric).label()]) is None:
        assert metric == 'f_beta(positive="c")'
        assert 2 in absent
    else:
        assert total == pytest.approx(value, abs=1e-6)


def test_an_empty_group_weighs_nothing():
    found = predictions(absent=(4, 5))
    assert not weights(found.labels, "recall_few", COUNTS).any()


@pytest.mark.parametrize("metric", ["macro_f1", "f_beta(beta=2)", 'f_beta(positive="c")'])
def test_scores_of_an_f_score_are_its_derivative(metric):
    """Another prediction for an image moves it by its change in score, to first order."""
    found = predictions()
    labels, share = found.labels, weights(found.labels, metric, COUNTS)

    def value_of(probabilities):
        return metric_of(metric).value(
            Split(probabilities, labels, COUNTS, class_names=tuple("abcdef"))
        )

    base, before = value_of(found.probabilities), score(found, metric)
    errors, moved = [], []
    for i in range(0, 60, 5):
        changed = found.probabilities.copy()
        changed[i] = np.roll(changed[i], 1)
        real = value_of(changed) - base
        called = changed[i].argmax()
        like = (labels == labels[i]) & (found.probabilities.argmax(axis=1) == called)
        if like.any():  # an image of this class whose score is what that of image i becomes
            predicted = (before[np.flatnonzero(like)[0]] - before[i]) * share[i]
            errors.append(abs(real - predicted))
            moved.append(abs(real))
    assert len(errors) >= 5
    assert max(errors) < 0.15 * max(moved)


def test_predictions_are_read_with_their_groups(make):
    made = make(groups=5, keys={"factors": {}, "seeds": 1})
    found = read_predictions(next(made.store.path.glob("*-s0-*")))
    assert found.groups.tolist() == (np.arange(100) // 5).tolist()
    assert found.probabilities.shape == (100, 4)


def test_groups_widen_the_interval(make):
    def width(groups):
        made = make(groups=groups, keys={"name": f"g{groups}"})
        ((_, read),) = image_scores(load_results(made.store.path), "accuracy").scores.items()
        common = np.random.default_rng(0).normal(size=20).repeat(5).astype(np.float32)
        alike = ImageScores(read.sample, dict.fromkeys("abcd", common))
        found = alike.interval([{key: 1.0} for key in "abcd"])
        return float(found.high - found.low)

    assert width(5) > 1.8 * width(1)


def test_nothing_is_read_for_a_metric_that_does_not_split_nor_with_folds(make):
    runs = load_results(make().store.path)
    assert image_scores(runs, "worst_class_recall").scores == {}
    assert image_scores(runs.assign(fold=0, folds=3), "accuracy").scores == {}


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 torn", b"x" * 300])
def test_a_run_whose_predictions_are_gone_is_named_and_the_rest_is_used(make, content):
    made = make()
    runs = load_results(made.store.path)
    file = made.store.path / runs["path"].iloc[0] / "predictions.npz"
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    read = image_scores(runs, "accuracy")
    assert len(read.unread) == 1
    assert f"{file.parent.name}/{file.name} " in read.unread[0]
    assert str(file.parent.parent) not in read.unread[0]
    ((_, scores),) = read.scores.items()
    assert scores.keys() == set(runs["key"].iloc[1:])


def test_predictions_without_the_arrays_are_named(make):
    path = Path(load_results(make().store.path)["path"].iloc[0])
    np.savez(path / "predictions.npz", something=np.zeros(3))
    reseal(path)
    with pytest.raises(StoreError, match=r"predictions\.npz has no test labels"):
        read_predictions(path)


def test_another_test_set_is_not_mixed_in(make):
    made = make()
    runs = load_results(made.store.path)
    with np.load(f"{runs['path'].iloc[1]}/predictions.npz") as stored:
        arrays = {name: stored[name] for name in stored.files}
    arrays["test_rows"] = arrays["test_rows"] + 1
    np.savez(f"{runs['path'].iloc[1]}/predictions.npz", **arrays)
    reseal(Path(runs["path"].iloc[1]))
    read = image_scores(runs, "accuracy")
    assert "another test set" in read.unread[0]
