"""Which invoices could not be collected, why, what became of them, and what is at stake.

A case is an invoice that met trouble. Its rows are *spans*: what the case was from one moment to the next, worked out
from the invoice's facts alone. What time alone brings (a due date, a day past due after the last retry) is where a span
begins, so that reading at a moment is picking the span it lies in, and no row depends on a clock.

Reading order: ``facts`` (what is kept of a customer), ``fold`` (events to facts), ``declines`` and ``reasons`` (why
payments failed), ``recovery`` (who or what mended it), ``case`` (its words), ``course`` (one invoice's facts to its
spans), ``rows``, ``tables``, ``standing`` (spans and a moment to answers), ``summary`` (cases to sums), ``query``.
"""
