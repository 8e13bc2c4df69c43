"""One text for one value: the JSON over which the identity of a run is hashed."""

import json
from collections.abc import Mapping
from typing import Any


def canonical_json(value: Any) -> str:
    """Return JSON with sorted keys and no blanks, the same for values that are equal."""
    plain = _plain(value)
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _plain(value: Any) -> Any:
    """Return `value` with whole floats as integers: ``p: 1`` and ``p: 1.0`` are one run."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value
