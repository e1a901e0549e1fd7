"""What subscribers are told: which answers are other than what was last said, and when time alone may change one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final, Literal

import orjson

from projections.entitlements.answer import Answer, Value

Cause = Literal["event", "time", "catalog", "promotion"]

_DENIED: Final = "false"


@dataclass(frozen=True, slots=True)
class Told:
    """What was last said of a customer or organisation.

    ``answers`` are, by feature that is granted, its value as JSON text. ``orgs`` are the organisations its rows are
    in, which hear of its changes too. At ``next_at`` time alone may change an answer.
    """

    answers: Mapping[str, str]
    orgs: frozenset[str] = frozenset()
    next_at: datetime | None = None


NOTHING: Final = Told({})
"""What was said of somebody nobody has heard of."""


@dataclass(frozen=True, slots=True)
class Change:
    """One answer that is another one now; ``value`` is JSON text."""

    customer: str
    feature: str
    granted: bool
    value: str


def value_text(value: Value) -> str:
    """Write an answer's value as JSON, a number without an exponent or idle zeros."""
    if not isinstance(value, Decimal):
        return orjson.dumps(value).decode()
    return str(int(value)) if value == value.to_integral_value() else format(value.normalize(), "f")


def granted_values(answers: Iterable[Answer]) -> dict[str, str]:
    """Return the value of every feature that is granted."""
    return {answer.feature: value_text(answer.value) for answer in answers if answer.granted}


def changes(customer: str, told: Mapping[str, str], answers: Iterable[Answer]) -> list[Change]:
    """Return what to say of a customer beside what was told, by name of feature."""
    now = {answer.feature: answer for answer in answers}
    found = []
    for feature in sorted({*told, *now}):
        answer = now.get(feature)
        granted = answer is not None and answer.granted
        value = value_text(answer.value) if answer is not None else _DENIED
        if granted != (feature in told) or (granted and told[feature] != value):
            found.append(Change(customer, feature, granted, value))
    return found
