"""The proof rooms: Merkle tree, signed notes, log proofs, offline verification."""
