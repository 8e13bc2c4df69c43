"""Where a command begins and ends.

A user's mistake prints as one message and ends with exit code 2; a bug keeps its traceback. Exit
codes: 0 all done, 1 some runs failed, 2 bad input, 130 interrupted.
"""

import gc
import io
import sys
from typing import Any

import typer

from harness.cli.verbs import app
from harness.errors import HarnessError
from harness.text import visible

_GARBAGE = 20_000
"""New objects between two searches for garbage: rows of ten thousand runs are none of it."""


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line and exit with its code."""
    gc.set_threshold(_GARBAGE)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name need not fit into the terminal's encoding
            stream.reconfigure(errors="replace")
    try:
        app(arguments)
    except HarnessError as error:
        from harness.tracking.address import mask

        typer.echo(visible(f"error: {mask(str(error))}"), err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        sys.exit(130)
