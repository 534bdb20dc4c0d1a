"""Acts on all dead letters that match: preview, count, then start a run, or assign at once."""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Form
from starlette.responses import Response

from schemas.catalogue import LetterCode, LetterState, Role
from schemas.dead_letters import Act
from schemas.runs import RedriveRequest
from worker.dead_letters import acts, desk, desk_acts, runs
from worker.errors import ConflictError, InvalidInputError
from worker.ledger.runs import CountedRun
from worker.web.console import weight
from worker.web.console.forms import parse
from worker.web.console.letter_filter import ChosenFilter, InForm, InQuery
from worker.web.console.letters import parse_assignee
from worker.web.console.render import PATH
from worker.web.console.view import LookingAsOperator, Operating, View

router = APIRouter(prefix=f"{PATH}/dead-letters", include_in_schema=False)

Text = Annotated[str, Form()]

MOOT, BACK = "nothing is written, and the letter is resolved", "not withdrawn, and the letter opens again"
PREVIEW = {
    "withdrawn": ("good", "would be withdrawn"),
    "already_withdrawn": ("quiet", f"are already withdrawn: {MOOT}"),
    "enrolment_ended": ("quiet", f"have ended: {MOOT}"),
    "superseded": ("quiet", f"are superseded by a newer event of the person: {MOOT}"),
    "pathway_owned": ("warn", f"are owned by a pathway: {BACK}"),
    "unknown_status": ("warn", f"have an unknown status: {BACK}"),
    "protected": ("warn", f"are protected by a legal hold or an exemption: {BACK}"),
    "not_found": ("warn", f"are about an enrolment that does not exist: {BACK}"),
    "not_known": ("warn", f"are about a learner whom the platform still does not know: {BACK}"),
    "nothing_to_try": ("warn", f"have nothing to try: {BACK}"),
    "keep": ("good", "would be closed; the enrolments stay as they are"),
    "discard": ("warn", "would be closed without an answer; what was not done stays undone"),
}
"""What an act would do, in words that follow a number."""
_ONE = {"are": "is", "have": "has"}
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
    act: Text = "",
    note: Text = "",
    expected: Text = "",
    rate: Text = str(runs.RATE),
    canary: Text = str(runs.CANARY),
    to: Text = "",
    name: Text = "",
    typed: Text = "",
) -> Response:
    """Do it, to all that match and not to a page of them."""
    view.caller.must_be(_role(act))
    given = {"note": note, "rate": rate, "canary": canary, "to": to, "name": name, "typed": typed}
    try:
        if act == ASSIGN:
            return _assign(view, wanted, parse_assignee(view, to, name), parse(Act, note=note.strip() or None).note)
        how = parse(RedriveRequest, rate=rate, canary=canary, note=note.strip() or None)
        _check_weight(view, wanted, act, typed)
        begun = _start(view, wanted, act, how, expected)
    except InvalidInputError as error:
        return _page(view, wanted, act, status=422, error=str(error), **given)
    except ConflictError as error:
        return _page(view, wanted, act, status=409, error=str(error), **given)
    return view.go(f"{PATH}/runs/{begun.id}", said=f"The run over {_letters(begun.letters)} has started.")


def _check_weight(view: View, wanted: ChosenFilter, act: str, typed: str) -> None:
    if acts.parse_act(act) in acts.ATTEMPTS:
        found = runs.preview(view.database, organisation_id=view.organisation_id, act=act, wanted=wanted.filter)
        weight.check(view, typed, enrolments=_withdrawn(found), learners=_withdrawn(found))


def _withdrawn(found: Mapping[str, Any]) -> int:
    """Enrolments that an act would withdraw: at the least as many as learners."""
    return int(found["outcomes"].get("withdrawn", 0)) + int(found["also"])


def _start(view: View, wanted: ChosenFilter, act: str, how: RedriveRequest, expected: str) -> CountedRun:
    if not (len(expected) < 20 and expected.isascii() and expected.isdigit()):
        raise InvalidInputError("The form was not complete. Preview again and send the new form.")
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
        expected=int(expected),
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
    said = f"{_letters(done.changed)} {f'assigned to {assignee}' if assignee else 'unassigned'}"
    said += f"; {same:,} {'was' if same == 1 else 'were'} so before." if same else "."
    return view.go(wanted.at(f"{PATH}/dead-letters"), said=said)


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
        causes=[item for item in causes.items if act == ASSIGN or act in acts.remedies(LetterCode(item.code))],
        context=context,
        counted=desk.COUNTED,
        counted_causes=causes.counted_to,
        attempts=acts.ATTEMPTS,
        names=desk_acts.list_names(view.database, view.organisation_id) if act == ASSIGN else [],
        note_needed=act in acts.RESOLUTIONS,
        error=error,
        given={
            "note": "",
            "rate": str(runs.RATE),
            "canary": str(runs.CANARY),
            "to": "me",
            "name": "",
            "typed": "",
            **given,
        },
    )


def _lines(act: str, found: Mapping[str, Any]) -> list[tuple[str, int, str, list[int]]]:
    """The outcomes of a preview: tone, letters, what would happen to them, a few of their ids; most first."""
    lines = []
    for outcome, count in found["outcomes"].items():
        tone, said = PREVIEW.get(act if outcome == "closed" else outcome, ("quiet", f"would be {outcome}"))
        verb, rest = said.split(" ", 1)
        lines.append((tone, count, f"{_ONE.get(verb, verb) if count == 1 else verb} {rest}", found["samples"][outcome]))
    return sorted(lines, key=lambda line: -line[1])


def _role(act: str) -> Role:
    return Role.OPERATOR if act == ASSIGN else acts.ACTS[acts.parse_act(act)].role


def _letters(count: int) -> str:
    return f"{count:,} letter{'' if count == 1 else 's'}"
