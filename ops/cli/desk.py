"""The dead-letter desk: letters by cause and age, assignees, notes; registered on `dead-letters`."""

from typing import Annotated

import typer

from ops.cli import common
from ops.cli.common import As, AsJson, Organisation
from ops.cli.letter_filter import takes_filter
from schemas.dead_letters import LetterFilter
from schemas.desk import Acted, AssignRequest, NoteRequest
from worker.config import settings
from worker.dead_letters import desk, desk_acts
from worker.errors import InvalidInputError
from worker.ledger.letter_counts import MOST_CAUSES

Ids = Annotated[
    list[int] | None,
    typer.Argument(
        help="Ids of letters; or give filter options instead.", callback=common.refuse_large_id("dead letter")
    ),
]
All = Annotated[bool, typer.Option("--all", help="All letters of the organisation, without a filter.")]
MOST_GROUPS = 1000


def register(group: typer.Typer) -> None:
    """Put this module's commands on the group `dead-letters`."""
    group.command("groups")(groups)
    group.command("overview")(overview)
    group.command("assign")(assign)
    group.command("note")(note)


@takes_filter()
def groups(
    wanted: LetterFilter,
    organisation: Organisation = None,
    json: AsJson = False,
) -> None:
    """Group dead letters by fingerprint: how many of each cause, how old, one to look at."""
    with common.database() as db:
        found = desk.groups(db, settings(), common.organisation_id(db, organisation), wanted, limit=MOST_GROUPS)
    if json:
        common.print_json(found)
        return
    rows = [
        (
            common.number(item.count, found.counted_to),
            item.fingerprint,
            common.counts(item.states),
            common.number(item.overdue, found.counted_to) if item.overdue else "",
            item.oldest,
            item.sample,
            item.sentence,
        )
        for item in found.items
    ]
    common.out.print(
        common.table("letters", "fingerprint", "states", "overdue", "oldest", "see", "what happened", rows=rows)
    )
    causes = f"{common.number(found.groups, MOST_CAUSES)} cause{'s' if found.groups > 1 else ''}"
    if found.items:
        common.out.print(
            f"\n{'More than ' if found.at_least else ''}{found.letters:,} letters with {causes}. Show one with "
            "`dead-letters show`, and all with the same cause with `dead-letters list --fingerprint`."
        )
    if found.groups > len(found.items):
        common.err.print(
            f"These are the first {len(found.items):,} of {causes}, those with most open letters. Use a narrower "
            "filter to see the others."
        )


def overview(organisation: Organisation = None, json: AsJson = False) -> None:
    """Count what is open by code and age, and what is overdue."""
    with common.database() as db:
        found = desk.overview(db, settings(), common.organisation_id(db, organisation))
    if json:
        common.print_json(found)
        return
    rows = [
        (
            item.code,
            *(common.number(count, found.counted_to) for count in (item.live, item.overdue, item.unassigned)),
            *(common.number(item.ages[age], found.counted_to) for age in ("day", "week", "month", "older")),
            item.oldest,
            f"{item.target_hours:g} h",
        )
        for item in found.items
        if item.live
    ]
    columns = ("code", "open", "overdue", "unassigned", "< 1 day", "< 7 days", "< 30 days", "older", "oldest", "target")
    common.out.print(common.table(*columns, rows=rows))
    more = "More than " if found.at_least else ""
    common.out.print(f"\n{more}{found.live:,} open, {found.overdue:,} of them overdue")


@takes_filter()
def assign(
    wanted: LetterFilter,
    letter_ids: Ids = None,
    to: Annotated[str | None, typer.Option(help="Who looks after them from now on.")] = None,
    nobody: Annotated[bool, typer.Option("--nobody", help="Remove the assignee.")] = False,
    everything: All = False,
    organisation: Organisation = None,
    acting: As = None,
    json: AsJson = False,
) -> None:
    """Assign dead letters to somebody: some by id, or all that match."""
    if (to is None) is not nobody:
        raise InvalidInputError("--to: give a name, or use --nobody.")
    chosen = _chosen(letter_ids, wanted, everything)
    name = None if nobody else common.parse(AssignRequest, assignee=to).assignee
    with common.database() as db:
        org, who = common.organisation_id(db, organisation), common.actor(acting)
        if chosen:
            done = desk_acts.assign(db, organisation_id=org, letter_ids=chosen, assignee=name, actor=who)
        else:
            done = desk_acts.assign_all(db, organisation_id=org, wanted=wanted, assignee=name, actor=who)
    _print_done(done, json, f"assigned to {name}" if name else "unassigned")


@takes_filter()
def note(
    wanted: LetterFilter,
    letter_ids: Ids = None,
    text: Annotated[str | None, typer.Option("--note", help="The note; required.")] = None,
    everything: All = False,
    organisation: Organisation = None,
    acting: As = None,
    json: AsJson = False,
) -> None:
    """Add a note to dead letters: some by id, or all that match."""
    chosen = _chosen(letter_ids, wanted, everything)
    given = common.parse(NoteRequest, note=text or "")
    with common.database() as db:
        org, who = common.organisation_id(db, organisation), common.actor(acting)
        if chosen:
            done = desk_acts.note(db, organisation_id=org, letter_ids=chosen, note=given.note, actor=who)
        else:
            done = desk_acts.note_all(db, organisation_id=org, wanted=wanted, note=given.note, actor=who)
    _print_done(done, json, "noted")


def _chosen(letter_ids: list[int] | None, wanted: LetterFilter, everything: bool) -> list[int] | None:
    """The ids, or None for the filter.

    Raises:
        InvalidInputError: neither, or both, say which letters are meant.
    """
    filtered = wanted != LetterFilter()
    if sum((bool(letter_ids), filtered, everything)) != 1:
        raise InvalidInputError("Give either ids, or filter options such as --code and --fingerprint, or --all.")
    return letter_ids or None


def _print_done(done: Acted, json: bool, what: str) -> None:
    if json:
        common.print_json(done)
        return
    same = done.matched - done.changed
    common.out.print(
        f"{done.changed:,} {'letter' if done.changed == 1 else 'letters'} {what}"
        + (f"; {same:,} {'was' if same == 1 else 'were'} so before" if same else ""),
        markup=False,
    )
