"""The world of a schedule: PostgreSQL on a small disk of its own, two services, and a proxy on every way between them.

The services think that their database is on another machine: they reach it over TCP, each through a proxy of its own,
and whoever made this world keeps it running.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import httpx
import psutil

from api.database import prepare_embedded
from api.secrets import digest_of
from ledger.embedded import EmbeddedPostgres
from ledger.errors import LedgerError
from tests.conftest import KEY, SECRET, SIGNING_KEY
from tests.faults.proxy import Proxy
from tests.faults.storm import Storm
from tests.standin import API_KEY, StandIn
from tests.system.running import COMMAND, PATH_WITHOUT_POSTGRES, Service

DISK_MEGABYTES: Final = 400
_READY_SECONDS: Final = 60.0
_END_SECONDS: Final = 15.0

_POSTGRES: Final = {"shared_buffers": "32MB", "max_wal_size": "64MB", "min_wal_size": "32MB", "autovacuum": "off"}

_FAKETIME: Final = "/usr/lib/*/faketime/libfaketimeMT.so.1"
_SLEEP: Final = "import select, time\ntime.sleep = lambda seconds: select.select((), (), (), seconds) and None\n"
"""The library answers ``clock_nanosleep``, by which Python sleeps, with an error where the clock was moved."""


class World:
    """Everything a fault may hit. ``heal`` undoes them all."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self.folder = Path(tempfile.mkdtemp(prefix="faults-"))
        self.disk = self._stack.enter_context(small_disk(self.folder / "disk"))
        self.postgres = EmbeddedPostgres(self.folder / "disk", _POSTGRES)
        prepare_embedded(self.postgres)
        socket = self.postgres.socket_folder / ".s.PGSQL.5432"
        self.databases = [self._stack.enter_context(Proxy(socket)) for _ in range(2)]
        self.standin = self._stack.enter_context(StandIn())
        self.clock_can_jump = next(Path("/").glob(_FAKETIME[1:]), None)
        self.services = [self._service(number) for number in range(2)]
        self.fronts = [self._stack.enter_context(Proxy(service.port)) for service in self.services]
        self.client = self._stack.enter_context(httpx.Client(verify=False, timeout=30))
        self._answered = "not asked yet"
        self.storm = Storm(self.client, [front.port for front in self.fronts], SECRET)
        self.account = ""
        self.commands: list[subprocess.Popen[bytes]] = []
        self._frozen: dict[int, psutil.Process] = {}
        try:
            self.wait_until_ready()
        except BaseException:
            self.close()
            raise

    def _service(self, number: int) -> Service:
        folder = self.folder / f"service-{number}"
        folder.mkdir()
        environment = {
            "LEDGER_DATABASE_URL": f"postgresql://ledger_service@127.0.0.1:{self.databases[number].port}/ledger",
            "LEDGER_STRIPE_WEBHOOK_SECRETS": SECRET,
            "LEDGER_API_KEYS": f"fire:admin:{digest_of(KEY)}",
            "LEDGER_SIGNING_KEY": SIGNING_KEY,
            "LEDGER_WEB_PROCESSES": str(1 + number),
            "LEDGER_FOLLOWER_PROCESSES": str(1 + 2 * number),
        }
        if self.clock_can_jump is not None:
            (folder / "clock").write_text("+0")
            (folder / "sitecustomize.py").write_text(_SLEEP)
            environment |= {
                "LD_PRELOAD": str(self.clock_can_jump),
                "PYTHONPATH": str(folder),
                "FAKETIME_TIMESTAMP_FILE": str(folder / "clock"),
                "FAKETIME_NO_CACHE": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                "FAKETIME_DISABLE_SHM": "1",
            }
        return Service(folder, **environment)

    def close(self) -> None:
        """End everything; the folder goes with it."""
        try:
            self.heal(restart=False)
            for service in self.services:
                self.kill_service(service)
                service.close_client()
            self.postgres.stop("immediate")
            self.postgres.release()
        finally:
            self._stack.close()
            shutil.rmtree(self.folder, ignore_errors=True)

    # What faults do to it.

    def children(self, number: int, name: str) -> list[psutil.Process]:
        """Return the processes of a service that have a name (``""``: all), the supervisor apart."""
        service = self.services[number]
        if service.process is None or service.process.poll() is not None:
            return []
        with contextlib.suppress(psutil.Error):
            return [child for child in service.children() if not name or name in child.cmdline()]
        return []

    def backends(self) -> list[psutil.Process]:
        """Return PostgreSQL's processes that serve the services (not ours)."""
        postmaster = self.postgres.postmaster()
        found = []
        with contextlib.suppress(psutil.Error):
            for child in postmaster.children() if postmaster else ():
                with contextlib.suppress(psutil.Error):
                    if "ledger_service" in " ".join(child.cmdline()):
                        found.append(child)
        return found

    def freeze(self, processes: Sequence[psutil.Process]) -> None:
        """Let processes stand still until they are thawed."""
        for process in processes:
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGSTOP)
                self._frozen[process.pid] = process

    def thaw(self) -> None:
        """Let every process that stands still go on."""
        for process in self._frozen.values():
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGCONT)
        self._frozen.clear()

    def kill(self, processes: Sequence[psutil.Process], how: signal.Signals = signal.SIGKILL) -> None:
        """Signal processes that may be gone by now."""
        for process in processes:
            with contextlib.suppress(psutil.Error):
                process.send_signal(how)

    def kill_service(self, service: Service, *, children_too: bool = True) -> None:
        """Kill a supervisor; its children see that and end, unless they are killed with it."""
        if service.process is None:
            return
        children = service.children() if service.process.poll() is None else []
        service.process.kill()
        service.process.wait()
        service.process = None
        if children_too:
            self.kill(children)
        alive = _still_alive(children, 0.1 if self._frozen else _END_SECONDS)
        self.kill(alive)
        _still_alive(alive, _END_SECONDS)

    def start_service(self, service: Service) -> None:
        """Start a service that does not run."""
        if service.process is None or service.process.poll() is not None:
            service.launch()

    def start_postgres(self) -> None:
        """Start PostgreSQL unless it runs. While its disk is full it cannot."""
        with contextlib.suppress(LedgerError):
            self.postgres.ensure_running()

    def run(self, *arguments: str, service: int = 0, **settings: str) -> None:
        """Start a ``ledger`` command beside a service, to be killed."""
        environment = self.services[service].environment | {"PATH": PATH_WITHOUT_POSTGRES} | settings
        command = [*COMMAND, *arguments]
        output = subprocess.DEVNULL
        self.commands.append(subprocess.Popen(command, env=environment, stdout=output, stderr=output))

    def kill_commands(self) -> None:
        """Kill the commands that still run, and what they have started."""
        for command in self.commands:
            if command.poll() is None:
                with contextlib.suppress(psutil.Error):
                    self.kill(psutil.Process(command.pid).children(recursive=True))
                command.kill()
            command.wait()
        self.commands.clear()

    def set_clock(self, number: int, offset_seconds: int) -> None:
        """Move a service's clock, for all of its processes at once."""
        clock = self.services[number].folder / "clock"
        if clock.exists():
            unfinished = clock.with_suffix(".new")
            unfinished.write_text(f"{offset_seconds:+d}")
            unfinished.rename(clock)

    # What puts it right again.

    def heal(self, *, restart: bool = True) -> None:
        """Undo every fault, and start what does not run."""
        self.disk.free()
        self.thaw()
        for proxy in (*self.databases, *self.fronts):
            proxy.flow()
        for number in range(len(self.services)):
            self.set_clock(number, 0)
        self.kill_commands()
        if restart:
            self.postgres.ensure_running()
            self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Start both services side by side and wait until they are ready; one that has ended is started again."""
        for service in self.services:
            self.start_service(service)
        for service in self.services:
            self.until(lambda service=service: self._is_ready(service), f"{service.folder.name} to be ready")  # type: ignore[misc]

    def _is_ready(self, service: Service) -> bool:
        self.start_service(service)
        try:
            answer = self.client.get(f"{service.url}/readyz", timeout=5)
        except httpx.TransportError as error:
            self._answered = repr(error)
            return False
        self._answered = answer.text
        return answer.status_code == 200

    def until(self, holds: Callable[[], bool], what: str, seconds: float = _READY_SECONDS) -> None:
        """Wait until something holds; in vain, that is a violation."""
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, f"waited {seconds:.0f} s in vain for {what}; {self.said()}"
            time.sleep(0.05)

    def said(self) -> str:
        """Return what was last answered to whoever waited, and the last lines of both services and of PostgreSQL."""
        lines = [f"/readyz: {self._answered}\n"]
        lines += [f"{one.folder.name}: {line}" for one in self.services for line in one.printed[-40:]]
        with contextlib.suppress(OSError):
            lines += self.postgres.log_file.read_text(errors="replace").splitlines(keepends=True)[-20:]
        return "they printed:\n" + "".join(lines)


def _still_alive(processes: Sequence[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Wait until processes have ended, and not until whoever inherits them has taken note; return the others."""
    deadline = time.monotonic() + seconds
    while (alive := [one for one in processes if not _has_ended(one)]) and time.monotonic() < deadline:
        time.sleep(0.02)
    return alive


