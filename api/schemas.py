"""The shapes of answers, as JSON Schema: what ``/openapi.json`` says and the tests hold every answer against."""

from __future__ import annotations

from typing import Any, Final

Json = dict[str, Any]

TEXT: Final[Json] = {"type": "string"}
TEXT_OR_NULL: Final[Json] = {"type": ["string", "null"]}
WHOLE: Final[Json] = {"type": "integer"}
WHOLE_OR_NULL: Final[Json] = {"type": ["integer", "null"]}
NUMBER: Final[Json] = {"type": "number"}
NUMBER_OR_NULL: Final[Json] = {"type": ["number", "null"]}
TRUTH: Final[Json] = {"type": "boolean"}
TIME: Final[Json] = {"type": "string", "format": "date-time"}
TIME_OR_NULL: Final[Json] = {"type": ["string", "null"], "format": "date-time"}
TEXTS: Final[Json] = {"type": "array", "items": TEXT}
VALUE: Final[Json] = {"type": ["boolean", "number", "string", "null"]}


def ref(name: str) -> Json:
    """Refer to a schema by name."""
    return {"$ref": f"#/components/schemas/{name}"}


def some(item: Json) -> Json:
    """Describe a list."""
    return {"type": "array", "items": item}


def by_key(value: Json) -> Json:
    """Describe an object whose keys are data: currencies, months, accounts."""
    return {"type": "object", "additionalProperties": value}


def shape(_optional: str = "", /, **properties: Json) -> Json:
    """Describe an object: all properties are there but those named in ``_optional``; others may be."""
    optional = set(_optional.split())
    names = {name.rstrip("_"): schema for name, schema in properties.items()}
    return {"type": "object", "required": [name for name in names if name not in optional], "properties": names}


def wholes(*names: str) -> Json:
    """Describe an object of whole numbers."""
    return shape("", **dict.fromkeys(names, WHOLE))


def fresh(_optional: str = "", /, **properties: Json) -> Json:
    """Describe an answer of a read, with how fresh it is."""
    return shape(_optional, **properties, freshness=ref("Freshness"))


def page(item: Json) -> Json:
    """Describe a page of a list."""
    return fresh(data=some(item), next_cursor=TEXT_OR_NULL)


def customers_page(item: Json) -> Json:
    """Describe a page of a list of one customer's."""
    return fresh(customer=TEXT, data=some(item), next_cursor=TEXT_OR_NULL)


LEAF: Final = shape(header=TEXT, salt=TEXT, hash=TEXT)
EVENT_PROPERTIES: Final[Json] = {
    "id": TEXT, "book": TEXT, "position": WHOLE, "type_": TEXT, "created": TIME, "stream": TEXT, "source": TEXT,
    "api_version": TEXT_OR_NULL, "recorded_at": TIME, "received_at": TIME, "data": {"type": ["object", "null"]},
    "erased": TRUTH, "incomplete": TEXTS, "leaf": LEAF, "conflicts": some(shape(received_at=TIME, source=TEXT,
    api_version=TEXT_OR_NULL, body_sha256=TEXT)),
}  # fmt: skip

SOURCE: Final = shape("note", kind=TEXT, id=TEXT, item=TEXT_OR_NULL, product=TEXT_OR_NULL, price=TEXT_OR_NULL,
                      quantity=NUMBER_OR_NULL, status=TEXT, value=VALUE, note=TEXT)  # fmt: skip
ENTITLEMENT_PROPERTIES: Final[Json] = {
    "feature": TEXT, "granted": TRUTH, "kind": {"enum": ["boolean", "quantity", "choice"]}, "value": VALUE,
    "state": TEXT_OR_NULL, "reason": TEXT, "valid_from": TIME_OR_NULL, "valid_until": TIME_OR_NULL,
    "ends_at": TIME_OR_NULL, "sources": some(SOURCE), "because": TEXTS,
}  # fmt: skip
ANSWER_PROPERTIES: Final[Json] = ENTITLEMENT_PROPERTIES | {"customer": TEXT, "org": TEXT_OR_NULL}

