"""Names of the networks, known without importing torch.

torchvision's and timm's names are read off their source, where every model stands under the
decorator ``@register_model``: importing either library takes seconds, and a plan has no other use
for it. Building a network is the business of `harness.training.models`.
"""

import functools
import importlib.util
import re
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


def torchvision_names() -> frozenset[str]:
    """Return torchvision's classification models, without a prefix."""
    return _registered("torchvision")


def _timm_names() -> frozenset[str]:
    if importlib.util.find_spec("timm") is None:
        raise ConfigError(
            "models timm/… need the package timm: pip install 'imbalance-harness[timm]'"
        )
    return _registered("timm")


@functools.cache
def _registered(package: str) -> frozenset[str]:
    """Return the names under ``@register_model`` in ``package/models/*.py``, by source."""
    spec = importlib.util.find_spec(package)  # finds a top-level package without importing it
    places = [] if spec is None else spec.submodule_search_locations or []
    files = (file for place in places for file in (Path(place) / "models").glob("*.py"))
    return frozenset(
        match["name"] or match["function"]
        for file in sorted(files)
        for match in _REGISTERED.finditer(file.read_text(encoding="utf-8"))
    )
