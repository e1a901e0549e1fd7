"""What happens in one schedule: a pure function of its seed. When the processes are hit, in their own time, is not."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

LOAD_SECONDS: Final = 2.5
"""How long webhooks come while faults begin. What was begun may last longer."""

KINDS: Final = {
    "kill service": (2, (0.2, 1.0)),
    "kill web": (3, (0.0, 0.0)),
    "kill follower": (3, (0.0, 0.0)),
    "freeze service": (1, (0.3, 1.5)),
    "freeze web": (2, (0.3, 1.5)),
    "freeze follower": (2, (0.3, 1.5)),
    "freeze leader": (1, (5.5, 6.5)),
    "kill rebuild": (4, (0.3, 2.0)),
    "kill rebuilder": (2, (0.3, 1.5)),
    "kill sweep": (3, (0.3, 2.0)),
    "end backends": (3, (0.0, 0.0)),
    "kill backend": (2, (0.0, 0.0)),
    "freeze backends": (2, (0.2, 1.5)),
    "kill postgres": (2, (0.1, 0.8)),
    "crash postgres": (2, (0.1, 0.8)),
    "cut database": (4, (0.0, 0.0)),
    "stall database": (3, (0.3, 2.0)),
    "cut webhooks": (3, (0.0, 0.0)),
    "stall webhooks": (2, (0.3, 2.0)),
    "fill disk": (3, (0.2, 1.0)),
    "jump clock": (3, (0.3, 2.0)),
    "slow reader": (2, (1.0, 2.5)),
    "flood": (1, (1.0, 1.5)),
}
"""How often each fault is drawn, and between which seconds it lasts."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: when it begins, what it hits (0 or 1: which service), how long it lasts, and a number for its dice."""

    at: float
    kind: str
    target: int
    lasting: float
    dice: int

    def __str__(self) -> str:
        return f"{self.at:.1f}s {self.kind} {self.target} for {self.lasting:.1f}s"


def faults_of(seed: int) -> list[Fault]:
    """Return the faults of a schedule, in order of their beginning."""
    dice = random.Random(f"faults {seed}")
    weights = [weight for weight, _ in KINDS.values()]
    drawn = dice.choices(list(KINDS), weights, k=dice.randint(2, 6))
    faults = [
        Fault(
            dice.uniform(0, LOAD_SECONDS),
            kind,
            dice.randrange(2),
            dice.uniform(*KINDS[kind][1]),
            dice.randrange(2**32),
        )
        for kind in drawn
    ]
    return sorted(faults, key=lambda fault: fault.at)
