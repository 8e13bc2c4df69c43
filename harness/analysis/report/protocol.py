"""The chapters on how it was done: what recipes are, which runs are not done, the protocol."""

import numpy as np

from harness.analysis import details
from harness.analysis.effects import ESTIMANDS
from harness.analysis.formatting import in_words, unit_of
from harness.analysis.intervals import MARGIN
from harness.analysis.report import cells
from harness.analysis.report.answer import margin, of_panel, where
from harness.analysis.report.comparison import MOST_ROWS, leaderboard
from harness.analysis.report.document import Block, Cell, Column, Paragraph, Part, Section, Table
from harness.analysis.report_data import ReportData
from harness.analysis.tables import DONE, records
from harness.errors import counted, listing
from harness.metrics import metric_of
from harness.training.rundir import RESUMED

_COARSE = 0.01
"""Share of a metric that a single test image may have without a word."""

_REMARKS = 10

_ORDER = ("harness", "commit", "python", "torch", "device")


def recipes(found: ReportData) -> Section:
    """Return what each recipe consists of, tuned parameters included."""
    rows = records(found.recipes)
    differ = any(row["where"] for row in rows)
    made = [
        [cells.text(row["recipe"]), *([cells.text(row["where"])] * differ), Cell(row["strategies"])]
        for row in rows[:MOST_ROWS]
    ]
    columns = [Column("recipe", wide=True), *([Column("on", wide=True)] * differ)]
    columns.append(Column("strategies, base included", wide=True))
    caption = "Parameters that are not named have their defaults (harness list strategies)."
    more = len(rows) - MOST_ROWS
    caption += f" {more} more are in recipes.csv." if more > 0 else ""
    return Section("What the recipes are", [Part("", [Table(columns, made, caption, tall=True)])])


def incomplete(found: ReportData) -> Section | None:
    """Return the runs that are not done, those that are missing, and the order without them."""
    bad, missing = records(found.bad()), records(found.missing())
    blocks: list[Block] = []
    if bad:
        blocks += [
            Paragraph(
                f"{counted(len(bad), 'run is', 'runs are')} committed and not done. In the order "
                "above a recipe with such a run stands below every recipe without."
            ),
            _bad(bad),
        ]
    if missing:
        planned = len(found.specs)
        total = sum(int(row["runs"]) for row in missing)
        text = f"{total:,} of {planned:,} planned runs are missing. To do them:"
        blocks += [
            Paragraph(text, code=found.command("run")),
            _missing(missing),
        ]
    if not blocks:
        return None
    parts = [Part("", blocks)]
    for panel in found.panels[:MOST_ROWS] if found.board_apart is not None else []:
        rows = of_panel(found.bad(), panel)
        if len(rows) and found.board_apart is not None:
            title = f"{where(found, panel)}: as if runs that are not done had never been started"
            parts.append(Part(title, [leaderboard(found, panel, found.board_apart)]))
    return Section("Runs that are not done", parts)


def _bad(rows: list[dict[str, object]]) -> Table:
    made = [
        [
            cells.text(f"{row['dataset']} {row['reference']}".strip()),
            cells.text(row["recipe"]),
            Cell(str(row["seed"])),
            Cell(str(row["status"])),
            cells.text(row["reason"], 160),
        ]
        for row in rows[:MOST_ROWS]
    ]
    columns = [Column("dataset", wide=True), Column("recipe", wide=True), Column("seed")]
    columns += [Column("status", wide=True), Column("why", wide=True)]
    more = f"The first {MOST_ROWS} of {len(rows)}; all are in runs.csv." * (len(rows) > MOST_ROWS)
    return Table(columns, made, more, tall=True)


def _missing(rows: list[dict[str, object]]) -> Table:
    made = [
        [
            cells.text(f"{row['dataset']} {row['reference']}".strip()),
            cells.text(row["model"]),
            cells.text(row["recipe"]),
            Cell(str(row["runs"])),
            cells.text(row["seeds"], 40),
        ]
        for row in rows[:MOST_ROWS]
    ]
    columns = [Column("dataset", wide=True), Column("model", wide=True)]
    columns += [Column("recipe", wide=True), Column("runs missing"), Column("seeds", wide=True)]
    more = f"The first {MOST_ROWS} of {len(rows)} recipes." if len(rows) > MOST_ROWS else ""
    return Table(columns, made, more, tall=True)


