from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from harness.errors import ConfigError
from harness.experiment.space import Dimension, moved, space_of, tunables_of
from harness.experiment.spec import Training, recipe_of
from harness.registry import strategies
from harness.strategies.base import Strategy, Tunable, Windowed, prefixes, strategy


def recipe(*items: Any) -> tuple[Strategy, ...]:
    built = []
    for item in items:
        parameters = dict(item) if isinstance(item, dict) else {"name": item}
        built.append(strategies.get(parameters.pop("name")).model_validate(parameters))
    return recipe_of((), tuple(built))


LIST = {"name": "augment", "transforms": [{"name": "HorizontalFlip"}, {"name": "Blur", "p": 0.2}]}


def test_the_space_of_everything_has_every_strength() -> None:
    found = space_of(recipe(LIST, "weighted_sampler", "smote", "mixup", "cutmix"), Training(), {})
    assert [(one.path, one.low, one.high, one.log, one.integer) for one in found.dimensions] == [
        ("smote.k", 1, 10, False, True),
        ("smote.target", 0.1, 1.0, False, False),
        ("weighted_sampler.start", 0.0, 0.9, False, False),
        ("weighted_sampler.beta", 0.0, 1.0, False, False),
        ("augment.p", 0.0, 1.0, False, False),
        ("augment.transforms.0.p", 0.0, 1.0, False, False),
        ("augment.transforms.1.p", 0.0, 1.0, False, False),
        ("mixup.alpha", 0.05, 2.0, True, False),
        ("mixup.p", 0.0, 1.0, False, False),
        ("cutmix.alpha", 0.05, 2.0, True, False),
        ("cutmix.p", 0.0, 1.0, False, False),
    ]
    assert found.fixed == ()
    own = dict(found.own)
    assert own["augment.transforms.0.p"] == 0.5  # the library's own
    assert own["augment.transforms.1.p"] == 0.2
    assert own["mixup.alpha"] == 1.0
    assert found.holds_own


def test_learning_rate_and_weight_decay_move_only_on_demand() -> None:
    given = {"training.lr": (0.01, 0.5), "training.weight_decay": (1e-5, 1e-2)}
    found = space_of((), Training(lr=0.05, weight_decay=0.0), given)
    assert found.dimensions == (
        Dimension("training.lr", 0.01, 0.5, True, False, 0.05),
        Dimension("training.weight_decay", 1e-5, 1e-2, True, False, 0.0),
    )
    assert dict(found.own) == {"training.lr": 0.05, "training.weight_decay": 0.0}
    assert not found.holds_own
    assert space_of((), Training(), {}).dimensions == ()
    _, training = moved((), Training(epochs=3.0), {"training.lr": 0.2})
    assert training == Training(epochs=3.0, lr=0.2)


def test_a_given_range_narrows_widens_and_holds() -> None:
    given = {"mixup.alpha": (0.1, 8.0), "mixup.p": (0.5, 0.5), "cutmix.p": (0.0, 0.1)}
    found = space_of(recipe("mixup"), Training(), given)
    assert found.dimensions == (Dimension("mixup.alpha", 0.1, 8.0, True, False, 1.0),)
    assert found.fixed == (("mixup.p", 0.5),)


def test_values_go_where_their_path_leads() -> None:
    values = {"mixup.alpha": 0.25, "augment.transforms.1.p": 0.75, "smote.k": 3}
    changed, training = moved(recipe(LIST, "smote", "mixup"), Training(), values)
    assert [s.parameters() for s in changed] == [
        {"k": 3},
        {"transforms": [{"name": "HorizontalFlip"}, {"name": "Blur", "p": 0.75}]},
        {"alpha": 0.25},
    ]
    assert training == Training()
    assert moved(recipe("mixup"), Training(), {})[0] == recipe("mixup")


def test_two_of_a_name_are_told_apart() -> None:
    twice = recipe({"name": "ldam", "stop": 0.8}, {"name": "ldam", "start": 0.8})
    assert prefixes(twice) == ["ldam", "ldam.2"]
    assert list(tunables_of(twice)) == ["ldam.max_m", "ldam.2.max_m"]
    changed, _ = moved(twice, Training(), {"ldam.2.max_m": 0.7})
    assert sorted(s.parameters().get("max_m", 0.5) for s in changed) == [0.5, 0.7]


def test_values_that_are_not_legal_are_named() -> None:
    with pytest.raises(ConfigError, match=r"^alpha: must be greater than 0$"):
        moved(recipe("mixup"), Training(), {"mixup.alpha": 0.0})
    with pytest.raises(ConfigError, match="lr: must be greater than 0"):
        moved((), Training(), {"training.lr": -1.0})


def test_values_that_are_not_legal_together_are_named() -> None:
    @strategy("pair")
    class Pair(Windowed):
        """Two ends of a window that both move."""

        start: Annotated[float, Field(ge=0.0, lt=1.0), Tunable(0.0, 0.9)] = 0.0
        stop: Annotated[float, Field(gt=0.0, le=1.0), Tunable(0.1, 1.0)] = 1.0

    with pytest.raises(ConfigError, match=r"start \(0.8\) must lie before stop \(0.2\)"):
        moved((Pair(),), Training(), {"pair.start": 0.8, "pair.stop": 0.2})


@given(st.data())
def test_whatever_a_space_allows_can_be_put_in_and_is_found_there(data: st.DataObject) -> None:
    names = ["augment", "weighted_sampler", "smote", "mixup", "cutmix", "focal", "ldam"]
    chosen = data.draw(st.lists(st.sampled_from(names), unique=True, min_size=1))
    strategies_ = recipe(*chosen)
    found = space_of(strategies_, Training(), {"training.lr": (0.001, 1.0)})
    values: dict[str, float] = {
        one.path: data.draw(
            st.integers(int(one.low), int(one.high))
            if one.integer
            else st.floats(one.low, one.high)
        )
        for one in found.dimensions
    }
    changed, training = moved(strategies_, Training(), values)
    again = space_of(changed, training, {"training.lr": (0.001, 1.0)})
    assert {one.path: one.own for one in again.dimensions} == values
