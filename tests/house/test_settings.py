"""Settings as people mistype them: what is wrong is said by name, and no secret with it."""

from __future__ import annotations

import socket
from pathlib import Path

import asyncpg
import pytest

from api.credentials import load_credentials
from api.doctor import place_checks
from api.problems import problem_of
from api.secrets import parse_api_keys
from api.serve import serve
from api.settings import Settings, load_settings
from api.signing import FILE, load_signer
from ledger.embedded import SUPERUSER, EmbeddedPostgres
from ledger.errors import LedgerError, SettingError
from ledger.postgres import Database
from tests.conftest import SIGNING_KEY
from tests.system.running import free_port

GOOD = {
    "LEDGER_DATABASE_URL": (
        "postgresql://", "postgres://u:p%40x@db/ledger", "postgresql://u:p@[::1]:5432/l?sslmode=require",
        "postgresql://u@a:5432,b:5433/l", "postgresql:///l?host=/tmp/socket", "postgresql://u@%2Ftmp%2Fsocket/l",
    ),
    "LEDGER_STRIPE_API_BASE": ("http://127.0.0.1:8420", "https://api.example.com/"),
    "LEDGER_STRIPE_API_KEY": ("rk_live_1",),
}  # fmt: skip

WRONG = {
    "LEDGER_DATABASE_URL": (
        "mysql://u:hush@db/l",
        "hush",
        "postgresql://u:hush@db:port/l",
        "postgresql://u:p/hush@db/l",
    ),
    "LEDGER_OWNER_DATABASE_URL": ("db/hush", "postgresql://u:hush@[::1/l"),
    "LEDGER_ACCOUNT": ("ledger", "hush:live", "hush hush"),
    "LEDGER_STRIPE_API_BASE": ("ftp://hush", "http://", "https://a hush/"),
    "LEDGER_STRIPE_API_KEY": ("hush hush", "hüsh", "\thush"),
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in GOOD.items() for value in values])
def test_what_is_written_well_is_taken(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    assert getattr(load_settings(), name.removeprefix("LEDGER_").lower()) == value


def test_a_list_of_nothing_is_as_good_as_none(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, stripe_webhook_secrets=",", api_keys=" , ")
    found = load_credentials(settings)
    assert [one.secret for one in found.webhook_secrets] == [found.generated_secret]
    assert found.generated_key is not None
    assert [one.name for one in found.api_keys] == ["generated"]


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_what_is_mistyped_is_named_and_not_quoted(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingError, match=name) as refused:
        load_settings()
    assert "hush" not in str(refused.value)


def test_a_key_counts_once() -> None:
    digest = "0" * 64
    with pytest.raises(SettingError, match="'b' is there twice"):
        parse_api_keys(f"a:events:read:{digest},b:admin:{digest}")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0"])
def test_an_address_of_this_machine_will_do(host: str, tmp_path: Path) -> None:
    found = place_checks(Settings(host=host, checkpoint_dir=tmp_path / "a" / "b"))
    assert [(one.name, one.ok) for one in found] == [("address", True), ("checkpoint folder", True)]


@pytest.mark.parametrize("host", ["999.1.1.1", "192.0.2.1", "a b", "x" * 70])
def test_one_that_is_not_is_found(host: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found = place_checks(Settings(host=host, checkpoint_dir=tmp_path / "file"))
    assert [one.ok for one in found] == [False, False]


@pytest.mark.parametrize("host", ["999.1.1.1", "192.0.2.1", "x" * 70])
def test_serving_names_the_setting_that_hinders_it(host: str) -> None:
    with pytest.raises(SettingError, match="LEDGER_HOST: cannot listen"):
        serve(Settings(host=host), migrate_first=False, say=print)
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(SettingError, match="LEDGER_PORT: cannot"):
        serve(Settings(port=taken.getsockname()[1]), migrate_first=False, say=print)


def test_serving_wants_a_folder_for_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.serve.prepare_embedded", lambda _: pytest.fail("went on"))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (tmp_path / "file").touch()
    settings = Settings(port=port, data_dir=tmp_path / "data", checkpoint_dir=tmp_path / "file" / "x")
    with pytest.raises(SettingError, match="LEDGER_CHECKPOINT_DIR: nothing can be written"):
        serve(settings, migrate_first=False, say=print)


def test_several_web_processes_want_a_folder_to_count_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.serve.prepare_embedded", lambda _: None)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (tmp_path / f"metrics-{port}").touch()
    with pytest.raises(SettingError, match=f"LEDGER_DATA_DIR: several web processes .*metrics-{port}: File exists"):
        serve(Settings(port=port, data_dir=tmp_path, web_processes=2), migrate_first=False, say=print)


def test_a_stripe_key_that_is_none_is_found() -> None:
    for key, ok in (("rk_live_1", True), ("pk_live_1", False)):
        assert [one.ok for one in place_checks(Settings(stripe_api_key=key))] == [True, ok]


def test_a_damaged_signing_key_is_said_to_be(tmp_path: Path) -> None:
    load_signer(Settings(data_dir=tmp_path))
    for damaged in (b"", b"\xff\xfe", b"AAAA\n"):
        (tmp_path / FILE).write_bytes(damaged)
        with pytest.raises(SettingError, match="is damaged"):
            load_signer(Settings(data_dir=tmp_path))


def external(folder: Path, url: str) -> Settings:
    return Settings(
        data_dir=folder,
        port=free_port(),
        database_url=url,
        stripe_webhook_secrets="whsec_1",
        api_keys=f"a:admin:{'0' * 64}",
        signing_key=SIGNING_KEY,
    )


def test_a_pooler_that_drops_what_is_asked_for_is_named(
    server: EmbeddedPostgres, database_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Database, "as_role", lambda self, _: self)
    with pytest.raises(SettingError, match="LEDGER_DATABASE_URL: a pooler"):
        serve(external(tmp_path, server.url(database=database_name)), migrate_first=False, say=print)


@pytest.mark.parametrize(
    ("login", "database", "said"),
    [
        ("mistyped", "postgres", 'the database cannot be reached: role "mistyped" does not exist'),
        (SUPERUSER, "mistyped", 'the database cannot be reached: database "mistyped" does not exist'),
    ],
)
def test_who_is_not_let_in_is_not_told_of_roles(
    server: EmbeddedPostgres, login: str, database: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(LedgerError, match=f"LEDGER_DATABASE_URL: {said}$"):
        serve(external(tmp_path, server.url(login, database)), migrate_first=False, say=print)


def test_a_password_changed_at_the_server_is_no_error_of_ours() -> None:
    assert problem_of(asyncpg.InvalidPasswordError("password authentication failed")).status == 503
