"""What several verbs need: finding an experiment file, consoles."""

import json
import sys
from typing import Any

from rich.console import Console

from harness.experiment.shipped import find, shipped

__all__ = ["err", "find", "out", "print_json", "shipped"]

# In a file or a pipe a table keeps its width; a terminal says how wide it is.
_WIDTH = None if sys.stdout.isatty() else 160

# No markup and no emoji codes: names of classes and recipes are printed as they are.
out = Console(width=_WIDTH, markup=False, emoji=False)
err = Console(stderr=True, markup=False, emoji=False)


def print_json(data: Any) -> None:
    """Print plain JSON for a program: no colour, no wrapping, no NaN."""
    sys.stdout.write(json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
