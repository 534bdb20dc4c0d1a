"""Plan a withdrawal: of ticked rows, or all rows of a filtered list; the plan; the confirmation.

The choice stands in the address of the plan page, so going back, reloading and sharing the link are safe. Only the
confirmation writes, with the plan's hash and the idempotency key that came with the page.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Form, Query
from starlette.responses import Response

from schemas import answers
from schemas.catalogue import Reason
from schemas.jobs import JobRequest
from worker.errors import InvalidInputError
from worker.jobs import plan, submit
from worker.jobs.admission import SIGNED_IN
from worker.ledger import enrolment_search, series_library
from worker.ledger.series_library import CountedSeries
from worker.rules import ACTIVE
from worker.texts import joined, text
from worker.web.api.submit import validated
from worker.web.console import weight
from worker.web.console.forms import Text, parse_choice
from worker.web.console.library import MOST_TICKED, source_of
from worker.web.console.plan_errors import PLAN_ERRORS, explain
from worker.web.console.plan_names import find_names
from worker.web.console.render import PATH, UNTICKED
from worker.web.console.times import parse_days, parse_time
from worker.web.console.view import LookingAsOperator, Operating, SignedInFirst, View
from worker.web.console.withdraw_file import file_page
from worker.web.console.words import word

router = APIRouter(prefix=PATH, include_in_schema=False, route_class=SignedInFirst)


NOTHING_TICKED = text("Nothing is ticked. Go back to the list and tick the rows.")
PEOPLE = "people"
"""In the address: all active enrolments of the ticked learners."""
_PLACES = {"ticked": f"{PATH}/series", "all": f"{PATH}/series", PEOPLE: f"{PATH}/enrolments"}
"""The part of the menu in which a choice is made."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Which enrolments to withdraw, as the address has it: `ticked` ones, or `all` that match the conditions.

    `people`: all active ones of the ticked learners.
    """

    what: str
    enrolment_ids: list[int]
    series_id: int | None
    pathway_id: int | None
    status: list[str]
    learner_ids: list[int]
    enrolled_from: str
    enrolled_to: str

    @property
    def is_empty(self) -> bool:
        return not {"ticked": self.enrolment_ids, PEOPLE: self.learner_ids}.get(self.what, True)

    @property
    def fields(self) -> list[tuple[str, object]]:
        """The hidden fields of a form that repeat this choice."""
        if self.what == "ticked":
            return [
                ("what", "ticked"),
                ("series_id", self.series_id or ""),
                *_each("enrolment_ids", self.enrolment_ids),
            ]
        if self.what == PEOPLE:
            return [("what", PEOPLE), *_each("learner_ids", self.learner_ids)]
        several = [*_each("status", self.status), *_each("learner_ids", self.learner_ids)]
        single = {
            "series_id": self.series_id, "pathway_id": self.pathway_id,
            "enrolled_from": self.enrolled_from, "enrolled_to": self.enrolled_to,
        }  # fmt: skip
        return [("what", "all"), *((name, value) for name, value in single.items() if value), *several]

    def request(self, view: View, **more: Any) -> JobRequest:
        """The request for a job over this choice.

        Raises:
            InvalidInputError: nothing is ticked, or a day is not a day.
            RequestValidationError: names the field that is wrong.
        """
        if self.is_empty:
            raise InvalidInputError(NOTHING_TICKED)
        if self.what == PEOPLE:
            wanted = {"learner_ids": self.learner_ids, "status": sorted(ACTIVE)}
            return validated(JobRequest, {"filter": wanted, **more})
        if self.what == "ticked":
            return validated(JobRequest, {"enrolment_ids": self.enrolment_ids, **more})
        after, until = parse_days(self.enrolled_from, self.enrolled_to, view.zone)
        conditions: dict[str, Any] = {
            "series_id": self.series_id, "pathway_id": self.pathway_id, "status": self.status or None,
            "learner_ids": self.learner_ids or None, "enrolled_after": after and after.isoformat(),
            "enrolled_before": until and until.isoformat(),
        }  # fmt: skip
        given = {name: value for name, value in conditions.items() if value is not None}
        return validated(JobRequest, {"filter": given, **more})


def _each(name: str, values: list[Any]) -> list[tuple[str, object]]:
    return [(name, value) for value in values]


def _from_query(
    what: str = "",
    enrolment_ids: Annotated[list[int] | None, Query(max_length=MOST_TICKED)] = None,
    series_id: str = "",
    pathway_id: str = "",
    status: Annotated[list[str] | None, Query(max_length=20)] = None,
    learner_ids: Annotated[list[int] | None, Query(max_length=500)] = None,
    enrolled_from: str = "",
    enrolled_to: str = "",
) -> Choice | None:
    """The choice in the address, None where nothing was chosen yet."""
    if not what:
        return None
    return _choice(what, enrolment_ids, series_id, pathway_id, status, learner_ids, enrolled_from, enrolled_to)


def _from_form(
    what: Annotated[str, Form()] = "",
    enrolment_ids: Annotated[list[int] | None, Form()] = None,
    series_id: Annotated[str, Form()] = "",
    pathway_id: Annotated[str, Form()] = "",
    status: Annotated[list[str] | None, Form()] = None,
    learner_ids: Annotated[list[int] | None, Form()] = None,
    enrolled_from: Annotated[str, Form()] = "",
    enrolled_to: Annotated[str, Form()] = "",
) -> Choice:
    """The choice that a form repeats."""
    return _choice(what, enrolment_ids, series_id, pathway_id, status, learner_ids, enrolled_from, enrolled_to)


def _choice(
    what: str,
    enrolment_ids: list[int] | None,
    series_id: str,
    pathway_id: str,
    status: list[str] | None,
    learner_ids: list[int] | None,
    enrolled_from: str,
    enrolled_to: str,
) -> Choice:
    if what not in ("ticked", "all", PEOPLE):
        raise InvalidInputError(text("what: unknown value. Use one of: ticked, all, {people}.", people=PEOPLE))
    rows = parse_choice(series_id, "Series"), parse_choice(pathway_id, "pathway")
    return Choice(what, enrolment_ids or [], *rows, status or [], learner_ids or [], enrolled_from, enrolled_to)


@router.get("/withdraw")
def show_plan(
    view: LookingAsOperator, choice: Annotated[Choice | None, Depends(_from_query)], reason: str = "",
    learner: str = "", cursor: str = "",
) -> Response:  # fmt: skip
    """The plan of a choice once a reason is chosen; without a choice, the form for a file.

    `learner`, `cursor`: where the list stood, which is shown again where nothing is ticked.
    """
    if choice is None:
        return file_page(view)
    if choice.is_empty and (choice.series_id if choice.what == "ticked" else learner):
        return view.go(_unticked_address(choice, reason, learner, cursor))
    return _plan_page(view, choice, reason, error=NOTHING_TICKED if choice.is_empty else "", error_status=422)


@router.post("/withdraw")
def confirm(
    view: Operating,
    choice: Annotated[Choice, Depends(_from_form)],
    reason: Annotated[str, Form()] = "",
    note: Annotated[str, Form()] = "",
    effective_at: Annotated[str, Form()] = "",
    plan_hash: Annotated[str, Form()] = "",
    key: Annotated[str, Form()] = "",
    typed: Annotated[Text, Form()] = "",
) -> Response:
    """Submit the job that was planned; if its enrolments have changed since, show the new plan instead."""
    fields = {"note": note, "effective_at": effective_at, "typed": typed}
    try:
        request = choice.request(
            view, reason=reason, source=source_of(reason), note=note.strip() or None,
            plan_hash=plan_hash or None, effective_at=parse_time(effective_at, "not before", view.zone),
        )  # fmt: skip
        who = view.requester(key)
        if weight.may_be_large(view, plan_hash) and not submit.is_known(view.database, who):
            weight.check_plan(view, typed, _plan(view, request))
        submitted = submit.submit(view.database, who, request, chunk_size=view.settings.chunk_size)
    except PLAN_ERRORS as changed:
        return _plan_page(view, choice, reason, error=explain(changed), error_status=409, **fields)
    except InvalidInputError as refused:
        return _plan_page(view, choice, reason, error=str(refused), error_status=422, **fields)
    return view.go_on(submitted.job)


def _plan_page(
    view: View, choice: Choice, reason: str, *, error: str = "", error_status: int = 200,
    note: str = "", effective_at: str = "", typed: str = "",
) -> Response:  # fmt: skip
    found: answers.Plan | None = None
    if reason and not choice.is_empty:
        try:
            request = choice.request(view, reason=reason, source=source_of(reason))
            found = _plan(view, request)
        except InvalidInputError as refused:
            error, error_status = error or str(refused), 422
    series = _find_series(view, choice)
    return view.page(
        "withdraw.html", status=error_status if error else 200, plan=found, names=find_names(view, found),
        place=_PLACES[choice.what], places=_list_places(view, choice, series), back=_list_address(choice),
        is_empty=choice.is_empty, reason=reason, reasons=list(Reason), error=error,
        fields=choice.fields, described=_describe(view, choice, series.title if series else ""),
        note=note, effective_at=effective_at, typed=typed, series_id=choice.series_id,
        large=weight.is_large_plan(view, found),
    )  # fmt: skip


def _plan(view: View, request: JobRequest) -> answers.Plan:
    return plan.of_request(view.services.pools.reports, view.organisation_id, request, door=SIGNED_IN)


def _find_series(view: View, choice: Choice) -> CountedSeries | None:
    if choice.series_id is None:
        return None
    with view.database.begin() as connection:
        return series_library.find_series(connection, view.organisation_id, choice.series_id)


def _list_places(view: View, choice: Choice, series: CountedSeries | None) -> list[tuple[str, str]]:
    """The pages above this one: the part of the menu in which the choice was made, and the Series."""
    above = text("Learners") if choice.what == PEOPLE else text("Series")
    return [(_PLACES[choice.what], view.say(above))] + ([(_list_address(choice), series.title)] if series else [])


def _describe(view: View, choice: Choice, title: str) -> str:
    """The choice as a sentence. `title`: of its Series, if it is of one."""
    pathways = dict[int, str]()
    if choice.pathway_id:
        with view.database.begin() as connection:
            pathways = dict(series_library.list_pathways(connection, view.organisation_id))
    if choice.what == "ticked":
        return _describe_ticked(len(set(choice.enrolment_ids)), title)
    if choice.what == PEOPLE:
        count = len(set(choice.learner_ids))
        if count == 1:
            return text("All active enrolments, in every Series, of 1 ticked learner.")
        return text("All active enrolments, in every Series, of {count:,} ticked learners.", count=count)
    return text("{conditions}.", conditions=joined(_list_conditions(choice, title, pathways), ", "))


def _describe_ticked(count: int, series: str) -> str:
    if not series:
        return text("1 ticked enrolment.") if count == 1 else text("{count:,} ticked enrolments.", count=count)
    if count == 1:
        return text("1 ticked enrolment in {series}.", series=series)
    return text("{count:,} ticked enrolments in {series}.", count=count, series=series)


def _list_conditions(choice: Choice, series: str, pathways: Mapping[int, str]) -> Iterator[str]:
    which: str = text("neither ended nor withdrawn")
    for place, status in enumerate(choice.status):
        which = text("{one} or {other}", one=which, other=word(status)) if place else text("{one}", one=word(status))
    if series:
        yield text("All enrolments in {series} that are {which}", series=series, which=which)
    else:
        yield text("All enrolments that are {which}", which=which)
    if count := len(choice.learner_ids):
        if count >= enrolment_search.MOST_LEARNERS:
            yield text("of the first {count:,} learners that were found", count=count)
        else:
            yield text("of {count:,} learners that were found", count=count)
    if choice.pathway_id:
        pathway = pathways.get(choice.pathway_id, choice.pathway_id)
        yield text("of the Learning Pathway “{pathway}”", pathway=pathway)
    if choice.enrolled_from:
        yield text("enrolled from {day}", day=choice.enrolled_from)
    if choice.enrolled_to:
        yield text("enrolled to {day}", day=choice.enrolled_to)


def _unticked_address(choice: Choice, reason: str, learner: str, cursor: str) -> str:
    """The list as it stood, which then says that nothing is ticked, with the reason kept."""
    conditions = {
        "learner": learner, "pathway_id": choice.pathway_id, "enrolled_from": choice.enrolled_from,
        "enrolled_to": choice.enrolled_to, "cursor": cursor,
    }  # fmt: skip
    kept = [*((name, value) for name, value in conditions.items() if value), *_each("status", choice.status)]
    path = _PLACES[choice.what] + (f"/{choice.series_id}" if choice.what != PEOPLE else "")
    return f"{path}?{urlencode([*kept, (UNTICKED, reason)])}"


def _list_address(choice: Choice) -> str:
    """The list in which the choice was made."""
    if choice.what == PEOPLE:
        return f"{PATH}/enrolments"
    if choice.series_id is None:
        return f"{PATH}/series"
    skipped = ("what", "series_id", "enrolment_ids", "learner_ids")
    kept = [(name, value) for name, value in choice.fields if name not in skipped]
    return f"{PATH}/series/{choice.series_id}" + (f"?{urlencode(kept)}" if kept else "")
