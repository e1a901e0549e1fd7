"""One request: the exact bytes of the answer, patience where it helps, and no key in what is said."""

from __future__ import annotations

import itertools
import time

import orjson
import pytest

from api.outward.access import StripeAccess, flat, livemode_of, open_access
from api.outward.paging import EndlessListError, read_accounts, read_events, read_pages
from api.outward.refused import StripeRefusedError
from api.settings import Settings
from ledger.errors import SettingError
from tests.conftest import ManualClock
from tests.outward.conftest import QUICK
from tests.standin import API_KEY, BODIES, StandIn
from tests.stripe_events import event


async def test_the_answer_is_kept_byte_for_byte(access: StripeAccess, standin: StandIn) -> None:
    standin.world.put({"id": "free", "object": "coupon", "name": "Größe ✓", "percent_off": 12.5})
    reply = await access.get("/v1/coupons/free", {"expand": ["applies_to"]})
    assert reply.answer.body == orjson.dumps(standin.world.find("coupon", "free"), option=orjson.OPT_INDENT_2)
    assert reply.answer.query == {"expand[0]": "applies_to"}
    assert (reply.answer.request_id, reply.answer.api_version) == ("req_1", "2026-10-28.endive")


@pytest.mark.parametrize("fault", ["429", "500", "503", "409", "reset", "slow"])
async def test_a_fault_that_passes_is_waited_out(access: StripeAccess, standin: StandIn, fault: str) -> None:
    standin.world.put({"id": "free", "object": "coupon"})
    standin.faults = iter([fault, fault])
    assert (await access.get("/v1/coupons/free")).content["id"] == "free"
    assert len(standin.requests) == 3


async def test_retry_after_is_honoured(access: StripeAccess, standin: StandIn) -> None:
    standin.world.put({"id": "free", "object": "coupon"})
    standin.faults = iter(["429"] * 4)
    begun = time.monotonic()
    await access.get("/v1/coupons/free")
    assert time.monotonic() - begun >= 4 * 0.05


async def test_nobody_waits_longer_than_patience_lasts(
    access: StripeAccess, standin: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.standin.AFTER", "21")  # of the 20 seconds it has
    standin.faults = iter(["429"])
    begun = time.monotonic()
    with pytest.raises(StripeRefusedError, match="fault 429"):
        await access.get("/v1/coupons/free")
    assert (len(standin.requests), time.monotonic() - begun < 10) == (1, True)


@pytest.mark.parametrize("fault", BODIES)
async def test_what_is_no_answer_of_stripes_is_never_taken_for_one(
    access: StripeAccess, standin: StandIn, fault: str
) -> None:
    standin.world.put({"id": "free", "object": "coupon"})
    standin.faults = itertools.chain([fault, fault, ""], itertools.repeat(fault))
    assert (await access.get("/v1/coupons/free")).content["id"] == "free"
    with pytest.raises(StripeRefusedError, match="what answered is not Stripe, or broke off") as refused:
        await access.get("/v1/coupons/free")
    assert refused.value.status is None
    assert BODIES[fault] not in str(refused.value)


async def test_what_cannot_help_is_not_tried_again(access: StripeAccess, standin: StandIn) -> None:
    with pytest.raises(StripeRefusedError, match="No such object: 'gone'"):
        await access.get("/v1/coupons/gone")
    assert len(standin.requests) == 1


async def test_patience_ends(access: StripeAccess, standin: StandIn) -> None:
    standin.faults = itertools.repeat("500")
    with pytest.raises(StripeRefusedError, match="fault 500"):
        await access.get("/v1/coupons/free")
    assert len(standin.requests) == QUICK.attempts


async def test_no_key_is_ever_said(settings: Settings, clock: ManualClock, access: StripeAccess) -> None:
    secret = "sk_test_very_secret"
    async with open_access(settings.model_copy(update={"stripe_api_key": secret}), clock, QUICK) as wrong:
        with pytest.raises(StripeRefusedError) as refused:
            await wrong.get("/v1/coupons/free")
    assert secret not in str(refused.value)
    assert secret not in repr(settings.model_copy(update={"stripe_api_key": secret}))
    with pytest.raises(StripeRefusedError) as forbidden:
        await access.get("/v1/coupons/free", account="acct_stranger")
    assert API_KEY not in str(forbidden.value)


@pytest.mark.parametrize(("key", "live"), [("rk_live_a", True), ("sk_live_a", True), ("rk_test_a", False)])
def test_a_key_is_for_one_mode(key: str, live: bool) -> None:
    assert livemode_of(key) is live


@pytest.mark.parametrize("key", ["", "pk_live_a", "rk_live_", "whsec_a", "sk_org_a"])
def test_what_is_no_key_is_said_before_anything_is_asked(key: str) -> None:
    with pytest.raises(SettingError, match="LEDGER_STRIPE_API_KEY"):
        livemode_of(key)


def test_parameters_are_written_as_in_a_query() -> None:
    assert flat({"a": 1, "created": {"gte": 2}, "expand": ["x", "y"]}) == {
        "a": "1", "created[gte]": "2", "expand[0]": "x", "expand[1]": "y",
    }  # fmt: skip


async def test_a_span_is_read_oldest_first(access: StripeAccess, standin: StandIn) -> None:
    standin.world.put(*(event(f"evt_{n}", "plan.created", {"id": "p"}, created=n // 2, live=False) for n in range(500)))
    found = await read_events(access, 10, 200)
    assert found is not None
    assert [orjson.loads(raw)["id"] for _, raw in found] == [f"evt_{n}" for n in range(20, 400)]
    assert [created for created, _ in found] == [n // 2 for n in range(20, 400)]
    assert [params["limit"] for _, _, params, _ in standin.requests] == ["100"] * 4


async def test_too_much_at_once_is_left_for_narrower_spans(access: StripeAccess, standin: StandIn) -> None:
    standin.world.put(*(event(f"evt_{n}", "plan.created", {"id": "p"}, created=7, live=False) for n in range(1_100)))
    assert await read_events(access, 0, 10) is None
    found = await read_events(access, 7, 8)
    assert found is not None
    assert len(found) == 1_100, "one second cannot be narrowed"


async def test_accounts_are_the_own_and_the_connected(access: StripeAccess, standin: StandIn) -> None:
    standin.connect("acct_1")
    assert await read_accounts(access) == [None, "acct_1"]
    standin.faults = iter(["403"])
    assert await read_accounts(access) == [None], "no platform"
    standin.faults = itertools.repeat("500")
    with pytest.raises(StripeRefusedError):
        await read_accounts(access)


async def test_a_list_that_never_ends_is_refused(access: StripeAccess, standin: StandIn) -> None:
    standin.world.put({"id": "free", "object": "coupon", "has_more": True, "data": []})
    with pytest.raises(EndlessListError):
        async for _ in read_pages(access, "/v1/coupons/free"):
            pass
