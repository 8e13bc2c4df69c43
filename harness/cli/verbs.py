"""The verbs and their options; what a verb does is imported only when it runs."""

from pathlib import Path
from typing import Annotated

import typer

from harness import __version__
from harness.cli.arguments import (
    DEFAULT_RESULTS,
    CacheDir,
    Device,
    File,
    Jobs,
    Json,
    Margin,
    Only,
    Open,
    Plugins,
    Reading,
    Results,
    RetryFailed,
    Running,
    RunsPerGpu,
    Sets,
    cache_in,
    grouped,
    how,
)
from harness.scratch import sweep

app = typer.Typer(
    name="harness",
    help="Train every combination of imbalance remedies on your data and compare them honestly.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with:  harness run quickstart",
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"harness {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    sweep()  # what killed commands of before have left


@app.command()
def new(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The experiment file to write.")],
    data: Annotated[Path, typer.Option("--data", help="Class folders, a CSV manifest or a table.")],
    label: Annotated[str | None, typer.Option("--label", help="The label column.")] = None,
    images: Annotated[
        list[Path] | None,
        typer.Option("--images", metavar="FOLDER", help="Where the images of a CSV lie."),
    ] = None,
    table: Annotated[
        bool, typer.Option("--table", help="It is a table, though a column names images.")
    ] = False,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Of the dataset: --set encoding=cp1252"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite FILE.")] = False,
    cache_dir: CacheDir = None,
) -> None:
    """Look at your data and write an experiment file with sensible defaults.

    Example:  harness new skin.yaml --data photos/
    """
    from harness.cli import new as verb
    from harness.cli.detect import Asked

    cache_in(cache_dir)
    verb.run(file, data, Asked.of(sets or (), label, images or (), table=table), force)


@app.command()
@grouped
def plan(
    ctx: typer.Context,
    file: File,
    results: Results = DEFAULT_RESULTS,
    only: Only = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Train some steps of each shape; tell the cost.")
    ] = False,
    price: Annotated[
        float | None, typer.Option("--price", min=0.0, help="Of an hour; with --measure.")
    ] = None,
    jobs: Jobs = None,
    runs_per_gpu: RunsPerGpu = 1,
    device: Device = "auto",
    *,
    reading: Reading,
) -> None:
    """Show what would run, and what cannot or need not; train nothing.

    With --measure it trains a few steps of each shape of run, on as many slots as `run` would, and
    tells hours, memory and disk.

    Example:  harness plan experiments/quickstart.yaml
    """
    from harness.cli import plan as verb

    verb.run(file, *reading.changes, how(ctx), measure, price, reading.as_json)


@app.command()
@grouped
def run(
    ctx: typer.Context,
    file: File,
    results: Results = DEFAULT_RESULTS,
    only: Only = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Do at most so many runs.")
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option("--shard", metavar="I/N", help="Do part I of N, for N machines; then merge."),
    ] = None,
    smoke: Annotated[bool, typer.Option("--smoke", help="One seed, a few steps each.")] = False,
    retry_failed: RetryFailed = False,
    force: Annotated[bool, typer.Option("--force", help="Do finished runs again.")] = False,
    max_failures: Annotated[
        int | None, typer.Option("--max-failures", min=1, help="Stop after so many failures.")
    ] = None,
    max_hours: Annotated[
        float | None,
        typer.Option("--max-hours", min=0.001, help="Start no more runs after so many hours."),
    ] = None,
    run_timeout: Annotated[
        float | None,
        typer.Option("--run-timeout", min=1.0, help="End a run that takes so many seconds."),
    ] = None,
    checkpoint_every: Annotated[
        float | None,
        typer.Option(
            "--checkpoint-every", min=0.0, help="Seconds between checkpoints of a run: 60."
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Go on with a very large grid.")] = False,
    *,
    running: Running,
    reading: Reading,
) -> None:
    """Do every run that is missing, and show the leaderboard.

    Finished runs are never done again: the same command goes on where it was stopped.

    Example:  harness run experiments/quickstart.yaml
    """
    from harness.cli import run as verb

    verb.run(
        file,
        *reading.changes,
        how(ctx),
        smoke,
        reading.as_json,
    )


@app.command()
@grouped
def tune(
    ctx: typer.Context,
    file: File,
    results: Results = DEFAULT_RESULTS,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only", metavar="GLOB", help="Only studies whose recipe, dataset or model match."
        ),
    ] = None,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="Three trials on one seed, a few steps each.")
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Do failed trials and runs again.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Go on with a very long search.")] = False,
    *,
    running: Running,
    reading: Reading,
) -> None:
    """Search the strength of every strategy with Optuna, then run the recipes that won.

    What is searched stands in the file under tune:. A search that was stopped goes on with the
    same command; to have more trials, raise tune.trials.

    Example:  harness tune experiments/tune_quickstart.yaml
    """
    from harness.cli import tune as verb

    verb.run(
        file,
        *reading.changes,
        how(ctx),
        smoke,
        reading.as_json,
    )


@app.command()
@grouped
def confirm(
    ctx: typer.Context,
    file: File,
    results: Results = DEFAULT_RESULTS,
    seeds: Annotated[
        int | None,
        typer.Option("--seeds", min=1, help="Fresh seeds; as many as the file has by default."),
    ] = None,
    margin: Margin = 0.5,
    retry_failed: RetryFailed = False,
    *,
    running: Running,
    reading: Reading,
) -> None:
    """Repeat the recipe that val chose, and doing nothing, on fresh seeds.

    Only a gain that holds there is called confirmed.

    Example:  harness confirm experiments/quickstart.yaml
    """
    from harness.cli import confirm as verb

    verb.run(
        file,
        *reading.changes,
        how(ctx),
        seeds,
        margin,
        reading.as_json,
    )


