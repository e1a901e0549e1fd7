"""The terms in force: reference objects (coupons, prices, tax rates) as they were at a moment. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from ledger.errors import UnreadableEventError
from ledger.event import Json, identifier
from projections.causal import in_causal_order
from projections.facts import Fact

INCLUDABLE: Final = ("tiers", "currency_options", "applies_to")
"""Parts of a price or a coupon that only an observation shows and that never change: every form of it has them."""


class KnownTerms:
    """Every known form of every reference object, in causal order; notes which objects were looked up."""

    def __init__(self, facts: Iterable[Fact] = ()) -> None:
        self._facts: dict[tuple[str, str], list[Fact]] = {}
        self._forms: dict[tuple[str, str], list[tuple[datetime, Json]]] = {}
        self._unread: dict[str, UnreadableEventError] = {}
        self.used: set[str] = set()
        self.add(facts)

    def add(self, facts: Iterable[Fact]) -> None:
        """Add more facts, in any order."""
        touched: set[tuple[str, str]] = set()
        for fact in facts:
            if reference := identifier(fact.subject):
                key = (fact.type.rpartition(".")[0], reference)
                self._facts.setdefault(key, []).append(fact)
                touched.add(key)
        for key in touched:
            ordered = in_causal_order(self._facts[key])
            extras = {part: fact.subject[part] for fact in ordered for part in INCLUDABLE if part in fact.subject}
            self._forms[key] = [(fact.created, extras | fact.subject) for fact in ordered]

    def lack(self, reference: str, error: UnreadableEventError) -> None:
        """Note that an event about an object cannot be read: looking that object up raises the error."""
        self._unread[reference] = error

    def _use(self, reference: str) -> None:
        self.used.add(reference)
        if reference in self._unread:
            raise self._unread[reference]

    def forms(self, kind: str, reference: str) -> Sequence[tuple[datetime, Json]]:
        """Return every known form of the object, in causal order."""
        self._use(reference)
        return self._forms.get((kind, reference), ())

    def at(self, kind: str, reference: str, moment: datetime) -> Json | None:
        """Return the object as it was at a moment; its earliest form for one before that; None if unknown."""
        self._use(reference)
        forms = self._forms.get((kind, reference))
        if not forms:
            return None
        found = bisect_right(forms, moment, key=lambda form: form[0])
        return forms[max(found - 1, 0)][1]

    def differing_from(self, others: KnownTerms) -> set[str]:
        """Name the objects of which this knows other terms than others do: one told again as it was differs in none."""
        keys = self._forms.keys() | others._forms.keys()
        return {key[1] for key in keys if _turns(self._forms.get(key, ())) != _turns(others._forms.get(key, ()))}

    def noting_use(self) -> KnownTerms:
        """Return the same terms with a record of their own of what is looked up."""
        other = KnownTerms()
        other._forms, other._unread = self._forms, self._unread
        return other


def _turns(forms: Iterable[tuple[datetime, Json]]) -> list[tuple[datetime | None, Json]]:
    """Return since when an object says something else than before; the first it said holds for what was before, too."""
    found: list[tuple[datetime | None, Json]] = []
    for since, form in forms:
        if not found or found[-1][1] != form:
            found.append((since if found else None, form))
    return found
