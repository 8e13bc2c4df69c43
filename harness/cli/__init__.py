"""The command line: the verbs in `verbs`, and what each does in a file of its own."""

from harness.cli.verbs import app, main

__all__ = ["app", "main"]
