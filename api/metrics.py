"""What Prometheus may ask: counters of this process. ``/metrics`` adds how far behind each projection is."""

from __future__ import annotations

from prometheus_client import Counter

WEBHOOKS = Counter("ledger_webhooks_total", "Webhooks by what became of them", ["outcome"])

UNPARSABLE = Counter("ledger_webhook_unparsable_total", "Signed bodies that are no event: an alarm, look at the sender")
