"""``/v1/log``: the signed head of a book, the proof of one event, and the key to check both with (C2SP formats)."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from api.access import book_of_request, require, services
from api.events import find_event
from api.parameters import integer_parameter

_LAST_POSITION = 2**63 - 1


async def get_checkpoint(request: Request) -> Response:
    """Answer the book's newest signed note; ``min_position`` asks for one that covers a position."""
    key = require(request, "events:read")
    book = await book_of_request(request, key)
    at_least = integer_parameter(request, "min_position", 1, 1, _LAST_POSITION)
    return PlainTextResponse(await services(request).notary.checkpoint(book, at_least))


async def get_proof(request: Request) -> Response:
    """Answer the proof that one event stands in the log, to be kept and checked offline."""
    key = require(request, "events:read")
    book = await book_of_request(request, key)
    serving = services(request)
    async with serving.pool.acquire() as connection:
        event = await find_event(request, connection, book)
    proof = await serving.notary.prove(event)
    return PlainTextResponse(proof.encode())


async def get_verifier_key(request: Request) -> Response:
    """Answer the public key that signs now, for every book. Get it once, over a channel you trust."""
    await book_of_request(request, require(request, "events:read"))
    return PlainTextResponse(services(request).notary.signer.verifier.encode() + "\n")
