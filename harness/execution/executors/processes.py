"""A slot and all that it starts are one group of processes, and end together."""

import contextlib
import os
import signal


def lead_group() -> None:
    """Make this process the first of a group of its own, where the system knows groups."""
    if hasattr(os, "setpgrp"):
        os.setpgrp()


def end_group(leader: int | None) -> None:
    """Kill the group that a process leads, also where that has died, or is hung.

    Args:
        leader: Its id; it must not have been waited for, or the id may be another's by now.
    """
    if leader is None or not hasattr(os, "killpg"):
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if leader != os.getpid() or os.getpgrp() == leader:
            os.killpg(leader, signal.SIGKILL)
