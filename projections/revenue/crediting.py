"""Events of credit notes to natural facts: what they take of an invoice and its lines, and when they were voided."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from projections.facts import Fact
from projections.revenue.facts import CreditNoteFact, CreditNoteLineFact, Facts
from projections.shapes.payment import CreditNoteLine, credit_note_lines_of, credit_note_of


def credit_note_changed(facts: Facts, fact: Fact) -> None:
    """Note a credit note, and when it was voided."""
    shown = credit_note_of(fact.subject)
    if shown is None or shown.invoice is None:
        return
    known = facts.credit_notes.get(shown.id)
    if known is None:
        known = facts.credit_notes[shown.id] = CreditNoteFact(
            key=shown.id,
            invoice=shown.invoice,
            currency=shown.currency,
            amount=shown.amount,
            pre_payment=shown.pre_payment,
            out_of_band=shown.out_of_band,
            refunds=list(shown.refunds),
            lines=_lines(shown.lines),
            incomplete=shown.incomplete,
            created=int((shown.created or fact.created).timestamp()),
            because={"credit_note": fact.event_id},
        )
    if known.incomplete and not shown.incomplete:
        known.lines, known.incomplete = _lines(shown.lines), False
    known.refunds = list(shown.refunds) or known.refunds
    if (shown.status == "void" or fact.type == "credit_note.voided") and known.voided_at is None:
        known.voided_at = int((shown.voided_at or fact.created).timestamp())
        known.because["void"] = fact.event_id


def lines_observed(facts: Facts, fact: Fact) -> None:
    """Take all lines of a credit note that showed only the first of them."""
    known = facts.credit_notes.get(str(fact.subject.get("of")))
    if fact.subject.get("kind") == "credit_note.lines" and known is not None and known.incomplete:
        known.lines = _lines(credit_note_lines_of({"lines": fact.subject.get("data")}))
        known.incomplete = False
        known.because["lines"] = fact.event_id


def _lines(lines: Iterable[CreditNoteLine]) -> list[CreditNoteLineFact]:
    return [CreditNoteLineFact(line.invoice_line, line.amount + line.tax) for line in lines]


STEPS: Final[dict[str, Callable[[Facts, Fact], None]]] = dict.fromkeys(
    ("credit_note.created", "credit_note.updated", "credit_note.voided"), credit_note_changed
)
"""What each event type tells."""
