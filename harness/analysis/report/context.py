"""The chapters that put a gain into context: fresh seeds, the balanced reference, cost, ranks."""

from harness.analysis import plots
from harness.analysis.across import why_no_test
from harness.analysis.compare import Panel
from harness.analysis.formatting import in_words, seconds, unit_of
from harness.analysis.report import cells
from harness.analysis.report.answer import has_val, of_panel
from harness.analysis.report.comparison import MOST_ROWS, section
from harness.analysis.report.document import (
    Block,
    Cell,
    Column,
    Figure,
    Paragraph,
    Part,
    Section,
    Table,
)
from harness.analysis.report_data import ReportData
from harness.analysis.tables import records
from harness.errors import counted
from harness.experiment.design import NOTHING


def confirmation(found: ReportData) -> Section | None:
    """Return what fresh seeds say, or how to ask them."""
    return section("Confirmation", found, _confirmation)


def _confirmation(found: ReportData, panel: Panel) -> list[Block]:
    chosen = found.chosen.get(panel)
    if chosen in (None, NOTHING):
        return []
    if not has_val(found, panel):
        return [
            Paragraph(
                "No val is held out (val_fraction: 0), so which recipe wins was read off the test "
                "set. Choosing among many recipes on test and repeating the winner on fresh seeds "
                "with the same test set would invent a gain of its own; the claim needs test data "
                "that nobody has chosen on, or a val set."
            )
        ]
    rows, metric = records(of_panel(found.confirmed, panel)), found.metric
    if not rows:
        return [
            Paragraph(
                "The seeds that chose the recipe also measured its gain, which flatters it a "
                "little. This repeats it and doing nothing on fresh seeds:",
                code=found.command("confirm"),
            )
        ]
    made = [
        [
            cells.text(row["recipe"]),
            Cell("yes" if row["recipe"] == chosen else "an earlier one"),
            cells.gain(row["gain"], metric, row["verdict"]),
            cells.interval(row["low"], row["high"], metric),
            cells.interval(row["new_low"], row["new_high"], metric),
            Cell(str(row["pairs"]), row["pairs"]),
        ]
        for row in rows
    ]
    columns = [
        Column("recipe", wide=True),
        Column("val's choice", "whether val still chooses it", wide=True),
        Column("vs nothing"),
        Column("95 % interval", "on this test set"),
        Column(f"new {found.sample}s"),
        Column("fresh seeds"),
    ]
    caption = "Seeds that had no part in the choice. Only this is called confirmed."
    if doubts := found.uncertain(panel):
        said = "; ".join(doubt.said for doubt in doubts)
        caption = f"Seeds that had no part in the choice. They make nothing certain: {said}."
    return [Table(columns, made, caption)]


def reference(found: ReportData) -> Section | None:
    """Return the balanced upper bound and how much of the gap each recipe closes."""
    return section("The balanced reference", found, _reference)


def _reference(found: ReportData, panel: Panel) -> list[Block]:
    metric, unit = found.metric, unit_of(found.metric)
    share = unit_of("accuracy")
    gaps = of_panel(found.gap, panel)
    if gaps.empty:
        return []
    gap = float(gaps["gap"].iloc[0])
    told = bool(gaps["low"].notna().any())
    lead = (
        f"With equal classes and as many samples and steps, doing nothing would gain "
        f"{unit.value(gap)} {unit.name}: that is the gap that the imbalance makes"
        f"{'' if told else ', and it is not told apart from zero here'}."
    )
    made = [
        [
            cells.text(row["recipe"]),
            cells.gain(row["gain"], metric),
            Cell(f"{share.value(row['share'])} %", row["share"]),
            Cell(
                f"{share.value(row['low'])} to {share.value(row['high'])} %"
                if row["low"] == row["low"]
                else "",
                row["low"],
            ),
        ]
        for row in records(gaps.sort_values("share", ascending=False))[:MOST_ROWS]
    ]
    columns = [
        Column("recipe", wide=True),
        Column("vs nothing"),
        Column("of the gap closed"),
        Column("95 % interval", "Fieller's, paired by seed"),
    ]
    blocks: list[Block] = [Paragraph(lead), Table(columns, made, "Gain divided by the gap.")]
    both = records(of_panel(found.balanced, panel))
    if both:
        blocks.append(_because_of_imbalance(both, metric))
    return blocks


