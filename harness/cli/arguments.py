"""Arguments that several verbs share, and what is made of them."""

import functools
import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
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


@dataclass(frozen=True)
class Reading:
    """How a file is read and an answer is written."""

    sets: Sets = None
    plugin: Plugins = None
    cache_dir: CacheDir = None
    as_json: Json = False

    @property
    def changes(self) -> tuple[list[str], list[str]]:
        """Assignments and plugins, as `harness.experiment.schema.load` takes them."""
        return self.sets or [], self.plugin or []


@dataclass(frozen=True)
class Running:
    """How runs are executed."""

    jobs: Jobs = None
    runs_per_gpu: RunsPerGpu = 1
    device: Device = "auto"
    executor: Executor = "local"
    address: Address = "auto"
    fail_fast: FailFast = False


def grouped(verb: Callable[..., None]) -> Callable[..., None]:
    """Let a verb take a group of options as one parameter; each field is an option of its own.

    Where a group has a cache folder, this process and its slots are told.
    """
    parameters = inspect.signature(verb).parameters.values()
    groups: dict[str, Any] = {
        p.name: p.annotation for p in parameters if is_dataclass(p.annotation)
    }
    flat: list[inspect.Parameter] = []
    for parameter in parameters:
        if parameter.name not in groups:
            flat.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        flat += [
            inspect.Parameter(
                field.name, parameter.KEYWORD_ONLY, default=field.default, annotation=field.type
            )
            for field in fields(groups[parameter.name])
        ]

    @functools.wraps(verb)
    def called(**given: Any) -> None:
        cache_in(given.get("cache_dir"))
        for name, group in groups.items():
            given[name] = group(**{field.name: given.pop(field.name) for field in fields(group)})
        verb(**given)

    called.__signature__ = inspect.Signature(flat)  # type: ignore[attr-defined]
    called.__annotations__ = {parameter.name: parameter.annotation for parameter in flat}
    return called


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
