"""What is said of the threshold part of a gain, in every case, from made-up values."""

import numpy as np
import pandas as pd
import pytest

from harness.analysis.deciding import Decided
from harness.analysis.report.threshold_answer import sentences
from harness.analysis.threshold import Threshold, adjusting, taken_apart
from harness.decisions.base import rule_from
from harness.experiment.decisions import Decisions

PANEL = ("d", "", "m")
WIGGLE = np.array([-0.004, 0.001, 0.003])
"""Of mean 0."""


def table(values, metric):
    """Return one row per run, rule and metric; a number stands for three seeds about it."""
    rows = []
    for (recipe, rule), of_seeds in values.items():
        seeds = of_seeds if isinstance(of_seeds, list) else list(of_seeds + np.zeros(3))
        rows += [
            {"dataset": "d", "reference": "", "model": "m", "recipe": recipe, "seed": seed,
             "fold": -1, "folds": 0, "key": f"{recipe}{seed}", "rule": rule, "metric": metric,
             "value": np.nan if value is None else value}
            for seed, value in enumerate(seeds)
        ]  # fmt: skip
    return pd.DataFrame(rows)


def said(
    nothing, nothing_adjusted, mix, mix_adjusted, *, metric="balanced_accuracy", rule="prior",
    recipe="mix", notes=None, primary="argmax",
):  # fmt: skip
    values = {
        ("nothing", "argmax"): nothing,
        ("nothing", rule): nothing_adjusted,
        ("mix", "argmax"): mix,
        ("mix", rule): mix_adjusted,
    }
    decided = Decided(table(values, metric), notes=notes or {})
    parts = taken_apart(decided, metric, primary)
    found = Threshold(metric, primary, rule, table=parts, decided=decided)
    return " ".join(sentences(found, PANEL, recipe))


def about(value, spread=1.0):
    return (value + spread * WIGGLE).tolist()


def test_a_gain_of_which_some_is_left():
    text = said(0.893, 0.934, about(0.955), about(0.956, 4.0))
    assert text == (
        "Of the 6.2 points, 4.0 come from moving the decision threshold, which doing nothing can "
        "have for free; 2.2 [−1.4, +5.8] are left, which may be chance (rule prior)."
    )
    text = said(0.893, 0.934, about(0.955), about(0.956))
    assert text.endswith(
        "2.2 [+1.3, +3.1] are left, which by itself is more than chance (rule prior)."
    )


def test_what_is_left_is_within_the_margin():
    text = said(0.80, 0.85, about(0.86), about(0.8520, 0.1))
    assert "0.2 [+0.1, +0.3] are left, no difference within ±0.5 points (rule prior)" in text


def test_a_gain_that_is_all_threshold():
    text = said(0.80, 0.85, about(0.83), about(0.84))
    assert text == (
        "All of the 3.0 points come from moving the decision threshold, which doing nothing can "
        "have for free: with both adjusted −1.0 [−1.9, −0.1] are left, which by itself is more "
        "than chance (rule prior)."
    )
    text = said(0.80, 0.85, about(0.83), about(0.849, 4.0))
    assert text.startswith("On average all of the 3.0 points come from moving the decision")
    assert text.endswith("−0.1 [−3.7, +3.5] are left, which may be chance (rule prior).")


def test_a_gain_of_which_the_threshold_part_is_negative():
    text = said(0.80, 0.82, about(0.83), about(0.87))
    assert text.startswith("None of the 3.0 points come from moving the decision threshold: ")
    assert "with both adjusted +5.0 [+4.1, +5.9] are left, which by itself is more than" in text
    text = said(0.80, 0.82, about(0.83), about(0.852, 4.0))
    assert text.startswith("On average none of the 3.0 points come from moving")


def test_a_loss_that_is_mostly_one_of_the_threshold():
    text = said(0.894, 0.934, about(0.827), about(0.920, 4.0))
    assert text == (
        "Of the 6.7 points that it loses, 5.3 come from a decision threshold in the wrong place, "
        "which can be moved for free; with both adjusted −1.4 [−5.0, +2.2] are left, which may be "
        "chance (rule prior)."
    )


def test_a_loss_that_is_all_threshold_or_none_of_it():
    text = said(0.89, 0.93, about(0.86), about(0.931))
    assert text.startswith("On average all of the 3.0 points that it loses come from a decision")
    assert "with both adjusted +0.1 " in text
    text = said(0.89, 0.93, about(0.885), about(0.885))
    assert text.startswith("The loss is none of the decision threshold: with both adjusted −4.5 ")


def test_no_gain_at_all():
    text = said(0.89, 0.93, about(0.89), about(0.92))
    assert text.startswith("With the decision thresholds of both moved, mix has −1.0 [")


def test_a_rule_that_does_nothing_no_good_is_not_called_a_gain_for_free():
    text = said(0.761, 0.724, about(0.80), about(0.75))
    assert text == (
        "A free adjustment (rule prior) takes doing nothing from 76.1 to 72.4 %, so it explains "
        "none of the difference; with both adjusted +2.6 [+1.7, +3.5] are left, which by itself is "
        "more than chance."
    )
    text = said(about(0.761, 9.0), 0.724, about(0.80), about(0.75))
    assert "from 76.1 to 72.4 %, so on average it explains none of the difference" in text
    assert "leaves doing nothing as it is" in said(0.8, 0.8, about(0.85), about(0.85))


