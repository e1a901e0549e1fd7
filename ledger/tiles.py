"""Keeping the Merkle tree's upper tiles, and reading the hashes of one proof out of a few of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import asyncpg

from ledger.merkle import (
    HASH_BYTES,
    TILE_HEIGHT,
    TILE_WIDTH,
    MalformedTreeError,
    ReadHash,
    Tile,
    read_from_tiles,
    tile_parent,
)

_TILES_A_READ: Final = 64

LAST_TILE = """
SELECT index, hashes
FROM ledger.tile
WHERE book = $1 AND level = $2
ORDER BY index DESC
LIMIT 1
"""

LEAVES = """
SELECT leaf
FROM ledger.event
WHERE book = $1 AND position > $2 AND position <= $3
ORDER BY position
"""

ONE_TILE = "SELECT hashes FROM ledger.tile WHERE book = $1 AND level = $2 AND index = $3"

FULL_TILES = """
SELECT index, hashes
FROM ledger.tile
WHERE book = $1 AND level = $2 AND index >= $3 AND length(hashes) = 8192
ORDER BY index
LIMIT $4
"""

WRITE_TILE = """
INSERT INTO ledger.tile (book, level, index, hashes)
VALUES ($1, $2, $3, $4)
ON CONFLICT (book, level, index) DO UPDATE SET hashes = excluded.hashes
WHERE length(ledger.tile.hashes) < length(excluded.hashes)
"""


async def grow_tiles(connection: asyncpg.Connection, book: str, size: int) -> None:
    """Bring the tiles above level 0 up to a tree of ``size`` leaves. Doing it twice, or at once, does no harm."""
    level = 1
    while size >> (TILE_HEIGHT * level):
        await _grow_level(connection, book, level, size >> (TILE_HEIGHT * level))
        level += 1


async def _grow_level(connection: asyncpg.Connection, book: str, level: int, wanted: int) -> None:
    """Extend one level to ``wanted`` hashes, each the parent of a full tile below."""
    row = await connection.fetchrow(LAST_TILE, book, level)
    hashes = bytes(row["hashes"]) if row is not None else b""
    index = row["index"] if row is not None else 0
    have = index * TILE_WIDTH + len(hashes) // HASH_BYTES
    while have < wanted:
        count = min(wanted - have, _TILES_A_READ)
        for parent in await _parents(connection, book, level, have, count):
            if len(hashes) == TILE_WIDTH * HASH_BYTES:
                hashes, index = b"", index + 1
            hashes += parent
            have += 1
            if len(hashes) == TILE_WIDTH * HASH_BYTES or have == wanted:
                await connection.execute(WRITE_TILE, book, level, index, hashes)


async def _parents(connection: asyncpg.Connection, book: str, level: int, first: int, count: int) -> list[bytes]:
    """Hash ``count`` full tiles of the level below ``level``, from index ``first`` on."""
    if level == 1:
        leaves = [
            row["leaf"]
            for row in await connection.fetch(LEAVES, book, first * TILE_WIDTH, (first + count) * TILE_WIDTH)
        ]
        tiles = [b"".join(leaves[at : at + TILE_WIDTH]) for at in range(0, len(leaves), TILE_WIDTH)]
    else:
        tiles = [row["hashes"] for row in await connection.fetch(FULL_TILES, book, level - 1, first, count)]
    if len(tiles) != count:
        raise MalformedTreeError(f"book {book} lacks hashes for tile level {level}: run `ledger verify`")
    return [tile_parent(tile) for tile in tiles]


async def fetch_tiles(connection: asyncpg.Connection, book: str, tiles: Iterable[Tile]) -> ReadHash:
    """Fetch the tiles a proof needs and return a reader over them."""
    found: dict[tuple[int, int], bytes] = {}
    for tile in tiles:
        found[tile.level, tile.index] = await read_tile(connection, book, tile)
    return read_from_tiles(found)


async def read_tile(connection: asyncpg.Connection, book: str, tile: Tile) -> bytes:
    """Return one tile's hashes, as wide as asked for."""
    if tile.level == 0:
        start = tile.index * TILE_WIDTH
        rows = await connection.fetch(LEAVES, book, start, start + tile.width)
        return b"".join(row["leaf"] for row in rows)
    hashes = await connection.fetchval(ONE_TILE, book, tile.level, tile.index)
    return bytes(hashes or b"")[: tile.width * HASH_BYTES]
