"""Bearer tokens: created, shown once, stored as a hash, compared in constant time, revoked."""

import hashlib
import hmac
import json
import re
import secrets
import unicodedata
from dataclasses import dataclass
from typing import Any, Literal

import structlog
from sqlalchemy import Connection

from schemas.approvals import Approval
from schemas.catalogue import GuardedAct, Role
from worker.access import last_used
from worker.access.approvals import Wanted, ask_if_needed, is_limited, needed, requester
from worker.access.memory import NEEDS_DATABASE, Memory, NeedsDatabase, forget_all
from worker.access.persons import Actor, member_actor
from worker.database import Database
from worker.errors import ConflictError, InvalidInputError, NotFoundError, SecondPersonNeededError, unknown_value
from worker.ledger import approvals, jobs, members, tokens
from worker.ledger.approvals import AskedFor
from worker.ledger.members import Member
from worker.ledger.tokens import Token
from worker.texts import text

log = structlog.get_logger(__name__)

PREFIX = "wdt"
"""Every token starts with it, so that scanners for leaked secrets recognise one."""
_TOKEN = re.compile(rf"{PREFIX}_([0-9a-f]{{16}})_([A-Za-z0-9_-]{{43}})")

HIGH_ROLES = (Role.APPROVER, Role.OWNER)
"""Tokens of these roles may need a second person."""

