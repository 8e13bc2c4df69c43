"""The contract itself, on the built-in strategies and on a plugin's."""

from typing import Annotated

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from harness.registry import strategies
from harness.strategies.augment import Augment
from harness.strategies.base import (
    Mix,
    Strategy,
    Tunable,
    Windowed,
    canonical,
    deciding,
    strategy,
)
from harness.strategies.cutmix import CutMix
from harness.strategies.ldam import Ldam
from harness.strategies.mixup import MixUp
from harness.strategies.smote import Smote
from harness.strategies.weighted_sampler import WeightedSampler

BUILT_IN = [strategies.get(name) for name in strategies.names()]
HOOKS = {
    "augment": {"transforms"},
    "weighted_sampler": {"order"},
    "stratified_batches": {"order"},
    "smote": {"synthesize", "expanded_counts"},
    "mixup": {"blend"},
    "cutmix": {"blend"},
    "class_weights": {"loss"},
    "focal": {"loss"},
    "balanced_softmax": {"loss"},
    "ldam": {"loss"},
}


@pytest.mark.parametrize("name", HOOKS)
def test_each_strategy_decides_its_own_hooks_and_no_other(name: str) -> None:
    all_hooks = ("synthesize", "expanded_counts", "order", "transforms", "blend", "loss")
    assert {hook for hook in all_hooks if strategies.get(name).decides(hook)} == HOOKS[name]


@pytest.mark.parametrize("cls", BUILT_IN)
def test_every_default_is_legal_and_every_search_range_holds_only_legal_values(cls: type) -> None:
    default = cls()
    assert default.parameters() == {}
    for path, span in default.tunables().items():
        assert span.low < span.high
        for value in (span.low, span.high):
            chosen = int(value) if span.integer else value
            assert default.with_values({path: chosen}).model_dump()[path] == chosen


@pytest.mark.parametrize("cls", BUILT_IN)
def test_a_strategy_survives_being_written_down_and_is_frozen(cls: type) -> None:
    default = cls()
    for path, span in default.tunables().items():
        changed = default.with_values({path: int(span.high) if span.integer else span.high})
        assert cls.model_validate(changed.parameters()) == changed
    with pytest.raises(ValidationError):
        default.start = 0.3
    with pytest.raises(ValidationError, match="no_such"):
        default.with_values({"no_such": 1})


@pytest.mark.parametrize("cls", BUILT_IN)
def test_only_what_acts_during_training_has_a_window(cls: type) -> None:
    assert issubclass(cls, Windowed) == (cls.name != "smote")
    assert cls().window() == ((0.02, 0.985) if cls.name == "cmo" else (0.0, 1.0))  # as published
    assert cls.summary().endswith(".")


@given(start=st.floats(-0.5, 1.5), stop=st.floats(-0.5, 1.5))
def test_t24_a_window_is_a_fraction_of_the_budget_and_open(start: float, stop: float) -> None:
    legal = 0.0 <= start < stop <= 1.0
    try:
        assert MixUp(start=start, stop=stop).window() == (start, stop)
    except ValidationError:
        assert not legal
    else:
        assert legal


def test_labels_name_what_was_set() -> None:
    assert MixUp().label() == "mixup"
    assert WeightedSampler(start=0.8, beta=1.0).label() == "weighted_sampler(start=0.8)"
    assert Augment(transforms=[{"name": "Rotate"}]).label() == "augment(transforms=[1])"


def test_identity_holds_what_changes_the_result_and_no_default() -> None:
    assert MixUp(alpha=1.0).identity() == {"name": "mixup", "version": 1}
    assert MixUp(alpha=0.2).identity() == {"name": "mixup", "version": 1, "alpha": 0.2}


def test_a_recipe_has_one_canonical_order() -> None:
    recipe = (Ldam(), CutMix(), MixUp(), MixUp(alpha=0.2), Augment(), WeightedSampler(), Smote())
    names = [s.name for s in canonical(recipe)]
    assert names == ["smote", "weighted_sampler", "augment", "mixup", "mixup", "cutmix", "ldam"]
    assert canonical(recipe[::-1]) == canonical(recipe)
    assert [s.name for s in deciding(canonical(recipe), "blend")] == ["mixup", "mixup", "cutmix"]


def test_only_ldam_asks_for_the_normalized_head() -> None:
    assert {cls.name for cls in BUILT_IN if cls.head == "normalized"} == {"ldam"}


def test_firing_is_p_for_a_blend() -> None:
    assert (MixUp(p=0.25).firing(), CutMix().firing()) == (0.25, 1.0)


def test_a_plugin_is_one_small_class() -> None:
    with strategies.temporary():

        @strategy("halfmix")
        class HalfMix(Windowed):
            """Blend each image with a random partner, half and half."""

            p: Annotated[float, Field(ge=0, le=1), Tunable(0.0, 1.0)] = 1.0

            def blend(self, batch: object, rng: np.random.Generator) -> Mix:
                half = np.full(4, 0.5, np.float32)
                return Mix(partner=rng.permutation(4), weight=half, label_weight=half)

        assert strategies.get("halfmix") is HalfMix
        assert HalfMix.decides("blend")
        assert HalfMix(p=0.5, start=0.5).tunables() == {"p": Tunable(0.0, 1.0)}
    assert "halfmix" not in strategies


def test_hooks_that_are_not_overridden_refuse() -> None:
    plain = Strategy()
    with pytest.raises(NotImplementedError):
        plain.order(np.zeros(2, np.int64), 1, 1, np.random.default_rng(0))
    assert plain.expanded_counts(np.array([3, 1])).tolist() == [3, 1]
