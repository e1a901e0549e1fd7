"""What the log means: pure folds over one subject's events, kept by a follower that tails the log.

    log ─► follower ─► subjects with news ─► causal order ─► fold (pure) ─► rows + checkpoint, one transaction
                                                                  │
    reader ◄─ answer (pure: rows, a moment) ◄─────────────────────┘

Reading order: ``contract`` (what a projection is), ``facts`` (what a fold sees), ``shapes`` (Stripe's objects in any
API version), ``causal`` (the order of events), ``folding`` and ``refold`` (folding a subject, and again when it has new
events), ``follower`` and ``runner`` (the shell), ``rebuild`` and ``promotion``; then a projection, such as
``entitlements``.

A fold never calls Stripe, reads a clock, draws a random number or depends on the order of arrival.
"""
