"""RFC 6962 Merkle tree: leaf and node hashes and the frontier of a growing tree."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

EMPTY_ROOT = hashlib.sha256(b"").digest()


def leaf_hash(entry: bytes) -> bytes:
    """Hash one log entry as a leaf."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash two subtrees into their parent."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def extend(size: int, frontier: bytes, leaves: Sequence[bytes]) -> bytes:
    """Return the frontier after appending ``leaves`` to a tree of ``size`` leaves."""
    stack = [frontier[i : i + 32] for i in range(0, len(frontier), 32)]
    for leaf in leaves:
        carry = size
        while carry & 1:
            leaf = node_hash(stack.pop(), leaf)
            carry >>= 1
        stack.append(leaf)
        size += 1
    return b"".join(stack)


def root(frontier: bytes) -> bytes:
    """Return the root of the tree the frontier stands for."""
    if not frontier:
        return EMPTY_ROOT
    stack = [frontier[i : i + 32] for i in range(0, len(frontier), 32)]
    top = stack.pop()
    while stack:
        top = node_hash(stack.pop(), top)
    return top
