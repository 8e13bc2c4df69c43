"""Fields that say how a delimited file is to be read, the same for tables and manifests."""

import codecs
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field


def _known(encoding: str) -> str:
    if encoding != "auto":
        try:
            codecs.lookup(encoding)
        except LookupError:
            raise ValueError(
                f"'{encoding}' is no encoding that Python knows; usual ones: utf-8, utf-16, "
                "cp1252, latin-1, shift_jis, gb18030"
            ) from None
    return encoding


def _marks(value: Any) -> Any:
    """Return marks as text: YAML reads -999 as a number and null as nothing."""
    if not isinstance(value, list | tuple):
        return value
    return [f"{item}" if isinstance(item, int | float) else item for item in value]


Delimiter = Annotated[str, Field(pattern="^(auto|.|\t)$")]
Encoding = Annotated[str, AfterValidator(_known)]
NaValues = Annotated[tuple[str, ...], BeforeValidator(_marks)]
