"""Runs: acts on all that matched, to watch and to stop."""

from fastapi import APIRouter
from starlette.responses import Response

from schemas.dead_letters import LetterFilter
from worker.dead_letters import acts, desk, runs
from worker.dead_letters.request_shares import RequestShare
from worker.ids import next_cursor, parse_cursor
from worker.ledger import runs as ledger
from worker.ledger.runs import CountedRun
from worker.texts import text
from worker.web.console import told_apart
from worker.web.console.letter_filter import ChosenFilter, describe_conditions
from worker.web.console.render import PATH
from worker.web.console.view import Looking, Operating
from worker.web.context import Cursor, RowId

router = APIRouter(prefix=f"{PATH}/runs", include_in_schema=False)

MOST = 50
"""Runs on a page."""


@router.get("")
def list_runs(view: Looking, cursor: Cursor = None) -> Response:
    """Runs, newest first."""
    with view.database.begin() as connection:
        found = ledger.list_runs(connection, view.organisation_id, before=parse_cursor(cursor or None), limit=MOST)
    return view.page(
        "runs.html",
        rows=[(run, describe_conditions(run.filter)) for run in found],
        next_cursor=next_cursor(found, MOST),
    )


@router.get("/{run_id}")
def show(view: Looking, run_id: RowId) -> Response:
    """One run: its progress, its results, why it halted."""
    found = runs.show(view.database, organisation_id=view.organisation_id, run_id=run_id)
    everything = LetterFilter()
    left = list[RequestShare]()
    if found.finished_at is not None:
        left = told_apart.tell_apart(view, everything, desk.count_live(view.database, view.organisation_id, everything))
    return view.page(
        "run.html",
        run=found,
        conditions=describe_conditions(found.filter),
        done=_done(found),
        left=told_apart.list_parts(view, ChosenFilter(everything, {}), left),
        acts=acts.ACTS,
    )


@router.post("/{run_id}/stop")
def stop(view: Operating, run_id: RowId) -> Response:
    """End a run; attempts in flight end by themselves."""
    found = runs.stop(view.database, organisation_id=view.organisation_id, run_id=run_id, actor=view.actor)
    said = (
        text("The run is stopped. Attempts in flight end by themselves.")
        if found.state == "stopped"
        else text("The run had already ended.")
    )
    return view.go(f"{PATH}/runs/{run_id}", said=said)


def _done(run: CountedRun) -> int:
    return run.letters - run.waiting - run.in_flight
