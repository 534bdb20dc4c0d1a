"""Anything, in any order, with anything going wrong: after each step the service has done what its model says.

Hypothesis draws the steps: producers, HR systems, SCIM, support, the platform, workers, the relay, the clock and
faults. A fault hits any boundary between two statements of a step. Each transaction is compared with the model
(`tests/support/model.py`), and now and then the books are checked; in the end everything is driven to rest, and nothing
may be left.

`make chaos` takes thousands of steps with a new seed, which it prints; `CHAOS_SEED=…` repeats one.
"""

import json
import os
import random
from collections.abc import Callable, Iterator

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule, run_state_machine_as_test

from schemas.catalogue import LetterCode
from schemas.dead_letters import LetterAct
from tests.support import failpoints
from tests.support.lockstep import Fault
from tests.support.model_values import Event
from tests.support.state_machine.base import NOW, anything, numbers, passing, reached, whom
from tests.support.state_machine.people import People
from tests.support.state_machine.platform import Platform
from tests.support.state_machine.producers import Producers
from tests.support.state_machine.support import Support
from worker.config import Settings
from worker.database import Database
from worker.rules import ENDED, WITHDRAWN

FULL = os.environ.get("WITHDRAWALS_TEST_CHAOS") == "full"
SEED = int(os.environ.get("CHAOS_SEED", "0")) or (random.SystemRandom().randrange(1, 2**31) if FULL else 11)
EXAMPLES, STEPS = (150, 80) if FULL else (2, 40)


class Machine(Producers, People, Support, Platform):
    """Everybody, and in between them the clock, the workers and the relay."""

    @rule()
    def time_passes(self) -> None:
        self._time_passes()
        self.both.compare()

    @rule()
    def backoffs_and_leases_pass(self) -> None:
        self.both.run("UPDATE withdrawals.chunks SET run_after = now() WHERE state = 'ready'")
        self.both.leases_run_out()
        self.both.compare()

    @precondition(lambda self: self.model.has_work())
    @rule(fault=passing)
    def worker_claims(self, fault: Fault | None) -> None:
        self.both.claim(fault)
        self.both.compare()

    @precondition(lambda self: self.both.hands)
    @rule(pick=numbers, fault=anything)
    def worker_decides(self, pick: int, fault: Fault | None) -> None:
        """A claim in hand, whether or not it still is its own."""
        hands = self.both.hands
        self.both.apply(hands.pop(pick % len(hands)), fault)
        self.both.compare()

    @precondition(lambda self: self.both.hands)
    @rule(
        pick=numbers,
        nth=st.integers(1, 24),
        what=st.sampled_from(["status", "owner", "enrol", "pause", "cancel", "leaves", "returns", "worker"]),
        other=numbers,
        person=whom,
    )
    def worker_decides_while_something_happens(
        self, pick: int, nth: int, what: str, other: int, person: tuple[int, str]
    ) -> None:
        """Between two statements of a worker, somebody else commits; or waits for a lock, and gives up."""
        added: frozenset[int] = frozenset()
        hands = self.both.hands
        mine = hands.pop(pick % len(hands))
        aim = self.both.enrolments_of(mine)

        def meanwhile() -> None:
            nonlocal added
            self.both.catch_up()
            match what:
                case "status":
                    self._change_status(aim[other % len(aim)], ENDED[0])
                case "owner":
                    self._change_pathway(aim[other % len(aim)], other % 2)
                case "enrol":
                    added = self._enrol(person, other % 3, None, "in_progress")
                case "leaves" | "returns":
                    self._say_impatiently(person, deactivates=what == "leaves")
                case "worker" if hands:
                    self.both.decide_meanwhile(hands.pop())
                case "pause" | "cancel":
                    job_id = sorted(self.model.jobs)[-1 - other % len(self.model.jobs)]
                    self._steer_impatiently(what, job_id)

        self.both.apply(mine, (nth, "meanwhile"), meanwhile)
        self.both.compare(added=added, running=True)

    @precondition(lambda self: self.both.hands)
    @rule(pick=numbers)
    def worker_comes_back_late(self, pick: int) -> None:
        """Its lease has run out, and somebody else has claimed the same meanwhile."""
        hands = self.both.hands
        late = hands.pop(pick % len(hands))
        self.both.leases_run_out()
        self.both.relay_step("take_over")
        self.both.run("UPDATE withdrawals.chunks SET run_after = now() WHERE state = 'ready'")
        self.both.claim()
        self.both.apply(late)
        self.both.compare()

    @precondition(lambda self: self.model.has_work())
    @rule(fault=anything)
    def worker_claims_and_decides(self, fault: Fault | None) -> None:
        self.both.claim()
        if self.both.hands:
            self.both.apply(self.both.hands.pop(), fault)
        self.both.compare()

    @precondition(lambda self: self.model.has_work())
    @rule(step=numbers, fault=anything)
    def workers_drain(self, step: int, fault: Fault | None) -> None:
        """Until nothing is due; one of the claims meets the fault."""
        for number in range(20):
            claim = self.both.drain._claim()
            if claim is None:
                break
            self.both.apply(claim, fault if number == step % 3 else None)
            self.both.compare()

    @rule(
        step=st.sampled_from(["take_over", "deactivate", "admit", "close", "learners", "daily", "runs", "finish"]),
        fault=anything,
    )
    def relay_takes_a_step(self, step: str, fault: Fault | None) -> None:
        self.both.relay_step(step, fault)


