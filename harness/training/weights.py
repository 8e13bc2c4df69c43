"""Weights from a file, into a network that may have another head.

The one way in is torch's restricted unpickler: a file can hold tensors, and no code.
"""

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from harness.errors import ConfigError, listing

_CONTAINERS = ("state_dict", "model", "model_state_dict")
_PREFIXES = ("module.", "_orig_mod.", "network.")
"""What data-parallel, compiled and our own wrappers put before every name."""
_AUXILIARY = ("AuxLogits.", "aux1.", "aux2.")
"""Second heads of inception_v3 and googlenet, which are left off here."""

State = dict[str, Tensor]


def load_file(network: nn.Module, head_name: str, path: Path, model: str) -> tuple[str, ...]:
    """Load the weights of a file into a network.

    A head of another kind or for other classes stays as initialised.

    Args:
        network: Changed in place.
        head_name: Where its last layer is.
        path: A file that `torch.save` wrote: a state dict, or a dict that holds one under
            ``state_dict``, ``model`` or ``model_state_dict``.
        model: Name of the model, for messages.

    Returns:
        What the user should know: that the head was left out.

    Raises:
        ConfigError: The file cannot be read, or does not fit but for the head.
    """
    given, own = _read(path), network.state_dict()
    head = f"{head_name}."
    theirs = {key: value for key, value in given.items() if key.startswith(head)}
    ours = {key: value for key, value in own.items() if key.startswith(head)}
    notes: tuple[str, ...] = ()
    if _shapes(theirs) != _shapes(ours):
        given = {key: value for key, value in given.items() if key not in theirs}
        given |= ours
        notes = (
            f"weights {path}: head '{head_name}' is not taken over and starts at random (the file "
            f"has {_described(theirs)}, the model {_described(ours)})",
        )
    _require_fit(given, own, path, model)
    network.load_state_dict({**own, **given})
    return notes


def _read(path: Path) -> State:
    """Return the state dict of a file, without wrappers' prefixes and auxiliary heads."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ConfigError(
            f"weights {path}: holds more than tensors, or is no file of torch.save; "
            "save model.state_dict() alone"
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, LookupError) as error:
        raise ConfigError(f"weights {path}: cannot be read: {error}") from error
    if isinstance(content, Mapping):
        inner = (content[key] for key in _CONTAINERS if isinstance(content.get(key), Mapping))
        content = next(inner, content)
    if not isinstance(content, Mapping) or not content or not _is_state(content):
        raise ConfigError(
            f"weights {path}: holds no state dict (a dict of tensors, bare or under "
            f"{listing(_CONTAINERS)})"
        )
    state = dict(content)
    while prefix := next((p for p in _PREFIXES if all(k.startswith(p) for k in state)), None):
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    return {key: value for key, value in state.items() if not key.startswith(_AUXILIARY)}


def _is_state(content: Mapping[object, object]) -> bool:
    return all(isinstance(k, str) and isinstance(v, Tensor) for k, v in content.items())


def _require_fit(given: State, own: State, path: Path, model: str) -> None:
    # files from before torch 0.4.1 do not count the batches of a batch norm
    counted = {key for key in own if not key.endswith("num_batches_tracked")}
    wrong = {
        "missing": sorted(counted - given.keys()),
        "unknown": sorted(given.keys() - own.keys()),
        "of another shape": sorted(
            f"{key} {tuple(given[key].shape)} for {tuple(own[key].shape)}"
            for key in given.keys() & own.keys()
            if given[key].shape != own[key].shape
        ),
    }
    found = [f"{what}: {listing(keys, 5)}" for what, keys in wrong.items() if keys]
    if found:
        raise ConfigError(f"weights {path} do not fit model '{model}'; {'; '.join(found)}")


def _shapes(state: State) -> dict[str, torch.Size]:
    return {key: value.shape for key, value in state.items()}


def _described(state: State) -> str:
    return listing(f"{key} {tuple(value.shape)}" for key, value in state.items()) or "none"
