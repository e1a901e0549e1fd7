"""Ending tasks for sure: one cancellation is not always enough."""

from __future__ import annotations

import asyncio
from typing import Any, Final

_AGAIN_SECONDS: Final = 0.5


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks until they are done, and raise what one of them failed with.

    A task may live through a cancellation: up to Python 3.11, and in asyncpg there, waiting with a timeout returns
    instead of being cancelled when what was waited for came in the same turn of the loop. A loop that meets this goes
    on as if nothing had been said, and whoever awaits its end waits for ever.
    """
    left = {one for one in tasks if not one.done()}
    while left:
        for one in left:
            one.cancel()
        _, left = await asyncio.wait(left, timeout=_AGAIN_SECONDS)
    for one in tasks:
        if not one.cancelled():
            one.result()
