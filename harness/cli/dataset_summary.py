"""A dataset as `inspect` and `new` show it: classes, counts, sizes, duplicates, warnings."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness.datasets.base import SPLITS, Dataset, Index, Info, TableDataset
from harness.datasets.remarks import sample_nouns
from harness.errors import counted, listing

_MOST_CLASSES = 40
_MOST_COLUMNS = 40
_BAR = 30
_GROUPS = (("many", "> 100"), ("medium", "20–100"), ("few", "< 20"))


@dataclass(frozen=True)
class Sizes:
    """Sizes of the image files, as stored.

    Attributes:
        height: ``int64[N]`` pixels.
        width: ``int64[N]`` pixels.
        dtype: Pixel types, most frequent first.
    """

    height: NDArray[np.int64]
    width: NDArray[np.int64]
    dtype: tuple[str, ...]

    @property
    def short(self) -> int:
        """Median short side."""
        return int(np.median(np.minimum(self.height, self.width)))

    @property
    def longer(self) -> NDArray[np.int64]:
        """Long side of each, ``int64[N]``."""
        return np.maximum(self.height, self.width)

    @property
    def alike(self) -> bool:
        """Whether all are of one size."""
        return len(np.unique(self.height)) == len(np.unique(self.width)) == 1

    def text(self) -> str:
        """Return the sizes in words, height × width."""
        if self.alike:
            return f"all {self.height[0]} × {self.width[0]} pixels (height × width)"
        area = self.height * self.width
        if (area == area[0]).all() and (self.longer == self.longer[0]).all():
            return f"all {self.short} × {self.longer[0]} pixels, upright or lying"
        low, high = int(area.argmin()), int(area.argmax())
        return (
            f"{self.height[low]} × {self.width[low]} to {self.height[high]} × {self.width[high]} "
            f"pixels (height × width), median short side {self.short}"
        )


def sizes_of(files: Sequence[Any]) -> Sizes | None:
    """Return the sizes of those image files that are sound, or None where there is none."""
    from harness.datasets.images import facts_of

    facts = [of_file for of_file in facts_of(files) if not of_file.trouble] if files else []
    if not facts:
        return None
    return Sizes(
        np.array([of_file.height for of_file in facts]),
        np.array([of_file.width for of_file in facts]),
        tuple(name for name, _ in Counter(of_file.dtype for of_file in facts).most_common()),
    )


@dataclass(frozen=True)
class DatasetSummary:
    """What is known of a dataset without reading its samples.

    Attributes:
        dataset: Which.
        index: Its samples.
        info: Its splits.
        sizes: Sizes of its files, or None where it has none.
        folds: Number of folds of which the first is test, or None.
    """

    dataset: Dataset
    index: Index
    info: Info
    sizes: Sizes | None
    folds: int | None = None

    @property
    def factor(self) -> float:
        """Largest / smallest class count of the training set."""
        counts = self.info.counts[0]
        return float(counts.max() / max(counts.min(), 1))

    @property
    def groups(self) -> list[str]:
        """``many``, ``medium`` or ``few`` for each class."""
        from harness.metrics import groups

        members = groups(self.info.counts[0])
        return [next(n for n, has in members.items() if has[k]) for k in range(self.classes)]

    @property
    def classes(self) -> int:
        """How many there are."""
        return len(self.info.class_names)

    def columns(self) -> dict[str, str] | None:
        """Return what became of each column of a table, by name."""
        return dict(self.dataset.columns()) if isinstance(self.dataset, TableDataset) else None

    def dtype(self) -> str | None:
        """Return the type of the samples where that is known without reading them."""
        if self.info.kind == "table":
            return "float32"
        if self.sizes is None:
            return None
        return "uint16" if set(self.sizes.dtype) == {"uint8", "uint16"} else self.sizes.dtype[0]

    def duplicates(self) -> list[str]:
        """Return remarks on images, or rows of a table, that are there several times."""
        rows: defaultdict[str, list[int]] = defaultdict(list)
        for row, digest in enumerate(self.index.digests):
            rows[digest].append(row)
        twice = [found for found in rows.values() if len(found) > 1]
        if not twice:
            return []
        labels = self.index.labels
        torn = [found for found in twice if len({int(labels[row]) for row in found}) > 1]
        one, many = sample_nouns(self.index)
        are = (f"{one} is", f"{many} are")
        remarks = [f"{counted(len(twice), *are)} there more than once: {self._named(twice)}"]
        if torn:
            under = f"{counted(len(torn), *are)} there under different labels"
            remarks.append(f"{under}: {self._named(torn)}")
        return remarks

    def _named(self, found: list[list[int]]) -> str:
        return listing((" = ".join(self.index.id_of(row) for row in rows) for rows in found), 3)

    def warnings(self) -> list[str]:
        """Return what the user should know."""
        found = [*self.info.warnings, *self.duplicates(), *self.dataset.asides(self.index)]
        rare = [self.info.class_names[k] for k in np.flatnonzero(self.info.counts[2] < 10)]
        if rare:
            found.append(
                f"fewer than 10 test samples of {listing(rare, 5)}: their figures are coarse"
            )
        return found

    def data(self) -> dict[str, Any]:
        """Return everything as plain values."""
        info = self.info
        counts = {name: info.counts[k] for k, name in enumerate(SPLITS)}
        total = int(counts["train"].sum())
        groups = self.groups
        return {
            "dataset": self.dataset.display(),
            "config": self.dataset.config(),
            "kind": info.kind,
            "shape": list(info.shape),
            "dtype": self.dtype(),
            "samples": {name: int(values.sum()) for name, values in counts.items()},
            "folds": self.folds,
            "imbalance_factor": round(self.factor, 3),
            "classes": [
                {
                    "name": info.class_names[k],
                    **{name: int(values[k]) for name, values in counts.items()},
                    "share": int(counts["train"][k]) / total,
                    "group": groups[k],
                    **self._groups(k),
                }
                for k in range(self.classes)
            ],
            "files": None if self.sizes is None else self.sizes.text(),
            "columns": self.columns(),
            "content": info.content,
            "row_digests": dict(info.digests),
            "warnings": self.warnings(),
            "bad_files": dict(self.index.bad_files),
        }

    def _groups(self, k: int) -> dict[str, Any]:
        """Return of how many groups a class is in each part, or nothing without groups."""
        of = self.info.groups
        return {} if of is None else {"groups": dict(zip(SPLITS, of[:, k].tolist(), strict=True))}


def portrait(dataset: Dataset, seed: int = 0, folds: int | None = None) -> DatasetSummary:
    """Return what a dataset looks like for one seed, with folds in the first of them.

    Raises:
        DataError: It is missing or cannot be split as asked.
    """
    index = dataset.indexed()
    info = dataset.info(seed, None if folds is None else 0, folds)
    return DatasetSummary(dataset, index, info, sizes_of(index.files), folds)


def portrait_alone(dataset: Dataset) -> DatasetSummary:
    """Return what a dataset looks like outside an experiment, in the folds that it names itself.

    Raises:
        DataError: It is missing or cannot be split.
    """
    return portrait(dataset, folds=dataset.indexed().first_fold()[1])


def show(found: DatasetSummary, out: Console) -> None:
    """Print a portrait."""
    info = found.info
    totals = ", ".join(f"{int(info.counts[k].sum()):,} {name}" for k, name in enumerate(SPLITS))
    out.print(found.dataset.display(), style="bold", highlight=False)
    _line(out, f"{found.classes} classes; {totals}; imbalance factor {found.factor:.4g} in train")
    if found.folds is not None:
        _line(out, f"test is the first of {found.folds} folds")
    shape = " × ".join(map(str, info.shape))
    columns = f"table of {counted(info.shape[0], 'column')}"
    what = f"image of {shape}" if info.kind == "image" else columns
    dtype = found.dtype()
    files = f"; files: {found.sizes.text()}" if found.sizes is not None else ""
    if found.sizes is not None and getattr(found.dataset, "resize", "") == "keep":
        square = (found.sizes.height == found.sizes.width).all()
        files += (
            "" if square or info.shape[0] != info.shape[1] else ", each cut to its centre square"
        )
    _line(out, f"{what}{f', {dtype}' if dtype else ''}{files}")
    subset = info.digests.get("subset_by_class")
    how = "(SHA-256 of classes and places in them)"
    drawn = f"; long-tailed subset {subset[:12]} {how}" if subset else ""
    _line(out, f"content {info.content[:12]}{drawn}")
    out.print(_table(found, "#" if out.options.ascii_only else "▏▎▍▌▋▊▉█"))
    hidden = found.classes - _MOST_CLASSES
    if hidden > 0:
        what = counted(hidden, "class in the middle is", "classes in the middle are")
        _line(out, f"{what} not shown (--json has all)", "dim")
    if info.groups is not None:
        _line(out, "in brackets: of how many groups, none of which is in two splits", "dim")
    _line(out, "; ".join(f"{name}: {text} training samples" for name, text in _GROUPS), "dim")
    _columns(found, out)
    for warning in found.warnings():
        _line(out, f"warning: {warning}", "yellow")


def _columns(found: DatasetSummary, out: Console) -> None:
    """Print what became of each column; of many, those first of which there is something to say."""
    became = found.columns()
    if not became:
        return
    telling = sorted(became, key=lambda name: became[name] == "numbers")
    shown = set(telling[:_MOST_COLUMNS])
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("column", no_wrap=True)
    table.add_column("taken as")
    for name, what in became.items():
        if name in shown:
            table.add_row(escape(name), escape(what))
    out.print(table)
    if len(became) > len(shown):
        hidden = counted(len(became) - len(shown), "column is", "columns are")
        _line(out, f"{hidden} not shown (--json has all)", "dim")


def _line(out: Console, text: str, style: str | None = None) -> None:
    out.print(text, style=style, highlight=False, soft_wrap=True, markup=False)


def _bar(length: float, blocks: str) -> str:
    """Return a bar of a length in characters; a class with a sample has at least a sliver.

    Args:
        length: How long.
        blocks: What stands for equal parts of a character, up to the whole of it.
    """
    parts = max(1, round(length * len(blocks)))
    whole, rest = divmod(parts, len(blocks))
    return blocks[-1] * whole + (blocks[rest - 1] if rest else "")


def per_split(info: Info, k: int) -> list[str]:
    """Return the samples of class `k` in train, val and test, in brackets of how many groups."""
    counts = [f"{n:,}" for n in info.counts[:, k]]
    if info.groups is None:
        return counts
    return [f"{n} ({of:,})" for n, of in zip(counts, info.groups[:, k], strict=True)]


def _table(found: DatasetSummary, blocks: str) -> Table:
    counts = found.info.counts
    order = np.argsort(-counts[0], kind="stable")
    half = _MOST_CLASSES // 2
    shown = order if len(order) <= _MOST_CLASSES else [*order[:half], *order[-half:]]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("class", *SPLITS, "share", "group", ""):
        left = name in ("class", "group", "")
        table.add_column(name, justify="left" if left else "right", no_wrap=name != "class")
    groups, total, largest = found.groups, counts[0].sum(), counts[0].max()
    for k in shown:
        bar = _bar(_BAR * counts[0, k] / largest, blocks)
        share = f"{100 * counts[0, k] / total:.3g} %"
        table.add_row(
            found.info.class_names[k], *per_split(found.info, int(k)), share, groups[k], bar
        )
    return table
