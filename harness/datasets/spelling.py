"""Labels and groups that are one to a person and several to a computer."""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

import numpy as np

from harness.datasets.cells import Texts
from harness.errors import listing

_NUMBER = re.compile(r"([+-]?)0*(\d+)(?:\.(\d*?)0*)?")
_ALIKE = str.maketrans(
    {
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-"),
        **dict.fromkeys("\u2018\u2019\u02bc`\u00b4", "'"),
        **dict.fromkeys("\u201c\u201d", '"'),
    }
)


def essence(label: str) -> str:
    """Return what a person reads: no case, blanks, invisible characters or zeros of a number.

    Letters are compared in the compatibility form of Unicode (NFKC), so that composed and
    decomposed accents, full-width letters and ligatures are one.
    """
    plain = unicodedata.normalize("NFKC", label).translate(_ALIKE)
    visible = "".join(c for c in plain if not _unseen(c))
    folded = unicodedata.normalize("NFKC", "".join(visible.split()).casefold())
    number = _NUMBER.fullmatch(folded)
    if number is None:
        return folded or label
    sign, whole, decimals = number.groups()
    value = f"{whole}.{decimals}" if decimals else whole
    return value if sign != "-" or value == "0" else f"-{value}"


def _unseen(character: str) -> bool:
    """Whether a character cannot be seen: of width zero, a control, or a variation selector."""
    return unicodedata.category(character) in ("Cf", "Cc") or 0xFE00 <= ord(character) <= 0xFE0F


def case_and_blanks(label: str) -> str:
    """Return a label without case and blanks, all that the first version took for one."""
    return "".join(label.split()).casefold()


def alike(labels: Texts) -> list[list[str]]:
    """Return the groups of different labels that a person takes for one, most frequent first."""
    groups: dict[str, list[str]] = {}
    for label, _ in Counter(sorted(labels)).most_common():
        groups.setdefault(essence(label), []).append(label)
    return [group for group in groups.values() if len(group) > 1]


def one_spelling(labels: Texts, merge: bool, what: str = "labels") -> tuple[Texts, list[str]]:
    """Make one of labels that look alike, or return a remark on them.

    Args:
        labels: The labels.
        merge: Whether to take the most frequent spelling for all.
        what: What they are, for the remark.
    """
    groups = alike(labels)
    if not groups:
        return labels, []
    if merge:
        usual = {label: group[0] for group in groups for label in group}
        return np.array([usual.get(label, label) for label in labels], dtype=object), []
    return labels, [f"{_said(groups, what)}; `normalize_labels: true` makes them one"]


def one_case(labels: Texts, merged: Texts) -> Texts:
    """Return labels made one in the case of most rows, where they are also written so.

    The most frequent spelling of each class alone would give ``cat`` beside ``Dog``.

    Args:
        labels: The labels as they were.
        merged: The same as `one_spelling` makes them one.
    """
    cases = Counter(filter(None, map(_case, sorted(labels))))
    if len(cases) < 2:
        return merged
    case = cases.most_common(1)[0][0]
    written = set(labels)
    other = {"lower": str.lower, "upper": str.upper, "capital": str.capitalize}[case]
    names = {name: other(name) for name in set(merged) if _case(name) and other(name) in written}
    return np.array([names.get(name, name) for name in merged], dtype=object)


def _case(label: str) -> str:
    """Return how a label is written, or an empty text where that is none of these."""
    if label.islower():
        return "lower"
    if label.isupper():
        return "upper"
    return "capital" if label and label == label.capitalize() and label[0].isupper() else ""


def look_alike(names: Sequence[str], what: str) -> list[str]:
    """Return a remark on names that a person takes for one, where there are any."""
    groups = alike(np.array(names, dtype=object))
    return [f"{_said(groups, what)}; where they are one, rename it"] if groups else []


def _said(groups: list[list[str]], what: str) -> str:
    shown = listing((" = ".join(shown_apart(group)) for group in groups), 5)
    return f"{what} differ only in {' or '.join(_ways(groups))}: {shown}"


def differ_in_more(labels: Texts) -> bool:
    """Return whether some labels that look alike differ in more than case and blanks."""
    return any(len({case_and_blanks(label) for label in group}) > 1 for group in alike(labels))


def shown_apart(group: list[str]) -> list[str]:
    """Return labels in quotes, with what cannot be seen written out."""
    return [f"'{label}'" if _is_visible(label) else ascii(label) for label in group]


def _is_visible(label: str) -> bool:
    return label == unicodedata.normalize("NFC", label) and all(
        c.isprintable() and (c == " " or not c.isspace()) and not _unseen(c) for c in label
    )


def _ways(groups: list[list[str]]) -> list[str]:
    ways = []
    if any(len({case_and_blanks(label) for label in group}) < len(group) for group in groups):
        ways.append("case or blanks")
    if _differ_in_more(groups, numbers=True):
        ways.append("how a number is written")
    if _differ_in_more(groups, numbers=False):
        ways.append("characters that look alike or cannot be seen")
    return ways


def _differ_in_more(groups: list[list[str]], numbers: bool) -> bool:
    """Whether labels of some group, numbers or others, differ in more than case and blanks."""
    return any(
        len({case_and_blanks(label) for label in group}) > 1
        and (_NUMBER.fullmatch(essence(group[0])) is not None) == numbers
        for group in groups
    )
