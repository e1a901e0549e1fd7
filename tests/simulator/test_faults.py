"""Delivery faults lose nothing but what is dropped, repeat themselves for a seed, and hold only what is on its way."""

from __future__ import annotations

import gc
import itertools
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import MistakeError
from ledger.simulator.faults import (
    LAYERS,
    Delivery,
    Layer,
    delay,
    drop,
    duplicate,
    parse_faults,
    resend,
    shuffle,
    with_faults,
)

DAY = 86_400
LOSING_NOTHING = [name for name in LAYERS if name != "drop"]
PENDING = re.compile(rb'"pending_webhooks":(\d+)')

shares = st.decimals(min_value=0, max_value=1, places=2)
seeds = st.integers(min_value=0, max_value=1_000)
gaps = st.lists(st.integers(min_value=0, max_value=DAY), max_size=120)


def stream(count: int, gap: int = 7) -> Iterator[Delivery]:
    return spaced(itertools.repeat(gap, count))


def spaced(gaps: Iterable[int]) -> Iterator[Delivery]:
    """Make one event after each gap, created when it is first delivered."""
    for number, at in enumerate(itertools.accumulate(gaps)):
        yield Delivery(at, b'{"id":"evt_%d","created":%d,"pending_webhooks":2}' % (number, at))


def event_of(delivery: Delivery) -> bytes:
    """What two deliveries of one event share: all but how many endpoints are still waited for."""
    return PENDING.sub(b"", delivery.body)


def pending(delivery: Delivery) -> int:
    match = PENDING.search(delivery.body)
    assert match
    return int(match[1])


def created(delivery: Delivery) -> int:
    match = re.search(rb'"created":(\d+)', delivery.body)
    assert match
    return int(match[1])


def text_of(names: dict[str, Decimal]) -> str:
    return ",".join(f"{name}={share}" for name, share in names.items()) or "none"


@given(gaps, st.dictionaries(st.sampled_from(LOSING_NOTHING), shares), seeds)
def test_without_drop_every_event_arrives_and_none_is_made_up(
    gaps: list[int], faults: dict[str, Decimal], seed: int
) -> None:
    after = list(with_faults(spaced(gaps), text_of(faults), seed))
    assert {event_of(one) for one in after} == {event_of(one) for one in spaced(gaps)}


@given(gaps, st.dictionaries(st.sampled_from(list(LAYERS)), shares), seeds)
def test_deliveries_are_in_order_of_time_and_never_before_the_event(
    gaps: list[int], faults: dict[str, Decimal], seed: int
) -> None:
    after = list(with_faults(spaced(gaps), text_of(faults), seed))
    assert [one.at for one in after] == sorted(one.at for one in after)
    assert all(one.at >= created(one) for one in after)


@given(gaps, st.dictionaries(st.sampled_from(list(LAYERS)), shares), seeds)
def test_the_same_seed_gives_the_same_deliveries(gaps: list[int], faults: dict[str, Decimal], seed: int) -> None:
    one, two = (list(with_faults(spaced(gaps), text_of(faults), seed)) for _ in range(2))
    assert one == two


@pytest.mark.parametrize("name", LAYERS)
def test_another_seed_gives_other_deliveries(name: str) -> None:
    one, two = (list(with_faults(stream(500), f"{name}=0.5", seed)) for seed in (1, 2))
    assert one != two


def test_one_fault_more_does_not_move_the_dice_of_another() -> None:
    def dropped(text: str) -> set[bytes]:
        return {event_of(one) for one in stream(2_000)} - {event_of(one) for one in with_faults(stream(2_000), text, 5)}

    assert dropped("drop=0.1") == dropped("drop=0.1,duplicate=0.5,delay,shuffle=1,resend=0.3")


def test_none_changes_nothing() -> None:
    assert list(with_faults(stream(50), "none", 1)) == list(stream(50))


@pytest.mark.parametrize("layer", [duplicate, delay, shuffle, resend, drop])
def test_a_share_of_zero_changes_nothing(layer: Callable[[Decimal, int], Layer]) -> None:
    assert list(layer(Decimal(0), 1)(stream(50))) == list(stream(50))


def test_drop_takes_its_share() -> None:
    left = sum(1 for _ in drop(Decimal("0.1"), 3)(stream(20_000)))
    assert 17_700 < left < 18_300
    assert not list(drop(Decimal(1), 3)(stream(100)))


def extra(layer: Layer, count: int = 2_000) -> list[tuple[int, Delivery]]:
    """Give the deliveries that were not there before, with how long after the event they come."""
    before = set(stream(count))
    return [(one.at - created(one), one) for one in layer(stream(count)) if one not in before]


def test_a_duplicate_comes_within_seconds_and_waits_for_fewer_endpoints() -> None:
    again = extra(duplicate(Decimal("0.1"), 1))
    assert 140 < len(again) < 260
    assert all(0 < late <= 60 for late, _ in again)
    assert all(pending(one) < 2 for _, one in again)
    assert Counter(map(event_of, duplicate(Decimal(1), 1)(stream(100)))) == Counter(
        [event_of(one) for one in stream(100)] * 2
    )


