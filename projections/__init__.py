"""What the log means: pure folds over one subject's events, kept by a follower that tails the log.

    log ─► follower ─► subjects with news ─► causal order ─► fold (pure) ─► rows + checkpoint, one transaction
                                                                  │
    reader ◄─ answer (pure: rows, a moment) ◄─────────────────────┘

Reading order: ``facts`` (what a fold sees), ``shapes`` (Stripe's objects without their drift), ``causal`` (in which
order), ``contract`` (what a projection is), ``follower`` (the shell), then a projection, such as ``entitlements``.

A fold never calls Stripe, reads a clock, draws a random number or depends on the order of arrival.
"""
