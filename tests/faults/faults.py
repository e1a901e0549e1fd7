"""What each fault does to the world while it lasts. A fault whose victim is gone by itself does nothing."""

from __future__ import annotations

import contextlib
import itertools
import random
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import httpx
import psutil

from tests.conftest import KEY
from tests.faults.schedule import Fault
from tests.faults.world import World, sweep_settings

Begin = Callable[[World, Fault, random.Random], Iterator[None]]

PROJECTIONS: Final = ("entitlements", "dunning", "revenue", "periods")
_JUMPS_SECONDS: Final = (-3_600, -200, -30, 5, 120, 280, 3_600)


def kill_service(world: World, fault: Fault, dice: random.Random) -> Iterator[None]:
    service = world.services[fault.target]
    world.kill_service(service, children_too=dice.random() < 0.5)
    yield
    world.start_service(service)


def _some(processes: Sequence[psutil.Process], dice: random.Random) -> list[psutil.Process]:
    """Choose one of several alike, or more of them."""
    return dice.sample(processes, dice.randint(min(1, len(processes)), len(processes)))


def _kill_child(name: str) -> Begin:
    def kill_child(world: World, fault: Fault, dice: random.Random) -> Iterator[None]:
        world.kill(_some(world.children(fault.target, name), dice))
        yield

    return kill_child


def _freeze_child(name: str) -> Begin:
    def freeze_child(world: World, fault: Fault, dice: random.Random) -> Iterator[None]:
        world.freeze(_some(world.children(fault.target, name), dice))
        yield
        world.thaw()

    return freeze_child


def freeze_service(world: World, fault: Fault, _: random.Random) -> Iterator[None]:
    process = world.services[fault.target].process
    if process is not None:
        process.send_signal(signal.SIGSTOP)
        yield
        process.send_signal(signal.SIGCONT)
    else:
        yield


def kill_rebuild(world: World, fault: Fault, dice: random.Random) -> Iterator[None]:
    world.run("rebuild", dice.choice(PROJECTIONS), "--workers", str(dice.randint(1, 2)), service=fault.target)
    yield
    world.kill_commands()


def kill_rebuilder(world: World, fault: Fault, dice: random.Random) -> Iterator[None]:
    """Ask for a rebuild over HTTP, and kill whoever folds it."""
    url = f"{world.services[fault.target].url}/v1/projections/{dice.choice(PROJECTIONS)}/rebuilds"
    with contextlib.suppress(httpx.TransportError):
        world.client.post(url, json={"reason": "fire"}, headers={"Authorization": f"Bearer {KEY}"}, timeout=1)
    yield
    for number in range(2):
        world.kill(world.children(number, "rebuilder"))


def kill_sweep(world: World, fault: Fault, dice: random.Random) -> Iterator[None]:
    world.standin.faults = itertools.cycle(dice.choices(["", "", "", "429", "500", "reset"], k=7))
    world.run("sweep", service=fault.target, **sweep_settings(world.standin))
    yield
    world.kill_commands()


def end_backends(world: World, _fault: Fault, _: random.Random) -> Iterator[None]:
    world.kill(world.backends(), signal.SIGTERM)
    yield


def kill_backend(world: World, _fault: Fault, dice: random.Random) -> Iterator[None]:
    """Kill one backend: PostgreSQL then ends all of them, and recovers."""
    if backends := world.backends():
        world.kill([dice.choice(backends)])
    yield


def freeze_backends(world: World, _fault: Fault, dice: random.Random) -> Iterator[None]:
    backends = world.backends()
    world.freeze(dice.sample(backends, dice.randint(0, len(backends))))
    yield
    world.thaw()


def _postgres_dies(how: signal.Signals) -> Begin:
    def postgres_dies(world: World, _fault: Fault, _: random.Random) -> Iterator[None]:
        if (postmaster := world.postgres.postmaster()) is not None:
            world.kill([postmaster], how)
        yield
        world.start_postgres()

    return postgres_dies


def cut_database(world: World, fault: Fault, _: random.Random) -> Iterator[None]:
    world.databases[fault.target].cut()
    yield


def stall_database(world: World, fault: Fault, dice: random.Random) -> Iterator[None]:
    world.databases[fault.target].stall()
    yield
    if dice.random() < 0.5:
        world.databases[fault.target].cut()
    world.databases[fault.target].flow()


def cut_webhooks(world: World, fault: Fault, _: random.Random) -> Iterator[None]:
    world.fronts[fault.target].cut()
    yield


def stall_webhooks(world: World, fault: Fault, _: random.Random) -> Iterator[None]:
    world.fronts[fault.target].stall()
    yield
    world.fronts[fault.target].flow()


def fill_disk(world: World, _fault: Fault, _: random.Random) -> Iterator[None]:
    world.disk.fill()
    yield
    world.disk.free()
    world.start_postgres()


def jump_clock(world: World, fault: Fault, dice: random.Random) -> Iterator[None]:
    world.set_clock(fault.target, dice.choice(_JUMPS_SECONDS))
    yield
    world.set_clock(fault.target, 0)


def slow_reader(world: World, fault: Fault, _: random.Random) -> Iterator[None]:
    """Ask for the stream of changes and read nothing of it."""
    asking = socket.socket()
    asking.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
    asking.settimeout(1)
    with asking:
        with contextlib.suppress(OSError):
            asking.connect(("127.0.0.1", world.services[fault.target].port))
            head = f"GET /v1/entitlements/stream?book={world.account}:test HTTP/1.1\r\nHost: ledger.test\r\n"
            asking.sendall(f"{head}Authorization: Bearer {KEY}\r\nLast-Event-ID: 0\r\n\r\n".encode())
        yield


def flood(world: World, fault: Fault, _: random.Random) -> Iterator[None]:
    """Send more at once than may wait, while the database does not answer."""
    world.databases[fault.target].stall()
    port = world.fronts[fault.target].port
    flooding = threading.Thread(target=world.storm.flood, args=(world.account, port), daemon=True)
    flooding.start()
    yield
    world.databases[fault.target].flow()
    flooding.join(30)


FAULTS: Final[dict[str, Begin]] = {
    "kill service": kill_service,
    "kill web": _kill_child("web"),
    "kill follower": _kill_child("follower"),
    "freeze service": freeze_service,
    "freeze web": _freeze_child("web"),
    "freeze follower": _freeze_child("follower"),
    "freeze leader": _freeze_child("follower"),
    "kill rebuild": kill_rebuild,
    "kill rebuilder": kill_rebuilder,
    "kill sweep": kill_sweep,
    "end backends": end_backends,
    "kill backend": kill_backend,
    "freeze backends": freeze_backends,
    "kill postgres": _postgres_dies(signal.SIGKILL),
    "crash postgres": _postgres_dies(signal.SIGQUIT),
    "cut database": cut_database,
    "stall database": stall_database,
    "cut webhooks": cut_webhooks,
    "stall webhooks": stall_webhooks,
    "fill disk": fill_disk,
    "jump clock": jump_clock,
    "slow reader": slow_reader,
    "flood": flood,
}


@contextlib.contextmanager
def hitting(world: World, fault: Fault) -> Iterator[None]:
    """Let a fault last for as long as the context is open."""
    with contextlib.contextmanager(FAULTS[fault.kind])(world, fault, random.Random(fault.dice)):
        yield
