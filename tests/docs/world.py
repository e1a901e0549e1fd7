"""A checkout in which ``make run`` serves the company of the documentation, and a person who types what is shown."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import asyncpg
import orjson

from projections.catalog import parse_catalog
from tests.docs.blocks import Block, blocks_of, matches
from tests.system.running import Service

MARCH: Final = ("2026-03", "2024-01")
"""The README asks ``make demo``, whose company lives to this day, about a month that the one here has not."""

REMEMBERED: Final = re.compile(r"export .*|\w+\(\) .*|\w+=(\$\(.*\)|\S*)")
"""Commands whose effect the shells of a page's later blocks have too."""

PRELUDE: Final = "key, answer_of_the_webhook = {key!r}, {{'position': 1}}\n"
"""What an application of Python knows before it comes to the ledger's client."""


class World:
    """One service and one folder for every page; a page's blocks are run once."""

    def __init__(self, service: Service, folder: Path) -> None:
        self.service = service
        self.folder = folder
        self._complaints: dict[str, list[str]] = {}
        self._known: dict[str, list[str]] = {}
        (folder / ".venv").symlink_to(sys.prefix)
        for name in (".ledger", ".ledger-demo", ".ledger-replay"):
            (folder / name).symlink_to(service.folder)

    def complaints(self, page: str) -> list[str]:
        """Run what a page shows, and return where it is not so."""
        if page not in self._complaints:
            here = [block for block in blocks_of(page) if not block.mark]
            self._complaints[page] = [text for block in here for text in self._run(block)]
        return self._complaints[page]

    def _run(self, block: Block) -> list[str]:
        try:
            match block.language:
                case "console":
                    self._settle()
                    return self.type(block)
                case "python":
                    self._python(block)
                case "sql":
                    asyncio.run(self._ask(block))
                case "toml":
                    parse_catalog(block.text)
                case "json":
                    orjson.loads(block.text)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it, its place is told
            return [f"{block.place}: {error}"]
        return []

    def type(self, block: Block) -> list[str]:
        """Type the commands of a block into a shell and return where the output is not as shown."""
        end = "\x04"
        commands = [
            command.replace("127.0.0.1:8000", f"127.0.0.1:{self.service.port}").replace(*MARCH)
            for command, _ in block.commands()
        ]
        known = self._known.setdefault(block.page, [])
        script = "\n".join([*known, *(f"{command}\nprintf '{end}'" for command in commands)])
        known += filter(REMEMBERED.fullmatch, commands)
        done = self._shell(["sh", "-euc", script])
        printed = done.stdout.replace(f":{self.service.port}", ":8000").split(end)
        if done.returncode:
            return [f"{block.place}: status {done.returncode}: {done.stdout[-2000:]} {done.stderr}"]
        return [
            f"{block.place}: $ {command}\n{output}"
            for (command, shown), output in zip(block.commands(), printed, strict=False)
            if shown and not matches(shown, output)
        ]

    def _python(self, block: Block) -> None:
        text = block.text.replace("https://ledger.example.com", self.service.url)
        code = PRELUDE.format(key=self.service.credentials["api_key"]) + text
        done = self._shell([sys.executable, "-c", code])
        assert done.returncode == 0, done.stderr

    async def _ask(self, block: Block) -> None:
        connection = await asyncpg.connect(self.service.embedded.url())
        try:
            await connection.execute("SET ROLE ledger_builder")
            assert await connection.fetch(block.text), "no row"
        finally:
            await connection.close()

    def _shell(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        known = self.service.environment | {
            "PATH": f"{Path(sys.prefix) / 'bin'}:{self.service.environment['PATH']}",
            "COLUMNS": "200",
        }
        if self.service.process is not None:
            known |= {"KEY": self.service.credentials["api_key"], "URL": self.service.url}
        return subprocess.run(
            command, cwd=self.folder, env=known, capture_output=True, text=True, timeout=120, check=False
        )

    def _settle(self) -> None:
        def folded() -> bool:
            builds = self.service.get("/v1/projections").json()["data"]
            places = [place for one in builds for place in one["books"]]
            return self.service.get("/readyz").status_code == 200 and all(
                place["position"] == place["head"] for place in places
            )

        self.service.until(folded, "everything to be folded", 120)
