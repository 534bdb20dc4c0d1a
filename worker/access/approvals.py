"""What one person may do alone, and how they ask for what needs a second person.

An act that the organisation's policies do not let one person do is written as an approval, in the transaction that
would have done it, and refused. Another person decides on it (`worker/approvals/decisions.py`).
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import structlog
from sqlalchemy import Connection

from schemas.approvals import Approval, Rule
from schemas.catalogue import GuardedAct, Role
from worker.access.persons import Actor, member_actor, member_id
from worker.config import settings
from worker.errors import ConflictError, InvalidInputError, SecondPersonNeededError
from worker.ledger import acts_alone, approvals, brake, jobs, sessions, tokens
from worker.ledger.approvals import AskedFor
from worker.texts import text

log = structlog.get_logger(__name__)

LIFETIME = timedelta(days=7)
"""After so long an approval can be given no more."""
HELD = (GuardedAct.WITHDRAW, GuardedAct.WITHDRAW_SERIES)
"""Acts that the brake holds (`worker/jobs/admission.py`): the held job is what waits."""
ALONE: int | None = None
"""The default of every act but a change of the policies: one person may do it, whatever its size."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """An act, before it is known whether one person may do it."""

    act: GuardedAct
    subject: str
    """What it is about: of each act and subject one approval waits at a time."""
    consequence: str
    """What it will do, as a sentence."""
    arguments: dict[str, Any]
    """What is needed to do it later, in JSON types."""
    reason: str | None = None
    sizes: Mapping[str | None, int] = field(default_factory=lambda: {None: 1})
    """By source, where it has one."""
    size: int | None = None
    """In all; None: the sum of `sizes`."""

    @property
    def total(self) -> int:
        """The size that people read."""
        return sum(self.sizes.values()) if self.size is None else self.size


def ask_if_needed(connection: Connection, organisation_id: int, wanted: Wanted, who: Actor) -> Approval | None:
    """The approval that an act waits for; None: the actor may do it alone. The settings row is locked.

    What somebody may do alone under a rule is what they do within the brake's window, in sum: a large act is not
    made smaller by doing it in parts.

    Where it waits already, whoever asked for it, that approval. `require` refuses by it once this has committed.

    Raises:
        InvalidInputError: it needs a second person, and nothing says why.
    """
    rules = _find_rules(connection, organisation_id, wanted.act, who)
    limit = _find_limit(connection, organisation_id, rules, wanted, who) if rules else None
    if limit is None:
        if rules and wanted.act is not GuardedAct.POLICIES:
            acts_alone.record(
                connection, organisation_id, wanted.act, wanted.sizes, actor=who.name, made_by=who.made_by
            )
        return None
    waiting = approvals.find_pending(connection, organisation_id, wanted.act, wanted.subject)
    if waiting is not None:
        return waiting.approval
    require_reason(wanted.reason)
    row = {
        "act": wanted.act,
        "subject": wanted.subject,
        "consequence": wanted.consequence,
        "arguments": wanted.arguments,
        "size": wanted.total,
        "alone_up_to": limit,
        "reason": wanted.reason,
        "requested_by": who.name,
        "requester_made_by": who.made_by,
    }
    approval_id = approvals.insert_approval(connection, organisation_id, row, lifetime=LIFETIME)
    detail = {"approval": approval_id, "act": wanted.act, "subject": wanted.subject, "size": wanted.total}
    audit(connection, organisation_id, who, "approval.ask", wanted.reason, **detail)
    found = approvals.find(connection, organisation_id, approval_id)
    assert found is not None  # noqa: S101 - for the type checker
    return found.approval


def may_alone(
    connection: Connection, organisation_id: int, act: GuardedAct, sizes: Mapping[str | None, int], who: Actor
) -> bool:
    """Whether the actor could do so much of an act alone now, for a page that offers it; nothing is locked."""
    rules = _find_rules(connection, organisation_id, act, who)
    wanted = Wanted(act, "", "", {}, sizes=sizes)
    return not rules or _find_limit(connection, organisation_id, rules, wanted, who) is None


def require_reason(note: str | None) -> None:
    """Refuse to ask a second person without saying why: the reason is what they decide by.

    Raises:
        InvalidInputError: there is none.
    """
    if not (note or "").strip():
        raise InvalidInputError(text("note: this needs a second person. Say why, for whoever decides on it."))


def is_limited(connection: Connection, organisation_id: int, act: GuardedAct) -> bool:
    """Whether rules of the organisation limit an act: without any, nothing has to be counted or locked."""
    return any(rule.act is act and rule.alone_up_to is not None for rule in read_own(connection, organisation_id))


def read_own(connection: Connection, organisation_id: int) -> list[Rule]:
    """The rules that an organisation has set itself."""
    return [Rule.model_validate(rule) for rule in approvals.read_rules(connection, organisation_id)]


def requester(asked: AskedFor) -> Actor:
    """Who asked for an approval."""
    return Actor(asked.approval.requested_by, asked.made_by)


_ROLES = {GuardedAct.TOKEN: Role.OWNER, GuardedAct.POLICIES: Role.OWNER}
"""Who may ask; for every other act an approver."""


def require_requester(connection: Connection, organisation_id: int, asked: AskedFor) -> None:
    """As `require_still_may`, of who asked for an approval."""
    role = _ROLES.get(asked.approval.act, Role.APPROVER)
    require_still_may(connection, organisation_id, requester(asked), role, of=f"approval {asked.approval.id}")


def require_still_may(connection: Connection, organisation_id: int, who: Actor, needed_role: Role, *, of: str) -> None:
    """Refuse what its requester may do no more: it would be done in their name.

    Of a member the records tell a lower role only while they are signed in.
    `of`: what they asked for, such as `approval 3`.

    Raises:
        ConflictError: the token was revoked, or the member has signed in with a lower role.
    """
    if who.made_by is not None:
        found = tokens.lock_live_role(connection, organisation_id, who.name.removeprefix("token:"), who.made_by)
        may = found is not None and found.includes(needed_role)
    else:
        member = member_id(who.name)
        roles = [] if member is None else sessions.list_roles(connection, organisation_id, member)
        may = not roles or any(role.includes(needed_role) for role in roles)
    if not may:
        raise ConflictError(
            text(
                "{subject} was asked for by {who}, who may not ask for it any more; reject it, and ask again if needed",
                subject=of,
                who=who.name,
            )
        )


def require(asked: Approval | None) -> None:
    """Refuse an act that waits for a second person.

    Raises:
        SecondPersonNeededError: it does; the message says who can do what.
    """
    if asked is not None:
        raise needed(asked)


def needed(asked: Approval) -> SecondPersonNeededError:
    """How an act is refused that waits as an approval."""
    log.info("approval.asked", approval_id=asked.id, act=asked.act)
    return SecondPersonNeededError(
        text(
            "nothing is done yet: this needs a second person (its size is {size:,}, one person alone may do "
            "{alone_up_to:,} within the brake's window). Approval {approval_id}, asked for by {requested_by}, "
            "waits until {expires_at:%Y-%m-%d %H:%M}Z. Another approver can approve or reject it on the page "
            "/console/approvals/{approval_id}, by /v1/approvals/{approval_id}, or with `withdrawals approvals`. "
            "Approving it does this: {consequence}",
            size=asked.size,
            alone_up_to=asked.alone_up_to,
            approval_id=asked.id,
            requested_by=asked.requested_by,
            expires_at=asked.expires_at,
            consequence=asked.consequence,
        ),
        approval=asked.model_dump(mode="json"),
    )


def audit(
    connection: Connection, organisation_id: int, who: Actor, action: str, note: str | None, **detail: object
) -> None:
    """Put an act on an approval on record."""
    jobs.audit(
        connection,
        organisation_id=organisation_id,
        actor=who.name,
        action=action,
        note=note,
        detail=json.dumps(detail),
    )


def _find_rules(
    connection: Connection, organisation_id: int, act: GuardedAct, who: Actor
) -> dict[str | None, int | None]:
    """The largest size that one person may do, by source; nothing: there is no limit."""
    if act is GuardedAct.POLICIES:
        return {None: 0} if list_second_people(connection, organisation_id, who) else {}
    rules: dict[str | None, int | None] = {
        rule.source: rule.alone_up_to for rule in read_own(connection, organisation_id) if rule.act is act
    }
    return {} if all(limit is None for limit in rules.values()) else rules


def _find_limit(
    connection: Connection, organisation_id: int, rules: Mapping[str | None, int | None], wanted: Wanted, who: Actor
) -> int | None:
    """The size that one person may do, where this is larger; None: the actor may do it alone."""
    before = _find_done(connection, organisation_id, wanted.act, who)
    with_rules = [source for source in wanted.sizes if source is not None and source in rules]
    parts = [(rules[source], wanted.sizes[source], before[source]) for source in with_rules]
    others = [size for source, size in wanted.sizes.items() if source not in with_rules]
    if others:  # the rule without a source is about all of these together: mixed sources are no way past it
        of_others = sum(size for source, size in before.items() if source is None or source not in rules)
        parts.append((rules.get(None, ALONE), min(sum(others), wanted.total), of_others))
    return next((limit for limit, size, done in parts if limit is not None and size and size + done > limit), None)


def _find_done(connection: Connection, organisation_id: int, act: GuardedAct, who: Actor) -> Counter[str | None]:
    """What the actor did alone within the brake's window, by source, as far as the records tell who it was."""
    hours = brake.own(connection, organisation_id)["hours"] or settings().brake_hours
    found = Counter[str | None]()
    for one in acts_alone.list_done(connection, organisation_id, act, hours=hours):
        if who.is_known_to_be(Actor(one.actor, one.made_by)):
            found[one.source] += one.size
    return found


def list_second_people(connection: Connection, organisation_id: int, who: Actor) -> list[str]:
    """Everybody but the actor who could approve now, as far as the records tell, as the audit has them."""
    found = []
    for name, member, made_by in approvals.list_approvers(connection, organisation_id):
        one = Actor(f"token:{name}", made_by) if member is None else Actor(member_actor(name or "", member))
        if not who.is_known_to_be(one):
            found.append(one.name)
    return sorted(found)
