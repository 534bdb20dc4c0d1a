"""The words of a message: counts, what each is about, and links. Plain text, without names of learners."""

from collections.abc import Sequence
from dataclasses import dataclass

from schemas.notifications import NoticeKind
from worker.ledger.notices import Told
from worker.notifications.kinds import CONSOLE, KINDS

LISTED = 5
"""Of each kind up to so many are told one by one; of more, only the number."""
_LONGEST_TITLE = 150


@dataclass(frozen=True, slots=True)
class Message:
    """A message in plain text."""

    title: str
    body: str


def write_message(organisation: str, told: Sequence[Told], *, public_url: str, target_id: int) -> Message:
    """The message about some notices. Without a public address, its links are paths."""
    heads = [_head(one) for one in told]
    parts = [_part(one, head, public_url) for one, head in zip(told, heads, strict=True)]
    return Message(_title(organisation, "; ".join(heads)), "\n\n".join([*parts, _foot(organisation, target_id)]))


def write_test(organisation: str, *, public_url: str, target_id: int) -> Message:
    """The message that shows that a target works."""
    body = f"This is a test. Notifications arrive here.\n{public_url}{CONSOLE}\n\n{_foot(organisation, target_id)}"
    return Message(_title(organisation, "test notification"), body)


def _title(organisation: str, what: str) -> str:
    whole = " ".join(f"{organisation}: {what}".split())
    return whole if len(whole) <= _LONGEST_TITLE else whole[: _LONGEST_TITLE - 2] + " …"


def _head(told: Told) -> str:
    kind = KINDS[NoticeKind(told.kind)]
    return kind.one if told.count == 1 else kind.many.format(count=f"{told.count:,}")


def _part(told: Told, head: str, public_url: str) -> str:
    kind = KINDS[NoticeKind(told.kind)]
    if told.count > LISTED:
        return f"{head}.\n{public_url}{kind.all}"
    lines = [f"- {kind.say(subject, facts)}\n  {public_url}{kind.page(subject)}" for subject, facts in told.first]
    return "\n".join([f"{head}.", *lines])


def _foot(organisation: str, target_id: int) -> str:
    return f"Sent by the withdrawal service, notification {target_id} of {organisation}."
