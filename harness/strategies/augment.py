"""Augmentation: what happens to each image, from a named policy or an explicit list.

Flips and the padded crop of a policy are lowered to array operations; everything else is
Albumentations, imported only where it is needed. This module decides which transforms run; the
pipeline runs them, and `transform_list` reads explicit lists.
"""

import copy
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from harness.errors import listing
from harness.strategies.base import Facts, Flip, PadCrop, Probability, Tunable, Windowed, strategy
from harness.strategies.transform_list import Item, albumentations, build, leading_flips, try_out


@strategy("augment")
class Augment(Windowed):
    """Change each image at random in ways that keep its label.

    Policies: ``flip_crop`` flips where the dataset says that this keeps the label, and crops from
    an image padded by an eighth; ``standard`` adds rotation, zoom, brightness and contrast;
    ``strong`` goes further and adds shear, colour, sharpness or blur, and dropout. Every strength
    is relative to the image size. An explicit list replaces the policy; flips at its head are
    lowered like those of a policy.
    """

    model_config = ConfigDict(serialize_by_alias=True)
    stage: ClassVar[int] = 30

    policy: Literal["flip_crop", "standard", "strong"] = "standard"
    """Which transforms."""
    p: Annotated[Probability, Tunable(0.0, 1.0)] = 1.0
    """Share of images that are changed at all; the plan draws which."""
    magnitude: Annotated[Probability, Tunable(0.0, 1.0)] = 0.5
    """Strength of what ``standard`` and ``strong`` add to ``flip_crop``."""
    listed: tuple[Item, ...] | None = Field(default=None, alias="transforms", min_length=1)
    """Explicit list of ``{name: <Albumentations class>, …its parameters}``; in Python not named
    like its key, because `transforms` is the hook."""

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        given = sorted({"policy", "magnitude"} & self.model_fields_set)
        if self.listed is not None and given:
            raise ValueError(f"an explicit list of transforms leaves no use for {listing(given)}")
        if self.policy == "flip_crop" and "magnitude" in given:
            raise ValueError("policy 'flip_crop' has no magnitude")
        build(self.listed or ())
        return self

    def transforms(self, facts: Facts) -> list[Any]:
        """Return `Flip` and `PadCrop` first, then Albumentations transforms."""
        if self.listed is not None:
            head: list[Flip | PadCrop] = [*leading_flips(self.listed)]
            tail = build(self.listed[len(head) :])
        else:
            head, tail = _head(facts), self._tail(facts)
        return [*head, *tail]

    def _tail(self, facts: Facts) -> list[Any]:
        if self.policy == "flip_crop" or self.magnitude == 0.0:
            return []
        return {"standard": _standard, "strong": _strong}[self.policy](facts, self.magnitude)

    def unsuitable(self, facts: Facts) -> str | None:
        """Return a reason for a table, and for a list that fails on or resizes such an image."""
        if facts.kind == "table":
            return "there are no images in a table to augment"
        if self.listed is None:
            return None
        try:
            try_out(build(self.listed), facts.shape)
        except ValueError as error:
            return str(error)
        return None

    def redundant(self, facts: Facts) -> str | None:
        """Return a reason where no image would ever be changed."""
        return "p is 0, so no image is changed" if self.p == 0.0 else None

    def tunables(self) -> dict[str, Tunable]:
        """Return the search ranges, with ``transforms.<i>.p`` for each item of a list."""
        ranges = super().tunables()
        if self.listed is not None or self.policy == "flip_crop":
            del ranges["magnitude"]
        for i in range(len(self.listed or ())):
            ranges[f"transforms.{i}.p"] = Tunable(0.0, 1.0)
        return ranges

    def value(self, path: str) -> Any:
        """Return what stands at a path; the library's own p where an item gives none."""
        if path.startswith("transforms.") and self.listed is not None:
            return build(self.listed)[int(path.split(".")[1])].p
        return super().value(path)

    def with_values(self, values: Mapping[str, Any]) -> Self:
        """Return a copy with `values` put in; a path may lead into the list.

        Raises:
            pydantic.ValidationError: A path is unknown or a value is outside its legal range.
        """
        data = copy.deepcopy(self.model_dump(exclude_unset=True))
        for path, value in values.items():
            *place, key = path.split(".")
            node: Any = data
            try:
                for step in place:
                    node = node[int(step) if isinstance(node, list | tuple) else step]
                node[key] = value
            except (LookupError, TypeError, ValueError):
                data[path] = value  # which validation refuses by name
        return type(self).model_validate(data)


def _head(facts: Facts) -> list[Flip | PadCrop]:
    """Return the lowered part of every policy."""
    head: list[Flip | PadCrop] = []
    if facts.horizontal_flip:
        head.append(Flip("horizontal"))
    if facts.vertical_flip:
        head.append(Flip("vertical"))
    if padding := round(min(facts.shape[:2]) / 8):
        head.append(PadCrop(padding))
    return head


def _standard(facts: Facts, m: float) -> list[Any]:
    lib = albumentations()
    return [
        lib.Affine(rotate=(-30 * m, 30 * m), scale=_around_one(0.3 * m), keep_ratio=True, p=0.5),
        lib.RandomBrightnessContrast(0.4 * m, 0.4 * m, p=0.5),
    ]


def _strong(facts: Facts, m: float) -> list[Any]:
    lib = albumentations()
    height, width, channels = facts.shape
    light: dict[str, Any] = {name: _around_one(0.8 * m) for name in ("brightness", "contrast")}
    if channels == 3:
        colour = lib.ColorJitter(
            **light, saturation=_around_one(0.8 * m), hue=(-0.2 * m, 0.2 * m), p=0.8
        )
    else:
        colour = lib.RandomBrightnessContrast(0.8 * m, 0.8 * m, p=0.8)
    hole = (0.1, 0.1 + 0.4 * m)
    return [
        lib.Affine(
            rotate=(-60 * m, 60 * m),
            scale=_around_one(0.5 * m),
            translate_percent=(-0.2 * m, 0.2 * m),
            shear=(-30 * m, 30 * m),
            keep_ratio=True,
            p=0.8,
        ),
        colour,
        lib.OneOf(
            [
                lib.Sharpen(alpha=(0.0, m), p=1.0),
                lib.GaussianBlur(
                    blur_limit=0, sigma_limit=(0.0, 0.05 * m * min(height, width)), p=1.0
                ),
            ],
            p=0.4,
        ),
        lib.CoarseDropout(
            num_holes_range=(1, 1), hole_height_range=hole, hole_width_range=hole, fill=0, p=0.5
        ),
    ]


def _around_one(spread: float) -> tuple[float, float]:
    return 1.0 - spread, 1.0 + spread
