"""The RFC 6962 Merkle tree of a log: growing it, proving from it, checking proofs.

A growing tree is carried as its *frontier*: the roots of its perfect subtrees, largest first, as plain bytes.
Proofs are computed from stored hashes through a ``ReadHash`` and never need the leaves they do not touch; the
hashes are kept as C2SP tiles (c2sp.org/tlog-tiles), of which a proof in a tree of a million leaves touches at most
six. Reading order: hashes, frontier, ranges, proofs, tiles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, NamedTuple

from ledger.errors import LedgerError

HASH_BYTES: Final = 32
EMPTY_ROOT: Final = sha256(b"").digest()
TILE_HEIGHT: Final = 8
TILE_WIDTH: Final = 1 << TILE_HEIGHT

ReadHash = Callable[[int, int], bytes]
"""``read(level, index)``: the root of the perfect subtree over leaves ``index·2^level`` to ``(index+1)·2^level``.

Levels are those of the binary tree, leaves being level 0; ``read_from_tiles`` translates to tiles.
"""


class MalformedTreeError(LedgerError, ValueError):
    """Sizes, indexes or hashes that belong to no tree: a programming mistake or corrupt storage."""


# Hashes (RFC 6962 §2.1)


def leaf_hash(entry: bytes) -> bytes:
    """Hash one log entry as a leaf: SHA-256(0x00 ‖ entry)."""
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash two subtrees into their parent: SHA-256(0x01 ‖ left ‖ right)."""
    return sha256(b"\x01" + left + right).digest()


# The frontier


def extend(size: int, frontier: bytes, leaves: Sequence[bytes]) -> bytes:
    """Return the frontier after appending leaf hashes to a tree of ``size`` leaves.

    Takes and gives ``32 · popcount(size)`` bytes. Raises ``MalformedTreeError`` for any other length.
    """
    _check_frontier(size, frontier)
    if leaves and set(map(len, leaves)) != {HASH_BYTES}:
        raise MalformedTreeError(f"a leaf hash has {HASH_BYTES} bytes")
    kept: list[bytes] = []
    untouched = len(frontier)
    row = list(leaves)
    # Level by level and not leaf by leaf: one tight loop a level is what makes this cheap in Python.
    while row:
        if size & 1:
            untouched -= HASH_BYTES
            row.insert(0, frontier[untouched : untouched + HASH_BYTES])
        if len(row) & 1:
            kept.append(row.pop())
        row = _parents(row)
        size >>= 1
    kept.append(frontier[:untouched])
    kept.reverse()
    return b"".join(kept)


def root(frontier: bytes) -> bytes:
    """Return the root of the tree a frontier stands for; ``EMPTY_ROOT`` of an empty one."""
    if len(frontier) % HASH_BYTES:
        raise MalformedTreeError(f"a frontier of {len(frontier)} bytes is not made of hashes")
    return _fold(_split(frontier)) if frontier else EMPTY_ROOT


def _check_frontier(size: int, frontier: bytes) -> None:
    if size < 0 or len(frontier) != HASH_BYTES * size.bit_count():
        raise MalformedTreeError(f"a frontier of {len(frontier)} bytes is not that of a tree of {size} leaves")


def _parents(row: Sequence[bytes]) -> list[bytes]:
    return [sha256(b"\x01" + left + right).digest() for left, right in zip(row[::2], row[1::2], strict=True)]


def _fold(subtrees: Sequence[bytes]) -> bytes:
    """Join perfect subtrees, largest first, from the right: an unbalanced tree leans that way."""
    *rest, top = subtrees
    for left in reversed(rest):
        top = node_hash(left, top)
    return top


def _split(hashes: bytes) -> list[bytes]:
    return [hashes[at : at + HASH_BYTES] for at in range(0, len(hashes), HASH_BYTES)]


# Ranges: what a proof is made of, before any hash is read


class Range(NamedTuple):
    """The leaves ``start`` to ``end`` (exclusive) of which a proof holds the Merkle tree hash."""

    start: int
    end: int

    def subtrees(self) -> Iterator[tuple[int, int]]:
        """List the perfect subtrees ``(level, index)`` that make up the range, largest first."""
        at = self.start
        while at < self.end:
            level = (self.end - at).bit_length() - 1
            yield level, at >> level
            at += 1 << level


