"""What was billed, earned, owed and paid: a balanced journal, recognised revenue and MRR, from the same facts.

Reading order: ``schedule`` and ``pots`` (what time and every fact does to an invoice's amounts), ``facts`` and
``gather`` (events to natural facts, each once), ``journal`` with one small module a kind of fact (facts to entries),
``fold`` and ``tables`` (the projection, made of parts), ``query`` (balances and recognition at any moment).
"""
