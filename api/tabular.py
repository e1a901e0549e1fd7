"""Writing rows to a file as CSV, JSON lines or Parquet, a part at a time."""

from __future__ import annotations

import contextlib
import csv
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal, Protocol

from ledger.errors import MistakeError
from ledger.times import rfc3339
from ledger.written import json_bytes

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
        self._file.writelines(json_bytes(row, default=rfc3339) + b"\n" for row in written)

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
            try:
                self._writer.write_table(self._table.from_pylist([dict(row) for row in rows], schema=self._schema))
            except OverflowError as error:
                raise MistakeError("an amount exceeds the 64 bits that parquet holds: use csv or jsonl") from error

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


STANDARD_OUTPUT: Final = Path("-")


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give where to write a file that is there only when it is whole: beside its place, and then put there.

    ``-`` is standard output, which gets it when it is whole; a device or a pipe is written to as it is.
    """
    if path == STANDARD_OUTPUT:
        with tempfile.TemporaryDirectory(prefix="ledger-") as folder:
            part = Path(folder) / "part"
            yield part
            with part.open("rb") as file:
                shutil.copyfileobj(file, sys.stdout.buffer)
            sys.stdout.buffer.flush()
    elif path.exists() and not path.is_file():
        yield path
    else:
        path = path.resolve()
        part = path.with_name(f".{path.name}.part")
        try:
            yield part
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        part.rename(path)
