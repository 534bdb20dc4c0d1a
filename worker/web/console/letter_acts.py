"""Acts on all dead letters that match: preview, count, then start a run, or assign at once."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Form
from starlette.responses import Response

from schemas.catalogue import LetterCode, LetterState, Role
from schemas.dead_letters import Act, LetterAct
from schemas.runs import RedriveRequest
from worker.dead_letters import acts, desk, desk_acts, request_shares, runs
from worker.dead_letters.request_shares import RequestShare
from worker.errors import ConflictError, InvalidInputError
from worker.ledger.runs import CountedRun
from worker.texts import Text, joined, text
from worker.web.console import weight
from worker.web.console.forms import parse
from worker.web.console.letter_filter import ChosenFilter, InForm, InQuery
from worker.web.console.letters import parse_assignee
from worker.web.console.render import PATH
from worker.web.console.view import LookingAsOperator, Operating, View

router = APIRouter(prefix=f"{PATH}/dead-letters", include_in_schema=False)

Field = Annotated[str, Form()]

WOULD: dict[str, tuple[str, Text, Text]] = {
    "withdrawn": ("good", text("would be withdrawn"), text("would be withdrawn")),
    "already_withdrawn": (
        "quiet",
        text("is already withdrawn: nothing is written, and the letter is resolved"),
        text("are already withdrawn: nothing is written, and the letter is resolved"),
    ),
    "enrolment_ended": (
        "quiet",
        text("has ended: nothing is written, and the letter is resolved"),
        text("have ended: nothing is written, and the letter is resolved"),
    ),
    "superseded": (
        "quiet",
        text("is superseded by a newer event of the person: nothing is written, and the letter is resolved"),
        text("are superseded by a newer event of the person: nothing is written, and the letter is resolved"),
    ),
    "pathway_owned": (
        "warn",
        text("is owned by a pathway: not withdrawn, and the letter opens again"),
        text("are owned by a pathway: not withdrawn, and the letter opens again"),
    ),
    "unknown_status": (
        "warn",
        text("has an unknown status: not withdrawn, and the letter opens again"),
        text("have an unknown status: not withdrawn, and the letter opens again"),
    ),
    "protected": (
        "warn",
        text("is protected by a legal hold or an exemption: not withdrawn, and the letter opens again"),
        text("are protected by a legal hold or an exemption: not withdrawn, and the letter opens again"),
    ),
    "not_found": (
        "warn",
        text("is about an enrolment that does not exist: not withdrawn, and the letter opens again"),
        text("are about an enrolment that does not exist: not withdrawn, and the letter opens again"),
    ),
    "not_known": (
        "warn",
        text("is about a learner whom the platform still does not know: not withdrawn, and the letter opens again"),
        text("are about a learner whom the platform still does not know: not withdrawn, and the letter opens again"),
    ),
    "nothing_to_try": (
        "warn",
        text("has nothing to try: not withdrawn, and the letter opens again"),
        text("have nothing to try: not withdrawn, and the letter opens again"),
    ),
    "keep": (
        "good",
        text("would be closed; the enrolments stay as they are"),
        text("would be closed; the enrolments stay as they are"),
    ),
    "discard": (
        "warn",
        text("would be closed without an answer; what was not done stays undone"),
        text("would be closed without an answer; what was not done stays undone"),
    ),
}
"""What an act would do, in words that follow one letter, and several."""
FEW = 20
"""Letters that a run tries at once: with more, a preview comes first, and a trial batch may save the others."""
ASSIGN = "assign"
"""Beside the acts that decide letters: give all that match to somebody."""


@router.get("/act")
def preview(view: LookingAsOperator, wanted: InQuery, act: str = "") -> Response:
    """What an act would do to every letter that matches, before anything happens."""
    return _page(view, wanted, act)


@router.post("/act")
def begin(
    view: Operating,
    wanted: InForm,
    act: Field = "",
    note: Field = "",
    expected: Field = "",
    rate: Field = str(runs.RATE),
    canary: Field = "",
    to: Field = "",
    name: Field = "",
    typed: Field = "",
    previewed: Field = "",
) -> Response:
    """Do it, to all that match and not to a page of them. `previewed`: the form was the preview's."""
    view.caller.must_be(_role(act))
    given = {"note": note, "rate": rate, "canary": canary, "to": to, "name": name, "typed": typed}
    try:
        if act == ASSIGN:
            return _assign(view, wanted, parse_assignee(view, to, name), parse(Act, note=note.strip() or None).note)
        count = _parse_count(expected)
        if count > FEW and not previewed and acts.parse_act(act) in acts.ATTEMPTS:
            return _page(view, wanted, act, note=note)
        how = parse(RedriveRequest, rate=rate, canary=canary or _trial(count), note=note.strip() or None)
        _check_weight(view, wanted, act, typed)
        begun = _start(view, wanted, act, how, count)
    except InvalidInputError as error:
        return _page(view, wanted, act, status=422, error=str(error), **given)
    except ConflictError as error:
        return _page(view, wanted, act, status=409, error=str(error), **given)
    return view.go(
        f"{PATH}/runs/{begun.id}", text("The run over {letters} has started.", letters=_letters(begun.letters))
    )


