"""Policies: how much of each act one person may do alone, changed one rule at a time."""

from functools import partial
from typing import Annotated, Literal

from fastapi import APIRouter, Form
from starlette.responses import Response

from schemas.approvals import BY_SIZE, BY_SOURCE, FIXED, Rule, RuleChange
from schemas.catalogue import GUARDED_ACTS, GuardedAct, Source
from schemas.jobs import Note
from worker.access import policies
from worker.approvals import decisions
from worker.errors import ConflictError, InvalidInputError, SecondPersonNeededError
from worker.texts import text
from worker.web.console.forms import Text, parse, parse_number
from worker.web.console.settings import history
from worker.web.console.settings.shown_once import SETTINGS
from worker.web.console.view import Looking, Owning, View
from worker.web.console.words import word

router = APIRouter(prefix=SETTINGS, include_in_schema=False)

HERE = f"{SETTINGS}/policies"
HOW = [
    ("default", text("Follow the default")),
    ("always", text("Always needs a second person")),
    ("up_to", text("One person alone, up to a number of learners")),
    ("never", text("Never needs a second person")),
]
How = Literal["default", "always", "up_to", "never", ""]


@router.get("/policies")
def show(view: Looking) -> Response:
    """The rules that apply now, those that wait for a second person, and who changed them."""
    return _page(view)


@router.post("/policies")
def change(
    view: Owning,
    act: Annotated[GuardedAct | Literal[""], Form()] = "",
    source: Annotated[Source | Literal[""], Form()] = "",
    how: Annotated[How, Form()] = "",
    size: Annotated[Text, Form()] = "",
    note: Annotated[Note, Form()] = "",
) -> Response:
    """Change the rule of one act. It waits for a second person once there is one. Role: owner."""
    typed = {"act": act, "source": source, "how": how, "size": size, "note": note}
    try:
        view.act(partial(policies.change_one, wanted=_wanted(act, source, how, size, note)))
    except SecondPersonNeededError as waits:
        said = text(
            "Nothing has changed yet: approval {approval} waits for a second person.", approval=waits.approval_id
        )
        return view.go(HERE, said, tone="warn")
    except (InvalidInputError, ConflictError) as refused:
        return _page(view, error=str(refused), status=409 if isinstance(refused, ConflictError) else 422, typed=typed)
    return view.go(HERE, text("Changed. The rule applies from now on."))


def _wanted(act: GuardedAct | Literal[""], source: Source | Literal[""], how: How, size: str, note: str) -> RuleChange:
    if not act:
        raise InvalidInputError(text("act: choose one"))
    if not how:
        raise InvalidInputError(text("how: choose one"))
    if not note.strip():
        raise InvalidInputError(text("note: say why; it stays on record"))
    if source and act not in BY_SOURCE:
        raise InvalidInputError(text("source: “{act}” has none; choose any source", act=word(act)))
    if how == "up_to" and act not in BY_SIZE:
        raise InvalidInputError(text("how: “{act}” has no number of learners; choose another answer", act=word(act)))
    learners = parse_number(size, "size")
    if how == "up_to" and learners is None:
        raise InvalidInputError(text("size: enter the number of learners"))
    if how != "up_to" and learners is not None:
        raise InvalidInputError(text("size: leave it empty, or choose “One person alone, up to a number of learners”"))
    alone_up_to = {"always": 0, "up_to": learners}.get(how)
    rule = None if how == "default" else parse(Rule, act=act, source=source or None, alone_up_to=alone_up_to)
    return RuleChange(act=act, source=source or None, rule=rule, note=note.strip())


def _page(view: View, *, error: str = "", status: int = 200, typed: dict[str, str] | None = None) -> Response:
    found = policies.read(view.database, organisation_id=view.organisation_id)
    waiting = found.approval
    own = waiting is not None and view.act(partial(decisions.is_own, approval_id=waiting.id))
    return view.page(
        "settings_policies.html",
        status=status,
        found=[(rule, policies.describe_size(rule), GUARDED_ACTS[rule.act].sentence) for rule in found.rules],
        waiting=waiting,
        own=own,
        acts=[str(act) for act in GuardedAct if act not in FIXED],
        fixed=FIXED,
        sources=[str(source) for source in Source],
        how=HOW,
        error=error,
        typed=typed or {},
        history=history.read(view, "policies"),
    )
