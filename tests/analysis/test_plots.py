"""Every plot is well-formed, escapes names, and says in words what it shows."""

import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest

from harness.analysis import plots
from harness.analysis.classes import class_differences, class_table
from harness.analysis.curves import learning_curves, reliability
from harness.analysis.effects import interactions, main_effects
from harness.analysis.tables import load_results
from tests.analysis.conftest import METRIC, crossed

EVIL = "<script>alert(1)</script>"
LEVELS = {"a": ["none", EVIL], "b": ["none", "y", "y(p=0.5)"]}


def drawn(picture):
    """Return everything that the picture says, after checking that it is sound."""
    root = ET.fromstring(picture.svg)
    assert "<script" not in picture.svg
    assert "NaN" not in picture.svg
    assert "nan" not in picture.svg.replace("Finance", "")
    assert picture.title
    assert picture.alt
    return " ".join(root.itertext())


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    worth = {EVIL: 0.1, "y": -0.05}
    return crossed(
        LEVELS, lambda at, seed: 0.5 + sum(worth.get(v, 0) for v in at.values())
        + rng.normal(0, 0.01)
    )  # fmt: skip


def test_main_effects_say_each_level_with_its_interval(table):
    effects = main_effects(table, METRIC)
    picture = plots.main_effects(effects)
    said = drawn(picture)
    assert EVIL in said
    assert "b: y(p=0.5)" in said
    assert "better" in picture.alt
    assert "worse" in picture.alt
    assert picture.svg.count("<circle") == 3


def test_effects_that_could_not_be_estimated_are_not_drawn(table):
    effects = main_effects(table, METRIC).assign(estimate=np.nan)
    assert plots.main_effects(effects).alt == "nothing could be estimated"


def test_interactions_largest_first(table):
    effects = interactions(table, METRIC)
    picture = plots.interactions(effects, most=1)
    largest = effects.loc[effects["estimate"].abs().idxmax()]
    assert f"{largest['level_a']} × {largest['level_b']}" in drawn(picture)
    assert picture.svg.count("<circle") == 1


def test_two_estimands_are_two_lines(table):
    effects = main_effects(table, METRIC).assign(new_low=-0.2, new_high=0.2)
    thin = 'stroke-width="1.6"'
    assert plots.main_effects(effects).svg.count(thin) == 3 * len(effects)
    assert thin not in plots.main_effects(effects.assign(new_low=np.nan)).svg


def test_cell_means_and_cost():
    means = pd.DataFrame({"a": ["none", "x"] * 2, "b": ["none"] * 2 + [EVIL] * 2,
                          "mean": [0.5, 0.6, 0.5, 0.9]})  # fmt: skip
    assert f"{EVIL}: 50.0 at none, 90.0 at x" in drawn(plots.cell_means(means, METRIC))
    costs = pd.DataFrame(
        {"recipe": ["nothing", EVIL, "slow", "failed"], "gain": [0.0, 0.1, 0.05, np.nan],
         "relative": [1.0, 1.2, 3.0, np.nan], "frontier": [True, True, False, False]}
    )  # fmt: skip
    picture = plots.cost(costs, METRIC)
    assert EVIL in drawn(picture)
    assert "slow" not in picture.alt
    assert picture.svg.count("<circle") == 3


@pytest.mark.parametrize("count", [3, 12, 40])
def test_classes_few_and_many(make, count):
    names = [EVIL, "漢字 😀", "x" * 300, *(f"c{k}" for k in range(count - 3))]
    made = make(names=names, per_class=[0, *[6] * (count - 1)])
    rows = class_differences(class_table(load_results(made.store.path)).table)
    picture = plots.class_recalls(rows[rows["recipe"] == "mixup"], "mixup")
    said = drawn(picture)
    if count <= 30:
        assert "no test sample" in said
        assert picture.svg.count("<circle") == 2 + 2 * (count - 1)
    else:
        assert picture.alt.startswith("mixup: recall rises for ")


@pytest.mark.parametrize("count", [2, 20, 60])
def test_confusion_matrices_of_any_size(count):
    rng = np.random.default_rng(0)
    matrix = rng.integers(0, 9, (count, count)) + 20 * np.eye(count, dtype=int)
    matrix[0] = 0  # a class without a test image
    names = [EVIL, *(f"class {k}" for k in range(1, count))]
    picture = plots.confusion(matrix, names, "Confusion")
    assert drawn(picture)
    assert len(picture.svg) < 200_000
    assert ("<image" in picture.svg) == (count > 20)


def test_eight_short_names_below_a_matrix_are_whole():
    names = ["akiec", "bcc", "bkl", "df", "melanoma", "nevus", "vascular", "scc"]
    picture = plots.confusion(np.eye(8, dtype=int), names, "Confusion")
    for name in names:
        assert picture.svg.count(f">{name}</text>") == 2
    assert "…" not in picture.svg
    few = plots.confusion(np.eye(3, dtype=int), names[:3], "Confusion")
    assert "rotate" not in few.svg


def test_curves_and_calibration(make):
    runs = load_results(make().store.path)
    curves = learning_curves(runs, f"val/{METRIC}")
    picture = plots.learning_curves(curves, "val", ["nothing", "gone", "mixup"])
    assert "mixup ends at 0.8" in picture.alt
    assert "gone" not in drawn(picture)
    two = learning_curves(runs[runs["seed"] < 2], f"val/{METRIC}")
    assert drawn(plots.learning_curves(two, "val", ["nothing"]))
    bins = {"nothing": reliability(list(runs["path"])), EVIL: reliability([])}
    assert "than right by" in drawn(plots.reliability(bins))


def test_a_strip_has_a_dot_per_seed_and_is_an_ornament():
    picture = plots.strip([0.1, 0.2, np.nan], 0.05, 0.25, (-0.1, 0.3))
    assert picture.svg.count("<circle") == 2
    assert 'aria-hidden="true"' in picture.svg
    assert plots.strip([0.1], np.nan, np.nan, (0, 1)).svg.count("<line") == 2
