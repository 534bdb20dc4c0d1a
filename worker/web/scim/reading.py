"""How strictly a body is read before the library sees it: each attribute once, `active` as a boolean, text that fits.

The library takes `0` and "no" for false, does not look at a value that equals the present one (`0 == False`), takes the
last of two spellings of an attribute, and ignores a path to a part of `active`. None of these may withdraw anybody, or
look like a deactivation that was done.
"""

from typing import Any

from scim2_models import InvalidPathException, InvalidSyntaxException, InvalidValueException

from worker.web.scim.errors import USER
from worker.web.scim.filtering import is_storable

_PREFIX = USER.lower()
_LONGEST = {"username": 320, "externalid": 255, "displayname": 1000}
"""Characters of an attribute."""
_LONGEST_PATH = 500


def attributes(given: dict[str, Any], *, inside: bool = False) -> dict[str, Any]:
    """The attributes of a body by name in small letters, without the schema's prefix.

    The name of the schema may contain attributes, but not `inside` itself.

    Raises:
        SCIMException: an attribute is given twice, `active` is not a boolean, or an operation of a PATCH is wrong.
    """
    found: dict[str, Any] = {}
    for name, value in given.items():
        read = _attribute(_short(name), value, inside=inside)
        if found.keys() & read.keys():
            raise InvalidSyntaxException(detail=f"{name[:40]}: is given twice")
        found |= read
    return found


def _attribute(name: str, value: Any, *, inside: bool) -> dict[str, Any]:
    if name == _PREFIX:
        return attributes(value, inside=True) if isinstance(value, dict) and not inside else {}
    if name == "operations" and isinstance(value, list):
        return {name: [_operation(operation) for operation in value]}
    return {name: _value(name, value)}


def _operation(given: Any) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise InvalidSyntaxException(detail="Operations: each must be an object")
    if any(_short(name) == "operations" for name in given):  # else the depth of a body would be the depth of the stack
        raise InvalidSyntaxException(detail="Operations: an operation has none of its own")
    operation = attributes(given)
    verb, path = str(operation.get("op")).lower(), operation.get("path") or ""
    if verb not in ("add", "replace", "remove"):
        raise InvalidSyntaxException(detail="op: must be add, replace or remove")
    if not isinstance(path, str) or len(path) > _LONGEST_PATH:
        raise InvalidPathException(detail=f"path: must be text of at most {_LONGEST_PATH} characters")
    target = _short(path)
    if verb == "remove":
        operation.pop("value", None)  # Entra ID sends one for attributes that are not stored here
        if target in ("active", "username"):
            raise InvalidValueException(detail=f"{path}: cannot be removed")
    elif target in ("", _PREFIX) and isinstance(operation.get("value"), dict):
        operation |= {"path": None, "value": attributes(operation["value"], inside=target == _PREFIX)}
    elif "value" in operation:
        operation["value"] = _value(target, operation["value"])
    return operation


def _value(name: str, value: Any) -> Any:
    if name.startswith(("active[", "active.")):
        raise InvalidPathException(detail="active: has no parts")
    if name == "active":
        return _boolean(value)
    if value is None or (name == "displayname" and value == ""):
        return None
    return _text(name, value) if name in _LONGEST else value


def _short(name: str) -> str:
    """A name as it is looked up. The library also takes spaces around a path, and `user_name` for `userName`."""
    return name.strip().lower().replace("_", "").removeprefix(f"{_PREFIX}:")


def _boolean(value: Any) -> bool:
    """`true` or `false`, in JSON or as text in any case (Entra ID sends "False"); anything else is refused."""
    if isinstance(value, list) and len(value) == 1:  # Entra ID sometimes wraps a single value
        value = value[0].get("value") if isinstance(value[0], dict) else value[0]
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if not isinstance(value, bool):
        raise InvalidValueException(detail="active: must be true or false")
    return value


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > _LONGEST[name]:
        raise InvalidValueException(detail=f"{name}: must be text of 1 to {_LONGEST[name]} characters")
    if not is_storable(value):
        raise InvalidValueException(detail=f"{name}: contains a character that cannot be stored")
    return value  # as it was sent: without the space at its end, an id would be another person's