def _check_weight(view: View, wanted: ChosenFilter, act: str, typed: str) -> None:
    if acts.parse_act(act) in acts.ATTEMPTS:
        found = runs.preview(view.database, organisation_id=view.organisation_id, act=act, wanted=wanted.filter)
        weight.check(view, typed, enrolments=_withdrawn(found), learners=_withdrawn(found))


def _withdrawn(found: Mapping[str, Any]) -> int:
    """Enrolments that an act would withdraw: at the least as many as learners."""
    return int(found["outcomes"].get("withdrawn", 0)) + int(found["also"])


def _parse_count(expected: str) -> int:
    if not (len(expected) < 20 and expected.isascii() and expected.isdigit()):
        raise InvalidInputError(text("The form was not complete. Preview again and send the new form."))
    return int(expected)


def _trial(count: int) -> int:
    return runs.CANARY if count > FEW else 0


def _start(view: View, wanted: ChosenFilter, act: str, how: RedriveRequest, expected: int) -> CountedRun:
    return runs.start(
        view.database,
        organisation_id=view.organisation_id,
        act=act,
        wanted=wanted.filter,
        actor=view.actor,
        door="console",
        note=how.note,
        rate=how.rate,
        canary=how.canary,
        expected=expected,
        made_by=view.caller.made_by,
    )


def _assign(view: View, wanted: ChosenFilter, assignee: str | None, note: str | None) -> Response:
    done = desk_acts.assign_all(
        view.database,
        organisation_id=view.organisation_id,
        wanted=wanted.filter,
        assignee=assignee,
        actor=view.actor,
        note=note,
    )
    same = done.matched - done.changed
    letters = _letters(done.changed)
    said = text("{letters} unassigned.", letters=letters)
    if assignee:
        said = text("{letters} assigned to {assignee}.", letters=letters, assignee=assignee)
    before = []
    if same:
        before = [text("1 was so before.") if same == 1 else text("{count:,} were so before.", count=same)]
    return view.go(wanted.at(f"{PATH}/dead-letters"), joined([said, *before]))


def _page(view: View, wanted: ChosenFilter, act: str, *, status: int = 200, error: str = "", **given: str) -> Response:
    """The preview.

    Raises:
        ProblemError: 403; the role cannot do this, and the message says which one can.
    """
    view.caller.must_be(_role(act))
    context = desk.find_context(view.database, view.organisation_id, wanted.filter, [])
    found: dict[str, Any] = {"letters": context.live, "outcomes": {}, "samples": {}, "moot": 0, "also": 0}
    if act != ASSIGN:
        found = runs.preview(view.database, organisation_id=view.organisation_id, act=act, wanted=wanted.filter)
    shares = list[RequestShare]()
    if act != ASSIGN and found["letters"]:
        shares = request_shares.list_shares(
            view.database, organisation_id=view.organisation_id, wanted=wanted.filter, act=act
        )
    meant = wanted.filter
    if act != ASSIGN and meant.state is None:
        meant = meant.model_copy(update={"state": LetterState.OPEN})
    causes = desk.groups(view.database, view.settings, view.organisation_id, meant, limit=100)
    return view.page(
        "dead_letter_act.html",
        status=status,
        wanted=wanted,
        act=act,
        acts=acts.ACTS,
        found=found,
        large=weight.is_large(view, _withdrawn(found)),
        going=_withdrawn(found),
        lines=_lines(act, found),
        shares=shares,
        recommended=_sum_recommended(shares),
        causes=[item for item in causes.items if act == ASSIGN or act in acts.remedies(LetterCode(item.code))],
        context=context,
        counted=desk.COUNTED,
        counted_causes=causes.counted_to,
        attempts=acts.ATTEMPTS,
        few=FEW,
        names=desk_acts.list_names(view.database, view.organisation_id) if act == ASSIGN else [],
        note_needed=act in acts.RESOLUTIONS,
        error=error,
        given={
            "note": "",
            "rate": str(runs.RATE),
            "to": "me",
            "name": "",
            "typed": "",
            **given,
            "canary": given.get("canary") or str(_trial(found["letters"])),
        },
    )


def _lines(act: str, found: Mapping[str, Any]) -> list[tuple[str, int, Text, list[int]]]:
    """The outcomes of a preview: tone, letters, what would happen to them, a few of their ids; most first."""
    lines = []
    for outcome, count in found["outcomes"].items():
        other = text("would be {outcome}", outcome=outcome)
        tone, one, several = WOULD.get(act if outcome == "closed" else outcome, ("quiet", other, other))
        lines.append((tone, count, one if count == 1 else several, found["samples"][outcome]))
    return sorted(lines, key=lambda line: -line[1])


def _sum_recommended(shares: Sequence[RequestShare]) -> list[tuple[LetterAct | None, int]]:
    """Each recommended remedy with its letters, most first; None: nothing is recommended."""
    found = Counter[LetterAct | None]()
    for share in shares:
        found[share.recommended] += share.letters
    return found.most_common()


def _role(act: str) -> Role:
    return Role.OPERATOR if act == ASSIGN else acts.ACTS[acts.parse_act(act)].role


def _letters(count: int) -> Text:
    return text("1 letter") if count == 1 else text("{count:,} letters", count=count)
