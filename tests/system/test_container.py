"""docs/Dockerfile, read and followed step by step, since no Docker engine runs where the tests do."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Final

import pytest

from api.settings import Settings, environment_name
from tests.system.running import Service

ROOT: Final = Path(__file__).parents[2]
DOCKERFILE: Final = ROOT / "docs" / "Dockerfile"
IGNORE: Final = ROOT / "docs" / "Dockerfile.dockerignore"


def instructions() -> list[tuple[str, str]]:
    """Return what each line says, joined where it goes on."""
    text = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE))
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in text.splitlines() if line.strip()]


def of(name: str) -> list[str]:
    return [said for kind, said in instructions() if kind == name]


def copied() -> list[str]:
    return [source for said in of("COPY") if "--from" not in said for source in said.split()[:-1]]


def test_everything_it_copies_is_there_and_is_sent_to_the_builder() -> None:
    sent = {line.removeprefix("!") for line in IGNORE.read_text().splitlines() if line.startswith("!")}
    assert set(copied()) == sent
    for name in copied():
        assert (ROOT / name).exists(), name
    assert "*" in IGNORE.read_text().splitlines()


def test_it_runs_as_nobody_special_keeps_its_data_and_says_whether_it_is_well() -> None:
    kinds = [kind for kind, _ in instructions()]
    assert kinds[0] == "FROM"
    assert kinds.index("USER") < kinds.index("ENTRYPOINT")
    assert of("USER") == ["ledger"]
    assert of("VOLUME") == ["/data"]
    assert of("EXPOSE") == ["8000"]
    assert "/healthz" in of("HEALTHCHECK")[0]
    settings = dict(part.split("=", 1) for part in of("ENV")[0].split())
    assert set(settings) <= {environment_name(name) for name in Settings.model_fields}
    assert settings["LEDGER_DATA_DIR"] == "/data"
    assert "--require-hashes" in of("RUN")[0]
    assert not any("://" in said for kind, said in instructions() if kind != "HEALTHCHECK")
    python = re.search(r"python:(\d+\.\d+)", of("FROM")[0])
    assert python is not None
    assert python[1] in (ROOT / "pyproject.toml").read_text()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_its_steps_give_a_service(folder: Path, tmp_path: Path) -> None:
    """Copies what it copies, installs as it installs (what is locked is here already), and serves as it serves."""
    for name in copied():
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tmp_path / "src" / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            (tmp_path / "src").mkdir(exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / "src" / name)
    made = tmp_path / "opt"
    venv.create(made, with_pip=True)
    here = next(Path(sys.prefix).glob("lib/python3*/site-packages"))
    there = next(made.glob("lib/python3*/site-packages"))
    there.joinpath("locked.pth").write_text(f"{here}\n")
    for old in [there / "pkg_resources", *there.glob("setuptools*")]:
        shutil.rmtree(old)  # the one that is locked builds the package
    [_, install] = [said for said in of("RUN") if "pip install" in said]
    command = [str(made / "bin" / "python"), *shlex.split(install)[1:]]
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    done = subprocess.run(
        command, cwd=tmp_path / "src", env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    program = made / "bin" / "ledger"
    assert program.is_file()
    settings = dict(part.split("=", 1) for part in of("ENV")[0].split())
    service = Service(folder, LEDGER_LOG_FORMAT=settings["LEDGER_LOG_FORMAT"])
    where = "import api, ledger.migrate, pathlib; print(pathlib.Path(api.__file__).parent)"
    found = subprocess.run(
        [made / "bin" / "python", "-c", where], cwd=folder, capture_output=True, text=True, check=True
    )
    assert Path(found.stdout.strip()).is_relative_to(made)
    try:
        service.start(command=[str(program)])
        [check] = re.findall(r'CMD \[.*?, "-c", "(.*)"\]', of("HEALTHCHECK")[0])
        check = check.replace(":8000/", f":{service.port}/")
        assert subprocess.run([made / "bin" / "python", "-c", check], timeout=10, check=False).returncode == 0
        assert service.stop() == 0
        assert subprocess.run(
            [made / "bin" / "python", "-c", check], capture_output=True, timeout=10, check=False
        ).returncode
    finally:
        service.close()


@pytest.mark.parametrize("name", ["ENTRYPOINT", "CMD", "HEALTHCHECK"])
def test_programs_are_named_as_lists(name: str) -> None:
    """So that signals reach the service and no shell stands between."""
    [said] = of(name)
    assert re.search(r"\[\"[^\]]+\]$", said)
