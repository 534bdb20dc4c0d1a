"""What every outgoing webhook shares: its signed headers, and how long its endpoint rests after a failure."""

import random
from collections.abc import Sequence
from datetime import UTC, datetime

from standardwebhooks import Webhook

from worker.access.sealing import Seal
from worker.texts import mark

CANNOT_DECRYPT = mark("the secret cannot be decrypted: WITHDRAWALS_SECRET_KEY has changed")
_FIRST_REST, _LONGEST_REST = 5.0, 4 * 3600.0
"""Seconds that an endpoint rests after its first failure, doubling up to the longest rest, with jitter."""


def open_secrets(seal: Seal, newest: str, previous: str | None) -> list[str]:
    """The secrets to sign with, the newest first; none where the newest cannot be decrypted."""
    opened = [seal.open(one) for one in (newest, previous) if one is not None]
    return [secret.decode() for secret in opened if secret is not None] if opened[0] is not None else []


def signed_headers(
    secrets: Sequence[str], message_id: str, body: str, *, media_type: str = "application/json"
) -> dict[str, str]:
    """The headers of a body, signed after Standard Webhooks 1.0.0: with several secrets during a rotation."""
    now = datetime.now(UTC)
    return {
        "Content-Type": media_type,
        "User-Agent": "withdrawals",
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(Webhook(secret).sign(message_id, now, body) for secret in secrets),
    }


def rest_seconds(failures: int) -> float:
    """Seconds until the next attempt, after so many failures in a row."""
    bound = min(_LONGEST_REST, _FIRST_REST * 2 ** min(failures, 20))
    return random.uniform(bound / 2, bound)  # noqa: S311 - spreads load, guards nothing
