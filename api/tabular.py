"""Writing rows to a file as CSV, JSON lines or Parquet, a part at a time."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Protocol

import orjson

from ledger.times import rfc3339

Kind = Literal["text", "amount", "time", "texts", "truth"]
"""What a column holds."""

Columns = Mapping[str, Kind]

_RUN: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What a cell begins with that a spreadsheet would run; some take the wide forms of these signs as well."""


class Writer(Protocol):
    """Writes rows of a table."""

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write some more rows."""

    def close(self) -> None:
        """Finish the file."""


def safe_cell(value: object) -> object:
    """Quote a text that a spreadsheet would run; numbers are numbers, times and truths as in JSON."""
    if isinstance(value, (list, tuple)):
        value = " ".join(str(part) for part in value)
    if isinstance(value, datetime):
        return rfc3339(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"'{value}" if isinstance(value, str) and value.startswith(_RUN) else value


class CsvWriter:
    """Comma-separated values with a header, quoted where needed (RFC 4180)."""

    def __init__(self, path: Path, columns: Columns) -> None:
        self._file = path.open("w", encoding="utf-8", newline="")
        self._names = list(columns)
        self._csv = csv.writer(self._file)
        self._csv.writerow(self._names)

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write some more rows."""
        self._csv.writerows([safe_cell(row[name]) for name in self._names] for row in rows)

    def close(self) -> None:
        """Finish the file."""
        self._file.close()


class JsonWriter:
    """A JSON object a line."""

    def __init__(self, path: Path, columns: Columns) -> None:
        self._file = path.open("wb")
        self._names = list(columns)

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write some more rows."""
        written = ({name: row[name] for name in self._names} for row in rows)
        self._file.writelines(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z) for row in written)

    def close(self) -> None:
        """Finish the file."""
        self._file.close()


class ParquetWriter:
    """Apache Parquet: amounts are whole numbers of 64 bits, times are UTC."""

    def __init__(self, path: Path, columns: Columns) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        types: dict[Kind, Any] = {
            "text": pa.string(),
            "amount": pa.int64(),
            "time": pa.timestamp("us", tz="UTC"),
            "texts": pa.list_(pa.string()),
            "truth": pa.bool_(),
        }
        self._schema = pa.schema([(name, types[kind]) for name, kind in columns.items()])
        self._table = pa.Table
        self._writer = parquet.ParquetWriter(path, self._schema)

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write some more rows, as a group."""
        if rows:
            self._writer.write_table(self._table.from_pylist([dict(row) for row in rows], schema=self._schema))

    def close(self) -> None:
        """Finish the file."""
        self._writer.close()


class TextWriter:
    """Plain text in parts."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8")

    def write(self, parts: Iterable[str]) -> None:
        """Write some more text."""
        self._file.writelines(parts)

    def close(self) -> None:
        """Finish the file."""
        self._file.close()


FORMATS: Final[dict[str, Callable[[Path, Columns], Writer]]] = {
    "csv": CsvWriter,
    "jsonl": JsonWriter,
    "parquet": ParquetWriter,
}


class Whole(AbstractContextManager[Path]):
    """A file that is there only when it is whole: written beside its place, then put there."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._partial = path.with_name(f".{path.name}.part")

    def __enter__(self) -> Path:
        """Return where to write."""
        return self._partial

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Put the file in its place, or take away what is not whole."""
        if error is None:
            self._partial.rename(self._path)
        else:
            self._partial.unlink(missing_ok=True)
