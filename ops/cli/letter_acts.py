"""Acts on dead letters: on a few by id, or, as a run, on all that match a filter."""

import time
from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from ops.cli import common
from ops.cli.common import As, AsJson, Cursor, Limit, Note, Organisation
from ops.cli.dead_letters import document
from ops.cli.letter_filter import takes_filter
from schemas.catalogue import LetterState
from schemas.dead_letters import LetterAct, LetterFilter
from schemas.runs import Run
from worker.database import Database
from worker.dead_letters import acts, remedies, runs
from worker.errors import InvalidInputError
from worker.ledger import runs as ledger

run_group = typer.Typer(no_args_is_help=True, help="Runs over letters that match a filter: list, show, watch, stop.")

Ids = Annotated[
    list[int] | None,
    typer.Argument(
        help="Ids of letters; or give a filter.", show_default=False, callback=common.refuse_large_id("dead letter")
    ),
]
Every = Annotated[bool, typer.Option("--all", help="All open letters.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only count what would happen.")]
Rate = Annotated[int, typer.Option(min=1, max=1000, help="Letters a second.")]
Canary = Annotated[int, typer.Option(min=0, max=100, help="Letters of each fingerprint that go first.")]
RunId = Annotated[int, typer.Argument(help="The id of the run.")]


def register(group: typer.Typer) -> None:
    """Put this module's commands beside those that look at dead letters."""
    group.command("redrive")(redrive)
    group.command("resolve")(resolve)
    group.command("discard")(discard)
    group.add_typer(run_group, name="runs")


@takes_filter(without=("state",))
def redrive(
    wanted: LetterFilter,
    letter_ids: Ids = None,
    every: Every = False,
    dry_run: DryRun = False,
    rate: Rate = runs.RATE,
    canary: Canary = runs.CANARY,
    note: Note = None,
    organisation: Organisation = None,
    acting: As = None,
    json: AsJson = False,
) -> None:
    """Try letters again. With a filter, a few letters of each fingerprint go first."""
    if _is_by_filter(letter_ids, every, wanted):
        _run(LetterAct.REDRIVE, wanted, dry_run, organisation, acting, json, note=note, rate=rate, canary=canary)
        return
    _refuse_dry_run(dry_run)
    who = common.actor(acting)
    _act(
        organisation,
        json,
        letter_ids or [],
        lambda db, org, ids: remedies.redrive(db, organisation_id=org, letter_ids=ids, actor=who, note=note),
    )


@takes_filter(without=("state",))
def resolve(
    wanted: LetterFilter,
    remedy: Annotated[
        str,
        typer.Option(
            help="override (withdraw although a pathway owns it), cascade (withdraw the learner's others in the "
            "pathway too), or keep (the enrolment stays)."
        ),
    ],
    letter_ids: Ids = None,
    every: Every = False,
    dry_run: DryRun = False,
    rate: Rate = runs.RATE,
    canary: Canary = runs.CANARY,
    note: Annotated[str, typer.Option(callback=common.check_note, help="The reason; required.")] = "",
    organisation: Organisation = None,
    acting: As = None,
    json: AsJson = False,
) -> None:
    """Decide letters by a remedy."""
    act = acts.parse_act(remedy, among=acts.RESOLUTIONS, name="--remedy")
    if _is_by_filter(letter_ids, every, wanted):
        _run(act, wanted, dry_run, organisation, acting, json, note=note, rate=rate, canary=canary)
        return
    _refuse_dry_run(dry_run)
    who = common.actor(acting)
    _act(
        organisation,
        json,
        letter_ids or [],
        lambda db, org, ids: remedies.resolve(
            db, organisation_id=org, letter_ids=ids, remedy=act, actor=who, door="cli", note=note
        ),
    )


@takes_filter(without=("state",))
def discard(
    wanted: LetterFilter,
    letter_ids: Ids = None,
    every: Every = False,
    dry_run: DryRun = False,
    rate: Rate = runs.RATE,
    note: Note = None,
    organisation: Organisation = None,
    acting: As = None,
    json: AsJson = False,
) -> None:
    """Close letters without an answer."""
    if _is_by_filter(letter_ids, every, wanted):
        _run(LetterAct.DISCARD, wanted, dry_run, organisation, acting, json, note=note, rate=rate)
        return
    _refuse_dry_run(dry_run)
    who = common.actor(acting)
    _act(
        organisation,
        json,
        letter_ids or [],
        lambda db, org, ids: remedies.discard(db, organisation_id=org, letter_ids=ids, actor=who, note=note),
    )


@run_group.command("list")
def list_runs(
    limit: Limit = None, cursor: Cursor = None, organisation: Organisation = None, json: AsJson = False
) -> None:
    """List runs, newest first."""
    with common.database() as db:
        org, most = common.organisation_id(db, organisation), common.page_size(limit, json)
        with db.begin() as connection:
            found = ledger.list_runs(connection, org, before=cursor, limit=most)
    common.print_list(
        found,
        json,
        columns=("run", "act", "state", "by", "letters", "progress"),
        row=lambda r: (r.id, r.act, r.state, r.actor, f"{r.letters:,}", _counts(r)),
        document=_document,
        most=most,
    )


