"""Studies of known truth: outputs of two recipes over seeds, decided by every rule.

Five classes are seen at a distance from each other. An image has an effect of its own on logits,
the same for every model; a run adds noise to each image and a bias to each class. Doing nothing
carries a skewed prior; the recipe an even one, and it sees a little better.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.analysis.intervals import ImageSample
from harness.decisions.base import Case, Val, log_probabilities, rule_from
from harness.decisions.objective import balanced_accuracy
from harness.decisions.priors import TrainedPrior

CLASSES = 5
SKEWED = 30.0 ** -(np.arange(CLASSES) / (CLASSES - 1))
NAMES = tuple("abcde")
EVEN = np.full(CLASSES, 1 / CLASSES)
RULES = ("argmax", "prior", "prior_tuned", "thresholds", "temperature+prior")


@dataclass(frozen=True)
class Recipe:
    """Mass of the classes in training, and the distance at which it sees them."""

    mass: np.ndarray
    distance: float


NOTHING = Recipe(SKEWED, 1.6)
REMEDY = Recipe(np.ones(CLASSES), 1.8)


@dataclass(frozen=True)
class Images:
    """Labels and what each image adds to the logits of every model."""

    labels: np.ndarray
    effects: np.ndarray


def images(rng: np.random.Generator, counts: Sequence[int]) -> Images:
    labels = np.repeat(np.arange(CLASSES), counts)
    return Images(labels, rng.standard_normal((len(labels), CLASSES)))


def outputs(
    rng: np.random.Generator, recipe: Recipe, seeds: int, shown: Images, bias: np.ndarray
) -> np.ndarray:
    """Return softmax outputs ``float64[seeds, n, C]``; `bias` is ``[seeds, C]``."""
    signal = recipe.distance**2 * (np.eye(CLASSES)[shown.labels] - 0.5)
    noise = 0.5 * rng.standard_normal((seeds, len(shown.labels), CLASSES))
    logits = signal + recipe.distance * shown.effects + noise + bias[:, None]
    logits += np.log(recipe.mass)
    exp = np.exp(logits - logits.max(axis=2, keepdims=True))
    return exp / exp.sum(axis=2, keepdims=True)


def right(
    rng: np.random.Generator, recipe: Recipe, seeds: int, test: Images, rules: Sequence[str] = RULES
) -> dict[str, np.ndarray]:
    """Return which test images each run gets right by each rule, ``float64[seeds, n]``."""
    bias = 0.3 * rng.standard_normal((seeds, CLASSES))
    tested = outputs(rng, recipe, seeds, test, bias)
    trained = TrainedPrior.of(recipe.mass, NAMES)
    found: dict[str, np.ndarray] = {}
    if set(rules) <= {"argmax", "prior"}:
        for name in rules:
            moved = tested if name == "argmax" else tested / recipe.mass
            found[name] = (moved.argmax(axis=2) == test.labels).astype(float)
        return found
    val = [images(rng, (60, 30, 15, 8, 4)) for _ in range(seeds)]
    for name in rules:
        each = []
        for s in range(seeds):
            log_val = log_probabilities(outputs(rng, recipe, 1, val[s], bias[s : s + 1])[0])
            known = Val(log_val, val[s].labels, balanced_accuracy(val[s].labels))
            cooled = {"name": "prior", "temperature": True}
            rule = rule_from(cooled if name == "temperature+prior" else name)
            fitted = rule.fit(Case(NAMES, trained, EVEN, known))
            each.append(fitted.decisions(log_probabilities(tested[s])) == test.labels)
        found[name] = np.array(each, float)
    return found


def sample_of(test: Images) -> ImageSample:
    support = np.bincount(test.labels)
    return ImageSample(1 / (CLASSES * support[test.labels]), test.labels)


def balanced(scores: np.ndarray, test: Images) -> np.ndarray:
    """Return the balanced accuracy of right and wrong, ``float64[...]``."""
    support = np.bincount(test.labels)
    return scores @ (1 / (CLASSES * support[test.labels]))
