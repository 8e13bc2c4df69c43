"""Plots and a table of a study that is over, as files; drawn by Optuna with matplotlib."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.tuning.database import quiet

if TYPE_CHECKING:
    import optuna

TABLE = "trials.csv"


def draw(study: "optuna.Study", folder: Path) -> list[str]:
    """Draw a study into a folder; return which plots could not be drawn, and why.

    Importances are those of fANOVA (Hutter et al. 2014) and say so: PED-ANOVA, Optuna's default,
    finds none where a good sampler hardly tried bad values.
    """
    folder.mkdir(parents=True, exist_ok=True)
    missing = []
    with quiet(), _offscreen():
        for name, plot in _PLOTS.items():
            path = folder / f"{name}.png"
            try:
                _save(plot, study, path)
            except Exception as error:  # whatever Optuna cannot draw is no reason to stop
                path.unlink(missing_ok=True)
                missing.append(f"{name}: {error}")
        study.trials_dataframe().to_csv(folder / TABLE, index=False)
    return missing


def _save(plot: Callable[["optuna.Study"], Any], study: "optuna.Study", path: Path) -> None:
    from matplotlib import pyplot

    before = set(pyplot.get_fignums())
    try:
        axes = plot(study)
        figure = (axes if hasattr(axes, "figure") else axes.flat[0]).figure
        figure.savefig(path, dpi=120, bbox_inches="tight")
    finally:
        for number in set(pyplot.get_fignums()) - before:
            pyplot.close(number)


def _history(study: "optuna.Study") -> Any:
    from optuna.visualization import matplotlib as plots

    return plots.plot_optimization_history(study, target_name=_metric(study))


def _slice(study: "optuna.Study") -> Any:
    from optuna.visualization import matplotlib as plots

    return plots.plot_slice(study, target_name=_metric(study))


def _parallel(study: "optuna.Study") -> Any:
    from optuna.visualization import matplotlib as plots

    return plots.plot_parallel_coordinate(study, target_name=_metric(study))


def _importance(study: "optuna.Study") -> Any:
    from optuna.importance import FanovaImportanceEvaluator
    from optuna.visualization import matplotlib as plots

    evaluator = FanovaImportanceEvaluator(seed=0)
    axes = plots.plot_param_importances(study, evaluator=evaluator, target_name=_metric(study))
    axes.set_title("Importance of each parameter (fANOVA)", loc="left")
    return axes


def _metric(study: "optuna.Study") -> str:
    return study.metric_names[0] if study.metric_names else "value"


_PLOTS: dict[str, Callable[["optuna.Study"], Any]] = {
    "history": _history,
    "slice": _slice,
    "parallel_coordinate": _parallel,
    "importance_fanova": _importance,
}


@contextmanager
def _offscreen() -> Iterator[None]:
    """Draw into files, whatever a notebook draws into."""
    import matplotlib

    before = matplotlib.get_backend(auto_select=False)
    matplotlib.use("agg")
    try:
        with matplotlib.rc_context():
            yield
    finally:
        if before is not None:
            matplotlib.use(before)
