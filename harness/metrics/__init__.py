"""What a model is worth on a split: each metric is a record that says how it is read and computed.

`base` is the contract, `decided` and `ranked` hold the built-in ones, `evaluation` computes them.
NumPy alone: a plan, which imports this room for names and directions, stays quick.
"""

from harness.metrics.base import Metric, key_of, metric, metric_of
from harness.metrics.classes import FEW, MANY, groups
from harness.metrics.evaluation import (
    COUNTS,
    OF_TWO,
    STANDARD,
    Evaluation,
    during_training,
    evaluate,
    scores,
    standard,
)
from harness.metrics.split import Split
from harness.metrics.unit import PLAIN, POINTS, Unit

__all__ = [
    "COUNTS",
    "FEW",
    "MANY",
    "OF_TWO",
    "PLAIN",
    "POINTS",
    "STANDARD",
    "Evaluation",
    "Metric",
    "Split",
    "Unit",
    "during_training",
    "evaluate",
    "groups",
    "key_of",
    "metric",
    "metric_of",
    "scores",
    "standard",
]
