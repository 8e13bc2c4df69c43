"""Groups of images told by their names: a patient, a lesion or a scene that several show."""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from harness.errors import DataError, listing


def compiles(pattern: str | None) -> str | None:
    """Return a regular expression that is one.

    Raises:
        ValueError: It is none.
    """
    try:
        re.compile(pattern or "")
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    return pattern


def groups_of(names: Sequence[str], pattern: str, ids: Sequence[str]) -> NDArray[np.int64]:
    """Return the group of each name, ``int64[N]``.

    Args:
        names: N names, in which the pattern is searched.
        pattern: A regular expression: its first group, or all that it matches, names the group.
        ids: What messages call them.

    Raises:
        DataError: A name has none.
    """
    search = re.compile(pattern)
    matches = [search.search(name) for name in names]
    found = [match and match[1 if search.groups else 0] for match in matches]
    outside = [name for name, group in zip(ids, found, strict=True) if not group]
    if outside:
        raise DataError(
            f"no group in {len(outside)} of {len(found)} file names by the pattern '{pattern}': "
            f"{listing(outside, 3)}"
        )
    return np.unique(np.array(found, dtype=str), return_inverse=True)[1].astype(np.int64)
