from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import ConfigError
from harness.registry import strategies as registry
from harness.strategies.base import Facts, Flip, Mix, PadCrop, Strategy, Synthesis, Windowed
from harness.training.buffers import make_chunk
from harness.training.plan import BatchPlan


def facts(**changes: Any) -> Facts:
    counts = np.array([40, 12, 5])
    defaults: dict[str, Any] = {
        "kind": "image",
        "shape": (16, 16, 3),
        "class_names": ("a", "b", "c"),
        "class_counts": counts,
        "expanded_counts": counts,
        "batch_size": 8,
        "steps": 50,
        "horizontal_flip": True,
    }
    return Facts(**{**defaults, **changes})


LABELS = np.repeat([0, 1, 2], [40, 12, 5])


def build(
    *recipe: Any, seed: int = 0, synthesis: Synthesis | None = None, **changes: Any
) -> BatchPlan:
    built = tuple(
        item if isinstance(item, Strategy) else registry.get(item[0])(**item[1]) for item in recipe
    )
    return BatchPlan(built, facts(**changes), LABELS, synthesis, seed)


MIXUP = ("mixup", {})
CUTMIX = ("cutmix", {})
SAMPLER = ("weighted_sampler", {})


def rows(plan: BatchPlan, steps: int = 50) -> np.ndarray:
    return np.stack([plan.decide(step).rows for step in range(steps)])


def test_every_batch_is_full_and_passes_run_on_across_batches() -> None:
    delivered = rows(build()).ravel()
    for first in range(0, len(delivered) - 57, 57):
        assert sorted(delivered[first : first + 57]) == list(range(57))


@given(st.permutations(range(12)), st.integers(0, 2**63 - 1))
@settings(max_examples=20, deadline=None)
def test_a_step_is_decided_the_same_whatever_was_decided_before(
    order: list[int], seed: int
) -> None:
    recipe = (
        MIXUP,
        CUTMIX,
        ("augment", {"policy": "flip_crop"}),
        ("weighted_sampler", {"start": 0.1}),
    )
    straight = [build(*recipe, seed=seed).decide(step) for step in range(12)]
    plan = build(*recipe, seed=seed)
    for step in order:
        again, first = plan.decide(step), straight[step]
        np.testing.assert_array_equal(again.rows, first.rows)
        np.testing.assert_equal(
            vars(again.mix) if again.mix else None, vars(first.mix) if first.mix else None
        )
        np.testing.assert_equal(
            [a and (a.applies, *a.head) for a in again.augmentations],
            [a and (a.applies, *a.head) for a in first.augmentations],
        )


def test_recipes_at_one_seed_share_all_they_do_not_differ_in() -> None:
    plain, mixed, both = build(), build(MIXUP), build(MIXUP, CUTMIX)
    np.testing.assert_array_equal(rows(plain), rows(mixed))
    np.testing.assert_array_equal(rows(plain), rows(both))
    shared = 0
    for step in range(50):
        if both.decide(step).blend == "mixup":
            a, b = mixed.decide(step).mix, both.decide(step).mix
            assert a is not None
            assert b is not None
            np.testing.assert_array_equal(a.partner, b.partner)
            np.testing.assert_array_equal(a.weight, b.weight)
            shared += 1
    assert shared > 10


def test_t04_another_seed_is_another_stream_and_no_global_generator_is_touched() -> None:
    np.random.seed(3)
    before = np.random.get_state()[1].copy()  # type: ignore[index]
    first, second = build(MIXUP, seed=0), build(MIXUP, seed=1)
    weights = [p.decide(0).mix.weight[0] for p in (first, second)]  # type: ignore[union-attr]
    assert weights[0] != weights[1]
    assert (rows(first) != rows(second)).any()
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # type: ignore[index]


def test_t01_a_sampler_decides_what_is_delivered_and_only_in_its_window() -> None:
    plain, deferred = rows(build()), rows(build(("weighted_sampler", {"start": 0.8})))
    np.testing.assert_array_equal(plain[:40], deferred[:40])
    assert (plain[40:] != deferred[40:]).any()
    shares = np.bincount(LABELS[rows(build(SAMPLER, steps=400), 400).ravel()]) / (400 * 8)
    np.testing.assert_allclose(shares, 1 / 3, atol=0.03)


