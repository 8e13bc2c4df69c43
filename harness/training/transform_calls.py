"""What one Albumentations transform does to one image, without what it does for other targets.

`Compose` checks its arguments again for every image, every transform prepares for masks, boxes and
keypoints too, and on a small image that costs more than the pixels. The images that come out are
the same to the bit as those of Albumentations 2.0.8, to which the project is pinned.
"""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Image = NDArray[Any]

_OPENCV_CHANNELS = 4
_AWAY = 1e-3
"""An affine matrix with an entry so far from the identity's is surely not close to it."""


def call_of(transform: Any, python: random.Random) -> Callable[[Image], Image]:
    """Return a function of an image, ``[H, W, C]``, that does what the transform does to it.

    Args:
        transform: An Albumentations transform or group of transforms.
        python: The generator by which it decides whether it applies.
    """
    from albumentations import Affine
    from albumentations.core.transforms_interface import BasicTransform

    own = type(transform)
    plain = (
        isinstance(transform, BasicTransform)
        and "image" in transform._key2func
        and all(
            getattr(own, name) is getattr(BasicTransform, name)
            for name in ("__call__", "should_apply", "apply_with_params")
        )
    )
    if not plain:  # a group, or a transform that does more
        return lambda image: transform(image=image)["image"]
    if own is Affine and not transform.fit_output:
        return _sometimes(transform, python, _affine(transform, python))
    return _sometimes(transform, python, _plain(transform))


def _sometimes(
    transform: Any, python: random.Random, apply: Callable[[Image], Image]
) -> Callable[[Image], Image]:
    """Apply with the transform's probability, drawn as ``BasicTransform.should_apply`` does."""
    share = transform.p

    def call(image: Image) -> Image:
        if share <= 0.0 or (share < 1.0 and python.random() >= share):
            return image
        return np.ascontiguousarray(apply(np.ascontiguousarray(image)))

    return call


def _plain(transform: Any) -> Callable[[Image], Image]:
    """Return what ``BasicTransform.__call__`` does to the image."""
    target: Callable[..., Image] = transform._key2func["image"]

    def apply(image: Image) -> Image:
        data = {"image": image}
        params = transform.update_transform_params(params=transform.get_params(), data=data)
        params.update(transform.get_params_dependent_on_data(params=params, data=data))
        return target(image, **params)

    return apply


def _affine(transform: Any, python: random.Random) -> Callable[[Image], Image]:
    """Return what `Affine` does to the image; it would build a second matrix, for boxes."""
    import cv2
    from albumentations.augmentations.geometric import functional as geometric

    whole = _plain(transform)
    identity = np.eye(3)

    def apply(image: Image) -> Image:
        height, width, channels = image.shape
        if channels > _OPENCV_CHANNELS:
            return whole(image)
        shape = (height, width)
        translate = transform._get_translate_params(shape)
        shear = transform._get_shear_params()
        ratio, balanced = transform.keep_ratio, transform.balanced_scale
        scale = transform._get_scale(transform.scale, ratio, balanced, python)
        rotate = python.uniform(*transform.rotate)
        matrix = geometric.create_affine_transformation_matrix(
            translate, shear, scale, rotate, geometric.center(shape)
        )
        away = np.abs(matrix - identity).max() > _AWAY
        if not away and geometric.is_identity_matrix(matrix):
            return image
        warped: Image = cv2.warpAffine(
            image,
            matrix[:2],
            (width, height),
            flags=transform.interpolation,
            borderMode=transform.border_mode,
            borderValue=geometric.extend_value(transform.fill, channels),
        )
        return warped.reshape(image.shape)

    return apply
