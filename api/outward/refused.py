"""The error for a refusal by Stripe, in a module of its own so that handling it does not import Stripe's SDK."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ledger.errors import LedgerError

if TYPE_CHECKING:
    from stripe import StripeError

REFUSAL: Final = 400
"""From here on a status is a refusal; an error below it is that what answered is no answer of Stripe's."""


class StripeRefusedError(LedgerError):
    """Stripe did not do what it was asked: what it said (``told``), without anything secret.

    ``status`` is None where nothing answered, or nothing that is Stripe.
    """

    def __init__(self, what: str, told: str, error: StripeError) -> None:
        super().__init__(f"Stripe refused {what}: {told}")
        status = error.http_status
        self.status = status if status is not None and status >= REFUSAL else None
        self.error = error
