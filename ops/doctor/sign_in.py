"""What `doctor` says about sign-in with an OpenID Connect provider."""

from ops.doctor.findings import Finding
from worker.config import Settings
from worker.database import Database
from worker.errors import SettingsError
from worker.ledger import jobs
from worker.sign_on.errors import ProviderUnreachableError
from worker.sign_on.provider import Provider


def sign_in(database: Database, current: Settings) -> list[Finding]:
    """Whether the provider answers as the settings expect, and whether every role is in an organisation that exists."""
    try:
        provider = Provider.of(current)
    except SettingsError as error:
        return [Finding("wrong", "sign-in", line) for line in str(error).splitlines()]
    if provider is None:
        return [Finding("ok", "sign-in", "with tokens; no OpenID Connect provider is set")]
    return [_reach(provider), *_organisations(provider, database), *_transport(current)]


def _reach(provider: Provider) -> Finding:
    try:
        provider.metadata()
        keys = len(provider.keys(None))
    except ProviderUnreachableError as error:
        return Finding("wrong", "sign-in", f"{provider.issuer}: {error}")
    if keys == 0:
        return Finding("wrong", "sign-in", f"{provider.issuer} has no key that this service can use (RSA or EC)")
    return Finding("ok", "sign-in", f"{provider.issuer}; register there as redirect address: {provider.redirect_uri}")


def _organisations(provider: Provider, database: Database) -> list[Finding]:
    with database.begin() as connection:
        known = {name for _, name, _ in jobs.organisations(connection)}
    missing = sorted({grant.organisation for grant in provider.grants} - known)
    if missing:
        names = ", ".join(map(repr, missing))
        return [Finding("warn", "sign-in", f"WITHDRAWALS_OIDC_ROLES: no organisation is named {names}")]
    return []


def _transport(current: Settings) -> list[Finding]:
    """Over plain http a session's cookie and the provider's answer can be read on the way."""
    if current.public_url.startswith("https://"):
        return []
    return [Finding("warn", "sign-in", "WITHDRAWALS_PUBLIC_URL is not https: use plain http on this machine alone")]
