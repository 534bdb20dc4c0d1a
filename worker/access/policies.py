"""Policies: the rules that say how much of an act one person may do alone, and how they are changed.

What the rules ask of an act is in `worker/access/approvals.py`.
"""

from collections.abc import Callable
from typing import Any

import structlog
from sqlalchemy import Connection

from schemas.approvals import Approval, Policies, PolicyRequest, Rule, RuleChange, ShownRule
from schemas.catalogue import GUARDED_ACTS, SOURCES, GuardedAct, Source
from worker.access import approvals as asking
from worker.access.approvals import ALONE, HELD, Wanted
from worker.access.persons import Actor
from worker.database import Database
from worker.errors import ConflictError, InvalidInputError
from worker.ledger import approvals, jobs
from worker.ledger.approvals import AskedFor
from worker.texts import Text, joined, plainly, text

log = structlog.get_logger(__name__)

Rules = list[dict[str, Any]]
"""Rules as the settings row has them."""


def read(database: Database, *, organisation_id: int) -> Policies:
    """The rules that apply now, and those that wait for a second person."""
    with database.begin() as connection:
        own = asking.read_own(connection, organisation_id)
        waiting = approvals.find_pending(connection, organisation_id, GuardedAct.POLICIES)
    set_for_act = {rule.act for rule in own if rule.source is None}
    shown = [ShownRule(**rule.model_dump(), own=True) for rule in own]
    defaults = [
        ShownRule(act=act, source=None, alone_up_to=0 if act is GuardedAct.POLICIES else ALONE, own=False)
        for act in GuardedAct
        if act not in set_for_act
    ]
    order = list(GuardedAct)
    rules = sorted([*shown, *defaults], key=lambda rule: (order.index(rule.act), rule.source or ""))
    return Policies(rules=rules, approval=waiting.approval if waiting else None)


def replace(database: Database, *, organisation_id: int, wanted: PolicyRequest, who: Actor) -> Policies:
    """Change who may do what alone: at once while nobody else could approve it, else once somebody has.

    Raises:
        InvalidInputError: these are the rules already.
        ConflictError: other rules wait for a second person.
        SecondPersonNeededError: it waits as an approval now.
    """
    rules = [rule.model_dump(mode="json") for rule in wanted.rules]
    return _set(database, organisation_id, lambda _: rules, who, wanted.note)


def change_one(database: Database, *, organisation_id: int, wanted: RuleChange, who: Actor) -> Policies:
    """As `replace`, for the rule of one act and source; the others stay as they are when it is written.

    Raises:
        InvalidInputError: it is so already.
        ConflictError: other rules wait for a second person.
        SecondPersonNeededError: it waits as an approval now.
    """

    def changed(before: Rules) -> Rules:
        others = [rule for rule in before if (rule["act"], rule["source"]) != (wanted.act, wanted.source)]
        rules = others if wanted.rule is None else [*others, wanted.rule.model_dump(mode="json")]
        return before if len(rules) == len(before) and all(rule in before for rule in rules) else rules

    return _set(database, organisation_id, changed, who, wanted.note)


def set_approved(connection: Connection, organisation_id: int, asked: AskedFor, _: Actor) -> None:
    """Change the policies as an approval says.

    Raises:
        ConflictError: they have changed since it was asked for.
    """
    before = approvals.read_rules(connection, organisation_id)
    if before != asked.arguments["before"]:
        raise ConflictError(
            text("the policies have changed since this was asked for; reject it, and ask again if needed")
        )
    rules = asked.arguments["rules"]
    _write(connection, organisation_id, before, rules, asking.requester(asked), asked.approval.reason)


def _set(
    database: Database, organisation_id: int, changed: Callable[[Rules], Rules], who: Actor, note: str | None
) -> Policies:
    """`changed`: what the rules become; the same list: nothing was asked for."""

    def work(connection: Connection) -> Approval | None:
        jobs.lock_settings(connection, organisation_id)
        before = approvals.read_rules(connection, organisation_id)
        rules = changed(before)
        if rules == before:
            raise InvalidInputError(text("rules: these are the rules already. Nothing was changed."))
        waiting = approvals.find_pending(connection, organisation_id, GuardedAct.POLICIES)
        if waiting is not None and waiting.arguments["rules"] != rules:
            raise ConflictError(
                text(
                    "approval {approval_id} by {requested_by} waits with other rules: it is approved, rejected "
                    "or withdrawn first",
                    approval_id=waiting.approval.id,
                    requested_by=waiting.approval.requested_by,
                )
            )
        arguments = {"rules": rules, "before": before}
        change = Wanted(GuardedAct.POLICIES, "policies", _describe_change(rules), arguments, note)
        asked = asking.ask_if_needed(connection, organisation_id, change, who)
        if asked is None:
            _write(connection, organisation_id, before, rules, who, note)
        return asked

    asking.require(database.run(work))
    log.info("policies.set", organisation_id=organisation_id)
    return read(database, organisation_id=organisation_id)


def _write(
    connection: Connection, organisation_id: int, before: Rules, rules: Rules, who: Actor, note: str | None
) -> None:
    approvals.set_rules(connection, organisation_id, rules)
    asking.audit(connection, organisation_id, who, "policies.set", note, before=before, after=rules)


def _describe_change(rules: Rules) -> Text:
    if not rules:
        return text("Every act follows the default again.")
    described = joined(map(_describe_labelled, map(Rule.model_validate, rules)), "; ")
    return text("From then on: {rules}. Any other act follows the default.", rules=described)


def describe_difference(before: Rules, after: Rules) -> Text:
    """What a change of the rules has changed, with the labels that people know."""
    old, new = ([Rule.model_validate(rule) for rule in rules] for rules in (before, after))
    still = {(rule.act, rule.source) for rule in new}
    said = [_describe_labelled(rule) for rule in new if rule not in old]
    said += [
        text("{act}: follows the default again", act=_label(rule.act, rule.source))
        for rule in old
        if (rule.act, rule.source) not in still
    ]
    return joined(said, "; ") if said else text("the same rules in another order")


def describe_rule(rule: Rule | ShownRule) -> Text:
    """A rule in words, with the codes that a command takes: `override from hr: one person alone up to 10 learners`."""
    if rule.source:
        return text("{act} from {source}: {size}", act=rule.act, source=rule.source, size=describe_size(rule))
    return text("{act}: {size}", act=rule.act, size=describe_size(rule))


def describe_size(rule: Rule | ShownRule) -> Text:
    """How much a rule lets one person do alone, in words."""
    if rule.act in HELD:
        if rule.alone_up_to is None:
            return text("no limit but the brake's own")
        return text("held past {count:,} learners in the brake's window", count=rule.alone_up_to)
    if rule.alone_up_to is None:
        return text("never needs a second person")
    if rule.alone_up_to == 0:
        return text("always needs a second person")
    if rule.alone_up_to == 1:
        return text("one person alone up to 1 learner")
    return text("one person alone up to {count:,} learners", count=rule.alone_up_to)


def _describe_labelled(rule: Rule) -> Text:
    """The same with the labels that people know."""
    return text("{act}: {size}", act=_label(rule.act, rule.source), size=describe_size(rule))


def _label(act: GuardedAct, source: Source | None) -> Text:
    label = plainly(GUARDED_ACTS[act].label)
    return text("{act} from {source}", act=label, source=plainly(SOURCES[source].label)) if source else label
