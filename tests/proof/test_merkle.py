"""The Merkle tree against RFC 6962 as written, against pymerkle, and against every kind of wrong proof."""

from __future__ import annotations

import random
from functools import cache
from importlib import import_module
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.merkle import (
    EMPTY_ROOT,
    MalformedTreeError,
    Tile,
    extend,
    leaf_hash,
    node_hash,
    prove_consistency,
    prove_inclusion,
    read_from_tiles,
    read_frontier,
    root,
    tile_parent,
    tiles_for_consistency,
    tiles_for_frontier,
    tiles_for_inclusion,
    tiles_grown,
    verify_consistency,
    verify_inclusion,
)
from tests.proof import naive

MOST = 700
ENTRIES = [f"entry {number}".encode() for number in range(MOST)]
Tiles = dict[tuple[int, int], bytes]


def tiles_of(leaves: list[bytes]) -> Tiles:
    """Build every tile of a tree the way the ledger does: a level from the full tiles of the one below."""
    tiles: Tiles = {}
    row = leaves
    for tile in tiles_grown(0, len(leaves)):
        if tile.level and not tile.index:
            full = [tiles[tile.level - 1, index] for index in range(len(row) // 256)]
            row = [tile_parent(hashes) for hashes in full]
        tiles[tile.level, tile.index] = b"".join(row[tile.index * 256 : tile.index * 256 + tile.width])
    return tiles


@cache
def tree(size: int) -> Tiles:
    return tiles_of([leaf_hash(entry) for entry in ENTRIES[:size]])


def test_roots_equal_those_of_pymerkle_for_sizes_0_to_1000_whatever_the_batches() -> None:
    peer: Any = import_module("pymerkle").InmemoryTree(algorithm="sha256")
    entries = [f"entry {number}".encode() for number in range(1_000)]
    expected = [peer.get_root()]
    for entry in entries:
        peer.append_entry(entry)
        expected.append(peer.get_root())
    leaves = [leaf_hash(entry) for entry in entries]
    assert roots_in_batches(leaves, [1] * 1_000) == dict(enumerate(expected))
    for seed in range(20):
        choose = random.Random(seed)
        found = roots_in_batches(leaves, [choose.choice([0, 1, 2, 3, 7, 64, 129]) for _ in range(400)])
        assert found == {size: expected[size] for size in found}


def roots_in_batches(leaves: list[bytes], batches: list[int]) -> dict[int, bytes]:
    size, frontier = 0, b""
    found = {0: root(frontier)}
    for batch in batches:
        added = leaves[size : size + batch]
        frontier = extend(size, frontier, added)
        size += len(added)
        assert len(frontier) == 32 * size.bit_count()
        found[size] = root(frontier)
    return found


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 7, 8, 9, 63, 64, 65, 255, 256, 257, 513])
def test_roots_equal_the_definition(size: int) -> None:
    leaves = [leaf_hash(entry) for entry in ENTRIES[:size]]
    assert root(extend(0, b"", leaves)) == naive.mth(ENTRIES[:size])


def test_the_empty_root_is_the_hash_of_nothing() -> None:
    assert EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.mark.parametrize(
    ("size", "frontier", "leaves"),
    [
        (-1, b"", []),
        (0, bytes(32), []),
        (1, b"", [bytes(32)]),
        (3, bytes(32), [bytes(32)]),
        (1, bytes(31), [bytes(32)]),
        (0, b"", [bytes(31)]),
        (0, b"", [bytes(32), b""]),
    ],
)
def test_what_belongs_to_no_tree_is_refused(size: int, frontier: bytes, leaves: list[bytes]) -> None:
    with pytest.raises(MalformedTreeError):
        extend(size, frontier, leaves)


def test_a_frontier_that_is_not_made_of_hashes_has_no_root() -> None:
    with pytest.raises(MalformedTreeError):
        root(bytes(33))


places = st.integers(1, MOST).flatmap(lambda size: st.tuples(st.integers(0, size - 1), st.just(size)))


@settings(max_examples=100, deadline=None)
@given(places)
def test_inclusion_is_proved_as_defined_and_verifies(place: tuple[int, int]) -> None:
    index, size = place
    proof = prove_inclusion(index, size, read_from_tiles(tree(size)))
    assert proof == naive.path(index, ENTRIES[:size])
    assert verify_inclusion(leaf_hash(ENTRIES[index]), index, size, proof, naive.mth(ENTRIES[:size]))


