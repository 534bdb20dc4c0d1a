"""Finch, which reads many HR systems in one form: the employment of an individual.

Sources, read in November 2026:
- `POST /employer/employment`, and its fields `is_active`, `employment_status` (active, deceased, leave, onboarding,
  prehire, retired, terminated), `end_date` and `latest_rehire_date`: https://developer.tryfinch.com, and Finch's own
  library, https://github.com/Finch-API/finch-api-python (`types/hris/employment_data.py`).
- Data events name the individual alone: https://developer.tryfinch.com/developer-resources/Webhooks.

Finch, and not Merge, because its signature and its fields are published as code. A connection reads one employer, so a
source is one connection, and its key is the connection's access token. Leave is employment.
"""

import json
from datetime import date
from typing import Any

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
    same_id,
)

URL = "https://api.tryfinch.com"
VERSION = "2020-09-17"
"""Of Finch's API, as its libraries send it."""
GONE = ("terminated", "retired", "deceased")
NOT_AT_WORK = ("leave", "onboarding", "prehire")
"""Not active, and not gone."""


def look_up(api: Api, external_id: str, today: date) -> Record:
    """What Finch says about an individual. The key is the access token of the connection.

    Raises:
        NoAnswerError: it does not answer, or has no data yet.
        UnclearRecordError: it does not say clearly whether the individual leaves.
    """
    asked = json.dumps({"requests": [{"individual_id": external_id}]}).encode()
    headers = {"Authorization": f"Bearer {api.key}", "Finch-API-Version": VERSION}
    return read_record(api.post("/employer/employment", headers, asked), external_id, today)


def read_record(answer: Any, external_id: str, today: date) -> Record:
    """What an answer says about one individual.

    Raises:
        NoAnswerError: Finch has no data of the individual now.
        UnclearRecordError: as `look_up`.
    """
    found = [item for item in find_list(answer, "responses") if same_id(find(item, "individual_id"), external_id)]
    if len(found) != 1:
        raise UnclearRecordError("Finch does not show this individual to the connection")
    code, body = find(found[0], "code"), find(found[0], "body")
    if code != 200:
        raise NoAnswerError(f"Finch answers {code if isinstance(code, int) else 'nothing'} for the individual")
    status, active = find(body, "employment_status"), find(body, "is_active")
    last_day = parse_day(find(body, "end_date"), "end_date")
    rehired = parse_day(find(body, "latest_rehire_date"), "latest_rehire_date")
    if last_day is not None and rehired is not None and rehired > last_day:
        last_day = None  # the end of an employment of before
    has_left = status in GONE
    if has_left and active is True:
        raise UnclearRecordError("the status says that the individual has left, and is_active says the contrary")
    if has_left:
        return Leaves(last_day)
    if active is False and status not in NOT_AT_WORK:
        raise UnclearRecordError("the individual is not active, and the status does not say that they have left")
    if last_day is not None and last_day < today:
        raise UnclearRecordError("the end date is past, and the status does not say that the individual has left")
    return Stays() if last_day is None else Leaves(last_day)
