"""Whether names of image files tell what belongs together: a person, a patient, a scene.

``anna_0001.jpg`` and ``anna_0002.jpg`` show one person, and must not be split: a model that knows
her face would be praised for it. A name only suggests that, so the user is told and decides.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from harness.datasets.folders import Source
from harness.errors import counted

_PATTERNS = (
    r"([^/]+)[_-]\d+\.\w+$",  # anna_0001.jpg
    r"([^/_]+)_[^/]*$",  # p12_left_a.jpg
    r"([^/-]+)-[^/]*$",
    r"([^/\d]+)\d+\.\w+$",  # anna01.jpg
)
_FOLDER = r"([^/]+)/[^/]+$"
_FEWEST = 5
_MOST = 0.9
"""Groups per image from which on names tell hardly anything of what belongs together."""
_LARGEST = 0.5


@dataclass(frozen=True)
class NameGroups:
    """Groups that names of files suggest.

    Attributes:
        pattern: A regular expression whose first group names the group.
        groups: How many there are.
        text: What to say of them.
    """

    pattern: str
    groups: int
    text: str


def groups_in_names(source: Source, folders: bool) -> NameGroups | None:
    """Return the groups that the names of images suggest, or None.

    There are some where one pattern fits every name, finds several groups, few of one image, none
    of half the images, and no more than the names of classes.

    Args:
        source: The images.
        folders: Whether a folder may name a group: not where it names a class.
    """
    names = [
        id_ if folders else path.name for id_, path in zip(source.ids, source.files, strict=True)
    ]
    patterns = (*_PATTERNS, _FOLDER) if folders else _PATTERNS
    for pattern in patterns:
        found = _found(pattern, names)
        if found is not None and _tells(found, source):
            return _said(pattern, found)
    return None


def _found(pattern: str, names: Sequence[str]) -> list[str] | None:
    matches = [re.search(pattern, name) for name in names]
    found = [match[1] for match in matches if match]
    return found if len(found) == len(names) else None


def _tells(found: Sequence[str], source: Source) -> bool:
    sizes = Counter(found)
    classes: defaultdict[str, set[int]] = defaultdict(set)
    for group, label in zip(found, source.labels, strict=True):
        classes[group].add(int(label))
    pure = all(len(labels) == 1 for labels in classes.values())
    return (
        max(_FEWEST, len(source.class_names) + 1 if pure else 0) <= len(sizes)
        and len(sizes) <= _MOST * len(found)
        and max(sizes.values()) <= _LARGEST * len(found)
    )


def _said(pattern: str, found: Sequence[str]) -> NameGroups:
    sizes = Counter(found)
    (largest, most), *_ = sizes.most_common(1)
    text = (
        f"names of files tell {counted(len(sizes), 'group')} of up to {counted(most, 'image')}, "
        f"such as '{largest}'"
    )
    return NameGroups(pattern, len(sizes), text)
