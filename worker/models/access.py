"""Who may call, and who is signed in."""

from datetime import datetime, timedelta

from sqlalchemy import BigInteger, Column, ForeignKey, Identity, Interval, LargeBinary, Named, Table, Text, TypedColumns

from worker.models.base import Instant, OwnedColumns, metadata


class TokensColumns(OwnedColumns):
    """Who may call over HTTP."""

    name: Named[str]
    role: Named[str]
    selector: Named[str]
    hash: Named[bytes]
    created_at: Named[datetime] = Column(Instant)
    created_by: Named[str]
    last_used_at: Named[datetime | None] = Column(Instant)
    revoked_at: Named[datetime | None] = Column(Instant)
    owner: Named[bool]


tokens = Table("tokens", metadata, TokensColumns, schema="withdrawals")


class MembersColumns(OwnedColumns):
    """People who have signed in with a provider."""

    issuer: Named[str]
    subject: Named[str]
    name: Named[str]
    email: Named[str | None]
    created_at: Named[datetime] = Column(Instant)
    signed_in_at: Named[datetime] = Column(Instant)
    role: Named[str | None]


members = Table("members", metadata, MembersColumns, schema="withdrawals")


class SessionsColumns(TypedColumns):
    """Who is signed in to the console: a token or a member."""

    hash: Named[bytes] = Column(LargeBinary, primary_key=True)
    id: Named[int] = Column(BigInteger, Identity(always=True))
    token_id: Named[int | None] = Column(BigInteger, ForeignKey("withdrawals.tokens.id"))
    member_id: Named[int | None] = Column(BigInteger, ForeignKey("withdrawals.members.id"))
    role: Named[str | None]
    provider_session: Named[str | None]
    browser: Named[str | None]
    created_at: Named[datetime] = Column(Instant)
    expires_at: Named[datetime] = Column(Instant)
    last_used_at: Named[datetime] = Column(Instant)
    idle_limit: Named[timedelta] = Column(Interval)


sessions = Table("sessions", metadata, SessionsColumns, schema="withdrawals")


class LogoutTokensColumns(TypedColumns):
    """Logout tokens of providers that were taken in."""

    issuer: Named[str] = Column(Text, primary_key=True)
    jti: Named[str] = Column(Text, primary_key=True)
    expires_at: Named[datetime] = Column(Instant)


logout_tokens = Table("logout_tokens", metadata, LogoutTokensColumns, schema="withdrawals")


class SignInLinksColumns(TypedColumns):
    """Links that sign in once."""

    hash: Named[bytes] = Column(LargeBinary, primary_key=True)
    token_id: Named[int] = Column(BigInteger, ForeignKey("withdrawals.tokens.id"))
    expires_at: Named[datetime] = Column(Instant)


sign_in_links = Table("sign_in_links", metadata, SignInLinksColumns, schema="withdrawals")
