"""The contract of a metric: one number for a split, with how it is computed and read.

A metric is computed from stored predictions, so a new one needs no training: it is one small file,
in or outside the package::

    from typing import Annotated, ClassVar
    from pydantic import Field
    from harness.metrics.base import Metric, Split, metric

    @metric("recall_at_least")
    class RecallAtLeast(Metric):
        \"\"\"Share of the classes whose recall is at least so high.\"\"\"

        least: Annotated[float, Field(ge=0.0, le=1.0)] = 0.5

        def value(self, split: Split) -> float | None:
            known = split.recall[split.support > 0]
            return float((known >= self.least).mean())

An experiment file names it by ``metric: {name: recall_at_least, least: 0.8}``, or under
``metrics:`` beside the primary one.
"""

import functools
import inspect
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from harness.errors import ConfigError, listing
from harness.metrics.classes import rarest
from harness.metrics.split import Floats, Ints, Split, mean
from harness.metrics.unit import PLAIN, POINTS, Unit
from harness.registry import metrics

__all__ = [
    "PLAIN",
    "POINTS",
    "Floats",
    "Ints",
    "Metric",
    "OfClass",
    "Source",
    "Split",
    "Unit",
    "key_of",
    "mean",
    "metric",
    "metric_of",
]

metric = metrics.register

Source = Literal["decisions", "probabilities"]


class Metric(BaseModel):
    """One number for a split; its fields are its parameters, validated strictly.

    Raise `version` whenever the same parameters come to mean something else: where a metric chooses
    weights (``select: best``), runs of before are then not taken for what they are not.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True
    )

    name: ClassVar[str] = ""
    version: ClassVar[int] = 1
    higher_is_better: ClassVar[bool] = True
    source: ClassVar[Source] = "decisions"
    """What it is computed from: where a decision rule is applied, only decisions change."""
    unit: ClassVar[Unit] = POINTS
    """`POINTS` for a share, which is written in per cent, or `PLAIN`."""
    words: ClassVar[str] = ""
    """What it is called in a sentence; by default its name with spaces."""
    quick: ClassVar[bool] = False
    """Whether it is cheap enough for every evaluation on val during training."""

    def value(self, split: Split) -> float | None:
        """Return the metric of a split, or None where it is not defined there (never 0 for that).

        By default the weighted sum of the scores of its images, for a metric that has them.
        """
        weights = self.image_weights(split.labels, split.train_counts, split.class_names)
        if weights is None:
            raise NotImplementedError(f"metric '{self.name}' overrides value or image_weights")
        return float(weights @ self.image_scores(split)) if weights.any() else None

    def image_weights(
        self, labels: Ints, train_counts: Ints, class_names: Sequence[str] = ()
    ) -> Floats | None:
        """Return the share of each image in the metric, ``float64[n]`` with sum 1.

        None, the default, for a metric that does not split into images: then nothing is said of new
        images. All zero where the metric is not defined on these labels.

        Args:
            labels: ``int64[n]``.
            train_counts: ``int64[C]``, original training samples per class.
            class_names: C display names, where they are known.
        """
        return None

    def image_scores(self, split: Split) -> NDArray[np.floating]:
        """Return a number per image whose sum, weighted by `image_weights`, is the metric.

        For a metric that is no plain mean, its influence function shifted so that the sum is right
        (the delta method).
        """
        raise NotImplementedError

    def unsuitable(self, class_names: Sequence[str], train_counts: Ints) -> str | None:
        """Return why this metric has no meaning for these classes, or None.

        Args:
            class_names: C display names.
            train_counts: ``int64[C]``, original training samples per class.
        """
        return None

    def in_words(self) -> str:
        """Return what it is called in a sentence."""
        said = self.words or self.name.replace("_", " ")
        inner = ", ".join(f"{key} {_plain(value)}" for key, value in self.parameters().items())
        return f"{said} ({inner})" if inner else said

    def parameters(self) -> dict[str, Any]:
        """Return the parameters that differ from their defaults, as plain JSON values."""
        return self.model_dump(mode="json", exclude_defaults=True)

    def label(self) -> str:
        """Return what tables call it, ``f_beta(beta=3)``; `metric_of` reads it back."""
        inner = ",".join(f"{key}={_plain(value)}" for key, value in self.parameters().items())
        return f"{self.name}({inner})" if inner else self.name

    def key(self) -> str:
        """Return the label in the characters that MLflow takes: ``f_beta_beta_3``."""
        return key_of(self.label())

    def span(self) -> float:
        """Return the largest difference that two values can have: 1 of a share, else no limit."""
        return 1.0 if self.unit is POINTS else math.inf

    @classmethod
    def splits_into_images(cls) -> bool:
        """Whether it is a sum over images, so that new images can be spoken of."""
        return cls.image_weights is not Metric.image_weights

    @classmethod
    def summary(cls) -> str:
        """Return the first line of the docstring."""
        return (inspect.getdoc(cls) or "").split("\n", 1)[0]


class OfClass(Metric):
    """A metric of one class against the rest: the rarest in training, or the one that is named.

    Attributes:
        positive: Name of the class; needed where several are equally rare.
    """

    positive: str | int | None = None

    def value(self, split: Split) -> float | None:
        """Return the metric of the class, or None where it or the rest has no sample."""
        k = split.index_of(self.positive)
        if k is None or not split.support[k] > 0:
            return None
        return self.of_class(split, k)

    def of_class(self, split: Split, k: int) -> float | None:
        """Return the metric of class `k`, which the split has samples of."""
        raise NotImplementedError

    def unsuitable(self, class_names: Sequence[str], train_counts: Ints) -> str | None:
        """Return that there is no such class, or that several are equally rare."""
        if self.positive is None:
            return (
                None
                if rarest(train_counts) is not None
                else (
                    f"it is of the rarest class, and several are equally rare; name one of "
                    f"{listing(class_names, 8)} by positive:"
                )
            )
        known = str(self.positive) in class_names
        return None if known else f"no class '{self.positive}' (classes: {listing(class_names, 8)})"


def key_of(label: str) -> str:
    """Return a metric's label in the characters that MLflow takes: ``f_beta_beta_3``."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", label).strip("_")


def metric_of(label: str) -> Metric:
    """Return the metric of a label, such as ``accuracy`` or ``f_beta(beta=3)``.

    Raises:
        ConfigError: No metric has this name, or its parameters are wrong.
    """
    name, _, rest = label.partition("(")
    return _built(metrics.get(name), rest)


@functools.lru_cache(maxsize=1024)
def _built(cls: type[Metric], rest: str) -> Metric:
    try:
        return cls.model_validate(_parameters(rest))
    except (ValueError, ValidationError) as error:
        raise ConfigError(f"metric '{cls.name}({rest}': {error}") from None


def _parameters(rest: str) -> Mapping[str, Any]:
    """Return what stands in the brackets of a label: ``key=JSON`` with commas between."""
    values: dict[str, Any] = {}
    decode = json.JSONDecoder().raw_decode
    while rest.strip(") "):
        key, _, rest = rest.partition("=")
        values[key.strip(", ")], end = decode(rest)
        rest = rest[end:]
    return values


def _plain(value: Any) -> str:
    return json.dumps(_whole(value), separators=(",", ":"), ensure_ascii=False)


def _whole(value: Any) -> Any:
    """Return a value with whole floats as integers, so that 2 and 2.0 have one label."""
    if isinstance(value, list):
        return [_whole(item) for item in value]
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    return int(value) if isinstance(value, float) and value.is_integer() else value