_memory: Memory[str, tuple[Token, bytes]] = Memory()
"""Live tokens by selector, with the hashes of their secrets."""


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token with its secret, which is stored nowhere and cannot be shown again."""

    token: Token
    secret: str


def create(
    database: Database,
    *,
    organisation_id: int,
    name: str,
    role: str,
    actor: str,
    member_id: int | None = None,
    made_by: str | None = None,
    note: str | None = None,
) -> NewToken:
    """Create a token of an organisation. `member_id`: who will use it, if that is a member.

    A token of a member counts as that member wherever a second person is needed. `made_by`: who created the actor's.
    `note`: why it is needed, for whoever has to approve it.

    Raises:
        InvalidInputError: the name is empty, too long or not printable, the role is unknown, or the member is another.
        ConflictError: a live token has this name.
        NotFoundError: the organisation has no such member.
        TokenWaitsError: the policies let nobody create it alone; its secret works once somebody has approved it.
    """
    name = unicodedata.normalize("NFKC", name).strip()  # no two look alike: nobody can pass for another person
    if not name or len(name) > 100 or not name.isprintable():
        raise InvalidInputError(text("name: must have 1 to 100 printable characters"))
    if role not in list(Role):
        raise unknown_value("role", role, Role)
    selector, secret = secrets.token_hex(8), secrets.token_urlsafe(32)

    def work(connection: Connection) -> Token | Approval:
        who = Actor(actor, made_by)
        of = None if member_id is None else _member(connection, organisation_id, member_id, who)
        new = {"name": name, "role": role, "selector": selector, "hash": _hash(secret).hex(), "of": of}
        if note:
            new["note"] = note
        asked = _ask_if_limited(connection, organisation_id, new, who)
        return asked or _insert(connection, organisation_id, new, who)

    token, shown = database.run(work), f"{PREFIX}_{selector}_{secret}"
    if isinstance(token, Approval):
        raise TokenWaitsError(needed(token), shown)
    log.info("token.created", token_id=token.id, organisation_id=organisation_id, role=role)
    return NewToken(token, shown)


class TokenWaitsError(SecondPersonNeededError):
    """The token waits as an approval. `secret` is shown only now, and works once it is approved."""

    def __init__(self, needed: SecondPersonNeededError, secret: str) -> None:
        super().__init__(str(needed), approval=needed.more["approval"])
        self.secret = secret


def create_approved(connection: Connection, organisation_id: int, asked: AskedFor, _: Actor) -> None:
    """Let a token work whose secret its requester has.

    Raises:
        ConflictError: a live token has this name by now.
    """
    _insert(connection, organisation_id, asked.arguments, requester(asked))


def _ask_if_limited(
    connection: Connection, organisation_id: int, new: dict[str, Any], who: Actor
) -> Approval | None:  # fmt: skip
    """The approval that a token of a high role waits for; None: the actor may create it alone."""
    if Role(new["role"]) not in HIGH_ROLES or not is_limited(connection, organisation_id, GuardedAct.TOKEN):
        return None
    jobs.lock_settings(connection, organisation_id)
    subject = f"token {new['name']}"
    consequence = text(
        "The token works from then on, with the role {role}. Its requester has the secret.", role=new["role"]
    )
    wanted = Wanted(GuardedAct.TOKEN, subject, consequence, new, new.get("note"))
    asked = ask_if_needed(connection, organisation_id, wanted, who)
    found = asked and approvals.find(connection, organisation_id, asked.id)
    if found and found.arguments["selector"] != new["selector"]:  # else the answer to the first commit was lost
        raise ConflictError(
            text(
                "name: approval {approval_id} waits for a token {name!r} already.",
                approval_id=found.approval.id,
                name=new["name"],
            )
        )
    return asked


def _insert(connection: Connection, organisation_id: int, new: dict[str, Any], who: Actor) -> Token:
    of, name, role = new["of"], new["name"], new["role"]
    made = tokens.insert_token(
        connection,
        organisation_id=organisation_id,
        name=name,
        role=Role(role),
        selector=new["selector"],
        hash_=bytes.fromhex(new["hash"]),
        created_by=of or who.maker,
    )
    if made is None:
        known = tokens.find(connection, new["selector"])
        if known is not None:  # the answer to the first commit was lost
            return known[0]
        raise ConflictError(text("name: a token {name!r} exists. Revoke it first, or choose another name.", name=name))
    detail = json.dumps({"name": name, "role": role, **({"of": of} if of else {})})
    jobs.audit(
        connection,
        organisation_id=organisation_id,
        actor=who.name,
        action="token.create",
        note=new.get("note"),
        detail=detail,
    )
    return made


def _member(connection: Connection, organisation_id: int, member_id: int, who: Actor) -> str:
    found = members.find(connection, organisation_id, member_id)
    if found is None:
        raise NotFoundError(text("there is no member {member_id} in this organisation", member_id=member_id))
    if not may_make_for(found, who):
        raise InvalidInputError(
            text(
                "member_id: you see the token that you make, so that it cannot count as somebody else. Only "
                "`withdrawals tokens create --member` makes one for another member."
            )
        )
    return member_actor(found.name, found.id)


def may_make_for(member: Member, who: Actor) -> bool:
    """Whether somebody may make a token that counts as a member: over HTTP and in the console only for themselves."""
    is_at_a_door = who.name.startswith(("token:", "person:"))
    return not is_at_a_door or who.is_known_to_be(Actor(member_actor(member.name, member.id)))


def revoke(database: Database, *, organisation_id: int, token_id: int, actor: str) -> Token:
    """Revoke a token: it ends at once. Repeating it changes nothing.

    Raises:
        NotFoundError: there is no such token in this organisation.
    """

    def work(connection: Connection) -> Token:
        token = tokens.revoke(connection, organisation_id, token_id)
        if token is None:
            raise NotFoundError(text("there is no token {token_id} in this organisation", token_id=token_id))
        detail = json.dumps({"name": token.name, "id": token.id})
        jobs.audit(connection, organisation_id=organisation_id, actor=actor, action="token.revoke", detail=detail)
        return token

    token = database.run(work)
    forget_all()
    log.info("token.revoked", token_id=token_id, organisation_id=organisation_id)
    return token


def list_tokens(database: Database, *, organisation_id: int) -> list[Token]:
    """Every token of an organisation, newest first, without secrets."""
    with database.begin() as connection:
        return tokens.list_tokens(connection, organisation_id)


def authenticate(database: Database, presented: str) -> Token | None:
    """The live token that was presented; None whatever is wrong with it."""
    parts = _split(presented)
    if parts is None:
        return None
    selector, secret = parts
    known = _memory.find(database, selector, lambda connection: tokens.find(connection, selector))
    return _check(database, known, secret) if known else None


def recall(database: Database, presented: str) -> Token | Literal[NeedsDatabase.NEEDS_DATABASE] | None:
    """As `authenticate`, from memory alone: for callers that must not wait for the database."""
    parts = _split(presented)
    if parts is None:
        return None
    known = _memory.recall(database, parts[0])
    return _check(database, known, parts[1]) if known else NEEDS_DATABASE


def _split(presented: str) -> tuple[str, str] | None:
    """Selector and secret."""
    found = _TOKEN.fullmatch(presented)
    return (found[1], found[2]) if found else None


def _check(database: Database, known: tuple[Token, bytes], secret: str) -> Token | None:
    token, hash_ = known
    if not hmac.compare_digest(hash_, _hash(secret)):
        return None
    last_used.note(database, tokens.record_uses, token.id)
    return token


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
