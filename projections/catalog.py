"""A book's catalog: which product, price or lookup key gives which features, how sources combine, and the policies.

Catalogs are written by people in TOML and published as events; errors name the line and key. Several may have been
published: each applies from a moment on, the first from the beginning of time. Pure.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ledger.errors import MistakeError

Kind = Literal["boolean", "quantity", "choice"]

_AMOUNT: Final = re.compile(r"quantity(?:\s*\*\s*(?P<times>[0-9]{1,15}))?")
_TABLE: Final = re.compile(r"\s*(?P<open>\[\[?)(?P<name>[^\]]+)\]")
_KEY: Final = re.compile(r"""\s*(?P<name>(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*[^=\s]+)*)\s*=""")
_EVER: Final = datetime.min.replace(tzinfo=UTC)
_MAX_CHARACTERS: Final = 1_000_000
_OWN_COMBINATIONS: Final[dict[Kind, tuple[str, ...]]] = {"boolean": ("any",), "quantity": ("sum", "max"), "choice": ()}


class CatalogError(MistakeError):
    """A catalog is invalid; ``line`` and ``key`` say where (line 0: nowhere in particular)."""

    def __init__(self, line: int, key: str, why: str) -> None:
        place = f"line {line}" + (f", {key}" if key else "") if line else key or "the catalog"
        super().__init__(f"{place}: {why}")
        self.line = line
        self.key = key
        self.why = why


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Policy(_Part):
    """What decides access while Stripe has not (stripe-domain §3.2)."""

    past_due: Literal["allow", "grace", "deny"] = "allow"
    past_due_grace_days: int = Field(default=30, ge=0, le=3650)
    trial_conversion_grace_days: int = Field(default=3, ge=0, le=3650)
    dispute: Literal["keep", "suspend"] = "keep"
    refund: Literal["keep", "revoke"] = "keep"
    stripe_entitlements: Literal["compare", "grant", "ignore"] = "compare"


class RevenuePolicy(_Part):
    """How revenue is recognised (stripe-domain §5); ``prepaid_credits`` are products or prices that sell credits."""

    granularity: Literal["second", "day", "month"] = "second"
    group_minutes: int = Field(default=60, ge=0, le=1440)
    recover_as_gains: bool = True
    tax_relief_on_bad_debt: bool = False
    prepaid_credits: list[str] = Field(default_factory=list)


class Feature(_Part):
    """A feature: its kind, and how several sources of it combine (a choice: an ordered list, the last is highest)."""

    kind: Kind
    combine: str | list[str] | None = None

    @property
    def choices(self) -> Sequence[str]:
        """What may be chosen, lowest first."""
        return self.combine if isinstance(self.combine, list) else ()


class _Plan(_Part):
    product: str | None = None
    price: str | None = None
    lookup_key: str | None = None
    features: dict[str, bool | int | str]


class _Text(_Part):
    policy: Policy = Policy()
    revenue: RevenuePolicy = RevenuePolicy()
    features: dict[str, Feature] = Field(default_factory=dict)
    plans: list[_Plan] = Field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Given:
    """A feature as one source gives it: yes, an amount, an amount for each unit of the quantity, or a choice."""

    feature: str
    kind: Kind
    amount: Decimal | None = None
    per_unit: bool = False
    choice: str | None = None

    def value(self, quantity: Decimal | None) -> Decimal | None:
        """Return how much of the feature an item of ``quantity`` gives; None where that is metered."""
        if self.amount is None or not self.per_unit:
            return self.amount
        return None if quantity is None else self.amount * quantity


@dataclass(frozen=True, slots=True)
class Catalog:
    """A valid catalog. ``plans`` are the features given, by (``price`` | ``lookup_key`` | ``product``, id)."""

    policy: Policy = field(default_factory=Policy)
    revenue: RevenuePolicy = field(default_factory=RevenuePolicy)
    features: Mapping[str, Feature] = field(default_factory=dict)
    plans: Mapping[tuple[str, str], tuple[Given, ...]] = field(default_factory=dict)

    @property
    def says_features(self) -> bool:
        """Whether it defines features at all; one with policies only leaves them to the products' metadata."""
        return bool(self.features or self.plans)

    def given(self, product: str | None, price: str | None, lookup_key: str | None) -> list[Given]:
        """Return what a source gives, each feature once: price overrides lookup key, which overrides product."""
        found: dict[str, Given] = {}
        for kind, key in (("price", price), ("lookup_key", lookup_key), ("product", product)):
            for given in self.plans.get((kind, key), ()) if key else ():
                found.setdefault(given.feature, given)
        return list(found.values())

    def combination(self, feature: str, kind: Kind) -> str | Sequence[str]:
        """Say how several sources of a feature combine."""
        declared = self.features.get(feature)
        if declared is not None and declared.combine:
            return declared.combine
        return {"boolean": "any", "quantity": "sum", "choice": ()}[kind]


DEFAULT: Final = Catalog()
"""What holds where nothing is published: the default policies, and features from the products' metadata."""


class Published(NamedTuple):
    """A catalog and the moment from which it applies; None: the beginning of time."""

    effective_from: datetime | None
    catalog: Catalog


