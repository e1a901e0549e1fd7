"""Everything that asks Stripe: off the hot path, and through the same append as webhooks.

Reading order: ``access`` (one request, with retries), ``paging`` (lists, oldest first), ``coverage`` (what is proven),
``gather`` (backfill and sweep), ``wanted`` and ``observer`` (answers that folds lack), ``reconcile`` (drift),
``worker`` (all of it on a timer, in a process of ``serve``).
"""
