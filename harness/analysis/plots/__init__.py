"""The plots of a report, each a function from a tidy table to a `Picture`.

In a notebook they show themselves::

    import harness
    from harness.analysis import effects, plots

    runs = harness.load_results("results/quickstart")
    plots.main_effects(effects.main_effects(runs, "balanced_accuracy"))
"""

from harness.analysis.plots.classes import class_recalls, confusion
from harness.analysis.plots.effects import cell_means, cost, interactions, main_effects, strip
from harness.analysis.plots.runs import learning_curves, reliability
from harness.analysis.plots.threshold import threshold_parts

__all__ = [
    "cell_means",
    "class_recalls",
    "confusion",
    "cost",
    "interactions",
    "learning_curves",
    "main_effects",
    "reliability",
    "strip",
    "threshold_parts",
]
