import io

import pandas as pd
import pytest
from rich.console import Console

from harness.cli.leaderboard import gain, number, show
from harness.metrics import PLAIN, POINTS

RECIPES = ("nothing", "augment+weighted_sampler+smote+mixup+cutmix", "mixup (tuned)")


def board(recipes=RECIPES):
    row = {"n": 3, "failed": 0, "test": 0.8123, "sd": 0.011, "many": 0.9, "medium": 0.7}
    row |= {"few": 0.5, "worst_class": 0.25, "seconds": 12.3}
    row |= {"gain": 0.041, "gain_low": 0.029, "gain_high": 0.053}
    return pd.DataFrame([{"recipe": name, **row} for name in recipes])


def printed(width, costs=None, recipes=RECIPES):
    out = Console(width=width, file=io.StringIO(), markup=False, emoji=False)
    key = ("digits-lt20", "", "tiny_cnn")
    show(out, key, board(recipes), "balanced_accuracy", costs or {})
    return out.file.getvalue()


@pytest.mark.parametrize("width", [60, 80, 100, 120, 160])
def test_every_recipe_can_be_read_at_any_width(width):
    text = printed(width)
    assert max(map(len, text.splitlines())) <= width
    first = text.splitlines()[1].index("balanced_accuracy" if width > 60 else "test %")
    recipes = [line[:first].strip() for line in text.splitlines()]
    assert "nothing" in recipes
    assert RECIPES[1] in "".join(recipes)
    assert text.count("+4.1 [+2.9, +5.3]") == 3


def test_a_wide_terminal_shows_all_and_a_narrow_one_says_what_it_leaves_out():
    assert "too narrow" not in printed(160)
    head = printed(160).splitlines()[1].split()
    assert head[-3:] == ["vs", "nothing", "s"]
    narrow = printed(80)
    assert "too narrow for: s, med, many" in narrow
    assert "worst" in narrow.splitlines()[1]


def test_what_is_left_of_a_gain_stands_beside_it_where_it_fits():
    table = board().assign(rest=0.012, rest_low=-0.02, rest_high=0.044)

    def at(width):
        out = Console(width=width, file=io.StringIO(), markup=False, emoji=False)
        show(out, ("d", "", "m"), table, "balanced_accuracy", {})
        return out.file.getvalue()

    assert at(180).splitlines()[1].split()[-2:] == ["rest", "s"]
    assert at(180).count("+1.2 [-2.0, +4.4]") == 3
    assert "too narrow for: s, rest" in at(100)
    assert "+1.2" not in at(100)
    assert "rest" not in printed(180)


def test_the_cost_of_a_search_stands_beside_the_recipe_that_it_found():
    costs = {("digits-lt20", "tiny_cnn", "mixup (tuned)"): 61.7, ("x", "y", "nothing"): 5.0}
    rows = [line.split() for line in printed(160, costs).splitlines()]
    assert [row[-1] for row in rows if row[:1] == ["mixup"]] == ["62"]
    assert rows[1][-2:] == ["search", "s"]


def test_what_is_not_known_is_no_number():
    assert number(None, POINTS) == number(float("nan"), POINTS) == "n/a"
    assert number(0.5, POINTS) == "50.0"
    assert number(-0.51234, PLAIN) == "-0.512"
    assert gain({"gain": float("nan")}, POINTS) == gain({}, POINTS) == ""
    assert gain({"gain": 0.01, "gain_low": None, "gain_high": None}, POINTS) == "+1.0"
