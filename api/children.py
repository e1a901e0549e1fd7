"""What every process below the supervisor does: run on the fast loop, and end when the supervisor does."""

from __future__ import annotations

import asyncio
import sys


async def supervisor_gone() -> None:
    """Return when standard input ends: the supervisor holds its other end and never writes."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()


def fast_loop() -> type[asyncio.AbstractEventLoop] | None:
    """Return the fast event loop, if it is available for this platform."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.Loop
