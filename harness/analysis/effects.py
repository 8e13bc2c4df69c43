"""What each factor does: main effects and two-way interactions of a design.

An effect is a contrast of cells that match but for the factors it speaks of. It is averaged over
those cells within a block (a seed, or a seed and fold) first, and then has Student's interval over
blocks: the blocks are what was repeated, the cells were chosen.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.analysis import incomplete, intervals
from harness.analysis.compare import Panel
from harness.analysis.images import ImageScores
from harness.analysis.intervals import MARGIN, Floats, Interval
from harness.analysis.tables import BLOCK, DONE, FACTOR, PANEL
from harness.experiment.design import NONE, Design
from harness.metrics import metric_of

Cell = tuple[str, ...]
"""The level of each factor."""

Levels = Mapping[str, Sequence[str]]

POOLED = "all datasets"
"""Name of the mean over datasets in the column ``dataset``."""

ESTIMANDS: dict[Design, str] = {
    "factorial": "what the level adds, averaged over every combination of the other factors",
    "one_at_a_time": "what the level adds to doing nothing, with every other factor left out",
    "leave_one_out": "what the factor adds on top of all the others",
}
"""What a main effect means, by design."""

_VALUES = ["estimate", "low", "high", "p", "df", "blocks", "pairs", "possible", "lost"]
_MAIN = ["dataset", "model", "factor", "level", "metric", *_VALUES, "p_holm", "asked", "verdict"]
_TWO = ["dataset", "model", "factor_a", "level_a", "factor_b", "level_b", "metric", *_VALUES]


def levels_of(runs: pd.DataFrame) -> dict[str, list[str]]:
    """Return the levels of each factor that a table of runs knows, ``none`` first."""
    found = {}
    for column in runs.columns[runs.columns.str.startswith(FACTOR)]:
        levels = runs[column].dropna().unique().tolist()
        found[column.removeprefix(FACTOR)] = sorted(levels, key=lambda level: level != NONE)
    return found


def main_effects(
    runs: pd.DataFrame,
    metric: str | Sequence[str],
    design: Design = "factorial",
    levels: Levels | None = None,
    margin: float = MARGIN,
    images: Mapping[Panel, ImageScores] | None = None,
    exploratory: bool = False,
) -> pd.DataFrame:
    """Return the effect of each level against ``none`` on test, per dataset and model.

    `ESTIMANDS` says what it means in each design. ``pairs`` of ``possible`` cells match and were
    run in all of ``blocks``; where none does, the effect cannot be estimated. ``low, high`` is the
    95 % interval *on this test set*, ``new_low, new_high`` the one *on new images of this kind*
    where `images` has the panel. ``p_holm`` adjusts for all main effects on a metric (Holm 1979),
    and ``verdict`` goes by it: an interval that excludes zero by itself may be ``undecided`` among
    the ``asked`` that were asked at once. Means over several datasets are a family of their own.

    Args:
        runs: From `runs_table`; hand-named recipes and the balanced reference play no part.
        metric: Names of summary metrics.
        design: How the factors were crossed.
        levels: Levels by factor; by default those of the table.
        margin: Largest difference that does not matter.
        images: Scores of single test images by that one metric, by panel.
        exploratory: Leave p-values as they are: for a metric that is not the primary one.
    """
    levels = levels_of(runs) if levels is None else levels
    names = [metric] if isinstance(metric, str) else metric
    panels = list(_panels(runs, names, levels))
    tables = [_main(panels, name, design, levels, images or {}) for name in names]
    judged = [_judged(table, margin, exploratory) for table in tables if len(table)]
    return pd.concat(judged) if judged else _judged(tables[0], margin, exploratory)


def _main(
    panels: Sequence["_Panel"],
    metric: str,
    design: Design,
    levels: Levels,
    images: Mapping[Panel, ImageScores],
) -> pd.DataFrame:
    """Return the main effects on a metric, and their means over datasets."""
    rows = []
    for panel in panels:
        if metric not in panel.values:
            continue
        scores = images.get((panel.dataset, "", panel.model))
        for factor, level in _treatments(levels):
            pairs = list(_pairs(levels, factor, level, design))
            found = panel.contrast(metric, pairs, (1, -1))
            anew = found.on_new_images(scores, metric_of(metric).span())
            rows.append(
                {
                    **panel.name,
                    "factor": factor,
                    "level": level,
                    "metric": metric,
                    **found.row(len(pairs), metric_of(metric).span()),
                    "new_low": float(anew.low),
                    "new_high": float(anew.high),
                }
            )
    table = pd.DataFrame(rows, columns=[*_MAIN, "new_low", "new_high"])
    return _with_pooled(table, ["factor", "level"])


def _judged(table: pd.DataFrame, margin: float, exploratory: bool) -> pd.DataFrame:
    """Return the effects on one metric with what is concluded from them."""
    if table.empty:
        return table
    if not exploratory:
        for members in (table["dataset"] == POOLED, table["dataset"] != POOLED):
            p = table.loc[members, "p"].to_numpy(float)
            table.loc[members, "p_holm"] = intervals.holm(p)
            table.loc[members, "asked"] = int((~np.isnan(p)).sum())
    adjusted = None if exploratory else table["p_holm"]
    upwards = metric_of(str(table["metric"].iloc[0])).higher_is_better
    table["verdict"] = intervals.verdicts(table["low"], table["high"], margin, upwards, adjusted)
    return table


def interactions(
    runs: pd.DataFrame, metric: str, levels: Levels | None = None, margin: float = MARGIN
) -> pd.DataFrame:
    """Return how much more each level does where another is on too, for every two factors.

    ``(both − only b) − (only a − neither)`` over cells that match otherwise, with its 95 %
    interval over blocks; zero where effects add up. Exploratory: p-values are not adjusted. For
    a factorial design; another has no or few matching cells.

    Args:
        runs: From `runs_table`.
        metric: Name of a summary metric.
        levels: Levels by factor; by default those of the table.
        margin: Largest difference that does not matter.
    """
    levels = levels_of(runs) if levels is None else levels
    size = 2 * metric_of(metric).span()
    rows = []
    for panel in _panels(runs, [metric], levels):
        for (a, at_a), (b, at_b) in itertools.combinations(_treatments(levels), 2):
            if a == b:
                continue
            fours = [
                tuple({**rest, a: x, b: y} for x in (at_a, NONE) for y in (at_b, NONE))
                for rest in _others(levels, (a, b))
            ]
            cells = [tuple(_cell(levels, at) for at in four) for four in fours]
            found = panel.contrast(metric, cells, (1, -1, -1, 1))
            names = {"factor_a": a, "level_a": at_a, "factor_b": b, "level_b": at_b}
            rows.append({**panel.name, **names, "metric": metric, **found.row(len(cells), size)})
    table = _with_pooled(pd.DataFrame(rows, columns=_TWO), _TWO[2:6])
    return table.assign(
        verdict=intervals.verdicts(
            table["low"], table["high"], margin, metric_of(metric).higher_is_better
        )
    )


def _treatments(levels: Levels) -> list[tuple[str, str]]:
    return [(factor, level) for factor in levels for level in levels[factor] if level != NONE]


def _cell(levels: Levels, at: Mapping[str, str]) -> Cell:
    return tuple(at[factor] for factor in levels)


def _others(levels: Levels, apart: Sequence[str]) -> Iterator[dict[str, str]]:
    """Yield every combination of the factors that are not set apart."""
    rest = [factor for factor in levels if factor not in apart]
    for combination in itertools.product(*(levels[factor] for factor in rest)):
        yield dict(zip(rest, combination, strict=True))


def _pairs(levels: Levels, factor: str, level: str, design: Design) -> Iterator[tuple[Cell, Cell]]:
    """Yield the cells with the level and with ``none`` that a design matches."""
    first = {f: next((x for x in levels[f] if x != NONE), NONE) for f in levels}
    for rest in _others(levels, (factor,)):
        alone = all(other == NONE for other in rest.values())
        full = all(other == first[f] for f, other in rest.items()) and level == first[factor]
        if design == "factorial" or (full if design == "leave_one_out" else alone):
            with_it, without = ({**rest, factor: at} for at in (level, NONE))
            yield _cell(levels, with_it), _cell(levels, without)


@dataclass(frozen=True)
class Contrast:
    """A contrast of cells that was estimated.

    Attributes:
        each: ``float64[blocks, tuples]``: its value in each tuple of cells, 0 without a run.
        there: ``bool[blocks, tuples]``: where it has one.
        fitted: What the value of each block is made of.
        keys: ``object[blocks, tuples, cells]``: the runs.
        signs: With which sign each cell counts.
        folds: Number of folds, or 0.
    """

    each: Floats
    there: NDArray[np.bool_]
    fitted: incomplete.Fit
    keys: NDArray[Any]
    signs: Sequence[int]
    folds: int

    def row(self, possible: int, size: float) -> dict[str, Any]:
        """Return the estimate and what it rests on as columns.

        Args:
            possible: Tuples of cells of a complete design.
            size: Largest value that the contrast can have.
        """
        found = intervals.of_blocks(self._values(), self.folds).within(size)
        ends = {name: float(getattr(found, name)) for name in _VALUES[:5]}
        blocks, pairs = self.each.shape
        counts = {"blocks": blocks, "pairs": pairs, "possible": possible}
        return {**ends, **counts, "lost": int((~self.there).sum())}

    def _values(self) -> Floats:
        """Return one value per block, ``float64[blocks]``, as far apart as they are uncertain."""
        if self.there.all():
            return np.asarray(self.each.mean(axis=1)) if self.each.size else np.empty(0)
        values = np.einsum("bdr,dr->b", self.fitted.weights, self.each)
        mean = values.mean()
        return np.asarray(mean + (values - mean) * np.sqrt(self.fitted.widening))

    def on_new_images(self, scores: ImageScores | None, size: float) -> Interval:
        """Return the interval for new images, or none."""
        if scores is None or not self.there.any() or not self._used() <= scores.keys():
            return intervals.of_blocks([])
        blocks = [
            {
                str(key): float(weight * sign)
                for weight, keys in zip(weights[self.there], self.keys[self.there], strict=True)
                if weight
                for key, sign in zip(keys, self.signs, strict=True)
            }
            for weights in self.fitted.weights
        ]
        return scores.interval(blocks, self.fitted.widening).within(size)

    def _used(self) -> set[str]:
        return set(map(str, self.keys[self.there].flat))


@dataclass(frozen=True)
class _Panel:
    """The cells of one dataset and model.

    Attributes:
        values: By metric ``float64[blocks, cells]``, NaN where a run is missing or not done.
        keys: ``object[blocks, cells]``, the runs.
        places: Column of each cell.
    """

    dataset: str
    model: str
    folds: int
    values: Mapping[str, Floats]
    keys: NDArray[Any]
    places: Mapping[Cell, int]

    @property
    def name(self) -> dict[str, str]:
        return {"dataset": self.dataset, "model": self.model}

    def contrast(
        self, metric: str, tuples: Sequence[tuple[Cell, ...]], signs: Sequence[int]
    ) -> Contrast:
        """Return the mean over tuples of cells, per block.

        Every block averages over the same tuples: those that are complete in any block. Where
        runs are missing the values of blocks are those of `incomplete.fit`.
        """
        known = [t for t in tuples if all(cell in self.places for cell in t)]
        columns = np.array([[self.places[cell] for cell in t] for t in known], np.int64)
        columns = columns.reshape(len(known), len(signs))
        each = self.values[metric][:, columns] @ np.array(signs, float)
        fitted = incomplete.fit(~np.isnan(each))
        each = each[np.ix_(fitted.blocks, fitted.rows)]
        keys = self.keys[fitted.blocks][:, columns[fitted.rows]]
        return Contrast(
            np.nan_to_num(each), ~np.isnan(each), fitted, keys, tuple(signs), self.folds
        )


def _panels(runs: pd.DataFrame, metrics: Sequence[str], levels: Levels) -> Iterator[_Panel]:
    known = [metric for metric in metrics if f"test_{metric}" in runs]
    factors = [f"{FACTOR}{factor}" for factor in levels]
    if not factors or not known or not set(factors) <= set(runs.columns):
        return
    crossed = runs[(runs["reference"] == "") & runs[factors].notna().all(axis=1)]
    for (dataset, _, model), members in crossed.groupby(PANEL, sort=False):
        done = members[members["status"] == DONE]
        blocks = {block: i for i, block in enumerate(done.groupby(BLOCK).groups)}
        cells = list(done[factors].itertuples(index=False, name=None))
        places = {cell: i for i, cell in enumerate(dict.fromkeys(cells))}
        keys = np.full((len(blocks), len(places)), "", dtype=object)
        rows = [blocks[block] for block in done[BLOCK].itertuples(index=False, name=None)]
        at = rows, [places[cell] for cell in cells]
        keys[at] = done["key"]
        values = {metric: np.full(keys.shape, np.nan) for metric in known}
        for metric in known:
            values[metric][at] = done[f"test_{metric}"]
        folds = int(members["folds"].max())
        yield _Panel(str(dataset), str(model), folds, values, keys, places)


def _with_pooled(table: pd.DataFrame, what: Sequence[str]) -> pd.DataFrame:
    """Add, where there are several datasets, the mean over those where it could be estimated.

    For these datasets, each as important as the next; not for datasets yet to come.
    """
    rows = []
    several = table["dataset"].nunique() > 1
    groups = table.groupby(["model", *what], sort=False, dropna=False) if several else ()
    for key, part in groups:
        known = part[part["estimate"].notna()]
        if len(part) < 2 or known.empty:
            continue
        columns = (known[name].to_numpy(float) for name in ("estimate", "low", "high", "df"))
        size = (2 if "factor_a" in what else 1) * metric_of(str(part["metric"].iloc[0])).span()
        found = intervals.pooled(*columns).within(size)
        rows.append(
            {
                **dict(zip(["model", *what], key, strict=True)),
                "dataset": POOLED,
                "metric": part["metric"].iloc[0],
                **{name: float(getattr(found, name)) for name in _VALUES[:5]},
                **{name: int(known[name].sum()) for name in ("blocks", "pairs", "lost")},
                "possible": int(part["possible"].sum()),
            }
        )
    return pd.concat([table, pd.DataFrame(rows)], ignore_index=True) if rows else table