TALLY: Final = shape(count=WHOLE, volume=WHOLE)
GROUP: Final = shape(opened=TALLY, recovered=TALLY, recovery_rate=NUMBER_OR_NULL)
CASE: Final = shape(
    "incomplete", case=TEXT, customer=TEXT_OR_NULL, subscription=TEXT_OR_NULL, state=TEXT, category=TEXT, currency=TEXT,
    amount_due=WHOLE, open_amount=WHOLE, opened_at=TIME, closed_at=TIME_OR_NULL, stripe_attempt_count=WHOLE,
    failures=WHOLE, next_attempt_at=TIME_OR_NULL, last_failure={"type": ["object", "null"]}, outcome=TEXT_OR_NULL,
    recovered_by=TEXT_OR_NULL, at_risk_mrr=WHOLE_OR_NULL, because=TEXTS, incomplete=TEXTS,
)  # fmt: skip
SUMS: Final = shape(
    opened=TALLY, recovered=TALLY, lost=TALLY, open=TALLY, recovery_rate=NUMBER_OR_NULL,
    cohorts=some(shape(month=TEXT, opened_volume=WHOLE, recovered_volume=WHOLE, recovery_rate=NUMBER_OR_NULL,
                       matured=TRUTH)),
    by_class=by_key(GROUP), median_attempts_to_recover=NUMBER_OR_NULL, median_hours_to_recover=NUMBER_OR_NULL,
    at_risk_mrr=WHOLE, churn=shape(voluntary=WHOLE, involuntary=WHOLE),
)  # fmt: skip
MOVEMENT: Final = shape(customer=TEXT, at=TIME, currency=TEXT, kind=TEXT, amount=WHOLE, paid=TRUTH,
                        reason=TEXT_OR_NULL, because=TEXTS)  # fmt: skip
INTERVAL: Final = shape(from_=TIME, to=TIME, currency=TEXT, opening=WHOLE, new=WHOLE, reactivation=WHOLE,
                        expansion=WHOLE, contraction=WHOLE, churn=WHOLE, closing=WHOLE)  # fmt: skip
_CAUSES: Final = ("refunds", "disputes", "credit_notes", "voids")
MONTH: Final = shape(
    "deferred_unpaid", deferred_unpaid=WHOLE,
    billed=WHOLE, recognized=WHOLE, net_revenue=WHOLE, deferred_opening=WHOLE, deferred_closing=WHOLE,
    unbilled_opening=WHOLE, unbilled_closing=WHOLE,
    released=wholes(*_CAUSES, "bad_debt"), reinstated=WHOLE, contra=wholes(*_CAUSES), bad_debt=WHOLE,
    recoverables=WHOLE,
)  # fmt: skip
BUCKETS: Final = wholes("current", "1_30", "31_60", "61_90", "over_90")
PERIOD: Final = shape(month=TEXT, status={"enum": ["open", "closed", "reopened"]}, position=WHOLE_OR_NULL,
                      digest=TEXT_OR_NULL, by=TEXT_OR_NULL, at=TIME_OR_NULL, reason=TEXT_OR_NULL,
                      forced={"type": ["boolean", "null"]}, exceptions=some({"type": "object"}),
                      policies={"type": ["object", "null"]}, code=TEXT_OR_NULL,
                      reopened={"type": ["object", "null"]}, seals=some(WHOLE))  # fmt: skip
BUILD_PROPERTIES: Final[Json] = {
    "build": TEXT, "phase": TEXT, "done": WHOLE, "total": WHOLE, "rate": NUMBER_OR_NULL, "eta_seconds": NUMBER_OR_NULL,
    "digest": TEXT_OR_NULL, "parked": WHOLE,
}  # fmt: skip
PLACE: Final = shape(book=TEXT, position=WHOLE, head=WHOLE, lag_seconds=NUMBER)

