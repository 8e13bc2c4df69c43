"""Runs one after another in this process: for tests, debugging and notebooks."""

from collections.abc import Iterator

from harness.execution.executors.messages import message_of
from harness.execution.runner import Finished, Job, Judge, Message
from harness.training.events import Command
from harness.training.run import drain
from harness.training.run_options import RunOptions


class Inline:
    """Executes jobs in this process.

    A run that hangs cannot be ended from within its own process: there is no `timeout` here.

    Args:
        options: How each run is carried out.
    """

    slots = 1

    def __init__(self, options: RunOptions) -> None:
        self._options = options
        self._halting = False

    def execute(
        self, jobs: Iterator[Job], judge: Judge | None = None
    ) -> Iterator[tuple[Job, Message]]:
        """Run each job to its end before the next one is pulled."""
        for job in jobs:
            events = drain(job.spec, job.attempt, self._options)
            command: Command | None = None
            while True:
                try:
                    message = message_of(events.send(command))
                except StopIteration as finished:
                    yield job, Finished(finished.value)
                    break
                stop = judge is not None and bool(message.values) and judge(job.spec, message)
                command = Command.STOP if stop else None
                yield job, message
                if self._halting:
                    command = Command.HALT
            if self._halting:
                return

    def halt(self) -> None:
        """Have the run write a checkpoint and end, and start no more."""
        self._halting = True

    def close(self) -> None:
        """Nothing was started."""
