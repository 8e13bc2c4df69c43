"""Drawn shapes: any number of classes at any size, for tests and benchmarks, without a file.

A class is a combination of what is drawn (10 shapes), in which colour (5), how often (1–4) and on
which ground (5): the first ten classes differ by shape alone, and a thousand are told apart by
all four. Every shape and ground is its own mirror image, so that a horizontal flip keeps the
label. Position, size, tilt, colour and noise are random; the image of a row depends on the seed,
the row and the parameters, and on nothing else.
"""

from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from harness.datasets.base import TEST, ImageDataset, Index, content_of, dataset
from harness.streams import stream

COLOURS = {
    "yellow": (235, 215, 60),
    "red": (225, 70, 60),
    "green": (80, 200, 90),
    "blue": (80, 130, 245),
    "white": (235, 235, 235),
}
GREYS = {"bright": 240, "light": 205, "medium": 170, "dim": 135, "dark": 100}
MOST = 4
GROUNDS = ("plain", "rows", "columns", "checks", "framed")

_SHIFT = 4  # OpenCV takes coordinates in 1/16 pixel
_COLOUR_JITTER = 14
_NOISE = 8


@dataset("shapes")
class Shapes(ImageDataset):
    """Drawn shapes in any number of classes and at any size, for tests and benchmarks."""

    classes: Annotated[int, Field(ge=2, le=1000)] = 10
    """Number of classes."""
    size: Annotated[int, Field(ge=8, le=1024)] = 32
    """Height and width in pixels."""
    per_class: Annotated[int, Field(ge=2)] = 200
    """Images of each class, train and test together; `test_fraction` of them are the test set."""
    channels: Literal[1, 3] = 3
    """Grey or RGB."""
    seed: Annotated[int, Field(ge=0, lt=2**64)] = 0
    """Decides every image."""

    @model_validator(mode="after")
    def _test_leaves_training_rows(self) -> Self:
        if not 0 < self._tests_per_class() < self.per_class:
            raise ValueError(
                f"test_fraction {self.test_fraction:g} of {self.per_class} images per class "
                "leaves no training or no test image; raise per_class"
            )
        return self

    def _tests_per_class(self) -> int:
        return max(1, round(self.per_class * self.test_fraction))

    def index(self) -> Index:
        """Return labels and fingerprint; draws nothing."""
        labels = np.tile(np.arange(self.classes, dtype=np.int64), self.per_class)
        split = np.zeros(len(labels), np.int8)
        split[len(labels) - self.classes * self._tests_per_class() :] = TEST
        return Index(
            labels=labels,
            class_names=tuple(_class_name(k, self.channels) for k in range(self.classes)),
            content=content_of("shapes", self.version, self._drawn_from(), split),
            shape=(self.size, self.size, self.channels),
            split=split,
        )

    def _drawn_from(self) -> dict[str, int]:
        return self.model_dump(include={"classes", "size", "per_class", "channels", "seed"})

    def read(self, index: Index) -> NDArray[np.uint8]:
        """Draw the images, ``uint8[N, size, size, channels]``."""
        images = np.empty((len(index.labels), *index.shape), np.uint8)
        for row, label in enumerate(index.labels):
            rng = stream(self.seed, "shapes", row)
            images[row] = _draw(int(label), self.size, self.channels, rng)
        return images


def _traits(label: int) -> tuple[int, int, int, int]:
    """Return kind, colour, count and ground of a class; the kind changes fastest."""
    rest, kind = divmod(label, len(KINDS))
    rest, colour = divmod(rest, len(COLOURS))
    ground, count = divmod(rest, MOST)
    return kind, colour, count, ground


def _class_name(label: int, channels: int) -> str:
    kind, colour, count, ground = _traits(label)
    shade = list(COLOURS if channels == 3 else GREYS)[colour]
    number = "" if count == 0 else f"{count + 1} × "
    name = f"{number}{shade} {KINDS[kind]}"
    return name if ground == 0 else f"{name} on {GROUNDS[ground]}"


