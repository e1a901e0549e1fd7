"""A simulated company on a small model of Stripe Billing: the events Stripe would send, and the truth beside them.

No public data holds years of subscription lives in today's API shapes, and a demo, a benchmark and a property test
all need one. Nothing here knows the projections, which are compared with the truth kept here.

Reading order: ``catalog`` (what is sold), ``objects`` (what Stripe keeps), ``account`` (time, and how changes become
events); what Stripe does: ``billing`` (invoices), ``payments``, ``cards``, ``crediting``, ``reversals``, ``payouts``,
``checkout``, and on subscriptions ``statuses``, ``collecting``, ``subscriptions``, each on top of the one before; what
people do: ``lives``, ``dealings`` (about money already billed), ``troubles`` (when a payment fails); ``company`` (a
whole company, as a stream of events), ``truth…`` and ``answers`` (what was so: access and recurring revenue, cases,
and the books, done again bill by bill), ``scenario`` (a life in a few lines, in the words of ``stage…``).
``render…`` writes objects as the pinned API version has them, ``versions`` as older ones had them; ``faults`` is what
delivery does to the stream.
"""