def protocol(found: ReportData) -> Section:
    """Return how every number is computed, from what, and how to do it again."""
    experiment, metric = found.experiment, found.metric
    training = experiment.training
    better = "higher" if metric_of(metric).higher_is_better else "lower"
    facts = [
        f"Design: {experiment.design.replace('_', ' ')}"
        f"{f' of {listing(experiment.factors)}' if experiment.factors else ', recipes by name'}; "
        f"a main effect is {ESTIMANDS[experiment.design]}.",
        f"Primary metric: {in_words(metric)} ({better} is better), named before the runs; all "
        "else is exploratory. A difference inside "
        f"±{margin(found)} is taken to be none in practice.",
        f"Seeds: {_seeds(found)}; at one seed every recipe has the same val split and initial "
        "weights, and but for samplers and SMOTE the same order of samples, so differences are "
        "taken within a seed.",
        f"Budget, the same for every recipe: {training.epochs:g} passes over the original "
        f"training set in batches of {training.batch_size}, {training.optimizer}, learning rate "
        f"{training.lr:g}, {training.schedule.name} schedule; weights of the "
        f"{'last step' if training.select == 'last' else 'best evaluation on val'}.",
        "The order of recipes, and which one is chosen, is read off val where there is one; "
        "every other figure is of test, which each run scored once.",
    ]
    parts = [
        Part("", [Paragraph(items=facts)]),
        Part("Intervals", [Paragraph(items=_intervals(found))]),
        Part("What made the runs", _environments(found)),
        Part("Do it again", [Paragraph(code=_commands(found))]),
    ]
    return Section("How it was measured", parts)


def _seeds(found: ReportData) -> str:
    seeds = list(found.experiment.seeds)
    folds = found.experiment.folds
    each = f", each with {folds} folds in which every sample is tested once" if folds else ""
    return f"{listing(map(str, seeds), 12)} ({len(seeds)}){each}"


def _intervals(found: ReportData) -> list[str]:
    metric = found.metric
    said = [
        "On this test set: Student's t-interval of the paired differences over seeds, for a "
        "repetition of the training on the very same data. Fewer than three seeds have none.",
    ]
    if found.experiment.folds:
        return [
            "Over seeds and folds: the corrected resampled t-interval (Nadeau and Bengio 2003), "
            "since folds share most of their training rows. It speaks of new samples of this "
            "kind as well. Fewer than three pairs have none.",
            *_families(found),
        ]
    if metric_of(metric).splits_into_images():
        said.append(
            f"On new {found.sample}s of this kind: seeds and test {found.sample}s are crossed, so "
            f"both variances count. That of the {found.sample}s is taken from the stored "
            "predictions, within classes and by groups, with Satterthwaite's degrees of freedom; "
            "the interval is never narrower than the one on this test set. There is none where "
            "more than a tenth of the metric rests on classes with a single test "
            f"{found.sample}, or test group, each."
        )
    else:
        said.append(
            f"On new {found.sample}s of this kind: not available for {in_words(metric)}, which "
            f"does not split into single {found.sample}s as a mean over them does."
        )
    return [*said, *_families(found)]


def _families(found: ReportData) -> list[str]:
    said = [
        "Main effects on the primary metric are one family: p-values are adjusted by Holm, and "
        "▲ or ▼ goes by them. Single recipes, interactions, classes and other metrics are each "
        "shown with an interval of their own, as exploration: among twenty such intervals one "
        "excludes zero by chance.",
        "Equivalence (≈): the 95 % interval lies inside the margin, which is two one-sided "
        "tests at 2.5 % each.",
        "Runs that failed or diverged are counted, never dropped from the order. Effects use the "
        "pairs that are there at any seed, and say how many: what a pair lacks at a seed is told "
        "by least squares from the pair at other seeds and from the seed in other pairs.",
    ]
    if found.environments.empty:
        return said
    mixed = details.mixed(found.environments)
    return [*said, f"Not everything was made alike: {'; '.join(mixed)}."] if mixed else said


def _environments(found: ReportData) -> list[Block]:
    table = found.environments
    if table.empty:
        return [Paragraph("No run is done.")]
    rows = table.groupby(["what", "version"], sort=False)["runs"].sum().reset_index()
    place = {name: i for i, name in enumerate(_ORDER)}
    rows = rows.assign(place=rows["what"].map(lambda name: place.get(name, len(place))))
    made = [
        [cells.text(row["what"]), cells.text(row["version"]), Cell(str(row["runs"]), row["runs"])]
        for row in records(rows.sort_values("place", kind="stable"))
    ]
    columns = [Column("what", wide=True), Column("version", wide=True), Column("runs")]
    return [Table(columns, made)]


