"""The contract of a decision rule: from the outputs of a model to decisions about its rows.

A rule is a frozen record, named in an experiment file as strategies are. `fit` sees validation
outputs and priors, never test, and returns a `Fitted`: plain data, which turns outputs into
adjusted probabilities and decisions. All of it works on log-probabilities, since a softmax in
single precision reaches 0 where its logit is long not infinite. A new rule is one small file::

    from harness.decisions.base import Case, Fitted, Rule, rule

    @rule("halfway")
    class Halfway(Rule):
        \"\"\"Move half the way to the deployment prior.\"\"\"

        def fit(self, case: Case) -> Fitted:
            return self.fitted(case, offsets=0.5 * case.shift())
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from harness.decisions.objective import Objective
from harness.decisions.priors import TrainedPrior
from harness.errors import ConfigError, DecisionError
from harness.registry import rules

__all__ = ["Case", "Fitted", "Floats", "Ints", "Rule", "Val", "log_probabilities", "rule"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

rule = rules.register

_LEAST = float(np.finfo(np.float32).smallest_subnormal)
"""What a probability of 0 is taken for: the least that single precision can tell from it."""

_STRICT = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)


def log_probabilities(probabilities: NDArray[np.floating[Any]]) -> Floats:
    """Return log p, ``float64[n, C]``, finite also where p is 0.

    Args:
        probabilities: ``[n, C]``, each in [0, 1].

    Raises:
        ValueError: They are not, or not of two dimensions.
    """
    values = np.asarray(probabilities)
    if values.ndim != 2:
        raise ValueError(f"probabilities have shape {values.shape}; [n, C] is expected")
    # not `min < 0 or max > 1`: NaN is neither; half precision rounds past 1
    if values.size and not (values.min() >= 0 and values.max() <= 1 + 1e-4):
        raise ValueError("probabilities must be finite and lie in [0, 1]")
    logs = np.maximum(values, _LEAST, dtype=np.float64)
    return np.log(logs, out=logs)


def normalised(scores: Floats) -> Floats:
    """Return the softmax of scores along the last axis, whatever their size."""
    shifted = scores - scores.max(axis=-1, keepdims=True)
    np.exp(shifted, out=shifted)
    shifted /= shifted.sum(axis=-1, keepdims=True)
    return np.asarray(shifted)


@dataclass(frozen=True)
class Val:
    """Validation outputs that a rule may be fitted on.

    Attributes:
        log_p: ``float64[n, C]``, relative to the trained prior of the model that is decided for,
            up to a constant per row.
        labels: ``int64[n]``.
        objective: What a fit maximises on these rows.
    """

    log_p: Floats
    labels: Ints
    objective: Objective

    def counts(self) -> Ints:
        """Return the rows per class, ``int64[C]``."""
        return np.bincount(self.labels, minlength=self.log_p.shape[1])


@dataclass(frozen=True)
class Case:
    """What is known when a rule is fitted: nothing of test.

    Attributes:
        class_names: C display names, in label order.
        trained: The prior that the outputs carry.
        deployed: ``float64[C]``, the prior that decisions are made for.
        val: Validation outputs, or None where there are none.
    """

    class_names: tuple[str, ...]
    trained: TrainedPrior
    deployed: Floats
    val: Val | None = None

    def shift(self) -> Floats:
        """Return log deployed − log trained, ``float64[C]``: what one prior is from the other.

        Raises:
            DecisionError: The trained prior is not known.
        """
        if self.trained.shares is None:
            raise DecisionError(f"its outputs are not adjusted: {self.trained.reason}")
        return np.log(self.deployed) - np.log(self.trained.shares)

    def validation(self) -> Val:
        """Return the validation outputs.

        Raises:
            DecisionError: There are none.
        """
        if self.val is None or not len(self.val.labels):
            raise DecisionError(
                "it is fitted on val, and there is none; set val_fraction above 0, or use a rule "
                "with nothing to fit (argmax, prior)"
            )
        return self.val


class Fitted(BaseModel):
    """A fitted rule, as plain data that can be stored beside a model.

    With s = log p / temperature + offsets, the adjusted probabilities are softmax(s); the decision
    is argmax(s + bias), or with costs the class of least expected cost. Of equals the first class
    in label order is decided.

    Attributes:
        rule: Label of the rule.
        class_names: C display names, in label order.
        temperature: What log-probabilities are divided by.
        offsets: C numbers.
        bias: C numbers, in decisions alone.
        costs: C × C, rows true and columns decided classes; or None.
        values: What was fitted, by name.
        notes: What the user should know.
    """

    model_config = _STRICT

    rule: str
    class_names: tuple[str, ...]
    temperature: float = 1.0
    offsets: tuple[float, ...]
    bias: tuple[float, ...]
    costs: tuple[tuple[float, ...], ...] | None = None
    values: dict[str, float] = {}
    notes: tuple[str, ...] = ()

    def probabilities(self, log_p: Floats) -> Floats:
        """Return the adjusted probabilities, ``float64[n, C]``.

        Args:
            log_p: ``float64[n, C]``, from `log_probabilities`.
        """
        return normalised(self._scores(log_p, np.array(self.offsets)))

    def decisions(self, log_p: Floats) -> Ints:
        """Return the decided classes, ``int64[n]``.

        Args:
            log_p: ``float64[n, C]``, from `log_probabilities`.
        """
        if self.costs is not None:
            expected = self.probabilities(log_p) @ np.array(self.costs)
            return np.asarray(expected.argmin(axis=1), np.int64)
        both = np.array(self.offsets) + np.array(self.bias)
        return np.asarray(self._scores(log_p, both).argmax(axis=1), np.int64)

    def _scores(self, log_p: Floats, offsets: Floats) -> Floats:
        if log_p.shape[-1] != len(self.offsets):
            raise ValueError(f"outputs of {log_p.shape[-1]} classes; {len(self.offsets)} expected")
        scaled = log_p if self.temperature == 1.0 else log_p / self.temperature
        return scaled + offsets if offsets.any() else scaled

    def to_json(self) -> dict[str, Any]:
        """Return the rule as plain JSON values."""
        return self.model_dump(mode="json")

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild a rule from `to_json`."""
        return cls.model_validate(data)


