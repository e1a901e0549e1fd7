"""Why banks decline: what they say, what Stripe advises, and whether it will charge the same card again."""

from __future__ import annotations

from typing import Final, NamedTuple


class Decline(NamedTuple):
    """A decline code's meaning; after a ``hard`` one Stripe charges the same card no more."""

    message: str
    advice: str | None
    hard: bool = False


DECLINES: Final[dict[str, Decline]] = {
    "insufficient_funds": Decline("Your card has insufficient funds.", "try_again_later"),
    "stolen_card": Decline("Your card was declined.", "do_not_try_again", hard=True),
    "expired_card": Decline("Your card has expired.", "confirm_card_data"),
    "lost_card": Decline("Your card was declined.", "do_not_try_again", hard=True),
}
