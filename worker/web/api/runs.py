"""Acts on all dead letters that match a filter, over HTTP: preview, run, watch, stop."""

from fastapi import APIRouter, Response

from schemas import answers
from schemas.dead_letters import LetterAct
from schemas.runs import RedriveRequest, ResolveRequest, Run, RunPreview
from worker.dead_letters import acts, runs
from worker.ids import next_cursor, parse_cursor
from worker.ledger import runs as ledger
from worker.web.auth import Caller, Operator, Viewer
from worker.web.context import Context, Cursor, Limit, RowId, Services
from worker.web.problems import describes

router = APIRouter(prefix="/v1/dead-letters", tags=["dead letters"], responses=describes())

_ANSWERS = {
    200: {"model": RunPreview, "description": "With `dry_run`: what would happen."},
    **describes(409),
}


@router.post("/redrive", status_code=202, response_model=Run | RunPreview, responses=_ANSWERS)
def redrive_matching(context: Context, who: Operator, request: RedriveRequest, response: Response) -> Run | RunPreview:
    """Try all open letters that match again, a few of each fingerprint first. One run a filter."""
    return _run(context, who, LetterAct.REDRIVE, request, response)


@router.post("/resolve", status_code=202, response_model=Run | RunPreview, responses=_ANSWERS)
def resolve_matching(context: Context, who: Operator, request: ResolveRequest, response: Response) -> Run | RunPreview:
    """Decide all open letters that match by a remedy. Role: operator; `override` and `cascade`: approver."""
    who.must_be(acts.ACTS[request.remedy].role)
    return _run(context, who, request.remedy, request, response)


@router.post("/discard", status_code=202, response_model=Run | RunPreview, responses=_ANSWERS)
def discard_matching(context: Context, who: Operator, request: RedriveRequest, response: Response) -> Run | RunPreview:
    """Close all open letters that match without an answer."""
    return _run(context, who, LetterAct.DISCARD, request, response)


@router.get("/runs")
def list_runs(context: Context, who: Viewer, limit: Limit = 50, cursor: Cursor = None) -> answers.Page[Run]:
    """Runs, newest first."""
    with context.database.begin() as connection:
        found = ledger.list_runs(connection, who.organisation_id, before=parse_cursor(cursor), limit=limit)
    return answers.Page(items=[Run.model_validate(run) for run in found], next_cursor=next_cursor(found, limit))


@router.get("/runs/{run_id}", responses=describes(404))
def show_run(context: Context, who: Viewer, run_id: RowId) -> Run:
    """One run with its counts."""
    return Run.model_validate(runs.show(context.database, organisation_id=who.organisation_id, run_id=run_id))


@router.post("/runs/{run_id}/stop", responses=describes(404))
def stop_run(context: Context, who: Operator, run_id: RowId) -> Run:
    """End a run; attempts in flight end by themselves."""
    found = runs.stop(context.database, organisation_id=who.organisation_id, run_id=run_id, actor=who.actor)
    return Run.model_validate(found)


def _run(
    context: Services, who: Caller, act: LetterAct, request: RedriveRequest, response: Response
) -> Run | RunPreview:
    if request.dry_run:
        found = runs.preview(context.database, organisation_id=who.organisation_id, act=act, wanted=request.filter)
        response.status_code = 200
        return RunPreview.model_validate(found)
    begun = runs.start(
        context.database,
        organisation_id=who.organisation_id,
        act=act,
        wanted=request.filter,
        actor=who.actor,
        door="api",
        note=request.note,
        rate=request.rate,
        canary=request.canary,
        made_by=who.made_by,
    )
    return Run.model_validate(begun)
