"""One request to Stripe's API through the stripe SDK, retried while that can help; returns the answer's exact bytes."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, Literal
from uuid import uuid4

import orjson
import stamina
import stripe
from stripe import HTTPXClient, StripeClient, StripeError

from api.outward.refused import REFUSAL, StripeRefusedError
from api.settings import Settings
from ledger.errors import SettingError
from ledger.event import Json, mapping
from ledger.observation import Answer

API_KEY: Final = "LEDGER_STRIPE_API_KEY"

_KEY: Final = re.compile(r"(sk|rk)_(live|test)_[\x21-\x7e]+")
_SERVER_ERROR: Final = 500
_TRY_AGAIN: Final = frozenset({409, 429})  # somebody holds the object; too many requests

Method = Literal["get", "post"]


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a request is retried, and how long one try may take."""

    attempts: int = 10
    seconds: float = 300.0
    wait_seconds_min: float = 0.5
    wait_seconds_max: float = 30.0
    answer_seconds: float = 60.0


WHILE_SOMEBODY_WAITS: Final = Patience(attempts=3, seconds=20, wait_seconds_max=2, answer_seconds=20)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer of Stripe's API: its exact bytes, parsed, and Stripe's own clock."""

    answer: Answer
    content: Json
    at: datetime


class StripeAccess:
    """Asks Stripe with one key, for its own account and for connected ones. Made by ``open_access``."""

    def __init__(
        self, client: StripeClient, *, livemode: bool, patience: Patience, clock: Callable[[], datetime]
    ) -> None:
        self._client = client
        self._patience = patience
        self._clock = clock
        self.livemode = livemode

    async def get(self, path: str, params: Mapping[str, Any] | None = None, *, account: str | None = None) -> Reply:
        """Read something. Raises ``StripeRefusedError`` when it is refused, or Stripe stays away too long."""
        given = dict(params or {})
        response = await self._ask("get", path, given, {"stripe_account": account} if account else {})
        answer = Answer(
            path=path,
            query=flat(given),
            body=response.body.encode("utf-8"),
            account=account,
            api_version=response.headers.get("Stripe-Version") or stripe.api_version,
            request_id=response.headers.get("Request-Id"),
        )
        return Reply(answer, mapping(orjson.loads(answer.body)), self._time_of(response.headers))

    async def post(
        self, path: str, params: Mapping[str, Any], *, account: str | None = None, idempotency_key: str | None = None
    ) -> Json:
        """Make something; tried again, it is made once. Raises ``StripeRefusedError``."""
        options = {"idempotency_key": idempotency_key or str(uuid4())}
        if account:
            options["stripe_account"] = account
        response = await self._ask("post", path, dict(params), options)
        return mapping(orjson.loads(response.body))

    async def _ask(self, method: Method, path: str, params: dict[str, Any], options: dict[str, str]) -> Any:
        patience = self._patience
        until = time.monotonic() + patience.seconds

        def wait(error: Exception) -> bool | float:
            """Wait as long as Stripe says, where that ends in time."""
            seconds = wait_before_retry(error)
            is_too_long = not isinstance(seconds, bool) and time.monotonic() + seconds > until
            return False if is_too_long else seconds

        try:
            async for attempt in stamina.retry_context(
                on=wait,
                attempts=patience.attempts,
                timeout=patience.seconds,
                wait_initial=patience.wait_seconds_min,
                wait_max=patience.wait_seconds_max,
                wait_jitter=patience.wait_seconds_min,
            ):
                with attempt:
                    return await self._answer(method, path, params, options)
        except StripeError as error:
            raise StripeRefusedError(f"{method.upper()} {path}", told_by(error), error) from error
        raise AssertionError("a request either answers or raises")

    async def _answer(self, method: Method, path: str, params: dict[str, Any], options: dict[str, str]) -> Any:
        """Return what came back. Raises ``stripe.StripeError``, also where it is no answer of Stripe's."""
        try:
            response = await self._client.raw_request_async(method, path, **params, **options)
        except UnicodeDecodeError as error:  # the SDK's, where a body is no text
            raise stripe.APIError(http_status=200) from error
        if not isinstance(mapping(response.data).get("object"), str):
            raise stripe.APIError(http_status=response.code)
        return response

    def _time_of(self, headers: Mapping[str, str]) -> datetime:
        """Return Stripe's clock when it answered; ours where it does not say."""
        with contextlib.suppress(ValueError, TypeError):
            return parsedate_to_datetime(headers.get("Date", "")).astimezone(UTC)
        return self._clock().replace(microsecond=0)


