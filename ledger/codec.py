"""How bodies are stored: compressed by us, since PostgreSQL's own compression is slower and larger.

``encoding`` 0 is raw, 1 is zstd, 2 is zstd with a dictionary. Rows are never rewritten: a new one is for new rows.
"""

from __future__ import annotations

from typing import Final

import zstandard

from ledger.errors import UndecodableBodyError

RAW: Final = 0
ZSTD: Final = 1
ZSTD_DICTIONARY: Final = 2

_LEVEL: Final = 3
_MAX_BODY_BYTES: Final = 16 * 1024 * 1024


class BodyCodec:
    """Compresses and decompresses bodies; keeps its zstd contexts, so one per thread."""

    def __init__(self) -> None:
        self._compressor = zstandard.ZstdCompressor(level=_LEVEL, write_content_size=True)
        self._decompressor = zstandard.ZstdDecompressor()

    def encode(self, body: bytes) -> tuple[int, bytes]:
        """Return the encoding and the stored bytes: raw where compression gains nothing."""
        compressed = self._compressor.compress(body)
        return (ZSTD, compressed) if len(compressed) < len(body) else (RAW, body)

    def decode(self, encoding: int, stored: bytes) -> bytes:
        """Return the exact bytes that were received. Raises ``UndecodableBodyError``."""
        if encoding == RAW:
            return stored
        if encoding == ZSTD:
            try:
                return self._decompressor.decompress(stored, max_output_size=_MAX_BODY_BYTES)
            except zstandard.ZstdError as error:
                raise UndecodableBodyError(f"the stored body is no zstd frame: {error}") from error
        raise UndecodableBodyError(f"encoding {encoding} is unknown")
