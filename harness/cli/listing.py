"""`harness list`: the names there are."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from harness.cli.shared import out, print_json, shipped
from harness.errors import ConfigError, did_you_mean
from harness.registry import Registry, datasets, load_plugins, strategies


def run(kind: str | None, plugins: Sequence[str], as_json: bool) -> None:
    """Print names of one kind, or of all."""
    load_plugins(plugins)
    makers = {
        "strategies": lambda: _registry(strategies),
        "datasets": lambda: _registry(datasets),
        "models": _models,
        "metrics": _metrics,
        "experiments": _experiments,
    }
    if kind is not None and kind not in makers:
        raise ConfigError(
            f"list {kind}: unknown kind{did_you_mean(kind, makers)} ({', '.join(makers)})"
        )
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


def _registry(registry: Registry) -> dict[str, str]:
    return {name: registry.get(name).summary() for name in registry}


def _models() -> dict[str, str]:
    from harness.experiment.model_names import model_names

    return {**dict.fromkeys(model_names(), ""), "timm/NAME": "any timm model, with the extra timm"}


def _metrics() -> dict[str, str]:
    from harness.experiment.metric_names import METRICS

    return {name: "higher is better" if up else "lower is better" for name, up in METRICS.items()}


def _experiments() -> dict[str, Any]:
    found = {}
    for name, path in shipped().items():
        first = path.read_text(encoding="utf-8").split("\n", 1)[0]
        found[name] = first.lstrip("# ").strip()
    return found
