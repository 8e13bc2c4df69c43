"""`harness check`: the contract suites on what plugins register."""

import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.text import Text

from harness.cli.shared import out
from harness.errors import ConfigError, HarnessError, listing
from harness.registry import Registry, datasets, load_plugins, metrics, strategies

_REGISTRIES = (strategies, datasets, metrics)


def run(plugins: Sequence[str]) -> None:
    """Check what the plugins register; exit with 1 if anything breaks its contract."""
    total = failed = 0
    for plugin in plugins:
        had_torch = "torch" in sys.modules
        before = {id(cls) for registry in _REGISTRIES for cls in _classes(registry)}
        try:
            load_plugins([plugin])
        except HarnessError:
            raise
        except Exception as error:
            _import_failed(plugin, error)
            total, failed = total + 1, failed + 1
            continue
        heavy = not had_torch and "torch" in sys.modules
        found = [
            (registry.kind, cls)
            for registry in _REGISTRIES
            for cls in _classes(registry)
            if id(cls) not in before or _of(cls, plugin)
        ]
        if not found:
            raise ConfigError(
                f"plugin '{plugin}' registers nothing: put @strategy('name'), @dataset('name') or "
                "@metric('name') above a class of it"
            )
        if heavy:
            _line("note", "import", "imports torch, which every listing and plan would wait for; "
                  "import it inside the function that uses it")  # fmt: skip
        for kind, cls in found:
            checks, broken = _checked(kind, cls)
            total, failed = total + checks, failed + broken
    if failed:
        out.print(f"{failed} of {total} checks failed", style="bold red")
        sys.exit(1)
    out.print(f"all {total} checks passed", style="bold green")


def _classes(registry: Registry) -> list[Any]:
    return [registry.get(name) for name in registry]


def _of(cls: type, plugin: str) -> bool:
    """Whether a class that was known before is defined in the plugin: it may be loaded already."""
    if plugin.endswith(".py"):
        file = inspect.getsourcefile(cls)
        return file is not None and Path(file).resolve() == Path(plugin).expanduser().resolve()
    return cls.__module__ == plugin or cls.__module__.startswith(f"{plugin}.")


def _import_failed(plugin: str, error: Exception) -> None:
    from harness.testing.report import told

    out.print(f"plugin {plugin}", style="bold", highlight=False)
    _line("FAIL", "import", told(error))


def _checked(kind: str, cls: Any) -> tuple[int, int]:
    """Check one class, print a line for each check, and return how many there were and failed."""
    from harness.testing.report import Report

    report = Report(f"{kind} '{cls.name}'")
    out.print(report.subject, style="bold", highlight=False)
    if kind == "dataset":
        _check_dataset(report, cls)
    elif kind == "metric":
        from harness.testing import metrics as of_metrics

        of_metrics.check_into(report, cls)
    else:
        from harness.testing.strategies import check_into

        check_into(report, cls)
    findings = report.findings()
    for finding in findings:
        state = "FAIL" if finding.failed else "note" if finding.problem else "ok"
        _line(state, finding.check, finding.problem)
    return len(findings), sum(finding.failed for finding in findings)


def _check_dataset(report: Any, cls: Any) -> None:
    from harness.testing.datasets import check_into

    needed = [info.alias or name for name, info in cls.model_fields.items() if info.is_required()]
    if needed:
        report.note(
            "can be made without parameters",
            f"it needs {listing(needed)}; check it in a test of yours with "
            f"harness.testing.check_dataset({cls.__name__}({needed[0]}=…))",
        )
        return
    with report.attempt("can be made without parameters"):
        check_into(report, cls())


def _line(state: str, check: str, problem: str) -> None:
    colour = {"FAIL": "red", "note": "yellow", "ok": "green"}[state]
    told = f"{check}: {problem}" if problem else check
    line = Text.assemble("  ", (f"{state:4}", colour), f"  {told}")
    out.print(line, highlight=False, soft_wrap=True)
