"""Who changed which setting, and when: the part of the audit that a page of the settings shows."""

from collections.abc import Callable
from string import Formatter
from typing import Any

from worker.access import policies
from worker.ledger import audit_log
from worker.ledger.audit_log import Act
from worker.texts import mark, text
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
    "token.create": mark("made the token {name} with the role {role}"),
    "token.revoke": mark("revoked the token {name}"),
    "source.create": mark("added the source {source}"),
    "source.rotate": mark("replaced the secret of {source}"),
    "source.test": mark("tested {source}"),
    "source.disable": mark("disabled {source}"),
    "source.set_api": mark("replaced the API key of {source}"),
    "source.set_policy": mark("changed what a deactivation by {source} does"),
    "source.silence": mark("set the silence limit of {of}"),
    "webhook.create": mark("added the webhook to {host}"),
    "webhook.rotate": mark("replaced the secret of the webhook to {host}"),
    "webhook.pause": mark("paused the webhook to {host}"),
    "webhook.resume": mark("resumed the webhook to {host}"),
    "webhook.replay": mark("sent a delivery to {host} again"),
    "webhook.disable": mark("disabled the webhook to {host}"),
    "notification.add": mark("added notification {id}"),
    "notification.remove": mark("removed notification {id}"),
    "notification.retry": mark("sent message {message} again"),
    "session.open": mark("signed in"),
    "session.end": mark("ended a session of {of}"),
}


def _describe(act: Act) -> str:
    if act.action == "policies.set":
        changed = policies.describe_difference(act.detail["before"], act.detail["after"])
        return text("changed the policies. {changes}", changes=changed)
    words = _WORDS.get(act.action)
    if words is None:
        return act.action
    names = [name for _, name, _, _ in Formatter().parse(words) if name]
    return text(words, **{name: act.detail.get(name, "—") for name in names})  # an earlier release lacked some