def wait_before_retry(error: Exception) -> bool | float:
    """Return whether a retry can help, and after how many seconds if Stripe says so."""
    if isinstance(error, stripe.APIConnectionError):
        return True
    status = error.http_status if isinstance(error, StripeError) else None
    if status is None or (REFUSAL <= status < _SERVER_ERROR and status not in _TRY_AGAIN):
        return False
    headers = dict(getattr(error, "headers", None) or {})
    after = {name.lower(): value for name, value in headers.items()}.get("retry-after", "")
    return float(after) if re.fullmatch(r"[0-9]{1,4}(\.[0-9]+)?", after) else True


def told_by(error: StripeError) -> str:
    """Return what an error of Stripe's API says, never with a key in it: those about keys repeat a part of them."""
    if isinstance(error, stripe.APIConnectionError):
        return "it could not be reached"
    if isinstance(error, stripe.AuthenticationError):
        return f"it does not accept {API_KEY}"
    if isinstance(error, stripe.PermissionError):
        return f"{API_KEY} has no permission for it"
    if error.http_status is not None and error.http_status < REFUSAL:
        return "what answered is not Stripe, or broke off"
    text = re.sub(r"(sk|rk|pk|whsec)_\S+", "(a key)", error.user_message or "") or type(error).__name__
    return f"{text} (status {error.http_status})"


def flat(params: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Write parameters as they stand in a query."""
    written: dict[str, str] = {}
    for name, value in params.items():
        key = f"{prefix}[{name}]" if prefix else name
        if isinstance(value, Mapping):
            written |= flat(value, key)
        elif isinstance(value, list):
            written |= {f"{key}[{place}]": str(one) for place, one in enumerate(value)}
        else:
            written[key] = str(value)
    return written


def livemode_of(api_key: str) -> bool:
    """Return which mode a key is for. Raises ``SettingError`` where it is no key."""
    match = _KEY.fullmatch(api_key)
    if match is None:
        raise SettingError(API_KEY, "must begin with rk_live_, rk_test_, sk_live_ or sk_test_")
    return match[2] == "live"


@contextlib.asynccontextmanager
async def open_access(
    settings: Settings, clock: Callable[[], datetime], patience: Patience | None = None
) -> AsyncIterator[StripeAccess]:
    """Open what asks Stripe. Raises ``SettingError`` where no key is set."""
    if settings.stripe_api_key is None:
        raise SettingError(API_KEY, "set it to a restricted key (rk_…) of your Stripe account")
    livemode = livemode_of(settings.stripe_api_key)
    patient = patience or Patience()
    http: Any = HTTPXClient(timeout=patient.answer_seconds)
    try:
        yield StripeAccess(
            _client(settings.stripe_api_key, settings.stripe_api_base, http),
            livemode=livemode,
            patience=patient,
            clock=clock,
        )
    finally:
        await http.close_async()


def _client(api_key: str, base: str | None, http: HTTPXClient) -> StripeClient:
    # Retries are ours: Stripe's Retry-After is honoured, and a worker can be patient.
    if base is None:
        return StripeClient(api_key, http_client=http, max_network_retries=0)
    addresses: Any = {"api": base.rstrip("/")}
    return StripeClient(api_key, http_client=http, max_network_retries=0, base_addresses=addresses)
