"""What delivery does to events: sends them twice, late, out of order, days later again, or never.

Each fault is a layer of its own over a stream of deliveries, with a random generator of its own, so that adding one
does not move another's dice. A layer keeps in memory only what is on its way, and what reaches it in order of ``at``
leaves it in that order.
"""

from __future__ import annotations

import heapq
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Final

from ledger.errors import MistakeError

Layer = Callable[[Iterator["Delivery"]], Iterator["Delivery"]]

_HOUR: Final = 3_600
_DAY: Final = 24 * _HOUR
_SHUFFLED_TOGETHER: Final = 20
_PENDING: Final = re.compile(rb'("pending_webhooks":\s*)(\d+)')


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event on its way: when Stripe delivers it, in unix seconds, and its exact bytes."""

    at: int
    body: bytes


def duplicate(share: Decimal, seed: int) -> Layer:
    """Deliver some events a second time within a minute, when fewer endpoints are still waited for."""
    return _again("duplicate", share, seed, (1, 60), keep=True)


def delay(share: Decimal, seed: int) -> Layer:
    """Deliver some events minutes to hours late."""
    return _again("delay", share, seed, (60, 6 * _HOUR), keep=False)


def resend(share: Decimal, seed: int) -> Layer:
    """Deliver some events once more, days later."""
    return _again("resend", share, seed, (_DAY, 25 * _DAY), keep=True)


def drop(share: Decimal, seed: int) -> Layer:
    """Deliver some events never."""

    def layer(deliveries: Iterator[Delivery]) -> Iterator[Delivery]:
        dice = _dice("drop", seed)
        return (delivery for delivery in deliveries if dice.random() >= share)

    return layer


def shuffle(share: Decimal, seed: int) -> Layer:
    """Mix up a share of the runs of twenty deliveries; a mixed run is delivered together, at its end."""

    def layer(deliveries: Iterator[Delivery]) -> Iterator[Delivery]:
        dice = _dice("shuffle", seed)
        run: list[Delivery] = []
        for delivery in deliveries:
            run.append(delivery)
            if len(run) == _SHUFFLED_TOGETHER:
                yield from _mixed(run, dice, share)
                run = []
        yield from _mixed(run, dice, share)

    return layer


def _mixed(run: list[Delivery], dice: random.Random, share: Decimal) -> list[Delivery]:
    if not run or dice.random() >= share:
        return run
    bodies = [delivery.body for delivery in run]
    dice.shuffle(bodies)
    last = max(delivery.at for delivery in run)
    # Nothing is delivered before it happened: what moved forward waits for the run's end.
    return [Delivery(last, body) for body in bodies]


def _again(name: str, share: Decimal, seed: int, seconds: tuple[int, int], *, keep: bool) -> Layer:
    """Deliver some events after some more seconds; beside (``keep``) or instead of the first time."""

    def layer(deliveries: Iterator[Delivery]) -> Iterator[Delivery]:
        dice = _dice(name, seed)
        waiting: list[tuple[int, int, Delivery]] = []
        for number, delivery in enumerate(deliveries):
            while waiting and waiting[0][0] <= delivery.at:
                yield heapq.heappop(waiting)[2]
            if dice.random() < share:
                at = delivery.at + dice.randrange(*seconds)
                body = _PENDING.sub(rb"\g<1>0", delivery.body, count=1) if keep else delivery.body
                heapq.heappush(waiting, (at, number, Delivery(at, body)))
                if not keep:
                    continue
            yield delivery
        while waiting:
            yield heapq.heappop(waiting)[2]

    return layer


def _dice(name: str, seed: int) -> random.Random:
    return random.Random(f"{seed}/{name}")  # noqa: S311 - repeatable, not secret


LAYERS: Final[dict[str, tuple[Callable[[Decimal, int], Layer], Decimal]]] = {
    "drop": (drop, Decimal("0.01")),
    "delay": (delay, Decimal("0.05")),
    "shuffle": (shuffle, Decimal("0.5")),
    "duplicate": (duplicate, Decimal("0.1")),
    "resend": (resend, Decimal("0.02")),
}
"""Every fault by name, with the share of deliveries it befalls unless told; applied in this order."""

_ALL: Final = tuple(name for name in LAYERS if name != "drop")
"""What ``all`` means: everything that loses nothing."""


def parse_faults(text: str) -> dict[str, Decimal]:
    """Read ``none``, ``all`` or ``duplicate=0.1,delay,shuffle,drop=0.01,resend``: each fault's share.

    Raises ``MistakeError`` naming what is wrong.
    """
    if text == "none":
        return {}
    if text == "all":
        return {name: LAYERS[name][1] for name in _ALL}
    shares: dict[str, Decimal] = {}
    for part in text.split(","):
        name, given, share = (one.strip() for one in part.partition("="))
        if name in {"all", "none"}:
            raise MistakeError(f"{name} stands alone, not in a list of faults as in {text!r}")
        if name not in LAYERS:
            raise MistakeError(
                f"there is no fault {name!r}: there are {', '.join(LAYERS)}, all (without drop) and none"
            )
        if name in shares:
            raise MistakeError(f"{name} is named twice: each fault has one share")
        shares[name] = _share(name, share) if given else LAYERS[name][1]
    return shares


def _share(name: str, text: str) -> Decimal:
    try:
        share = Decimal(text)
    except InvalidOperation:
        share = Decimal(-1)
    # A NaN is a Decimal that cannot be compared.
    if not share.is_finite() or not 0 <= share <= 1:
        raise MistakeError(f"{name} is a share from 0 to 1, not {text!r}")
    return share


def with_faults(deliveries: Iterator[Delivery], text: str, seed: int) -> Iterator[Delivery]:
    """Put the faults that ``text`` names over a stream of deliveries."""
    shares = parse_faults(text)
    for name, (make, _) in LAYERS.items():
        if name in shares:
            deliveries = make(shares[name], seed)(deliveries)
    return deliveries
