"""What the letters of a list call for, told apart by their requests, as long as they are few enough to be looked at."""

from schemas.dead_letters import LetterFilter
from worker.dead_letters import request_shares
from worker.dead_letters.request_shares import RequestShare
from worker.web.console.view import View

MOST = 2_000
"""Letters that a page tells apart; each is looked at. Previews do so of any number."""


def tell_apart(view: View, wanted: LetterFilter, live: int) -> list[RequestShare]:
    """The open letters that match by their requests, most first; none if more than `MOST` are `live`."""
    if not 0 < live <= MOST:
        return []
    return request_shares.list_shares(view.database, organisation_id=view.organisation_id, wanted=wanted)
