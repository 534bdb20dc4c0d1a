"""Bearer tokens: created, shown once, stored as a hash, compared in constant time, revoked."""

import hashlib
import hmac
import re
import secrets
import unicodedata
from dataclasses import dataclass

import structlog
from sqlalchemy import Connection

from schemas.catalogue import Role
from worker.database import Database
from worker.errors import ConflictError, InvalidInputError, NotFoundError, unknown_value
from worker.ledger import jobs, tokens
from worker.ledger.tokens import Token

log = structlog.get_logger(__name__)

PREFIX = "wdt"
"""Every token starts with it, so that scanners for leaked secrets recognise one."""
_TOKEN = re.compile(rf"{PREFIX}_([0-9a-f]{{16}})_([A-Za-z0-9_-]{{43}})")


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token with its secret, which is stored nowhere and cannot be shown again."""

    token: Token
    secret: str


def create(database: Database, *, organisation_id: int, name: str, role: str, actor: str) -> NewToken:
    """Create a token of an organisation.

    Raises:
        InvalidInputError: the name is empty, too long or not printable, or the role is unknown.
        ConflictError: a live token has this name.
    """
    name = unicodedata.normalize("NFKC", name).strip()  # no two look alike: nobody can pass for another person
    if not name or len(name) > 100 or not name.isprintable():
        raise InvalidInputError("name: must have 1 to 100 printable characters")
    if role not in list(Role):
        raise unknown_value("role", role, Role)
    selector, secret = secrets.token_hex(8), secrets.token_urlsafe(32)

    def work(connection: Connection) -> Token:
        made = tokens.insert_token(
            connection,
            organisation_id=organisation_id,
            name=name,
            role=Role(role),
            selector=selector,
            hash_=_hash(secret),
            created_by=actor,
        )
        if made is None:
            known = tokens.find(connection, selector)
            if known is not None:  # the answer to the first commit was lost
                return known[0]
            raise ConflictError(f"name: a token {name!r} exists. Revoke it first, or choose another name.")
        jobs.audit(connection, organisation_id=organisation_id, actor=actor, action="token.create")
        return made

    token = database.run(work)
    log.info("token.created", token_id=token.id, organisation_id=organisation_id, role=role)
    return NewToken(token, f"{PREFIX}_{selector}_{secret}")


def revoke(database: Database, *, organisation_id: int, token_id: int, actor: str) -> Token:
    """Revoke a token: it ends at once. Repeating it changes nothing.

    Raises:
        NotFoundError: there is no such token in this organisation.
    """

    def work(connection: Connection) -> Token:
        token = tokens.revoke(connection, organisation_id, token_id)
        if token is None:
            raise NotFoundError(f"there is no token {token_id} in this organisation")
        jobs.audit(connection, organisation_id=organisation_id, actor=actor, action="token.revoke")
        return token

    token = database.run(work)
    log.info("token.revoked", token_id=token_id, organisation_id=organisation_id)
    return token


def list_tokens(database: Database, *, organisation_id: int) -> list[Token]:
    """Every token of an organisation, newest first, without secrets."""
    with database.begin() as connection:
        return tokens.list_tokens(connection, organisation_id)


def authenticate(database: Database, presented: str) -> Token | None:
    """The live token that was presented; None whatever is wrong with it."""
    found = _TOKEN.fullmatch(presented)
    if found is None:
        return None
    selector, secret = found.groups()
    with database.begin() as connection:
        known = tokens.find(connection, selector)
        if known is None or not hmac.compare_digest(known[1], _hash(secret)):
            return None
        tokens.record_use(connection, known[0].id)
    return known[0]


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
