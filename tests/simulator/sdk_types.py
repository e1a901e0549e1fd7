"""Checks an event field by field against the type annotations of the pinned Stripe SDK.

What the SDK declares without ``Optional`` must be there; what is there must be declared and of the declared type.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import sys
import typing
from functools import cache
from types import ModuleType
from typing import Any, Union, get_args, get_origin

import stripe
from stripe import StripeObject

Json = dict[str, Any]

_INHERITED = frozenset({"deleted"})


@cache
def _all_classes() -> tuple[type, ...]:
    """Return every class of the SDK."""
    found: dict[type, None] = {}
    for module in pkgutil.walk_packages(stripe.__path__, "stripe."):
        if ".params" in module.name or ".events" in module.name:
            continue
        try:
            loaded = importlib.import_module(module.name)
        except ImportError:  # an optional HTTP library is not installed
            continue
        found |= dict.fromkeys(value for value in vars(loaded).values() if isinstance(value, type))
    return tuple(found)


@cache
def _namespace() -> Json:
    """Return the classes by their names: the annotations of one module name those of others."""
    return {one.__name__: one for one in reversed(_all_classes())}


@cache
def _classes() -> dict[str, type]:
    """Return the class of each kind of object."""
    kinds = ((getattr(one, "OBJECT_NAME", None), one) for one in reversed(_all_classes()))
    return {name: one for name, one in kinds if isinstance(name, str) and issubclass(one, StripeObject)}


@cache
def _hints(declared: type) -> Json:
    """Return a class's fields with their types, resolved among the SDK's own classes."""
    module = sys.modules[declared.__module__]
    scope: Json = {**_namespace(), **vars(module), **_imported_for_types(module)}
    for part in _path(declared):
        scope |= {name: value for name, value in vars(part).items() if isinstance(value, type)}
    found = typing.get_type_hints(declared, globalns=scope, localns=scope)
    return {
        name: hint
        for name, hint in found.items()
        if not name.startswith("_") and get_origin(hint) is not typing.ClassVar
    }


def _imported_for_types(module: ModuleType) -> Json:
    """Return what a module imports for its annotations alone, under the names it uses."""
    found: Json = {}
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("stripe"):
            for name in node.names:
                value = getattr(importlib.import_module(node.module), name.name, None)
                if isinstance(value, type):
                    found[name.asname or name.name] = value
    return found


def _path(declared: type) -> list[type]:
    """Return the classes a nested class stands in, and itself."""
    scope: Any = sys.modules[declared.__module__]
    found = []
    for name in declared.__qualname__.split("."):
        scope = getattr(scope, name)
        found.append(scope)
    return found


def fields_of(kind: str) -> frozenset[str]:
    """Return the names of the fields that the SDK declares for a kind of object."""
    return frozenset(_hints(_classes()[kind]))


def violations(event: Json) -> list[str]:
    """Return what in a snapshot event contradicts the pinned SDK's types, a line a finding."""
    found: list[str] = []
    subject = event["data"]["object"]
    _check_object(subject, _classes()[subject["object"]], subject["object"], found)
    strange = set(event["data"].get("previous_attributes", ())) - fields_of(subject["object"])
    found += [f"previous_attributes.{key}: no such field" for key in sorted(strange)]
    envelope = {key: value for key, value in event.items() if key != "data"}
    hints = {name: hint for name, hint in _hints(stripe.Event).items() if name not in {"data", "reason"}}
    _check_fields(envelope, hints, "event", found)
    return found


def _check_object(value: Json, declared: type, path: str, found: list[str]) -> None:
    if value.get("deleted") is True:
        return
    own = _classes().get(str(value.get("object")), declared) if "object" in value else declared
    _check_fields(value, _hints(own), path, found)


def _check_fields(value: Json, hints: Json, path: str, found: list[str]) -> None:
    for name, hint in hints.items():
        if name in value:
            _check(value[name], hint, f"{path}.{name}", found)
        elif type(None) not in get_args(hint) and name not in _INHERITED:
            found.append(f"{path}.{name}: missing")
    found += [f"{path}.{name}: no such field" for name in value if name not in hints]


def _check(value: Any, hint: Any, path: str, found: list[str]) -> None:
    if hint is Any or isinstance(hint, typing.TypeVar):
        return
    origin = get_origin(hint)
    if origin is Union:
        _check_union(value, get_args(hint), path, found)
    elif origin is typing.Literal:
        if value not in get_args(hint):
            found.append(f"{path}: {value!r} is none of {get_args(hint)}")
    elif origin is list:
        _check_list(value, get_args(hint)[0], path, found)
    elif isinstance(origin, type) and issubclass(origin, StripeObject):
        _check_generic(value, origin, get_args(hint), path, found)
    elif isinstance(hint, type) and issubclass(hint, StripeObject):
        if isinstance(value, dict):
            _check_object(value, hint, path, found)
        else:
            found.append(f"{path}: {value!r} is no object")
    else:
        _check_plain(value, hint, path, found)


def _check_union(value: Any, choices: tuple[Any, ...], path: str, found: list[str]) -> None:
    """Accept what one choice accepts; otherwise report the findings of the choice that has fewest."""
    tried: list[list[str]] = []
    for choice in choices:
        own: list[str] = []
        _check(value, choice, path, own)
        if not own:
            return
        tried.append(own)
    fewest: list[str] = min(tried, key=len)
    found += fewest


def _check_list(value: Any, hint: Any, path: str, found: list[str]) -> None:
    if not isinstance(value, list):
        found.append(f"{path}: {value!r} is no list")
        return
    for place, one in enumerate(value):
        _check(one, hint, f"{path}[{place}]", found)


def _check_generic(value: Any, origin: type, of: tuple[Any, ...], path: str, found: list[str]) -> None:
    """Check Stripe's list object, or an object of whatever names with values of one type."""
    if not isinstance(value, dict):
        found.append(f"{path}: {value!r} is no object")
    elif origin.__name__ == "ListObject":
        if value.get("object") != "list" or not isinstance(value.get("has_more"), bool):
            found.append(f"{path}: no list object")
        _check_list(value.get("data"), of[0], f"{path}.data", found)
    else:
        for key, one in value.items():
            _check(one, of[0], f"{path}.{key}", found)


def _check_plain(value: Any, hint: Any, path: str, found: list[str]) -> None:
    if hint is type(None):
        right = value is None
    elif getattr(hint, "__name__", "") == "Decimal":
        right = isinstance(value, str)  # decimals travel as text
    elif hint is float:
        right = isinstance(value, (int, float)) and not isinstance(value, bool)
    elif hint in (int, str, bool):
        right = type(value) is hint
    else:
        right = True
    if not right:
        found.append(f"{path}: {value!r} is no {getattr(hint, '__name__', hint)}")