def _commands(found: ReportData) -> str:
    lines = [found.command("run"), found.command("report")]
    if found.margin != MARGIN:
        lines[1] += f" --margin {found.margin * unit_of(found.metric).scale:g}"
    return "\n".join(lines)


def warnings(found: ReportData) -> list[str]:
    """Return what limits the answer, for the top of the page."""
    said = []
    missing = int(found.missing()["runs"].sum()) if len(found.missing()) else 0
    if missing:
        said.append(
            f"This is a partial report: {missing:,} of {len(found.specs):,} planned runs are "
            "missing (listed below)."
        )
    bad = found.bad()
    if len(bad):
        kinds = bad["status"].value_counts()
        each = ", ".join(f"{count} {status}" for status, count in kinds.items())
        said.append(
            f"{counted(len(bad), 'run is', 'runs are')} not done ({each}); recipes with such runs "
            "stand last."
        )
    said += _unequal(found)
    seeds = found.runs[found.runs["status"] == DONE].groupby("dataset")[["seed", "fold"]]
    if len(seeds) and max(len(part.drop_duplicates()) for _, part in seeds) < 3:
        said.append("Fewer than three seeds: exploratory, and no difference has an interval.")
    if len(found.classes) and (found.classes["support"] == 0).any():
        names = found.classes.loc[found.classes["support"] == 0, "name"].unique()
        without = f"Without a test {found.sample}, and so left out of every mean"
        said.append(f"{without}: {listing(names, 5)}.")
    said += _coarse(found)
    mixed = details.mixed(found.environments) if len(found.environments) else []
    if mixed:
        said.append(f"Runs in one table were not made alike: {listing(mixed, 3)}.")
    said += _searched_unequally(found)
    of_runs = [text for text in details.remarks(found.runs, found.notes) if RESUMED not in text]
    more = [f"And {len(of_runs) - _REMARKS} more remarks of runs, in runs.csv."]
    return [*said, *found.notes, *of_runs[:_REMARKS], *(more if len(of_runs) > _REMARKS else [])]


def _coarse(found: ReportData) -> list[str]:
    """Say where a single test image decides more than a point of the metric."""
    unit = unit_of(found.metric)
    if not metric_of(found.metric).splits_into_images() or not unit.name or found.classes.empty:
        return []
    if found.experiment.folds:  # every fold has others
        return []
    said = []
    for panel in {panel[0]: panel for panel in found.panels}.values():
        rows = of_panel(found.classes, panel).drop_duplicates("class")
        rows = rows[rows["support"] > 0]
        labels = np.repeat(np.arange(len(rows)), rows["support"])
        counts, names = rows["train_count"].to_numpy(), tuple(rows["name"])
        share = metric_of(found.metric).image_weights(labels, counts, names)
        if share is None or share.max(initial=0.0) < _COARSE:
            continue
        rarest = rows.iloc[labels[share.argmax()]]
        said.append(
            f"{panel[0]}: class {rarest['name']} has "
            f"{counted(int(rarest['support']), f'test {found.sample}')}, and each is worth "
            f"{unit.value(share.max())} {unit.name} of {in_words(found.metric)}. All seeds see "
            f"the same ones: only more test {found.sample}s can tell whether such a difference "
            "would last."
        )
    return said


def _searched_unequally(found: ReportData) -> list[str]:
    trials = found.tuned["trials"]
    if not len(trials) or trials.nunique() == 1:
        return []
    return [
        f"Searches had {trials.min()} to {trials.max()} trials: what was searched longer had more "
        f"chances. With tune.trials={trials.max()} all come to the same number."
    ]


def _unequal(found: ReportData) -> list[str]:
    said = []
    for panel in found.panels:
        counts = of_panel(found.board, panel)
        done = counts.loc[counts["n"] > 0, "n"]
        if done.nunique() > 1:
            said.append(
                f"{where(found, panel)}: recipes have {done.min()} to {done.max()} runs; "
                "differences use the seeds that both have, and only recipes with all their runs "
                "can be chosen."
            )
    return said
