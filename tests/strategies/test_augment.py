import random
import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from harness.strategies.augment import Augment
from harness.strategies.base import Facts, Flip, PadCrop, Tunable

MakeFacts = Callable[..., Facts]


def run(transforms: list[Any], image: np.ndarray, seed: int) -> np.ndarray:
    """Apply the Albumentations part, as a pipeline would."""
    import albumentations

    tail = [t for t in transforms if not isinstance(t, Flip | PadCrop)]
    compose = albumentations.Compose(tail)
    # Not `seed=`: it gives every transform the same seed, so that all toss the same coin.
    compose.set_random_state(np.random.default_rng(seed), random.Random(seed))
    return np.asarray(compose(image=image)["image"])


def test_flip_crop_is_all_lowered_and_asks_the_dataset_about_flips(make_facts: MakeFacts) -> None:
    policy = Augment(policy="flip_crop")
    assert policy.transforms(make_facts()) == [PadCrop(4)]
    assert policy.transforms(make_facts(horizontal_flip=True)) == [Flip("horizontal"), PadCrop(4)]
    both = make_facts(horizontal_flip=True, vertical_flip=True, shape=(28, 60, 1))
    assert policy.transforms(both) == [Flip("horizontal"), Flip("vertical"), PadCrop(4)]
    assert policy.transforms(make_facts(shape=(8, 8, 1))) == [PadCrop(1)]
    assert policy.transforms(make_facts(shape=(2, 2, 1))) == []


