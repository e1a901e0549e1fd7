"""A real ``ledger serve`` in a folder of its own, over several lives: started, asked, commanded and killed from outside."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx
import orjson
import psutil

from ledger.embedded import EmbeddedPostgres
from tests.stripe_events import body_of, signature

COMMAND: Final = (sys.executable, "-c", "from api.cli import main; main()")
CHILDREN: Final = ("web", "follower")
GREETING_ENDS: Final = "  data "
START_SECONDS: Final = 60.0
"""For waiting only; a test that promises a time measures it."""


def free_port() -> int:
    """Find a port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Service:
    """One installation: a data folder, a port, and at most one running ``ledger serve``.

    Its PATH holds no program but ``unshare`` (which only root needs), so nothing installed on this machine can help.
    """

    def __init__(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="lsv-"))
        self.folder = self.home / "data"
        self.port = free_port()
        self.environment = {
            "PATH": str(self._programs()),
            "HOME": str(self.home),
            "LEDGER_DATA_DIR": str(self.folder),
            "LEDGER_PORT": str(self.port),
        }
        self.process: subprocess.Popen[bytes] | None = None
        self._lives = 0
        self._client = httpx.Client(timeout=30)

    def _programs(self) -> Path:
        folder = self.home / "bin"
        folder.mkdir()
        unshare = shutil.which("unshare")
        if unshare is not None:
            (folder / "unshare").symlink_to(unshare)
        return folder

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def postgres(self) -> EmbeddedPostgres:
        """The embedded server as seen from outside; this process never counts as its user."""
        return EmbeddedPostgres(self.folder)

    @property
    def credentials(self) -> dict[str, str]:
        content: dict[str, str] = orjson.loads((self.folder / "credentials.json").read_bytes())
        return content

    @property
    def printed(self) -> str:
        """What this life of the service has written, greeting and log lines."""
        return self._output.read_text() if self._lives else ""

    @property
    def _output(self) -> Path:
        return self.home / f"life-{self._lives}.txt"

    def start(self) -> float:
        """Start the service, wait for its greeting, and return how many seconds that took."""
        began = time.monotonic()
        self.launch()
        self.wait_until(lambda: GREETING_ENDS in self.printed, "its greeting", START_SECONDS)
        return time.monotonic() - began

    def launch(self) -> None:
        """Start the service and wait for nothing."""
        self._lives += 1
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [*COMMAND, "serve"],
                env=self.environment,
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def stop(self, how: signal.Signals = signal.SIGINT) -> int:
        """Press Ctrl-C, wait for the end, and return the exit status."""
        process = self._running()
        process.send_signal(how)
        status = process.wait(40)
        self.process = None
        self._forget_connections()
        return status

    def kill9(self) -> list[psutil.Process]:
        """Kill the supervisor as ``kill -9`` does, and return the children it leaves behind."""
        process = self._running()
        orphans = self.children()
        process.kill()
        process.wait(10)
        self.process = None
        self._forget_connections()
        return orphans

    def close(self) -> None:
        """End whatever is left, by pid, and remove the folder."""
        orphans = self.kill9() if self.process is not None and self.process.poll() is None else []
        self._client.close()
        for orphan in orphans:
            if orphan.is_running():
                orphan.kill()
        wait_ended(orphans, "the children of a service that is closed")
        if self.postgres.postmaster() is not None:
            self.postgres.stop("immediate")
        shutil.rmtree(self.home)

    def children(self) -> list[psutil.Process]:
        return [one for one in (self.child(name) for name in CHILDREN) if one is not None]

    def child(self, name: str) -> psutil.Process | None:
        """Return the supervisor's child of this name; None while there is none."""
        for one in psutil.Process(self._running().pid).children():
            try:
                if one.cmdline()[1:4] == ["-m", "api.processes", name]:
                    return one
            except psutil.Error:
                continue  # it has just ended
        return None

    def command(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run another ``ledger`` command on the same data."""
        return subprocess.run(
            [*COMMAND, *arguments],
            env=self.environment | environment,
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def command_json(self, *arguments: str) -> Any:
        """Run a command that must succeed, with ``--json``, and return what it printed."""
        done = self.command(*arguments, "--json")
        assert done.returncode == 0, f"ledger {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}"
        return orjson.loads(done.stdout)

    def post_signed(self, content: Any, *, secret: str | None = None) -> httpx.Response:
        """Send a webhook, signed now; ``content`` is an event or the exact bytes of one."""
        body = content if isinstance(content, bytes) else body_of(content)
        headers = signature(body, datetime.now(UTC), secret or self.credentials["webhook_secret"])
        return self._client.post(f"{self.url}/webhooks/stripe", content=body, headers=headers)

    def get(self, path: str, **asked: str | int) -> httpx.Response:
        """Read with the generated key."""
        headers = {"Authorization": f"Bearer {self.credentials['api_key']}"}
        return self._client.get(f"{self.url}{path}", params=asked, headers=headers)

    def wait_until(self, holds: Callable[[], bool], what: str, seconds: float = 20) -> None:
        """Wait until something holds; fail with what the service printed when it does not, or when it has ended."""
        deadline = time.monotonic() + seconds
        while not holds():
            ended = self.process is not None and self.process.poll() is not None
            if ended or time.monotonic() > deadline:
                why = "the service has ended" if ended else f"{seconds:g} s have passed"
                raise AssertionError(f"waiting for {what}: {why}. It printed:\n{self.printed}")
            time.sleep(0.02)

    def _running(self) -> subprocess.Popen[bytes]:
        assert self.process is not None, "the service is not running"
        return self.process

    def _forget_connections(self) -> None:
        self._client.close()
        self._client = httpx.Client(timeout=30)


def wait_ended(processes: list[psutil.Process], what: str, seconds: float = 20) -> None:
    """Wait for the end of processes that should end by themselves."""
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    assert not alive, f"{what} did not end in {seconds:g} s: {alive}"


def processes_of(folder: Path) -> list[psutil.Process]:
    """Return every process that works in a folder or was told of it: PostgreSQL's server and its backends."""
    found = []
    for process in psutil.process_iter(["cwd", "cmdline"]):
        told = " ".join(process.info["cmdline"] or [])
        if (process.info["cwd"] or "").startswith(str(folder)) or str(folder) in told:
            found.append(process)
    return [process for process in found if process.pid != os.getpid()]
