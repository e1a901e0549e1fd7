"""Ending a task for sure, also one that lives through being cancelled."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from ledger.tasks import end


async def test_a_task_that_lives_through_a_cancellation_is_ended() -> None:
    came = asyncio.Event()
    lived = 0

    async def deaf_once() -> None:
        nonlocal lived
        with contextlib.suppress(asyncio.CancelledError):
            await came.wait()
        lived += 1
        await came.wait()

    task = asyncio.create_task(deaf_once())
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await end(task)
    assert (lived, task.cancelled()) == (1, True)


async def test_what_a_task_failed_with_is_raised() -> None:
    async def failing() -> None:
        raise LookupError

    async def endless() -> None:
        await asyncio.Event().wait()

    failed, other = asyncio.create_task(failing()), asyncio.create_task(endless())
    await asyncio.sleep(0)
    with pytest.raises(LookupError):
        await end(failed, other)
    assert other.cancelled()


async def test_who_is_cancelled_while_ending_another_is_cancelled() -> None:
    async def stubborn() -> None:
        while not let_go.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await let_go.wait()

    let_go = asyncio.Event()
    task = asyncio.create_task(stubborn())
    ending = asyncio.create_task(end(task))
    await asyncio.sleep(0.01)
    ending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ending
    let_go.set()
    await task
