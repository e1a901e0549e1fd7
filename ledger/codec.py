"""How bodies are stored: compressed by us, since PostgreSQL's own compression is slower and larger.

``encoding`` 0 is raw, 1 is zstd, 2 is zstd with the dictionary that ``dictionary_id`` names. Rows are never rewritten:
a new encoding is for new rows. A dictionary's id is made of its content, so that it means the same in every database.
"""

from __future__ import annotations

from importlib import resources
from typing import Final, NamedTuple

import zstandard

from ledger.errors import UndecodableBodyError

RAW: Final = 0
ZSTD: Final = 1
ZSTD_DICTIONARY: Final = 2

_LEVEL: Final = 3
_MAX_BODY_BYTES: Final = 16 * 1024 * 1024


class UnknownDictionaryError(UndecodableBodyError):
    """A body was compressed with a dictionary this process has not read from the log yet."""

    def __init__(self, dictionary_id: int) -> None:
        super().__init__(f"dictionary {dictionary_id} is not known")
        self.dictionary_id = dictionary_id


class Encoded(NamedTuple):
    """A body as it is stored."""

    encoding: int
    stored: bytes
    dictionary_id: int | None = None


class BodyCodec:
    """Compresses and decompresses bodies; keeps its zstd contexts, so one per thread.

    It decodes with any dictionary it has learned, and encodes with the one it was told to use.
    """

    def __init__(self) -> None:
        self._plain = zstandard.ZstdCompressor(level=_LEVEL)
        self._decompressor = zstandard.ZstdDecompressor()
        self._with_dictionary: dict[int, zstandard.ZstdDecompressor] = {}
        self._compressor: zstandard.ZstdCompressor | None = None
        self._dictionary_id: int | None = None

    def learn(self, content: bytes) -> int:
        """Be able to decode with a dictionary from now on; return its id."""
        dictionary = zstandard.ZstdCompressionDict(content)
        dictionary_id = dictionary.dict_id()
        self._with_dictionary[dictionary_id] = zstandard.ZstdDecompressor(dict_data=dictionary)
        return dictionary_id

    def use(self, content: bytes) -> None:
        """Encode with a dictionary from now on; only once it stands in the log."""
        dictionary = zstandard.ZstdCompressionDict(content)
        dictionary.precompute_compress(level=_LEVEL)
        self._compressor = zstandard.ZstdCompressor(level=_LEVEL, dict_data=dictionary)
        self._dictionary_id = self.learn(content)

    def encode(self, body: bytes) -> Encoded:
        """Return the body as it is stored: raw where compression gains nothing."""
        compressor = self._compressor or self._plain
        compressed = compressor.compress(body)
        if len(compressed) >= len(body):
            return Encoded(RAW, body)
        if self._compressor is None:
            return Encoded(ZSTD, compressed)
        return Encoded(ZSTD_DICTIONARY, compressed, self._dictionary_id)

    def decode(self, encoding: int, stored: bytes, dictionary_id: int | None = None) -> bytes:
        """Return the exact bytes that were received. Raises ``UndecodableBodyError``."""
        if encoding == RAW:
            return stored
        try:
            return self._decompressor_of(encoding, dictionary_id).decompress(stored, max_output_size=_MAX_BODY_BYTES)
        except (zstandard.ZstdError, MemoryError) as error:  # a frame may claim to hold more than any machine can
            raise UndecodableBodyError(f"the stored body is not a valid zstd frame: {error}") from error

    def _decompressor_of(self, encoding: int, dictionary_id: int | None) -> zstandard.ZstdDecompressor:
        if encoding == ZSTD:
            return self._decompressor
        if encoding != ZSTD_DICTIONARY or dictionary_id is None:
            raise UndecodableBodyError(f"encoding {encoding} is unknown")
        if dictionary_id not in self._with_dictionary:
            raise UnknownDictionaryError(dictionary_id)
        return self._with_dictionary[dictionary_id]


def shipped_dictionary() -> bytes:
    """Return the dictionary this release compresses with."""
    return resources.files("ledger.dictionaries").joinpath("events.zdict").read_bytes()


def dictionary_id_of(content: bytes) -> int:
    """Return the id a dictionary carries."""
    return zstandard.ZstdCompressionDict(content).dict_id()
