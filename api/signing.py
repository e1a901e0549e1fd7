"""The key that signs log checkpoints: from the settings, or generated once and kept in the data folder.

A key's name is made of its own digest, so that two keys never share one.
"""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryFile
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from api.settings import Settings
from ledger.errors import SettingError
from ledger.note import SignerKey, from_base64, to_base64
from ledger.outside import Outside

FILE: Final = "signing.key"


def load_signer(settings: Settings) -> SignerKey:
    """Return the signing key in force; generates one when the database is embedded. Raises ``SettingError``."""
    if settings.signing_key is not None:
        return signer_of(settings.signing_key)
    file = settings.data_dir / FILE
    if settings.embedded:
        if not file.exists():
            settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            keep_signing_key(file, generate_signing_key())
        try:
            return signer_of(file.read_text("latin-1").strip())
        except SettingError as error:
            raise SettingError(
                "LEDGER_DATA_DIR", f"{file} is damaged; restore it, or run `ledger keys rotate`"
            ) from error
    raise SettingError("LEDGER_SIGNING_KEY", "needed with LEDGER_DATABASE_URL; see `ledger keys init`")


def signer_of(text: str) -> SignerKey:
    """Read a signing key: an Ed25519 seed of 32 bytes in base64."""
    try:
        key = Ed25519PrivateKey.from_private_bytes(from_base64(text))
    except ValueError as error:
        raise SettingError("LEDGER_SIGNING_KEY", "must be 32 bytes in base64; `ledger keys init` makes one") from error
    name = f"ledger-{sha256(key.public_key().public_bytes_raw()).hexdigest()[:16]}"
    return SignerKey(name, key)


def generate_signing_key() -> str:
    """Make the text of a signing key."""
    return to_base64(Ed25519PrivateKey.generate().private_bytes_raw())


def keep_signing_key(file: Path, text: str) -> None:
    """Write a signing key for its owner's eyes only; a kill in the middle leaves the old one."""
    unfinished = file.with_suffix(".new")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as out:
        out.write(text + "\n")
        out.flush()
        os.fsync(out.fileno())
    unfinished.rename(file)


def open_checkpoint_dir(settings: Settings) -> None:
    """Make the further folder for checkpoints where there is none. Raises ``SettingError`` when none can be kept."""
    if settings.checkpoint_dir is None:
        return
    try:
        settings.checkpoint_dir.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=settings.checkpoint_dir):
            pass
    except OSError as error:
        why = f"nothing can be written in {settings.checkpoint_dir}: {error.strerror}"
        raise SettingError("LEDGER_CHECKPOINT_DIR", why) from error


def outside_of(settings: Settings) -> Outside:
    """Return the folders outside the database where checkpoints are appended."""
    folders = [settings.data_dir, *([settings.checkpoint_dir] if settings.checkpoint_dir else [])]
    return Outside(list(dict.fromkeys(folders)))
