"""Names of the networks, known without importing torch.

torchvision's and timm's names are read off their source, where every model stands under the
decorator ``@register_model``: importing either library takes seconds, and a plan has no other use
for it. Building a network is the business of `harness.training.models`.
"""

import functools
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

from harness.errors import ConfigError, did_you_mean, listing

OWN = ("tiny_cnn", "mlp", "resnet32", "resnet18")
"""Built here; ``resnet18`` is the one with the CIFAR stem, not torchvision's."""

SIZED = ("tiny_cnn", "mlp")
"""Those of `OWN` whose width is a parameter."""

FOR_TABLES = ("mlp",)
"""Those that take rows of a table; they take images too."""

TORCHVISION = "torchvision/"
TIMM = "timm/"

_TIMM_WEIGHTS = ("default", "true")
"""timm's own choice; other weights are named by the model's tag, ``timm/resnet50.a1_in1k``."""

_ENUM = re.compile(r"^class (\w+_Weights)\(WeightsEnum\):\n((?:(?:    .*)?\n)*)", re.MULTILINE)
_MEMBER = re.compile(r"^    ([A-Z]\w*) = ", re.MULTILINE)
_TAKES = re.compile(
    r"^def (\w+)\(\s*\*?,?\s*weights: (?:Optional\[)?[\"']?(\w+_Weights)", re.MULTILINE
)
_REGISTERED = re.compile(
    r"^@register_model(?:\((?:name=)?(?:[\"'](?P<name>\w+)[\"'])?\))?\s*?$"
    r".*?^def (?P<function>\w+)\(",
    re.MULTILINE | re.DOTALL,
)


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
        _check(name, TIMM, _timm_names())
    elif name.startswith(TORCHVISION):
        _check(name, TORCHVISION, torchvision_names())
    elif name not in OWN and name not in torchvision_names():
        known = model_names()
        raise ConfigError(
            f"unknown model '{name}'{did_you_mean(name, known)} "
            f"(available: {listing(known)}; timm/NAME with the extra)"
        )


def _check(name: str, prefix: str, known: frozenset[str]) -> None:
    # a timm name may end in the tag of its weights: resnet50.a1_in1k
    plain = name.removeprefix(prefix)
    if prefix == TIMM:
        plain = plain.partition(".")[0]
    if plain not in known:
        near = did_you_mean(name, (prefix + other for other in known))
        raise ConfigError(f"unknown model '{name}'{near}")


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
    return _registered("torchvision")


def _timm_names() -> frozenset[str]:
    if importlib.util.find_spec("timm") is None:
        raise ConfigError(
            "models timm/… need the package timm: pip install 'imbalance-harness[timm]'"
        )
    return _registered("timm")


def _published_names(model: str) -> tuple[str, ...]:
    return _torchvision_weights().get(model, ())


@functools.cache
def _torchvision_weights() -> dict[str, tuple[str, ...]]:
    """Return the names of published weights by model, by source."""
    found: dict[str, tuple[str, ...]] = {}
    for text in _sources("torchvision"):
        enums = {name: tuple(_MEMBER.findall(body)) for name, body in _ENUM.findall(text)}
        found |= {model: enums[enum] for model, enum in _TAKES.findall(text) if enum in enums}
    return found


@functools.cache
def _registered(package: str) -> frozenset[str]:
    """Return the names under ``@register_model`` in ``package/models/*.py``, by source."""
    return frozenset(
        match["name"] or match["function"]
        for text in _sources(package)
        for match in _REGISTERED.finditer(text)
    )


def _sources(package: str) -> Iterator[str]:
    """Yield the source of each file ``package/models/*.py``."""
    spec = importlib.util.find_spec(package)  # finds a top-level package without importing it
    places = [] if spec is None else spec.submodule_search_locations or []
    for place in places:
        for file in sorted((Path(place) / "models").glob("*.py")):
            yield file.read_text(encoding="utf-8")
