"""Cross datasets with data-handling strategies, train every combination, compare honestly."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import optuna
    import pandas as pd

__version__ = "0.1.0"

__all__ = ["__version__", "load_results", "run", "tune"]


def run(experiment: Any, **options: Any) -> "pd.DataFrame":
    """Do every run of an experiment that is missing; return one row per run.

    The same as ``harness run``, for a notebook or a script.

    Args:
        experiment: An experiment file, or the same keys as a mapping.
        **options: ``results``, ``settings`` (assignments such as ``"training.lr=0.05"``),
            ``plugins``, and the options of `harness.app.options.Options`.

    Returns:
        Columns as in `harness.analysis.tables.runs_table`.

    Raises:
        HarnessError: Something is wrong before training starts.
    """
    from harness.app.compose import run_experiment

    return run_experiment(experiment, **options)


def tune(experiment: Any, **options: Any) -> "list[optuna.Study]":
    """Search the strengths of an experiment's recipes; return Optuna's own studies.

    The same as ``harness tune``: one study per dataset, model and recipe under the key ``tune:``,
    as many trials as are left; then the recipes that won are run on the report seeds, where
    `run` finds them. The studies may be asked, continued and drawn with Optuna's own API.

    Args:
        experiment: An experiment file, or the same keys as a mapping.
        **options: As for `run`.

    Returns:
        The studies, do-nothing first where it has anything to tune.

    Raises:
        HarnessError: Something is wrong before training starts.
    """
    from harness.app.search import tune_experiment

    return tune_experiment(experiment, **options)


def load_results(path: Any, metrics: Any = ()) -> "pd.DataFrame":
    """Return one row per committed run of one experiment's results folder.

    Neither the experiment file nor the data is needed. `harness.analysis` compares what is in the
    table: `compare.leaderboard`, `compare.differences`, `effects.main_effects`, and `plots`.

    Args:
        path: Such as ``results/quickstart``.
        metrics: Further ones, computed from stored predictions: labels such as
            ``"f_beta(beta=3)"``, or objects of `harness.metrics.Metric`.

    Returns:
        Columns as in `harness.analysis.tables.runs_table`.

    Raises:
        HarnessError: There is no such folder, or no run in it.
    """
    from harness.analysis.tables import load_results

    return load_results(path, metrics)