@pytest.fixture
def machines(
    db: Database, quick_db: Database, owner: Database, environment: Settings
) -> Iterator[Callable[[], Machine]]:
    """Makes a machine over emptied tables."""
    settings = environment.model_copy(
        update={
            "chunk_size": 40,
            "max_attempts": 2,
            "max_claims": 2,
            "backoff_seconds": 0.001,
            "backoff_max_seconds": 0.002,
        }
    )
    yield lambda: Machine(db, quick_db, owner, settings)
    failpoints.uninstall()


# Short stories: steps that the machine could draw, in orders that must be tried each time.


def test_two_requests_for_the_same_in_one_claim_withdraw_once(machines: Callable[[], Machine]) -> None:
    machine = machines()
    machine.submit_ids(organisation=0, picks=[0, 1], later=False, twice=True, fault=None)
    machine.worker_claims(fault=None)
    machine.worker_decides(pick=0, fault=None)
    machine.teardown()


def test_a_worker_that_comes_back_late_decides_nothing(machines: Callable[[], Machine]) -> None:
    machine = machines()
    machine.submit_ids(organisation=0, picks=[0, 1, 2], later=False, twice=False, fault=None)
    machine.worker_claims(fault=None)
    machine.worker_comes_back_late(pick=0)
    machine.teardown()


def test_an_override_is_for_the_pathway_that_the_letter_saw(machines: Callable[[], Machine]) -> None:
    machine = machines()
    machine.submit_filter(organisation=0, which="pathway_id", pick=0, fault=None)
    machine.workers_drain(step=0, fault=None)
    machine.support_overrides(pick=0, cascade=False, changes=1, fault=None)
    machine.support_overrides(pick=1, cascade=True, changes=None, fault=None)
    machine.workers_drain(step=0, fault=None)
    machine.teardown()


def test_what_the_brake_holds_is_released_by_a_second_person(machines: Callable[[], Machine]) -> None:
    machine = machines()
    machine.set_the_brake(organisation=0, on=True, fault=None)
    machine.submit_ids(organisation=0, picks=[0, 1], later=False, twice=True, fault=None)
    for act in ("pause", "resume", "release", "release", "pause", "cancel", "release"):
        machine.steer(act=act, pick=0, fault=None)
    machine.teardown()


def test_a_pause_after_the_claim_hands_it_back(machines: Callable[[], Machine]) -> None:
    machine = machines()
    machine.submit_ids(organisation=0, picks=[0, 1, 2], later=False, twice=False, fault=None)
    machine.worker_claims(fault=None)
    machine.steer(act="pause", pick=0, fault=None)
    machine.worker_decides(pick=0, fault=None)
    machine.teardown()


