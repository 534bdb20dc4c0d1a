"""Personio: the end of all employments of a person, over API v2.

Sources, read in November 2026:
- Webhooks carry no data ("Dataless Notifications"):
  https://developer.personio.de/changelog/webhooks-employment-events-ga.
- `GET /v2/persons/{person_id}/employments`, the newest first, `limit` up to 50:
  https://developer.personio.de/reference/get_v2-persons-person-id-employments.
- `employment_end_date` "marks the end of the employment"; `termination.termination_date` is "the termination date";
  `termination.last_working_day` is no end, and `terminated_at` is the day on which notice was given (the same page).
- `POST /v2/auth/token`, grant `client_credentials`: https://developer.personio.de/reference.

Not verified, for want of an account: the closed list of `status`. `ACTIVE` is in the published example; the statuses of
API v1 are active, onboarding, leave and inactive. What is published shows an active employment with an old termination
date: that is unclear here, and a person decides.
"""

from datetime import date
from typing import Any
from urllib.parse import quote, urlencode

from worker.people.hr_records.record import (
    Api,
    Leaves,
    NoAnswerError,
    Record,
    Stays,
    UnclearRecordError,
    find,
    find_list,
    parse_day,
)

URL = "https://api.personio.de"
MOST = 50
"""Employments of one page, the most that Personio allows."""
INACTIVE = "INACTIVE"


def look_up(api: Api, external_id: str, today: date) -> Record:
    """What Personio says about a person. The key is the client's id and secret, with a colon between.

    Raises:
        NoAnswerError: it does not answer.
        UnclearRecordError: it does not say clearly whether the person leaves.
    """
    client_id, _, secret = api.key.partition(":")
    asked = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": secret}
    granted = api.post("/v2/auth/token", {}, urlencode(asked).encode(), "application/x-www-form-urlencoded")
    token = find(granted, "access_token")
    if not isinstance(token, str) or not token.isascii() or not token.isprintable():
        raise NoAnswerError("the answer has no access token")
    path = f"/v2/persons/{quote(external_id, safe='')}/employments?limit={MOST}"
    return read_record(api.get(path, {"Authorization": f"Bearer {token}"}), today)


def read_record(answer: Any, today: date) -> Record:
    """What a list of employments says: a person leaves when all of them end, on the last day of the last one.

    Raises:
        UnclearRecordError: as `look_up`.
    """
    employments = find_list(answer, "_data")
    if not employments:
        raise UnclearRecordError("the person has no employment that Personio shows to the client")
    if find(answer, "_meta", "links", "next"):
        raise UnclearRecordError(f"the person has more than {MOST} employments")
    ends = [_end(item, today) for item in employments]
    if None in ends:
        return Stays()
    return Leaves(max(end for end in ends if end is not None))


def _end(item: Any, today: date) -> date | None:
    """The last day of an employment; None: it has no end."""
    if not isinstance(item, dict):
        raise UnclearRecordError("an employment is not an object")
    status = str(find(item, "status") or "").strip().upper()
    dates = [
        parse_day(find(item, "employment_end_date"), "employment_end_date"),
        parse_day(find(item, "termination", "termination_date"), "termination.termination_date"),
    ]
    end = max((day for day in dates if day is not None), default=None)
    if end is None and status == INACTIVE:
        raise UnclearRecordError("an employment is inactive, without an end")
    if end is not None and end < today and status != INACTIVE:
        raise UnclearRecordError(f"the end of an employment is past, and its status is not {INACTIVE}")
    return end
