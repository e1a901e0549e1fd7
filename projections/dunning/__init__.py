"""Which invoices could not be collected, why, what happened to them, and what is at stake.

A case is an invoice with trouble. Its rows are *spans*: what the case was from one moment to the next, computed from
the invoice's facts alone. A change that time alone causes (a due date, a day past due after the last retry) begins a
span too, so reading at a moment means picking the span around it, and no row depends on a clock.

Reading order: ``facts`` (what is kept of a customer), ``fold`` (events to facts), ``declines`` and ``reasons`` (why
payments failed), ``recovery`` (who or what resolved it), ``case`` (its words), ``course`` (one invoice's facts to its
spans), ``rows``, ``tables``, ``standing`` (spans and a moment to answers), ``summary`` (cases to sums), ``query``.
"""
