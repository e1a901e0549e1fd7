"""The settings: one frozen object read from the environment, every field with its default and its meaning."""

from __future__ import annotations

import re
from ipaddress import ip_address
from pathlib import Path
from typing import Final, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from ledger.books import CONTROL_BOOK
from ledger.errors import SettingError

PREFIX = "LEDGER_"

_HOST: Final = r"(\[[^\]]*\]|[^@:,/?#\[\]]*)(:[0-9]{0,5})?"
_DATABASE_URL: Final = re.compile(rf"postgres(ql)?://([^/?#]*@)?{_HOST}(,{_HOST})*([/?#]|$)")

WEBHOOKS: Final = "/webhooks/stripe"
"""Where Stripe sends its events."""


class Settings(BaseSettings):
    """What the environment says. All of it is optional; ``ledger doctor`` shows and checks each."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, env_ignore_empty=True, extra="ignore")

    database_url: str | None = Field(
        default=None,
        description="PostgreSQL to use instead of the embedded one; its login is in ledger_app and ledger_builder",
    )
    owner_database_url: str | None = Field(default=None, description="the owner's login, for `ledger migrate` only")
    data_dir: Path = Field(default=Path(".ledger"), description="embedded database, generated secrets and keys")
    host: str = Field(default="127.0.0.1", description="address to listen on")
    port: int = Field(default=8000, ge=1, le=65535, description="port to listen on")
    web_processes: int = Field(default=1, ge=1, le=64, description="processes that answer HTTP on that port")
    follower_processes: int = Field(default=2, ge=1, le=4, description="processes that fold, each some projections")
    stripe_webhook_secrets: str | None = Field(
        default=None,
        description="comma-separated `[live:|test:][acct_…:]whsec_…`; generated with the embedded database",
    )
    webhook_tolerance: int = Field(default=300, ge=1, description="seconds a signature may be old or ahead")
    stripe_api_key: str | None = Field(
        default=None,
        repr=False,
        pattern=r"^[!-~]+$",
        description="restricted key; enables backfill, sweep, observations and checkout",
    )
    stripe_api_base: str | None = Field(
        default=None,
        pattern=r"^https?://[^\s/?#]+(/\S*)?$",
        description="address of Stripe's API, for a stand-in such as localstripe",
    )
    account: str = Field(
        default="self", pattern=r"^[A-Za-z0-9_]{1,100}$", description="the platform's own account in book ids"
    )
    default_book: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9_]{1,100}:(live|test)$",
        description="what a request without `book` means; {account}:live",
    )
    org_metadata_key: str = Field(
        default="org_id", min_length=1, description="metadata key that names a customer's organisation"
    )
    api_keys: str | None = Field(
        default=None,
        description="comma-separated `name:scope+scope[@book]:sha256-hex`; generated with the embedded database",
    )
    signing_key: str | None = Field(
        default=None, description="Ed25519 seed in base64, for log checkpoints; generated with the embedded database"
    )
    checkpoint_dir: Path | None = Field(
        default=None, description="further folder outside the database where log checkpoints are appended"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="least severe line to log"
    )
    log_format: Literal["console", "json"] = Field(default="console", description="json for machines")

    @field_validator("database_url", "owner_database_url")
    @classmethod
    def _is_an_address(cls, url: str | None) -> str | None:
        # The value may contain a password, so do not quote it.
        if url is not None and not _DATABASE_URL.match(url):
            raise ValueError("write it as postgresql://user@host:5432/name")
        return url

    @field_validator("account")
    @classmethod
    def _is_not_ours(cls, account: str) -> str:
        if account == CONTROL_BOOK.partition(":")[0]:
            raise ValueError(f"books named {account}:… are the ledger's own")
        return account

    @property
    def embedded(self) -> bool:
        """Whether the ledger runs its own PostgreSQL."""
        return self.database_url is None

    @property
    def reachable_host(self) -> str:
        """Where this machine reaches the service; one that listens everywhere is at home too."""
        return "127.0.0.1" if ip_address_is_any(self.host) else self.host

    @property
    def url(self) -> str:
        """The address of the service."""
        host = self.reachable_host
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def book_by_default(self) -> str:
        """The book a request without ``book`` means once that book has an event."""
        return self.default_book or f"{self.account}:live"


def ip_address_is_any(host: str) -> bool:
    """Tell whether ``host`` means every address of the machine."""
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return False


def load_settings() -> Settings:
    """Read the environment. Raises ``SettingError`` naming the first setting that cannot be understood."""
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = PREFIX + str(first["loc"][0]).upper()
        raise SettingError(name, str(first["msg"])) from error


def environment_name(field: str) -> str:
    """Return the environment variable of a field of ``Settings``."""
    return PREFIX + field.upper()
