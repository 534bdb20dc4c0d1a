"""The platform: it changes statuses and owners, enrols, deletes and creates, without asking."""

from contextlib import suppress
from dataclasses import replace

import sqlalchemy.exc
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from tests.support.state_machine.base import Base, numbers, statuses, whom
from worker.rules import WITHDRAWN

NOT_WITHDRAWN = "withdrawn_at = NULL, withdrawal_reason = NULL, withdrawn_by = NULL"


class Platform(Base):
    """The learning platform, which owns its tables."""

    @rule(pick=numbers, status=statuses | st.just(WITHDRAWN))
    def platform_changes_a_status(self, pick: int, status: str) -> None:
        self._change_status(self._pick(pick), status)
        self.both.compare()

    def _change_status(self, found: int | None, status: str) -> None:
        if found not in self.model.enrolments:
            return
        with suppress(sqlalchemy.exc.DBAPIError):  # another one is active in its place; or somebody holds the row
            self.both.run(
                """UPDATE lms.enrolments SET status = :s, withdrawn_at = CASE WHEN :s = 'withdrawn' THEN now() END,
                withdrawal_reason = NULL, withdrawn_by = NULL WHERE id = :id""",
                s=status,
                id=found,
            )
            enrolment = self.model.enrolments[found]
            enrolment.status, enrolment.withdrawn_by = status, None

    @rule(pick=numbers, pathway=st.none() | st.integers(0, 1))
    def platform_changes_who_owns(self, pick: int, pathway: int | None) -> None:
        self._change_pathway(self._pick(pick), pathway)
        self.both.compare()

    @rule(person=whom, series=st.integers(0, 2), pathway=st.none() | st.integers(0, 1), status=statuses)
    def platform_enrols(self, person: tuple[int, str], series: int, pathway: int | None, status: str) -> None:
        self._enrol(person, series, pathway, status)
        self.both.compare()

    def _enrol(self, person: tuple[int, str], series: int, pathway: int | None, status: str) -> frozenset[int]:
        of = self.organisations[person[0]]
        learner = next((i for i, one in self.model.learners.items() if one.key == (of, person[1])), None)
        owner = None if pathway is None else self.pathways[of][pathway]
        if learner is not None and len(self.model.enrolments) < 30:
            with suppress(sqlalchemy.exc.DBAPIError):
                return frozenset([self.both.add_enrolment(learner, self.series[of][series], owner, status)])
        return frozenset()

    @rule(pick=numbers)
    def platform_deletes_an_enrolment(self, pick: int) -> None:
        found = self._pick(pick)
        if found is not None and len(self.model.enrolments) > 6:
            self.both.run("DELETE FROM lms.enrolments WHERE id = :id", id=found)
            del self.model.enrolments[found]
            self.both.compare()

    @rule(person=whom)
    def platform_deletes_or_creates_a_learner(self, person: tuple[int, str]) -> None:
        key = (self.organisations[person[0]], person[1])
        learner = next((i for i, one in self.model.learners.items() if one.key == key), None)
        if learner is None:
            self.both.add_learner(*key)
        else:
            self.both.run("DELETE FROM lms.enrolments WHERE learner_id = :id", id=learner)
            self.both.run("DELETE FROM lms.learners WHERE id = :id", id=learner)
            self.model.forget_learner(learner)
        self.both.compare()

    @precondition(lambda self: self.both.hands)
    @rule(pick=numbers, other=numbers, pathway=st.none() | st.integers(0, 1), status=st.none() | statuses)
    def worker_decides_beside_the_platform(
        self, pick: int, other: int, pathway: int | None, status: str | None
    ) -> None:  # fmt: skip
        """The platform has changed a row that a worker needs, and commits while the worker waits for it."""
        mine = self.both.hands.pop(pick % len(self.both.hands))
        aim = self.both.enrolments_of(mine)
        enrolment = self.model.enrolments.get(aim[other % len(aim)])
        if enrolment is None:
            self.both.apply(mine)
        else:
            before = replace(enrolment)
            owner = None if pathway is None else self.pathways[enrolment.organisation][pathway]
            changed = "pathway_id = :v" if status is None else f"status = :v, {NOT_WITHDRAWN}"
            enrolment.pathway, enrolment.status = (owner, before.status) if status is None else (before.pathway, status)
            enrolment.withdrawn_by = before.withdrawn_by if status is None else None
            statement = f"UPDATE lms.enrolments SET {changed} WHERE id = :id"
            if not self.both.apply_beside(
                mine, statement, v=owner if status is None else status, id=aim[other % len(aim)]
            ):
                vars(enrolment).update(vars(before))
                self.both.hands.append(mine)
        self.both.compare()

    @rule(person=whom, active=st.booleans())
    def platform_changes_active(self, person: tuple[int, str], active: bool) -> None:
        self._set_active(person, active)
        self.both.compare()

    def _set_active(self, person: tuple[int, str], active: bool) -> None:
        learner = self.model.learner((self.organisations[person[0]], person[1]))
        if learner is not None:
            self.both.run(
                "UPDATE lms.learners SET active = :a WHERE organisation_id = :o AND external_id = :e",
                a=active,
                o=learner.key[0],
                e=learner.key[1],
            )
            learner.active = active

    def _pick(self, pick: int) -> int | None:
        ids = sorted(self.model.enrolments)
        return ids[pick % len(ids)] if ids else None
