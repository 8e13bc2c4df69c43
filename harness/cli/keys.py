"""The keys of a dataset, strategy or model, as `harness list NAME` tells them."""

import ast
import inspect
import itertools
import re
import textwrap
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from harness.strategies.base import Tunable

_TYPES = {"number": "number", "integer": "whole number", "string": "text", "boolean": "true/false"}


def keys_of(cls: type[BaseModel]) -> list[dict[str, Any]]:
    """Return what there is to say of each key of a model, those that are needed first.

    Each has ``key``, ``type`` in words with its range, ``needed``, ``default``, ``tuned`` (the
    range of a search, or None) and ``text``, the first sentences beside its definition.
    """
    schema = cls.model_json_schema()
    texts = _texts(cls)
    found = []
    for name, info in cls.model_fields.items():
        key = info.alias or name
        needed = info.is_required()
        default = None if needed else info.get_default(call_default_factory=True)
        tunable = next((mark for mark in info.metadata if isinstance(mark, Tunable)), None)
        found.append(
            {
                "key": key,
                "type": _type(schema["properties"].get(key, {}), schema.get("$defs", {})),
                "needed": needed,
                "default": None if default is PydanticUndefined else _plain(default),
                "tuned": None if tunable is None else [tunable.low, tunable.high],
                "text": texts.get(name, ""),
            }
        )
    return sorted(found, key=lambda key: not key["needed"])


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, tuple | list | set | frozenset):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | int | float | dict | type(None)) else str(value)


def _type(schema: Mapping[str, Any], defs: Mapping[str, Any]) -> str:
    """Return a JSON schema in words."""
    if "$ref" in schema:
        return _type(defs.get(schema["$ref"].rpartition("/")[2], {}), defs)
    if "enum" in schema or "const" in schema:
        return " | ".join(_value(value) for value in schema.get("enum", [schema.get("const")]))
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_type(part, defs) for part in schema["anyOf"]))
    kind = schema.get("type")
    if kind == "null":
        return "null"
    if kind == "array":
        inner = _type(schema.get("items", {}), defs)
        return f"list of {inner}" if inner != "anything" else "list"
    if kind == "object":
        return "keys and values"
    if kind == "string" and schema.get("format") == "path":
        return "path"
    return _TYPES.get(str(kind), "anything") + _range(schema)


def _range(schema: Mapping[str, Any]) -> str:
    low, above = schema.get("minimum"), schema.get("exclusiveMinimum")
    high, below = schema.get("maximum"), schema.get("exclusiveMaximum")
    parts = [
        f"{sign} {bound:g}"
        for sign, bound in (("≥", low), (">", above), ("≤", high), ("<", below))
        if bound is not None
    ]
    return f" {' and '.join(parts)}" if parts else ""


def _value(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    return '""' if value == "" else str(value)


def told(key: Mapping[str, Any]) -> str:
    """Return a key's type, default and meaning in a line."""
    default = "needed" if key["needed"] else f"default {_value(key['default'])}"
    tuned = "" if key["tuned"] is None else "; tuned in {:g} to {:g}".format(*key["tuned"])
    return f"{key['type']}; {default}{tuned}. {key['text']}".rstrip()


def _texts(cls: type[BaseModel]) -> dict[str, str]:
    """Return the text below each field's definition, or in its class's docstring.

    Python keeps none of them, so the source is read; without source there is none.
    """
    found: dict[str, str] = {}
    for owner in reversed(cls.__mro__):
        if not issubclass(owner, BaseModel) or owner is BaseModel:
            continue
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(owner)))
        except (OSError, TypeError, SyntaxError):
            continue
        found |= _attributes(inspect.getdoc(owner) or "")
        (body,) = [node.body for node in tree.body if isinstance(node, ast.ClassDef)][:1] or [[]]
        for field, after in itertools.pairwise(body):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(after, ast.Expr)
                and isinstance(after.value, ast.Constant)
            ):
                found[field.target.id] = " ".join(str(after.value.value).split())
    return found


def _attributes(doc: str) -> dict[str, str]:
    """Return what the section "Attributes:" of a docstring says of each."""
    section = re.search(r"^Attributes:\n((?:    .*\n?|\n)+)", doc, re.MULTILINE)
    items = re.split(r"^    (?=\w+: )", section[1] if section else "", flags=re.MULTILINE)
    pairs = (item.partition(": ") for item in items if item.strip())
    return {name: " ".join(text.split()) for name, _, text in pairs}
