"""What several verbs need: finding an experiment file, consoles."""

import json
import sys
from typing import Any

from harness.experiment.shipped import find, shipped
from harness.terminal import Terminal
from harness.text import visible_json

__all__ = ["err", "find", "out", "print_json", "shipped"]

# In a file or a pipe a table keeps its width; a terminal says how wide it is.
_WIDTH = None if sys.stdout.isatty() else 160

out = Terminal(width=_WIDTH)
err = Terminal(stderr=True)


def print_json(data: Any) -> None:
    """Print plain JSON for a program: no colour, no wrapping, no NaN, no control characters."""
    text = json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False)
    sys.stdout.write(visible_json(text) + "\n")
