"""Events about billing credits to natural facts: what a customer bought or was given, and how it was used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

from ledger.event import Json, identifier, mapping
from projections.facts import Fact
from projections.revenue.facts import CreditGrantFact, CreditMoveFact, Facts
from projections.shapes.common import amount, currency, moment, text

_KINDS: Final[dict[str, Literal["applied", "reinstated", "ended"]]] = {
    "credits_applied": "applied",
    "credits_application_invoice_voided": "reinstated",
    "credits_expired": "ended",
    "credits_voided": "ended",
}
"""What a transaction does, by its type. Getting credits is no movement of money: they were sold, or are a gift."""


def credit_granted(facts: Facts, fact: Fact) -> None:
    """Note whether credits were bought or given."""
    key = identifier(fact.subject)
    if key is not None and fact.subject.get("object") == "billing.credit_grant":
        facts.credit_grants[key] = CreditGrantFact(key, text(fact.subject.get("category")) == "paid", fact.event_id)


def credit_moved(facts: Facts, fact: Fact) -> None:
    """Note that credits were used, given back or lost."""
    source = fact.subject
    key, grant = identifier(source), identifier(source.get("credit_grant"))
    side = mapping(source.get("debit")) or mapping(source.get("credit"))
    kind = _KINDS.get(text(side.get("type")) or "")
    money = mapping(mapping(side.get("amount")).get("monetary"))
    value = amount(money.get("value")) or 0
    if key is None or grant is None or kind is None or value <= 0 or key in facts.credit_moves:
        return
    about: Json = mapping(side.get("credits_applied")) or mapping(side.get("credits_application_invoice_voided"))
    created = moment(source.get("created")) or fact.created
    facts.credit_moves[key] = CreditMoveFact(
        key=key,
        grant=grant,
        kind=kind,
        currency=currency(money),
        amount=value,
        at=int(created.timestamp()),
        invoice=identifier(about.get("invoice")),
        line=identifier(about.get("invoice_line_item")),
        because=fact.event_id,
    )


STEPS: Final[dict[str, Callable[[Facts, Fact], None]]] = {
    "billing.credit_grant.created": credit_granted,
    "billing.credit_grant.updated": credit_granted,
    "billing.credit_balance_transaction.created": credit_moved,
}
"""What each event type tells of billing credits."""
