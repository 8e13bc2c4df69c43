"""`harness list`: the names there are, and the keys of each."""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel
from rich.table import Table
from rich.text import Text

from harness.cli.shared import out, print_json, shipped
from harness.errors import ConfigError, did_you_mean, listing
from harness.metrics import OF_TWO, STANDARD, Metric
from harness.registry import Registry, datasets, load_plugins, metrics, strategies


def run(kind: str | None, plugins: Sequence[str], as_json: bool) -> None:
    """Print names of one kind, or of all; or the keys of what one name stands for.

    Raises:
        ConfigError: It is neither a kind nor a name.
    """
    load_plugins(plugins)
    makers = {
        "strategies": lambda: _registry(strategies),
        "datasets": lambda: _registry(datasets),
        "models": _models,
        "metrics": _metrics,
        "experiments": _experiments,
    }
    if kind is not None and kind not in makers:
        _keys(kind, list(makers), as_json)
        return
    found = {name: make() for name, make in makers.items() if kind in (None, name)}
    if as_json:
        print_json(found)
        return
    for title, entries in found.items():
        shown = (
            entries if kind is not None or len(entries) <= 30 else dict(list(entries.items())[:8])
        )
        table = Table(
            title=title, title_justify="left", box=None, show_header=False, pad_edge=False
        )
        for name, text in shown.items():
            table.add_row(name, text, style=None)
        out.print(table)
        if len(shown) < len(entries):
            out.print(f"… and {len(entries) - len(shown)} more: harness list {title}", style="dim")
        out.print()


def _keys(name: str, kinds: Sequence[str], as_json: bool) -> None:
    """Print the keys of a dataset, strategy, metric or model."""
    from harness.cli.keys import keys_of, told
    from harness.experiment.model_names import model_names
    from harness.experiment.spec import Model

    found: dict[str, tuple[type[BaseModel], str]] = {}
    for registry in (datasets, strategies, metrics):
        if name in registry:
            found[registry.kind] = registry.get(name), registry.get(name).summary()
    if name in model_names() or name.startswith("timm/"):
        found["model"] = Model, "a network; the keys are the same for every model"
    if not found:
        known = [*kinds, *datasets, *strategies, *metrics, *model_names()]
        raise ConfigError(
            f"list {name}: neither a kind ({', '.join(kinds)}) nor the name of a dataset, "
            f"strategy, metric or model{did_you_mean(name, known)}"
        )
    if as_json:
        print_json({kind: {name: keys_of(cls)} for kind, (cls, _) in found.items()})
        return
    for kind, (cls, summary) in found.items():
        out.print(f"{kind} {name}: {summary}", markup=False, highlight=False, soft_wrap=True)
        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_column(no_wrap=True)
        table.add_column()
        for key in keys_of(cls):
            table.add_row(f"  {key['key']}", Text(told(key)))
        out.print(table)


def _registry(registry: Registry) -> dict[str, str]:
    return {name: registry.get(name).summary() for name in registry}


def _models() -> dict[str, str]:
    from harness.experiment.model_names import model_names

    return {**dict.fromkeys(model_names(), ""), "timm/NAME": "any timm model, with the extra timm"}


def _metrics() -> dict[str, str]:
    """Return direction and words of each, those that every run has first."""
    names = [*STANDARD, *OF_TWO, *(name for name in metrics if name not in (*STANDARD, *OF_TWO))]
    return {name: _described(metrics.get(name)) for name in names}


def _described(cls: type[Metric]) -> str:
    better = "higher is better" if cls.higher_is_better else "lower is better"
    needed = [name for name, info in cls.model_fields.items() if info.is_required()]
    optional = [name for name in cls.model_fields if name not in needed]
    told = [f"needs {listing(needed)}"] * bool(needed) + [f"takes {listing(optional)}"] * bool(
        optional
    )
    return "; ".join([f"{better}: {cls.summary()}", *told])


def _experiments() -> dict[str, Any]:
    found = {}
    for name, path in shipped().items():
        first = path.read_text(encoding="utf-8").split("\n", 1)[0]
        found[name] = first.lstrip("# ").strip()
    return found
