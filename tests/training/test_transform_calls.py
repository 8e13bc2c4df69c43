import random
import warnings
from collections.abc import Callable
from typing import Any

import albumentations as lib
import cv2
import numpy as np
import pytest

from harness.errors import ConfigError
from harness.streams import stream
from harness.training.per_image import Tail


def images(channels: int, dtype: Any = np.uint8, width: int = 28) -> np.ndarray:
    drawn = np.random.default_rng(1).integers(0, 256, (12, 24, width, channels))
    return drawn.astype(np.uint8) if dtype == np.uint8 else (drawn / 255).astype(dtype)


def composed(make: Callable[[], list[Any]], batch: np.ndarray, seed: int, step: int) -> np.ndarray:
    """Return what `Compose` makes of each image from the generators that `Tail` gives it."""
    done = []
    for position, image in enumerate(batch):
        generator = stream(seed, "tail", step * (1 << 20) + position)
        python = random.Random(int(generator.bit_generator.random_raw()))  # type: ignore[attr-defined]
        compose = lib.Compose(make())
        compose.set_random_state(generator, python)
        done.append(compose(image=image)["image"])
    return np.stack(done)


def usable() -> dict[str, type]:
    """Return the plain image transforms that can be made with their defaults."""
    found = {}
    for name, kind in vars(lib).items():
        if not (isinstance(kind, type) and issubclass(kind, lib.BasicTransform)):
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                transform = kind(p=1.0)
                results = [transform(image=images(3, width=24)[0])["image"] for _ in range(20)]
        except Exception:  # needs parameters, other targets, or larger images
            continue
        if all((x.shape, x.dtype) == ((24, 24, 3), np.uint8) for x in results):
            found[name] = kind
    return found


@pytest.mark.filterwarnings("ignore")
def test_every_transform_gives_the_images_of_compose_to_the_bit() -> None:
    kinds = usable()
    assert len(kinds) > 50
    assert {"Affine", "RandomBrightnessContrast", "CoarseDropout", "ColorJitter"} <= kinds.keys()
    batch = images(3, width=24)
    for name, kind in kinds.items():

        def make(kind: type = kind) -> list[Any]:
            return [kind(p=0.7)]

        got = Tail(make(), 5, "tail")(batch, np.ones(len(batch), bool), 3)
        np.testing.assert_array_equal(got, composed(make, batch, 5, 3), err_msg=name)


AFFINE: list[dict[str, Any]] = [
    {"rotate": (-30, 30), "scale": (0.7, 1.3), "keep_ratio": True},
    {"translate_percent": (-0.2, 0.2), "shear": (-20, 20), "balanced_scale": True},
    {"translate_px": (-3, 3), "border_mode": cv2.BORDER_REFLECT_101, "fill": 7},
    {"rotate": (0, 0), "scale": (1.0, 1.0), "shear": (0, 0)},  # the identity
    {"rotate": (-0.0001, 0.0001), "scale": (1.0, 1.0), "shear": (0, 0)},  # nearly so
]


@pytest.mark.parametrize("channels", [1, 3, 4, 5])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("settings", AFFINE)
def test_affine_gives_the_images_of_compose_to_the_bit(
    settings: dict[str, Any], dtype: Any, channels: int
) -> None:
    def make() -> list[Any]:
        group = lib.OneOf([lib.HorizontalFlip(p=1.0), lib.Transpose(p=0.0)], p=0.5)
        return [lib.Affine(**settings, p=0.8), group, lib.RandomBrightnessContrast(p=0.5)]

    batch = images(channels, dtype)
    got = Tail(make(), 0, "tail")(batch, np.ones(len(batch), bool), 1)
    np.testing.assert_array_equal(got, composed(make, batch, 0, 1))


def test_images_to_which_it_does_not_apply_stay_and_the_batch_is_not_changed() -> None:
    batch = images(3)
    before = batch.copy()
    applies = np.arange(len(batch)) % 3 == 0
    got = Tail([lib.InvertImg(p=1.0)], 0, "tail")(batch, applies, 0)
    np.testing.assert_array_equal(batch, before)
    np.testing.assert_array_equal(got[~applies], before[~applies])
    np.testing.assert_array_equal(got[applies], 255 - before[applies])


def test_a_group_that_shrinks_images_is_named() -> None:
    tail = Tail([lib.Sequential([lib.CenterCrop(8, 8)], p=1.0)], 0, "tail")
    with pytest.raises(ConfigError, match="Sequential turns uint8 images"):
        tail(images(3), np.ones(12, bool), 0)
