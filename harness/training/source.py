"""The rows of the expanded training set: stored ones, and synthetic ones made when asked for.

Nothing is copied ahead: a synthetic row is three numbers until a batch needs it.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.datasets.base import Data
from harness.strategies.base import Synthesis


class Source:
    """Gathers rows on a device.

    Args:
        data: The loaded dataset.
        synthesis: Rows to create, or None.
        device: Where the stored rows lie; a memory map stays on the host.
    """

    def __init__(self, data: Data, synthesis: Synthesis | None, device: torch.device) -> None:
        self._device = device
        self._stored = _stored(data.features, device)
        self._whole = data.features.dtype.kind == "u"
        mask = data.continuous
        self._continuous = None if mask is None else torch.from_numpy(mask).to(device)
        train = data.rows.train
        self._base = self._put(train, torch.int32)
        self._pair: tuple[Tensor, Tensor] | None = None
        if synthesis is not None and len(synthesis.base):
            self._base = self._put(np.concatenate([train, train[synthesis.base]]), torch.int32)
            neighbour = np.concatenate([train, train[synthesis.neighbour]])
            gap = np.concatenate([np.zeros(len(train), np.float32), synthesis.gap])
            self._pair = self._put(neighbour, torch.int32), self._put(gap, torch.float32)

    def _put(self, values: NDArray[np.generic], kind: torch.dtype) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self._device, kind)

    def stored(self, rows: Tensor) -> Tensor:
        """Return stored rows ``[B, …]``, by their number in the dataset."""
        return self._stored(rows)

    def training(self, rows: Tensor) -> Tensor:
        """Return rows of the expanded training set, ``[B, …]``.

        Where the recipe synthesizes they are ``float32``: ``base + gap · (neighbour − base)``,
        rounded where stored values are whole. Originals are their own neighbours.
        """
        start = self._stored(self._base.index_select(0, rows))
        if self._pair is None:
            return start
        neighbour, gap = (part.index_select(0, rows) for part in self._pair)
        gap = gap.view(-1, *[1] * (start.dim() - 1))
        if self._continuous is not None:
            gap = gap * self._continuous
        start = start.to(torch.float32)  # before the difference: uint8 would wrap around
        values = start + gap * (self._stored(neighbour).to(torch.float32) - start)
        return values.round_() if self._whole else values


class _Host:
    """Rows of a memory map as host tensors."""

    def __init__(self, features: NDArray[np.generic]) -> None:
        self._features = features

    def __call__(self, rows: Tensor) -> Tensor:
        return torch.from_numpy(_plain(self._features[rows.numpy()]))


class _Resident:
    """Rows of a tensor that lies on the device."""

    def __init__(self, features: Tensor) -> None:
        self._features = features

    def __call__(self, rows: Tensor) -> Tensor:
        return self._features.index_select(0, rows)


def _plain(values: NDArray[np.generic]) -> NDArray[np.generic]:
    """Torch does hardly any arithmetic on uint16; int32 holds the same levels."""
    return values.astype(np.int32) if values.dtype == np.uint16 else values


def _stored(features: NDArray[np.generic], device: torch.device) -> _Host | _Resident:
    if isinstance(features, np.memmap) and device.type == "cpu":
        return _Host(features)
    values = _plain(features)
    return _Resident(
        torch.from_numpy(values if values.flags.writeable else values.copy()).to(device)
    )
