"""The part of an augmentation that is not lowered: Albumentations, image by image, on the CPU.

Albumentations 2.0.8 keeps its own generators and ignores global seeds; here they are replaced by
one NumPy and one Python generator that are re-keyed before every image from (seed, step,
position), so that an image's augmentation depends on nothing that came before it.
"""

import os
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import ConfigError
from harness.streams import name_key

_POSITIONS = 1 << 20


class Tail:
    """A list of Albumentations transforms, applied per image.

    Args:
        transforms: Albumentations transforms.
        seed: The run's seed.
        name: Name of the stream.
    """

    def __init__(self, transforms: Sequence[Any], seed: int, name: str) -> None:
        os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # its version check needs a network
        import albumentations

        self._bits = np.random.Philox(key=np.array([seed, name_key(name)], np.uint64))
        self._state = self._bits.state
        self._generator = np.random.Generator(self._bits)
        self._python = random.Random(0)
        self._compose = albumentations.Compose(list(transforms))
        self._compose.set_random_state(self._generator, self._python)

    def __call__(self, images: NDArray[Any], applies: NDArray[np.bool_], step: int) -> NDArray[Any]:
        """Return the images, transformed where `applies`.

        Args:
            images: ``[B, H, W, C]`` of uint8, or float32 in [0, 1].
            applies: ``bool[B]``.
            step: Which step, for the generators.

        Raises:
            ConfigError: A transform changes the shape or the dtype.
        """
        done = images.copy()
        for position in np.flatnonzero(applies):
            self._rekey(step * _POSITIONS + int(position))
            result = self._compose(image=images[position])["image"]
            if result.shape != images.shape[1:] or result.dtype != images.dtype:
                raise ConfigError(
                    f"augment: {self._culprit(images[position])} turns {images.dtype} images of "
                    f"shape {images.shape[1:]} into {result.dtype} {result.shape}; "
                    "the model needs the shape it was given"
                )
            done[position] = result
        return done

    def _rekey(self, position: int) -> None:
        state = self._state
        state["state"]["counter"][:] = (0, 0, 0, position)
        state["buffer_pos"] = 4
        state["has_uint32"] = 0
        self._bits.state = state
        self._python.seed(int(self._bits.random_raw()))

    def _culprit(self, image: NDArray[Any]) -> str:
        """Return the name of the first transform that changes shape or dtype when it applies."""
        for transform in self._compose.transforms:
            transform.p = 1.0
            result = transform(image=image)["image"]
            if result.shape != image.shape or result.dtype != image.dtype:
                return type(transform).__name__
        return "the list of transforms"
