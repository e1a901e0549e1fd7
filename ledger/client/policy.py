"""What holds while the service cannot be reached: said per feature, beforehand, by whoever knows what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

from ledger.client.answers import Answer


@dataclass(frozen=True, slots=True)
class Policy:
    """``deny``, ``allow``, or the ``last_known`` answer while it is no older than ``limit_seconds``, then ``deny``."""

    kind: Literal["deny", "allow", "last_known"]
    limit_seconds: float = 0.0


DENY: Final = Policy("deny")
ALLOW: Final = Policy("allow")


def last_known(limit_seconds: float) -> Policy:
    """Let the last known answer hold for so long."""
    return Policy("last_known", limit_seconds)


@dataclass(frozen=True, slots=True)
class Policies:
    """A policy for each feature that has one of its own, and one for all others."""

    by_feature: Mapping[str, Policy]
    otherwise: Policy = DENY

    def answer(self, customer: str, feature: str, known: Answer | None, age_seconds: float) -> Answer:
        """Answer without the service, from what was last known and how long ago that was right."""
        policy = self.by_feature.get(feature, self.otherwise)
        if policy.kind == "last_known" and known is not None and age_seconds <= policy.limit_seconds:
            return replace(known, origin="last_known", age_seconds=age_seconds, stale=True)
        granted = policy.kind == "allow"
        return Answer(
            customer=customer,
            feature=feature,
            granted=granted,
            kind="boolean",
            value=granted,
            state=None,
            reason="unreachable",
            origin="policy",
            age_seconds=age_seconds if known is not None else 0.0,
            stale=True,
        )
