"""Whatever stands in an event, the fold reads past what it cannot read: no body parks a customer."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import Any

from projections.contract import Subject
from projections.entitlements.answer import answer_all
from projections.entitlements.fold import STEPS
from projections.entitlements.rows import EvidenceRow, OrgRow, SourceRow
from projections.facts import Fact
from tests.projections.histories import PROJECTION, held

KEYS = """
id object customer status items metadata plan price quantity cancel_at cancel_at_period_end trial_end lines parent total
amount_due amount_paid due_date billing_reason collection_method payment_intent charge payment invoice amount
amount_refunded refunded refunds mode payment_status client_reference_id subscription line_items entitlements has_more
feature value valid_from valid_until reason kind of data number content effective_from deleted pause_collection
""".split()


def junk(chance: random.Random, depth: int = 0) -> Any:
    words = "active paid payment cus_1 pi_1 in_1 sub_1 cs_1 2026-01-01T00:00:00Z 9999999999999 subscription.items"
    plain: list[Any] = [None, True, 0, -1, 10**30, 2.5, "", "invoice.lines", *words.split()]
    if depth > 3 or chance.random() < 0.6:
        return chance.choice(plain)
    if chance.random() < 0.3:
        return [junk(chance, depth + 1) for _ in range(chance.randrange(3))]
    inner = {chance.choice(KEYS): junk(chance, depth + 1) for _ in range(chance.randrange(5))}
    return inner | ({"data": [junk(chance, depth + 1)]} if chance.random() < 0.3 else {})


def test_no_shape_stops_the_fold() -> None:
    chance = random.Random(11)
    types = sorted(STEPS)
    subject = Subject("self:live", "self:live/cus_1")
    for _ in range(1_500):
        facts = []
        for number in range(chance.randrange(1, 8)):
            told = {key: junk(chance) for key in chance.sample(KEYS, chance.randrange(2, 20))}
            if chance.random() < 0.8:
                told["id"] = chance.choice(["sub_1", "in_1", "cs_1", "re_1", "dp_1", "ch_1", "grant_1"])
            at = datetime(2026, 1, 1, 0, chance.randrange(3), tzinfo=UTC)
            facts.append(Fact(f"evt_{number}", chance.choice(types), at, number + 1, told, {}, {}))
        holdings = held(PROJECTION, subject, facts)
        spans: list[SourceRow | EvidenceRow | OrgRow] = [*holdings.sources, *holdings.evidence, *holdings.orgs]
        for row in spans:
            assert row.valid_to is None or row.valid_from < row.valid_to
        keys = [(row.source, row.item, row.valid_from) for row in holdings.sources]
        assert len(set(keys)) == len(keys)
        answer_all(holdings, (), datetime(2026, 2, 1, tzinfo=UTC))
