"""HR sources: who may send events of an organisation's people, and what is done with a deactivation."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, text


@dataclass(frozen=True, slots=True)
class Source:
    """An HR system that sends events; without its secrets."""

    id: int
    organisation_id: int
    name: str
    kind: str
    on_deactivate: str
    grace_hours: int
    created_at: datetime
    created_by: str
    previous_until: datetime | None
    """Until then the secret before the last rotation is good as well."""
    disabled_at: datetime | None


@dataclass(frozen=True, slots=True)
class Policy:
    """What a source's deactivations do: `withdraw`, `hold` for a second person, or `ignore`; after a grace period."""

    on_deactivate: str = "withdraw"
    grace: timedelta = timedelta(0)


_SOURCE = """id, organisation_id, name, kind, on_deactivate, grace_hours, created_at, created_by,
    CASE WHEN previous_until > now() THEN previous_until END AS previous_until, disabled_at"""
_INSERT = text(f"""
INSERT INTO withdrawals.sources (organisation_id, name, kind, on_deactivate, grace_hours, secret, created_by)
VALUES (:organisation_id, :name, :kind, :on_deactivate, :grace_hours, :secret, :created_by)
ON CONFLICT (organisation_id, name) WHERE disabled_at IS NULL DO NOTHING
RETURNING {_SOURCE}
""")


def insert(connection: Connection, **values: Any) -> Source | None:
    """A new source, its secret sealed; None when a live one of the organisation has this name."""
    row = connection.execute(_INSERT, values).mappings().one_or_none()
    return Source(**row) if row else None


_LIST = text(f"SELECT {_SOURCE} FROM withdrawals.sources WHERE organisation_id = :organisation_id ORDER BY id DESC")


def list_sources(connection: Connection, organisation_id: int) -> list[Source]:
    """Every source of an organisation, disabled ones included, newest first."""
    return [Source(**row) for row in connection.execute(_LIST, {"organisation_id": organisation_id}).mappings()]


_CANDIDATES = text(f"""
SELECT {_SOURCE}, secret, CASE WHEN previous_until > now() THEN previous_secret END AS previous_secret
FROM withdrawals.sources
WHERE disabled_at IS NULL AND kind = :kind AND (name = :called OR id::text = :called) ORDER BY id
""")


def candidates(connection: Connection, kind: str, called: str) -> list[tuple[Source, list[str]]]:
    """Live sources of a name (or number) over all organisations, each with its one or two sealed secrets."""
    found = []
    for row in connection.execute(_CANDIDATES, {"kind": kind, "called": called}).mappings():
        values = dict(row)
        secrets = [values.pop("secret"), values.pop("previous_secret")]
        found.append((Source(**values), [secret for secret in secrets if secret is not None]))
    return found


_SECRETS = text("""
SELECT id, secret, previous_secret FROM withdrawals.sources
WHERE organisation_id = :organisation_id AND id = :id AND disabled_at IS NULL FOR UPDATE
""")
_ROTATE = text(f"""
UPDATE withdrawals.sources SET previous_secret = secret, previous_until = now() + :keep, secret = :secret
WHERE id = :id RETURNING {_SOURCE}
""")


def rotate(
    connection: Connection, organisation_id: int, source_id: int, *, secret: str, keep: timedelta
) -> Source | None:
    """Give a live source a new sealed secret; the one before stays good for `keep`. None: there is no such source."""
    row = connection.execute(_SECRETS, {"organisation_id": organisation_id, "id": source_id}).one_or_none()
    if row is None:
        return None
    if row.secret == secret:  # the answer to the first commit was lost
        return next(source for source in list_sources(connection, organisation_id) if source.id == source_id)
    rotated = connection.execute(_ROTATE, {"id": source_id, "secret": secret, "keep": keep}).mappings().one()
    return Source(**rotated)


_DISABLE = text(f"""
UPDATE withdrawals.sources SET disabled_at = coalesce(disabled_at, now())
WHERE id = :id AND organisation_id = :organisation_id RETURNING {_SOURCE}
""")


def disable(connection: Connection, organisation_id: int, source_id: int) -> Source | None:
    """Accept nothing of a source any more; None when there is none of this id."""
    parameters = {"id": source_id, "organisation_id": organisation_id}
    row = connection.execute(_DISABLE, parameters).mappings().one_or_none()
    return Source(**row) if row else None


_POLICY = text("""
SELECT on_deactivate, grace_hours FROM withdrawals.sources
WHERE organisation_id = :organisation_id AND name = :name ORDER BY disabled_at IS NULL DESC, id DESC LIMIT 1
""")


def policy(connection: Connection, organisation_id: int, name: str) -> Policy:
    """What the deactivations of a source do; of one that is no HR source (`scim`, `cli`): withdraw at once."""
    row = connection.execute(_POLICY, {"organisation_id": organisation_id, "name": name}).one_or_none()
    return Policy(row.on_deactivate, timedelta(hours=row.grace_hours)) if row else Policy()
