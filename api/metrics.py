"""What one web process counts of itself, in a registry of its own; ``api.scrape`` adds what the database knows.

One ``serve`` has one web process and is one target of Prometheus, so a process's counters need no sum here and no
shared files: Prometheus tells targets apart by their ``instance``. Whatever must be right over all processes (how many
events were appended, what is parked) is read from the database when it is asked for, and is the same on every target.
"""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """The counters of one web process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.webhooks = Counter(
            "ledger_webhooks",
            "Webhooks by what became of them: appended, duplicate, refused, unavailable",
            ["outcome"],
            registry=self.registry,
        )
        self.refused = Counter(
            "ledger_webhooks_refused", "Refused webhooks by the problem's type", ["type"], registry=self.registry
        )
        self.unparsable = Counter(
            "ledger_webhook_unparsable",
            "Signed bodies that are no event: an alarm, look at the sender",
            registry=self.registry,
        )
        self._requests = Histogram(
            "ledger_http_request_seconds",
            "Until an answer began, by method, route and status",
            ["method", "route", "status"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._known: dict[tuple[str, str, int], Histogram] = {}
        for outcome in ("appended", "duplicate", "refused", "unavailable"):
            self.webhooks.labels(outcome)

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answer."""
        # Looking a child up by its labels costs more than counting.
        child = self._known.get((method, route, status))
        if child is None:
            child = self._known[method, route, status] = self._requests.labels(method, route, status)
        child.observe(seconds)