def _draw(label: int, size: int, channels: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return one image, ``uint8[size, size, channels]``."""
    import cv2

    kind, colour, count, ground = _traits(label)
    image = _ground(ground, size, channels, rng)
    paint = _paint(colour, channels, rng)
    cell = size if count == 0 else size / 2
    for place in rng.permutation(4)[: count + 1] if count else (0,):
        radius = cell * rng.uniform(0.30, 0.42)
        room = 0.8 * (cell / 2 - radius)
        corner = np.array([place % 2, place // 2]) * cell
        centre = corner + cell / 2 + rng.uniform(-room, room, 2)
        turn = _rotation(rng.uniform(-0.15, 0.15))
        contours = [
            np.round((centre + radius * contour @ turn - 0.5) * 2**_SHIFT).astype(np.int32)
            for contour in _OUTLINES[KINDS[kind]]
        ]
        # an inner contour is a hole: fillPoly fills by the even-odd rule
        cv2.fillPoly(image, contours, paint, lineType=cv2.LINE_AA, shift=_SHIFT)
    noise = rng.integers(-_NOISE, _NOISE + 1, image.shape, dtype=np.int16)
    drawn: NDArray[np.uint8] = np.clip(image.astype(np.int16) + noise, 0, 255).astype(np.uint8)
    return drawn


def _paint(colour: int, channels: int, rng: np.random.Generator) -> list[int]:
    base = list(COLOURS.values())[colour] if channels == 3 else [list(GREYS.values())[colour]]
    jitter = rng.integers(-_COLOUR_JITTER, _COLOUR_JITTER + 1, channels)
    return [int(value) for value in np.clip(np.array(base) + jitter, 0, 255)]


def _ground(ground: int, size: int, channels: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a dark ground with one of the patterns, ``uint8[size, size, channels]``."""
    y, x = np.indices((size, size))
    period = max(2, size // 8)
    y_stripe, x_stripe = ((axis + rng.integers(2 * period)) // period % 2 for axis in (y, x))
    rim = max(1, size // 16)
    near_rim = np.minimum(np.minimum(y, x), size - 1 - np.maximum(y, x)) < rim
    pattern = (np.zeros_like(y), y_stripe, x_stripe, y_stripe ^ x_stripe, near_rim)[ground]
    level = rng.integers(10, 35, channels)
    drawn: NDArray[np.uint8] = (level + 40 * pattern[..., None]).astype(np.uint8)
    return drawn


def _rotation(angle: float) -> NDArray[np.float64]:
    return np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


def _polygon(corners: int, radius: float = 1.0, start: float = -np.pi / 2) -> NDArray[np.float64]:
    angle = start + 2 * np.pi * np.arange(corners) / corners
    return radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _star() -> NDArray[np.float64]:
    points = _polygon(10)
    points[1::2] *= 0.4
    return points


def _cross() -> NDArray[np.float64]:
    """Return a plus sign, corner by corner around the middle."""
    arm = 0.3
    quarter = np.array([[-arm, -1.0], [arm, -1.0], [arm, -arm]])
    return np.concatenate([quarter @ _rotation(turn * np.pi / 2) for turn in range(4)])


_BAR = np.array([[-1.0, -0.35], [1.0, -0.35], [1.0, 0.35], [-1.0, 0.35]])

_OUTLINES: dict[str, list[NDArray[np.float64]]] = {
    "circle": [_polygon(48, 0.95)],
    "square": [_polygon(4, 1.15, -np.pi / 4)],
    "triangle": [_polygon(3, 1.1)],
    "cross": [_cross()],
    "star": [_star() * 1.1],
    "ring": [_polygon(48), _polygon(48, 0.6)],
    "diamond": [_polygon(4, 1.1) * (0.75, 1.0)],
    "saltire": [_cross() @ _rotation(np.pi / 4)],
    "bar": [_BAR],
    "pillar": [_BAR[:, ::-1]],
}
KINDS = tuple(_OUTLINES)
