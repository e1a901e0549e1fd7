"""``ledger keys``: credentials for settings."""

from __future__ import annotations

from typing import Annotated

import typer

from api.output import show_json
from api.secrets import (
    SCOPES,
    ApiKey,
    digest_of,
    format_api_key,
    generate_api_key,
    generate_webhook_secret,
    parse_api_keys,
)
from api.settings import load_settings
from api.signing import FILE, generate_signing_key, keep_signing_key, signer_of
from ledger.errors import SettingError

app = typer.Typer(help="Make API keys, settings for an external database, or a new signing key.", no_args_is_help=True)


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="What the key is for, such as `web-app`.")],
    scope: Annotated[list[str], typer.Option(help=f"What it may do: {', '.join(sorted(SCOPES))}. Repeatable.")],
    book: Annotated[str | None, typer.Option(help="The only book it may see, such as self:live.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Make an API key and show it once; the settings hold only its digest.

    Example: ledger keys create web-app --scope entitlements:read --book self:live
    """
    text = generate_api_key()
    entry = format_api_key(ApiKey(name, frozenset(scope), book, digest_of(text)))
    parse_api_keys(entry)  # says what is wrong with the name or a scope
    if as_json:
        show_json({"key": text, "setting": entry})
        return
    typer.echo(f"key       {text}    (shown once: keep it where the caller is)")
    typer.echo(f"setting   {entry}    (add it to LEDGER_API_KEYS, comma-separated)")


@app.command("init")
def init(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Print settings for a service on an external database: signing key, webhook secret, admin API key.

    The webhook secret is for your own senders and tests; Stripe shows you its own when you add an endpoint.

    Example: ledger keys init >> ledger.env
    """
    text = generate_api_key()
    made = {
        "LEDGER_SIGNING_KEY": generate_signing_key(),
        "LEDGER_STRIPE_WEBHOOK_SECRETS": generate_webhook_secret(),
        "LEDGER_API_KEYS": format_api_key(ApiKey("admin", frozenset({"admin"}), None, digest_of(text))),
    }
    if as_json:
        show_json({"key": text, "settings": made})
        return
    for name, value in made.items():
        typer.echo(f"{name}={value}")
    typer.echo(f"# the key itself, shown once: {text}")


@app.command("rotate")
def rotate(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Make a new signing key. What the old one signed stays provable, since its public key stays registered.

    With the embedded database the new key is installed for the next start; otherwise it is printed.

    Example: ledger keys rotate
    """
    settings = load_settings()
    text = generate_signing_key()
    if not settings.embedded or settings.signing_key is not None:
        setting = {"LEDGER_SIGNING_KEY": text}
        if as_json:
            show_json({"signer": signer_of(text).name, "settings": setting})
        else:
            typer.echo(f"LEDGER_SIGNING_KEY={text}")
        return
    file = settings.data_dir / FILE
    if not file.exists():
        raise SettingError("LEDGER_DATA_DIR", f"{file} does not exist: nothing was ever signed")
    keep_signing_key(file, text)
    if as_json:
        show_json({"signer": signer_of(text).name, "settings": {}})
    else:
        typer.echo(f"the next start signs as {signer_of(text).name}")
