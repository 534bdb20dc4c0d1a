"""The monthly attestation over HTTP: `/v1/reports/attestation.jsonl`."""

import tempfile
from typing import Annotated

from fastapi import APIRouter, Query, Response
from starlette.responses import StreamingResponse

from worker.reports import attestations
from worker.web.api.rosters import pieces
from worker.web.auth import Viewer
from worker.web.context import Context
from worker.web.problems import describes

router = APIRouter(prefix="/v1/reports", tags=["reports"], responses=describes())


@router.get(
    "/attestation.jsonl",
    response_class=Response,
    responses={200: {"content": {"application/x-ndjson": {}}, "description": "JSON Lines, signed."}, **describes(422)},
)
def read_attestation(
    context: Context,
    who: Viewer,
    month: Annotated[str, Query(max_length=7, description="In the organisation's time zone. Example: 2026-10.")],
) -> Response:
    """Who left in a month, when, withdrawn after how long, and what is open; `report verify-attestation` checks it."""
    spool = tempfile.TemporaryFile()  # noqa: SIM115 - closed once it was sent; a slow reader holds no transaction
    try:
        with context.pools.reports.begin() as connection:
            for line in attestations.make(connection, context.settings, who.organisation_id, month):
                spool.write(line.encode())
    except BaseException:
        spool.close()
        raise
    spool.seek(0)
    headers = {"Content-Disposition": f'attachment; filename="attestation {month}.jsonl"', "Cache-Control": "no-store"}
    return StreamingResponse(pieces(spool), headers=headers, media_type="application/x-ndjson")