class Rule(BaseModel):
    """A way to decide; its fields are its parameters, validated strictly."""

    model_config = _STRICT

    name: ClassVar[str] = ""
    version: ClassVar[int] = 1

    def fit(self, case: Case) -> Fitted:
        """Fit the rule.

        Raises:
            DecisionError: It cannot be fitted for this run; the message says why.
            ConfigError: Its parameters do not fit these classes.
        """
        raise NotImplementedError

    def fitted(
        self,
        case: Case,
        *,
        temperature: float = 1.0,
        offsets: Floats | None = None,
        bias: Floats | None = None,
        costs: Floats | None = None,
        values: Mapping[str, float] | None = None,
        notes: Sequence[str] = (),
    ) -> Fitted:
        """Return a `Fitted` of this rule; what is not given changes nothing."""
        zeros = np.zeros(len(case.class_names))
        moved = offsets is not None
        return Fitted(
            rule=self.label(),
            class_names=case.class_names,
            temperature=temperature,
            offsets=tuple((zeros if offsets is None else offsets).tolist()),
            bias=tuple((zeros if bias is None else bias).tolist()),
            costs=None if costs is None else tuple(tuple(row) for row in costs.tolist()),
            values=dict(values or {}),
            notes=(*(case.trained.notes if moved else ()), *notes),
        )

    def parameters(self) -> dict[str, Any]:
        """Return the parameters that differ from their defaults, as plain JSON values."""
        return self.model_dump(mode="json", exclude_defaults=True, by_alias=True)

    def label(self) -> str:
        """Return the name with the parameters that were set, in short."""
        inner = ",".join(f"{key}={_short(value)}" for key, value in self.parameters().items())
        return f"{self.name}({inner})" if inner else self.name


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_short(inner)}" for key, inner in value.items()) + "}"
    return str(value).lower() if isinstance(value, bool) else str(value)


def rule_from(wanted: str | Mapping[str, Any]) -> Rule:
    """Return the rule that an experiment file names: ``prior``, or a mapping with ``name``.

    Raises:
        ConfigError: There is no such rule, or its parameters are wrong.
    """
    parameters = {"name": wanted} if isinstance(wanted, str) else dict(wanted)
    name = parameters.pop("name", None)
    if not isinstance(name, str):
        raise ConfigError(f"a decision rule needs a name (available: {', '.join(rules)})")
    try:
        built: Rule = rules.get(name).model_validate(parameters)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        said = first["msg"].removeprefix("Value error, ")
        where = f"{place}: " if place else ""
        raise ConfigError(f"decision rule '{name}': {where}{said}") from None
    return built
