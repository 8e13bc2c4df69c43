"""A process that has imported everything and forks commands: a start costs no seconds.

It reads one JSON request per line: ``argv`` of ``harness``, ``log`` for what is printed, perhaps
``crash`` (a function, whether before or after it, and at which call) and ``kill_after`` seconds.
It answers with the process id, then with the exit status. A command that is killed here is killed
as any other would be.
"""

import functools
import importlib
import itertools
import json
import os
import signal
import sys
import time
from typing import Any


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _patch(target: str, when: str, call: int) -> None:
    """Have this process die at a call of a function."""
    module, _, path = target.partition(":")
    owner: Any = importlib.import_module(module)
    *inner, name = path.split(".")
    for part in inner:
        owner = getattr(owner, part)
    real = getattr(owner, name)
    calls = itertools.count(1)

    @functools.wraps(real)
    def dies(*args: Any, **options: Any) -> Any:
        here = next(calls) == call
        if here and when == "before":
            _die()
        result = real(*args, **options)
        if here:
            _die()
        return result

    setattr(owner, name, dies)


def _command(asked: dict[str, Any]) -> None:
    log = os.open(asked["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.update(asked.get("environment", {}))
    if "cwd" in asked:
        os.chdir(asked["cwd"])
    if asked.get("crash"):
        _patch(*asked["crash"])
    if asked.get("patch"):
        exec(asked["patch"], {})
    code = 70
    try:
        from harness.cli import main

        sys.argv = ["harness", *asked["argv"]]
        main(asked["argv"])
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(bool(end.code))
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        import atexit

        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _wait(pid: int, kill_after: float | None) -> int:
    until = None if kill_after is None else time.monotonic() + kill_after
    while until is not None:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= until:
            os.kill(pid, signal.SIGKILL)
            break
        time.sleep(0.002)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _warm_up(argv: list[str]) -> None:
    """Run a command here, so that whatever is imported late is there."""
    from harness.cli import main

    kept = [os.dup(1), os.dup(2)]
    for target in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), target)
    try:
        main(argv)
    except SystemExit as end:
        if end.code:
            raise
    finally:
        for target, source in enumerate(kept, start=1):
            os.dup2(source, target)


def serve() -> None:
    """Warm up, say so, then answer requests until there are none."""
    _warm_up(sys.argv[1:])
    answers = os.fdopen(os.dup(1), "w")
    answers.write("warm 0\n")
    answers.flush()
    for line in sys.stdin:
        asked = json.loads(line)
        pid = os.fork()
        if not pid:
            _command(asked)
        answers.write(f"pid {pid}\n")
        answers.flush()
        answers.write(f"exit {_wait(pid, asked.get('kill_after'))}\n")
        answers.flush()


if __name__ == "__main__":
    serve()
