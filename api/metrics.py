"""What the web processes of one ``serve`` count; ``api.scrape`` adds what the database knows.

One ``serve`` is one Prometheus target. Several web processes count in shared files, and whichever is scraped answers
for all; a single one counts in memory and also reports its use of the machine. Numbers about the whole database (how
many events were appended, what is parked) are read from it at each scrape and are the same on every target.
"""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.multiprocess import MultiProcessCollector

SHARED: Final = "PROMETHEUS_MULTIPROC_DIR"
"""The library's own variable: where processes that have it when they begin count in files of that folder."""

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """What a web process counts; ``registry`` is what is told of it, and of those it ``shares`` its files with."""

    def __init__(self, *, shares: bool = False) -> None:
        own = CollectorRegistry()
        self.registry = CollectorRegistry() if shares else own
        if shares:
            MultiProcessCollector(self.registry)  # type: ignore[no-untyped-call]
        else:
            ProcessCollector(registry=own)
        self.webhooks = Counter(
            "ledger_webhooks",
            "Webhooks by what became of them: appended, duplicate, refused, unavailable",
            ["outcome"],
            registry=own,
        )
        self.refused = Counter(
            "ledger_webhooks_refused", "Refused webhooks by the problem's type", ["type"], registry=own
        )
        self.unparsable = Counter(
            "ledger_webhook_unparsable",
            "Signed bodies that are not events: an alarm, check the sender",
            registry=own,
        )
        self._requests = Histogram(
            "ledger_http_request_seconds",
            "Until an answer began, by method, route and status",
            ["method", "route", "status"],
            buckets=_SECONDS,
            registry=own,
        )
        self._queue = Gauge(
            "ledger_append_queue_events",
            "Events that wait to be written",
            registry=own,
            multiprocess_mode="livesum",
        )
        self._readers = Gauge(
            "ledger_stream_readers",
            "Who follows the stream of changes",
            registry=own,
            multiprocess_mode="livesum",
        )
        self._known: dict[tuple[str, str, int], Histogram] = {}
        for outcome in ("appended", "duplicate", "refused", "unavailable"):
            self.webhooks.labels(outcome)

    def measured(self, *, waiting: int, readers: int) -> None:
        """Note how things are now in this process."""
        self._queue.set(waiting)
        self._readers.set(readers)

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answer."""
        # Looking a child up by its labels costs more than counting.
        child = self._known.get((method, route, status))
        if child is None:
            child = self._known[method, route, status] = self._requests.labels(method, route, status)
        child.observe(seconds)