def _because_of_imbalance(rows: list[dict[str, float]], metric: str) -> Table:
    made = [
        [
            cells.text(row["recipe"]),
            cells.gain(row["gain"], metric),
            cells.gain(row["balanced_gain"], metric),
            cells.gain(row["difference"], metric),
            cells.interval(row["low"], row["high"], metric),
        ]
        for row in rows
    ]
    columns = [
        Column("recipe", wide=True),
        Column("gain here"),
        Column("gain with equal classes"),
        Column("because of the imbalance"),
        Column("95 % interval"),
    ]
    caption = "A gain that is as large with equal classes is one of regularisation: it does not "
    caption += "come from mending the imbalance."
    return Table(columns, made, caption)


def cost(found: ReportData) -> Section | None:
    """Return what a gain costs."""
    return section("Cost", found, _cost)


def _cost(found: ReportData, panel: Panel) -> list[Block]:
    rows = of_panel(found.costs, panel)
    rows = rows.dropna(subset=["gain", "relative"]) if len(rows) else rows
    if len(rows) < 2:
        return []
    searches = of_panel(found.tuned, panel)
    before = dict(zip(searches["tuned"], searches["seconds"], strict=True))
    made = [
        [
            cells.text(row["recipe"]),
            cells.gain(row["gain"], found.metric),
            Cell(seconds(row["seconds"]), row["seconds"]),
            Cell(f"{row['relative']:.2f} ×", row["relative"]),
            Cell("yes" if row["frontier"] else "", float(row["frontier"])),
            *([_search(before.get(row["recipe"]))] if before else []),
        ]
        for row in records(rows.sort_values("relative"))[:MOST_ROWS]
    ]
    columns = [Column("recipe", wide=True), Column("vs nothing"), Column("time of a run", "median")]
    columns += [Column("of nothing's"), Column("no other gains more in less time")]
    columns += [Column("search before", "time of all runs of its search, added up")] * bool(before)
    caption = "Every recipe had the same steps; what differs is the time of a step. Runs may have "
    caption += "shared a machine, so small differences mean little."
    caption += " A search is paid once, and is not in the time of a run." * bool(before)
    picture = Figure(
        plots.cost(rows, found.metric),
        "Each dot is a recipe; those filled are the "
        "ones than which no other gains more in less time.",
    )
    return [picture, Table(columns, made, caption, tall=True)]


def _search(spent: float | None) -> Cell:
    return Cell("", 0.0) if spent is None else Cell(seconds(spent), spent)


def datasets(found: ReportData) -> Section | None:
    """Return mean ranks over several datasets, and the test where there are enough."""
    count = found.datasets["dataset"].nunique() if len(found.datasets) else 0
    if count < 2:
        return None
    parts = []
    for model, rows in found.ranks.groupby("model", sort=False):
        tested = bool(rows["p"].notna().any())
        made = [
            [
                cells.text(row["recipe"]),
                Cell(f"{row['mean_rank']:.2f}", row["mean_rank"]),
                *([cells.p_value(row["p"]), cells.p_value(row["p_holm"])] if tested else []),
            ]
            for row in records(rows)[:MOST_ROWS]
        ]
        columns = [Column("recipe", wide=True), Column("mean rank", "1 is best")]
        columns += [Column("p", "Wilcoxon, against doing nothing"), Column("p (Holm)")] * tested
        failed = "; recipes with runs that are not done are ranked last" if len(found.bad()) else ""
        caption = f"Mean rank of the mean {in_words(found.metric)} on test over "
        caption += f"{counted(count, 'dataset')}{failed}."
        parts.append(Part(str(model), [Table(columns, made, caption, tall=True)]))
    why = why_no_test(count)
    return Section("Across datasets", [*([Part("", [Paragraph(why)])] if why else []), *parts])
