"""``/v1/log``: the signed head of a book, the proof of one event, and the key to check both with (C2SP formats)."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from api.access import services
from api.events import SCOPE, asked_of_log, find_event


async def get_checkpoint(request: Request) -> Response:
    """Answer the book's newest signed note: one that covers ``min_position``, or the newest there was at a moment."""
    asked, head = await asked_of_log(request, SCOPE)
    note = await services(request).notary.checkpoint(asked.book, max(1, asked.min_position), asked.as_of)
    return _text(note, head)


async def get_proof(request: Request) -> Response:
    """Answer the proof that one event stands in the log, to be kept and checked offline."""
    asked, head = await asked_of_log(request, SCOPE)
    serving = services(request)
    async with serving.pool.acquire() as connection:
        event = await find_event(request, connection, asked, lenient=True)
    proof = await serving.notary.prove(event)
    return _text(proof.encode(), head)


async def get_verifier_key(request: Request) -> Response:
    """Answer the public key that signs now, for every book. Get it once, over a channel you trust."""
    _, head = await asked_of_log(request, SCOPE)
    return _text(services(request).notary.signer.verifier.encode() + "\n", head)


def _text(content: str, head: int) -> Response:
    return PlainTextResponse(content, headers={"Ledger-Position": str(head)})
