"""People who steer jobs, set the brake, and work off dead letters."""

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy.exc
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from schemas.catalogue import LetterCode
from schemas.control import BrakeSetting
from schemas.dead_letters import LetterAct, LetterFilter
from schemas.protections import ProtectionRequest
from tests.support.lockstep import Fault
from tests.support.model_values import STANDING, Key, LetterKey
from tests.support.state_machine.base import Base, numbers, passing, retried, whom
from worker.access.persons import Actor
from worker.dead_letters import acts, remedies, runs
from worker.errors import BrakeError, ConflictError, NotFoundError, OwnJobError
from worker.jobs import brake, control
from worker.people import protections

_VOID = ("cancelled", "superseded")


class Support(Base):
    """Operators and approvers."""

    @precondition(lambda self: self.model.jobs)
    @rule(act=st.sampled_from(["pause", "resume", "cancel", "release"]), pick=numbers, fault=passing)
    def steer(self, act: str, pick: int, fault: Fault | None) -> None:
        standing = [job_id for job_id, job in self.model.jobs.items() if job.state in STANDING]
        known = standing if standing and pick < 20 else list(self.model.jobs)
        job_id = known[pick % len(known)]
        self._steer(act, job_id, fault)
        self.both.compare()

    def _steer(self, act: str, job_id: int, fault: Fault | None = None) -> None:
        job = self.model.jobs[job_id]
        approver = "test:approver" if job.override is None else "test:second"  # who made a cascade cannot release it
        who: dict[str, Any] = {"organisation_id": job.organisation, "job_id": job_id, "actor": approver}
        do: Callable[..., Any] = getattr(control, act)
        if act == "release" and job.epoch is None:
            own = {**who, "actor": "test:admin" if job.override is None else "test:approver"}
            with pytest.raises(OwnJobError):
                do(self.both.db, **own)
        allowed = {
            "pause": ("queued", "paused"),
            "resume": ("queued", "paused"),
            "cancel": (*STANDING, job.state),
            "release": ("held", *([job.state] if job.released and job.state not in _VOID else [])),
        }[act]
        if job.state not in allowed:
            with pytest.raises(ConflictError):
                self.both.insisted(lambda: do(self.both.db, **who), fault)
            return
        self.both.insisted(lambda: do(self.both.db, **who), fault)
        self._follow_steering(act, job_id)

    @precondition(lambda self: self.model.jobs)
    @rule(pick=numbers, later=st.booleans(), fault=passing)
    def move(self, pick: int, later: bool, fault: Fault | None) -> None:
        """To another time, or to now; a deactivation keeps the time that its event gave it."""
        waiting = [j for j, job in self.model.jobs.items() if job.state in ("scheduled", "held")]
        known = waiting if waiting and pick < 24 else list(self.model.jobs)
        job_id = known[pick % len(known)]
        job, when = self.model.jobs[job_id], datetime.now(UTC) + timedelta(days=9 if later else -1)

        def do() -> str:
            of = job.organisation
            return control.move(
                self.both.db, organisation_id=of, job_id=job_id, effective_at=when, actor="test:admin"
            ).state

        if job.state not in ("scheduled", "held") or (job.person is not None and job.epoch is not None):
            with pytest.raises(ConflictError):
                self.both.insisted(do, fault)
        else:
            state = self.both.insisted(do, fault)
            assert later or state != "scheduled", "its time has come, and it was not admitted"
            job.later = later
        self.both.compare()

    def _follow_steering(self, act: str, job_id: int) -> None:
        job = self.model.jobs[job_id]
        match act, job.state:
            case "pause", _:
                job.state = "paused"
            case "resume", _:
                job.state = "queued"
            case "cancel", _:
                self.model.cancel(job_id)
            case "release", "held":
                job.state, job.released = "scheduled", True

    def _steer_impatiently(self, act: str, job_id: int) -> None:
        """In the middle of somebody else's transaction: one who waits for a lock gives up."""
        job = self.model.jobs[job_id]
        do: Callable[..., Any] = getattr(control, act)
        with suppress(sqlalchemy.exc.DBAPIError, ConflictError):
            do(self.both.impatient, organisation_id=job.organisation, job_id=job_id, actor="test:approver")
            self._follow_steering(act, job_id)

    @rule(organisation=st.integers(0, 1), on=st.booleans(), fault=retried)
    def set_the_brake(self, organisation: int, on: bool, fault: Fault | None) -> None:
        """On: everything is too much."""
        of = self.organisations[organisation]
        wanted = BrakeSetting(floor=0, share=0.0, hours=1) if on else BrakeSetting()
        self.both.act(
            lambda: brake.set_limits(self.both.db, organisation_id=of, wanted=wanted, actor="test:owner"), fault
        )
        (self.both.braked.add if on else self.both.braked.discard)(of)
        self.both.compare()

    @rule(person=whom, pick=st.none() | numbers, fault=retried)
    def somebody_is_protected(self, person: tuple[int, str], pick: int | None, fault: Fault | None) -> None:
        """A person, or one of the enrolments. Whoever is protected already is not any more."""
        of: int = self.organisations[person[0]]
        key: Key | int = (of, person[1])
        ids = sorted(i for i, enrolment in self.model.enrolments.items() if enrolment.organisation == of)
        if pick is not None and ids:
            key = ids[pick % len(ids)]
        if key in self.model.protected:
            act: dict[str, Any] = {"protection_id": self.model.protected[key], "who": Actor("test:bea"), "note": "over"}
            self.both.insisted(lambda: protections.lift(self.both.db, organisation_id=of, **act), fault)
            del self.model.protected[key]
        else:
            subject = {"enrolment_id": key} if isinstance(key, int) else {"learner_external_id": key[1]}
            wanted = ProtectionRequest.model_validate({**subject, "kind": "legal_hold", "reason": "a case"})

            def protect() -> int:
                return protections.protect(
                    self.both.db, organisation_id=of, wanted=wanted, who=Actor("test:ada")
                ).id  # fmt: skip

            if isinstance(key, int) or self.model.learner(key) is not None:
                self.model.protected[key] = self.both.insisted(protect, fault)
            else:
                with pytest.raises(NotFoundError):
                    self.both.insisted(protect, fault)
        self.both.compare()

    @precondition(lambda self: self.model.letters)
    @rule(pick=numbers, fault=retried)
    def support_redrives(self, pick: int, fault: Fault | None) -> None:
        self._decide_letter(pick, LetterAct.REDRIVE, fault)

    @precondition(lambda self: any(key[3] == "pathway_owned" for key in self.model.letters))
    @rule(pick=numbers, cascade=st.booleans(), changes=st.none() | st.integers(0, 1), fault=retried)
    def support_overrides(self, pick: int, cascade: bool, changes: int | None, fault: Fault | None) -> None:
        """An approver decides about a pathway; before it is done, another one may own the enrolment."""
        key = self._decide_letter(pick, LetterAct.CASCADE if cascade else LetterAct.OVERRIDE, fault)
        if key is not None and changes is not None:
            self._change_pathway(key[1], changes)
            self.both.compare()

    @precondition(lambda self: self.model.letters)
    @rule(pick=numbers, keep=st.booleans(), fault=retried)
    def support_closes(self, pick: int, keep: bool, fault: Fault | None) -> None:
        self._decide_letter(pick, LetterAct.KEEP if keep else LetterAct.DISCARD, fault)

    def _decide_letter(self, pick: int, act: LetterAct, fault: Fault | None) -> LetterKey | None:
        found = [one for one in self.both.open_letters() if act in acts.remedies(LetterCode(one[1][3]))]
        if not found:
            return None
        letter_id, key = found[pick % len(found)]
        who: dict[str, Any] = {"organisation_id": key[0], "letter_ids": [letter_id], "actor": "test:approver"}

        def do() -> None:
            match act:
                case "redrive":
                    remedies.redrive(self.both.db, **who)
                case "discard":
                    remedies.discard(self.both.db, **who)
                case _:
                    remedies.resolve(self.both.db, remedy=act, note="why", door="api", **who)

        try:
            self.both.act(do, fault)
        except BrakeError:
            assert key[0] in self.both.braked
            return None
        self.both.follow_acts([key], act)
        self.both.compare()
        return key

    @precondition(lambda self: self.model.letters)
    @rule(
        organisation=st.integers(0, 1),
        act=st.sampled_from(LetterAct),
        code=st.none() | st.sampled_from([LetterCode.PATHWAY_OWNED, LetterCode.UNKNOWN_STATUS]),
        rate=st.integers(1, 3),
        canary=st.integers(0, 2),
        fault=retried,
    )
    def support_starts_a_run(
        self, organisation: int, act: LetterAct, code: LetterCode | None, rate: int, canary: int, fault: Fault | None
    ) -> None:
        """One act on all letters that match; over the same filter only one run is under way."""
        of, wanted = self.organisations[organisation], LetterFilter(code=code)
        under_way = [
            run for run in self.both.runs.values() if run.under_way and (run.organisation, run.code) == (of, code)
        ]
        codes = acts.codes_for(act)
        matching = {
            letter_id
            for letter_id, key in self.both.open_letters()
            if key[0] == of and (codes is None or key[3] in codes) and code in (None, key[3])
        }

        def begin() -> int:
            return runs.start(
                self.both.db, organisation_id=of, act=act, wanted=wanted, actor="test:approver", door="api",
                note="why", rate=rate, canary=canary,
            ).id  # fmt: skip

        if under_way and under_way[0].act != act:
            with pytest.raises(ConflictError):
                self.both.insisted(begin, fault)
        else:
            run_id = self.both.insisted(begin, fault)
            self.both.follow_runs()
            assert not under_way or self.both.runs[run_id] is under_way[0]
            assert under_way or set(self.both.runs[run_id].listed) == matching
        self.both.compare()

    @precondition(lambda self: self.both.runs)
    @rule(pick=numbers, fault=retried)
    def support_stops_a_run(self, pick: int, fault: Fault | None) -> None:
        run_id = sorted(self.both.runs)[-1 - pick % len(self.both.runs)]
        run = self.both.runs[run_id]
        self.both.insisted(
            lambda: runs.stop(self.both.db, organisation_id=run.organisation, run_id=run_id, actor="test:admin"), fault
        )
        run.under_way = False
        self.both.compare()
