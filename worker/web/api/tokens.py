"""Bearer tokens over HTTP: `/v1/tokens`. Whoever makes one sees it, and counts as its user wherever two must decide."""

from fastapi import APIRouter, Response
from starlette.responses import JSONResponse

from schemas import answers
from schemas.tokens import AccessToken, NewAccessToken, TokenRequest, WaitingAccessToken
from worker.access import tokens
from worker.web.auth import Owner
from worker.web.context import Context, RowId
from worker.web.problems import describes

router = APIRouter(prefix="/v1/tokens", tags=["tokens"], responses=describes())


@router.get("")
def list_tokens(context: Context, who: Owner) -> answers.Page[AccessToken]:
    """Every token, revoked ones included, newest first, without secrets."""
    found = tokens.list_tokens(context.database, organisation_id=who.organisation_id)
    return answers.Page(items=[AccessToken.model_validate(one) for one in found], next_cursor=None)


_WAITS = {"model": WaitingAccessToken, "description": "It waits for a second person, and works once it is approved."}


@router.post("", status_code=201, responses={202: _WAITS, **describes(404, 409)}, response_model=NewAccessToken)
def create_token(
    context: Context, who: Owner, request: TokenRequest, response: Response
) -> NewAccessToken | JSONResponse:
    """Make a token. It is shown only once. Where the policies ask for a second person, it waits for them (202)."""
    response.headers["Cache-Control"] = "no-store"
    try:
        made = tokens.create(
            context.database,
            organisation_id=who.organisation_id,
            name=request.name,
            role=request.role,
            actor=who.actor,
            member_id=request.member_id,
            made_by=who.made_by,
            note=request.note,
        )
    except tokens.TokenWaitsError as waits:
        found = {**waits.more, "token": waits.secret}
        return JSONResponse(found, 202, headers={"Cache-Control": "no-store"})
    shown = AccessToken.model_validate(made.token)
    return NewAccessToken(**shown.model_dump(), token=made.secret)


@router.post("/{token_id}/revoke", responses=describes(404))
def revoke_token(context: Context, who: Owner, token_id: RowId) -> AccessToken:
    """End a token at once, and every session that it opened."""
    ended = tokens.revoke(context.database, organisation_id=who.organisation_id, token_id=token_id, actor=who.actor)
    return AccessToken.model_validate(ended)
