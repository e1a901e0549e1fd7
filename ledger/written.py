"""JSON with whole numbers of any size: a sum may be beyond the 64 bits that orjson writes, and reads as they are."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, Final

import orjson

_LONG_NUMBER: Final = re.compile(rb"[0-9]{19}")


def json_bytes(
    content: Any, *, sort_keys: bool = False, indent: int | None = None, default: Callable[[Any], Any] | None = None
) -> bytes:
    """Write JSON, whole numbers of any size too; ``default`` writes what is no JSON, and times are."""
    option = (orjson.OPT_SORT_KEYS if sort_keys else 0) | (orjson.OPT_INDENT_2 if indent else 0) | orjson.OPT_UTC_Z
    try:
        return orjson.dumps(content, option=option)
    except orjson.JSONEncodeError:
        separators = (",", ": ") if indent else (",", ":")
        return json.dumps(
            content, ensure_ascii=False, separators=separators, sort_keys=sort_keys, indent=indent, default=default
        ).encode()


def may_exceed_64_bits(written: bytes) -> bool:
    """Tell whether JSON may hold a whole number beyond 64 bits, which orjson reads as a fraction."""
    return _LONG_NUMBER.search(written) is not None


def read_json(written: bytes) -> Any:
    """Read JSON, each whole number as it is."""
    return json.loads(written) if may_exceed_64_bits(written) else orjson.loads(written)
