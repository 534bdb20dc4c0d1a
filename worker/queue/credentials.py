"""The password of Redis, read anew for each connection when a file holds it: it is rotated without a restart."""

from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr
from redis.credentials import CredentialProvider

from worker import config


def with_newest_password(url: str) -> tuple[str, dict[str, Any]]:
    """A URL of Redis without its user and password, and the option that brings them; or the URL as it is."""
    parts = urlsplit(url)
    if not parts.password:
        return url, {}
    who, _, _ = parts.netloc.rpartition("@")
    return url.replace(f"//{who}@", "//", 1), {"credential_provider": _FromUrl(url)}


class _FromUrl(CredentialProvider):
    """User and password of `BROKER_URL`, as they are when a connection is made."""

    def __init__(self, url: str) -> None:
        self._given = SecretStr(url)

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        parts = urlsplit(config.newest("broker_url", self._given))
        password = unquote(parts.password or "")
        return (unquote(parts.username), password) if parts.username else (password,)

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        return self.get_credentials()