SCHEMAS: Final[dict[str, Json]] = {
    "Event": shape(**EVENT_PROPERTIES),
    "OneEvent": fresh(**EVENT_PROPERTIES),
    "Events": page(ref("Event")),
    "Received": shape(received=TRUTH, position=WHOLE, duplicate=TRUTH),
    "Entitlement": shape(**ENTITLEMENT_PROPERTIES),
    "Entitlements": fresh("stripe_entitlements", customer=TEXT, org=TEXT_OR_NULL, entitlements=some(ref("Entitlement")),
                          stripe_entitlements=shape(complete=TRUTH, only_stripe=TEXTS, only_ledger=TEXTS)),
    "Answer": fresh(**ANSWER_PROPERTIES),
    "Answers": fresh(data=some(shape(**ANSWER_PROPERTIES))),
    "Grant": shape("value valid_from valid_until org", id=TEXT, customer=TEXT, feature=TEXT, value=VALUE, reason=TEXT,
                   valid_from=TIME_OR_NULL, valid_until=TIME_OR_NULL, position=WHOLE),
    "Case": CASE,
    "Cases": page(ref("Case")),
    "CustomerDunning": fresh(customer=TEXT, data=some(ref("Case")), next_cursor=TEXT_OR_NULL, timeline=some(
        shape(at=TIME, kind=TEXT, case=TEXT_OR_NULL, event=TEXT_OR_NULL))),
    "CaseTold": fresh(case=ref("Case"), timeline=some(
        shape(at=TIME, kind=TEXT, case=TEXT_OR_NULL, event=TEXT_OR_NULL))),
    "DunningBoard": fresh(currencies=by_key(shape(
        states=by_key(shape(count=WHOLE, open_amount=WHOLE)), at_risk_mrr=WHOLE))),
    "Subscriptions": customers_page(shape(
        subscription=TEXT, status=TEXT, currency=TEXT, created=TIME, cancel_at_period_end=TRUTH,
        canceled_at=TIME_OR_NULL, ended_at=TIME_OR_NULL, because=TEXTS)),
    "Invoices": customers_page(shape(
        "incomplete", invoice=TEXT, subscription=TEXT_OR_NULL, status=TEXT, reason=TEXT_OR_NULL,
        collection_method=TEXT_OR_NULL, currency=TEXT, total=WHOLE, tax=WHOLE, net=WHOLE, amount_due=WHOLE,
        amount_paid=WHOLE, amount_remaining=WHOLE, balance_applied=WHOLE, created=TIME, finalized_at=TIME,
        due_date=TIME_OR_NULL, paid_at=TIME_OR_NULL, voided_at=TIME_OR_NULL, uncollectible_at=TIME_OR_NULL,
        because=TEXTS, incomplete=TEXTS)),
    "DunningSummary": fresh(currencies=by_key(SUMS)),
    "Mrr": fresh(at=TIME, policy=TEXT, mrr=by_key(shape(total=WHOLE, customers=WHOLE, at_risk=WHOLE_OR_NULL))),
    "Movements": fresh("movements next_cursor", intervals=some(INTERVAL), movements=some(MOVEMENT),
                       next_cursor=TEXT_OR_NULL),
    "TrialBalance": fresh("from", at=TIME, policy=TEXT, basis=TEXT, from_=TIME, balances=by_key(by_key(WHOLE)),
                          classes=by_key(TEXT)),
    "Recognition": fresh("waterfall", policy=TEXT, basis=TEXT, months=by_key(by_key(MONTH)),
                         waterfall=some({"type": "object"})),
    "Problems": page({"type": "object"}),
    "Journal": fresh("group_by", policy=TEXT, data=some({"type": "object"}),
                     next_cursor=TEXT_OR_NULL, group_by=TEXTS, left_out_at=TIME_OR_NULL),
    "Explained": fresh("entry line movement", policy=TEXT, because=TEXTS, entry=TEXT, line=TEXT, movement=TEXT),
    "Ageing": fresh(at=TIME, basis=TEXT, currencies=by_key(shape(buckets=BUCKETS, total=WHOLE, data=some(
        shape(customer=TEXT, buckets=BUCKETS, total=WHOLE))))),
    "TieOut": fresh(month=TEXT, policy=TEXT, basis=TEXT, currencies=by_key(shape(
        mrr=WHOLE, recognized=WHOLE, cash=WHOLE, differences=some(shape(class_=TEXT, between={}, amount=WHOLE))))),
    "Period": PERIOD,
    "Periods": page(ref("Period")),
    "Seal": {"type": "object"},
    "Checklist": fresh(month=TEXT, ended=TRUTH, exceptions=some(shape(check=TEXT, detail=TEXT, about=some({})))),
    "Closed": shape(month=TEXT, status=TEXT, seal=WHOLE, digest=TEXT, position=WHOLE, by=TEXT, at=TIME, reason=TEXT,
                    exceptions=some({"type": "object"})),
    "Reopened": shape(month=TEXT, status=TEXT, by=TEXT, at=TIME, reason=TEXT),
    "Catalog": shape("content book position", version=WHOLE, effective_from=TEXT_OR_NULL,
                     revenue_from=TEXT_OR_NULL, by=TEXT, features=TEXTS, plans=WHOLE, content=TEXT, book=TEXT,
                     position=WHOLE_OR_NULL),
    "Catalogs": page(ref("Catalog")),
    "Revoked": shape(id=TEXT, revoked=TRUTH, position=WHOLE_OR_NULL, book=TEXT),
    "Session": shape(id=TEXT, url=TEXT),
    "Portal": shape(url=TEXT),
    "Projections": page(shape(name=TEXT, version=WHOLE, build=TEXT, digest=TEXT_OR_NULL, books=some(PLACE),
                              parked=WHOLE)),
    "Build": shape(**BUILD_PROPERTIES),
    "OneBuild": fresh(**BUILD_PROPERTIES),
    "Diff": fresh(summary=shape(added=WHOLE, removed=WHOLE, changed=WHOLE), next_cursor=TEXT_OR_NULL, data=some(
        shape(table=TEXT, key={}, change=TEXT, old={}, new={}, first_event=TEXT_OR_NULL))),
    "Swapped": shape(build=TEXT, previous=TEXT_OR_NULL, positions=by_key(WHOLE), lag_seconds=NUMBER_OR_NULL),
    "Parked": page(shape(projection=TEXT, subject=TEXT, event=TEXT_OR_NULL, error=TEXT, since=TIME)),
    "Replayed": shape(subject=TEXT, cleared={}, still_parked={}),
    "Builds": page(ref("Build")),
    "Decisions": page(shape(at=TIME, what=TEXT, build=TEXT, previous=TEXT_OR_NULL, by=TEXT_OR_NULL,
                            reason=TEXT_OR_NULL, event=TEXT, position=WHOLE)),
    "EventRows": page(shape(projection=TEXT, build=TEXT, table=TEXT, row={"type": "object"})),
    "Conflicts": page(shape(event=TEXT, received_at=TIME, source=TEXT, api_version=TEXT_OR_NULL, body_sha256=TEXT)),
    "Grants": page(shape(id=TEXT, customer=TEXT, feature=TEXT, value=VALUE, state=TEXT, since=TIME,
                         valid_until=TIME_OR_NULL, reason=TEXT_OR_NULL, because=TEXTS)),
    "Preview": shape(book=TEXT, features=TEXTS, plans=WHOLE, customers=WHOLE, looked_at=WHOLE,
                     summary={"type": "object"}, data=some(shape(customer=TEXT, feature=TEXT, change=TEXT, before=VALUE,
                                                                 after=VALUE))),
    "Settings": shape(settings=some(shape(name=TEXT, value=TEXT, about=TEXT)), api_keys=some(
        shape(name=TEXT, scopes=TEXTS, book=TEXT_OR_NULL)), webhook_secrets=some({"type": "object"}),
        verifier_key=TEXT, default_book=TEXT),
    "Checks": shape(ok=TRUTH, failed=WHOLE, next_cursor=TEXT_OR_NULL, data=some(
        shape(area=TEXT, name=TEXT, state=TEXT, value=TEXT, how=TEXT, todo=TEXT))),
    "Coverage": {"type": "object"},
    "Observations": page({"type": "object"}),
}  # fmt: skip
"""What answers refer to, by name. Properties may be more; those that are named are there and are of these kinds."""