@settings(max_examples=100, deadline=None)
@given(places)
def test_consistency_is_proved_as_defined_and_verifies(place: tuple[int, int]) -> None:
    old_size, size = place[0] + 1, place[1]
    proof = prove_consistency(old_size, size, read_from_tiles(tree(size)))
    old_root, new_root = naive.mth(ENTRIES[:old_size]), naive.mth(ENTRIES[:size])
    assert proof == naive.proof(old_size, ENTRIES[:size])
    assert verify_consistency(old_size, size, proof, old_root, new_root)


def test_every_place_in_every_small_tree() -> None:
    for size in range(1, 34):
        read = read_from_tiles(tree(size))
        new_root = naive.mth(ENTRIES[:size])
        for index in range(size):
            assert verify_inclusion(
                leaf_hash(ENTRIES[index]), index, size, prove_inclusion(index, size, read), new_root
            )
        for old_size in range(size + 1):
            proof = prove_consistency(old_size, size, read)
            assert verify_consistency(old_size, size, proof, naive.mth(ENTRIES[:old_size]), new_root)


@settings(max_examples=200, deadline=None)
@given(places, st.data())
def test_a_changed_inclusion_proof_fails(place: tuple[int, int], data: st.DataObject) -> None:
    index, size = place
    leaf = leaf_hash(ENTRIES[index])
    proof = prove_inclusion(index, size, read_from_tiles(tree(size)))
    tree_root = naive.mth(ENTRIES[:size])
    for changed in changed_proofs(proof, data):
        assert not verify_inclusion(leaf, index, size, changed, tree_root)
    wrong_index = data.draw(st.integers(-1, size + 1).filter(lambda value: value != index))
    assert not verify_inclusion(leaf, wrong_index, size, proof, tree_root)
    assert not verify_inclusion(flip(leaf, 0), index, size, proof, tree_root)
    assert not verify_inclusion(leaf, index, size, proof, flip(tree_root, 0))
    assert not verify_inclusion(leaf[:-1], index, size, proof, tree_root)


@settings(max_examples=200, deadline=None)
@given(places, st.data())
def test_a_changed_consistency_proof_fails(place: tuple[int, int], data: st.DataObject) -> None:
    old_size, size = place[0] + 1, place[1]
    proof = prove_consistency(old_size, size, read_from_tiles(tree(size)))
    old_root, new_root = naive.mth(ENTRIES[:old_size]), naive.mth(ENTRIES[:size])
    for changed in changed_proofs(proof, data):
        assert not verify_consistency(old_size, size, changed, old_root, new_root)
    assert not verify_consistency(old_size, size, proof, flip(old_root, 3), new_root)
    assert not verify_consistency(old_size, size, proof, old_root, flip(new_root, 3))
    assert not verify_consistency(size + 1, size, proof, old_root, new_root)
    wrong_size = data.draw(st.integers(0, size - 1).filter(lambda value: value != old_size) if size > 1 else st.just(0))
    assert not verify_consistency(wrong_size, size, proof, old_root, new_root)


def changed_proofs(proof: list[bytes], data: st.DataObject) -> list[list[bytes]]:
    """One bit changed, one hash left out, one added, and two swapped."""
    changed = [[*proof, bytes(32)]]
    if proof:
        at = data.draw(st.integers(0, len(proof) - 1))
        bit = data.draw(st.integers(0, 255))
        changed.append([*proof[:at], flip(proof[at], bit), *proof[at + 1 :]])
        changed.append([*proof[:at], *proof[at + 1 :]])
        changed.append([*proof[:at], proof[at][:-1], *proof[at + 1 :]])
    if len(proof) > 1:
        changed.append([*proof[1:], proof[0]])
    return changed


def flip(value: bytes, bit: int) -> bytes:
    return (int.from_bytes(value) ^ 1 << bit).to_bytes(len(value))


def test_an_empty_or_an_equal_tree_needs_no_proof_and_takes_none() -> None:
    tree_root = naive.mth(ENTRIES[:5])
    assert verify_consistency(0, 5, [], EMPTY_ROOT, tree_root)
    assert verify_consistency(0, 0, [], EMPTY_ROOT, EMPTY_ROOT)
    assert not verify_consistency(0, 5, [bytes(32)], EMPTY_ROOT, tree_root)
    assert not verify_consistency(0, 5, [], tree_root, tree_root)
    assert not verify_consistency(5, 5, [bytes(32)], tree_root, tree_root)
    assert not verify_consistency(5, 5, [], EMPTY_ROOT, tree_root)


