"""The rules of the service as a small program over plain values: what must be true after each transaction.

It knows nothing of claims, leases, retries, chunks of a size, locks or messages. It is told in which order the service
decided (`decide`), which it may choose freely; everything else it says itself: each outcome, each status, who is
active, which letters are open, how a job ends, and what may be decided at all. DESIGN.md §1 to §3 in 400 lines.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from tests.support.model_people import PeopleModel
from tests.support.model_values import (
    STANDING,
    Asked,
    Closed,
    Enrolment,
    ImpossibleError,
    Job,
    Key,
    Learner,
    Letter,
    LetterKey,
    Ref,
)
from worker import rules
from worker.rules import ACTIVE, ENDED, NEEDS_SUPPORT, WITHDRAWN


@dataclass
class Model(PeopleModel):
    enrolments: dict[int, Enrolment] = field(default_factory=dict)
    letters: dict[LetterKey, Letter] = field(default_factory=dict)
    """Those that are live."""
    faulty: bool = False
    """Whether anything went wrong that may be given up."""
    protected: dict[Key | int, int] = field(default_factory=dict)
    """Persons and enrolments that nothing withdraws, with the id of the protection."""
    prior: dict[tuple[int, int], str] = field(default_factory=dict)
    """The status before a job's withdrawal."""

    # What comes in

    def submit(self, job_id: int, job: Job) -> None:
        job.open = {None} if job.ids is None else set(job.ids)
        self.jobs[job_id] = job

    def cancel(self, job_id: int) -> None:
        job = self.jobs[job_id]
        if job.state in STANDING:
            job.state = "cancelled"
            self._close_whole(job, "cancelled")

    def found_closed(self, job_id: int, how: str) -> None:
        """The service closed a chunk whole; a cascade that came too late is closed by a worker."""
        job = self.jobs[job_id]
        if how == "superseded" and self.is_superseded(job):
            self._close_whole(job, how)
        self._may(job.whole == how, f"a chunk of job {job_id} was closed as {how}")

    def asking(self, key: LetterKey) -> Job:
        """For which of the jobs that wait for a letter a cascade goes on: the first that still stands."""
        waiting = sorted(job_id for job_id, _ in filter(self._needs_support, self.letters[key].refs))
        return min((self.jobs[job_id] for job_id in waiting), key=self.is_superseded)

    def siblings(self, key: LetterKey) -> frozenset[int]:
        """The learner's other active enrolments in the pathway, if it still is the one that the letter saw."""
        enrolment = self.enrolments.get(key[1] or 0)
        if enrolment is None or enrolment.organisation != key[0]:
            return frozenset()
        pathway = enrolment.pathway
        if pathway is None or pathway != self.letters[key].pathway:
            return frozenset()
        return frozenset(
            i
            for i, other in self.enrolments.items()
            if other is not enrolment
            and (other.learner, other.pathway) == (enrolment.learner, pathway)
            and other.status in ACTIVE
        )

    def redrive(self, key: LetterKey, *, override: bool = False) -> None:
        letter = self.letters[key]
        letter.trying = {ref for ref in letter.refs if ref[1] is None or self._needs_support(ref)}
        letter.override, letter.tried_pathway = override, letter.pathway

    def close(self, key: LetterKey) -> None:
        """Keep or discard: what was not done stays undone."""
        del self.letters[key]

    def forget_learner(self, learner_id: int) -> None:
        """The platform deletes a learner, with every enrolment."""
        del self.learners[learner_id]
        self.enrolments = {i: e for i, e in self.enrolments.items() if e.learner != learner_id}

    # What the service decided

    def decide(self, closed: Iterable[Closed], *, fresh: frozenset[int], running: bool) -> None:
        """One transaction of a worker.

        `fresh`: enrolments that the platform added after the locks, which a person job has missed. `running`: somebody
        acted on jobs while it ran; a chunk that is being decided commits.
        """
        asked: list[Asked] = []
        persons: list[tuple[Closed, Learner]] = []
        for one in sorted(closed, key=lambda c: (c.job, c.ids or ())):
            job = self.jobs[one.job]
            ref = (one.job, one.ids[0] if one.ids else None)
            if one.letter is None:
                self._may(running or job.state == "queued", f"{one} of a job that is {job.state}")
                whole = one.person is not None or bool(one.gave_up)
                self._may(whole or not self.is_superseded(job), f"{one}: its deactivation does not stand")
            else:
                letter = self.letters.get(one.letter)
                self._may(letter is not None and ref in letter.trying, f"{one}: nobody asked for this attempt")
                self.letters[one.letter].trying.discard(ref)
            if one.gave_up:
                self._give_up(one, job)
            elif one.person is None:
                asked += [Asked(one.job, enrolment, one.letter, running) for enrolment in one.ids or ()]
            else:
                learner = self._learner_of(one, job, one.person)
                if learner is not None:
                    persons.append((one, learner))
        self._reinstate([one for one in asked if self.jobs[one.job].reinstates is not None])
        for one, learner in persons:  # after what was reinstated here
            asked += self._enrolments_of(one, learner, fresh)
        self._withdraw([one for one in asked if self.jobs[one.job].reinstates is None])
        for key, letter in list(self.letters.items()):
            if not letter.trying and not any(ref[1] is None or self._needs_support(ref) for ref in letter.refs):
                del self.letters[key]

    def _learner_of(self, one: Closed, job: Job, person: str) -> Learner | None:
        """Whom a person chunk is about; None: it was closed whole."""
        learner, superseded = self.learner((job.organisation, person)), self.is_superseded(job)
        job.open.discard(None)
        if superseded or learner is not None:
            self._may(one.state == "done", f"{one}: it has a learner, or is superseded")
            if one.letter is not None:
                self.letters[one.letter].refs.discard((one.job, None))
        if superseded:
            self._close_whole(job, "superseded")
            return None
        if learner is None:
            self._may(one.state == "failed", f"{one}: no such learner")
            job.whole = "failed"
            job.first.add("failed")
            self._attach(one.letter or (job.organisation, None, person, "unknown_learner"), (one.job, None))
            return None
        job.whole = None
        learner.active = learner.active and job.epoch is None
        return learner

    def _enrolments_of(self, one: Closed, learner: Learner, fresh: frozenset[int]) -> list[Asked]:
        return [
            Asked(one.job, i, one.letter)
            for i, enrolment in self.enrolments.items()
            if self.learners[enrolment.learner] is learner
            and enrolment.status not in (WITHDRAWN, *ENDED)
            and i not in fresh
        ]

    def _give_up(self, one: Closed, job: Job) -> None:
        """After its attempts. An attempt at a letter leaves everything as it was."""
        self._may(self.faulty, f"{one}: nothing went wrong")
        if one.letter is not None:
            return
        subject = one.ids[0] if one.ids else None
        self._may(subject in job.open, f"{one}: decided twice")
        job.open.discard(subject)
        job.first.add("failed")
        if subject is None:
            job.whole = "failed"
        else:
            job.outcomes[subject] = "failed"
        self._attach((job.organisation, subject, one.person, one.gave_up or ""), (one.job, subject))

    def _withdraw(self, asked: list[Asked]) -> None:
        """All at once: of several jobs that may withdraw the same enrolment the first one does."""
        verdicts = {one: self._verdict(one) for one in asked}
        seen = {
            one.enrolment: replace(self.enrolments[one.enrolment]) for one in asked if one.enrolment in self.enrolments
        }
        first: dict[int, int] = {}
        for one, verdict in verdicts.items():
            if verdict == "withdrawn":
                first[one.enrolment] = min(one.job, first.get(one.enrolment, one.job))
        for enrolment, job_id in first.items():
            self.prior[job_id, enrolment] = self.enrolments[enrolment].status
            self.enrolments[enrolment].status, self.enrolments[enrolment].withdrawn_by = WITHDRAWN, job_id
        for one, verdict in verdicts.items():
            beaten = first.get(one.enrolment, one.job) != one.job and verdict in ("withdrawn", "pathway_owned")
            pathway = seen[one.enrolment].pathway if one.enrolment in seen else None
            self._record(one, "already_withdrawn" if beaten else verdict, pathway)

    def _verdict(self, one: Asked) -> str:
        job, enrolment = self.jobs[one.job], self.enrolments.get(one.enrolment)
        letter = self.letters[one.letter] if one.letter else None
        return rules.decide(
            rules.Enrolment(enrolment.organisation, enrolment.status, enrolment.pathway) if enrolment else None,
            organisation_id=job.organisation,
            superseded=self.is_superseded(job),
            protected=self.is_protected(one.enrolment),
            override=letter.override if letter else job.override is not None,
            override_pathway=letter.tried_pathway if letter else job.override,
        )

    def _reinstate(self, asked: list[Asked]) -> None:
        """The newest enrolment in a place goes first, for the first job that asks."""
        for one in sorted(asked, key=lambda a: (-a.enrolment, a.job)):
            job, enrolment = self.jobs[one.job], self.enrolments.get(one.enrolment)
            of = job.reinstates or 0
            if enrolment is None or not self._still(of, one.enrolment):
                outcome = "changed_since"
            elif not self.learners[enrolment.learner].active:
                outcome = "learner_inactive"
            elif any(
                other.status in ACTIVE or (i > one.enrolment and i in job.open and self._still(of, i))
                for i, other in self.enrolments.items()
                if other is not enrolment and other.place == enrolment.place
            ):
                outcome = "enrolled_again"
            else:
                outcome = "reinstated"
                enrolment.status, enrolment.withdrawn_by = self.prior[of, one.enrolment], None
                self.jobs[of].taken_back.add(one.enrolment)
            self._record(one, outcome, None)

    def _record(self, one: Asked, outcome: str, pathway: int | None) -> None:
        job = self.jobs[one.job]
        if one.letter is None:
            twice = one.enrolment in job.outcomes or (job.person is None and one.enrolment not in job.open)
            self._may(not twice or one.running, f"{one}: decided twice")
            job.open.discard(one.enrolment)
            job.first.add(outcome)
        job.outcomes[one.enrolment] = outcome
        ref = (one.job, one.enrolment)
        for letter in self.letters.values():
            letter.refs.discard(ref)
        if outcome in NEEDS_SUPPORT:
            key = (job.organisation, one.enrolment, None, outcome)
            self._attach(key, ref)
            self.letters[key].pathway = pathway

    def _attach(self, key: LetterKey, ref: Ref) -> None:
        self.letters.setdefault(key, Letter()).refs.add(ref)

    # What is looked at

    def has_work(self) -> bool:
        """Whether a worker has something to decide, now or after a while."""
        return any(job.state == "queued" and job.open for job in self.jobs.values()) or any(
            letter.trying for letter in self.letters.values()
        )

    def still_withdrawn(self, job_id: int) -> frozenset[int]:
        """What an undo of a job is about."""
        job = self.jobs[job_id]
        return frozenset(i for i, o in job.outcomes.items() if o == "withdrawn" and i not in job.taken_back)

    def allowed_states(self, job_id: int, *, braked: bool) -> set[str]:
        """What the job may show now; the service is free in when it admits and ends a job."""
        job = self.jobs[job_id]
        if job.state not in STANDING:
            return {job.state}
        allowed = {job.state}
        if job.state == "scheduled" and not job.later:
            may_be_held = braked and not job.released and job.reinstates is None  # an undo is not held
            allowed |= {"queued", "held"} if may_be_held else {"queued"}
        return allowed if job.open else allowed | job.ends()

    def is_counted(self, key: LetterKey, act: str) -> bool:
        """Whether the brake must count an attempt at a letter: it would withdraw its learner for certain."""
        if key[2] is not None:
            return self.learner((key[0], key[2])) is not None
        enrolment = self.enrolments.get(key[1] or 0)
        if enrolment is None or act == "cascade":
            return enrolment is not None
        may_take = enrolment.pathway is None or (act == "override" and enrolment.pathway == self.letters[key].pathway)
        return enrolment.status in ACTIVE and may_take and not self.is_protected(key[1] or 0)

    def is_protected(self, enrolment_id: int) -> bool:
        """Whether a protection is about the enrolment or its learner."""
        enrolment = self.enrolments.get(enrolment_id)
        return enrolment is not None and bool(
            {enrolment_id, self.learners[enrolment.learner].key} & self.protected.keys()
        )

    def _still(self, job_id: int, enrolment: int) -> bool:
        """Whether the enrolment shows just what the job wrote, and nobody took it back."""
        found = self.enrolments.get(enrolment)
        return enrolment in self.still_withdrawn(job_id) and found is not None and found.withdrawn_by == job_id

    def _needs_support(self, ref: Ref) -> bool:
        return self.jobs[ref[0]].outcomes.get(ref[1] or 0) in NEEDS_SUPPORT

    def _may(self, holds: bool, what: str) -> None:
        if not holds:
            raise ImpossibleError(what)
