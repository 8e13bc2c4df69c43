"""Explicit lists of Albumentations transforms: read, checked, tried out.

Version 2.0.8 warns of an argument that it does not know and goes on with its defaults; here that
is an error with the nearest name. Importing this module imports no Albumentations.
"""

import inspect
import os
import warnings
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue, ValidationError

from harness.errors import did_you_mean, listing
from harness.strategies.base import Flip

Item = dict[str, JsonValue]
"""``{name: <class>, …parameters}``; a group has its own list under ``transforms``."""

_FLIPS: dict[object, Literal["horizontal", "vertical"]] = {
    "HorizontalFlip": "horizontal",
    "VerticalFlip": "vertical",
}
_CONVERTERS = ("Normalize", "ToTensorV2", "ToTensor3D", "ToFloat", "FromFloat")
_BASES = ("BasicTransform", "DualTransform", "ImageOnlyTransform", "Transform3D", "BaseCompose")
_NOT_HERE = (*_BASES, *_CONVERTERS, "Compose", "ReplayCompose", "Lambda")


def albumentations() -> Any:
    """Return the library, imported on first use."""
    # Importing it would otherwise ask a server for a newer version.
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations

    return albumentations


def leading_flips(items: Iterable[Item]) -> list[Flip]:
    """Return the flips at the head of a list as array operations."""
    flips = []
    for item in items:
        p = item.get("p", 0.5)
        if item["name"] not in _FLIPS or not isinstance(p, int | float):
            break
        flips.append(Flip(_FLIPS[item["name"]], p))
    return flips


def build(items: Iterable[Item]) -> list[Any]:
    """Return the Albumentations transforms of an explicit list.

    Raises:
        ValueError: A name, a parameter or a value is wrong; the message says where.
    """
    return [_build(item, f"transforms[{i}]") for i, item in enumerate(items)]


def _build(item: Any, where: str) -> Any:
    if not isinstance(item, dict) or not isinstance(item.get("name"), str):
        raise ValueError(f"{where}: an item is a mapping with the name of a transform")
    name = item["name"]
    where = f"{where} {name}"
    known = _usable()
    if name in _CONVERTERS:
        raise ValueError(f"{where}: leave it out; the harness normalises and converts images")
    if name in ("Compose", "ReplayCompose"):
        raise ValueError(f"{where}: a nested list is a Sequential")
    if name not in known:
        raise ValueError(f"{where}: no such image transform{did_you_mean(name, known)}")
    parameters = {key: value for key, value in item.items() if key != "name"}
    _check_names(known[name], parameters, where)
    if issubclass(known[name], albumentations().BaseCompose):
        _check_group(parameters, where)
        parameters["transforms"] = [
            _build(child, f"{where}.transforms[{i}]")
            for i, child in enumerate(parameters["transforms"])
        ]
    return _construct(known[name], parameters, where)


def _usable() -> dict[str, type]:
    """Return the classes that an explicit list may name."""
    lib = albumentations()
    return {
        name: kind
        for name, kind in vars(lib).items()
        if isinstance(kind, type)
        and issubclass(kind, (lib.BasicTransform, lib.BaseCompose))
        and not issubclass(kind, lib.Transform3D)
        and name not in _NOT_HERE
    }


def _check_names(kind: type, parameters: Mapping[str, Any], where: str) -> None:
    # Albumentations only warns of an unknown argument, and then runs with the defaults.
    accepted = set(inspect.signature(kind).parameters) - {"strict", "first", "second"}
    for key in parameters:
        if key not in accepted:
            raise ValueError(
                f"{where}: unknown parameter '{key}'{did_you_mean(key, accepted)} "
                f"(accepts: {listing(sorted(accepted))})"
            )


def _check_group(parameters: dict[str, Any], where: str) -> None:
    # Unlike single transforms, groups check nothing themselves.
    children = parameters.get("transforms")
    if not isinstance(children, list) or not children:
        raise ValueError(f"{where}: a group needs a list of transforms")
    p = parameters.get("p", 1.0)
    if not isinstance(p, int | float) or not 0.0 <= p <= 1.0:
        raise ValueError(f"{where}: p must be between 0 and 1, not {p}")
    if not any(isinstance(child, dict) and child.get("p", 1.0) for child in children):
        raise ValueError(f"{where}: every transform of the group has p: 0")
    n = parameters.get("n", 1)
    most = np.inf if parameters.get("replace", False) else len(children)
    if not isinstance(n, int) or not 1 <= n <= most:
        raise ValueError(f"{where}: n must be between 1 and {most}, not {n}")


def _construct(kind: Any, parameters: dict[str, Any], where: str) -> Any:
    # Which class of the ancestry takes `strict`, under which every mistake raises, is not uniform.
    owner = next(base for base in kind.__mro__ if "__init__" in vars(base))
    strict = "InitSchema" in vars(owner)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if strict else "error")
        warnings.filterwarnings("error", message=".*automatically adjusted")
        try:
            return kind(**parameters, strict=True) if strict else kind(**parameters)
        except Exception as error:  # the library raises many types for a wrong value
            raise ValueError(f"{where}: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    """Return one line of an error, without the links that pydantic adds."""
    cause = error.__cause__
    if not isinstance(cause, ValidationError):
        return str(error)
    return "; ".join(
        ": ".join(
            [
                *(str(part) for part in detail["loc"][:1]),
                detail["msg"].removeprefix("Value error, "),
            ]
        )
        for detail in cause.errors()
    )


def try_out(transforms: Iterable[Any], shape: tuple[int, ...]) -> None:
    """Run every transform once, whatever its probability, on a black uint8 image.

    Args:
        transforms: As from `build`.
        shape: ``(H, W, C)``.

    Raises:
        ValueError: One fails on such an image, or the result has another shape or dtype.
    """
    image = np.zeros(shape, np.uint8)
    culprit = ""
    for transform in transforms:
        before, image = image, _run(transform, image)
        if (before.shape, before.dtype) == (image.shape, image.dtype):
            continue
        culprit = type(transform).__name__
        if transform.p < 1.0:
            raise ValueError(
                f"{culprit} turns images of {_size(before.shape)} into {_size(image.shape)}, but "
                "only sometimes; give it p: 1"
            )
    if (image.shape, image.dtype) != (shape, np.dtype(np.uint8)):
        raise ValueError(
            f"{culprit} leaves images of {_size(shape)} as {_size(image.shape)} {image.dtype}; "
            "a list must keep size and type (the dataset's image_size resizes)"
        )


def _run(transform: Any, image: NDArray[Any]) -> NDArray[Any]:
    lib = albumentations()
    if transform.p == 0.0:
        return image
    if isinstance(transform, lib.Sequential):
        for child in transform.transforms:
            image = _run(child, image)
        return image
    if isinstance(transform, lib.OneOf | lib.OneOrOther | lib.SomeOf):
        results = [_run(child, image) for child in transform.transforms]
        return next((r for r in results if r.shape != image.shape), results[0])
    transform.set_random_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            result: NDArray[Any] = transform(image=image, force_apply=True)["image"]
        except Exception as error:  # whatever the library or OpenCV raises here is the finding
            name = type(transform).__name__
            raise ValueError(f"{name} fails on images of {_size(image.shape)}: {error}") from None
    return result


def _size(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))
