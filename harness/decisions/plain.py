"""Rules with nothing to fit but, where wanted, a temperature."""

import math
from typing import Any

import numpy as np

from harness.decisions.base import Case, Fitted, Floats, Rule, Val, rule

_EDGE = math.log(10.0)
"""How far the logarithm of a temperature is looked for, on either side of 0."""


@rule("argmax")
class Argmax(Rule):
    """Decide the class of the largest output, as it is."""

    def fit(self, case: Case) -> Fitted:
        """Fit nothing."""
        return self.fitted(case)


@rule("temperature")
class Temperature(Rule):
    """Divide the logits by a temperature fitted on val; decisions stay those of argmax.

    Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.2. Calibrated is what
    the outputs say of val, whose classes are distributed as it is.
    """

    def fit(self, case: Case) -> Fitted:
        """Fit the temperature by likelihood on val."""
        val = case.validation()
        temperature, notes = best_temperature(val, np.zeros(len(case.class_names)))
        found = {"temperature": temperature}
        return self.fitted(case, temperature=temperature, values=found, notes=notes)


class Adjusting(Rule):
    """A rule that starts from outputs moved to the deployment prior.

    Attributes:
        temperature: Whether the logits are first divided by a temperature fitted on val.
    """

    temperature: bool = False

    def scaled(self, case: Case) -> tuple[Case, dict[str, Any]]:
        """Return the case with val as it is after the temperature, and what `fitted` needs of it.

        The likelihood is that of val under its own class shares, so that a temperature does not
        make up for a prior.
        """
        if not self.temperature:
            return case, {"temperature": 1.0, "values": {}, "notes": ()}
        val = case.validation()
        counts = val.counts()
        with np.errstate(divide="ignore"):  # a class that val lacks cannot be a row of it
            own = np.log(counts / counts.sum())
        moved = case.shift() - np.log(case.deployed) + own
        temperature, notes = best_temperature(val, moved)
        cooled = Val(val.log_p / temperature, val.labels, val.objective)
        later = Case(case.class_names, case.trained, case.deployed, cooled)
        found = {"temperature": temperature}
        return later, {"temperature": temperature, "values": found, "notes": notes}


@rule("prior")
class Prior(Adjusting):
    """Multiply each class by its share in deployment over its share in training.

    Bayes' rule for a change of class shares alone (Saerens et al. 2002, eq. 2.4, with both priors
    known); with a balanced deployment the post-hoc logit adjustment at τ = 1 (Menon et al. 2021,
    eq. 9). Nothing is fitted.
    """

    def fit(self, case: Case) -> Fitted:
        """Return the shift between the priors."""
        case, found = self.scaled(case)
        return self.fitted(case, offsets=case.shift(), **found)


def best_temperature(val: Val, offsets: Floats) -> tuple[float, tuple[str, ...]]:
    """Return the temperature of the largest likelihood of val, and notes.

    Where outputs on val are all right there is no such temperature, and it stays 1.

    Args:
        val: Validation outputs.
        offsets: ``float64[C]``, added after the division; −inf for a class that val lacks.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import logsumexp

    rows = np.arange(len(val.labels))

    def nll(log_temperature: float) -> float:
        scores = val.log_p * math.exp(-log_temperature) + offsets
        return float((logsumexp(scores, axis=1) - scores[rows, val.labels]).mean())

    found = float(minimize_scalar(nll, bounds=(-_EDGE, _EDGE), method="bounded").x)
    if abs(found) < _EDGE - 0.01 and nll(found) < nll(0.0):
        return math.exp(found), ()
    return 1.0, (f"val ({len(rows)} rows) does not tell the temperature: it stays 1",)
