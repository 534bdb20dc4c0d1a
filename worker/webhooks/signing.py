"""What every outgoing webhook shares: its signed headers, and how long its endpoint rests after a failure."""

import random
from datetime import UTC, datetime

from standardwebhooks import Webhook

_FIRST_REST, _LONGEST_REST = 5.0, 4 * 3600.0
"""Seconds that an endpoint rests after its first failure, doubling up to the longest rest, with jitter."""


def signed_headers(secret: str, message_id: str, body: str, *, media_type: str = "application/json") -> dict[str, str]:
    """The headers of a body, signed after Standard Webhooks 1.0.0."""
    now = datetime.now(UTC)
    return {
        "Content-Type": media_type,
        "User-Agent": "withdrawals",
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign(message_id, now, body),
    }


def rest_seconds(failures: int) -> float:
    """Seconds until the next attempt, after so many failures in a row."""
    bound = min(_LONGEST_REST, _FIRST_REST * 2 ** min(failures, 20))
    return random.uniform(bound / 2, bound)  # noqa: S311 - spreads load, guards nothing
