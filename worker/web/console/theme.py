"""The switch between the light and the dark scheme: a cookie that the server reads, so that no page flashes."""

from enum import StrEnum
from typing import Annotated

from fastapi import APIRouter, Form
from starlette.responses import RedirectResponse, Response

from worker.web.console.render import PATH, THEME
from worker.web.console.sign_in import path_inside
from worker.web.console.view import SigningOut

router = APIRouter(prefix=PATH, include_in_schema=False)

_SECONDS = 31_536_000


class Theme(StrEnum):
    """Which scheme the pages have; `system` follows the device."""

    SYSTEM = "system"
    LIGHT = "light"
    DARK = "dark"


@router.post("/theme")
def choose(
    view: SigningOut, theme: Annotated[Theme, Form()], back: Annotated[str, Form(max_length=2000)] = PATH
) -> Response:
    """Choose the scheme of this browser's pages. The script of the pages does the same without a request."""
    answer = RedirectResponse(path_inside(back), 303)
    if theme is Theme.SYSTEM:
        answer.delete_cookie(THEME, path=PATH)
    else:  # readable for the script, which changes it
        secure = view.request.url.scheme == "https"
        answer.set_cookie(THEME, theme, max_age=_SECONDS, path=PATH, samesite="lax", secure=secure)
    return answer
