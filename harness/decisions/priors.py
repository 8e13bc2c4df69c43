"""Class priors: the one that outputs carry, and the one that decisions are made for."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from harness.errors import ConfigError, did_you_mean, listing

Floats = NDArray[np.float64]

Deployment = Literal["balanced", "train"] | Mapping[str, float]
"""How classes are distributed where decisions are made, as an experiment file names it."""

_SUM = 1e-6
"""How far shares may sum from 1: those of a file have six digits or more."""


@dataclass(frozen=True)
class TrainedPrior:
    """Which class shares the softmax of a model is relative to.

    Attributes:
        shares: ``float64[C]``, of sum 1 and all above 0; None where it is not known.
        reason: Why it is not known, or empty.
        notes: What the user should know.
    """

    shares: Floats | None
    reason: str = ""
    notes: tuple[str, ...] = field(default=())

    @classmethod
    def unknown(cls, reason: str) -> "TrainedPrior":
        """Return a prior of which only is known why it is not."""
        return cls(None, reason)

    @classmethod
    def of(cls, mass: Any, class_names: Sequence[str]) -> "TrainedPrior":
        """Return the prior of label mass per class.

        A class without mass was never trained for: how far it would have to be moved is not
        known, and it is moved as far as the rarest class that has some.

        Args:
            mass: ``[C]``, finite and not negative, of any sum above 0.
            class_names: C display names.

        Raises:
            ValueError: As said of `mass`.
        """
        mass = np.asarray(mass, np.float64)
        if not np.isfinite(mass).all() or mass.min() < 0 or not mass.max() > 0:
            raise ValueError(f"label mass per class must be finite, ≥ 0 and not all 0: {mass}")
        missing = np.flatnonzero(mass == 0)
        notes = tuple(
            f"class '{class_names[k]}' was never trained: it is moved as the rarest that was"
            for k in missing.tolist()
        )
        filled = np.where(mass > 0, mass, mass[mass > 0].min())
        return cls(filled / filled.sum(), "", notes)


def deployment(
    wanted: Deployment, train_counts: NDArray[np.integer[Any]], class_names: Sequence[str]
) -> Floats:
    """Return the class shares that decisions are made for, ``float64[C]``.

    Args:
        wanted: ``balanced``, ``train`` (as the original training rows), or a share of each class.
        train_counts: ``int64[C]``, original training rows.
        class_names: C display names.

    Raises:
        ConfigError: A share is not above 0, a class is unknown or left out, or the sum is not 1.
    """
    classes = len(class_names)
    if wanted == "balanced":
        return np.full(classes, 1 / classes)
    if wanted == "train":
        counts = np.asarray(train_counts, np.float64)
        if not (counts > 0).all():
            empty = listing(class_names[k] for k in np.flatnonzero(counts <= 0).tolist())
            raise ConfigError(
                f"deploy 'train': no training row of class {empty}, which nothing could be decided "
                "for; give a share of each class"
            )
        return np.asarray(counts / counts.sum())
    if isinstance(wanted, str):
        near = did_you_mean(wanted, ("balanced", "train"))
        raise ConfigError(
            f"deploy: unknown prior '{wanted}'{near} (allowed: balanced, train, or a share per "
            "class)"
        )
    return _given(wanted, class_names)


def _given(wanted: Mapping[str, float], class_names: Sequence[str]) -> Floats:
    shares = by_class(wanted, class_names, "deploy")
    if not (shares > 0).all():
        name = class_names[int(np.flatnonzero(~(shares > 0))[0])]
        raise ConfigError(
            f"deploy: the share of class '{name}' is {wanted[name]:g}; it must be above 0 "
            "(a class that hardly ever occurs has a small one)"
        )
    total = float(shares.sum())
    if abs(total - 1) > _SUM:
        raise ConfigError(f"deploy: the shares sum to {total:.7g}, not to 1")
    return shares / total


def by_class(values: Mapping[str, float], class_names: Sequence[str], where: str) -> Floats:
    """Return one finite number per class, ``float64[C]``, in label order.

    Raises:
        ConfigError: A class is unknown or left out, or a value is no finite number.
    """
    check_classes(values, class_names, f"{where}: unknown", f"{where}: nothing is given for")
    for name, value in values.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not np.isfinite(value):
            raise ConfigError(f"{where}: '{name}' has {value!r}, not a finite number")
    return np.array([values[name] for name in class_names], np.float64)


def check_classes(
    named: Iterable[str],
    class_names: Sequence[str],
    unknown: str,
    missing: str,
    what: str = "class",
) -> None:
    """Refuse names of which one is no class, or that leave a class out.

    Args:
        named: What is named.
        class_names: C display names.
        unknown: How the message on a name that is no class begins.
        missing: How the message on a class that is left out begins.
        what: What a name is of, such as ``true class``.

    Raises:
        ConfigError: As said.
    """
    named = list(named)
    for name in named:
        if name not in class_names:
            raise ConfigError(
                f"{unknown} {what} '{name}'{did_you_mean(name, class_names)} "
                f"(the classes: {listing(class_names)})"
            )
    if left_out := [name for name in class_names if name not in named]:
        raise ConfigError(f"{missing} {what} {listing(left_out)}")
