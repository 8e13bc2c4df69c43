"""Checkpoints of one attempt: the files, not what is in them.

A checkpoint appears whole or not at all, and the one before stays until it has: a torn one is
known by its digest, and the one before is used. One that other versions or another kind of device
made is not used, since the run would not end as an undisturbed one; its header says so in plain
JSON, before anything is unpickled. They lie in the attempt's own folder; the store hands them to
the next attempt.
"""

import hashlib
import io
import json
import pickle
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from harness.errors import listing
from harness.experiment.spec import RunSpec, file_digest
from harness.files import rename, replacing
from harness.training.rundir import CHECKPOINT_SECONDS, CHECKPOINTS, version_of

FORMAT = 2

_MAGIC = b"harness checkpoint\n"


def maker(spec: RunSpec, device: str, precision: str) -> dict[str, Any]:
    """Return what must be the same for a checkpoint to be of use.

    Args:
        spec: The run.
        device: Kind of the device: ``cpu``, ``cuda`` or ``mps``.
        precision: As in `harness.training.device.choose`.
    """
    plugins = [Path(plugin).expanduser() for plugin in spec.plugins]
    return {
        "format": FORMAT,
        "key": spec.key,
        "harness": version_of("imbalance-harness"),
        "torch": torch.__version__,
        "torchvision": version_of("torchvision"),
        "albumentations": version_of("albumentations"),
        "numpy": version_of("numpy"),
        "device": device,
        "precision": precision,
        **{f"plugin {path.name}": file_digest(path)[:12] for path in plugins if path.is_file()},
    }


class Checkpoints:
    """Writes, reads and removes the checkpoints of an attempt.

    Args:
        folder: The attempt's.
        made_by: From `maker`.
        every: Seconds of training between two checkpoints.

    Attributes:
        notes: What the user should know: which checkpoint was not used, and why.
    """

    def __init__(
        self, folder: Path, made_by: Mapping[str, Any], every: float = CHECKPOINT_SECONDS
    ) -> None:
        self.notes: list[str] = []
        self._latest, self._previous = (folder / name for name in CHECKPOINTS)
        self._made_by = dict(made_by)
        self._every = every
        self._last = time.monotonic()
        self._failed = False

    def due(self) -> bool:
        """Whether it is time for another one."""
        return time.monotonic() - self._last >= self._every

    def write(self, step: int, state: dict[str, Any]) -> None:
        """Write a state, whole or not at all; where that fails, the run goes on without.

        Args:
            step: Steps done.
            state: Tensors and plain values.
        """
        self._last = time.monotonic()
        content = io.BytesIO()
        torch.save(state, content)
        body = content.getbuffer()
        header = {"made_by": self._made_by, "step": step, "size": len(body)}
        header["sha256"] = hashlib.sha256(body).hexdigest()
        try:
            with replacing(self._latest) as file:
                file.write(_MAGIC + json.dumps(header).encode() + b"\n")
                file.write(body)
                file.flush()
                if self._latest.exists():
                    rename(self._latest, self._previous)
        except OSError as error:
            if not self._failed:
                self.notes.append(f"a checkpoint could not be written: {error.strerror or error}")
            self._failed = True

    def read(self) -> dict[str, Any] | None:
        """Return the state of the last whole checkpoint of this maker, on the CPU, or None."""
        for path in (self._latest, self._previous):
            if path.exists() and (state := self._read(path)) is not None:
                return state
        return None

    def _read(self, path: Path) -> dict[str, Any] | None:
        try:
            header, body = _parted(path.read_bytes())
        except (OSError, ValueError, KeyError, TypeError) as error:
            self.notes.append(f"{path.name} is torn and was not used ({error})")
            return None
        other = _differences(header["made_by"], self._made_by)
        if other:
            self.notes.append(
                f"the checkpoint of step {header['step']} was not used: it was made with "
                f"{listing(other)}"
            )
            return None
        try:
            state: dict[str, Any] = torch.load(io.BytesIO(body), "cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError) as error:
            self.notes.append(f"{path.name} was not used ({str(error).splitlines()[0]})")
            return None
        return state

    def remove(self) -> None:
        """Delete them: the run is done."""
        for path in (self._latest, self._previous):
            path.unlink(missing_ok=True)


def _parted(content: bytes) -> tuple[dict[str, Any], bytes]:
    """Return header and body of a checkpoint.

    Raises:
        ValueError: It is none, or not whole.
    """
    if not content.startswith(_MAGIC):
        raise ValueError("no checkpoint")
    head, _, body = content.removeprefix(_MAGIC).partition(b"\n")
    header: dict[str, Any] = json.loads(head)
    if len(body) != header["size"]:
        raise ValueError(f"{len(body):,} of {header['size']:,} bytes")
    if hashlib.sha256(body).hexdigest() != header["sha256"]:
        raise ValueError("its digest is another")
    return header, body


def _differences(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    return [
        f"{name} {theirs.get(name)} (here: {ours.get(name)})"
        for name in dict.fromkeys([*theirs, *ours])
        if theirs.get(name) != ours.get(name)
    ]
