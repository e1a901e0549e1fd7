"""What subscriptions are worth a month, exactly, and how that moves (stripe-domain §5.1).

    events ─► Portfolio (a customer's subscriptions, one step an event) ─► spans: what each was worth, when, and why
                                                                             │
    movements: new, reactivation, expansion, contraction, churn ◄────────────┘

A subscription's worth is three whole numbers: before discounts, after those that hold for ever, after all of them.
What changes it by time alone (the end of a discount, of an item's trial, of a pause) is known beforehand and has
spans of its own, so that nothing has to run for an answer to be true.

Reading order: ``agreement`` (what a subscription says), ``amounts`` (an item's exact price), ``worth`` (an agreement
at a moment), ``portfolio`` (events to spans), ``movements``.
"""
