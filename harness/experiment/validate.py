"""Turning plain values into strict models, with every problem named by its place.

The registry picks the class by ``name``, then that class validates the rest; unknown keys are
errors with the nearest match.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from harness.errors import ConfigError, HarnessError, did_you_mean, listing
from harness.experiment.tree import Place, Tree
from harness.registry import Registry

M = TypeVar("M", bound=BaseModel)

MOST_PROBLEMS = 50


class Problems:
    """What is wrong with a file, collected so that all of it is shown at once."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._found: list[str] = []

    def __len__(self) -> int:
        return len(self._found)

    def add(self, place: Place, message: str) -> None:
        """Note one problem.

        Raises:
            ConfigError: It is one of very many: nobody reads more, and each takes time to tell.
        """
        self._found.append(f"{self._tree.where(place)}: {message}")
        if len(self._found) >= MOST_PROBLEMS:
            self._found.append(f"{self._tree.name}: and perhaps more; mend these first")
            self.raise_if_any()

    def raise_if_any(self) -> None:
        """Raise one `ConfigError` that lists what was noted.

        Raises:
            ConfigError: Something was noted.
        """
        if self._found:
            raise ConfigError("\n".join(dict.fromkeys(self._found)))

    def build(self, cls: type[M], values: Any, place: Place, what: str) -> M | None:
        """Return `cls` validated from `values`, or None after noting what is wrong."""
        if not isinstance(values, Mapping):
            self.add(place, f"expected keys of {what}, not {_shown(values)}")
            return None
        try:
            built = cls.model_validate(dict(values))
        except ValidationError as error:
            for inner, message in _told(cls, values, error, what):
                self.add(place + inner, message)
            return None
        except HarnessError as error:
            self.add(place, str(error))
            return None
        misread = list(_misread(values, built.model_dump(by_alias=True)))
        for inner, value in misread:
            self.add(place + inner, f"expected a number, not {_shown(value)}")
        return None if misread else built

    def named(
        self, registry: Registry, values: Any, place: Place, default: str | None = None
    ) -> Any:
        """Return the registered class that ``name`` picks, validated from the other keys.

        Args:
            registry: Where the name is looked up.
            values: A name, or a mapping with a ``name`` key (or without, given a `default`).
            place: Where it stands.
            default: The name where there is none.
        """
        by_key = isinstance(values, Mapping) and "name" in values
        if isinstance(values, str):
            values = {"name": values}
        if not isinstance(values, Mapping):
            self.add(place, f"expected a {registry.kind} (a name, or keys with a name)")
            return None
        rest = dict(values)
        name = rest.pop("name", default)
        if not isinstance(name, str):
            self.add(place, f"a {registry.kind} needs a name (one of: {listing(registry, 60)})")
            return None
        try:
            cls = registry.get(name)
        except HarnessError as error:
            self.add((*place, "name") if by_key else place, str(error))
            return None
        return self.build(cls, rest, place, name)


def _told(
    cls: type[BaseModel], values: Mapping[str, Any], error: ValidationError, what: str
) -> Iterator[tuple[Place, str]]:
    """Yield the place and the message of each problem that pydantic found.

    Where a value fits no branch of a union, pydantic reports every branch; what the branches expect
    becomes one message, and a branch that fits down to an inner value speaks for all.
    """
    expected: dict[Place, list[str]] = {}
    shown: dict[Place, str] = {}
    for item in error.errors(include_url=False)[: 10 * MOST_PROBLEMS]:
        place = _in_values(values, item)
        message, value = _message(cls, item, place, what)
        expected.setdefault(place, []).append(message)
        shown[place] = value
    outer = {place[:length] for place in expected for length in range(1, len(place))}
    for place, messages in expected.items():
        if place in outer:
            continue
        yield place, " or ".join(dict.fromkeys(messages)) + shown[place]


def _in_values(values: Any, item: ErrorDetails) -> Place:
    """Return pydantic's location without its names for branches of unions and for keys."""
    place: list[str | int] = []
    for part in item["loc"]:
        if isinstance(values, Mapping) and part in values:
            values = values[str(part) if isinstance(part, str) else part]
        elif isinstance(values, list | tuple) and isinstance(part, int) and part < len(values):
            values = values[part]
        elif item["type"] != "missing" or part != item["loc"][-1]:
            continue
        place.append(part)
    return tuple(place)


def _message(cls: type[BaseModel], item: ErrorDetails, place: Place, what: str) -> tuple[str, str]:
    """Return what was expected, and ``", not x"`` where that is to be said."""
    kind, message, context = item["type"], item["msg"], item.get("ctx", {})
    shown = f", not {_shown(item['input'])}"
    if kind == "extra_forbidden":
        owner = _owner(cls, place[:-1])
        fields = owner.model_fields if owner else {}
        accepted = sorted(info.alias or name for name, info in fields.items())
        whose = next((part for part in reversed(place[:-1]) if isinstance(part, str)), what)
        near = did_you_mean(str(place[-1]), accepted)
        return f"unknown key for '{whose}'{near} (accepts: {listing(accepted)})", ""
    if kind == "missing":
        return "a value is missing" if isinstance(place[-1], int) else f"'{what}' needs it", ""
    if kind == "value_error":
        return message.removeprefix("Value error, "), ""
    if kind in ("too_short", "too_long"):
        bound = "at least {min_length}" if kind == "too_short" else "at most {max_length}"
        return f"expected {bound} items, not {{actual_length}}".format(**context), ""
    if kind == "literal_error":
        names = re.findall(r"'([^']*)'", context["expected"])
        return f"expected {context['expected']}", shown + did_you_mean(str(item["input"]), names)
    return _EXPECTED.get(kind) or message.replace("Input should be", "must be"), shown


_EXPECTED = {
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "expected a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "expected a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "expected true or false"),
    **dict.fromkeys(("list_type", "tuple_type"), "expected a list"),
    **dict.fromkeys(("dict_type", "model_type"), "expected keys and values"),
    "string_type": "expected text",
    "path_type": "expected a path",
    "invalid_key": "expected text as a key",
    "finite_number": "expected a finite number",
}


def _misread(values: Any, built: Any) -> Iterator[tuple[Place, bool]]:
    """Yield every true or false that pydantic took for a number."""
    if isinstance(values, bool) and isinstance(built, int | float) and not isinstance(built, bool):
        yield (), values
    elif isinstance(values, Mapping) and isinstance(built, Mapping):
        for key in values.keys() & built.keys():
            yield from (((key, *inner), v) for inner, v in _misread(values[key], built[key]))
    elif isinstance(values, list | tuple) and isinstance(built, list | tuple):
        for i, (value, made) in enumerate(zip(values, built, strict=False)):
            yield from (((i, *inner), v) for inner, v in _misread(value, made))


def _owner(cls: type[BaseModel], loc: Place) -> type[BaseModel] | None:
    """Return the model that the last part of a location belongs to."""
    for part in loc:
        info = cls.model_fields.get(str(part))
        annotation = info.annotation if info else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return None
        cls = annotation
    return cls


def _shown(value: Any) -> str:
    """Return a value as YAML writes it, cut to a few words."""
    text = json.dumps(value) if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
