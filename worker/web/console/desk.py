"""The dead-letter desk: what waits for a person, by code and age; lists and groups of it."""

from typing import Literal

from fastapi import APIRouter
from starlette.responses import Response

from schemas.catalogue import LetterCode, LetterState, Reason, Source
from schemas.dead_letters import LetterAct
from schemas.saved_views import ListName
from worker.dead_letters import acts, desk, diagnosis, remedies, request_shares
from worker.ledger.letter_counts import MOST_CAUSES
from worker.texts import text
from worker.web.console import saved_views, told_apart
from worker.web.console.letter_filter import InQuery
from worker.web.console.render import PATH
from worker.web.console.view import Looking
from worker.web.context import Cursor

router = APIRouter(prefix=PATH, include_in_schema=False)

MOST = 50
"""Letters on a page."""
MOST_GROUPS = 100
AGES = [
    ("1d", text("1 day ago")),
    ("3d", text("3 days ago")),
    ("7d", text("7 days ago")),
    ("30d", text("30 days ago")),
]


@router.get("/dead-letters")
def list_letters(
    view: Looking, wanted: InQuery, sort: Literal["newest", "oldest", ""] = "", cursor: Cursor = None
) -> Response:
    """What waits, the longest overdue first unless `sort` says otherwise; above it the whole desk by code and age."""
    code = wanted.filter.code
    found = desk.list_letters(
        view.database,
        view.settings,
        view.organisation_id,
        wanted.filter,
        cursor=cursor or None,
        limit=MOST,
        sort=sort or "due",
    )
    context = desk.find_context(view.database, view.organisation_id, wanted.filter, found.items)
    rows = [
        (remedies.document(letter), diagnosis.describe_cause(letter), context.letters[letter.id])
        for letter in found.items
    ]
    shares = told_apart.tell_apart(view, wanted.filter, context.live)
    is_vain = bool(shares) and not any(share.can_be_redriven for share in shares)
    return view.page(
        "dead_letters.html",
        wanted=wanted,
        sort=sort,
        shelf=saved_views.shelf(
            view,
            ListName.DEAD_LETTERS,
            {} if wanted.filter.ids or wanted.filter.run_id else {**wanted.given, "sort": sort},
        ),
        overview=desk.overview(view.database, view.settings, view.organisation_id),
        overdue=desk.count_overdue(view.database, view.settings, view.organisation_id, wanted.filter),
        rows=rows,
        context=context,
        counted=desk.COUNTED,
        alike=desk.COUNTED_ALIKE,
        next_cursor=found.next_cursor,
        acts=acts.ACTS,
        remedies=acts.remedies(code) if code else {},
        vain=[LetterAct.REDRIVE] if is_vain else [],
        parts_of_list=told_apart.list_parts(view, wanted, shares),
        codes=list(LetterCode),
        states=list(LetterState),
        sources=list(Source),
        reasons=list(Reason),
        ages=AGES,
    )


@router.get("/dead-letters/groups")
def list_groups(view: Looking, wanted: InQuery) -> Response:
    """What waits by what happened: letters that share a fingerprint share their cause."""
    found = desk.groups(view.database, view.settings, view.organisation_id, wanted.filter, limit=MOST_GROUPS)
    shares = None
    if not found.at_least and found.letters <= told_apart.MOST:
        shares = request_shares.list_by_cause(view.database, organisation_id=view.organisation_id, wanted=wanted.filter)
    different = [
        cause for cause, parts in (shares or {}).items() if request_shares.call_for_different_acts(parts)
    ]  # fmt: skip
    return view.page(
        "dead_letter_groups.html",
        wanted=wanted,
        found=found,
        shares=shares,
        different=different,
        acts=acts.ACTS,
        most_causes=MOST_CAUSES,
    )
