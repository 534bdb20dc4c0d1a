"""The steps of a sign-in with the provider: to it, back from it, into an organisation, and out.

What a sign-in has to remember travels in a sealed cookie of the browser that began it. Another browser has no such
cookie: nobody can be signed in with the answer to somebody else's sign-in.
"""

import json
import secrets
from dataclasses import asdict, dataclass, replace
from hmac import compare_digest

import structlog
from sqlalchemy import Connection

from schemas.catalogue import Role
from worker.access import sessions
from worker.access.memory import forget_all
from worker.access.sealing import Seal
from worker.access.sessions import Limits, MemberSignIn
from worker.config import Settings
from worker.database import Database
from worker.ledger import jobs, members
from worker.ledger import sessions as ledger
from worker.sign_on.errors import NoRoleError, SignInRefusedError
from worker.sign_on.identity import Identity, check_logout_token, identify
from worker.sign_on.provider import Provider
from worker.texts import mark, text

log = structlog.get_logger(__name__)

BEGUN_SECONDS = 600
"""How long somebody may take at the provider."""
CHOOSING_SECONDS = 300
"""How long somebody may take to choose an organisation."""
_CHOICE = "choice"
_AGAIN = text("This sign-in was not begun in this browser, or it has expired. Sign in again.")


@dataclass(frozen=True, slots=True)
class Begun:
    """A sign-in that has begun: where to send the browser, and what it must bring back."""

    url: str
    cookie: str


@dataclass(frozen=True, slots=True)
class Choice:
    """An organisation that somebody may sign in to."""

    organisation_id: int
    organisation: str
    role: Role


@dataclass(frozen=True, slots=True)
class Identified:
    """Somebody who is back from the provider."""

    identity: Identity
    choices: list[Choice]
    next: str

    def into(self, organisation_id: int) -> MemberSignIn | None:
        """The sign-in to one of the organisations; None when it is not among the choices."""
        role = next((one.role for one in self.choices if one.organisation_id == organisation_id), None)
        if role is None:
            return None
        who = self.identity
        return MemberSignIn(organisation_id, who.issuer, who.subject, who.name, who.email, role, who.session)


def begin(provider: Provider, settings: Settings, *, next: str) -> Begun:  # noqa: A002 - a name of the address
    """Begin a sign-in that leads to the page `next`.

    Raises:
        ProviderUnreachableError: the provider does not answer.
    """
    state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
    url = provider.authorization_url(state=state, nonce=nonce, verifier=verifier)
    kept = {"state": state, "nonce": nonce, "verifier": verifier, "next": next}
    return Begun(url, Seal(settings, "sign-in").seal(json.dumps(kept).encode()))


def finish(
    provider: Provider, settings: Settings, database: Database, cookie: str | None, answer: dict[str, str]
) -> Identified:
    """Who is back from the provider, and where they may sign in. `answer`: the query of the redirect.

    Raises:
        SignInRefusedError: the answer does not belong to this browser's sign-in, or signs nobody in.
        NoRoleError: none of the person's groups has a role.
        ProviderUnreachableError: the provider does not answer.
    """
    opened = Seal(settings, "sign-in").open(cookie, within=BEGUN_SECONDS) if cookie else None
    if opened is None:
        raise SignInRefusedError(_AGAIN)
    kept = json.loads(opened)
    if not compare_digest(kept["state"].encode(), answer.get("state", "").encode("utf-8", "replace")):
        raise SignInRefusedError(_AGAIN)
    _check_sender(provider, answer)
    if "error" in answer or not answer.get("code"):
        log.warning("sign_in.not_finished", error=answer.get("error", "")[:60])
        raise SignInRefusedError(
            text("{name} did not sign you in. Sign in again, or ask your administrator.", name=provider.name)
        )
    tokens = provider.fetch_tokens(code=answer["code"], verifier=kept["verifier"])
    identity = identify(provider, tokens, nonce=kept["nonce"])
    choices = _find_choices(provider, database, identity)
    if not choices:
        raise NoRoleError(_say_no_role(provider, identity))
    return Identified(identity, choices, kept["next"])


def seal_choice(settings: Settings, found: Identified) -> str:
    """What the browser of somebody keeps who has to choose an organisation."""
    without_groups = replace(found, identity=replace(found.identity, groups=()))  # a cookie has room for 4 KB
    return Seal(settings, _CHOICE).seal(json.dumps(asdict(without_groups)).encode())


def open_choice(settings: Settings, cookie: str | None) -> Identified:
    """Who has to choose.

    Raises:
        SignInRefusedError: it took too long, or nobody has to.
    """
    opened = Seal(settings, _CHOICE).open(cookie, within=CHOOSING_SECONDS) if cookie else None
    if opened is None:
        raise SignInRefusedError(_AGAIN)
    kept = json.loads(opened)
    who = Identity(**{**kept["identity"], "groups": ()})
    choices = [Choice(one["organisation_id"], one["organisation"], Role(one["role"])) for one in kept["choices"]]
    return Identified(who, choices, kept["next"])


def open_session(database: Database, settings: Settings, who: MemberSignIn, *, browser: str | None) -> str:
    """Open the session; the cookie's value."""
    return sessions.sign_in_member(database, who, limits=Limits.of(settings), browser=browser)


def end_by_provider(provider: Provider, database: Database, presented: str) -> int:
    """End the sessions that a logout token names, in every organisation; how many.

    Raises:
        SignInRefusedError: the token is wrong, or was taken in before.
        ProviderUnreachableError: the provider's keys cannot be read.
    """
    token = check_logout_token(provider, presented)

    def work(connection: Connection) -> int | None:
        if not members.take_logout_token(connection, issuer=token.issuer, jti=token.jti, expires_at=token.expires_at):
            return None
        return ledger.delete_of_provider(
            connection, issuer=token.issuer, subject=token.subject, provider_session=token.session
        )

    ended = database.run(work)
    if ended is None:
        raise SignInRefusedError(text("This logout token was sent before."))
    forget_all()
    log.info("session.ended_by_provider", sessions=ended)
    return ended


def _check_sender(provider: Provider, answer: dict[str, str]) -> None:
    """Refuse the answer of another provider (RFC 9207)."""
    sender = answer.get("iss")
    required = provider.metadata().get("authorization_response_iss_parameter_supported") is True
    if (sender is None and required) or sender not in (None, provider.issuer):
        raise SignInRefusedError(_AGAIN)


def _find_choices(provider: Provider, database: Database, identity: Identity) -> list[Choice]:
    """The organisations in which one of the person's groups has a role, each with the highest."""
    groups = set(identity.groups)
    roles: dict[str, Role] = {}
    for grant in provider.grants:
        if grant.group in groups and grant.role.includes(roles.get(grant.organisation, Role.VIEWER)):
            roles[grant.organisation] = grant.role
    with database.begin() as connection:
        known = jobs.organisations(connection)
    return [Choice(id_, name, roles[name]) for id_, name, _ in known if name in roles]


def _say_no_role(provider: Provider, identity: Identity) -> str:
    count = len(identity.groups)
    if count == 0:
        template = mark("{name} sent none of your groups. Ask the administrator of your organisation for access.")
    elif count == 1:
        template = mark(
            "{name} sent one group of yours, which has no role here. Ask the administrator of your organisation for "
            "access."
        )
    else:
        template = mark(
            "{name} sent {count} groups of yours, none of which has a role here. Ask the administrator of your "
            "organisation for access."
        )
    return text(template, name=provider.name, count=count)
