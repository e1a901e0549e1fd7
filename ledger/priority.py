"""Giving way: a process whose work can wait takes less of the processors while others want them.

While nobody else does, a low priority costs nothing. ``nice`` alone is not enough: where Linux weighs whole sessions
against each other (autogroups, which most distributions have on), it says nothing outside the process's own session.
So whoever starts such a process gives it a session, and the session is weighed down as well. Unlike ``nice``, that can
be taken back without privileges.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Final

NICENESS: Final = 5
"""A third of the weight of others: what gives way goes on, where processors stay short too."""

AUTOGROUP: Final = Path("/proc/self/autogroup")

_TRIES: Final = 20
_RETRY_SECONDS: Final = 0.05


def lower_priority() -> None:
    """Give way inside the session and container; where that cannot be, everything stays as it is."""
    with contextlib.suppress(OSError):
        os.nice(max(0, NICENESS - os.nice(0)))


def give_way() -> None:
    """Give way to everything, for as long as this process runs."""
    lower_priority()
    for _ in range(_TRIES):
        if weigh_session(down=True):
            return
        time.sleep(_RETRY_SECONDS)


def weigh_session(*, down: bool) -> bool:
    """Weigh this process's session down, or as any other; False: not now, ask again.

    A session that somebody else began is left alone, and so is a system without such weights.
    """
    if os.getsid(0) != os.getpid() or not AUTOGROUP.exists():
        return True
    try:
        AUTOGROUP.write_text(str(NICENESS if down else 0))
    except BlockingIOError:  # Linux takes one of these in a tenth of a second, from all who are not root
        return False
    except OSError:
        return True
    return True
