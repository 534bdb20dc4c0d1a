"""What the service's role can do by its rights alone, whatever a bug or a visitor may try.

Rule 3: "Nothing is deleted: progress and history stay." Rule 4: "no code path here writes resource access."
DESIGN.md §2: "**Audit**: append-only (enforced by the database)".
"""

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, InternalError, ProgrammingError

from tests.world import World, assert_balanced, decide_due
from worker.config import Settings
from worker.database import Database

FORBIDDEN = {
    "progress": "UPDATE lms.enrolments SET progress = 0",
    "an enrolment's pathway": "UPDATE lms.enrolments SET pathway_id = NULL",
    "an enrolment's learner": "UPDATE lms.enrolments SET learner_id = learner_id",
    "an enrolment itself": "DELETE FROM lms.enrolments",
    "a new enrolment": "INSERT INTO lms.enrolments SELECT * FROM lms.enrolments",
    "a learner's external id": "UPDATE lms.learners SET external_id = 'x'",
    "a learner": "DELETE FROM lms.learners",
    "resource access (reading)": "SELECT * FROM lms.resource_access",
    "resource access (granting)": "INSERT INTO lms.resource_access SELECT * FROM lms.resource_access",
    "resource access (changing)": "UPDATE lms.resource_access SET granted_at = now()",
    "resource access (revoking)": "DELETE FROM lms.resource_access",
    "the audit (changing)": "UPDATE withdrawals.audit SET actor = 'x'",
    "the audit (deleting)": "DELETE FROM withdrawals.audit",
    "the audit (emptying)": "TRUNCATE withdrawals.audit",
    "the audit's trigger": "ALTER TABLE withdrawals.audit DISABLE TRIGGER append_only",
    "the outcomes (emptying)": "TRUNCATE withdrawals.outcomes",
    "a table": "DROP TABLE withdrawals.outcomes",
}


@pytest.fixture
def filled(db: Database, world: World, environment: Settings) -> World:
    """A job that is done, so that there is something to spoil."""
    enrolment_id = world.enrolment("anna")
    world.run(
        """INSERT INTO lms.resource_access (learner_id, series_id)
        SELECT learner_id, series_id FROM lms.enrolments WHERE id = :id""",
        id=enrolment_id,
    )
    world.run("UPDATE lms.enrolments SET progress = 42.5")
    world.submit(db, [enrolment_id])
    decide_due(db, environment)
    assert world.status(enrolment_id) == "withdrawn"
    return world


def test_the_service_has_no_right_to_what_it_must_not_touch(db: Database, filled: World) -> None:
    """Whatever a bug in its code may try."""
    for what, statement in FORBIDDEN.items():
        with db.engine.connect() as connection:
            with pytest.raises(ProgrammingError, match=r"permission denied|must be owner"):
                connection.execute(text(statement))
            connection.rollback()
        assert filled.one("SELECT count(*) FROM withdrawals.audit") == 1, what
    assert_balanced(db)


def test_not_even_the_owner_changes_the_audit(db: Database, filled: World) -> None:
    """A trigger refuses what rights would allow."""
    for how in ("changing", "deleting", "emptying"):
        with pytest.raises((InternalError, IntegrityError, ProgrammingError), match="append-only"):
            filled.run(FORBIDDEN[f"the audit ({how})"])
    assert_balanced(db)


def test_a_withdrawal_leaves_progress_and_access_to_resources_as_they_are(db: Database, filled: World) -> None:
    """Rule 4: "Learning Resources stay open to a withdrawn learner"."""
    assert float(filled.one("SELECT progress FROM lms.enrolments")) == 42.5
    assert filled.one("SELECT count(*) FROM lms.resource_access") == 1
    assert_balanced(db)
