r"""Text from outside: names, labels, messages of libraries, made safe to show and to store.

A label may hold the characters that move a terminal's cursor or turn a line around, and a file
name may hold bytes that are no text at all (Python keeps them as lone surrogates, which no file
encoded in UTF-8 takes). Both stay readable here, written as in a Python string: ``\x1b``.
"""

import re

_UNSTORABLE = re.compile("[\ud800-\udfff]")

_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters, but for the tab and the end of a line
    "\u2028\u2029\u202a-\u202e\u2066-\u2069"  # ends of lines, and what turns the order around
    "\ufff9-\ufffb\U000e0000-\U000e007f\ud800-\udfff]"
)


_LONG_WORD = re.compile(r"\S{501,}|(?<=')[^'\n]{501,}(?=')")
_LONGEST_LINE = 4000


def brief(text: str) -> str:
    """Return a message of at most 4,000 characters a line.

    What is echoed in it, such as a name of half a megabyte, loses its middle first, so that what is
    said of it is still read.
    """
    if len(text) <= 500:
        return text
    lines = _LONG_WORD.sub(lambda found: _ends(found[0], 300), text).split("\n")
    return "\n".join(_ends(line, _LONGEST_LINE - 100) for line in lines)


def _ends(text: str, most: int) -> str:
    """Return text that has lost its middle, where it is longer than `most` characters."""
    if len(text) <= most:
        return text
    left = f"… ({len(text) - most:,} more characters) …"
    return f"{text[: most - most // 3]}{left}{text[len(text) - most // 3 :]}"


def storable(text: str) -> str:
    """Return text that every file and every database takes: lone surrogates are written out."""
    return _UNSTORABLE.sub(_escape, text)


def storable_json(text: str) -> str:
    """Return JSON that every file takes; it reads as `storable` makes its strings."""
    return _UNSTORABLE.sub(lambda found: f"\\{_escape(found)}", text)


def error_text(error: BaseException) -> str:
    """Return what an exception says, in brief, also where its own code fails at saying it."""
    try:
        return storable(brief(str(error)))
    except Exception:
        return "(its message cannot be shown)"


def named_error(error: BaseException) -> str:
    """Return the kind of an exception and what it says: ``ValueError: out of ideas``."""
    return f"{type(error).__name__}: {error_text(error)}"


def visible(text: str) -> str:
    """Return text that can do no more to a terminal than be read.

    Control characters, those that turn the direction of writing around, and lone surrogates are
    written out; tabs and ends of lines stay.
    """
    return text if text.isascii() and text.isprintable() else _UNSEEN.sub(_escape, text)


def visible_json(text: str) -> str:
    """Return JSON in which the same characters are escaped, so that it still reads the same."""
    return _UNSEEN.sub(_json_escape, text)


_FORMULA = re.compile(r"'*[=+\-@\t\r]")


def csv_cell(text: str) -> str:
    """Return text that a spreadsheet takes for text: what would be a formula begins with ``'``.

    Numbers stay as they are; `csv_text` is the way back.
    """
    return f"'{text}" if _FORMULA.match(text) and not _is_number(text) else text


def csv_text(cell: str) -> str:
    """Return what `csv_cell` made a cell of."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text and text.strip() == text


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()


def _json_escape(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))
