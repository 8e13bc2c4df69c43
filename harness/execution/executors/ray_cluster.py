"""Joining a Ray cluster, or starting one on this machine; the one place that imports Ray first."""

import contextlib
import os
import secrets
import socket
import sys
from collections.abc import Iterator
from typing import Any

from harness.errors import ConfigError

_KNOCK_SECONDS = 10.0

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # what Ray says of a worker's death goes to standard output, which is ours
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
"""What keeps Ray from sending statistics, and from printing; read when it is imported."""

_TOKEN: list[str] = []
"""The token of the clusters that this process starts, once it has imported Ray for one."""


def connect(address: str) -> tuple[Any, bool]:
    """Join a cluster, or start one; return Ray, and whether it is ours to leave again.

    Raises:
        ConfigError: Ray is not installed, or there is no such cluster.
    """
    with _environment(address):
        return _join(address)


def _join(address: str) -> tuple[Any, bool]:
    try:
        import ray
    except ImportError as error:
        raise ConfigError(
            f"--executor ray: {error}; install it: pip install 'imbalance-harness[ray]'"
        ) from None
    if ray.is_initialized():
        return ray, False
    if address.startswith("ray://"):
        raise ConfigError(
            f"--address {address}: give the command on a node of the cluster, with --address auto"
        )
    _knock(address)
    how: dict[str, Any] = {"address": address, "log_to_driver": False, "logging_level": "ERROR"}
    if address == "local":
        how["include_dashboard"] = False
    try:
        ray.init(**how)
    except (OSError, RuntimeError, ValueError) as error:
        raise _nobody(address, error) from None
    return ray, True


def _knock(address: str) -> None:
    """Ask whether anybody is at an address: Ray itself would wait for minutes.

    Raises:
        ConfigError: Nobody is.
    """
    named = os.environ.get("RAY_ADDRESS", "") if address == "auto" else address
    host, _, port = named.rpartition(":")
    if not port.isdecimal():
        return
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _KNOCK_SECONDS):
            pass
    except (OSError, OverflowError) as error:
        raise _nobody(address, error) from None


def _nobody(address: str, error: Exception) -> ConfigError:
    reason = " ".join(str(error).split())[:300]
    return ConfigError(
        f"--address {address}: no Ray cluster can be joined there ({reason}); start one with "
        "`ray start --head`, or take --address local"
    )


@contextlib.contextmanager
def _environment(address: str) -> Iterator[None]:
    """Set what Ray reads as it is imported and started.

    The ports of a cluster that is started here are open to every machine: it obeys only who has
    its token, which nobody is told.
    """
    settings = dict(QUIET)
    if address == "local" and "RAY_AUTH_MODE" not in os.environ:
        if "ray" not in sys.modules:  # which reads as it is imported whether tokens are asked for
            _TOKEN.append(secrets.token_hex(32))
        for token in _TOKEN:
            settings |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    added = {name: value for name, value in settings.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
