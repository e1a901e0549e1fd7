"""The errors of the ledger: a small tree whose members carry data and whose docstrings are the messages."""

from __future__ import annotations


class LedgerError(Exception):
    """Something the ledger refuses or cannot do; the message is fit for the person who asked."""


class MistakeError(LedgerError):
    """The caller made a mistake: what was asked for does not exist, or must not be overwritten. Exit status 2."""


class MalformedEventError(LedgerError):
    """The bytes are not an event: not a JSON object, or a part that every event has is missing or wrong."""


class BeyondReadingError(LedgerError):
    """An amount has more than 64 bits: the JSON reader keeps only its first digits, so it cannot be counted."""

    def __init__(self, read: object) -> None:
        super().__init__(f"an amount of about {read} is beyond 64 bits and cannot be counted")


class LogUnavailableError(LedgerError):
    """The log cannot take or give events now; the sender may try again after ``retry_after`` seconds."""

    def __init__(self, why: str, retry_after: int = 1) -> None:
        super().__init__(why)
        self.retry_after = retry_after


class KeyUsedError(LedgerError):
    """An Idempotency-Key was used before, for another request."""

    def __init__(self, what: str) -> None:
        super().__init__(f"this Idempotency-Key was used for another {what}")


class VersionConflictError(LedgerError):
    """Somebody else has already written this version of the stream."""

    def __init__(self, stream_id: str, version: int) -> None:
        super().__init__(f"version {version} of stream {stream_id} is taken")
        self.stream_id = stream_id
        self.version = version


class SchemaError(LedgerError):
    """The database's schema is not the one this release needs."""


class SettingError(MistakeError):
    """A setting is missing or cannot be understood; ``name`` is its environment variable."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"{name}: {why}")
        self.name = name


class EmbeddedPostgresError(LedgerError):
    """The embedded PostgreSQL could not be prepared, started or stopped."""


class UndecodableBodyError(LedgerError):
    """A stored body names an encoding or a dictionary this process cannot decode."""


class UnreadableEventError(UndecodableBodyError):
    """The stored body of an event cannot be read: it, or the dictionary it needs, was damaged."""

    def __init__(self, event_id: str, why: object) -> None:
        super().__init__(f"the stored body of {event_id} cannot be read: {why}")
        self.event_id = event_id
