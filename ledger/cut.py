"""Cutting the elements of a JSON array out of an answer, byte for byte as they stand in it.

Stripe's API gives events and objects in pages. Each is kept as the bytes between its neighbours' commas: nothing is
parsed and written again, so that a number, an escape or a key is stored as Stripe wrote it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Final

from ledger.errors import MalformedEventError

_DECODER: Final = json.JSONDecoder()
_WHITE: Final = re.compile(r"[ \t\n\r]*")


def elements(raw: bytes, *path: str) -> list[bytes]:
    """Return the exact bytes of each element of the array that ``path`` leads to, object by object.

    Raises ``MalformedEventError`` where there is no such array.
    """
    try:
        text = raw.decode("utf-8")
        at = _skip(text, 0)
        for name in path:
            at = _member(text, at, name)
        if text[at] != "[":
            raise MalformedEventError(f"{'.'.join(path)} is not a list")
        return [text[start:end].encode("utf-8") for start, end in _spans(text, at)]
    except (ValueError, IndexError) as error:
        raise MalformedEventError(f"the answer has no list {'.'.join(path)}: {error}") from error


def _skip(text: str, at: int) -> int:
    found = _WHITE.match(text, at)
    return found.end() if found else at


def _member(text: str, at: int, name: str) -> int:
    """Return where the value of a member begins, of the object that begins at ``at``."""
    if text[at] != "{":
        raise ValueError(f"{name} is looked for in what is no object")
    at = _skip(text, at + 1)
    while text[at] != "}":
        key, at = _DECODER.raw_decode(text, at)
        at = _skip(text, _skip(text, at) + 1)  # over the colon
        if key == name:
            return at
        _, at = _DECODER.raw_decode(text, at)
        at = _after_comma(text, at)
    raise ValueError(f"there is no {name}")


def _spans(text: str, at: int) -> Iterator[tuple[int, int]]:
    at = _skip(text, at + 1)
    while text[at] != "]":
        _, end = _DECODER.raw_decode(text, at)
        yield at, end
        at = _after_comma(text, end)


def _after_comma(text: str, at: int) -> int:
    at = _skip(text, at)
    return _skip(text, at + 1) if text[at] == "," else at
