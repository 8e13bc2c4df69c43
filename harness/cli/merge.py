"""`harness merge`: bring results folders together."""

from collections.abc import Sequence
from pathlib import Path

from harness.cli.shared import out
from harness.errors import counted
from harness.execution.merge import Merged, merge


def run(dest: Path, folders: Sequence[Path], unfinished: bool) -> None:
    """Merge, and say what there is now and what to do with it."""
    for merged in merge(dest, folders, unfinished):
        out.print(_summary(merged), highlight=False)
    out.print(
        f"for the table and for MLflow: harness run FILE --results {dest}  (does what is missing)",
        highlight=False,
        soft_wrap=True,
    )


def _summary(merged: Merged) -> str:
    parts = [f"{counted(merged.copied, 'run')} copied"]
    if merged.known:
        parts.append(f"{counted(merged.known, 'run was', 'runs were')} there already")
    if merged.failed:
        parts.append(f"{counted(merged.failed, 'run')} failed")
    return f"{merged.experiment}: {', '.join(parts)}"
