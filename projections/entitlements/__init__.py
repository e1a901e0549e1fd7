"""May this customer use X now?

Rows are *sources* (what a subscription item, a purchase or a grant gave, and when), *evidence* (what is owed, refunded,
disputed) and organisations (whose they were). Answers are computed from them when somebody asks, by one pure function
that the route, the stream, the console and the tests share.

    events ─► fold ─► sources, evidence, organisations ─┐
    published catalogs ─► features and policies ────────┴─► answer(holdings, catalogs, moment)

Reading order: ``rows``, ``state`` and ``fold`` (events to rows: ``subscriptions``, ``purchases``, ``money``,
``people``), then ``standing`` (one source at a moment), ``belonging`` (which sources count for whom), ``features``,
``answer``; ``compared`` (Stripe's own entitlements beside ours); then ``tables``, ``holdings``, ``query``, ``known``,
``preview``; and for the log of changed answers: ``telling``, ``changes``, ``feed``.
"""