@pytest.mark.parametrize("policy", ["standard", "strong"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("shape", [(8, 8, 1), (9, 17, 3), (32, 32, 3), (64, 40, 1)])
def test_t22_policies_work_on_any_size_depth_and_type(
    make_facts: MakeFacts, policy: Any, dtype: type, shape: tuple[int, int, int]
) -> None:
    top = 255 if dtype is np.uint8 else 1.0
    image = (np.random.default_rng(0).random(shape) * top).astype(dtype)
    transforms = Augment(policy=policy, magnitude=1.0).transforms(make_facts(shape=shape))
    assert transforms[0] == PadCrop(round(min(shape[:2]) / 8))
    results = [run(transforms, image, seed) for seed in range(20)]
    for result in results:
        assert result.shape == image.shape
        assert result.dtype == image.dtype
        assert np.isfinite(result).all()
        assert result.min() >= 0
        assert result.max() <= top
    assert sum(not np.array_equal(result, image) for result in results) >= 10


@pytest.mark.parametrize("policy", ["standard", "strong"])
def test_t22_displacements_are_relative_to_the_size(make_facts: MakeFacts, policy: Any) -> None:
    spreads = []
    for size in (24, 96):
        image = np.zeros((size, size, 1), np.float32)
        q = size // 8
        image[size // 2 - q : size // 2 + q, size // 2 - q : size // 2 + q] = 1.0
        transforms = Augment(policy=policy, magnitude=1.0).transforms(make_facts(shape=image.shape))
        affine = [t for t in transforms if type(t).__name__ == "Affine"]
        assert affine
        assert affine[0].translate_px in (None, {"x": (0, 0), "y": (0, 0)})
        centres = []
        for seed in range(150):
            moved = run(affine, image, seed)[..., 0]
            centres.append((moved * np.arange(size)).sum() / moved.sum() / size)
        spreads.append(np.std(centres))
    assert spreads[1] == pytest.approx(spreads[0], abs=0.03)
    assert (spreads[1] > 0.02) == (policy == "strong")


def test_more_magnitude_changes_more_and_0_leaves_the_lowered_part(make_facts: MakeFacts) -> None:
    image = np.random.default_rng(0).random((32, 32, 3)).astype(np.float32)
    for policy in ("standard", "strong"):
        change = []
        for magnitude in (0.1, 0.9):
            transforms = Augment(policy=policy, magnitude=magnitude).transforms(make_facts())
            change.append(np.mean([np.abs(run(transforms, image, s) - image) for s in range(40)]))
        assert change[1] > 1.3 * change[0] > 0
        assert Augment(policy=policy, magnitude=0.0).transforms(make_facts()) == [PadCrop(4)]


def test_p_is_left_to_the_plan_and_zero_is_named(make_facts: MakeFacts) -> None:
    facts = make_facts(horizontal_flip=True)
    assert Augment(p=0.5).firing() == 0.5
    flip, crop, *rest = Augment(p=0.5).transforms(facts)
    assert (flip, crop) == (Flip("horizontal"), PadCrop(4))
    assert len(rest) == len(Augment().transforms(facts)) - 2
    assert "p is 0" in (Augment(p=0.0).redundant(facts) or "")


def test_an_explicit_list_is_built_as_written_with_its_leading_flips_lowered(
    make_facts: MakeFacts,
) -> None:
    augment = Augment(
        transforms=[
            {"name": "HorizontalFlip"},
            {"name": "VerticalFlip", "p": 0.2},
            {
                "name": "OneOf",
                "p": 0.9,
                "transforms": [
                    {"name": "Rotate", "limit": [-5, 5]},
                    {"name": "Sequential", "transforms": [{"name": "Blur"}]},
                ],
            },
            {"name": "HorizontalFlip", "p": 1.0},
        ]
    )
    assert augment.unsuitable(make_facts()) is None
    first, second, group, flip = augment.transforms(make_facts())
    assert (first, second) == (Flip("horizontal", 0.5), Flip("vertical", 0.2))
    assert group.p == 0.9
    assert group.transforms[0].limit == (-5, 5)
    assert type(group.transforms[1].transforms[0]).__name__ == "Blur"
    assert type(flip).__name__ == "HorizontalFlip"
    assert Augment.model_validate(augment.parameters()) == augment


BLUR: dict[str, Any] = {"name": "Blur"}


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"name": "Roate"}, r"transforms\[0\] Roate: .*did you mean 'Rotate'"),
        ({"name": "Rotate", "limt": 3}, r"unknown parameter 'limt'; did you mean 'limit'"),
        ({"name": "Rotate", "p": 1.5}, "p: Input should be less than or equal to 1"),
        ({"name": "MedianBlur", "p": -1}, "p: Input should be greater"),
        ({"name": "MedianBlur", "blurlimit": 3}, "did you mean 'blur_limit'"),
        ({"name": "Affine", "rotate": "far"}, "rotate: "),
        ({"name": "Blur", "blur_limit": [4, 4]}, "odd"),
        ({"name": "Normalize"}, "the harness normalises"),
        ({"name": "ToTensorV2"}, "the harness normalises"),
        ({"name": "Compose", "transforms": [BLUR]}, "Sequential"),
        ({"name": "RandomCrop3D", "size": [1, 2, 3]}, "no such image transform"),
        ({"nam": "Blur"}, "name of a transform"),
        ({"name": "OneOf"}, "needs a list of transforms"),
        ({"name": "OneOf", "transforms": [BLUR], "p": 3}, "p must be between 0 and 1"),
        ({"name": "OneOf", "transforms": [{"name": "Blur", "p": 0}]}, "every transform"),
        ({"name": "OneOf", "transforms": [BLUR], "n": 1}, "unknown parameter 'n'"),
        ({"name": "SomeOf", "transforms": [BLUR], "n": 2}, "n must be between 1 and 1"),
        (
            {"name": "OneOf", "transforms": [BLUR, {"name": "Blurr"}]},
            r"transforms\[0\] OneOf.transforms\[1\] Blurr: .*did you mean 'Blur'",
        ),
    ],
)
def test_mistakes_in_a_list_are_named_with_their_place(item: Any, message: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValidationError, match=message):
            Augment(transforms=[item])


