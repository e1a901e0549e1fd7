"""Objects as the pinned API version has them, 2026-10-28.endive: every field that is always there, in Stripe's order.

A template gives a kind's fields with the values they have when nothing is said; rendering fills in the rest.
"""

from __future__ import annotations

from typing import Any, Final

from ledger.simulator.objects import Json


def template(kind: str, names: str, **defaults: Any) -> Json:
    """Make an object's fields: id and kind first, the others by name, null unless ``defaults`` say otherwise."""
    fields = sorted({*names.split(), *defaults})
    return {"id": None, "object": kind} | {name: defaults.get(name) for name in fields}


def filled(template_: Json, **values: Any) -> Json:
    """Fill in a template, keeping its order; a name it does not have is a mistake here."""
    made = template_.copy()
    made.update(values)
    if len(made) != len(template_):
        raise KeyError(f"{template_['object']} has no {sorted(set(made) - set(template_))}")
    return made


def listed(data: list[Json], url: str) -> Json:
    """Write Stripe's list object, whole."""
    return {"object": "list", "data": data, "has_more": False, "total_count": len(data), "url": url}


def changes(before: Json, after: Json) -> Json:
    """Return ``previous_attributes``: prior values of what differs; objects by key, lists whole, new ones null."""
    prior: Json = {}
    for key in before.keys() | after.keys():
        was, now = before.get(key), after.get(key)
        if was == now:
            continue
        prior[key] = changes(was, now) if isinstance(was, dict) and isinstance(now, dict) else was
    return dict(sorted(prior.items()))


ISSUER: Final[Json] = {"type": "self"}
AUTOMATIC_TAX: Final[Json] = {"disabled_reason": None, "enabled": False, "liability": None}
NO_ADDRESS: Final[Json] = dict.fromkeys(("city", "country", "line1", "line2", "postal_code", "state"))
