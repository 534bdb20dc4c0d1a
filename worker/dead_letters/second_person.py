"""Overrides and cascades that the policies do not let one person do: what is asked for, and whether it has changed."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from schemas.approvals import Approval
from schemas.catalogue import GuardedAct
from schemas.dead_letters import LetterAct, LetterFilter
from worker.access import approvals as second_person
from worker.access.approvals import Wanted
from worker.access.persons import Actor
from worker.dead_letters import acts
from worker.errors import ConflictError
from worker.ledger import approvals, attempts_preview, siblings
from worker.ledger.approvals import AskedFor
from worker.texts import mark, text

GUARDED = {LetterAct.OVERRIDE: GuardedAct.OVERRIDE, LetterAct.CASCADE: GuardedAct.CASCADE}


def is_limited(connection: Connection, organisation_id: int, act: LetterAct) -> bool:
    """Whether the organisation's policies say anything about an act on letters."""
    return act in GUARDED and second_person.is_limited(connection, organisation_id, GUARDED[act])


def ask_for_letters(
    connection: Connection,
    organisation_id: int,
    letter_ids: Sequence[int],
    act: LetterAct,
    who: Actor,
    *,
    note: str | None,
    door: str | None,
) -> Approval | None:
    """The approval that an act on locked, open letters waits for; None: the actor may do it alone."""
    ids = sorted(set(letter_ids))
    effect = _effect(connection, organisation_id, ids, act)
    names = ", ".join(map(str, ids))
    sources: list[str | None] = [*approvals.list_sources(connection, organisation_id, ids)] or [None]
    wanted = Wanted(
        GUARDED[act],
        f"letter {names}" if len(ids) == 1 else f"{len(ids):,} letters ({names})",
        _describe(act, effect),
        {"letter_ids": ids, "door": door, "effect": effect},
        note,
        dict.fromkeys(sources, effect["learners"]),
        effect["learners"],
    )
    return second_person.ask_if_needed(connection, organisation_id, wanted, who)


def require_unchanged(connection: Connection, organisation_id: int, asked: AskedFor) -> None:
    """Refuse an approval of letters that would do something else by now.

    Raises:
        ConflictError: it would.
    """
    before: dict[str, int] = asked.arguments["effect"]
    act = LetterAct(asked.approval.act)
    now = _effect(connection, organisation_id, asked.arguments["letter_ids"], act)
    if now != before:
        raise ConflictError(
            text(
                "{subject}: this has changed since it was asked for. By now it does this: {now} Reject it, and "
                "ask again if needed.",
                subject=asked.approval.subject,
                now=_describe(act, now),
            )
        )


def ask_for_run(
    connection: Connection,
    organisation_id: int,
    act: LetterAct,
    wanted: LetterFilter,
    who: Actor,
    how: dict[str, Any],
    counted: Mapping[str | None, int],
) -> Approval | None:
    """The approval that a run over all letters that match waits for; None: the actor may begin it alone.

    Its size is the letters, `counted` by source: there are no more learners than these.
    """
    letters = sum(counted.values())
    conditions = wanted.model_dump(mode="json", exclude_none=True)
    shown = ", ".join(f"{name} {value}" for name, value in conditions.items()) or "all"
    run = Wanted(
        GUARDED[act],
        f"all letters that match ({shown})",
        text(
            "Begins a run over {letters:,} letters, each about one learner at the most: {summary}.",
            letters=letters,
            summary=acts.ACTS[act].summary,
        ),
        {**how, "filter": conditions, "letters": letters},
        how["note"],
        counted,
    )
    return second_person.ask_if_needed(connection, organisation_id, run, who)


def _effect(connection: Connection, organisation_id: int, letter_ids: list[int], act: LetterAct) -> dict[str, int]:
    """What the act would do now: distinct learners, and a cascade's other enrolments."""
    others = 0
    if act is LetterAct.CASCADE:
        others = sum(len(found.ids) for found in siblings.find(connection, letter_ids))
    return {
        "learners": attempts_preview.count_learners(connection, organisation_id, letter_ids, act),
        "others": others,
    }


def _describe(act: LetterAct, effect: dict[str, int]) -> str:
    one, count = effect["learners"] == 1, effect["learners"]
    learners = text("{count:,} learner", count=count) if one else text("{count:,} learners", count=count)
    if act is LetterAct.OVERRIDE:
        return text("Withdraws {learners} although a Learning Pathway owns the enrolment.", learners=learners)
    one, count = effect["others"] == 1, effect["others"]
    template = mark("{count:,} other active enrolment") if one else mark("{count:,} other active enrolments")
    return text(
        "Withdraws {learners} from what the letter is about and from {others} of the pathway.",
        learners=learners,
        others=text(template, count=count),
    )
