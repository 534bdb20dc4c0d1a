"""The model's rules of persons: whose deactivation stands, who is active, and what an event asks for (rule 10)."""

from dataclasses import dataclass, field, replace

from tests.support.model_values import STANDING, Event, Job, Key, Learner, Person, Policy

_ANSWERS = {"held": "held", "scheduled": "scheduled", "cancelled": "noted"}
"""What a repeated deactivation is answered, by the state of the job that carries it out."""


@dataclass
class PeopleModel:
    learners: dict[int, Learner] = field(default_factory=dict)
    persons: dict[Key, Person] = field(default_factory=dict)
    policies: dict[tuple[int, str], Policy] = field(default_factory=dict)
    """By organisation and source."""
    jobs: dict[int, Job] = field(default_factory=dict)

    def event(self, key: Key, event: Event) -> tuple[str, Job | None]:
        """What the event is answered, and the job that it makes, which the caller then submits."""
        person = self.persons.setdefault(key, Person())
        known, before = person.events.get(event.source), person.newest()
        if known is not None and event.rank <= known.rank:
            return "ignored", None
        person.events[event.source] = event
        newest = person.newest()
        if newest is None or newest == before:
            return "ignored", None
        if not newest.deactivates:
            self._replace_state(key, person, newest)
            self._set_learner(key, person, before)
            return "reactivated", None
        standing = self._answering(key, person, before, newest)
        if standing is None and not (_same_fact(before, newest) and before and before.source == newest.source):
            self._replace_state(key, person, newest)
        self._set_learner(key, person, before)
        if standing is not None:
            return {"held": "held", "scheduled": "scheduled", "cancelled": "noted"}.get(
                standing.state, "accepted"
            ), None
        return self._deactivation(key, person, newest)

    def _answering(self, key: Key, person: Person, before: Event | None, newest: Event) -> Job | None:
        """The job that goes on answering a fact that was known: a repetition changes nothing (decision record 0019)."""
        if before is None or not _same_fact(before, newest):
            return None
        its = [job for job in self.jobs.values() if (job.organisation, job.person, job.epoch) == (*key, person.epoch)]
        if not its:
            return None
        job, holds = its[-1], self._policy(key, newest).act == "hold"
        if before.source == newest.source:
            return job if holds or job.state in STANDING else None
        settled = job.released or (None not in job.open and job.whole is None)
        return job if holds and settled and job.state != "cancelled" else None

    def _replace_state(self, key: Key, person: Person, newest: Event) -> None:
        """A new fact: what the older ones had asked for, and is not applied, is void."""
        person.epoch, person.active, person.due = person.epoch + 1, not newest.deactivates, newest.deactivates
        for job in self.jobs.values():
            if (job.organisation, job.about) == key and job.state in STANDING and job.open:
                self._close_whole(job, "superseded")

    def _set_learner(self, key: Key, person: Person, before: Event | None) -> None:
        """Whom a deactivation will only be about later stays as they are; after one in effect they are active again."""
        learner = self.learner(key)
        if learner is not None:
            come_back = before is not None and before.in_effect
            learner.active = person.active or (not person.in_effect and (learner.active or come_back))
            person.due = person.due and not person.in_effect

    def _deactivation(self, key: Key, person: Person, newest: Event) -> tuple[str, Job | None]:
        policy = self._policy(key, newest)
        if policy.act == "ignore":
            return "noted", None
        later = policy.grace or newest.later > 0
        state = "held" if policy.act == "hold" else "scheduled"
        answer = state if later or state == "held" else "accepted"
        return answer, Job(key[0], None, key[1], person.epoch, key[1], later=later, state=state)

    def add_user(self, learner_id: int, key: Key, *, active: bool) -> None:
        """SCIM creates a user, who gets the state that the events before have left."""
        self.learners[learner_id] = Learner(key, active)
        person = self.persons.get(key)
        if person is not None and active and person.in_effect:
            self.learners[learner_id].active = person.due = False

    def deactivate_due(self) -> None:
        for key, person in self.persons.items():
            learner = self.learner(key)
            if person.due and person.in_effect and learner is not None:
                learner.active, person.due = False, False

    def time_passes(self) -> None:
        """Everything scheduled falls due."""
        for person in self.persons.values():
            person.events = {source: replace(event, later=0) for source, event in person.events.items()}
        for job in self.jobs.values():
            job.later = False

    def learner(self, key: Key) -> Learner | None:
        return next((learner for learner in self.learners.values() if learner.key == key), None)

    def is_superseded(self, job: Job) -> bool:
        return job.epoch is not None and self.persons[job.organisation, job.about or ""].epoch != job.epoch

    def _policy(self, key: Key, newest: Event) -> Policy:
        return self.policies.get((key[0], newest.source), Policy())

    def _close_whole(self, job: Job, how: str) -> None:
        job.open.clear()
        job.whole = how


def _same_fact(before: Event | None, newest: Event) -> bool:
    """Whether the person was deactivated before, from the same time on, or in effect by now in both."""
    return before is not None and before.deactivates and newest.deactivates and before.later == newest.later
