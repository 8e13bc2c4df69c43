"""Random numbers that depend on what they are for, and on nothing else.

Every random decision of a run comes from a Philox generator keyed by (seed, name of the stream)
and placed by a position in the highest counter word, so that step 700 is decided the same way
whether or not steps 0 to 699 were, on any device, in any process, after any resume. NumPy's and
Python's global generators are never seeded or read.
"""

import functools
import hashlib
from typing import Any

import numpy as np


@functools.cache
def name_key(name: str) -> int:
    """Return the second key word of a stream: the first 64 bits of the SHA-256 of its name."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")


def stream(seed: int, name: str, position: int = 0) -> np.random.Generator:
    """Return the generator of stream `name` of `seed`, at `position`.

    Two positions never overlap: each owns 2**192 blocks of the Philox counter.

    Args:
        seed: The run's seed (or a split seed), 0 or larger.
        name: What the numbers decide, such as ``"order"`` or ``"blend/mixup"``.
        position: The step, pass or other index within the stream.
    """
    # As a list, NumPy takes a word from 2**63 on for a float and drops the lower bits of both.
    key = np.array([seed, name_key(name)], np.uint64)
    counter = np.array([0, 0, 0, position], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


class Stream:
    """A stream whose one generator is placed anew for each position: cheaper than a new one.

    Args:
        seed: As in `stream`.
        name: As in `stream`.
    """

    def __init__(self, seed: int, name: str) -> None:
        self._generator = stream(seed, name)
        self._bits = self._generator.bit_generator
        self._start: Any = self._bits.state

    def at(self, position: int) -> np.random.Generator:
        """Return the generator in the state of ``stream(seed, name, position)``.

        It is the same object every time, and good until the next call.
        """
        self._start["state"]["counter"][3] = position
        self._bits.state = self._start
        return self._generator


def torch_seed(seed: int, name: str) -> int:
    """Return a 63-bit seed for torch's own generators, from (seed, name)."""
    return int(stream(seed, name).integers(2**63))
