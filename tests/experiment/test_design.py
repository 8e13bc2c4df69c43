import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import ConfigError
from harness.experiment.design import (
    NONE,
    NOTHING,
    Level,
    Recipe,
    contradiction,
    flagged,
    problems_of,
    recipes_of,
)
from harness.registry import strategies


def make(name, **parameters):
    return strategies.get(name).model_validate(parameters)


def level(name, **parameters):
    built = make(name, **parameters)
    return Level(built.label(), built)


NO = Level(NONE)
FACTORS = {
    "sampler": (NO, level("weighted_sampler"), level("weighted_sampler", start=0.8)),
    "smote": (NO, level("smote")),
    "mixup": (NO, level("mixup", alpha=0.2)),
}


def names(recipes):
    return [recipe.name for recipe in recipes]


def test_factorial_is_every_combination_in_the_order_of_the_file():
    assert names(recipes_of(FACTORS, "factorial")) == [
        "nothing",
        "mixup(alpha=0.2)",
        "smote",
        "smote+mixup(alpha=0.2)",
        "weighted_sampler",
        "weighted_sampler+mixup(alpha=0.2)",
        "weighted_sampler+smote",
        "weighted_sampler+smote+mixup(alpha=0.2)",
        "weighted_sampler(start=0.8)",
        "weighted_sampler(start=0.8)+mixup(alpha=0.2)",
        "weighted_sampler(start=0.8)+smote",
        "weighted_sampler(start=0.8)+smote+mixup(alpha=0.2)",
    ]


def test_one_at_a_time_is_each_level_alone():
    assert names(recipes_of(FACTORS, "one_at_a_time")) == [
        "nothing",
        "weighted_sampler",
        "weighted_sampler(start=0.8)",
        "smote",
        "mixup(alpha=0.2)",
    ]


def test_leave_one_out_is_the_first_levels_together_and_without_each():
    assert names(recipes_of(FACTORS, "leave_one_out")) == [
        "nothing",
        "weighted_sampler+smote+mixup(alpha=0.2)",
        "smote+mixup(alpha=0.2)",
        "weighted_sampler+mixup(alpha=0.2)",
        "weighted_sampler+smote",
    ]


def test_a_recipe_knows_its_strategies_and_the_level_of_every_factor():
    recipe = recipes_of(FACTORS, "factorial")[6]
    assert recipe == Recipe(
        "weighted_sampler+smote",
        (make("weighted_sampler"), make("smote")),
        (("sampler", "weighted_sampler"), ("smote", "smote"), ("mixup", "none")),
    )


def test_without_factors_there_is_only_nothing():
    for design in ("factorial", "one_at_a_time", "leave_one_out"):
        assert recipes_of({}, design) == (Recipe(NOTHING, (), ()),)


def test_nothing_is_there_also_where_no_factor_has_it():
    factors = {"mixup": (level("mixup"), level("mixup", alpha=0.2))}
    assert names(recipes_of(factors, "factorial")) == ["nothing", "mixup", "mixup(alpha=0.2)"]


def test_levels_shared_by_two_factors_are_told_apart_by_the_factor():
    factors = {
        "first": (NO, level("mixup"), level("smote")),
        "second": (NO, level("mixup")),
    }
    assert names(recipes_of(factors, "factorial")) == [
        "nothing",
        "second:mixup",
        "first:mixup",
        "first:mixup+second:mixup",
        "smote",
        "smote+second:mixup",
    ]


@pytest.mark.parametrize(
    ("exclude", "left"),
    [
        ([{"sampler": "weighted_sampler", "smote": "smote"}], 8),  # by name: both its levels
        ([{"sampler": "weighted_sampler(start=0.8)", "smote": "smote"}], 10),  # by label: one
        ([{"sampler": "weighted_sampler(start=0.8)"}], 8),
        ([{"smote": "none", "mixup": "none"}], 10),  # "nothing" stays
        ([{"smote": "none"}, {"smote": "smote"}], 1),
        ([{"mixup": "mixup"}], 6),
    ],
)
def test_exclusions_leave_out_what_matches_all_of_a_rule_but_never_nothing(exclude, left):
    recipes = recipes_of(FACTORS, "factorial", exclude)
    assert len(recipes) == left
    assert recipes[0].name == NOTHING


def test_exclusions_hold_in_every_design():
    rule = [{"sampler": "weighted_sampler(start=0.8)"}]
    assert names(recipes_of(FACTORS, "one_at_a_time", rule)) == [
        "nothing",
        "weighted_sampler",
        "smote",
        "mixup(alpha=0.2)",
    ]


