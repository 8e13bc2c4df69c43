"""The command line: it begins in `entry`, its verbs are in `verbs`, and each works elsewhere."""

from harness.cli.entry import main
from harness.cli.verbs import app

__all__ = ["app", "main"]
