"""Arguments that several verbs share, and what is made of them."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.errors import ConfigError

File = Annotated[
    str, typer.Argument(metavar="FILE", help="An experiment file, or the name of a shipped one.")
]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change the file: --set training.lr=0.05"),
]
Plugins = Annotated[
    list[str] | None,
    typer.Option("--plugin", help="A module or .py file with strategies to import."),
]
Results = Annotated[Path, typer.Option("--results", help="The results folder.")]
CacheDir = Annotated[
    Path | None, typer.Option("--cache-dir", help="Where decoded images are kept between runs.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]
Only = Annotated[
    list[str] | None,
    typer.Option(
        "--only", metavar="GLOB", help="Only runs whose recipe, dataset, model or key match."
    ),
]
Jobs = Annotated[int | None, typer.Option("--jobs", min=1, help="Runs at a time.")]
RunsPerGpu = Annotated[int, typer.Option("--runs-per-gpu", min=1, help="Runs per GPU.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.")]
Executor = Annotated[str, typer.Option("--executor", help="local, inline or ray.")]
Address = Annotated[
    str, typer.Option("--address", help="With --executor ray: auto, local or HOST:PORT.")
]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Do failed runs again.")]
FailFast = Annotated[bool, typer.Option("--fail-fast", help="Stop after a failure.")]
Margin = Annotated[
    float, typer.Option("--margin", min=0, help="Points of difference that do not matter.")
]
Open = Annotated[bool, typer.Option("--open", help="Open it in the browser.")]

DEFAULT_RESULTS = Path("results")


def how(ctx: typer.Context) -> dict[str, Any]:
    """Return what was given of `harness.app.options.Options`, whose fields are parameters here."""
    from harness.app.options import Options

    named = Options.__dataclass_fields__.keys() & ctx.params.keys()
    given = {name: ctx.params[name] for name in named if ctx.params[name] is not None}
    return given | {"only": tuple(given.get("only", ()))}


def cache_in(path: Path | None) -> None:
    """Tell this process and the slots where decoded images are kept."""
    if path is None:
        return
    place = path.expanduser().absolute()
    try:
        place.mkdir(parents=True, exist_ok=True)
        writable = os.access(place, os.W_OK | os.X_OK)
        reason = "" if writable else "permission denied"
    except OSError as error:
        reason = error.strerror or str(error)
    if reason:
        raise ConfigError(f"--cache-dir {place}: cannot be written: {reason}")
    os.environ["HARNESS_CACHE_DIR"] = str(place)
