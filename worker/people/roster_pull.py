"""A roster from a SCIM server (RFC 7644), pulled page by page; each page is gone before the next one comes."""

import math
from collections.abc import Iterator

import httpx2
from scim2_client import SCIMClientException
from scim2_client.engines.httpx2 import SyncSCIMClient
from scim2_models import ScimProvider, User

from worker.people.rosters import RosterRefusedError

PAGE = 500
"""Users that are asked for at once; a server may give fewer."""
_SECONDS = 30.0
_MOST_PEOPLE = 5_000_000
_LONGEST = 255


def pull(url: str, token: str, *, transport: httpx2.BaseTransport | None = None) -> Iterator[tuple[str, bool]]:
    """External id and whether they are active, of every user of a server. `transport`: for tests.

    A user without `externalId` goes by `userName`, as in the service's own directory. Without `active` they are active.

    Raises:
        RosterRefusedError: the server cannot be reached, answers something else, or gave fewer users than it has.
    """
    headers = {"Authorization": f"Bearer {token}"}
    with httpx2.Client(base_url=url, headers=headers, timeout=_SECONDS, transport=transport) as client:
        scim = SyncSCIMClient(client, provider=ScimProvider(models=[User]))
        start, total = 1, math.inf
        while start <= total:
            page, found = _page(scim, start)
            if not math.isinf(total) and found != total:
                raise RosterRefusedError(f"The server had {total:,} users, and {found:,} a page later. Pull again.")
            if not page and start <= found:
                raise RosterRefusedError(f"The server has {found:,} users and gave {start - 1:,}: it is truncated.")
            total = found
            yield from page
            start += len(page)


def _page(scim: SyncSCIMClient, start: int) -> tuple[list[tuple[str, bool]], int]:
    wanted = {"startIndex": start, "count": PAGE, "attributes": "externalId,userName,active"}
    try:
        answer = scim.query(User, query_parameters=wanted, check_request_payload=False, check_response_payload=False)
    except (SCIMClientException, httpx2.HTTPError) as error:
        raise RosterRefusedError(f"The SCIM server did not answer as expected: {type(error).__name__}.") from None
    total = answer.get("totalResults") if isinstance(answer, dict) else None
    users = answer.get("Resources", []) if isinstance(answer, dict) else None
    if not isinstance(total, int) or not 0 <= total <= _MOST_PEOPLE or not isinstance(users, list):
        raise RosterRefusedError("The SCIM server did not answer with a list of users. Check its URL and the token.")
    return [_person(user) for user in users], total


def _person(user: object) -> tuple[str, bool]:
    found = user if isinstance(user, dict) else {}
    external_id, active = found.get("externalId") or found.get("userName"), found.get("active", True)
    if not isinstance(external_id, str) or not 0 < len(external_id) <= _LONGEST or "\0" in external_id:
        raise RosterRefusedError("The SCIM server gave a user without a usable externalId or userName.")
    if not isinstance(active, bool):
        raise RosterRefusedError("The SCIM server gave a user of whom `active` is neither true nor false.")
    return external_id, active
