"""A small client for a ledger's entitlements: ask, keep the answers, and know how right they are.

    with Client("https://ledger.example.com", key) as ledger:
        if ledger.check("cus_1", "sso").granted: ...

``AsyncClient`` is the same, awaited. Both are thin shells around ``core``, which says what to ask and what an answer
means, ``cache``, which keeps answers right by what the stream says, and ``policy``, which says what holds while the
service cannot be reached. Needs ``httpx`` and nothing else: ``pip install ledger[client]``.
"""

from ledger.client.aio import AsyncClient
from ledger.client.answers import Answer, ClientError, Freshness, RefusedError, UnreachableError
from ledger.client.policy import ALLOW, DENY, Policy, last_known
from ledger.client.sync import Client

__all__ = [
    "ALLOW",
    "DENY",
    "Answer",
    "AsyncClient",
    "Client",
    "ClientError",
    "Freshness",
    "Policy",
    "RefusedError",
    "UnreachableError",
    "last_known",
]
