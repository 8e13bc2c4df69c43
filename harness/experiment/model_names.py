"""Names of the networks, known without importing torch.

The names of torchvision's and timm's networks are in ``published_models.json``, which ``make
model-names`` writes anew: importing either library takes seconds, and a plan has no other use for
it. Only of a name that is not in the list the installed library is asked, which may be newer.
Building a network is the business of `harness.training.models`.
"""

import functools
import importlib.util
import json
import math
from importlib import resources
from typing import Any

from harness.errors import ConfigError, did_you_mean, listing

OWN = ("tiny_cnn", "mlp", "resnet32", "resnet18")
"""Built here; ``resnet18`` is the one with the CIFAR stem, not torchvision's."""

SIZED = ("tiny_cnn", "mlp")
"""Those of `OWN` whose width is a parameter."""

LARGE = 24
"""Pixels of the shorter side from which on ``tiny_cnn`` halves the image at once."""

FOR_TABLES = ("mlp",)
"""Those that take rows of a table; they take images too."""

_STRIDES = {"resnet32": (2, 2), "resnet18": (2, 2, 2)}
"""Strides of those of `OWN` that have batch norm, but for ``tiny_cnn``."""

BATCH_OF_ONE = (
    "training.batch_size: 1: batch norm needs more than one value per channel, and the last maps "
    "of this network have one position at this image size; take a batch_size of 2 or more, larger "
    "images, or another model"
)
"""What to tell of a network that cannot be trained on one image at a time."""

TORCHVISION = "torchvision/"
TIMM = "timm/"

_TIMM_WEIGHTS = ("default", "true")
"""timm's own choice; other weights are named by the model's tag, ``timm/resnet50.a1_in1k``."""


def smallest_map(name: str, shape: tuple[int, ...]) -> int | None:
    """Return the positions of the smallest map that batch norm sees in one of our own networks.

    Args:
        name: Of the network.
        shape: ``(H, W, C)`` of the images.

    Returns:
        H · W of the last maps, or None for a network without batch norm or one of a library, which
        `harness.training.models.check_batch` tries.
    """
    if name == "tiny_cnn":
        strides: tuple[int, ...] = (2 if min(shape[:2]) >= LARGE else 1, 2, 2)
    elif name in _STRIDES:
        strides = _STRIDES[name]
    else:
        return None
    total = math.prod(strides)  # each rounds up, as one division by their product does
    return -(-shape[0] // total) * -(-shape[1] // total)


def model_names() -> list[str]:
    """Return every name but timm's: ours first, then torchvision's.

    A torchvision model that shares its name with one of ours has the prefix ``torchvision/``,
    which is allowed on all of them.
    """
    theirs = sorted(torchvision_names())
    return [*OWN, *(TORCHVISION + name if name in OWN else name for name in theirs)]


def check_model_name(name: str) -> None:
    """Check that a network of this name can be built here.

    Raises:
        ConfigError: The name is unknown, or timm is asked for and not installed.
    """
    if name.startswith(TIMM):
        if importlib.util.find_spec("timm") is None:
            raise ConfigError(
                "models timm/… need the package timm: pip install 'imbalance-harness[timm]'"
            )
        # a name may end in the tag of its weights: resnet50.a1_in1k
        plain = name.removeprefix(TIMM).partition(".")[0]
        if plain not in _listed()["timm"]["models"] and plain not in _installed_timm():
            raise _unknown(name, TIMM, _installed_timm())
    elif name.startswith(TORCHVISION):
        if not _in_torchvision(name.removeprefix(TORCHVISION)):
            raise _unknown(name, TORCHVISION, torchvision_names())
    elif name not in OWN and not _in_torchvision(name):
        known = model_names()
        raise ConfigError(
            f"unknown model '{name}'{did_you_mean(name, known)} "
            f"(available: {listing(known)}; timm/NAME with the extra)"
        )


def _in_torchvision(name: str) -> bool:
    return name in torchvision_names() or name in _installed_torchvision()


def _unknown(name: str, prefix: str, known: frozenset[str]) -> ConfigError:
    near = did_you_mean(name, (prefix + other for other in known))
    return ConfigError(f"unknown model '{name}'{near}")


def is_published(name: str, weights: str) -> bool:
    """Whether the library of a known model publishes weights of this name for it."""
    if name in OWN:
        return False
    if name.startswith(TIMM):
        return weights.lower() in _TIMM_WEIGHTS
    return plain_weights(weights) in _published_names(name.removeprefix(TORCHVISION))


def plain_weights(weights: str) -> str:
    """Return ``IMAGENET1K_V1`` of ``ResNet50_Weights.IMAGENET1K_V1``."""
    return weights.rpartition("_Weights.")[2]


def published_hint(name: str, weights: str) -> str:
    """Return which published weights a model has, as the end of a sentence."""
    if name in OWN:
        return f"'{name}' has no published weights: only torchvision's and timm's models have"
    if name.startswith(TIMM):
        return "timm's own weights are called DEFAULT"
    known = _published_names(name.removeprefix(TORCHVISION))
    if not known:
        return f"torchvision publishes none for '{name}'"
    near = did_you_mean(plain_weights(weights), known)
    return f"no published weights have that name{near} (available: {listing(known)})"


def torchvision_names() -> frozenset[str]:
    """Return torchvision's classification models, without a prefix."""
    return frozenset(_listed()["torchvision"]["models"])


def _published_names(model: str) -> tuple[str, ...]:
    known = _listed()["torchvision"]["models"]
    return tuple(known[model] if model in known else _installed_torchvision().get(model, ()))


@functools.cache
def _listed() -> dict[str, Any]:
    text = (resources.files("harness.experiment") / "published_models.json").read_text("utf-8")
    listed: dict[str, Any] = json.loads(text)
    return listed


@functools.cache
def _installed_torchvision() -> dict[str, tuple[str, ...]]:
    """Return the names of published weights by model, as the installed torchvision has them."""
    from torchvision import models

    return {
        name: tuple(models.get_model_weights(name).__members__)
        for name in models.list_models(module=models)
    }


@functools.cache
def _installed_timm() -> frozenset[str]:
    import timm

    return frozenset(timm.list_models())
