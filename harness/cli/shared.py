"""What several verbs need: finding an experiment file, consoles."""

import importlib.resources
import json
import os
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from harness.errors import ConfigError, did_you_mean, listing

# In a file or a pipe a table keeps its width; a terminal says how wide it is.
_WIDTH = None if sys.stdout.isatty() else 160

# No markup and no emoji codes: names of classes and recipes are printed as they are.
out = Console(width=_WIDTH, markup=False, emoji=False)
err = Console(stderr=True, markup=False, emoji=False)


def shipped_folder() -> Path:
    """Return where the shipped experiments lie: in the wheel, or beside the package's source."""
    packaged = Path(str(importlib.resources.files("harness"))) / "_experiments"
    return packaged if packaged.is_dir() else packaged.parent.parent / "experiments"


def shipped() -> dict[str, Path]:
    """Return the shipped experiment files by name."""
    return {path.stem: path for path in sorted(shipped_folder().glob("*.yaml"))}


def find(file: str) -> Path:
    """Return the path of an experiment file, given as a path or as the name of a shipped one.

    Raises:
        ConfigError: There is no such file.
    """
    path = Path(os.path.expanduser(file))
    if os.path.isfile(path):  # where Path.is_file raises on a name that is too long
        return path
    known = shipped()
    name = file.removesuffix(".yaml")  # as notes and reports call a shipped file
    if name in known:
        return known[name]
    raise ConfigError(
        f"no such experiment file: {path.absolute()}{did_you_mean(file, known)} "
        f"(shipped: {listing(known)})"
    )


def print_json(data: Any) -> None:
    """Print plain JSON for a program: no colour, no wrapping, no NaN."""
    sys.stdout.write(json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
