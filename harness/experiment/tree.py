"""Reading an experiment file into a plain tree, and saying where in the file something stands.

YAML 1.2 through ruamel's safe loader: ``1e-3`` is a number, ``no`` a string, duplicate keys and
unknown tags are errors. No interpolation and no includes.
"""

import io
import re
import reprlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import ConstructorError, DuplicateKeyError, SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, ReusedAnchorWarning
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from harness.errors import ConfigError

Place = tuple[str | int, ...]

MAX_NODES = 100_000
MAX_DEPTH = 100
MAX_KEYS = 10_000
MAX_MERGES = 100
MAX_BYTES = 500_000
MAX_MARKS = 10_000
"""Lines, commas, brackets and the like in the text of a file, which is at least a value each."""
MAX_BRACKETS = 300
"""Brackets open at a time in the text, in quotes and comments too."""
MAX_BITS = 1024
"""Of a whole number: beyond, it is no float either."""

_MERGE = "tag:yaml.org,2002:merge"

_PLAIN = (dict, list, str, int, float, type(None))


class Tree:
    """The plain values of an experiment file and the lines they stand on.

    Attributes:
        name: What messages call the file.
        values: The mapping at the top.
        edits: The assignments that were made in it.
    """

    def __init__(self, name: str, text: str) -> None:
        """Parse `text`.

        Raises:
            ConfigError: It is not a YAML mapping, holds something other than plain values, or
                expands to more than `MAX_NODES` values.
        """
        self.name = name
        self._text = text
        self.edits: list[str] = []
        self._edited: set[Place] = set()
        values = _parse(name, text)
        if not isinstance(values, dict):
            empty = "it is empty; " if values is None else ""
            raise ConfigError(f"{name}: {empty}an experiment file is a mapping of keys to values")
        self._check((), values)
        self.values: dict[str, Any] = values

    @classmethod
    def read(cls, path: Path) -> "Tree":
        """Read a file.

        Raises:
            ConfigError: The file does not exist, is huge, is not UTF-8 text or not YAML.
        """
        try:
            if path.stat().st_size > MAX_BYTES:
                raise ConfigError(f"cannot read {path}: {_TOO_LONG}")
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise ConfigError(f"cannot read {path}: {reason}") from None
        return cls(str(path), text)

    def set(self, assignment: str) -> None:
        """Apply ``a.b.0.c=value``; the value is read as YAML.

        Raises:
            ConfigError: It is not an assignment or leads through something that holds no keys.
        """
        dotted, equals, text = assignment.partition("=")
        if not equals or not dotted.strip():
            raise ConfigError(f"--set {assignment}: expected KEY=VALUE, such as training.lr=0.05")
        value = _parse(f"--set {dotted}", text)
        place: Place = ()
        at: Any = self.values
        parts = dotted.strip().split(".")
        for i, part in enumerate(parts):
            key = _key_in(at, part)
            if key is None:
                raise ConfigError(f"--set {assignment}: {_no_such(at, parts[:i], part)}")
            place = (*place, key)
            if i == len(parts) - 1:
                at[key] = value
            else:
                at = at.setdefault(key, {}) if isinstance(at, dict) else at[key]
        self._edited.add(place)
        self._check(place, value)
        self.edits.append(assignment)

    def where(self, place: Place) -> str:
        """Return ``file:line: a.b[0]`` for a place in the tree."""
        path = dotted(place)
        if any(place[: len(edited)] == edited for edited in self._edited):
            return f"--set {path}"
        line = self._line(place)
        if place and line is None and any(edited[: len(place)] == place for edited in self._edited):
            return f"--set {path}"
        head = f"{self.name}:{line}" if line else self.name
        return f"{head}: {path}" if path else head

    @cached_property
    def _root(self) -> Node | None:
        node: Node | None = _quiet_yaml(lambda yaml: yaml.compose(io.StringIO(self._text)))
        return node

    def _line(self, place: Place) -> int | None:
        node = self._root
        line = None
        for part in place:
            found = _child(node, part)
            if found is None:
                break
            line, node = found
        return line

    def _check(self, place: Place, values: Any) -> None:
        """Refuse what is not plain, what aliases blow up, and what contains itself."""
        todo: list[tuple[Place, Any]] = [(place, values)]
        seen = 0
        while todo:
            here, value = todo.pop()
            seen += 1
            if seen > MAX_NODES or len(here) > MAX_DEPTH:
                raise ConfigError(
                    f"{self.name}: more than {MAX_NODES:,} values or {MAX_DEPTH} levels once "
                    "aliases are expanded"
                )
            if isinstance(value, int) and value.bit_length() > MAX_BITS:
                raise ConfigError(f"{self.where(here)}: a number of more than {MAX_BITS} bits")
            if not isinstance(value, _PLAIN):
                raise ConfigError(
                    f"{self.where(here)}: {value} is read as a {type(value).__name__}; put it in "
                    "quotes if it is text"
                )
            for key, inner in _items(value):
                if not isinstance(key, str | int) or not _is_text(key):
                    raise ConfigError(f"{self.where(here)}: the key {key!r} is no text")
                todo.append(((*here, key), inner))
            if not _is_text(value):
                raise ConfigError(f"{self.where(here)}: {value!r} is no text")


