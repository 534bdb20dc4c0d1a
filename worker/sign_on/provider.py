"""The provider: its metadata (OpenID Connect Discovery 1.0), its keys, and the exchange of a code for an id token."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx2
import structlog
from authlib.integrations.base_client import OAuthError
from authlib.integrations.httpx_client import OAuth2Client

from worker.access.public_keys import Key, parse_keys
from worker.config import Settings
from worker.errors import SettingsError
from worker.sign_on.errors import ProviderUnreachableError, SignInRefusedError
from worker.sign_on.fetching import HEADERS, ProviderTransport
from worker.sign_on.kept import Kept
from worker.sign_on_settings import is_safe, parse_grants
from worker.texts import text

log = structlog.get_logger(__name__)

METADATA_SECONDS = 3600.0
KEYS_SECONDS = 3600.0
"""How long metadata and keys count before they are read again."""
KEYS_AGAIN = 10.0
"""Seconds between two readings for a key that is not known: a forged token must not make every request ask."""
CALLBACK = "/console/sign-in/callback"
SIGNED_OUT = "/console/sign-in"
_NEEDED = ("authorization_endpoint", "token_endpoint", "jwks_uri")
_OTHERS = ("userinfo_endpoint", "end_session_endpoint")


@dataclass(frozen=True, slots=True)
class Tokens:
    """What the token endpoint answered."""

    id_token: str
    access_token: str | None


class Provider:
    """The provider that the settings name. One for a process; its memory is shared by the requests."""

    def __init__(self, settings: Settings) -> None:
        """Raises:
        SettingsError: settings that belong together are not set.
        """
        missing = [
            name
            for name, value in {
                "WITHDRAWALS_PUBLIC_URL": settings.public_url,
                "WITHDRAWALS_OIDC_CLIENT_ID": settings.oidc_client_id,
                "WITHDRAWALS_OIDC_ROLES": settings.oidc_roles,
            }.items()
            if not value
        ]
        if missing:
            raise SettingsError("\n".join(f"{name}: is needed with WITHDRAWALS_OIDC_ISSUER." for name in missing))
        self.issuer = settings.oidc_issuer
        self.client_id = settings.oidc_client_id
        self.name = settings.oidc_name or urlsplit(self.issuer).hostname or self.issuer
        self.scopes = settings.oidc_scopes
        self.groups_claim = settings.oidc_groups_claim
        self.grants = parse_grants(settings.oidc_roles)
        self.redirect_uri = settings.public_url + CALLBACK
        self.signed_out_uri = settings.public_url + SIGNED_OUT
        secret = settings.oidc_client_secret
        self._secret = secret.get_secret_value() if secret else None
        self._transport = ProviderTransport(self.issuer)
        self._metadata: Kept[dict[str, Any]] = Kept()
        self._keys: Kept[list[Key]] = Kept()

    @classmethod
    def of(cls, settings: Settings) -> "Provider | None":
        """The provider of the settings; None where no issuer is set.

        Raises:
            SettingsError: settings that belong together are not set, or nobody could sign in.
        """
        if not settings.oidc_issuer and not settings.console_tokens:
            raise SettingsError("WITHDRAWALS_CONSOLE_TOKENS: is off, and no WITHDRAWALS_OIDC_ISSUER is set: set one.")
        return cls(settings) if settings.oidc_issuer else None

    def metadata(self) -> dict[str, Any]:
        """The provider's metadata, checked.

        Raises:
            ProviderUnreachableError: it cannot be read, and is not known from before; or it is not this issuer's.
        """
        return self._metadata.get(METADATA_SECONDS, self._read_metadata)

    def keys(self, kid: str | None) -> list[Key]:
        """The public keys that may have made a signature: that of the id, or all where the signature names none.

        Raises:
            ProviderUnreachableError: the keys cannot be read, and are not known from before.
        """
        found = self._keys.get(KEYS_SECONDS, self._read_keys)
        fitting = [key for key in found if kid is None or key.kid == kid]
        if not fitting:  # the provider may have changed its keys
            fitting = [key for key in self._keys.get(KEYS_AGAIN, self._read_keys) if key.kid == kid]
        return fitting

    def authorization_url(self, *, state: str, nonce: str, verifier: str) -> str:
        """Where a browser goes to sign in: authorization code, PKCE with S256, state and nonce."""
        endpoint = self.metadata()["authorization_endpoint"]
        with self._client() as client:
            url, _ = client.create_authorization_url(endpoint, state=state, nonce=nonce, code_verifier=verifier)
        return str(url)

    def fetch_tokens(self, *, code: str, verifier: str) -> Tokens:
        """Exchange a code.

        Raises:
            SignInRefusedError: the provider refuses the code, or answers without an id token.
            ProviderUnreachableError: it does not answer.
        """
        metadata = self.metadata()
        try:
            with self._client() as client:
                answer = client.fetch_token(
                    metadata["token_endpoint"], grant_type="authorization_code", code=code, code_verifier=verifier
                )
        except OAuthError as error:
            log.warning("sign_in.code_refused", error=str(error.error)[:60])
            raise SignInRefusedError(text("The provider did not accept the sign-in. Sign in again.")) from None
        except (httpx2.HTTPError, ValueError) as error:
            raise _unreachable("token endpoint", error) from None
        id_token, access_token = answer.get("id_token"), answer.get("access_token")
        if not isinstance(id_token, str):
            raise SignInRefusedError(text("The provider sent no id token. Is `openid` among the scopes?"))
        return Tokens(id_token, access_token if isinstance(access_token, str) else None)

    def fetch_userinfo(self, access_token: str) -> dict[str, Any]:
        """What the provider says about the person beside the id token; empty where it says nothing more.

        Raises:
            ProviderUnreachableError: it does not answer.
        """
        endpoint = self.metadata().get("userinfo_endpoint")
        return self._get(endpoint, {"Authorization": f"Bearer {access_token}"}) if endpoint else {}

    def end_session_url(self) -> str | None:
        """Where a browser ends the provider's session as well (RP-Initiated Logout 1.0); None where there is none."""
        try:
            endpoint = self.metadata().get("end_session_endpoint")
        except ProviderUnreachableError:
            return None
        given = {"client_id": self.client_id, "post_logout_redirect_uri": self.signed_out_uri}
        return str(httpx2.URL(endpoint).copy_merge_params(given)) if endpoint else None

    def _client(self) -> OAuth2Client:
        metadata = self.metadata()
        methods = metadata.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        method = "client_secret_basic" if "client_secret_basic" in methods else "client_secret_post"
        return OAuth2Client(
            client_id=self.client_id,
            client_secret=self._secret,
            token_endpoint_auth_method=method if self._secret else "none",
            scope=self.scopes,
            redirect_uri=self.redirect_uri,
            code_challenge_method="S256",
            transport=self._transport,
            headers=HEADERS,
            trust_env=False,
        )

    def _read_metadata(self) -> dict[str, Any]:
        found = self._get(self.issuer.rstrip("/") + "/.well-known/openid-configuration")
        if found.get("issuer") != self.issuer:
            raise ProviderUnreachableError(
                text(
                    "The metadata is not that of WITHDRAWALS_OIDC_ISSUER; it names {issuer!r}.",
                    issuer=str(found.get("issuer"))[:200],
                )
            )
        for name in (*_NEEDED, *_OTHERS):
            endpoint = found.get(name)
            if endpoint is None and name in _OTHERS:
                continue
            if not isinstance(endpoint, str) or not is_safe(endpoint.partition("?")[0]):
                raise ProviderUnreachableError(text("The metadata has no safe {name}.", name=name))
        if "S256" not in found.get("code_challenge_methods_supported", ["S256"]):
            raise ProviderUnreachableError(text("The provider does not support PKCE with S256."))
        return found

    def _read_keys(self) -> list[Key]:
        return parse_keys(self._get(self.metadata()["jwks_uri"]))

    def _get(self, address: str, headers: dict[str, str] | None = None) -> dict[str, Any]:
        try:
            with httpx2.Client(transport=self._transport, headers=HEADERS, trust_env=False) as client:
                answer = client.get(address, headers=headers)
                answer.raise_for_status()
                found = answer.json()
        except (httpx2.HTTPError, ValueError, RecursionError) as error:
            raise _unreachable(urlsplit(address).path[-60:], error) from None
        if not isinstance(found, dict):
            raise ProviderUnreachableError(text("The provider's answer is not a JSON object."))
        return found


def _unreachable(what: str, error: Exception) -> ProviderUnreachableError:
    reason = f"{error}" if isinstance(error, httpx2.TransportError) else type(error).__name__
    log.warning("sign_in.provider_unreachable", what=what, reason=reason[:200])
    return ProviderUnreachableError(
        text("The provider does not answer as it should ({what}: {reason}).", what=what, reason=reason[:200])
    )
