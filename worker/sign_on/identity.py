"""Who somebody is: the checks of an id token (OpenID Connect Core 1.0, 3.1.3.7) and of a logout token (Back-Channel
Logout 1.0, 2.6)."""

import time
import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.jwt import JWTClaimsRegistry, Token

from worker.access.public_keys import ALGORITHMS, FAULTS, read_header
from worker.sign_on.errors import SignInRefusedError
from worker.sign_on.provider import Provider, Tokens
from worker.texts import text

log = structlog.get_logger(__name__)

LEEWAY = 60
"""Maximum tolerated clock skew, in seconds."""
FRESH = 300
"""Seconds after which a logout token is too old."""
LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"
_LONGEST_ID = 255
_LONGEST_NAME = 100
_LONGEST_EMAIL = 254


@dataclass(frozen=True, slots=True)
class Identity:
    """A person, as the provider knows them. Issuer and subject say who it is; the rest is for show."""

    issuer: str
    subject: str
    name: str
    email: str | None
    session: str | None
    """The provider's id of its session."""
    groups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LogoutToken:
    """A provider says that a session, or every session of a person, has ended."""

    issuer: str
    jti: str
    subject: str | None
    session: str | None
    expires_at: datetime


def identify(provider: Provider, tokens: Tokens, *, nonce: str) -> Identity:
    """The person of an id token, with what the provider's userinfo adds when the token says too little.

    Raises:
        SignInRefusedError: the token is not for this sign-in, however it is wrong.
        ProviderUnreachableError: keys or userinfo cannot be read.
    """
    claims = _check_id_token(provider, tokens, nonce)
    if tokens.access_token and (_claim(claims, provider.groups_claim) is None or not claims.get("name")):
        more = provider.fetch_userinfo(tokens.access_token)
        if more and more.get("sub") != claims["sub"]:
            raise _refused("the userinfo is of another subject")
        claims = {**more, **claims}
    return Identity(
        issuer=claims["iss"],
        subject=claims["sub"],
        name=_name(claims),
        email=_text(claims.get("email"), _LONGEST_EMAIL),
        session=claims["sid"] if _is_id(claims.get("sid")) else None,
        groups=_groups(claims, provider.groups_claim),
    )


def check_logout_token(provider: Provider, presented: str) -> LogoutToken:
    """What a logout token says. That it is new, its taker has to find out.

    Raises:
        SignInRefusedError: it is no logout token for this service, however it is wrong.
        ProviderUnreachableError: the keys cannot be read.
    """
    token = _verify(provider, presented)
    claims, now = token.claims, int(time.time())
    try:
        JWTClaimsRegistry(
            now,
            LEEWAY,
            iss={"essential": True, "value": provider.issuer},
            aud={"essential": True, "value": provider.client_id},
            iat={"essential": True},
            jti={"essential": True},
        ).validate(claims)
        issued = claims["iat"]
        # Since the final version, tokens of this kind have a type of their own, so that none passes for another.
        is_logout = str(token.header.get("typ", "JWT")).lower() in ("jwt", "logout+jwt")
        event = claims.get("events", {}).get(LOGOUT_EVENT)
        subject, session, jti = claims.get("sub"), claims.get("sid"), claims["jti"]
        named = [value for value in (subject, session) if value is not None]
        right = (
            is_logout
            and isinstance(event, dict)
            and "nonce" not in claims
            and now - issued <= FRESH + LEEWAY
            and named
            and all(map(_is_id, (*named, jti)))
        )
        expires = max(claims.get("exp", 0), issued + FRESH) + 2 * LEEWAY
        expires_at = datetime.fromtimestamp(min(expires, now + 86_400), UTC)
    except (*FAULTS, OverflowError) as error:
        raise _refused(f"logout token: {type(error).__name__}") from None
    if not right:
        raise _refused("logout token: a claim is missing or wrong")
    return LogoutToken(provider.issuer, jti, subject, session, expires_at)


def _check_id_token(provider: Provider, tokens: Tokens, nonce: str) -> dict[str, Any]:
    token = _verify(provider, tokens.id_token)
    try:
        claims = CodeIDToken(
            token.claims,
            token.header,
            options={
                "iss": {"essential": True, "value": provider.issuer},
                "aud": {"essential": True, "value": provider.client_id},
            },
            params={"nonce": nonce, "client_id": provider.client_id, "access_token": tokens.access_token},
        )
        claims.validate(now=int(time.time()), leeway=LEEWAY)
        if not _is_id(claims["sub"]):
            raise ValueError("sub")
        if token.header.get("typ", "JWT").lower() == "logout+jwt" or "events" in claims:
            raise ValueError("a logout token")
    except FAULTS as error:
        raise _refused(f"id token: {type(error).__name__} {str(error)[:80]}") from None
    return dict(claims)


def _verify(provider: Provider, presented: str) -> Token:
    """A token whose signature is the provider's, by one of its keys for one of `ALGORITHMS`."""
    try:
        kid = read_header(presented).get("kid")
    except FAULTS as error:
        raise _refused(f"token: {type(error).__name__}") from None
    for key in provider.keys(kid):
        try:
            return jwt.decode(presented, key, algorithms=list(ALGORITHMS))
        except FAULTS:
            continue
    raise _refused("token: no key of the provider has signed it")


def _refused(why: str) -> SignInRefusedError:
    log.warning("sign_in.token_refused", why=why)
    return SignInRefusedError(text("The provider's answer is not valid for this sign-in. Sign in again."))


def _is_id(value: Any) -> bool:
    """Whether a value can be the id of a subject, a session or a token."""
    return isinstance(value, str) and 0 < len(value) <= _LONGEST_ID and value.isprintable()


def _groups(claims: dict[str, Any], path: str) -> tuple[str, ...]:
    if path == "email" and claims.get("email_verified") is not True:
        return ()  # an address that nobody has confirmed gives no role
    found = _claim(claims, path)
    listed = [found] if isinstance(found, str) else found if isinstance(found, list) else []
    return tuple(group for group in listed if isinstance(group, str))


def _claim(claims: dict[str, Any], path: str) -> Any:
    """A claim by its name, which may have dots in it, else by a path into objects (`realm_access.roles`)."""
    if path in claims:
        return claims[path]
    found: Any = claims
    for part in path.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _name(claims: dict[str, Any]) -> str:
    """What people call somebody: name, user name or e-mail, whichever comes first."""
    for claim in ("name", "preferred_username", "email"):
        found = _text(claims.get(claim), _LONGEST_NAME)
        if found:
            return found
    return "Member"


def _text(value: Any, longest: int) -> str | None:
    """A text fit to be shown: one line, without characters that change the direction or cannot be seen."""
    if not isinstance(value, str):
        return None
    normal = unicodedata.normalize("NFKC", value)
    shown = "".join(character if character.isprintable() else " " for character in normal)
    return " ".join(shown.split())[:longest] or None
