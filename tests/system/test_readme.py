"""What README and docs show is what happens: their commands run here, and the output shown is the real one."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import orjson
import pytest

from tests.stripe_events import event, product, subscription
from tests.system.running import Service

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
TEXTS = {path.name: path.read_text() for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}


def block(name: str) -> str:
    """Return the block of commands that one of the texts marks with ``<!-- run: name -->``."""
    [found] = [
        match[1]
        for text in TEXTS.values()
        for match in re.finditer(rf"<!-- run: {name} -->\n```console\n(.*?)```", text, re.DOTALL)
    ]
    return found


def commands(name: str) -> str:
    return "\n".join(line.removeprefix("$ ") for line in block(name).splitlines() if line.startswith("$ "))


@pytest.fixture
def checkout(service: Service, tmp_path: Path) -> Path:
    """A folder that looks like a checkout in which ``make run`` is serving."""
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    (tmp_path / ".ledger").symlink_to(service.folder)
    return tmp_path


def run(service: Service, checkout: Path, script: str) -> str:
    script = "set -eu\n" + script.replace("127.0.0.1:8000", f"127.0.0.1:{service.port}")
    done = subprocess.run(
        ["sh", "-c", script],
        cwd=checkout,
        env=service.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_readme_is_true(service: Service, checkout: Path) -> None:
    service.start()
    shown = [re.escape(line).replace("…", r"\S+") for line in block("serve").splitlines()[1:]]
    printed = "".join(service.printed).replace(f":{service.port}", ":8000").replace(str(service.folder), ".ledger")
    assert re.fullmatch("\n".join(shown), printed.strip()), printed

    service.post(event("evt_1", "product.created", product(), created=1_768_478_000))
    bought = event("evt_2", "customer.subscription.created", subscription(items="si_1:prod_1*8"), created=1_768_478_010)
    service.post(bought)
    service.get("/v1/customers/cus_1/entitlements", min_position="2", wait="10")
    answered = re.search(r"```json\n(.*?)```", README, re.DOTALL)
    assert answered is not None
    assert orjson.loads(run(service, checkout, commands("ask"))) == orjson.loads(answered[1])

    output = run(service, checkout, commands("status"))
    for text in ("self:live", "entitlements-1", "customer.subscription.created", "evt_2", "LEDGER_PORT"):
        assert text in output

    assert "true: 5 events" in run(service, checkout, commands("verify"))
    assert "c2sp.org/tlog-proof@v1" in run(service, checkout, commands("prove"))
    run(service, checkout, commands("backup"))
    assert (checkout / "backup-of-today" / "signing.key").exists()


def test_the_replay_guide_is_true(service: Service, checkout: Path) -> None:
    service.environment["COLUMNS"] = "200"
    for name in ("history", "rebuild", "diff", "swap"):
        shown = [" ".join(line.split()) for line in block(name).splitlines() if not line.startswith("$ ")]
        printed = [" ".join(line.split()) for line in run(service, checkout, commands(name)).splitlines()]
        assert printed == shown, name


def test_every_block_of_commands_is_run_or_says_why_not() -> None:
    for name, text in TEXTS.items():
        marks = re.findall(r"(?:<!-- (run|not run): [^>]+ -->\n)?```console\n\$ (.*)", text)
        unmarked = [command for mark, command in marks if not mark]
        assert unmarked == (["make test"] if name == "README.md" else [])  # that one runs this very test