@run_group.command("show")
def show(run_id: RunId, organisation: Organisation = None, json: AsJson = False) -> None:
    """Show one run."""
    with common.database() as db:
        found = runs.show(db, organisation_id=common.organisation_id(db, organisation), run_id=run_id)
    _print(found, json)


@run_group.command("watch")
def watch(run_id: RunId, organisation: Organisation = None, json: AsJson = False) -> None:
    """Watch a run until it ends; exit 1 when it halted or letters are open again."""
    with common.database() as db, _progress() as bar:
        org = common.organisation_id(db, organisation)
        found = runs.show(db, organisation_id=org, run_id=run_id)
        task = bar.add_task(f"run {run_id}", total=found.letters)
        while found.finished_at is None:
            time.sleep(0.3)
            found = runs.show(db, organisation_id=org, run_id=run_id)
            bar.update(task, completed=found.letters - found.waiting - found.in_flight)
    _print(found, json)
    if found.state != "done" or found.came_back:
        raise typer.Exit(1)


@run_group.command("stop")
def stop(run_id: RunId, organisation: Organisation = None, acting: As = None, json: AsJson = False) -> None:
    """End a run; attempts in flight end by themselves."""
    with common.database() as db:
        org = common.organisation_id(db, organisation)
        found = runs.stop(db, organisation_id=org, run_id=run_id, actor=common.actor(acting))
    _print(found, json)


def _is_by_filter(letter_ids: list[int] | None, every: bool, wanted: LetterFilter) -> bool:
    """Whether letters are selected by a filter, and not by id.

    Raises:
        InvalidInputError: both, or neither, were given.
    """
    filtered = every or wanted != LetterFilter()
    if bool(letter_ids) == filtered:
        raise InvalidInputError("Give ids of letters, or a filter (--code, --job, …, --all), but not both.")
    return filtered


def _refuse_dry_run(dry_run: bool) -> None:
    if dry_run:
        raise InvalidInputError(
            "--dry-run: needs a filter. `dead-letters show` says what each remedy does to one letter."
        )


def _act(
    organisation: str | None, json: bool, letter_ids: list[int], act: Callable[[Database, int, list[int]], None]
) -> None:
    with common.database() as db:
        org = common.organisation_id(db, organisation)
        act(db, org, letter_ids)
        shown = [remedies.show(db, organisation_id=org, letter_id=letter_id) for letter_id in letter_ids]
    if json:
        common.print_json({"items": [document(letter) for letter in shown], "next_cursor": None})
        return
    for letter in shown:
        going = letter.state == LetterState.REDRIVEN
        common.out.print(f"dead letter {letter.id}: {letter.state}" + (", an attempt is under way" if going else ""))


def _run(
    act: LetterAct,
    wanted: LetterFilter,
    dry_run: bool,
    organisation: str | None,
    acting: str | None,
    json: bool,
    **how: Any,
) -> None:
    with common.database() as db:
        org = common.organisation_id(db, organisation)
        if dry_run:
            _print_preview(act, runs.preview(db, organisation_id=org, act=act, wanted=wanted), json)
            return
        who = common.actor(acting)
        begun = runs.start(db, organisation_id=org, act=act, wanted=wanted, actor=who, door="cli", **how)
    _print(begun, json)
    if not json:
        common.err.print(f"The run has started. Watch it with: withdrawals dead-letters runs watch {begun.id}")


def _print_preview(act: str, found: dict[str, Any], json: bool) -> None:
    if json:
        common.print_json(found)
        return
    common.out.print(f"{act}: {found['letters']:,} letters match. Nothing was written.")
    rows = [
        (outcome, f"{count:,}", " ".join(str(letter_id) for letter_id in found["samples"][outcome]))
        for outcome, count in found["outcomes"].items()
    ]
    if rows:
        common.out.print(common.table("would be", "letters", "such as", rows=rows))
    if found["moot"]:
        common.out.print(f"{found['moot']:,} of them need nothing any more: already withdrawn, ended or superseded.")
    if found["also"]:
        common.out.print(f"Also {found['also']:,} other active enrolments in these pathways.")


def _print(run: ledger.CountedRun, json: bool) -> None:
    if json:
        common.print_json(_document(run))
        return
    rows = [
        ("run", run.id),
        ("act", run.act),
        ("state", run.state + (f": {run.because}" if run.because else "")),
        ("by", run.actor),
        ("note", run.note),
        ("letters", f"{run.letters:,}"),
        ("progress", _counts(run)),
        ("withdrawn", None if run.withdrawn is None else f"{run.withdrawn:,}"),
        ("reinstated", f"{run.reinstated:,}" if run.reinstated else None),
        ("began", run.created_at),
        ("ended", run.finished_at),
    ]
    common.out.print(common.table("", "", rows=[row for row in rows if row[1] is not None]))


def _counts(run: ledger.CountedRun) -> str:
    found = {
        "resolved": run.resolved,
        "open again": run.came_back,
        "held back": run.held_back,
        "skipped": run.passed,
        "in flight": run.in_flight,
        "waiting": run.waiting,
    }
    return ", ".join(f"{name} {count:,}" for name, count in found.items() if count) or "none"


def _document(run: ledger.CountedRun) -> dict[str, Any]:
    return Run.model_validate(run).model_dump(mode="json")


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        console=common.out,
        disable=not common.out.is_terminal,
    )
