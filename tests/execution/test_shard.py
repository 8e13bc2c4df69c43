from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import ConfigError
from harness.execution.shard import Shard, parse, part_of
from harness.experiment.spec import RunSpec


class Card:
    """What of a run decides where it goes."""

    def __init__(self, recipe: int, seed: int, fold: int | None) -> None:
        self.recipe, self.seed, self.fold = recipe, seed, fold


Shapes = st.tuples(st.integers(1, 40), st.integers(1, 12), st.integers(0, 3), st.integers(1, 30))


def spread(counts: Counter[int], shards: int) -> int:
    """By how much the fullest shard is fuller than the emptiest."""
    return max(counts[k] for k in range(shards)) - min(counts[k] for k in range(shards))


@given(Shapes)
def test_shards_have_every_run_once_and_alike_many_of_each_seed_and_recipe(shape) -> None:
    recipes, seeds, folds, count = shape
    deck = [
        Card(recipe, seed, fold)
        for seed in range(seeds)
        for fold in (range(folds) if folds else (None,))
        for recipe in range(recipes)
    ]
    parts = [part_of(deck, Shard(i + 1, count)) for i in range(count)]  # type: ignore[arg-type]
    assert sorted(map(id, (card for part in parts for card in part))) == sorted(map(id, deck))
    owner = {id(card): i for i, part in enumerate(parts) for card in part}
    assert spread(Counter(owner.values()), count) <= 1
    for seed in range(seeds):
        for fold in range(folds) if folds else (None,):
            here = [card for card in deck if (card.seed, card.fold) == (seed, fold)]
            assert spread(Counter(owner[id(card)] for card in here), count) <= 1
    for recipe in range(recipes):
        where = Counter(owner[id(card)] for card in deck if card.recipe == recipe)
        assert spread(where, count) <= 1


def test_one_shard_of_one_is_everything(make_spec: Callable[..., RunSpec]) -> None:
    spec = make_spec()
    assert part_of([spec], Shard(1, 1)) == (spec,)
    assert part_of([spec], Shard(2, 2)) == ()


def test_a_shard_is_counted_from_one() -> None:
    assert parse("1/3") == Shard(1, 3)
    assert str(parse(" 3/3 ")) == "3/3"


@pytest.mark.parametrize(
    "text", ["0/3", "4/3", "1", "1/0", "a/b", "-1/2", "1/2/3", "", "1/99999999"]
)
def test_a_shard_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--shard .*expected I/N"):
        parse(text)
