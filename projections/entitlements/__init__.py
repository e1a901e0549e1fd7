"""May this customer use X now? Rows are *sources* (what a subscription's item, a purchase or a grant gave, and when),
*evidence* (what is owed, refunded, disputed) and whose they were; what they come to is worked out at reading, by one
pure function that the route, the stream, the console and the tests share.

    events ─► fold ─► sources, evidence, organisations ─┐
    published catalogs ─► features and policies ────────┴─► answer(holdings, catalogs, moment)

Reading order: ``rows``, ``state`` and ``fold`` (events to rows: ``subscriptions``, ``purchases``, ``money``,
``people``), then ``standing`` (one source at a moment), ``belonging`` (which count for whom), ``features``, ``answer``;
``compared`` (Stripe's own entitlements beside ours); then ``tables``, ``holdings``, ``query``, ``known``, ``preview``;
what follows changes: ``telling``, ``changes``, ``feed``.
"""