@app.command()
@grouped
def report(
    file: File,
    results: Results = DEFAULT_RESULTS,
    margin: Margin = 0.5,
    thumbnails: Annotated[
        bool,
        typer.Option("--thumbnails/--no-thumbnails", help="Show images of rare classes missed."),
    ] = True,
    file_names: Annotated[
        bool,
        typer.Option("--file-names/--no-file-names", help="Write their file names below them."),
    ] = True,
    misses: Annotated[
        list[str] | None,
        typer.Option("--misses", metavar="CLASS", help="Show this class instead. Repeatable."),
    ] = None,
    brief: Annotated[bool, typer.Option("--brief", help="Print one A4 page.")] = False,
    opened: Open = False,
    *,
    reading: Reading,
) -> None:
    """Say what helps, by how much and whether it is real; write HTML, Markdown, CSV and JSON.

    The pages need no network and lie under results/EXPERIMENT/report; they are attached to MLflow.

    Example:  harness report experiments/quickstart.yaml --open
    """
    from harness.cli import report as verb

    verb.run(
        file,
        *reading.changes,
        results,
        margin,
        thumbnails,
        file_names,
        misses or [],
        brief,
        opened,
        reading.as_json,
    )


@app.command()
@grouped
def decide(file: File, results: Results = DEFAULT_RESULTS, *, reading: Reading) -> None:
    """Decide finished runs by other rules; say what of each gain is only a moved threshold.

    Nothing is trained or written. The key decisions: of the file names rules, the prior that
    decisions are made for, and costs.

    Example:  harness decide quickstart
    """
    from harness.cli import decide as verb

    verb.run(file, *reading.changes, results, reading.as_json)


@app.command()
@grouped
def preview(
    what: Annotated[
        str,
        typer.Argument(metavar="FILE|DATASET", help="An experiment file, a dataset's name, data."),
    ],
    results: Results = DEFAULT_RESULTS,
    only: Only = None,
    opened: Open = False,
    png: Annotated[bool, typer.Option("--png", help="Pictures as PNG in place of SVG.")] = False,
    *,
    reading: Reading,
) -> None:
    """Draw what each recipe really feeds the model: batches with labels, shares of the classes.

    Of a dataset alone, each of the well-known strategies with its defaults.

    Example:  harness preview experiments/quickstart.yaml --open
    """
    from harness.cli import preview as verb

    verb.run(what, *reading.changes, results, only or [], opened, reading.as_json, png)


@app.command()
@grouped
def inspect(
    dataset: Annotated[
        str,
        typer.Argument(metavar="DATASET", help="A dataset's name, an experiment file, or data."),
    ],
    *,
    reading: Reading,
) -> None:
    """Show a dataset: classes, counts, sizes and warnings.

    Example:  harness inspect digits --set imbalance_factor=20
    """
    from harness.cli import inspect as verb

    verb.run(dataset, *reading.changes, reading.as_json)


@app.command(name="list")
def list_(
    kind: Annotated[
        str | None,
        typer.Argument(
            metavar="[KIND|NAME]",
            help="strategies, datasets, models, metrics or experiments; all by default. Or the "
            "name of a dataset, strategy or model, to see its keys.",
        ),
    ] = None,
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """List what there is, or the keys of a dataset, strategy or model.

    Example:  harness list strategies
    Example:  harness list mixup
    """
    from harness.cli import listing as verb

    verb.run(kind, plugin or [], as_json)


@app.command()
def check(
    plugins: Annotated[
        list[str], typer.Argument(metavar="PLUGIN...", help="Modules or .py files to test.")
    ],
) -> None:
    """Test a plugin's strategies and datasets against their contract, in seconds.

    Example:  harness check my_strategy.py
    """
    from harness.cli import check as verb

    verb.run(plugins)


@app.command()
def sync(
    file: File, sets: Sets = None, plugin: Plugins = None, results: Results = DEFAULT_RESULTS
) -> None:
    """Mirror to MLflow whatever it has not seen yet."""
    from harness.cli import tracking as verb

    verb.sync(file, sets or [], plugin or [], results)


@app.command()
def merge(
    dest: Annotated[Path, typer.Argument(metavar="DEST", help="The results folder to fill.")],
    folders: Annotated[
        list[Path], typer.Argument(metavar="FOLDER...", help="Results folders, such as of shards.")
    ],
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="Also from folders with attempts cut off.")
    ] = False,
) -> None:
    """Bring the runs of several results folders together, such as those of `run --shard`.

    Copies; the folders stay as they are. What is in DEST already is not copied again.

    Example:  harness merge results part1 part2 part3
    """
    from harness.cli import merge as verb

    verb.run(dest, folders, unfinished)


@app.command()
def ui(
    results: Results = DEFAULT_RESULTS,
    port: Annotated[int, typer.Option("--port", min=1, max=65535)] = 5000,
    host: Annotated[str, typer.Option("--host", help="Address to bind.")] = "127.0.0.1",
    allow_public: Annotated[
        bool, typer.Option("--allow-public", help="Let other machines reach it, unprotected.")
    ] = False,
) -> None:
    """Open the MLflow UI on the results, on 127.0.0.1."""
    from harness.cli import tracking as verb

    verb.ui(results, host, port, allow_public)
