"""What happened: the immutable, gapless, provable log of Stripe's events.

    bytes ─► parse_envelope ─► Appender.append ─► append_batch (one SQL call) ─► position
             reads what is      batches, numbers,   compare-and-set on the
             needed to file it  hashes, compresses  head row, then COMMIT

Reading order: ``event`` (what an event is and which stream it belongs to), ``leaf`` (what is proved about it),
``batch`` (numbering and hashing a batch, pure), ``appender`` and ``flush`` (group commit), ``reader`` (pages and the
tail), ``merkle``, ``notary`` and ``verify`` (signing and proving), ``postgres`` and ``migrate`` (where it lives).
``schema.sql`` at the top of the project is the database.

Nothing here knows what a subscription means: that is ``projections``. Nothing here speaks HTTP: that is ``api``.
"""
