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


_WITH_SECRETS = f"""
SELECT {_SOURCE}, secret, CASE WHEN previous_until > now() THEN previous_secret END AS previous_secret
FROM withdrawals.sources WHERE disabled_at IS NULL"""
_CANDIDATES = text(f"""{_WITH_SECRETS}
    AND kind = :kind AND (name = :called OR id::text = :called) ORDER BY id
""")


def candidates(connection: Connection, kind: str, called: str) -> list[tuple[Source, list[str]]]:
    """Live sources of a name (or number) over all organisations, each with its one or two sealed secrets."""
    rows = connection.execute(_CANDIDATES, {"kind": kind, "called": called}).mappings()
    return [_with_secrets(row) for row in rows]


def _with_secrets(row: Any) -> tuple[Source, list[str]]:
    values = dict(row)
    secrets = [values.pop("secret"), values.pop("previous_secret")]
    return Source(**values), [secret for secret in secrets if secret is not None]


_LIVE = text(f"{_WITH_SECRETS} ORDER BY id")


def live(connection: Connection) -> list[tuple[Source, list[str]]]:
    """Live sources of all organisations, each with its one or two sealed secrets."""
    return [_with_secrets(row) for row in connection.execute(_LIVE).mappings()]


_LOCK = text(f"""
SELECT {_SOURCE}, secret FROM withdrawals.sources
WHERE organisation_id = :organisation_id AND id = :id AND disabled_at IS NULL FOR UPDATE
""")


def lock(connection: Connection, organisation_id: int, source_id: int) -> tuple[Source, str] | None:
    """Lock a live source; with its newest secret, sealed."""
    row = connection.execute(_LOCK, {"organisation_id": organisation_id, "id": source_id}).mappings().one_or_none()
    if row is None:
        return None
    values = dict(row)
    secret = str(values.pop("secret"))
    return Source(**values), secret


_ROTATE = text(f"""
UPDATE withdrawals.sources SET previous_secret = CASE WHEN :keep > interval '0' THEN secret END,
    previous_until = CASE WHEN :keep > interval '0' THEN now() + :keep END, secret = :secret
WHERE id = :id RETURNING {_SOURCE}
""")


def rotate(connection: Connection, source_id: int, *, secret: str, keep: timedelta) -> Source:
    """Give a locked source a new sealed secret; the one before stays good for `keep`, any older one ends."""
    return Source(**connection.execute(_ROTATE, {"id": source_id, "secret": secret, "keep": keep}).mappings().one())


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
