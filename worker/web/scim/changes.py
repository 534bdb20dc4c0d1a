"""What a request makes of a user: POST, PUT, and PATCH in the dialects of Okta and Entra ID.

Attributes that are not kept here are accepted and left alone (RFC 7644 §3.3 lets a service ignore them): Entra ID
sends many. `active` is compared with True and False, never by truth: an empty value must not withdraw anybody.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from scim2_models import (
    InvalidPathException,
    InvalidSyntaxException,
    InvalidValueException,
    MutabilityException,
    NoTargetException,
    Path,
)

from worker.people.scim_users import Account
from worker.web.scim.filtering import USER

LONGEST = {"username": 320, "externalid": 255, "displayname": 1000}
_READ_ONLY = {"id", "meta"}
Change = Callable[[Account], Account]


def created(body: dict[str, Any]) -> Account:
    """The user that a POST asks for; without `externalId` the `userName` is it.

    Raises:
        SCIMException: an attribute is missing or wrong.
    """
    given = _attributes(body)
    if "username" not in given:
        raise InvalidValueException(detail="userName: is required")
    name = _text("username", given["username"])
    external_id = given.get("externalid")
    return Account(
        user_name=name,
        external_id=name[:255] if external_id is None else _text("externalid", external_id),
        display_name=_optional("displayname", given.get("displayname")),
        active=_boolean(given["active"]) if "active" in given else True,
    )


def replaced(body: dict[str, Any]) -> Change:
    """What a PUT asks for: `active` and `externalId` stay as they are when they are not given.

    Raises:
        SCIMException: an attribute is missing or wrong.
    """
    given = _attributes(body)
    if "username" not in given:
        raise InvalidValueException(detail="userName: is required")
    changes: dict[str, Any] = {
        "user_name": _text("username", given["username"]),
        "display_name": _optional("displayname", given.get("displayname")),
    }
    if "active" in given:
        changes["active"] = _boolean(given["active"])
    if given.get("externalid") is not None:
        changes["external_id"] = _text("externalid", given["externalid"])
    return lambda account: replace(account, **changes)


def patched(body: dict[str, Any]) -> Change:
    """What a PATCH asks for, its operations one after the other, all or nothing.

    Raises:
        SCIMException: an operation cannot be done.
    """
    given = _attributes(body)
    operations = given.get("operations")
    if not isinstance(operations, list) or not operations:
        raise InvalidSyntaxException(detail="Operations: a list of at least one is needed")
    changes = [change for operation in operations for change in _operation(operation)]

    def change_all(account: Account) -> Account:
        for change in changes:
            account = change(account)
        return account

    return change_all


def _operation(operation: Any) -> list[Change]:
    if not isinstance(operation, dict):
        raise InvalidSyntaxException(detail="Operations: each is an object")
    given = _attributes(operation)
    name = str(given.get("op", "")).lower()
    if name not in ("add", "replace", "remove"):
        raise InvalidSyntaxException(detail="op: is add, replace or remove")
    path = given.get("path")
    if path is None or path == "":
        if name == "remove":
            raise NoTargetException(detail="path: a remove needs one")
        if not isinstance(given.get("value"), dict):
            raise InvalidValueException(detail="value: without a path it is an object of attributes")
        return [change for key, value in _attributes(given["value"]).items() for change in _set(_target(key), value)]
    target = _target(path)
    if name == "remove":
        return _remove(target)
    if "value" not in given:
        raise InvalidValueException(detail=f"value: is needed to {name}")
    return _set(target, given["value"])


def _set(target: str, value: Any) -> list[Change]:
    if target in _READ_ONLY:
        raise MutabilityException(detail=f"{target}: cannot be written")
    if target == "active":
        return [partial(_with, active=_boolean(value))]
    if target == "username":
        return [partial(_with, user_name=_text(target, value))]
    if target == "externalid":
        return [partial(_with, external_id=_text(target, value))]
    if target == "displayname":
        return [partial(_with, display_name=_optional(target, value))]
    if target == USER and isinstance(value, dict):  # the schema as a container of its attributes; not in itself
        return [
            change for key, item in _attributes(value).items() for change in _set(_target(key).removeprefix(USER), item)
        ]
    return []


def _remove(target: str) -> list[Change]:
    if target in ("active", "username"):
        raise InvalidValueException(detail=f"{target}: cannot be removed")
    if target in _READ_ONLY or target == "externalid":
        raise MutabilityException(detail=f"{target}: cannot be removed")
    return [partial(_with, display_name=None)] if target == "displayname" else []


def _with(account: Account, **changes: Any) -> Account:
    return replace(account, **changes)


def _target(path: Any) -> str:
    """The attribute of a path, or the schema itself, in small letters; empty for one that is not kept here."""
    if not isinstance(path, str) or len(path) > 500:
        raise InvalidPathException(detail="path: is text")
    found = Path[Any](path)  # raises InvalidPathException
    name = str(found).lower().removeprefix(f"{USER}:")
    if name.startswith(("active[", "active.")):  # passed over, it would look like a deactivation that was done
        raise InvalidPathException(detail="path: active has no parts")
    return name if name.isalpha() or name == USER else ""


def _attributes(value: dict[str, Any]) -> dict[str, Any]:
    """By name in small letters (RFC 7643 §2.1), without the schema's prefix."""
    found: dict[str, Any] = {}
    for name, item in value.items():
        key = name.lower().removeprefix(f"{USER}:")
        if key in found:
            raise InvalidSyntaxException(detail=f"{name[:40]}: stands there twice")
        found[key] = item
    return found


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > LONGEST[name]:
        raise InvalidValueException(detail=f"{name}: 1 to {LONGEST[name]} characters of text")
    if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise InvalidValueException(detail=f"{name}: has a character that cannot be kept")
    return value.strip()


def _optional(name: str, value: Any) -> str | None:
    return None if value is None or value == "" else _text(name, value)


def _boolean(value: Any) -> bool:
    """`true` and `false`, as JSON has them or as text in any case (Entra ID sends "False"); nothing else is."""
    if isinstance(value, list) and len(value) == 1:  # Entra ID wraps single values at times
        value = value[0].get("value") if isinstance(value[0], dict) else value[0]
    if value is True or value is False:
        return bool(value)
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise InvalidValueException(detail="active: is true or false")
