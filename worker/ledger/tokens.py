"""Bearer tokens: who may call over HTTP."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from worker.records import Role


@dataclass(frozen=True, slots=True)
class Token:
    """A token without its secret."""

    id: int
    organisation_id: int
    name: str
    role: Role
    created_at: datetime
    created_by: str
    last_used_at: datetime | None
    revoked_at: datetime | None


_COLUMNS = "id, organisation_id, name, role, created_at, created_by, last_used_at, revoked_at"
_INSERT = text(f"""
INSERT INTO withdrawals.tokens (organisation_id, name, role, selector, hash, created_by)
VALUES (:organisation_id, :name, :role, :selector, :hash, :created_by)
ON CONFLICT (organisation_id, lower(name)) WHERE revoked_at IS NULL DO NOTHING
RETURNING {_COLUMNS}
""")


def insert(
    connection: Connection,
    *,
    organisation_id: int,
    name: str,
    role: Role,
    selector: str,
    hash_: bytes,
    created_by: str,
) -> Token | None:
    """Keep a new token; None when a live one of the organisation has this name."""
    values = {"organisation_id": organisation_id, "name": name, "role": role, "selector": selector, "hash": hash_}
    row = connection.execute(_INSERT, {**values, "created_by": created_by}).mappings().one_or_none()
    return _token(**row) if row else None


_FIND = text(f"SELECT {_COLUMNS}, hash FROM withdrawals.tokens WHERE selector = :selector AND revoked_at IS NULL")


def find(connection: Connection, selector: str) -> tuple[Token, bytes] | None:
    """The live token of a selector, with the hash of its secret."""
    row = connection.execute(_FIND, {"selector": selector}).mappings().one_or_none()
    if row is None:
        return None
    values = dict(row)
    hash_ = bytes(values.pop("hash"))
    return _token(**values), hash_


_LIVE = text("SELECT id FROM withdrawals.tokens WHERE id = ANY(:ids) AND revoked_at IS NULL")


def live(connection: Connection, token_ids: Sequence[int]) -> set[int]:
    """Those of the tokens that are not revoked."""
    return set(connection.scalars(_LIVE, {"ids": list(token_ids)}))


_USED = text("""
UPDATE withdrawals.tokens SET last_used_at = now()
WHERE id = :id AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute')
""")


def used(connection: Connection, token_id: int) -> None:
    """Record a use, at most once a minute."""
    connection.execute(_USED, {"id": token_id})


_LIST = text(f"SELECT {_COLUMNS} FROM withdrawals.tokens WHERE organisation_id = :organisation_id ORDER BY id DESC")


def list_tokens(connection: Connection, organisation_id: int) -> list[Token]:
    """Every token of an organisation, revoked ones included, newest first."""
    return [_token(**row) for row in connection.execute(_LIST, {"organisation_id": organisation_id}).mappings()]


_REVOKE = text(f"""
UPDATE withdrawals.tokens SET revoked_at = coalesce(revoked_at, now())
WHERE id = :id AND organisation_id = :organisation_id RETURNING {_COLUMNS}
""")


def revoke(connection: Connection, organisation_id: int, token_id: int) -> Token | None:
    """End a token at once; None when there is none of this id."""
    parameters = {"id": token_id, "organisation_id": organisation_id}
    row = connection.execute(_REVOKE, parameters).mappings().one_or_none()
    return _token(**row) if row else None


def _token(**values: object) -> Token:
    return Token(**{**values, "role": Role(str(values["role"]))})  # type: ignore[arg-type]
