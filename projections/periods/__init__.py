"""Closing a month: what was reported stays reported, and what is learned later is posted later (stripe-domain §5.8).

    close ─► checklist ─► everything the month reports, as sealed events ─► closed at position Q
                                      │
    reported month ◄─ closed: what was sealed · first open: effective + prior-period differences · later: effective

A seal holds the entries and movements of its month, among them the prior-period entries of what came too late for
months before. Whatever the effective journal says now of closed months, less everything sealed for them, is posted at
the start of the first open month: so a sealed month never changes, and the sum is always the effective journal.

Reading order: ``months``, ``seal`` (what is sealed), ``reported`` (differences), ``decisions`` (who may close what),
``fold`` and ``tables`` (seals as rows, and what these come to), ``totals``, ``query``, ``closing``.
"""
