"""SCIM filters (RFC 7644 §3.4.2.2) as conditions over `lms.learners`. Values are always bound."""

import operator
from collections.abc import Callable
from typing import Any

from scim2_models import InvalidFilterException
from scim2_models.path import (
    AttrPath,
    CompareOperator,
    Comparison,
    FilterVisitor,
    LogicalExpr,
    LogicalOperator,
    Not,
    Present,
    ValuePath,
)
from sqlalchemy import ColumnElement, Text, and_, cast, false, func, not_, or_, true

from worker.models import learners

Condition = ColumnElement[bool]

_COLUMNS: dict[str, ColumnElement[Any]] = {
    "username": func.coalesce(learners.c.email, learners.c.external_id),
    "externalid": learners.c.external_id,
    "id": cast(learners.c.id, Text),
    "displayname": learners.c.display_name,
}
_CASE_EXACT = {"externalid", "id"}
_TESTS: dict[CompareOperator, Callable[[ColumnElement[Any], ColumnElement[Any]], ColumnElement[Any]]] = {
    CompareOperator.eq: operator.eq,
    CompareOperator.ne: lambda column, value: column.is_distinct_from(value),
    CompareOperator.co: lambda column, value: func.strpos(column, value) > 0,
    CompareOperator.sw: func.starts_with,
    CompareOperator.ew: lambda column, value: func.right(column, func.length(value)) == value,
}


class Conditions(FilterVisitor[Condition]):
    """Turns a parsed filter into SQL.

    Raises:
        InvalidFilterException: the filter compares what is not stored, or compares it in another way.
    """

    def visit_logical_expr(self, node: LogicalExpr) -> Condition:
        terms = [self.visit(term) for term in node.terms]
        return and_(*terms) if node.op == LogicalOperator.and_ else or_(*terms)

    def visit_not(self, node: Not) -> Condition:
        return not_(func.coalesce(self.visit(node.expr), false()))  # an absent value matches nothing

    def visit_present(self, node: Present) -> Condition:
        name = _stored(node.attr_path)
        return true() if name == "active" else func.nullif(_COLUMNS[name], "").is_not(None)

    def visit_comparison(self, node: Comparison) -> Condition:
        name = _stored(node.attr_path)
        if name == "active":
            return _active(node)
        if node.op not in _TESTS:
            raise InvalidFilterException(detail=f"{node.op.value} is not supported for {node.attr_path}")
        if not isinstance(node.value, str) or not is_storable(node.value):
            raise InvalidFilterException(detail=f"{node.attr_path} must be compared with text")
        column, value = _COLUMNS[name], cast(node.value, Text)
        operands = (column, value) if name in _CASE_EXACT else (func.lower(column), func.lower(value))
        return _TESTS[node.op](*operands)

    def visit_value_path(self, node: ValuePath) -> Condition:
        raise InvalidFilterException(detail="filters over parts of attributes are not supported")


def is_storable(text: str) -> bool:
    """Whether PostgreSQL can hold a text: no NUL and no half of a surrogate pair."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def _stored(path: AttrPath) -> str:
    name = path.attr.lower()
    if path.sub_attr is not None or name not in {*_COLUMNS, "active"}:
        raise InvalidFilterException(detail=f"{path}: users cannot be filtered by this attribute")
    return name


def _active(node: Comparison) -> Condition:
    wanted = {"true": True, "false": False}.get(str(node.value).lower())
    if wanted is None or node.op not in (CompareOperator.eq, CompareOperator.ne):
        raise InvalidFilterException(detail="active must be compared with true or false, by eq or ne")
    return learners.c.active.is_(wanted is (node.op == CompareOperator.eq))