@pytest.mark.parametrize(
    ("rule", "place", "message"),
    [
        ({}, ("exclude", 0), "an empty exclusion would leave out everything"),
        ({"smot": "smote"}, ("exclude", 0, "smot"), "no such factor; did you mean 'smote'?"),
        ({"smote": "smot"}, ("exclude", 0, "smote"), "no such level 'smot'; did you mean 'smote'"),
        (
            {"mixup": "mixup(alpha=0.3)"},
            ("exclude", 0, "mixup"),
            "no such level 'mixup(alpha=0.3)'",
        ),
    ],
)
def test_a_wrong_exclusion_is_told_with_its_place(rule, place, message):
    ((found, text),) = problems_of(FACTORS, "factorial", [rule], {})
    assert found == place
    assert text.startswith(message)
    with pytest.raises(ConfigError, match=r"^exclude\[0\]"):
        recipes_of(FACTORS, "factorial", [rule])


def test_hand_named_recipes_come_last_and_take_no_name_that_is_there():
    both = (make("mixup"), make("cutmix"))
    recipes = recipes_of(FACTORS, "one_at_a_time", (), {"both": both})
    assert recipes[-1] == Recipe("both", both, ())
    for name in (NOTHING, "smote"):
        with pytest.raises(ConfigError, match=f"^recipes.{name}: the design already has a recipe"):
            recipes_of(FACTORS, "one_at_a_time", (), {name: both})
    assert recipes_of(FACTORS, "one_at_a_time", (), {"smote+mixup(alpha=0.2)": both})


def test_too_many_combinations_are_refused_without_building_them():
    levels = tuple(level("mixup", alpha=i) for i in range(1, 1001))
    factors = {f"f{i}": levels for i in range(10)}
    ((place, text),) = problems_of(factors, "factorial", [], {})
    assert place == ("factors",)
    assert text.startswith(f"{1000**10:,} combinations, more than 10,000")
    assert not list(problems_of(factors, "leave_one_out", [], {}))


@pytest.mark.parametrize("design", ["factorial", "one_at_a_time", "leave_one_out"])
def test_designs_too_large_to_make_are_refused_by_counting(design):
    def why(factors, exclude=(), extras=None):
        return [text for _, text in problems_of(factors, design, exclude, extras or {})]

    two = (Level(NONE), level("smote"))
    assert why({f"f{i}": two for i in range(3000)}) == ["3,000 factors, more than 100"]
    both = (level("smote").strategy,)
    assert why({"f": two}, extras={f"r{i}": both for i in range(10_001)}) == [
        "10,001 recipes, more than 10,000"
    ]
    few = {f"f{i}": two for i in range(10)}
    assert not why(few, [{"f0": "smote"}] * 100)


def test_many_exclusions_from_many_combinations_are_refused_by_counting():
    factors = {f"f{i}": (Level(NONE), level("smote")) for i in range(13)}
    found = list(problems_of(factors, "factorial", [{"f0": "smote"}] * 123, {}))
    assert found == [(("exclude",), "123 exclusions from 8,192 combinations are too many")]


SHAPES = st.lists(st.tuples(st.booleans(), st.integers(0, 3)), max_size=4)


def factors_of(shape):
    """Return one factor per (has none, number of other levels), each level of its own kind."""
    return {
        f"f{i}": ((NO,) if has_none or not others else ())
        + tuple(level("mixup", alpha=10 * i + j + 2) for j in range(others))
        for i, (has_none, others) in enumerate(shape)
    }


@settings(max_examples=80, deadline=None)
@given(SHAPES)
def test_the_counts_of_every_design(shape):
    factors = factors_of(shape)
    for design in ("factorial", "one_at_a_time", "leave_one_out"):
        recipes = recipes_of(factors, design)
        assert recipes[0] == Recipe(NOTHING, (), tuple((name, NONE) for name in factors))
        assert names(recipes).count(NOTHING) == 1
        assert len(set(names(recipes))) == len(recipes)
        assert len({recipe.levels for recipe in recipes}) == len(recipes)
        for recipe in recipes:
            used = [label for _, label in recipe.levels if label != NONE]
            assert [s.label() for s in recipe.strategies] == used
            assert list(dict(recipe.levels)) == list(factors)
    real = [sum(x.strategy is not None for x in levels) for levels in factors.values()]
    all_have_none = all(NO in levels for levels in factors.values())
    product = math.prod(len(levels) for levels in factors.values())
    assert len(recipes_of(factors, "factorial")) == product + (not all_have_none)
    assert len(recipes_of(factors, "one_at_a_time")) == 1 + sum(real)
    used = sum(number > 0 for number in real)
    expected = {0: 1, 1: 2}.get(used, 2 + used)
    assert len(recipes_of(factors, "leave_one_out")) == expected


