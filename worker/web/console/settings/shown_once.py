"""A new secret on its way from the form that made it to the page that shows it once.

The page after a form is another request, so that reloading it makes no second secret. In between the secret is in a
sealed cookie, which only its session can open, within two minutes, and which goes with the page that shows it. It is
in no address, log or history.
"""

from datetime import datetime
from typing import Any

from starlette.responses import Response

from worker.access.sealing import Seal
from worker.errors import InvalidInputError
from worker.records import Seen
from worker.texts import text
from worker.web.console.render import PATH
from worker.web.console.view import View

COOKIE = "withdrawals_new_secret"
SETTINGS = f"{PATH}/settings"
_SECONDS = 120


def go(view: View, path: str, said: str, secret: str) -> Response:
    """Go to a page of the settings, which shows the secret once."""
    answer = view.go(path, said)
    answer.set_cookie(
        COOKIE,
        _seal(view).seal(f"{_whose(view)} {secret}".encode()),
        max_age=_SECONDS,
        path=SETTINGS,
        httponly=True,
        samesite="strict",
        secure=view.request.url.scheme == "https",
    )
    return answer


def page(view: View, template: str, **shown: Any) -> Response:
    """A page of the settings, with the secret that was made a moment ago."""
    sealed = view.request.cookies.get(COOKIE)
    opened = _seal(view).open(sealed, within=_SECONDS) if sealed else None
    whose, _, secret = opened.decode().partition(" ") if opened else ("", "", "")
    answer = view.page(template, secret=secret if whose == _whose(view) else "", **shown)
    if sealed:
        answer.delete_cookie(COOKIE, path=SETTINGS)
    return answer


def parse_seen(given: str) -> Seen:
    """When a secret was last replaced, as the form that was sent has it.

    Raises:
        InvalidInputError: the form was changed on its way.
    """
    try:
        return Seen(datetime.fromisoformat(given) if given else None)
    except ValueError:
        raise InvalidInputError(text("The form is incomplete. Reload the page, and send it again.")) from None


def _whose(view: View) -> str:
    return str(view.session.holder.session_id)


def _seal(view: View) -> Seal:
    return Seal(view.settings, "new-secret")
