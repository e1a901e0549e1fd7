"""What the service answers, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

Value = bool | int | float | str | None
Origin = Literal["service", "cache", "last_known", "policy"]


class ClientError(Exception):
    """The ledger did not answer the question."""


class UnreachableError(ClientError):
    """The service could not be reached in time, or could not answer now; asking again may help."""


class RefusedError(ClientError):
    """The service refused the question; asking the same again will not help."""

    def __init__(self, status: int, kind: str, detail: str) -> None:
        super().__init__(f"{status} {kind}: {detail}")
        self.status = status
        self.kind = kind
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Freshness:
    """How far the answer's book was folded, beside how far the log was."""

    book: str
    position: int
    head: int
    lag_seconds: float
    build: str | None
    stale: bool
    parked: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """May this customer use this feature, and why.

    ``origin`` says where the answer comes from: the ``service`` just now, the ``cache`` the stream keeps right, the
    ``last_known`` one or the ``policy`` alone while the service cannot be reached. ``age_seconds`` is how long ago it
    was last known to be right, and ``stale`` that this is longer than the client or the service promises.
    """

    customer: str
    feature: str
    granted: bool
    kind: str
    value: Value
    state: str | None
    reason: str | None
    org: str | None = None
    valid_from: datetime | None = None
    valid_until: datetime | None = None
    ends_at: datetime | None = None
    sources: tuple[Mapping[str, Any], ...] = ()
    because: tuple[str, ...] = ()
    freshness: Freshness | None = None
    origin: Origin = "service"
    age_seconds: float = 0.0
    stale: bool = False

    def __bool__(self) -> bool:
        """Tell whether it is granted."""
        return self.granted


def parse_freshness(content: Mapping[str, Any]) -> Freshness:
    """Read the freshness of an answer."""
    return Freshness(
        book=content["book"],
        position=content["position"],
        head=content["head"],
        lag_seconds=content["lag_seconds"],
        build=content["build"],
        stale=content["stale"],
        parked=content["parked"],
    )


def parse_answer(content: Mapping[str, Any], customer: str, org: str | None, freshness: Freshness) -> Answer:
    """Read one answer; a batch's and a list's have their customer or freshness beside them."""
    return Answer(
        customer=content.get("customer") or customer,
        feature=content["feature"],
        granted=content["granted"],
        kind=content["kind"],
        value=content["value"],
        state=content["state"],
        reason=content.get("reason") or content["state"],
        org=content.get("org", org),
        valid_from=_moment(content["valid_from"]),
        valid_until=_moment(content["valid_until"]),
        ends_at=_moment(content["ends_at"]),
        sources=tuple(content["sources"]),
        because=tuple(content["because"]),
        freshness=freshness,
        stale=freshness.stale or bool(content.get("stale")),
    )


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
