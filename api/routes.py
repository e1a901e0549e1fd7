"""Every route under ``/v1`` and the webhook, declared: the application is made of these, and ``/openapi.json``."""

from __future__ import annotations

from typing import Final

from api import (
    catalog,
    checkout,
    coverage,
    documents,
    dunning,
    entitlements,
    events,
    journal,
    log,
    mrr,
    periods,
    present,
    projections,
    revenue,
    stream,
    tie_out,
    webhook,
)
from api.declared import (
    AS_OF,
    AT,
    BOOK,
    DETAIL,
    LIMIT,
    LOG_READ,
    PAGE,
    READ,
    WAIT,
    Json,
    Operation,
    bound_of,
    matching,
    named,
    time_of,
    whole,
    word,
)
from api.schemas import TEXT, TIME_OR_NULL, TRUTH, VALUE, WHOLE, ref, shape, some
from projections.mrr.intervals import INTERVALS
from projections.mrr.worth import POLICIES as WORTH_POLICIES
from projections.revenue.policy import POLICIES

FROM: Final = bound_of("from", "The first moment counted.")
TO: Final = bound_of("to", "The first moment no longer counted.")
CUSTOMER: Final = named("customer", "Only this customer's.")
CURRENCY: Final = matching("currency", "Only this currency.", "[A-Za-z]{3}", "three letters such as usd")
POLICY: Final = word("policy", "A named policy; default: the published one.", "published", *POLICIES)
WORTH_POLICY: Final = word("policy", "Which discounts count.", *WORTH_POLICIES)
BASIS: Final = word("basis", "In closed months: what was sealed, or what is known now.", "sealed", "restated")
MONTHS: Final = r"\d{4}-(0[1-9]|1[0-2])(-01(T00:00:00(\.0+)?(Z|\+00:00))?)?"
DAYS: Final = r"\d{4}-\d{2}(-\d{2}(T[0-9:.]+(Z|[+ -][0-9:]+))?)?"
A_MONTH: Final = "a month such as 2026-01"
A_DAY: Final = "a day such as 2026-01-31, or a month such as 2026-01"
OF_EVENTS: Final = "events:read"
OF_ACCESS: Final = "entitlements:read"
TEXT_FILE: Final = "text/plain"


def body(_optional: str = "", /, **properties: Json) -> Json:
    """Describe a request's body: an object with no other members."""
    return shape(_optional, **properties) | {"additionalProperties": False}


REASON: Final = body(reason=TEXT)
REASON_AND_FORCE: Final = body("force", reason=TEXT, force=TRUTH)
GRANT: Final = body("value valid_from valid_until", customer=TEXT, feature=TEXT, value=VALUE, valid_from=TIME_OR_NULL,
                    valid_until=TIME_OR_NULL, reason=TEXT)  # fmt: skip
CHECKS: Final = body(checks=some(body(customer=TEXT, feature=TEXT)) | {"minItems": 1, "maxItems": 500})
REBUILD: Final = body("book until_position until_time reason", book=TEXT, until_position=WHOLE, until_time=TIME_OR_NULL,
                      reason=TEXT)  # fmt: skip

