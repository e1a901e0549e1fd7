"""What the client keeps: right while the stream is heard, forgotten when it says so, and never kept too early."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.client.answers import Answer, Freshness
from ledger.client.cache import Cache
from ledger.client.events import Event, EventParser
from ledger.client.policy import ALLOW, Policies, last_known

KEY = ("cus_1", "sso")
NOON = datetime(2026, 1, 15, 12, tzinfo=UTC)


class Time:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return NOON + timedelta(seconds=self.seconds - 100)


def cache_of(time: Time, entries_max: int = 10) -> Cache:
    return Cache(entries_max=entries_max, stale_after=5, clock=time, now=time.now, lock=threading.Lock())


def answer(feature: str = "sso", *, granted: bool = True, position: int = 7, stale: bool = False,
           valid_until: datetime | None = None) -> Answer:  # fmt: skip
    freshness = Freshness("self:live", position, position, 0, "entitlements-1", stale, False)
    return Answer("cus_1", feature, granted, "boolean", granted, "active", "active", freshness=freshness, stale=stale,
                  valid_until=valid_until)  # fmt: skip


def change(seq: int, customer: str | None = "cus_1", feature: str | None = "sso") -> bytes:
    named = "null" if customer is None else f'"{customer}"'
    what = "null" if feature is None else f'"{feature}"'
    return f'id: {seq}\ndata: {{"seq":{seq},"customer":{named},"feature":{what},"granted":false}}\n\n'.encode()


def heard(time: Time) -> Cache:
    """A cache that has followed the stream for a while."""
    cache = cache_of(time)
    cache.begin()
    cache.hear(b"retry: 1000\nid: 41\n\n")
    time.seconds += 1.5
    cache.hear(b":\n\n")
    return cache


def test_nothing_is_kept_before_the_stream_is_heard() -> None:
    time = Time()
    cache = cache_of(time)
    cache.keep(answer(), time())
    assert cache.get(KEY, None) is None
    cache.begin()
    cache.hear(b"id: 41\n\n")
    cache.keep(answer(), time())
    assert cache.get(KEY, None) is None, "what answered may be a second behind the stream"


def test_an_answer_is_kept_until_it_changes() -> None:
    time = Time()
    cache = heard(time)
    cache.keep(answer(), time())
    kept = cache.get(KEY, None)
    assert kept is not None
    assert (kept.granted, kept.origin, kept.stale) == (True, "cache", False)
    cache.hear(change(42, "cus_2") + change(43, "cus_1", "seats"))
    assert cache.get(KEY, None) is not None
    cache.hear(change(44))
    assert cache.get(KEY, None) is None
    cache.keep(answer(granted=False), time() - 0.1)
    assert cache.get(KEY, None) is None, "it was asked for before the change"
    time.seconds += 1.1
    cache.keep(answer(granted=False), time())
    again = cache.get(KEY, None)
    assert again is not None
    assert not again.granted
    assert cache.last_id == "44"


def test_a_marker_and_a_reset_forget_everything() -> None:
    for news in (change(45, None, None), b'event: reset\nid: 90\ndata: {"seq":90}\n\n'):
        time = Time()
        cache = heard(time)
        cache.keep(answer(), time())
        cache.hear(news)
        assert cache.get(KEY, None) is None
        time.seconds += 1.1
        cache.hear(b":\n\n")
        cache.keep(answer(), time())
        assert cache.get(KEY, None) is not None


def test_silence_makes_it_unsure_and_then_useless() -> None:
    time = Time()
    cache = heard(time)
    cache.keep(answer(), time())
    time.seconds += 3
    kept = cache.get(KEY, None)
    assert kept is not None
    assert kept.age_seconds == 3
    time.seconds += 3
    assert cache.get(KEY, None) is None
    known, age = cache.last_known(KEY)
    assert known is not None
    assert age == 6
    cache.hear(b":\n\n")
    assert cache.get(KEY, None) is not None, "nothing was missed: the stream went on where it was"


def test_what_was_kept_before_an_interruption_waits_for_what_was_missed() -> None:
    time = Time()
    cache = heard(time)
    cache.keep(answer(), time())
    time.seconds += 60
    cache.begin()
    cache.hear(b"retry: 1000\n")
    assert cache.get(KEY, None) is None, "the stream goes on, and has not told what came meanwhile"
    cache.hear(change(42, "cus_2"))
    assert cache.get(KEY, None) is None
    assert cache.last_known(KEY)[1] == 60
    cache.hear(b"id: 42\n\n")
    assert cache.get(KEY, None) is not None


def test_what_ends_by_time_ends_by_the_clock() -> None:
    time = Time()
    cache = heard(time)
    cache.keep(answer(valid_until=time.now() + timedelta(seconds=2)), time())
    assert cache.get(KEY, None) is not None
    time.seconds += 2
    assert cache.get(KEY, None) is None


def test_what_has_ended_by_time_is_known_no_more() -> None:
    time = Time()
    cache = heard(time)
    for feature, granted in (("sso", True), ("seats", False)):
        cache.keep(answer(feature, granted=granted, valid_until=time.now() + timedelta(seconds=60)), time.seconds)
    time.seconds += 59
    assert cache.last_known(KEY)[0] is not None
    time.seconds += 1
    assert cache.last_known(KEY) == (None, 0.0), "nobody is given what the service would no longer give"
    assert cache.last_known(("cus_1", "seats"))[0] is not None, "a no stays one"


def test_what_the_service_itself_calls_stale_is_not_kept() -> None:
    time = Time()
    cache = heard(time)
    cache.keep(answer(stale=True), time())
    assert cache.get(KEY, None) is None
    assert cache.last_known(KEY)[0] is not None


def test_a_reader_of_its_own_write_is_not_served_what_was_before() -> None:
    time = Time()
    cache = heard(time)
    cache.keep(answer(position=7), time())
    assert cache.get(KEY, 7) is not None
    assert cache.get(KEY, 8) is None


def test_it_is_bounded() -> None:
    time = Time()
    cache = heard(time)
    for number in range(100):
        cache.keep(answer(f"feature {number}"), time())
    assert len(cache._kept) == 10
    for number in range(20_000):
        cache.hear(change(50 + number, f"cus_{number}"))
    assert len(cache._changed) <= 10_001


def test_policies() -> None:
    policies = Policies({"sso": last_known(60), "read": ALLOW})
    old = policies.answer("cus_1", "sso", answer(), 59)
    assert (old.granted, old.origin, old.age_seconds, old.stale) == (True, "last_known", 59, True)
    assert not policies.answer("cus_1", "sso", answer(), 61).granted
    assert not policies.answer("cus_1", "sso", None, 0).granted
    allowed = policies.answer("cus_1", "read", None, 0)
    assert (allowed.granted, allowed.origin, allowed.reason) == (True, "policy", "unreachable")
    denied = policies.answer("cus_1", "seats", None, 0)
    assert (denied.granted, denied.origin, denied.stale) == (False, "policy", True)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 40)), st.booleans())
def test_the_stream_may_come_in_any_pieces(sizes: list[int], crlf: bool) -> None:
    whole = b": hi\n\nretry: 5\nid: 1\n\nevent: reset\ndata: {}\nid: 2\n\ndata: a\xc3\xa9\ndata:b\n\n:\n\n"
    text = whole.replace(b"\n", b"\r\n") if crlf else whole
    parser, found, at = EventParser(), [], 0
    for size in [*sizes, len(text)]:
        found += list(parser.feed(text[at : at + size]))
        at += size
    assert found == [
        Event("message", "", "1"),
        Event("reset", "{}", "2"),
        Event("message", "aé\nb", None),
    ]