def test_t07_one_blend_per_batch_with_the_shares_that_were_asked_for() -> None:
    recipe = (("mixup", {"p": 0.5}), ("cutmix", {"p": 0.25}))
    plan = build(*recipe, steps=2000)
    drawn = [plan.decide(step).blend for step in range(2000)]
    assert drawn.count("mixup") / 2000 == pytest.approx(0.5, abs=0.04)
    assert drawn.count("cutmix") / 2000 == pytest.approx(0.25, abs=0.04)
    both = build(MIXUP, CUTMIX, steps=2000)
    drawn = [both.decide(step).blend for step in range(2000)]
    assert drawn.count(None) == 0
    assert drawn.count("mixup") / 2000 == pytest.approx(0.5, abs=0.04)


def test_synthetic_rows_are_in_the_passes_and_carry_their_base_label() -> None:
    made = Synthesis(np.array([52, 53]), np.array([53, 54]), np.array([0.5, 0.1], np.float32))
    plan = build(synthesis=made)
    assert sorted(rows(plan).ravel()[:59]) == list(range(59))
    np.testing.assert_array_equal(plan.labels[57:], [2, 2])


def test_a_flip_and_a_crop_happen_to_the_share_of_images_that_p_says() -> None:
    plan = build(("augment", {"policy": "flip_crop", "p": 0.3}), steps=1000)
    found = [plan.decide(step).augmentations[0] for step in range(1000)]
    flips = np.concatenate([a.head[0] for a in found if a])
    crops = np.concatenate([a.head[1] for a in found if a])
    applies = np.concatenate([a.applies for a in found if a])
    assert applies.mean() == pytest.approx(0.3, abs=0.03)
    assert flips.mean() == pytest.approx(0.15, abs=0.02)
    assert (crops[~applies] == 2).all()
    assert crops.min() == 0
    assert crops.max() == 4


def test_augmentation_acts_only_in_its_window() -> None:
    plan = build(("augment", {"policy": "flip_crop", "stop": 0.5}))
    assert plan.decide(24).augmentations[0] is not None
    assert plan.decide(25).augmentations[0] is None


class FromTrain(Strategy):
    def blend(self, batch: Any, rng: Any) -> Mix:
        size = len(batch.labels)
        partner = rng.integers(len(batch.train_labels), size=size)
        half = np.full(size, 0.5, np.float32)
        return Mix(partner, half, half, source="train")


def test_partners_from_the_training_set_are_gathered_behind_the_batch() -> None:
    chunks = build(FromTrain()).decide(0)
    assert len(chunks.rows) == 16
    assert chunks.mix is not None
    np.testing.assert_array_equal(chunks.mix.partner, np.arange(8, 16))
    np.testing.assert_array_equal(chunks.rows[:8], build().decide(0).rows)


class Broken(Windowed):
    mistake: str

    def order(self, labels: Any, steps: int, batch_size: int, rng: Any) -> Any:
        rows = np.zeros((steps, batch_size), np.int64)
        if self.mistake == "shape":
            return rows[:, 1:]
        return rows + (len(labels) if self.mistake == "rows" else 0)

    def blend(self, batch: Any, rng: Any) -> Mix:
        size = len(batch.labels)
        one = np.ones(size, np.float32)
        return Mix(
            np.arange(size) + (1 if self.mistake == "partner" else 0),
            one[:-1] if self.mistake == "length" else one,
            one * 2 if self.mistake == "weight" else one,
            np.zeros((size, 3), np.int64) if self.mistake == "box" else None,
        )


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        ("shape", r"order returned int64\[8, 7\]; int64\[8, 8\] is needed"),
        ("rows", "rows outside 0..56"),
        ("partner", "partners must lie in 0..7"),
        ("length", "weight must have 8 entries"),
        ("weight", "label_weight must lie in"),
        ("box", "box must be"),
    ],
)
def test_a_strategy_that_decides_nonsense_is_named(mistake: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_chunk(build(Broken(mistake=mistake)), 0, 3)


class HeadLast(Strategy):
    def transforms(self, facts: Facts) -> list[Any]:
        return [PadCrop(1), object(), Flip("horizontal")]


def test_lowered_operations_must_come_first() -> None:
    with pytest.raises(ConfigError, match="must come before"):
        build(HeadLast())