@settings(max_examples=80, deadline=None)
@given(SHAPES, st.data())
def test_what_an_exclusion_leaves_is_what_does_not_match_it(shape, data):
    factors = factors_of(shape)
    if not factors:
        return
    chosen = data.draw(st.lists(st.sampled_from(sorted(factors)), min_size=1, unique=True))
    rule = {name: data.draw(st.sampled_from(factors[name])).label for name in chosen}
    every = recipes_of(factors, "factorial")
    kept = recipes_of(factors, "factorial", [rule])
    assert list(kept) == [
        recipe
        for recipe in every
        if recipe.name == NOTHING or not rule.items() <= dict(recipe.levels).items()
    ]


ORDERS = ("weighted_sampler", "stratified_batches", "random_over_sampling", "progressive_sampler")
LOSSES = ("class_weights", "focal", "balanced_softmax", "ldam", "logit_adjusted")


@pytest.mark.parametrize(
    ("first", "second", "what"),
    [(*pair, "the order of samples") for pair in itertools.combinations(ORDERS, 2)]
    + [(*pair, "the loss") for pair in itertools.combinations(LOSSES, 2)]
    + [("mixup", "mixup", None), ("mixup", "cutmix", None), ("weighted_sampler", "focal", None)],
)
def test_two_orders_or_two_losses_at_once_contradict_each_other(first, second, what):
    reason = contradiction((make(first), make(second)))
    if what is None:
        assert reason is None
        return
    assert f"'{first}' and '{second}' both decide {what} at the same time" in reason
    assert "windows (start, stop) that do not overlap" in reason


@pytest.mark.parametrize(
    ("first", "second", "apart"),
    [
        ((0.0, 0.5), (0.5, 1.0), True),
        ((0.5, 1.0), (0.0, 0.5), True),
        ((0.0, 0.2), (0.8, 1.0), True),
        ((0.0, 0.51), (0.5, 1.0), False),
        ((0.0, 1.0), (0.4, 0.6), False),
        ((0.2, 0.4), (0.2, 0.4), False),
    ],
)
def test_windows_that_only_touch_do_not_overlap(first, second, apart):
    pair = tuple(
        make(name, start=start, stop=stop)
        for name, (start, stop) in (("class_weights", first), ("focal", second))
    )
    if apart:
        assert contradiction(pair) is None
    else:
        assert "both decide the loss" in contradiction(pair)


def test_of_three_windows_any_two_may_overlap():
    three = (
        make("weighted_sampler", stop=0.3),
        make("stratified_batches", start=0.5),
        make("weighted_sampler", start=0.3, stop=0.6),
    )
    assert "both decide the order" in contradiction(three)
    assert contradiction(three[:2]) is None


def test_losses_for_different_last_layers_contradict_each_other_in_any_window():
    reason = contradiction((make("ldam", stop=0.5), make("class_weights", start=0.5)))
    assert reason == (
        "the losses 'ldam(stop=0.5)', 'class_weights(start=0.5)' need last layers of different "
        "kinds"
    )
    assert contradiction((make("ldam"), make("weighted_sampler"), make("smote"))) is None


def test_rows_are_synthesized_once():
    assert contradiction((make("smote"),)) is None
    reason = contradiction((make("smote"), make("smote", k=3)))
    assert reason == "smote, smote(k=3) would each synthesize rows; keep one of them"


def test_t27_correcting_the_imbalance_twice_is_flagged_and_allowed():
    twice = (make("weighted_sampler"), make("class_weights"))
    assert contradiction(twice) is None
    assert flagged(twice) == (
        "weighted_sampler and class_weights each correct the imbalance; together they may "
        "over-correct"
    )
    assert flagged((make("stratified_batches"), make("balanced_softmax")))
    assert flagged(twice[:1]) is None
    assert flagged((make("smote"), make("mixup"), make("weighted_sampler"))) is None


def test_t27_one_correction_after_the_other_is_none_twice():
    apart = (make("weighted_sampler", stop=0.8), make("class_weights", start=0.8))
    assert flagged(apart) is None
    assert flagged((make("weighted_sampler"), make("class_weights", start=0.8)))
