"""SCIM filters (RFC 7644 §3.4.2.2) as SQL over learners `l`: names from a short list, values always bound."""

from collections.abc import Callable
from typing import Any

from scim2_models import InvalidFilterException, ScimFilter
from scim2_models.path import AttrPath, Comparison, FilterNode, LogicalExpr, Not, Present

USER = "urn:ietf:params:scim:schemas:core:2.0:user"
LONGEST = 2000
"""Characters of a filter."""

_COLUMNS = {
    "username": "coalesce(l.email, l.external_id)",
    "externalid": "l.external_id",
    "id": "l.id::text",
    "displayname": "l.display_name",
}
_CASE_EXACT = {"externalid", "id"}
_STRING: dict[str, Callable[[str, str], str]] = {
    "eq": lambda column, value: f"coalesce({column} = {value}, false)",
    "ne": lambda column, value: f"coalesce({column} <> {value}, true)",
    "co": lambda column, value: f"coalesce(strpos({column}, {value}) > 0, false)",
    "sw": lambda column, value: f"coalesce(starts_with({column}, {value}), false)",
    "ew": lambda column, value: f"coalesce(right({column}, length({value})) = {value}, false)",
}


def compiled(expression: str | None) -> tuple[str, dict[str, Any]]:
    """A condition and the values it binds; without a filter, everything.

    Raises:
        InvalidFilterException: the filter cannot be read, or asks for what is not kept.
    """
    if expression is None:
        return "true", {}
    if len(expression) > LONGEST or "\0" in expression:
        raise InvalidFilterException(detail=f"a filter may have {LONGEST} plain characters")
    values: dict[str, Any] = {}
    try:
        return _node(ScimFilter[Any](expression).ast, values), values
    except RecursionError:
        raise InvalidFilterException(detail="the filter is nested too deeply") from None


def _node(node: FilterNode, values: dict[str, Any]) -> str:
    match node:
        case LogicalExpr(op=operator, terms=terms):
            return "(" + f" {operator.value} ".join(_node(term, values) for term in terms) + ")"
        case Not(expr=inner):
            return f"(NOT {_node(inner, values)})"
        case Present(attr_path=path):
            name = _name(path)
            return "true" if name == "active" else f"(nullif({_COLUMNS[name]}, '') IS NOT NULL)"
        case Comparison():
            return _comparison(node, values)
    raise InvalidFilterException(detail="filters over parts of attributes are not supported")


def _comparison(node: Comparison, values: dict[str, Any]) -> str:
    name, operator = _name(node.attr_path), node.op.value
    if name == "active":
        return _active(operator, node.value)
    if operator not in _STRING:
        raise InvalidFilterException(detail=f"{operator} is not supported for {node.attr_path.attr}")
    if not isinstance(node.value, str):
        raise InvalidFilterException(detail=f"{node.attr_path.attr} is compared with text")
    if any("\ud800" <= character <= "\udfff" for character in node.value) or "\0" in node.value:
        raise InvalidFilterException(detail="the filter has a character that no value has")
    key = f"value_{len(values)}"
    values[key] = node.value
    column, value = _COLUMNS[name], f"CAST(:{key} AS text)"
    if name not in _CASE_EXACT:
        column, value = f"lower({column})", f"lower({value})"
    return _STRING[operator](column, value)


def _active(operator: str, value: Any) -> str:
    wanted = {"true": True, "false": False}.get(str(value).lower())
    if wanted is None or operator not in ("eq", "ne"):
        raise InvalidFilterException(detail="active is compared with true or false, by eq or ne")
    return "l.active" if wanted is (operator == "eq") else "(NOT l.active)"


def _name(path: AttrPath) -> str:
    name = path.attr.lower()
    if (
        path.sub_attr is not None
        or (name not in _COLUMNS and name != "active")
        or (path.uri is not None and path.uri.lower() != USER)
    ):
        raise InvalidFilterException(detail=f"there is no attribute {path} to filter by")
    return name