def _has_ended(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


class Disk:
    """A disk that can be filled to its last byte. Where nobody may mount a small one, it stays as it is."""

    def __init__(self, folder: Path, *, small: bool) -> None:
        self.small = small
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        """Take all the room there is."""
        if self.small:
            with self._ballast.open("ab") as ballast, contextlib.suppress(OSError):
                while True:
                    os.write(ballast.fileno(), bytes(1 << 20))
            with self._ballast.open("ab") as ballast, contextlib.suppress(OSError):
                while True:
                    os.write(ballast.fileno(), bytes(4096))

    def free(self) -> None:
        """Give the room back."""
        self._ballast.unlink(missing_ok=True)


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Disk]:
    """Mount a small file system in memory; where that is forbidden, the folder is one like any other."""
    folder.mkdir(mode=0o700)
    options = ["-o", f"size={DISK_MEGABYTES}m,mode=700"]
    mounted = (
        subprocess.run(["mount", "-t", "tmpfs", *options, "tmpfs", str(folder)], capture_output=True, check=False)
        if shutil.which("mount")
        else None
    )
    small = mounted is not None and mounted.returncode == 0
    try:
        yield Disk(folder, small=small)
    finally:
        if small:
            subprocess.run(["umount", "--lazy", str(folder)], check=False)


def sweep_settings(standin: StandIn) -> dict[str, str]:
    """Return the settings that let a command ask the stand-in for Stripe."""
    return {"LEDGER_STRIPE_API_KEY": API_KEY, "LEDGER_STRIPE_API_BASE": standin.url}