def test_a_worker_waits_for_a_row_that_the_platform_is_changing(machines: Callable[[], Machine]) -> None:
    machine = machines()
    for pathway, status in ((1, None), (None, ENDED[0])):
        machine.submit_ids(organisation=0, picks=[0, 1], later=False, twice=False, fault=None)
        machine.worker_claims(fault=None)
        machine.worker_decides_beside_the_platform(
            pick=0, other=0 if status is None else 1, pathway=pathway, status=status
        )
    machine.teardown()


def test_a_deactivation_repeated_for_later_leaves_the_learner_as_they_are(machines: Callable[[], Machine]) -> None:
    machine = machines()
    machine.platform_changes_active(person=(0, "p1"), active=False)
    machine.hr_event((0, "p1"), Event("hr", True, NOW, None, 9), fault=None)
    machine.hr_says_the_same_again(pick=0, fault=None)
    machine.hr_event((0, "p1"), Event("hr", True, NOW, None, 10), fault=None)
    machine.teardown()


@pytest.mark.parametrize(
    "act", ["withdraw", *(pytest.param(act, marks=pytest.mark.long) for act in ("hold", "ignore"))]
)
def test_a_repetition_changes_nothing_under_any_policy(machines: Callable[[], Machine], act: str) -> None:
    machine = machines()
    machine.owner_sets_a_policy(organisation=0, source="hr", act=act, grace=act == "withdraw")
    for _ in range(2):
        machine.hr_event((0, "p1"), Event("hr", True, NOW, None, 0), fault=None)
    for step in ("release", "cancel"):
        if machine.model.jobs:
            machine.steer(act=step, pick=0, fault=None)
            machine.hr_says_the_same_again(pick=0, fault=None)
    machine.hr_event((0, "p1"), Event("payroll", True, NOW, None, 0), fault=None)
    machine.workers_drain(step=0, fault=None)
    machine.hr_says_the_same_again(pick=0, fault=None)
    machine.teardown()


def test_a_cascade_of_a_deactivation_ends_when_the_person_comes_back(machines: Callable[[], Machine]) -> None:
    for comes_back in (0, 1, 2):
        machine = machines()
        machine.hr_event((0, "p1"), Event("hr", True, NOW, None, 0), fault=None)
        machine.workers_drain(step=0, fault=None)
        for stage in range(3):
            if stage == comes_back:
                machine.hr_event((0, "p1"), Event("hr", False, NOW, None, 0), fault=None)
            if stage == 0:
                machine.support_overrides(pick=0, cascade=True, changes=None, fault=None)
            elif stage == 1:
                machine.workers_drain(step=0, fault=None)
        machine.teardown()


def test_a_job_is_moved_until_its_time_has_come_and_a_part_of_it_is_undone(machines: Callable[[], Machine]) -> None:
    machine = machines()
    machine.submit_ids(organisation=0, picks=[0, 1, 5], later=True, twice=False, fault=None)
    machine.hr_event((1, "p1"), Event("hr", True, NOW, None, 9), fault=None)
    for later in (True, False):
        machine.move(pick=0, later=later, fault=None)
        machine.move(pick=29, later=later, fault=None)
    machine.workers_drain(step=0, fault=None)
    machine.undo(pick=0, part=[1], fault=None)
    machine.workers_drain(step=0, fault=None)
    machine.undo(pick=28, part=None, fault=None)
    machine.undo(pick=0, part=None, fault=None)
    machine.teardown()


def test_what_the_platform_did_to_a_withdrawn_row_is_not_undone(machines: Callable[[], Machine]) -> None:
    machine = machines()
    machine.submit_ids(organisation=0, picks=[0, 1], later=False, twice=False, fault=None)
    machine.workers_drain(step=0, fault=None)
    for status in ("in_progress", WITHDRAWN):
        machine.platform_changes_a_status(pick=0, status=status)
    machine.platform_changes_a_status(pick=1, status="in_progress")
    machine.submit_ids(organisation=0, picks=[1], later=False, twice=False, fault=None)
    machine.workers_drain(step=0, fault=None)
    machine.undo(pick=0, part=None, fault=None)
    machine.teardown()


