from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from harness.analysis.curves import confusion, learning_curves, most_confused, reliability
from harness.analysis.images import read_predictions
from harness.analysis.tables import load_results
from tests.sealed import reseal


@pytest.fixture
def runs(make):
    return load_results(make().store.path)


def test_a_curve_is_the_mean_over_seeds_with_its_band(runs):
    nothing = runs[runs["recipe"] == "nothing"]
    for i, path in enumerate(nothing["path"]):
        text = f"step,train/loss,val/accuracy\n5,2,{0.1 * i}\n10,1,{0.2 * i}\n"
        (Path(path) / "history.csv").write_text(text)
        reseal(Path(path))
    curve = learning_curves(nothing, "val/accuracy")
    assert curve["step"].tolist() == [5, 10]
    assert curve["fraction"].tolist() == [0.5, 1.0]
    assert curve["mean"].tolist() == pytest.approx([0.15, 0.3])
    ends = stats.ttest_1samp([0, 0.2, 0.4, 0.6], 0).confidence_interval(0.95)
    assert (curve["low"].iloc[1], curve["high"].iloc[1]) == pytest.approx((0, ends.high))
    assert ends.low < 0, "which no share can be"
    assert curve["n"].tolist() == [4, 4]


def test_seeds_of_other_budgets_share_one_axis_and_every_mean_is_of_all(runs):
    """118 steps and 117: an evaluation at each's last step, on the same straight line."""
    nothing = runs[runs["recipe"] == "nothing"]
    lines = []
    for i, path in enumerate(nothing["path"]):
        total = 118 if i == 0 else 117
        steps = [*range(20, total, 20), total]
        rows = [f"{step},1,{0.1 * i + 0.5 * step / total}" for step in steps]
        (Path(path) / "history.csv").write_text("\n".join(["step,train/loss,val/accuracy", *rows]))
        reseal(Path(path))
        lines.append(steps)
    curve = learning_curves(nothing, "val/accuracy")
    assert curve["n"].unique().tolist() == [4]
    assert curve["fraction"].iloc[-1] == 1.0
    assert len(curve) == 6
    assert curve["mean"].to_numpy() == pytest.approx(0.15 + 0.5 * curve["fraction"].to_numpy())
    assert curve["fraction"].is_monotonic_increasing
    assert curve["step"].iloc[-1] in (117, 118)


def test_a_band_of_a_share_stays_within_a_share(runs):
    nothing = runs[runs["recipe"] == "nothing"]
    for i, path in enumerate(nothing["path"]):
        text = f"step,train/loss,val/accuracy\n5,{5 * i},{float(i > 0)}\n10,{5 * i},0.9\n"
        (Path(path) / "history.csv").write_text(text)
        reseal(Path(path))
    assert learning_curves(nothing, "val/accuracy")["high"].max() <= 1.0
    assert learning_curves(nothing, "train/loss")["high"].max() > 15


def test_runs_without_a_history_are_left_out(runs):
    nothing = runs[runs["recipe"] == "nothing"]
    (Path(nothing["path"].iloc[0]) / "history.csv").unlink()
    (Path(nothing["path"].iloc[1]) / "history.csv").write_text("step,val/balanced_accuracy\nx,y\n")
    reseal(Path(nothing["path"].iloc[1]))
    assert learning_curves(nothing, "val/balanced_accuracy")["n"].unique().tolist() == [2]
    assert learning_curves(nothing, "val/no_such_metric").empty


def test_reliability_bins_every_prediction_once(runs):
    paths = runs["path"].head(2).tolist()
    table = reliability(paths)
    assert table["n"].sum() == 200
    assert ((table["low"] < table["confidence"]) & (table["confidence"] <= table["high"])).all()
    right = np.mean([p.probabilities.argmax(1) == p.labels for p in map(read_predictions, paths)])
    assert (table["accuracy"] * table["n"]).sum() / 200 == pytest.approx(right)
    sure = np.mean([p.probabilities.max(1) for p in map(read_predictions, paths)])
    assert (table["confidence"] * table["n"]).sum() / 200 == pytest.approx(sure)
    assert reliability([str(Path(paths[0]) / "gone")]).empty


def test_confusion_is_summed_over_runs(runs):
    paths = runs["path"].head(2).tolist()
    files = [np.loadtxt(f"{path}/confusion.csv", delimiter=",", skiprows=1, usecols=(1, 2, 3, 4))
             for path in paths]  # fmt: skip
    assert (confusion([*paths, "gone"]) == sum(files)).all()
    assert confusion(["gone"]) is None


def test_the_most_confused_pairs_by_share_of_the_true_class():
    matrix = np.array([[8, 2, 0], [1, 98, 1], [3, 0, 1]])
    pairs = most_confused(matrix, ["a", "b", "c"], 2)
    assert pairs[["true", "as"]].to_numpy().tolist() == [["c", "a"], ["a", "b"]]
    assert pairs["share"].tolist() == pytest.approx([0.75, 0.2])
    assert pairs["n"].tolist() == [3, 2]
    assert most_confused(np.diag([1, 2]), ["a", "b"], 5).empty
