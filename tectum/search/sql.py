"""Filters as SQL."""

from __future__ import annotations

from tectum.search.store import And, Equal, Filter, In, Not, Or, Value


def to_sql(where: Filter) -> str:
    """A filter as LanceDB's SQL.

    >>> to_sql(And((Equal("kind", "image"), Not(In("name", frozenset({"it's"}))))))
    "((`kind` = 'image') AND (NOT (`name` IN ('it''s'))))"
    """
    if isinstance(where, And | Or):
        if not where.parts:
            return "true" if isinstance(where, And) else "false"
        return f"({(' AND ' if isinstance(where, And) else ' OR ').join(to_sql(part) for part in where.parts)})"
    if isinstance(where, Not):
        return f"(NOT {to_sql(where.part)})"
    if isinstance(where, In):
        return f"(`{where.field}` IN ({', '.join(map(_literal, sorted(where.values)))}))" if where.values else "false"
    return f"(`{where.field}` {'=' if isinstance(where, Equal) else '<'} {_literal(where.value)})"


def _literal(value: Value) -> str:
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return repr(value)