def inclusion_ranges(index: int, size: int) -> list[Range]:
    """List what PATH(index, D[size]) holds, from the leaf's sibling up (RFC 6962 §2.1.1)."""
    if not 0 <= index < size:
        raise MalformedTreeError(f"a tree of {size} leaves has no leaf {index}")
    ranges: list[Range] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _left_width(end - start)
        if index < middle:
            ranges.append(Range(middle, end))
            end = middle
        else:
            ranges.append(Range(start, middle))
            start = middle
    return ranges[::-1]


def consistency_ranges(old_size: int, size: int) -> list[Range]:
    """List what PROOF(old_size, D[size]) holds (RFC 6962 §2.1.2); nothing for an empty or an equal tree."""
    if not 0 <= old_size <= size:
        raise MalformedTreeError(f"a tree of {size} leaves never had {old_size}")
    if old_size in (0, size):
        return []
    ranges: list[Range] = []
    start, end = 0, size
    while end != old_size:
        middle = start + _left_width(end - start)
        if old_size <= middle:
            ranges.append(Range(middle, end))
            end = middle
        else:
            ranges.append(Range(start, middle))
            start = middle
    if start:  # the old tree's last subtree; where it is the whole old tree the verifier has its root already
        ranges.append(Range(start, end))
    return ranges[::-1]


def _left_width(width: int) -> int:
    """Return the largest power of two below ``width``: where RFC 6962 splits a tree."""
    return 1 << (width - 1).bit_length() - 1


# Proofs


def prove_inclusion(index: int, size: int, read: ReadHash) -> list[bytes]:
    """Prove that leaf ``index`` is in the tree of ``size`` leaves."""
    return [_range_hash(part, read) for part in inclusion_ranges(index, size)]


def prove_consistency(old_size: int, size: int, read: ReadHash) -> list[bytes]:
    """Prove that the tree of ``size`` leaves begins with that of ``old_size``."""
    return [_range_hash(part, read) for part in consistency_ranges(old_size, size)]


def read_frontier(size: int, read: ReadHash) -> bytes:
    """Read the frontier of the tree of ``size`` leaves, now or at any time past, from stored hashes."""
    return b"".join(read(level, index) for level, index in Range(0, size).subtrees())


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], tree_root: bytes) -> bool:
    """Tell whether ``proof`` shows the leaf hash at ``index`` in the tree of that size and root.

    Anything malformed is False too: whoever checks a proof does not trust who made it.
    """
    if not 0 <= index < size or not _all_hashes([leaf, *proof]):
        return False
    ranges = inclusion_ranges(index, size)
    if len(ranges) != len(proof):
        return False
    top = leaf
    for part, sibling in zip(ranges, proof, strict=True):
        top = node_hash(top, sibling) if index < part.start else node_hash(sibling, top)
    return top == tree_root


def verify_consistency(old_size: int, size: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes) -> bool:
    """Tell whether ``proof`` shows that the tree of ``size`` leaves begins with that of ``old_size``.

    Every tree begins with the empty one, whose proof is empty. Anything malformed is False.
    """
    if not 0 <= old_size <= size or not _all_hashes([old_root, new_root, *proof]):
        return False
    if old_size == size:
        return not proof and old_root == new_root
    if old_size == 0:
        return not proof and old_root == EMPTY_ROOT
    ranges = consistency_ranges(old_size, size)
    if len(ranges) != len(proof):
        return False
    return _roots_shown(old_size, ranges, proof, old_root) == (old_root, new_root)


def _roots_shown(
    old_size: int, ranges: Sequence[Range], proof: Sequence[bytes], old_root: bytes
) -> tuple[bytes, bytes]:
    """Compute the old and the new root a consistency proof stands for.

    Both grow from the old tree's last subtree: what lies left of it is in both trees, what lies right of the old
    size in the new one alone.
    """
    parts = list(zip(ranges, proof, strict=True))
    if ranges[0].end == old_size:
        old = new = parts.pop(0)[1]
    else:
        old = new = old_root
    for part, sibling in parts:
        if part.start >= old_size:
            new = node_hash(new, sibling)
        else:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
    return old, new


