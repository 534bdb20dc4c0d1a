"""HiBob (Bob): the employee's termination date, over the public API.

Sources, read in November 2026:
- "Employee terminated" fires "when an employee is set as terminated or on Garden leave (whichever occurs first)":
  https://apidocs.hibob.com/reference/post_webhook_employee-left. So no event is a leave date.
- "People whose employment termination date is in the future, but their last day of work is before the termination
  date" are on garden leave: https://help.hibob.com/hc/en-us/articles/4409776355857. So `internal.terminationDate` is
  the end of the employment, and `employee.lastDayOfWork` is not.
- Events do not carry the data, "call Bob's Public API": https://apidocs.hibob.com/reference/webhook-events-v2.
- `POST /v1/people/search` with the fields wanted, Basic authentication of a service user.

Not verified, for want of an account: that a rehire empties `internal.terminationDate`. So a date in the past of
somebody who is neither terminated nor on garden leave is unclear, and a person decides. Answers are read in both shapes
that are published: objects inside objects, and `{"/internal/terminationDate": {"value": …}}`.
"""

import base64
import json
from datetime import date
from typing import Any

from worker.people.hr_records.record import (
    Api,
    Leaves,
    Record,
    Stays,
    UnclearRecordError,
    find,
    find_list,
    parse_day,
    same_id,
)

URL = "https://api.hibob.com"
GONE = "terminated"
LEAVING = (GONE, "garden leave")
"""Lifecycle statuses of somebody whose last day may be past. All others, and none, may be of somebody who is back."""
_FIELDS = ("root.id", "internal.terminationDate", "internal.lifecycleStatus")


def look_up(api: Api, external_id: str, today: date) -> Record:
    """What HiBob says about an employee. The key is the service user's id and token, with a colon between.

    Raises:
        NoAnswerError: it does not answer.
        UnclearRecordError: it does not say clearly whether the employee leaves.
    """
    asked = {
        "fields": list(_FIELDS),
        "filters": [{"fieldPath": "root.id", "operator": "equals", "values": [external_id]}],
        "showInactive": True,
    }
    basic = base64.b64encode(api.key.encode()).decode()
    answer = api.post("/v1/people/search", {"Authorization": f"Basic {basic}"}, json.dumps(asked).encode())
    return read_record(answer, external_id, today)


def read_record(answer: Any, external_id: str, today: date) -> Record:
    """What an answer to the search says.

    Raises:
        UnclearRecordError: as `look_up`.
    """
    found = [item for item in find_list(answer, "employees") if same_id(_value(item, "root", "id"), external_id)]
    if len(found) != 1:
        raise UnclearRecordError("HiBob does not show this employee to the service user")
    status = str(_value(found[0], "internal", "lifecycleStatus") or "").strip().lower()
    last_day = parse_day(_value(found[0], "internal", "terminationDate"), "internal.terminationDate")
    if last_day is None:
        if status == GONE:
            raise UnclearRecordError("the employee is terminated, without a termination date")
        return Stays()
    if last_day < today and status not in LEAVING:
        raise UnclearRecordError(f"the termination date is past, and the employee is {status[:40] or 'of no status'}")
    return Leaves(last_day)


def _value(item: Any, category: str, name: str) -> Any:
    flat = find(item, f"/{category}/{name}")
    if flat is not None:
        return find(flat, "value")
    return find(item, name) if category == "root" else find(item, category, name)