def _is_text(value: object) -> bool:
    """Whether `value` is anything but a string that no file, path or database could hold."""
    return not isinstance(value, str) or not re.search("[\0\ud800-\udfff]", value)


def _items(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, list):
        yield from enumerate(value)


def _key_in(at: Any, part: str) -> str | int | None:
    """Return `part` as a key of a mapping or a position in a list, or None where it is neither."""
    if isinstance(at, dict):
        return part
    number = int(part) if part.isascii() and part.isdecimal() and len(part) < 10 else -1
    return number if isinstance(at, list) and 0 <= number < len(at) else None


def _no_such(at: Any, parts: Sequence[str], part: str) -> str:
    path = ".".join(parts)
    if isinstance(at, list):
        return f"'{path}' has {len(at)} items, numbered from 0, and no '{part}'"
    return f"'{path}' is {reprlib.repr(at)} and has no keys; set '{path}' itself"


def _child(node: Node | None, part: str | int) -> tuple[int, Node] | None:
    if isinstance(node, MappingNode):
        for key, value in node.value:
            if key.value == str(part):
                return key.start_mark.line + 1, value
    if isinstance(node, SequenceNode) and isinstance(part, int) and part < len(node.value):
        item = node.value[part]
        return item.start_mark.line + 1, item
    return None


def dotted(place: Sequence[str | int]) -> str:
    """Return ``recipes.both[1].alpha`` for a place."""
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


_TOO_LONG = f"it has more than {MAX_BYTES:,} bytes, which no experiment file needs"
_MARK = re.compile(r"[\n,\[{&*]|[-?:]\s")


def _refuse_long(name: str, text: str) -> None:
    """Refuse a text that would take long to read, by counting.

    Raises:
        ConfigError: It has too many characters, too many values or too many levels.
    """
    if len(text) > MAX_BYTES:
        raise ConfigError(f"{name}: {_TOO_LONG}")
    if sum(1 for _ in _MARK.finditer(text)) > MAX_MARKS:
        raise ConfigError(
            f"{name}: more than {MAX_MARKS:,} lines and values, which no experiment file needs"
        )
    deep = 0
    for bracket in re.findall(r"[\[{}\]]", text):
        deep = max(0, deep + (1 if bracket in "[{" else -1))
        if deep > MAX_BRACKETS:
            raise ConfigError(f"{name}: more than {MAX_BRACKETS} brackets inside each other")


def _parse(name: str, text: str) -> Any:
    _refuse_long(name, text)
    try:
        return _quiet_yaml(lambda yaml: yaml.load(text))
    except DuplicateKeyError as error:
        problem = str(error.problem).partition(" with value")[0]
        raise ConfigError(f"{name}{_at(error)}: {problem}") from None
    except ConstructorError as error:
        raise ConfigError(
            f"{name}{_at(error)}: {error.problem}; only plain values are allowed here"
        ) from None
    except MarkedYAMLError as error:
        raise ConfigError(f"{name}{_at(error)}: not valid YAML: {error.problem}") from None
    except RecursionError:
        raise ConfigError(f"{name}: more than {MAX_DEPTH} levels") from None
    except Exception as error:  # a tag on a value that it does not fit raises anything
        reason = str(error).split("\n", 1)[0]
        raise ConfigError(f"{name}: not valid YAML: {reason}") from None


def _quiet_yaml(use: Callable[[YAML], Any]) -> Any:
    """Return what `use` makes of a safe loader; to use an anchor's name twice is legal."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ReusedAnchorWarning)
        yaml = YAML(typ="safe", pure=True)
        yaml.Constructor = _Bounded
        return use(yaml)


class _Bounded(SafeConstructor):
    """A safe constructor whose merges (``<<``) cannot multiply without end.

    Aliases are looked at when the tree is there, at no cost for those that repeat; merges copy.
    """

    def flatten_mapping(self, node: MappingNode) -> None:
        """Merge what `node` asks for.

        Raises:
            ConstructorError: That is too much.
        """
        merged = (value for key, value in node.value if key.tag == _MERGE)
        longest = max((len(v.value) for v in merged if isinstance(v, SequenceNode)), default=0)
        if longest <= MAX_MERGES:
            super().flatten_mapping(node)
        if longest > MAX_MERGES or len(node.value) > MAX_KEYS:
            problem = f"more than {MAX_MERGES} merges or {MAX_KEYS:,} keys in one mapping"
            raise ConstructorError(None, None, problem, node.start_mark)


def _at(error: MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    return f":{mark.line + 1}" if mark else ""
