"""What goes over the pipe between the driver and a slot: JSON, never pickles."""

import json
from typing import Any

from harness.execution.runner import Progressed
from harness.training.events import Event


def message_of(event: Event) -> Progressed:
    """Return what the driver hears of an event."""
    return Progressed(event.step, event.steps, dict(getattr(event, "values", {})))


def encode(value: dict[str, Any]) -> bytes:
    """Return a message as bytes."""
    return json.dumps(value).encode()


def decode(data: bytes) -> dict[str, Any]:
    """Return the message in some bytes."""
    value: dict[str, Any] = json.loads(data)
    return value