def test_scim_is_one_more_source_whatever_the_platform_does_beside_it(machines: Callable[[], Machine]) -> None:
    machine = machines()
    person = (0, "p1")
    machine.scim_changes_active(person=person, active=False, fault=None)
    machine.platform_changes_active(person=person, active=True)
    machine.scim_deletes(person=person, fault=None)
    machine.scim_creates(person=person, active=True, fault=None)
    machine.hr_event(person, Event("hr", True, NOW, None, 0), fault=None)
    machine.platform_deletes_or_creates_a_learner(person=person)
    machine.scim_creates(person=person, active=True, fault=None)
    machine.teardown()


@pytest.mark.parametrize(
    "act",
    [LetterAct.REDRIVE, *(pytest.param(act, marks=pytest.mark.long) for act in (LetterAct.CASCADE, LetterAct.KEEP))],
)
def test_a_run_goes_on_when_its_canaries_have_come_back(machines: Callable[[], Machine], act: LetterAct) -> None:
    machine = machines()
    machine.hr_event((0, "p1"), Event("hr", True, NOW, None, 0), fault=None)
    machine.submit_person(person=(0, "p2"), later=False, fault=None)
    machine.workers_drain(step=0, fault=None)
    machine.support_starts_a_run(
        organisation=0, act=act, code=LetterCode.PATHWAY_OWNED, rate=2, canary=1, fault=None
    )  # fmt: skip
    for _ in range(3):
        machine.relay_takes_a_step("runs", fault=None)
        machine.workers_drain(step=0, fault=None)
    machine.teardown()


@pytest.mark.parametrize(("what", "first"), [("status", 1), ("owner", 2), ("returns", 3)])
def test_a_change_between_any_two_statements_comes_before_or_after(
    machines: Callable[[], Machine], what: str, first: int
) -> None:
    """In the suite each change comes between every third two, and between any two comes one of them."""
    for nth in range(1, 13) if FULL else range(first, 13, 3):
        machine = machines()
        if what == "returns":
            machine.hr_event((0, "p1"), Event("hr", True, NOW, None, 0), fault=None)
        else:
            machine.submit_ids(organisation=0, picks=[0], later=False, twice=False, fault=None)
        machine.worker_claims(fault=None)
        machine.worker_decides_while_something_happens(pick=0, nth=nth, what=what, other=0, person=(0, "p1"))
        machine.teardown()


@pytest.mark.parametrize(("kind", "first"), [("row", 1), ("bug", 2), ("died", 3), ("lost", 4)])
def test_a_fault_at_any_statement_of_a_decision_loses_nothing(
    machines: Callable[[], Machine], kind: str, first: int
) -> None:
    """In the suite each fault comes at every fourth statement, and at every one comes one of them."""
    machine = machines()
    for nth in range(1, 15) if FULL else range(first, 15, 4):
        machine.platform_enrols(person=(0, "p1"), series=2, pathway=None, status="waiting_to_start")
        machine.submit_ids(organisation=0, picks=[nth % 5, 0, 1], later=False, twice=False, fault=None)
        machine.worker_claims_and_decides(fault=(nth, kind))
        machine.backoffs_and_leases_pass()
    machine.teardown()


@pytest.mark.timeout(3000)
def test_whatever_happens_the_service_does_what_its_model_says(machines: Callable[[], Machine]) -> None:
    print(f"CHAOS_SEED={SEED}")  # noqa: T201 - pytest shows it when the test fails

    @hypothesis.seed(SEED)
    def machine() -> Machine:
        return machines()

    try:
        run_state_machine_as_test(
            machine,  # type: ignore[arg-type] # any callable that makes one
            settings=hypothesis.settings(
                max_examples=EXAMPLES,
                stateful_step_count=STEPS,
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
                phases=[Phase.generate, *([Phase.shrink] if "CHAOS_SHRINK" in os.environ else [])],
                report_multiple_bugs=False,
                print_blob=False,
            ),
        )
    finally:
        print(f"reached: {json.dumps(reached, sort_keys=True)}")  # noqa: T201 - shown where pytest shows output
    assert {"outcome withdrawn", "outcome pathway_owned", "job completed"} <= set(reached), "this has shown nothing"
