"""The part of an augmentation that is not lowered: Albumentations, image by image, on the CPU.

Albumentations 2.0.8 keeps its own generators and ignores global seeds; here they are replaced by
one NumPy and one Python generator that are placed anew before every image by (seed, step,
position), so that an image's augmentation depends on nothing that came before it.
"""

import os
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import ConfigError
from harness.streams import Stream
from harness.training.transform_calls import Image, call_of

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

        self._stream = Stream(seed, name)
        self._python = random.Random(0)
        # it hands generators and settings on to every transform, those inside groups too
        self._compose = albumentations.Compose(list(transforms))
        self._compose.set_random_state(self._stream.at(0), self._python)
        self._calls = [call_of(transform, self._python) for transform in transforms]

    def __call__(self, images: Image, applies: NDArray[np.bool_], step: int) -> Image:
        """Return the images, transformed where `applies`.

        Args:
            images: ``[B, H, W, C]`` of uint8, or float32 in [0, 1].
            applies: ``bool[B]``.
            step: Which step, for the generators.

        Raises:
            ConfigError: A transform changes the shape or the dtype.
        """
        done = np.empty_like(images)
        done[~applies] = images[~applies]
        shape, dtype = images.shape[1:], images.dtype
        for position in np.flatnonzero(applies).tolist():
            self._place(step * _POSITIONS + position)
            result = images[position]
            for call in self._calls:
                result = call(result)
            if result.shape != shape or result.dtype != dtype:
                raise ConfigError(
                    f"augment: {self._culprit(images[position])} turns {images.dtype} images of "
                    f"shape {images.shape[1:]} into {result.dtype} {result.shape}; "
                    "the model needs the shape it was given"
                )
            done[position] = result
        return done

    def _place(self, position: int) -> None:
        bits: Any = self._stream.at(position).bit_generator
        self._python.seed(int(bits.random_raw()))
        self._python.random()  # by which `Compose` decides whether to run at all

    def _culprit(self, image: Image) -> str:
        """Return the name of the first transform that changes shape or dtype when it applies."""
        for transform in self._compose.transforms:
            transform.p = 1.0
            result = transform(image=image)["image"]
            if result.shape != image.shape or result.dtype != image.dtype:
                return type(transform).__name__
        return "the list of transforms"