OPERATIONS: Final = (
    Operation("POST", "/webhooks/stripe", webhook.receive, "Take a signed event from Stripe; 200 once it is durable.",
              {200: ref("Received")}, refuses=(413,), body={"type": "object"}),
    Operation("GET", "/v1/events", events.list_events, "The log of a book, in order.", {200: ref("Events")}, OF_EVENTS,
              (CUSTOMER, named("type", "Only events of this type."), whole("after", "Positions after this one."),
               whole("before", "Positions before this one."), word("order", "Oldest or newest first.", "asc", "desc"),
               *LOG_READ, *PAGE)),
    Operation("GET", "/v1/events/{event_id}", events.get_event, "One event.", {200: ref("OneEvent")}, OF_EVENTS,
              LOG_READ, refuses=(404,)),
    Operation("GET", "/v1/events/{event_id}/raw", events.get_raw, "The exact bytes that were received.",
              {200: "application/json"}, OF_EVENTS, LOG_READ, refuses=(404, 410), keeping="for good"),
    Operation("GET", "/v1/coverage", coverage.get_coverage, "Which hours are proven complete, and by what.",
              {200: ref("Coverage")}, OF_EVENTS, (BOOK, AS_OF, AT, FROM, TO, *PAGE)),
    Operation("GET", "/v1/observations", coverage.list_observations, "What is still to be asked of Stripe.",
              {200: ref("Observations")}, OF_EVENTS,
              (BOOK, AS_OF, AT, word("state", "Only those.", "open", "answered", "given_up"), LIMIT)),
    Operation("GET", "/v1/log/checkpoint", log.get_checkpoint, "The signed head of a book (C2SP signed note).",
              {200: TEXT_FILE}, OF_EVENTS, (BOOK, whole("min_position", "A head that covers this position.", 1)),
              refuses=(404,), keeping="checked"),
    Operation("GET", "/v1/log/proof/{event_id}", log.get_proof, "The proof that an event stands in the log.",
              {200: TEXT_FILE}, OF_EVENTS, (BOOK,), refuses=(404,), keeping="checked"),
    Operation("GET", "/v1/log/verifier-key", log.get_verifier_key, "The key that signs heads.", {200: TEXT_FILE},
              OF_EVENTS, (BOOK,), keeping="checked"),
    Operation("GET", "/v1/customers/{customer}/entitlements", entitlements.list_entitlements,
              "What a customer or an organisation may use, and why.", {200: ref("Entitlements")}, OF_ACCESS,
              (*READ, word("include", "List what is denied too.", "all")), refuses=(404, 409), keeping="checked"),
    Operation("GET", "/v1/customers/{customer}/entitlements/{feature}", present.get_entitlement,
              "May it use this feature?", {200: ref("Answer")}, OF_ACCESS, READ, refuses=(404, 409)),
    Operation("POST", "/v1/entitlements/check", entitlements.check, "Many questions at once.", {200: ref("Answers")},
              OF_ACCESS, READ, body=CHECKS, refuses=(404, 409, 413)),
    Operation("GET", "/v1/entitlements/stream", stream.follow, "Every change of an answer, as server-sent events.",
              {200: "text/event-stream"}, OF_ACCESS, (BOOK,)),
    Operation("PUT", "/v1/catalog", catalog.put_catalog, "Publish a catalog.", {200: ref("Catalog")}, "admin",
              (BOOK, time_of("effective_from", "From when it holds; default: now."), WAIT),
              body=TEXT, body_type="application/toml", refuses=(409, 413, 422)),
    Operation("GET", "/v1/catalog", catalog.list_catalogs, "Every catalog that was published.", {200: ref("Catalogs")},
              OF_ACCESS, (BOOK, AS_OF, AT), keeping="checked"),
    Operation("POST", "/v1/grants", catalog.create_grant, "Grant a feature by hand.", {201: ref("Grant")},
              "grants:write", (BOOK,), body=GRANT, refuses=(409, 413, 422), idempotent=True),
    Operation("DELETE", "/v1/grants/{grant}", catalog.delete_grant, "Take a grant back.", {200: ref("Revoked")},
              "grants:write", (BOOK,), body=REASON, refuses=(404, 409, 413)),
    Operation("GET", "/v1/customers/{customer}/dunning", dunning.get_customer, "A customer's cases and their timeline.",
              {200: ref("CustomerDunning")}, dunning.SCOPE, READ, refuses=(404,)),
    Operation("GET", "/v1/customers/{customer}/subscriptions", documents.list_subscriptions,
              "A customer's subscriptions, the newest first.", {200: ref("Subscriptions")}, revenue.SCOPE,
              (*READ, *PAGE), refuses=(404,)),
    Operation("GET", "/v1/customers/{customer}/invoices", documents.list_invoices,
              "A customer's finalised invoices, the newest first.", {200: ref("Invoices")}, revenue.SCOPE,
              (*READ, *PAGE), refuses=(404,)),
    Operation("GET", "/v1/dunning/cases", dunning.list_cases, "A book's cases, in order of opening.",
              {200: ref("Cases")}, dunning.SCOPE,
              (*READ, word("state", "Only in this state.", *dunning.STATES), bound_of("opened_from", "Opened from."),
               bound_of("opened_to", "Opened before."), *PAGE), refuses=(404, 409)),
    Operation("GET", "/v1/dunning/attention", dunning.list_attention, "The cases that need a person, largest first.",
              {200: ref("Cases")}, dunning.SCOPE, (*READ, CURRENCY, *PAGE), refuses=(404, 409)),
    Operation("GET", "/v1/dunning/summary", dunning.get_summary, "What was opened, recovered, lost and is at risk.",
              {200: ref("DunningSummary")}, dunning.SCOPE,
              (*READ, FROM, TO, word("category", "Only these.", *dunning.CATEGORIES)), refuses=(404, 409)),
    Operation("GET", "/v1/revenue/mrr", mrr.get_mrr, "Monthly recurring revenue at a moment.", {200: ref("Mrr")},
              mrr.SCOPE, (*READ, WORTH_POLICY, BASIS), refuses=(404, 409)),
    Operation("GET", "/v1/revenue/mrr/movements", mrr.list_movements, "How it moved.", {200: ref("Movements")},
              mrr.SCOPE, (*READ, WORTH_POLICY, BASIS, matching("from", "The first day or month.", DAYS, A_DAY),
                          matching("to", "The day or month after the last.", DAYS, A_DAY),
                          word("interval", "How long intervals are.", *INTERVALS), CUSTOMER, DETAIL, *PAGE),
              refuses=(404, 409)),
    Operation("GET", "/v1/revenue/trial-balance", revenue.get_trial_balance, "What every account comes to.",
              {200: ref("TrialBalance")}, revenue.SCOPE, (*READ, FROM, POLICY, BASIS), refuses=(404, 409)),
    Operation("GET", "/v1/revenue/recognition", revenue.get_recognition, "Revenue by month, and the roll-forward.",
              {200: ref("Recognition")}, revenue.SCOPE,
              (*READ, matching("from", "The first month.", MONTHS, A_MONTH),
               matching("to", "The month after the last.", MONTHS, A_MONTH),
               word("detail", "Invoice month by month recognised.", "waterfall"), POLICY, BASIS), refuses=(404, 409)),
    Operation("GET", "/v1/revenue/problems", revenue.get_problems, "What does not add up, or is not known yet.",
              {200: ref("Problems")}, revenue.SCOPE, (*READ, POLICY, LIMIT), refuses=(404, 409)),
    Operation("GET", "/v1/revenue/journal", journal.list_journal, "Entries, each of which sums to nothing.",
              {200: ref("Journal")}, revenue.SCOPE,
              (*READ, FROM, TO, CUSTOMER, named("account", "Only those on it."), named("entry", "Only this one."),
               named("group_by", "Sums by account, product, …"), POLICY, BASIS, *PAGE), refuses=(404, 409)),
    Operation("GET", "/v1/revenue/explain", journal.explain, "Why an entry, a line or a movement is there.",
              {200: ref("Explained")}, revenue.SCOPE,
              (*READ, named("entry", "An entry."), named("line", "An invoice's line."),
               named("movement", "A movement of MRR."), CUSTOMER, BASIS,
               word("policy", "A named policy, of revenue or of MRR.", "published", *POLICIES, *WORTH_POLICIES)),
              refuses=(404, 409)),
    Operation("GET", "/v1/revenue/ageing", journal.get_ageing, "What is owed, and since when.", {200: ref("Ageing")},
              revenue.SCOPE, (*READ, POLICY), refuses=(404, 409)),
    Operation("GET", "/v1/revenue/tie-out", tie_out.get_tie_out, "From MRR to revenue to cash, each difference named.",
              {200: ref("TieOut")}, revenue.SCOPE,
              (*READ, matching("month", "The month (required).", r"\d{4}-(0[1-9]|1[0-2])", A_MONTH), WORTH_POLICY,
               BASIS),
              refuses=(404, 409)),
    Operation("GET", "/v1/periods", periods.list_periods, "Every month, open or closed.", {200: ref("Periods")},
              revenue.SCOPE, READ, refuses=(404,), keeping="checked"),
    Operation("GET", "/v1/periods/{month}", periods.get_period, "What a close has sealed.", {200: ref("Seal")},
              revenue.SCOPE, (*READ, whole("seal", "Which of its seals; default: the newest.", 1)), refuses=(404,),
              keeping="checked"),
    Operation("POST", "/v1/periods/{month}/close", periods.close_period, "Close the oldest open month.",
              {200: ref("Closed")}, periods.SCOPE, (BOOK, WAIT), body=REASON_AND_FORCE, refuses=(404, 409, 413)),
    Operation("POST", "/v1/periods/{month}/reopen", periods.reopen_period, "Open the latest closed month again.",
              {200: ref("Reopened")}, periods.SCOPE, (BOOK, WAIT), body=REASON, refuses=(404, 409, 413)),
    Operation("POST", "/v1/checkout-sessions", checkout.create_checkout_session, "A hosted Checkout.",
              {200: ref("Session")}, checkout.SCOPE, (BOOK,), body=checkout.CheckoutWanted.model_json_schema(),
              refuses=(409, 413, 501, 502), idempotent=True),
    Operation("POST", "/v1/portal-sessions", checkout.create_portal_session, "A session of the customer portal.",
              {200: ref("Portal")}, checkout.SCOPE, (BOOK,), body=checkout.PortalWanted.model_json_schema(),
              refuses=(409, 413, 501, 502), idempotent=True),
    Operation("GET", "/v1/projections", projections.list_projections, "The live builds, and how far they are.",
              {200: ref("Projections")}, "admin"),
    Operation("POST", "/v1/projections/{name}/rebuilds", projections.start_rebuild, "Ask for a new build.",
              {202: ref("Build")}, "admin", body=REBUILD, refuses=(404, 409, 413)),
    Operation("GET", "/v1/projections/{name}/builds/{build}", projections.get_build, "How far a build is.",
              {200: ref("Build")}, "admin", refuses=(404,)),
    Operation("DELETE", "/v1/projections/{name}/builds/{build}", projections.delete_build, "Throw a build away.",
              {204: ""}, "admin", refuses=(404, 409)),
    Operation("GET", "/v1/projections/{name}/builds/{build}/diff", projections.get_diff,
              "Every row that a build would change.", {200: ref("Diff")}, "admin", (CUSTOMER,), refuses=(404, 409)),
    Operation("POST", "/v1/projections/{name}/builds/{build}/promote", projections.promote_build,
              "Make a build the live one.", {200: ref("Swapped")}, "admin", body=REASON_AND_FORCE,
              refuses=(404, 409, 413)),
    Operation("POST", "/v1/projections/{name}/rollback", projections.roll_back, "Go back to what was live before.",
              {200: ref("Swapped")}, "admin", body=REASON_AND_FORCE, refuses=(404, 409, 413)),
    Operation("GET", "/v1/parked", projections.list_parked, "What could not be folded.", {200: ref("Parked")}, "admin"),
    Operation("POST", "/v1/parked/{subject}/replay", projections.replay_subject, "Fold it again.",
              {200: ref("Replayed")}, "admin", refuses=(404,)),
)  # fmt: skip
"""In the contract's order."""
