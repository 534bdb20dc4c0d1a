"""The dead-letter desk: what there is, by kind and age, and who looks after it; registered on `dead-letters`."""

from typing import Annotated

import typer

from ops.cli import common, letter_filter
from ops.cli.common import As, AsJson, Organisation
from ops.cli.letter_filter import Assignee, Changed, Code, Fingerprint, Job, OlderThan, Overdue, Source, State
from schemas.dead_letters import LetterFilter
from schemas.desk import Acted, AssignRequest, NoteRequest
from worker.config import settings
from worker.dead_letters import desk
from worker.errors import InvalidInputError

Ids = Annotated[list[int] | None, typer.Argument(help="Letters, by id; or give options that say which.")]
All = Annotated[bool, typer.Option("--all", help="All letters of the organisation, without a filter.")]
MOST_GROUPS = 1000


def register(group: typer.Typer) -> None:
    """Put this module's commands on the group `dead-letters`."""
    group.command("groups")(groups)
    group.command("overview")(overview)
    group.command("assign")(assign)
    group.command("note")(note)


def groups(
    code: Code = None,
    state: State = None,
    job: Job = None,
    source: Source = None,
    fingerprint: Fingerprint = None,
    assignee: Assignee = None,
    older_than: OlderThan = None,
    changed: Changed = None,
    overdue: Overdue = None,
    organisation: Organisation = None,
    json: AsJson = False,
) -> None:
    """Group dead letters by fingerprint: how many of a kind, how old, one to look at."""
    wanted = letter_filter.parse(code, state, job, source, fingerprint, assignee, older_than, changed, overdue)
    with common.database() as db:
        found = desk.groups(db, settings(), common.organisation_id(db, organisation), wanted, limit=MOST_GROUPS)
    if json:
        common.print_json(found.model_dump(mode="json"))
        return
    rows = [
        (
            f"{item.count:,}",
            item.fingerprint,
            common.counts(item.states),
            f"{item.overdue:,}" if item.overdue else "",
            item.oldest,
            item.sample,
            item.sentence,
        )
        for item in found.items
    ]
    common.out.print(
        common.table("letters", "fingerprint", "states", "overdue", "oldest", "see", "what happened", rows=rows)
    )
    if found.items:
        kinds = f"{found.groups:,} kind{'s' if found.groups > 1 else ''}"
        common.out.print(
            f"\n{found.letters:,} letters of {kinds}; look at one with `dead-letters show`, see all of a kind with "
            "`dead-letters list --fingerprint`"
        )
    if found.groups > len(found.items):
        common.err.print(
            f"the first {len(found.items):,} of {found.groups:,} kinds, those with most open letters; narrow it down"
        )


def overview(organisation: Organisation = None, json: AsJson = False) -> None:
    """Count what is open by code and age, and what is overdue."""
    with common.database() as db:
        found = desk.overview(db, settings(), common.organisation_id(db, organisation))
    if json:
        common.print_json(found.model_dump(mode="json"))
        return
    rows = [
        (
            item.code,
            f"{item.live:,}",
            f"{item.overdue:,}",
            f"{item.unassigned:,}",
            *(f"{item.ages[age]:,}" for age in ("day", "week", "month", "older")),
            item.oldest,
            f"{item.target_hours:g} h",
        )
        for item in found.items
        if item.live
    ]
    columns = ("code", "open", "overdue", "nobody's", "< 1 day", "< 7 days", "< 30 days", "older", "oldest", "target")
    common.out.print(common.table(*columns, rows=rows))
    common.out.print(f"\n{found.live:,} open, {found.overdue:,} of them overdue")


def assign(
    letter_ids: Ids = None,
    to: Annotated[str | None, typer.Option(help="Who is to look after them.")] = None,
    nobody: Annotated[bool, typer.Option("--nobody", help="Nobody is to look after them any more.")] = False,
    everything: All = False,
    code: Code = None,
    state: State = None,
    job: Job = None,
    source: Source = None,
    fingerprint: Fingerprint = None,
    assignee: Assignee = None,
    older_than: OlderThan = None,
    changed: Changed = None,
    overdue: Overdue = None,
    organisation: Organisation = None,
    acting: As = None,
    json: AsJson = False,
) -> None:
    """Let somebody look after dead letters: some by id, or all that match."""
    if (to is None) is not nobody:
        raise InvalidInputError("--to: say who, or --nobody")
    wanted = letter_filter.parse(code, state, job, source, fingerprint, assignee, older_than, changed, overdue)
    chosen = _chosen(letter_ids, wanted, everything)
    name = None if nobody else common.parse(AssignRequest, assignee=to).assignee
    with common.database() as db:
        org, who = common.organisation_id(db, organisation), common.actor(acting)
        if chosen:
            done = desk.assign(db, organisation_id=org, letter_ids=chosen, assignee=name, actor=who)
        else:
            done = desk.assign_all(db, organisation_id=org, wanted=wanted, assignee=name, actor=who)
    _say(done, json, f"given to {name or 'nobody'}")


def note(
    letter_ids: Ids = None,
    text: Annotated[str | None, typer.Option("--note", help="What somebody found out; required.")] = None,
    everything: All = False,
    code: Code = None,
    state: State = None,
    job: Job = None,
    source: Source = None,
    fingerprint: Fingerprint = None,
    assignee: Assignee = None,
    older_than: OlderThan = None,
    changed: Changed = None,
    overdue: Overdue = None,
    organisation: Organisation = None,
    acting: As = None,
    json: AsJson = False,
) -> None:
    """Put a note beside dead letters: some by id, or all that match."""
    wanted = letter_filter.parse(code, state, job, source, fingerprint, assignee, older_than, changed, overdue)
    chosen = _chosen(letter_ids, wanted, everything)
    given = common.parse(NoteRequest, note=text or "")
    with common.database() as db:
        org, who = common.organisation_id(db, organisation), common.actor(acting)
        if chosen:
            done = desk.note(db, organisation_id=org, letter_ids=chosen, note=given.note, actor=who)
        else:
            done = desk.note_all(db, organisation_id=org, wanted=wanted, note=given.note, actor=who)
    _say(done, json, "noted")


def _chosen(letter_ids: list[int] | None, wanted: LetterFilter, everything: bool) -> list[int] | None:
    """The ids, or None for the filter.

    Raises:
        InvalidInputError: neither, or both, say which letters are meant.
    """
    filtered = wanted != LetterFilter()
    if sum((bool(letter_ids), filtered, everything)) != 1:
        raise InvalidInputError("say which letters: either ids, or options such as --code and --fingerprint, or --all")
    return letter_ids or None


def _say(done: Acted, json: bool, what: str) -> None:
    if json:
        common.print_json(done.model_dump(mode="json"))
        return
    same = done.matched - done.changed
    common.out.print(
        f"{done.changed:,} {'letter' if done.changed == 1 else 'letters'} {what}"
        + (f"; {same:,} were so already" if same else ""),
        markup=False,
    )