def _range_hash(part: Range, read: ReadHash) -> bytes:
    return _fold([read(level, index) for level, index in part.subtrees()])


def _all_hashes(hashes: Iterable[bytes]) -> bool:
    return all(len(value) == HASH_BYTES for value in hashes)


# Tiles: how c2sp.org/tlog-tiles stores the hashes of a tree


@dataclass(frozen=True, slots=True)
class Tile:
    """``width`` hashes of tile level ``level``, from ``index · 256`` on; a hash there covers 256^level leaves."""

    level: int
    index: int
    width: int

    @property
    def path(self) -> str:
        """Name the tile as tlog-tiles does: ``tile/0/x001/234`` and, where partial, ``.p/17`` behind."""
        *groups, last = f"{self.index:,}".split(",")
        name = "/".join([*(f"x{group:0>3}" for group in groups), f"{last:0>3}"])
        partial = "" if self.width == TILE_WIDTH else f".p/{self.width}"
        return f"tile/{self.level}/{name}{partial}"


def tiles_for_inclusion(index: int, size: int) -> list[Tile]:
    """List the tiles ``prove_inclusion`` reads, each once, as wide as a tree of ``size`` leaves has them."""
    return _tiles_for(inclusion_ranges(index, size), size)


def tiles_for_consistency(old_size: int, size: int) -> list[Tile]:
    """List the tiles ``prove_consistency`` reads, each once, as wide as a tree of ``size`` leaves has them."""
    return _tiles_for(consistency_ranges(old_size, size), size)


def tiles_for_frontier(size: int) -> list[Tile]:
    """List the tiles ``read_frontier`` reads, each once, as wide as a tree of ``size`` leaves has them."""
    return _tiles_for([Range(0, size)], size)


def tiles_grown(old_size: int, size: int) -> Iterator[Tile]:
    """List the tiles of the tree of ``size`` leaves that are new or wider than at ``old_size``; all of them from 0.

    Lower levels come first, so a level is built from the one before. Partial tiles are included.
    """
    if not 0 <= old_size <= size:
        raise MalformedTreeError(f"a tree of {size} leaves never had {old_size}")
    level = 0
    while size:
        if size > old_size:
            for index in range(old_size // TILE_WIDTH, -(-size // TILE_WIDTH)):
                yield Tile(level, index, min(TILE_WIDTH, size - index * TILE_WIDTH))
        level, old_size, size = level + 1, old_size >> TILE_HEIGHT, size >> TILE_HEIGHT


def tile_parent(hashes: bytes) -> bytes:
    """Hash a full tile (8,192 bytes) into the one hash that stands for it a level higher."""
    if len(hashes) != TILE_WIDTH * HASH_BYTES:
        raise MalformedTreeError("only a full tile has a parent")
    return _perfect_root(hashes)


def read_from_tiles(tiles: Mapping[tuple[int, int], bytes]) -> ReadHash:
    """Read hashes of the binary tree out of fetched tiles, keyed by tile level and index.

    A tile wider than asked for serves as well. The reader raises ``MalformedTreeError`` for a tile that is missing
    or too narrow, naming it.
    """

    def read(level: int, index: int) -> bytes:
        tile_level, height = divmod(level, TILE_HEIGHT)
        tile_index, at = divmod(index << height, TILE_WIDTH)
        hashes = tiles.get((tile_level, tile_index), b"")[at * HASH_BYTES : (at + (1 << height)) * HASH_BYTES]
        if len(hashes) != HASH_BYTES << height:
            raise MalformedTreeError(f"tile {tile_index} of level {tile_level} is missing or too narrow")
        return _perfect_root(hashes)

    return read


def _tiles_for(ranges: Iterable[Range], size: int) -> list[Tile]:
    places: dict[tuple[int, int], None] = {}
    for part in ranges:
        for level, index in part.subtrees():
            tile_level, height = divmod(level, TILE_HEIGHT)
            places[tile_level, (index << height) // TILE_WIDTH] = None
    return [
        Tile(level, index, min(TILE_WIDTH, (size >> TILE_HEIGHT * level) - index * TILE_WIDTH))
        for level, index in places
    ]


def _perfect_root(hashes: bytes) -> bytes:
    row = _split(hashes)
    while len(row) > 1:
        row = _parents(row)
    return row[0]
