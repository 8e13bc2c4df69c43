"""Names that MLflow accepts, from names that people gave.

A metric key may hold letters and digits of any script, ``_ - .``, spaces and ``/``, at most 250
characters, and must not read like another path (MLflow 3.17, ``mlflow.utils.validation``). What
does not fit is replaced; two classes that would then share a key are an error at plan time. True
names stay in ``per_class.csv``.
"""

import hashlib
import re
import unicodedata
from collections.abc import Sequence

from harness.errors import ConfigError

LENGTH = 200
"""Longest safe name, which leaves room for a prefix within MLflow's 250."""

# a colon is refused by MLflow on Windows, and a slash would open a group of its own in the UI
_UNSAFE = re.compile(r"[^\w.\- ]")


def safe_name(name: str) -> str:
    """Return `name` as one part of a key.

    Characters outside ASCII that do not fit become their code point, so that two emoji differ;
    a long name ends in a digest, so that two with the same beginning differ.
    """
    text = _UNSAFE.sub(_replaced, unicodedata.normalize("NFC", name)).strip()
    if len(text) > LENGTH:
        digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
        text = f"{text[: LENGTH - 9].rstrip()}-{digest}"
    return "_" * max(len(text), 1) if not text.strip(".") else text


def _replaced(match: re.Match[str]) -> str:
    character = match[0]
    return "_" if character.isascii() else f"u{ord(character):04X}"


def class_keys(names: Sequence[str]) -> list[str]:
    """Return the safe name of each class.

    Raises:
        ConfigError: Two classes would share a key; the message names both.
    """
    owners: dict[str, int] = {}
    for index, name in enumerate(names):
        key = safe_name(name)
        other = owners.setdefault(key, index)
        if other != index:
            raise ConfigError(
                f"class names {names[other]!r} (class {other}) and {name!r} (class {index}) would "
                f"both be recorded in MLflow as '{key}'; rename one, so that they differ in "
                "letters, digits, spaces or _ - ."
            )
    return list(owners)


def check_class_names(names: Sequence[str]) -> None:
    """Check at plan time that every class gets MLflow keys of its own.

    Raises:
        ConfigError: As `class_keys`.
    """
    class_keys(names)
