"""Entitlements cached in this process's memory: what a holder holds, evaluated by the clock when somebody asks.

An entry was read from the database at one commit of the live build; the tail says whose rows later commits wrote, and
those entries are dropped. Until the next moment at which time can change it, an answer is the same bytes, so the bytes
are cached too.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from projections.entitlements.answer import next_turn
from projections.entitlements.query import Entitlements, Moment

_ROWS_MAX: Final = 200_000
_ROWS_OF_ONE_MAX: Final = 2_000
_BODIES_OF_ONE_MAX: Final = 256

Key = tuple[str, str]
Body = tuple[bytes, bool]
"""An answer as it is sent, without what is said of its freshness; and whether it is stale by itself."""
Render = Callable[[Entitlements, str], Body]
Load = Callable[[], Awaitable[tuple[Entitlements, int | None]]]


@dataclass(slots=True)
class Entry:
    """What one holder holds, as of commit ``touch``, and what that comes to until time changes it."""

    found: Entitlements
    touch: int
    rows: int
    until: datetime | None = None
    bodies: dict[str, Body] = field(default_factory=dict)

    def body(self, feature: str, now: datetime, render: Render) -> Body:
        """Return the answer for a feature at ``now``, as ``render`` writes it."""
        if self.until is not None and now >= self.until:
            self.evaluate(now)
        body = self.bodies.get(feature)
        if body is None:
            body = render(self.found, feature)
            if len(self.bodies) < _BODIES_OF_ONE_MAX:
                self.bodies[feature] = body
        return body

    def evaluate(self, now: datetime) -> None:
        """Let the time be ``now``."""
        holdings, published = self.found.holdings, self.found.published
        self.found = replace(self.found, at=Moment(now).among(holdings), now=now)
        self.until = next_turn(holdings, published, self.found.at)
        self.bodies = {}


class Memory:
    """The entries of this process: the least recently asked about go first when there are too many rows."""

    def __init__(self, rows_max: int = _ROWS_MAX) -> None:
        self._rows_max = rows_max
        self._rows = 0
        self._entries: OrderedDict[Key, Entry] = OrderedDict()
        self._loading: dict[Key, int] = {}
        """Of what is being read now, the last commit that wrote rows of it since."""
        self._waiting: dict[Key, int] = {}

    def get(self, book: str, holder: str) -> Entry | None:
        """Return what is kept of a holder."""
        entry = self._entries.get((book, holder))
        if entry is not None:
            self._entries.move_to_end((book, holder))
        return entry

    async def load(self, book: str, holder: str, now: datetime, load: Load) -> Entitlements:
        """Read a holder with ``load``, and keep it unless a later commit has written its rows meanwhile."""
        key = (book, holder)
        self._waiting[key] = self._waiting.get(key, 0) + 1
        self._loading.setdefault(key, 0)
        try:
            found, touch = await load()
            if touch is not None and self._loading[key] <= touch:
                self._keep(key, found, touch, now)
            return found
        finally:
            self._waiting[key] -= 1
            if not self._waiting[key]:
                del self._waiting[key], self._loading[key]

    def forget(self, book: str, holders: set[str] | None, touch: int) -> None:
        """Forget what is known of these holders (None: of everybody) from before commit ``touch``."""
        loading = [key for key in self._loading if key[0] == book and (holders is None or key[1] in holders)]
        self._loading |= dict.fromkeys(loading, touch)
        kept = list(self._entries) if holders is None else [(book, holder) for holder in holders]
        for key in kept:
            entry = self._entries.get(key)
            if entry is not None and key[0] == book and entry.touch < touch:
                self._drop(key)

    def forget_all(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._rows = 0

    def _keep(self, key: Key, found: Entitlements, touch: int, now: datetime) -> None:
        holdings = found.holdings
        rows = 1 + sum(map(len, (holdings.sources, holdings.evidence, holdings.orgs, holdings.products)))
        # One that no event told of becomes known by events that write no rows; dirty and parked ones are not settled.
        if not found.known or found.dirty or found.parked or rows > _ROWS_OF_ONE_MAX:
            return
        if key in self._entries:
            self._drop(key)
        entry = Entry(found, touch, rows)
        entry.evaluate(now)
        self._entries[key] = entry
        self._rows += rows
        while self._rows > self._rows_max:
            self._drop(next(iter(self._entries)))

    def _drop(self, key: Key) -> None:
        self._rows -= self._entries.pop(key).rows