def catalog_at(published: Sequence[Published], at: datetime) -> Catalog | None:
    """Return the catalog in force: of those that apply by then the one that began last, then the newest."""
    holding = [one for one in published if one.effective_from is None or one.effective_from <= at]
    if not holding:
        return None
    return max(enumerate(holding), key=lambda one: (one[1].effective_from or _EVER, one[0]))[1].catalog


@lru_cache(maxsize=256)
def parse_catalog(text: str) -> Catalog:
    """Read a catalog. Raises ``CatalogError`` naming line and key of the first thing that is wrong."""
    if len(text) > _MAX_CHARACTERS:
        raise CatalogError(0, "", f"longer than {_MAX_CHARACTERS} characters")
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _syntax_error(str(error), text) from error
    try:
        parsed = _Text.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        path = [part for part in first["loc"] if not _is_type(part)]
        why = "there is no such key" if first["type"] == "extra_forbidden" else first["msg"]
        raise _error_at(text, path, why) from error
    for name, feature in parsed.features.items():
        _check_feature(text, name, feature)
    return Catalog(parsed.policy, parsed.revenue, parsed.features, dict(_plans(text, parsed)))


def check_catalog(text: str) -> Catalog:
    """Read a catalog that is to be published. Raises ``CatalogError``, also for an empty one."""
    catalog = parse_catalog(text)
    if not tomllib.loads(text):
        raise CatalogError(1, "", "it is empty: it has no [policy], [revenue], [features.…] or [[plans]]")
    return catalog


def _is_type(part: int | str) -> bool:
    """Tell the branch of a union, which pydantic adds to a place, from a key of the text."""
    return part in ("bool", "int", "str", "list[str]")


def _check_feature(text: str, name: str, feature: Feature) -> None:
    allowed = _OWN_COMBINATIONS[feature.kind]
    if feature.kind == "choice":
        if not feature.choices or len(set(feature.choices)) != len(feature.choices):
            raise _error_at(text, ["features", name, "combine"], "a choice has an ordered list of values, lowest first")
    elif feature.combine is not None and feature.combine not in allowed:
        why = f"a {feature.kind} combines by {' or '.join(allowed)}"
        raise _error_at(text, ["features", name, "combine"], why)


def _plans(text: str, parsed: _Text) -> Iterator[tuple[tuple[str, str], tuple[Given, ...]]]:
    seen: set[tuple[str, str]] = set()
    for number, plan in enumerate(parsed.plans):
        named = [(kind, key) for kind in ("product", "price", "lookup_key") if (key := getattr(plan, kind)) is not None]
        if len(named) != 1 or not named[0][1]:
            raise _error_at(text, ["plans", number], "a plan names one of product, price and lookup_key")
        if named[0] in seen:
            raise _error_at(text, ["plans", number, named[0][0]], f"{named[0][1]} has a plan already")
        seen.add(named[0])
        given = [_given(text, ["plans", number, "features", name], parsed.features.get(name), name, value)
                 for name, value in plan.features.items()]  # fmt: skip
        yield named[0], tuple(given)


def _given(text: str, path: list[Any], feature: Feature | None, name: str, value: bool | int | str) -> Given:
    if feature is None:
        raise _error_at(text, path, f"there is no [features.{name}]")
    if feature.kind == "boolean":
        if value is not True:
            raise _error_at(text, path, "a boolean is given by true")
        return Given(name, "boolean")
    if feature.kind == "choice":
        if value not in feature.choices:
            raise _error_at(text, path, f"one of {', '.join(feature.choices)}")
        return Given(name, "choice", choice=str(value))
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**15:
        return Given(name, "quantity", Decimal(value))
    match = _AMOUNT.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise _error_at(text, path, 'a quantity is a whole number, "quantity" or "quantity*N"')
    return Given(name, "quantity", Decimal(match["times"] or 1), per_unit=True)


def _syntax_error(said: str, text: str) -> CatalogError:
    found = re.search(r"\(at line (\d+), column \d+\)", said)
    line = int(found[1]) if found else max(1, len(text.splitlines()))
    lines = text.splitlines()
    match = _KEY.match(lines[line - 1]) if line <= len(lines) else None
    return CatalogError(line, match["name"] if match else "", said.partition(" (at ")[0])


def _error_at(text: str, path: Iterable[Any], why: str) -> CatalogError:
    """Return an error at the key's place in the text, or at the nearest enclosing thing that has one."""
    keys = [str(part) for part in path]
    places = _places(text)
    for depth in range(len(keys), 0, -1):
        if (line := places.get(tuple(keys[:depth]))) is not None:
            return CatalogError(line, ".".join(keys), why)
    return CatalogError(1, ".".join(keys), why)


def _places(text: str) -> dict[tuple[str, ...], int]:
    """Return the line of every table and key that begins a line."""
    places: dict[tuple[str, ...], int] = {}
    counts: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        if match := _TABLE.match(line):
            table = _dotted(match["name"])
            if match["open"] == "[[":
                counts[table] = counts.get(table, -1) + 1
                table = (*table, str(counts[table]))
            places.setdefault(table, number)
        elif match := _KEY.match(line):
            key = (*table, *_dotted(match["name"]))
            places.setdefault(key, number)
    return places


def _dotted(name: str) -> tuple[str, ...]:
    parts = re.findall(r"\"[^\"]*\"|'[^']*'|[^.\s]+", name)
    return tuple(part.strip("\"'") for part in parts)
