"""Lists of which nothing may be left out, such as files that are bad or missing."""

from collections.abc import Sequence

from harness import cache
from harness.datasets.records import content_of

MOST = 100
"""Entries that a message holds; of a longer list it holds the first and where all of them are."""

_SHOWN = 20


def complete(entries: Sequence[str], between: str = ", ") -> str:
    """Join entries; where there are many, the first ones and the file in which all are listed."""
    if len(entries) <= MOST:
        return between.join(entries)
    path = cache.save_lines(content_of(list(entries))[:16], entries)
    if path is None:
        return between.join(entries)
    more = f"… and {len(entries) - _SHOWN:,} more; all are listed in {path}"
    return between.join([*entries[:_SHOWN], more])