def test_only_the_number_of_endpoints_waited_for_differs_in_a_duplicate() -> None:
    body = b'{\n  "id": "evt_1",\n  "pending_webhooks": 12,\n  "request": {"n": 12}\n}'
    first, again = duplicate(Decimal(1), 1)(iter([Delivery(100, body)]))
    assert first == Delivery(100, body)
    assert again.body == body.replace(b'"pending_webhooks": 12', b'"pending_webhooks": 0')


def test_a_delay_is_of_minutes_to_hours_and_sends_nothing_twice() -> None:
    late = [seconds for seconds, _ in extra(delay(Decimal("0.2"), 1))]
    assert 300 < len(late) < 500
    assert min(late) >= 60
    assert 3_600 < max(late) <= 6 * 3_600
    assert sum(1 for _ in delay(Decimal("0.2"), 1)(stream(2_000))) == 2_000


def test_a_resend_comes_days_later() -> None:
    again = extra(resend(Decimal("0.1"), 1))
    assert 140 < len(again) < 260
    assert all(DAY <= late <= 30 * DAY for late, _ in again)


def test_a_shuffle_moves_deliveries_among_their_neighbours_only() -> None:
    places = {event_of(one): place for place, one in enumerate(stream(1_000))}
    moved = [abs(places[event_of(one)] - place) for place, one in enumerate(shuffle(Decimal(1), 1)(stream(1_000)))]
    assert sum(distance > 0 for distance in moved) > 800
    assert max(moved) < 20


@pytest.mark.parametrize("times", [[100, 102, 101], [102, 100, 101], [101, 100, 102]])
def test_a_mixed_run_waits_for_the_last_of_it_wherever_that_stands(times: list[int]) -> None:
    """Deliveries of one second may come a moment before or after each other."""
    run = [Delivery(at, b"%d" % number) for number, at in enumerate(times)]
    assert [one.at for one in shuffle(Decimal(1), 1)(iter(run))] == [102, 102, 102]


def test_two_hundred_thousand_deliveries_hold_only_what_is_on_its_way() -> None:
    """What is held follows from the rate and the faults' spans, so ten times the length holds no more."""

    def held(count: int) -> tuple[int, int]:
        made = out = most = objects = 0

        def counted() -> Iterator[Delivery]:
            nonlocal made
            for delivery in stream(count, gap=600):
                made += 1
                yield delivery

        gc.collect()
        before = sys.getallocatedblocks()
        for one in with_faults(counted(), "duplicate=0.1,delay=0.05,shuffle=0.5,resend=0.02", 1):
            out += pending(one) == 2  # the copies wait for fewer
            most = max(most, made - out)
            if made % 100 == 0:
                objects = max(objects, sys.getallocatedblocks() - before)
        return most, objects

    # 25 days at one delivery in ten minutes are 3,600 deliveries, of which two in a hundred come again.
    few, small = held(20_000)
    many, large = held(200_000)
    assert many < 100
    assert few < 100
    assert abs(large - small) < 2_000
    assert large < 5_000


def test_the_next_delivery_is_asked_for_only_when_needed() -> None:
    endless = (Delivery(number, b'{"pending_webhooks":1}') for number in itertools.count())
    assert len(list(itertools.islice(with_faults(endless, "all", 1), 1_000))) == 1_000


def test_what_a_text_means() -> None:
    defaults = {name: share for name, (_, share) in LAYERS.items()}
    assert parse_faults("none") == {}
    assert parse_faults("all") == {name: defaults[name] for name in LOSING_NOTHING}
    assert parse_faults("duplicate=0.1, shuffle ,drop = 0.01") == {
        "duplicate": Decimal("0.1"),
        "shuffle": defaults["shuffle"],
        "drop": Decimal("0.01"),
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gremlins=1", "no fault 'gremlins': there are drop, delay, shuffle, duplicate, resend"),
        ("", "no fault ''"),
        ("Delay", "no fault 'Delay'"),
        ("delay,,drop", "no fault ''"),
        ("drop=2", "drop is a share from 0 to 1, not '2'"),
        ("drop=-0.1", "a share from 0 to 1"),
        ("drop=", "a share from 0 to 1, not ''"),
        ("drop=often", "a share from 0 to 1"),
        ("drop=nan", "a share from 0 to 1"),
        ("drop=sNaN", "a share from 0 to 1"),
        ("drop=inf", "a share from 0 to 1"),
        ("drop=0.1=0.2", "a share from 0 to 1"),
        ("drop=0.1,drop=0.2", "drop is named twice"),
        ("all,drop", "all stands alone"),
        ("none,drop", "none stands alone"),
    ],
)
def test_a_wrong_text_is_a_mistake_and_says_which(text: str, said: str) -> None:
    with pytest.raises(MistakeError, match=re.escape(said)):
        with_faults(stream(1), text, 1)


@given(st.text(max_size=40))
def test_any_text_is_either_read_or_a_mistake(text: str) -> None:
    try:
        faults = parse_faults(text)
    except MistakeError:
        return
    assert all(0 <= share <= 1 for share in faults.values())
