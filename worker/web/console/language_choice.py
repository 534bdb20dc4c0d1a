"""The switch between languages: a cookie for this browser, signed in or not."""

from typing import Annotated

from fastapi import APIRouter, Form, Request
from starlette.responses import RedirectResponse, Response

from worker.errors import InvalidInputError
from worker.texts import text
from worker.web.console.languages import COOKIE, codes
from worker.web.console.render import PATH
from worker.web.console.sign_in import path_inside, refuse_other_sites

router = APIRouter(prefix=PATH, include_in_schema=False)

_SECONDS = 31_536_000


@router.post("/language")
def choose(
    request: Request,
    language: Annotated[str, Form(max_length=20)],
    back: Annotated[str, Form(max_length=2000)] = PATH,
) -> Response:
    """Choose the language of this browser's pages. It changes nothing else, so it needs no session."""
    refuse_other_sites(request)
    if language not in codes():
        raise InvalidInputError(text("language: choose one from the list."))
    answer = RedirectResponse(path_inside(back), 303)
    secure = request.url.scheme == "https"
    answer.set_cookie(COOKIE, language, max_age=_SECONDS, path=PATH, httponly=True, samesite="lax", secure=secure)
    return answer
