"""That Stripe refused. Kept apart from what asks: whoever tells of a refusal need not import Stripe's SDK for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ledger.errors import LedgerError

if TYPE_CHECKING:
    from stripe import StripeError


class StripeRefusedError(LedgerError):
    """Stripe did not do what it was asked: what it said (``told``), without anything secret."""

    def __init__(self, what: str, told: str, error: StripeError) -> None:
        super().__init__(f"Stripe refused {what}: {told}")
        self.status = error.http_status
        self.error = error
