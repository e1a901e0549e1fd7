"""What to ask and what the answer means, without asking: questions are generators that the shells run.

A question yields requests and is sent replies (or thrown ``UnreachableError``); its return value is the answer. So
the synchronous and the asynchronous client differ only in how a request is made.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, TypeVar
from urllib.parse import quote

from ledger.client.answers import (
    Answer,
    RefusedError,
    UnreachableError,
    parse_answer,
    parse_freshness,
)
from ledger.client.cache import Cache
from ledger.client.policy import Policies

CHECKS_MAX: Final = 500
STREAM_PATH: Final = "/v1/entitlements/stream"
RECONNECT_SECONDS: Final = (0.1, 0.5, 1.0, 2.0, 5.0)
"""How long to wait before the next try to follow the stream, the last for all further ones."""

_PASSING: Final = frozenset(
    {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS, *(one for one in HTTPStatus if one >= 500)}
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Request:
    """One request to make."""

    method: str
    path: str
    params: Mapping[str, str]
    content: bytes | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back."""

    status: int
    content: bytes


Question = Generator[Request, Reply, T]


@dataclass(frozen=True, slots=True)
class Core:
    """The client without its hands. ``cache`` is None where nothing is kept.

    ``wait_seconds`` is for how long the service may wait for a position that is asked for.
    """

    cache: Cache | None
    policies: Policies
    book: str | None
    clock: Callable[[], float]
    wait_seconds: float = 1.0

    def kept(self, customer: str, feature: str, min_position: int | None) -> Answer | None:
        """Return an answer that need not be asked for."""
        return None if self.cache is None else self.cache.get((customer, feature), min_position)

    def check(self, customer: str, feature: str, min_position: int | None) -> Question[Answer]:
        """Ask about one feature."""
        path = f"/v1/customers/{quote(customer, safe='')}/entitlements/{quote(feature, safe='')}"
        asked_at = self.clock()
        try:
            content = _content((yield Request("GET", path, self._params(min_position))))
        except UnreachableError:
            return self._without_service(customer, feature)
        answer = parse_answer(content, customer, None, parse_freshness(content["freshness"]))
        self._keep([answer], asked_at)
        return answer

    def check_many(self, checks: Sequence[tuple[str, str]], min_position: int | None) -> Question[list[Answer]]:
        """Ask about many, those that are kept excepted, some hundred at a time."""
        found = {one: answer for one in checks if (answer := self.kept(*one, min_position)) is not None}
        missing = [one for one in dict.fromkeys(checks) if one not in found]
        for start in range(0, len(missing), CHECKS_MAX):
            some = missing[start : start + CHECKS_MAX]
            body = {"checks": [{"customer": customer, "feature": feature} for customer, feature in some]}
            asked_at = self.clock()
            request = Request("POST", "/v1/entitlements/check", self._params(min_position), json.dumps(body).encode())
            try:
                content = _content((yield request))
            except UnreachableError:
                found |= {one: self._without_service(*one) for one in some}
                continue
            freshness = parse_freshness(content["freshness"])
            answers = [
                parse_answer(one, customer, None, freshness)
                for one, (customer, _) in zip(content["data"], some, strict=True)
            ]
            self._keep(answers, asked_at)
            found |= dict(zip(some, answers, strict=True))
        return [found[one] for one in checks]

    def list(self, customer: str, *, denied: bool, min_position: int | None) -> Question[list[Answer]]:
        """Ask for everything that is granted, or for what is denied too. Raises ``UnreachableError``."""
        path = f"/v1/customers/{quote(customer, safe='')}/entitlements"
        params = self._params(min_position) | ({"include": "all"} if denied else {})
        asked_at = self.clock()
        content = _content((yield Request("GET", path, params)))
        freshness = parse_freshness(content["freshness"])
        answers = [parse_answer(one, customer, content["org"], freshness) for one in content["entitlements"]]
        self._keep(answers, asked_at)
        return answers

    def stream(self) -> tuple[Mapping[str, str], Mapping[str, str]]:
        """Return the parameters and headers to follow the stream with, from where it was heard last."""
        last_id = self.cache.last_id if self.cache is not None else None
        return self._params(None), {} if last_id is None else {"Last-Event-ID": last_id}

    def _params(self, min_position: int | None) -> dict[str, str]:
        params = {} if self.book is None else {"book": self.book}
        if min_position is not None:
            params |= {"min_position": str(min_position), "wait": f"{self.wait_seconds:.1f}"}
        return params

    def _keep(self, answers: Sequence[Answer], asked_at: float) -> None:
        if self.cache is not None:
            for answer in answers:
                self.cache.keep(answer, asked_at)

    def _without_service(self, customer: str, feature: str) -> Answer:
        known, age = (None, 0.0) if self.cache is None else self.cache.last_known((customer, feature))
        return self.policies.answer(customer, feature, known, age)


def _content(reply: Reply) -> Any:
    if reply.status in _PASSING:
        raise UnreachableError(f"the service answered {reply.status}")
    try:
        content = json.loads(reply.content)
    except ValueError as error:
        raise UnreachableError(f"what answered {reply.status} is not the service") from error
    if reply.status != HTTPStatus.OK:
        problem = content if isinstance(content, dict) else {}
        raise RefusedError(reply.status, str(problem.get("type")), str(problem.get("detail")))
    if not isinstance(content, dict) or "freshness" not in content:
        raise UnreachableError("what answered 200 is not the service")
    return content


def reconnect_seconds(failures: int) -> float:
    """Return how long to wait after so many tries in a row that came to nothing."""
    return RECONNECT_SECONDS[min(failures, len(RECONNECT_SECONDS)) - 1]
