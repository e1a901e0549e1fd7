"""``python -m bench.dictionary``: train the zstd dictionary that is shipped, and say what it gains.

It is trained on events we write ourselves, so that it holds nobody's data: a dictionary outlives every erasure. What
it gains is measured on other events of ours and, where the corpus of real payloads is beside the checkout, on those.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import orjson
import typer
import zstandard

from bench.events import EventSource

FILE = Path(__file__).parents[1] / "ledger" / "dictionaries" / "events.zdict"
CORPUS = Path(__file__).parents[2] / "shared" / "corpus"
SAMPLES = 1_200
SIZE_BYTES = 16 * 1024
_ID_LOW, _ID_COUNT = 32_768, 2**31 - 32_768  # the format reserves what lies outside


def train() -> bytes:
    """Train the dictionary; its id is made of what it was trained on."""
    source = EventSource(2026)
    samples: list[bytes | bytearray | memoryview[int]] = [source.body() for _ in range(SAMPLES)]
    digest = int.from_bytes(sha256(b"".join(samples)).digest()[:8])
    trained = zstandard.train_dictionary(SIZE_BYTES, samples, dict_id=_ID_LOW + digest % _ID_COUNT, level=3)
    return trained.as_bytes()


def corpus() -> list[bytes]:
    """Read the real payloads, indented as Stripe sends them."""
    files = [path for path in sorted(CORPUS.rglob("*.json")) if path.name not in ("index.json", "objects-2026-08.json")]
    return [orjson.dumps(orjson.loads(path.read_bytes()), option=orjson.OPT_INDENT_2) for path in files]


def main(write: bool = False) -> None:
    """Print what the dictionary gains; with --write, put the newly trained one in place."""
    content = train()
    if write:
        FILE.write_bytes(content)
    dictionary = zstandard.ZstdCompressionDict(FILE.read_bytes())
    dictionary.precompute_compress(level=3)
    with_it = zstandard.ZstdCompressor(level=3, dict_data=dictionary)
    without = zstandard.ZstdCompressor(level=3)
    other = EventSource(7)
    for name, bodies in (("our events", [other.body() for _ in range(2_000)]), ("real payloads", corpus())):
        if bodies:
            raw = sum(map(len, bodies))
            typer.echo(f"{name}: {raw / len(bodies):,.0f} B each; " + ", ".join(
                _share(label, compressor.compress, bodies, raw)
                for label, compressor in (("zstd", without), ("with dictionary", with_it))
            ))  # fmt: skip


def _share(label: str, compress: Callable[[bytes], bytes], bodies: list[bytes], raw: int) -> str:
    began = time.perf_counter()
    stored = sum(len(compress(body)) for body in bodies)
    micros = (time.perf_counter() - began) / len(bodies) * 1e6
    return f"{label} {stored / raw:.3f} in {micros:.0f} µs"


if __name__ == "__main__":
    typer.run(main)
