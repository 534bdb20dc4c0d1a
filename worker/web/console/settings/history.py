"""Who changed which setting, and when: the part of the audit that a page of the settings shows."""

from collections.abc import Callable
from typing import Any

from worker.access import policies
from worker.ledger import audit_log
from worker.ledger.audit_log import Act
from worker.web.console.view import View

MOST = 15
"""Acts on a page, the newest."""


def read(view: View, kind: str, about: Callable[[dict[str, Any]], bool] | None = None) -> list[tuple[Act, str]]:
    """The newest acts of a kind (`token`, `source`, …) with what was done. `about`: only those with such details."""
    with view.database.begin() as connection:
        found = audit_log.list_settings_acts(
            connection, view.organisation_id, kind, limit=MOST if about is None else 200
        )
    wanted = [act for act in found if about is None or about(act.detail)][:MOST]
    return [(act, _describe(act)) for act in wanted]


_WORDS = {
    "token.create": "made the token {name} with the role {role}",
    "token.revoke": "revoked the token {name}",
    "source.create": "added the source {source}",
    "source.rotate": "replaced the secret of {source}",
    "source.test": "tested {source}",
    "source.disable": "disabled {source}",
    "source.set_api": "replaced the API key of {source}",
    "source.silence": "set the silence limit of {of}",
    "webhook.create": "added the webhook to {host}",
    "webhook.rotate": "replaced the secret of the webhook to {host}",
    "webhook.pause": "paused the webhook to {host}",
    "webhook.resume": "resumed the webhook to {host}",
    "webhook.replay": "sent a delivery to {host} again",
    "webhook.disable": "disabled the webhook to {host}",
    "notification.add": "added notification {id}",
    "notification.remove": "removed notification {id}",
    "notification.retry": "sent message {message} again",
    "session.open": "signed in",
    "session.end": "ended a session of {of}",
}


class _Known(dict[str, Any]):
    """Details of an act; one that a record of an earlier release lacks reads as a dash."""

    def __missing__(self, key: str) -> str:
        return "—"


def _describe(act: Act) -> str:
    if act.action == "policies.set":
        changed = policies.describe_difference(act.detail["before"], act.detail["after"])
        return f"changed the policies. {changed}"
    words = _WORDS.get(act.action)
    return act.action if words is None else words.format_map(_Known(act.detail))
