"""Out to Stripe: hosted Checkout and the customer portal. Neither grants anything: the webhook does."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Final, Literal, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from api.access import idempotency_key_of, require, services
from api.bodies import raw_body
from api.outward.access import API_KEY, StripeAccess
from api.parameters import book_parameter
from api.problems import JSONResponse, Problem
from api.secrets import ApiKey
from api.services import Services
from ledger.books import book_of
from ledger.event import Json, identifier, mapping

SCOPE: Final = "checkout:write"


Wanted = TypeVar("Wanted", bound=BaseModel)
Identifier = Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,255}$")]
Url = Annotated[str, Field(pattern=r"^https?://[\x21-\x7e]{1,2000}$")]


class CheckoutWanted(BaseModel):
    """The body of a request for a Checkout session."""

    model_config = ConfigDict(extra="forbid", strict=True)

    price: Identifier
    quantity: Annotated[int, Field(ge=1, le=999_999)] = 1
    org: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,200}$")]
    customer: Identifier | None = None
    mode: Literal["payment", "subscription"] | None = None
    success_url: Url
    cancel_url: Url


class PortalWanted(BaseModel):
    """The body of a request for a portal session."""

    model_config = ConfigDict(extra="forbid", strict=True)

    customer: Identifier
    return_url: Url


async def create_checkout_session(request: Request) -> Response:
    """Make a Checkout session for one price, marked with the organisation that is to get what it gives."""
    key, access, account = _way_out(request)
    wanted = await _read(request, CheckoutWanted)
    price = (await access.get(f"/v1/prices/{quote(wanted.price, safe='')}", account=account)).content
    made = await access.post(
        "/v1/checkout/sessions",
        checkout_parameters(wanted, price, services(request).settings.org_metadata_key),
        account=account,
        idempotency_key=_idempotency_key(request, key),
    )
    return JSONResponse({"id": made["id"], "url": made["url"]})


async def create_portal_session(request: Request) -> Response:
    """Make a session of the customer portal."""
    key, access, account = _way_out(request)
    wanted = await _read(request, PortalWanted)
    made = await access.post(
        "/v1/billing_portal/sessions",
        {"customer": wanted.customer, "return_url": wanted.return_url},
        account=account,
        idempotency_key=_idempotency_key(request, key),
    )
    return JSONResponse({"url": made["url"]})


def checkout_parameters(wanted: CheckoutWanted, price: Json, org_metadata_key: str) -> dict[str, Any]:
    """Write a session as Stripe's API reference has it.

    The metadata are set on the session and on what it creates, since Stripe does not copy them.
    """
    recurring = mapping(price.get("recurring"))
    mode = wanted.mode or ("subscription" if recurring else "payment")
    item: dict[str, Any] = {"price": wanted.price}
    if recurring.get("usage_type") != "metered":
        item["quantity"] = wanted.quantity
    metadata = {
        org_metadata_key: wanted.org,
        "ledger_price": wanted.price,
        "ledger_product": identifier(price.get("product")) or "",
        "ledger_quantity": str(wanted.quantity),
    }
    parameters: dict[str, Any] = {
        "mode": mode,
        "line_items": [item],
        "success_url": wanted.success_url,
        "cancel_url": wanted.cancel_url,
        "client_reference_id": wanted.org,
        "metadata": metadata,
        "payment_intent_data" if mode == "payment" else "subscription_data": {"metadata": metadata},
    }
    if wanted.customer is not None:
        parameters["customer"] = wanted.customer
    elif mode == "payment":
        parameters["customer_creation"] = "always"  # what is bought is somebody's
    return parameters


def _way_out(request: Request) -> tuple[ApiKey, StripeAccess, str | None]:
    """Return the caller's key, and access to the Stripe account of the book they mean: by default the platform's."""
    key = require(request, SCOPE)
    serving = services(request)
    if serving.stripe is None:
        raise Problem(501, f"set {API_KEY} to a restricted key of your Stripe account, with write access to Checkout")
    own = book_of(serving.settings.account, livemode=serving.stripe.livemode)
    book = book_parameter(request) or key.book or own
    if not key.sees(book):
        raise Problem(403, f"this key is for another book than {book}")
    account, _, mode = book.rpartition(":")
    if mode != own.rpartition(":")[2]:
        raise Problem(400, f"{API_KEY} is for {own.rpartition(':')[2]} mode, not for {book}", kind="wrong-mode")
    return key, serving.stripe, _account(serving, account)


def _account(serving: Services, account: str) -> str | None:
    return None if account == serving.settings.account else account


async def _read(request: Request, model: type[Wanted]) -> Wanted:
    try:
        return model.model_validate_json(await raw_body(request))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise Problem(400, f"{where}: {first['msg']}" if where else str(first["msg"])) from error


def _idempotency_key(request: Request, key: ApiKey) -> str | None:
    """Return the idempotency key for Stripe, which no two of our callers can share."""
    if (given := idempotency_key_of(request)) is None:
        return None
    return hashlib.sha256(f"{key.digest} {request.url.path} {given}".encode()).hexdigest()
