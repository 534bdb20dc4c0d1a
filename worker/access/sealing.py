"""Values that only the service can read and nobody can change: secrets at rest, tokens of plans.

Fernet (AES-128-CBC and HMAC-SHA256, with its time inside), over keys derived from WITHDRAWALS_SECRET_KEY by
HKDF (RFC 5869), one for each purpose. The first key seals, any of them opens: so a key can be replaced.
"""

import base64
from functools import cache

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from worker.config import Settings
from worker.errors import SettingsError

MIN_KEY_LENGTH = 16
"""Characters."""


class Seal:
    """Seals and opens bytes for one purpose; what was sealed for another purpose does not open."""

    def __init__(self, settings: Settings, purpose: str) -> None:
        """`purpose`: `hr-secret`, `plan`, ….

        Raises:
            SettingsError: WITHDRAWALS_SECRET_KEY is unset, or one of its keys is too short.
        """
        given = settings.secret_key.get_secret_value() if settings.secret_key else ""
        keys = [key.strip() for key in given.split(",") if key.strip()]
        if not keys:
            raise SettingsError(f"WITHDRAWALS_SECRET_KEY: is not set. Set at least {MIN_KEY_LENGTH} random characters.")
        if any(len(key) < MIN_KEY_LENGTH for key in keys):
            raise SettingsError(f"WITHDRAWALS_SECRET_KEY: each key needs at least {MIN_KEY_LENGTH} characters")
        fernets = [Fernet(_derive(key, purpose)) for key in keys]
        self._fernet, self._newest = MultiFernet(fernets), fernets[0]

    def seal(self, value: bytes) -> str:
        """An opaque token, safe in a URL."""
        return self._fernet.encrypt(value).decode()

    def open(self, token: str, *, within: int | None = None) -> bytes | None:
        """The bytes that were sealed; None when no key fits, or it was more than `within` seconds ago."""
        try:
            return self._fernet.decrypt(token, ttl=within)
        except (InvalidToken, ValueError):
            return None

    def require(self, token: str, *, what: str) -> bytes:
        """The bytes that were sealed.

        Raises:
            SettingsError: no key fits. `what`: what cannot be opened, for the message.
        """
        opened = self.open(token)
        if opened is None:
            raise SettingsError(f"WITHDRAWALS_SECRET_KEY: no key opens {what}. Put the key back that sealed it.")
        return opened

    def is_newest(self, token: str) -> bool:
        """Whether the first key has sealed it."""
        try:
            self._newest.decrypt(token)
        except (InvalidToken, ValueError):
            return False
        return True


@cache
def _derive(key: str, purpose: str) -> bytes:
    derived = HKDF(SHA256(), length=32, salt=None, info=f"withdrawals:{purpose}".encode()).derive(key.encode())
    return base64.urlsafe_b64encode(derived)