def test_parameters_that_would_have_no_effect_are_refused() -> None:
    for extra in ({"magnitude": 0.5}, {"policy": "strong"}):
        with pytest.raises(ValidationError, match=f"no use for {next(iter(extra))}"):
            Augment(transforms=[BLUR], **extra)
    with pytest.raises(ValidationError, match="has no magnitude"):
        Augment(policy="flip_crop", magnitude=0.7)
    with pytest.raises(ValidationError):
        Augment(transforms=[])


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([{"name": "RandomCrop", "height": 64, "width": 64}], "RandomCrop fails.*32×32×3"),
        ([{"name": "CenterCrop", "height": 64, "width": 8}], "CenterCrop fails"),
        ([{"name": "RandomCrop", "height": 16, "width": 32}], "RandomCrop leaves.*16×32×3"),
        ([BLUR, {"name": "RandomResizedCrop", "size": [16, 16]}], "RandomResizedCrop leaves"),
        ([{"name": "Resize", "height": 64, "width": 64, "p": 0.5}], "only sometimes"),
        (
            [{"name": "OneOf", "transforms": [BLUR, {"name": "Resize", "height": 9, "width": 9}]}],
            "OneOf turns.*9×9×3",
        ),
        ([{"name": "FDA"}], "FDA fails"),
        (
            [
                {"name": "PadIfNeeded", "min_height": 40, "min_width": 40},
                {"name": "RandomCrop", "height": 32, "width": 32, "p": 0.5},
            ],
            "RandomCrop turns.*only sometimes",
        ),
    ],
)
def test_t22_a_list_that_resizes_or_fails_is_named(
    make_facts: MakeFacts, items: list[Any], message: str
) -> None:
    found = Augment(transforms=items).unsuitable(make_facts())
    assert found is not None
    assert re.search(message, found)


def test_t22_pad_then_crop_to_the_image_size_is_fine(make_facts: MakeFacts) -> None:
    items: list[Any] = [
        {"name": "PadIfNeeded", "min_height": 40, "min_width": 40},
        {"name": "RandomCrop", "height": 32, "width": 32},
    ]
    assert Augment(transforms=items).unsuitable(make_facts()) is None
    assert Augment(transforms=items).unsuitable(make_facts(shape=(28, 28, 1))) is not None


def test_a_colour_transform_on_grey_images_is_named(make_facts: MakeFacts) -> None:
    augment = Augment(transforms=[{"name": "ISONoise"}])
    assert augment.unsuitable(make_facts()) is None
    assert "ISONoise" in (augment.unsuitable(make_facts(shape=(28, 28, 1))) or "")


def test_a_table_has_no_images(make_facts: MakeFacts) -> None:
    assert "table" in (Augment().unsuitable(make_facts(kind="table", shape=(4,))) or "")
    assert Augment().unsuitable(make_facts()) is None


def test_only_what_has_an_effect_is_searched() -> None:
    span = Tunable(0.0, 1.0)
    assert Augment().tunables() == {"p": span, "magnitude": span}
    assert Augment(policy="flip_crop").tunables() == {"p": span}
    listed = Augment(transforms=[BLUR, {"name": "Rotate", "p": 0.3}])
    assert listed.tunables() == {"p": span, "transforms.0.p": span, "transforms.1.p": span}


def test_values_go_into_a_list_by_path() -> None:
    listed = Augment(transforms=[BLUR, {"name": "OneOf", "transforms": [BLUR, BLUR]}])
    changed = listed.with_values({"transforms.0.p": 0.25, "transforms.1.transforms.1.p": 0.75})
    assert changed.parameters() == {
        "transforms": [
            {"name": "Blur", "p": 0.25},
            {"name": "OneOf", "transforms": [BLUR, {"name": "Blur", "p": 0.75}]},
        ]
    }
    assert listed.parameters()["transforms"][0] == BLUR
    assert Augment().with_values({"magnitude": 0.9, "p": 0.1}).magnitude == 0.9
    with pytest.raises(ValidationError, match="p: Input should be less"):
        listed.with_values({"transforms.0.p": 1.25})
    for path in ("transforms.7.p", "transforms.x.p", "transfroms.0.p"):
        with pytest.raises(ValidationError, match=path):
            listed.with_values({path: 0.5})


@settings(max_examples=25, deadline=None)
@given(
    policy=st.sampled_from(["flip_crop", "standard", "strong"]),
    p=st.floats(0, 1),
    height=st.integers(8, 40),
    width=st.integers(8, 40),
    flips=st.booleans(),
)
def test_lowered_steps_come_first_and_flips_only_where_allowed(
    make_facts: MakeFacts, policy: Any, p: float, height: int, width: int, flips: bool
) -> None:
    facts = make_facts(shape=(height, width, 3), horizontal_flip=flips)
    steps = Augment(policy=policy, p=p).transforms(facts)
    lowered = [isinstance(step, Flip | PadCrop) for step in steps]
    assert lowered == sorted(lowered, reverse=True)
    assert any(isinstance(step, Flip) for step in steps) == flips
    assert all(0 <= step.p <= 1 for step in steps if not isinstance(step, PadCrop))