@pytest.mark.parametrize("of_seeds", [[0.9], [0.9, 0.91]])
def test_too_few_seeds_have_no_interval(of_seeds):
    text = said(of_seeds, [x + 0.02 for x in of_seeds], [x + 0.05 for x in of_seeds],
                [x + 0.05 for x in of_seeds])  # fmt: skip
    pairs = "1 pair" if len(of_seeds) == 1 else "2 pairs"
    assert f"; 3.0 are left, from {pairs}: exploratory, no interval (rule prior)" in text


def test_seeds_that_are_all_alike_have_no_interval_either():
    assert "from 3 pairs: all alike: no interval" in said(0.8, 0.82, 0.85, 0.86)


def test_what_could_not_be_adjusted_is_said_with_the_reason():
    notes = {("d", "mix", "prior"): ["its outputs are not adjusted: focal"]}
    text = said(0.8, 0.9, about(0.85), [None] * 3, notes=notes)
    assert text == (
        "How much of it is only a moved decision threshold is not known: rule prior could not be "
        "fitted for mix (its outputs are not adjusted: focal)."
    )
    notes = {("d", "nothing", "thresholds"): ["it is fitted on val, and there is none"]}
    text = said(0.8, [None] * 3, about(0.85), [None] * 3, notes=notes, rule="thresholds")
    assert "rule thresholds could not be fitted for mix (it was not computed)" in text
    text = said(0.8, [None] * 3, about(0.85), about(0.9), notes=notes, rule="thresholds")
    assert "could not be fitted for doing nothing (it is fitted on val, and there is none)" in text


def test_a_rule_with_a_value_at_some_seeds_speaks_of_those_alone():
    text = said(0.8, 0.82, about(0.85), [0.86, None, 0.87])
    assert "from 2 pairs: exploratory" in text


def test_doing_nothing_can_be_the_choice():
    text = said(about(0.894), 0.934, 0.9, 0.9, recipe="nothing")
    assert text == (
        "Moving its decision threshold (rule prior) gains 4.0 points [+3.1, +4.9] for free."
    )
    text = said(about(0.76, 9), 0.72, 0.9, 0.9, recipe="nothing")
    assert "would lose 4.0 points [−12.1, +4.1], which may be chance." in text
    text = said(about(0.76), about(0.76), 0.9, 0.9, recipe="nothing")
    assert text.endswith("changes nothing on average.")


def test_of_nothing_chosen_nothing_is_said():
    assert said(0.8, 0.9, 0.85, 0.9, recipe=None) == ""
    decided = Decided(table({("mix", "argmax"): 0.8, ("mix", "prior"): 0.9}, "accuracy"))
    parts = taken_apart(decided, "accuracy", "argmax")
    found = Threshold("accuracy", "argmax", "prior", table=parts, decided=decided)
    assert list(sentences(found, PANEL, "mix")) == []  # doing nothing has no run


def test_a_file_whose_rules_move_no_threshold():
    found = Threshold("balanced_accuracy", "argmax", "")
    (text,) = sentences(found, PANEL, "mix")
    assert "was not asked" in text
    assert "decisions: {rules: [argmax, prior]}" in text


def test_of_a_metric_that_is_better_when_less_an_improvement_is_said():
    text = said(0.300, 0.200, about(0.180), about(0.190), metric="nll")
    assert text == (
        "Of the 0.120 in negative log-likelihood, 0.110 come from moving the decision "
        "threshold, which doing nothing can have for free; 0.010 [+0.001, +0.019] are left, which "
        "by itself is more than chance (rule prior)."
    )


def test_what_is_left_by_the_primary_rule_is_a_claim_among_all_recipes():
    values = {("nothing", rule): 0.80 for rule in ("argmax", "prior")}
    for i in range(20):
        for rule in ("argmax", "prior"):
            values[f"mix{i}", rule] = about(0.82 if i == 0 else 0.80, 2.0)
    decided = Decided(table(values, "accuracy"))
    for primary, ending in (
        ("argmax", "which by itself is more than chance."),
        ("prior", "which may be chance among the 20 recipes compared (Holm)."),
    ):
        parts = taken_apart(decided, "accuracy", primary)
        found = Threshold("accuracy", primary, "prior", table=parts, decided=decided)
        (text,) = sentences(found, PANEL, "mix0")
        assert text.endswith(ending), text


def test_the_margin_of_a_share_is_none_of_a_cost():
    cost = "expected_cost(costs=[[0,1],[2,0]])"
    values = {("nothing", "argmax"): 0.010, ("mix", "argmax"): about(0.008, 0.1)}
    both = pd.concat([table(values, name) for name in ("accuracy", cost)])
    parts = taken_apart(Decided(both), "accuracy", "argmax").set_index(["recipe", "metric"])
    assert parts.loc[("mix", "accuracy"), "verdict"] == "no difference"
    assert parts.loc[("mix", cost), "verdict"] == "better"


@pytest.mark.parametrize(
    ("rules", "primary", "wanted"),
    [
        (["argmax", "prior"], "argmax", "prior"),
        (["argmax", "thresholds", "prior"], "argmax", "prior"),
        (["argmax", "temperature", "prior_tuned"], "argmax", "prior_tuned"),
        (["argmax", "prior", "thresholds"], "thresholds", "thresholds"),
        (["argmax", "prior", "temperature"], "temperature", "prior"),
        (["argmax", "temperature"], "argmax", ""),
    ],
)
def test_both_are_adjusted_by_the_primary_rule_or_by_prior(rules, primary, wanted):
    assert adjusting(Decisions(tuple(map(rule_from, rules)), primary)) == wanted
