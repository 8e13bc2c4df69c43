"""Experiment files by path, or by the name of one that travels with the package."""

import importlib.resources
import os
from pathlib import Path

from harness.errors import ConfigError, did_you_mean, listing


def shipped_folder() -> Path:
    """Return where the shipped experiments lie: in the wheel, or beside the package's source."""
    packaged = Path(str(importlib.resources.files("harness"))) / "_experiments"
    return packaged if packaged.is_dir() else packaged.parent.parent / "experiments"


def shipped() -> dict[str, Path]:
    """Return the shipped experiment files by name."""
    return {path.stem: path for path in sorted(shipped_folder().glob("*.yaml"))}


def find(file: str | Path) -> Path:
    """Return the path of an experiment file, given as a path or as the name of a shipped one.

    Raises:
        ConfigError: There is no such file.
    """
    path = Path(os.path.expanduser(file))
    if os.path.isfile(path):  # where Path.is_file raises on a name that is too long
        return path
    known = shipped()
    name = str(file).removesuffix(".yaml")  # as notes and reports call a shipped file
    if name in known:
        return known[name]
    raise ConfigError(
        f"no such experiment file: {path.absolute()}{did_you_mean(str(file), known)} "
        f"(shipped: {listing(known)})"
    )