@pytest.mark.parametrize(("index", "size"), [(0, 0), (5, 5), (-1, 5)])
def test_there_is_no_proof_of_what_is_not_in_the_tree(index: int, size: int) -> None:
    with pytest.raises(MalformedTreeError):
        prove_inclusion(index, size, read_from_tiles({}))


@pytest.mark.parametrize(
    ("tile", "path"),
    [
        (Tile(0, 0, 256), "tile/0/000"),
        (Tile(1, 7, 17), "tile/1/007.p/17"),
        (Tile(0, 1_234, 17), "tile/0/x001/234.p/17"),
        (Tile(0, 1_234_067, 256), "tile/0/x001/x234/067"),
        (Tile(63, 1_000, 1), "tile/63/x001/000.p/1"),
    ],
)
def test_tiles_are_named_as_tlog_tiles_does(tile: Tile, path: str) -> None:
    assert tile.path == path


def test_a_tree_of_70000_has_the_tiles_tlog_tiles_lists() -> None:
    tiles = list(tiles_grown(0, 70_000))
    assert [tile for tile in tiles if tile.width < 256] == [Tile(0, 273, 112), Tile(1, 1, 17), Tile(2, 0, 1)]
    assert sum(tile.level == 0 for tile in tiles) == 274
    assert list(tiles_grown(0, 256)) == [Tile(0, 0, 256), Tile(1, 0, 1)]


@pytest.mark.parametrize(
    ("old_size", "size", "grown"),
    [
        (0, 0, []),
        (256, 256, []),
        (255, 256, [Tile(0, 0, 256), Tile(1, 0, 1)]),
        (256, 257, [Tile(0, 1, 1)]),
        (300, 520, [Tile(0, 1, 256), Tile(0, 2, 8), Tile(1, 0, 2)]),
    ],
)
def test_only_tiles_that_grew_are_written_again(old_size: int, size: int, grown: list[Tile]) -> None:
    assert list(tiles_grown(old_size, size)) == grown


def test_a_proof_among_a_million_reads_few_tiles_and_holds_few_hashes() -> None:
    size = 1_000_000
    leaves = [number.to_bytes(32) for number in range(size)]
    tiles = tiles_of(leaves)
    tree_root = root(extend(0, b"", leaves))
    choose = random.Random(6962)
    for index in [0, size - 1, *(choose.randrange(size) for _ in range(50))]:
        wanted = tiles_for_inclusion(index, size)
        read = read_from_tiles(fetch(tiles, wanted))
        proof = prove_inclusion(index, size, read)
        assert len(wanted) <= 6
        assert len(proof) <= 20
        assert verify_inclusion(leaves[index], index, size, proof, tree_root)
        past = tiles_for_frontier(index + 1)
        old_root = root(read_frontier(index + 1, read_from_tiles(fetch(tiles, past))))
        old = tiles_for_consistency(index + 1, size)
        proof = prove_consistency(index + 1, size, read_from_tiles(fetch(tiles, old)))
        assert max(len(old), len(past)) <= 6
        assert verify_consistency(index + 1, size, proof, old_root, tree_root)


def fetch(tiles: Tiles, wanted: list[Tile]) -> Tiles:
    """Fetch as a store would that keeps partial tiles as wide as they are asked for."""
    return {(tile.level, tile.index): tiles[tile.level, tile.index][: tile.width * 32] for tile in wanted}


def test_a_missing_tile_is_named() -> None:
    with pytest.raises(MalformedTreeError, match="tile 0 of level 1"):
        prove_inclusion(300, 600, read_from_tiles({(0, 1): tree(600)[0, 1], (0, 2): tree(600)[0, 2]}))


def test_only_a_full_tile_has_a_parent() -> None:
    with pytest.raises(MalformedTreeError):
        tile_parent(bytes(32 * 255))
    same = leaf_hash(b"")
    for _ in range(8):
        same = node_hash(same, same)
    assert tile_parent(leaf_hash(b"") * 256) == same
