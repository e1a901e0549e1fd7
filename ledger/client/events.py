"""Server-sent events out of bytes, as they come."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

_LINE_BYTES_MAX = 1 << 20


@dataclass(frozen=True, slots=True)
class Event:
    """One block of a stream. Without ``data`` it only says where the stream is."""

    name: str
    data: str
    event_id: str | None


class EventParser:
    """Takes bytes in pieces of any size and gives back whole events."""

    def __init__(self) -> None:
        self._rest = b""
        self._name = "message"
        self._data: list[str] = []
        self._id: str | None = None

    def feed(self, some: bytes) -> Iterator[Event]:
        """Take a piece; give the events it completes. Raises ``ValueError`` for a line without an end."""
        *lines, self._rest = (self._rest + some).split(b"\n")
        if len(self._rest) > _LINE_BYTES_MAX:
            raise ValueError("the stream sends a line without an end")
        for line in lines:
            text = line.removesuffix(b"\r").decode("utf-8", "replace")
            if text:
                self._field(text)
                continue
            if self._data or self._id is not None:
                yield Event(self._name, "\n".join(self._data), self._id)
            self._name, self._data, self._id = "message", [], None

    def _field(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            self._name = value
        elif name == "data":
            self._data.append(value)
        elif name == "id":
            self._id = value
