"""Opens MLflow's own UI on the results, on this machine only."""

import contextlib
import os
import shlex
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from harness.errors import TrackingError
from harness.text import visible
from harness.tracking.address import DATABASE, database
from harness.tracking.views import RECIPES, TAG

LOOPBACK = ("127.0.0.1", "localhost", "::1")
PORT = 5000
_MOST = 10
"""Experiments whose addresses are told, the one written to last first."""

_VIEW = "?workflowType=machine_learning"
"""Has MLflow show runs and charts, not its pages for language models."""

_ENVIRONMENT = {
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # ten processes and 1.8 GB otherwise
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
}


def ui_command(results: Path) -> str:
    """Return the plain command line that opens MLflow's UI on a results folder."""
    return shlex.join(["mlflow", "ui", "--backend-store-uri", database(results)])


def ui(
    results: Path,
    host: str = "127.0.0.1",
    port: int = PORT,
    allow_public: bool = False,
    say: Callable[[str], None] = print,
) -> int:
    """Serve MLflow's UI on a results folder until it is interrupted; return its exit code.

    Args:
        results: The results folder.
        host: Address to bind.
        port: Port to bind.
        allow_public: Bind other than this machine's own address: the UI asks for no password.
        say: Is told the URL.

    Raises:
        TrackingError: There is no database, the port is taken, or the host is public.
    """
    results = results.expanduser().absolute()
    if host not in LOOPBACK and not allow_public:
        raise TrackingError(
            f"host {host} would let every machine that reaches this one read and delete results, "
            "without a password; leave it at 127.0.0.1, or say that it is meant: --allow-public"
        )
    if not (results / DATABASE).is_file():
        raise TrackingError(
            f"{results / DATABASE} does not exist: no run was mirrored here yet; start one with "
            "`harness run FILE`, or mirror finished ones with `harness sync FILE`"
        )
    _require_free(host, port)
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", database(results)]
    command += ["--host", host, "--port", str(port), "--workers", "1"]
    shown = f"[{host}]" if ":" in host else host
    site = f"http://{shown}:{port}/#/experiments"
    for name, address in _compared(results / DATABASE):
        say(f"{name}, recipes compared: {site}/{address}")
    say(f"MLflow UI: {site}{_VIEW}  (Ctrl-C ends it)")
    environment = {**os.environ, **_ENVIRONMENT}
    # a session of its own: MLflow starts servers in turn, and all of them end together
    return _wait(
        subprocess.Popen(command, cwd=results, env=environment, start_new_session=os.name != "nt")
    )


def _compared(database: Path) -> list[tuple[str, str]]:
    """Return the name of each experiment and where the UI compares its recipes."""
    query = (
        "SELECT e.name, e.experiment_id FROM experiments e JOIN experiment_tags t "
        "ON t.experiment_id = e.experiment_id WHERE t.key = ? AND e.lifecycle_stage = 'active' "
        "ORDER BY (SELECT MAX(start_time) FROM runs r WHERE r.experiment_id = e.experiment_id) "
        "DESC LIMIT ?"
    )
    try:
        with contextlib.closing(
            sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)
        ) as opened:
            found = opened.execute(query, (f"{TAG}{RECIPES}", _MOST)).fetchall()
    except sqlite3.Error:  # what is wrong with it is for MLflow to say
        return []
    link = f"runs?viewStateShareKey={RECIPES}"
    return [(visible(str(name)), f"{number}/{link}") for name, number in found]


def _require_free(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise TrackingError(
                f"{host}:{port} cannot be used ({error.strerror or error}); choose another port "
                f"with --port, such as {port % 65535 + 1}"
            ) from None


def _wait(process: "subprocess.Popen[bytes]") -> int:
    """Wait for a child; Ctrl-C, SIGTERM or a closed terminal ends it and whatever it started."""

    def interrupted(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    # a closed terminal tells this process only: the child has a session of its own
    able = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    heard = [number for number in able if signal.getsignal(number) != signal.SIG_IGN]  # nohup
    before = {number: signal.signal(number, interrupted) for number in heard}
    try:
        return process.wait()
    except KeyboardInterrupt:
        _end(process, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        return 0
    finally:
        if os.name != "nt":
            _end(process, signal.SIGKILL)  # what the child left behind would hold the port
        process.kill()
        process.wait()
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(process: "subprocess.Popen[bytes]", number: int) -> None:
    """Signal a child and, where there are process groups, all that it started."""
    if os.name == "nt":
        process.terminate()
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: only zombies are left
        os.killpg(process.pid, number)
