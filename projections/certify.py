"""Digests and certificates: what a build holds at a position, of which code, over which log, in one line.

The digest is SHA-256 over the digests of every subject's rows, table by table, in order of subject. Two builds that
hold the same rows have the same digest, whenever and however they were made.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import inspect
import io
import sys
import tokenize
from collections.abc import Iterable, Mapping
from typing import Any, Final

import asyncpg
import orjson

from ledger.merkle import extend, root
from projections.builds import Build, enter, positions_of
from projections.collecting import collector_paused
from projections.contract import Projection

# Rows are hashed as their text, which the database writes the same way whatever a client prefers.
SETTLE_FORMATS: Final = """
SELECT set_config(name, value, true)
FROM (VALUES ('timezone', 'UTC'), ('datestyle', 'ISO'), ('extra_float_digits', '1'), ('bytea_output', 'hex'))
     AS formats (name, value)
"""

LEAVES: Final = """
SELECT leaf
FROM ledger.event
WHERE book = $1 AND position > $2 AND position <= $3
ORDER BY position
"""

CERTIFY: Final = "UPDATE ledger.build SET certificate = $2 WHERE build_id = $1"

_LEAVES_AT_ONCE: Final = 50_000

_COMMON: Final = (
    "ledger.event",
    "projections.causal",
    "projections.facts",
    "projections.folding",
    "projections.links",
    "projections.observed",
    "projections.terms",
)


_CODE: Final[dict[tuple[str, str], str]] = {}


async def digest_of(connection: asyncpg.Connection, projection: Projection, build: Build) -> tuple[str, dict[str, int]]:
    """Return a build's digest, hex, and the positions it is of: in one snapshot."""
    whole = hashlib.sha256()
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        await connection.execute(SETTLE_FORMATS)
        await enter(connection, build.schema_name)
        positions = await positions_of(connection, build.build_id)
        for table in projection.tables:
            whole.update(f"table {table.name}\n".encode())
            async for row in connection.cursor(_subject_digests(table.name), prefetch=1_000):
                whole.update(f"{row['subject']} {row['digest']}\n".encode())
    return whole.hexdigest(), {book: at for book, at in sorted(positions.items()) if at}


def _subject_digests(table: str) -> str:
    # The table's name is a constant of this code.
    return f"""
    SELECT subject, encode(sha256(convert_to(string_agg(t::text, E'\\n' ORDER BY t::text COLLATE "C"), 'UTF8')), 'hex')
           AS digest
    FROM {table} AS t
    GROUP BY subject
    ORDER BY subject COLLATE "C"
    """  # noqa: S608


async def certificate_of(connection: asyncpg.Connection, projection: Projection, build: Build) -> dict[str, Any]:
    """Bind a build's digest to the log's roots at its positions, its version and the source of its fold."""
    digest, positions = await digest_of(connection, projection, build)
    return {
        "build": build.build_id,
        "projection": projection.name,
        "version": build.version,
        "source": code_of(projection),
        "digest": digest,
        "books": {
            book: {"position": position, "root": (await _root(connection, book, position)).hex()}
            for book, position in positions.items()
        },
    }


async def keep_certificate(connection: asyncpg.Connection, build: Build, certificate: Mapping[str, Any]) -> None:
    """Write a certificate beside its build."""
    await connection.execute(CERTIFY, build.build_id, orjson.dumps(certificate).decode())


async def _root(connection: asyncpg.Connection, book: str, position: int) -> bytes:
    size, frontier = 0, b""
    while size < position:
        rows = await connection.fetch(LEAVES, book, size, min(size + _LEAVES_AT_ONCE, position))
        frontier = extend(size, frontier, [row["leaf"] for row in rows])
        size += len(rows)
    return root(frontier)


def code_of(projection: Projection) -> str:
    """Return the same as ``source_digest``, worked out once in a process: its code does not change."""
    key = (projection.name, projection.step.__module__)
    if key not in _CODE:
        _CODE[key] = source_digest(projection)
    return _CODE[key]


def source_digest(projection: Projection) -> str:
    """Return SHA-256, hex, over the code that folds: its meaning, not its comments.

    That is whatever the fold's own module imports of ours, and what that imports: readers of shapes, worth, parts.
    """
    package = __name__.partition(".")[0]
    own: set[str] = set()
    reached = {projection.step.__module__}
    while reached:
        own |= reached
        used = {name for module in reached for name in _modules_used(module)}
        reached = {name for name in used if name.startswith(f"{package}.")} - own
    whole = hashlib.sha256()
    for name in sorted({*own, *_COMMON}):
        whole.update(f"{name}\n{_meaning(name)}\n".encode())
    return whole.hexdigest()


def _modules_used(name: str) -> Iterable[str]:
    tree = _tree(inspect.getsource(importlib.import_module(name)))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            # A name may be a module itself: it has been imported with the module that says so.
            yield from {f"{node.module}.{one.name}" for one in node.names} & sys.modules.keys()


def _tree(source: str) -> ast.Module:
    """Parse source with the collector paused: what it ends may parse too, which Python 3.11 takes for a mistake here.

    (``SystemError: AST constructor recursion depth mismatch``, once a finalizer has formatted a traceback.)
    """
    with collector_paused():
        return ast.parse(source)


def _meaning(name: str) -> str:
    """Return a module's source without comments, docstrings and blank lines: the same for every Python."""
    source = inspect.getsource(importlib.import_module(name))
    lines = source.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    for node in ast.walk(_tree(source)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            docstring = node.body[0]
            for row in range(docstring.lineno, (docstring.end_lineno or docstring.lineno) + 1):
                lines[row - 1] = ""
    return "\n".join(line.rstrip() for line in lines if line.strip())
