"""Hand-made corruptions: each changes rows past every guard, and says which rule must name which row."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Corruption:
    """SQL that corrupts, run by the owner with triggers and foreign keys off; it returns the subject to be named."""

    what: str
    rule: str
    statement: str
    before: tuple[str, ...] = ()
    """Statements that come first: they drop what makes it impossible."""


DONE = "SELECT id FROM withdrawals.job_chunks WHERE job_id = 1 AND state = 'done' ORDER BY id LIMIT 1"
READY = """SELECT c.id FROM withdrawals.job_chunks c JOIN withdrawals.jobs j ON j.id = c.job_id
    WHERE c.state = 'ready' AND j.state = 'queued' AND c.size = 2 LIMIT 1"""
CLAIMED = "SELECT id FROM withdrawals.chunks WHERE state = 'claimed' LIMIT 1"
SPLIT = "SELECT id FROM withdrawals.chunks WHERE state = 'split' LIMIT 1"
FAILED = "SELECT id FROM withdrawals.chunks WHERE state = 'failed' LIMIT 1"
ATTEMPT = "SELECT id FROM withdrawals.letter_chunks WHERE state = 'ready' LIMIT 1"
WITHDRAWN = "SELECT min(enrolment_id) FROM withdrawals.outcomes WHERE job_id = 1"
ACTIVE = "SELECT max(id) FROM lms.enrolments WHERE status = 'in_progress'"
OTHER = "SELECT id FROM lms.organisations WHERE name = 'Other'"
CHUNK = "'chunk ' || id || ' of job ' || job_id"
OF_SERIES = """AND series_id = (SELECT min(b.series_id) FROM withdrawals.brake_series b
    WHERE b.learners = brake_series.learners)"""
OUTCOME = "'job ' || job_id || ', enrolment ' || enrolment_id"


def of_letter(code: str, state: str = "open") -> str:
    return f"SELECT min(id) FROM withdrawals.dead_letters WHERE code = '{code}' AND state = '{state}'"


JOBS = [
    Corruption(
        "an outcome is removed",
        "conservation",
        f"DELETE FROM withdrawals.outcomes WHERE enrolment_id = ({WITHDRAWN}) RETURNING 'job ' || job_id || ': acc'",
    ),
    Corruption(
        "a job says it accepted more",
        "conservation",
        "UPDATE withdrawals.jobs SET accepted = accepted + 1 WHERE id = 1 RETURNING 'job 1: accepted 6'",
    ),
    Corruption(
        "the chunk of a person is removed",
        "conservation",
        """DELETE FROM withdrawals.chunks WHERE job_id = (SELECT min(id) FROM withdrawals.jobs WHERE source = 'hr'
            AND state = 'scheduled') RETURNING 'job ' || job_id""",
    ),
    Corruption(
        "an unfinished chunk is removed",
        "conservation",
        f"DELETE FROM withdrawals.chunks WHERE id = ({READY}) RETURNING 'job ' || job_id",
    ),
    Corruption(
        "an outcome becomes another",
        "counts",
        f"""UPDATE withdrawals.outcomes SET outcome = 'already_withdrawn', prior_status = 'withdrawn'
            WHERE enrolment_id = ({WITHDRAWN}) AND job_id = 1 RETURNING 'job ' || job_id""",
    ),
    Corruption(
        "a chunk counts what did not happen",
        "counts",
        f"UPDATE withdrawals.chunks SET counts = '{{}}' WHERE id = ({DONE}) RETURNING 'job ' || job_id",
    ),
    Corruption(
        "a job is completed with exceptions inside",
        "job-state",
        """UPDATE withdrawals.jobs SET state = 'completed' WHERE id = (SELECT min(id) FROM withdrawals.jobs
            WHERE state = 'completed_with_exceptions') RETURNING 'job ' || id || ': completed'""",
    ),
    Corruption(
        "a job without exceptions is completed with some",
        "job-state",
        "UPDATE withdrawals.jobs SET state = 'completed_with_exceptions' WHERE id = 1 RETURNING 'job 1'",
    ),
    Corruption(
        "a deactivation that was carried out is superseded",
        "job-state",
        """UPDATE withdrawals.jobs SET state = 'superseded' WHERE id = (SELECT min(id) FROM withdrawals.jobs
            WHERE source = 'hr' AND state = 'completed') RETURNING 'job ' || id""",
    ),
    Corruption(
        "a job ends before its chunks",
        "job-finished-early",
        f"""UPDATE withdrawals.jobs SET state = 'completed', finished_at = now() WHERE id =
            (SELECT job_id FROM withdrawals.chunks WHERE id = ({READY})) RETURNING 'job ' || id""",
    ),
    Corruption(
        "all chunks of a job are closed and it does not end",
        "job-unfinished",
        """WITH late AS (UPDATE withdrawals.chunks SET closed_at = now() - interval '2 minutes' WHERE job_id = 1)
        UPDATE withdrawals.jobs SET state = 'queued', finished_at = NULL WHERE id = 1 RETURNING 'job 1: queued'""",
    ),
    Corruption(
        "a job without enrolments does not end",
        "job-unfinished",
        """INSERT INTO withdrawals.jobs (organisation_id, reason, source, requested_by, door, idempotency_key,
            request_hash, state, accepted, effective_at, admitted_at)
        SELECT 1, 'not_required', 'admin', 'x', 'cli', 'x', '', 'queued', 0, now(), now() - interval '1 hour'
        RETURNING 'job ' || id""",
    ),
    Corruption(
        "a job that was decided was never admitted",
        "job-not-admitted",
        "UPDATE withdrawals.jobs SET admitted_at = NULL WHERE id = 1 RETURNING 'job 1'",
    ),
    Corruption(
        "a cancelled job keeps a chunk open",
        "job-left-open",
        f"""UPDATE withdrawals.jobs SET state = 'cancelled', finished_at = now() - interval '3 hours' WHERE id =
            (SELECT job_id FROM withdrawals.chunks WHERE id = ({READY})) RETURNING 'job ' || id""",
    ),
    Corruption(
        "a job is not admitted when its time comes",
        "job-overdue",
        """UPDATE withdrawals.jobs SET effective_at = now() - interval '2 hours' WHERE id = (SELECT min(id)
            FROM withdrawals.jobs WHERE state = 'scheduled') RETURNING 'job ' || id""",
    ),
    Corruption(
        "an undo takes back a job of another organisation",
        "undo-organisation",
        f"""UPDATE withdrawals.jobs SET reinstates = (SELECT id FROM withdrawals.jobs
            WHERE organisation_id = ({OTHER})) WHERE kind = 'reinstate' RETURNING 'job ' || id""",
    ),
    Corruption(
        "the lines of a file are removed",
        "file-lines",
        "DELETE FROM withdrawals.file_lines RETURNING 'job ' || job_id || ': accepted 3, lines 0'",
    ),
    Corruption(
        "the audit of a request is removed today",
        "job-audit",
        """DELETE FROM withdrawals.audit WHERE id = (SELECT max(id) FROM withdrawals.audit WHERE action = 'job.submit')
            RETURNING 'job ' || job_id""",
    ),
    Corruption(
        "the audit of a release is removed",
        "job-audit",
        "DELETE FROM withdrawals.audit WHERE action = 'job.release' RETURNING 'job ' || job_id",
    ),
    Corruption(
        "the audit of a cancel is removed",
        "job-audit",
        "DELETE FROM withdrawals.audit WHERE action = 'job.cancel' RETURNING 'job ' || job_id",
    ),
    Corruption(
        "a deactivation is of an event yet to come",
        "epoch-ahead",
        """UPDATE withdrawals.jobs SET epoch = 99 WHERE id = (SELECT min(id) FROM withdrawals.jobs
            WHERE source = 'hr') RETURNING 'job ' || id || ': epoch 99'""",
    ),
    Corruption(
        "a person is removed",
        "epoch-ahead",
        """WITH gone AS (DELETE FROM withdrawals.persons WHERE external_id = 'gone')
        SELECT 'job ' || id FROM withdrawals.jobs WHERE learner_external_id = 'gone'""",
    ),
    Corruption(
        "the receipt of a deactivation is removed today",
        "receipt-missing",
        """DELETE FROM withdrawals.receipts WHERE id = (SELECT max(id) FROM withdrawals.receipts)
            RETURNING 'job ' || job_id""",
    ),
    Corruption(
        "an outcome forgets the job that took it back",
        "taken-back",
        f"""UPDATE withdrawals.outcomes SET reinstated_by = NULL WHERE enrolment_id = (SELECT min(enrolment_id)
            FROM withdrawals.outcomes WHERE reinstated_by IS NOT NULL) AND reinstated_by IS NOT NULL
            RETURNING {OUTCOME}""",
    ),
]

PRUNED = [
    Corruption(
        "a job that was pruned says it accepted more",
        "pruned-job",
        "UPDATE withdrawals.jobs SET accepted = accepted + 1 WHERE prune_id IS NOT NULL RETURNING 'job ' || id",
    ),
    Corruption(
        "a job that was pruned is removed",
        "prune-record",
        """WITH gone AS (DELETE FROM withdrawals.jobs WHERE prune_id IS NOT NULL RETURNING prune_id)
        SELECT 'record ' || prune_id || ': jobs 0, on record 1' FROM gone""",
    ),
    Corruption(
        "outcomes of a job are removed as if they had been pruned",
        "prune-record",
        """WITH gone AS (DELETE FROM withdrawals.outcomes WHERE job_id = 1), chunks AS (
            DELETE FROM withdrawals.chunks WHERE job_id = 1)
        UPDATE withdrawals.jobs SET prune_id = 1, pruned_counts = '{"withdrawn": 5}' WHERE id = 1
        RETURNING 'record 1: jobs 2, on record 1'""",
    ),
    Corruption(
        "the record of a prune is removed",
        "prune-record",
        """WITH gone AS (DELETE FROM withdrawals.prunes RETURNING id)
        SELECT 'record ' || id || ': named by jobs 1' FROM gone""",
    ),
    Corruption(
        "the record of a prune is changed",
        "prune-chain",
        "UPDATE withdrawals.prunes SET pruned_by = 'nobody' RETURNING 'record ' || id",
    ),
]

CHUNKS = [
    Corruption(
        "a chunk is in another organisation",
        "chunk-organisation",
        f"UPDATE withdrawals.chunks SET organisation_id = ({OTHER}) WHERE id = ({READY}) RETURNING {CHUNK}",
    ),
    Corruption(
        "a job is in another organisation",
        "chunk-organisation",
        f"""WITH moved AS (UPDATE withdrawals.jobs SET organisation_id = ({OTHER}) WHERE id = 1)
        SELECT {CHUNK} FROM withdrawals.chunks WHERE id = ({DONE})""",
    ),
    Corruption(
        "an attempt is at a letter of another organisation",
        "chunk-organisation",
        f"""WITH moved AS (UPDATE withdrawals.dead_letters SET organisation_id = ({OTHER})
            WHERE id = ({of_letter("not_found", "redriven")}))
        SELECT {CHUNK} FROM withdrawals.chunks WHERE id = ({ATTEMPT})""",
    ),
    Corruption(
        "an id is lost from a chunk",
        "chunk-size",
        f"UPDATE withdrawals.chunks SET enrolment_ids = enrolment_ids[1:1] WHERE id = ({READY}) RETURNING {CHUNK}",
        ("ALTER TABLE withdrawals.chunks DROP CONSTRAINT size_is_counted",),
    ),
    Corruption(
        "an id is lost and the size with it",
        "chunk-ids",
        f"""UPDATE withdrawals.chunks SET enrolment_ids = enrolment_ids[1:1], size = 1 WHERE id = ({READY})
            RETURNING {CHUNK}""",
    ),
    Corruption(
        "an id of a chunk is exchanged",
        "chunk-ids",
        f"""UPDATE withdrawals.chunks SET enrolment_ids[1] = ({ACTIVE}) WHERE id = ({READY}) RETURNING {CHUNK}""",
    ),
    Corruption(
        "two jobs exchange their chunks",
        "chunk-ids",
        f"""UPDATE withdrawals.chunks SET job_id = (SELECT id FROM withdrawals.jobs WHERE state = 'paused')
            WHERE id = ({READY}) RETURNING {CHUNK}""",
    ),
    Corruption(
        "a chunk names another person",
        "chunk-person",
        """UPDATE withdrawals.chunks SET learner_external_id = 'away' WHERE learner_external_id = 'leaving'
            RETURNING 'chunk ' || id""",
    ),
    Corruption(
        "a chunk waits though its job was admitted",
        "chunk-never-due",
        f"UPDATE withdrawals.chunks SET state = 'waiting' WHERE id = ({READY}) RETURNING {CHUNK}",
    ),
    Corruption(
        "a chunk is due far in the future",
        "chunk-never-due",
        f"UPDATE withdrawals.chunks SET run_after = now() + interval '1 year' WHERE id = ({READY}) RETURNING {CHUNK}",
    ),
    Corruption(
        "a chunk is never due",
        "chunk-never-due",
        f"UPDATE withdrawals.chunks SET run_after = 'infinity' WHERE id = ({READY}) RETURNING {CHUNK}",
    ),
    Corruption(
        "a claim has no lease",
        "chunk-never-due",
        f"UPDATE withdrawals.chunks SET lease_until = NULL WHERE id = ({CLAIMED}) RETURNING {CHUNK}",
        ("ALTER TABLE withdrawals.chunks DROP CONSTRAINT claimed_has_token",),
    ),
    Corruption(
        "a lease never runs out",
        "chunk-never-due",
        f"UPDATE withdrawals.chunks SET lease_until = 'infinity' WHERE id = ({CLAIMED}) RETURNING {CHUNK}",
    ),
    Corruption(
        "an attempt at a letter waits",
        "chunk-never-due",
        f"UPDATE withdrawals.chunks SET state = 'waiting' WHERE id = ({ATTEMPT}) RETURNING {CHUNK}",
    ),
    Corruption(
        "nobody takes a claim over that ran out",
        "lease-abandoned",
        f"UPDATE withdrawals.chunks SET lease_until = '-infinity' WHERE id = ({CLAIMED}) RETURNING {CHUNK}",
    ),
    Corruption(
        "a chunk is ready under a job that is held",
        "chunk-before-admission",
        """UPDATE withdrawals.chunks SET state = 'ready' WHERE job_id = (SELECT id FROM withdrawals.jobs
            WHERE state = 'held') RETURNING 'chunk ' || id""",
    ),
    Corruption(
        "a chunk may withdraw from a pathway",
        "override-unasked",
        f"UPDATE withdrawals.chunks SET override = true WHERE id = ({READY}) RETURNING {CHUNK}",
    ),
    Corruption(
        "an attempt is about another enrolment",
        "attempt-subject",
        f"UPDATE withdrawals.chunks SET enrolment_ids = ARRAY[({ACTIVE})] WHERE id = ({ATTEMPT}) RETURNING {CHUNK}",
    ),
    Corruption(
        "an attempt is at a letter that is open",
        "attempt-letter",
        f"""WITH opened AS (UPDATE withdrawals.dead_letters SET state = 'open' WHERE state = 'redriven')
        SELECT {CHUNK} FROM withdrawals.chunks WHERE id = ({ATTEMPT})""",
    ),
    Corruption(
        "a person was given up into a letter about another",
        "failed-into",
        f"""WITH changed AS (UPDATE withdrawals.dead_letters SET learner_external_id = 'away'
            WHERE code = 'unknown_learner')
        SELECT {CHUNK} FROM withdrawals.chunks WHERE id = ({FAILED})""",
    ),
    Corruption(
        "a half comes from a chunk that was not split",
        "split-parent",
        f"UPDATE withdrawals.chunks SET parent_id = ({DONE}) WHERE id = ({READY}) RETURNING {CHUNK}",
    ),
    Corruption(
        "a half of a split chunk is another",
        "split-halves",
        f"""UPDATE withdrawals.chunks SET enrolment_ids = enrolment_ids[2:] || enrolment_ids[1] WHERE id = ({SPLIT})
            RETURNING {CHUNK}""",
    ),
    Corruption(
        "an attempt that failed is removed",
        "attempts",
        """WITH gone AS (DELETE FROM withdrawals.attempts)
        SELECT 'chunk ' || min(id) FROM withdrawals.chunks WHERE attempts > 0""",
    ),
    Corruption(
        "an id that has an outcome lies in a chunk again",
        "id-twice",
        f"""INSERT INTO withdrawals.chunks (job_id, organisation_id, number, lane, enrolment_ids, size, state)
        SELECT 1, 1, 0, 2, ARRAY[({WITHDRAWN})], 1, 'ready' RETURNING 'job 1, enrolment ' || enrolment_ids[1]""",
    ),
]

OUTCOMES = [
    Corruption(
        "two outcomes of one job are exchanged",
        "chunk-outcomes",
        f"""UPDATE withdrawals.outcomes SET enrolment_id = ({ACTIVE}) WHERE job_id = 1 AND enrolment_id = ({WITHDRAWN})
            RETURNING 'chunk ' || chunk_id""",
    ),
    Corruption(
        "an undecided chunk has an outcome",
        "chunk-outcomes",
        f"""UPDATE withdrawals.outcomes SET chunk_id = ({READY}) WHERE job_id = 1 AND enrolment_id = ({WITHDRAWN})
            RETURNING 'chunk ' || chunk_id""",
    ),
    Corruption(
        "an outcome belongs to no job",
        "outcome-job",
        f"""UPDATE withdrawals.outcomes SET job_id = 999999 WHERE job_id = 1 AND enrolment_id = ({WITHDRAWN})
            RETURNING {OUTCOME}""",
    ),
    Corruption(
        "an outcome is in another organisation",
        "outcome-organisation",
        f"""UPDATE withdrawals.outcomes SET organisation_id = ({OTHER}) WHERE job_id = 1
            AND enrolment_id = ({WITHDRAWN}) RETURNING {OUTCOME}""",
    ),
    Corruption(
        "a job that withdraws has reinstated",
        "outcome-kind",
        f"""UPDATE withdrawals.outcomes SET outcome = 'reinstated' WHERE job_id = 1
            AND enrolment_id = ({WITHDRAWN}) RETURNING {OUTCOME}""",
    ),
    Corruption(
        "an outcome loses its letter",
        "outcome-letter",
        f"""UPDATE withdrawals.outcomes SET dead_letter_id = NULL WHERE outcome = 'unknown_status'
            RETURNING {OUTCOME}""",
        ("ALTER TABLE withdrawals.outcomes DROP CONSTRAINT support_has_a_letter",),
    ),
    Corruption(
        "a letter that an outcome needs is removed",
        "outcome-letter",
        f"""WITH gone AS (DELETE FROM withdrawals.dead_letters WHERE code = 'unknown_status')
        SELECT {OUTCOME} FROM withdrawals.outcomes WHERE outcome = 'unknown_status'""",
    ),
    Corruption(
        "an outcome refers to a letter of another cause",
        "outcome-letter",
        f"""WITH changed AS (UPDATE withdrawals.dead_letters SET code = 'not_found' WHERE code = 'unknown_status')
        SELECT {OUTCOME} FROM withdrawals.outcomes WHERE outcome = 'unknown_status'""",
    ),
    Corruption(
        "an ended enrolment was withdrawn",
        "outcome-status",
        f"""UPDATE withdrawals.outcomes SET prior_status = 'mastered' WHERE job_id = 1
            AND enrolment_id = ({WITHDRAWN}) RETURNING {OUTCOME}""",
    ),
    Corruption(
        "an active enrolment counted as withdrawn already",
        "outcome-status",
        f"""UPDATE withdrawals.outcomes SET prior_status = 'in_progress' WHERE outcome = 'already_withdrawn'
            RETURNING {OUTCOME}""",
    ),
    Corruption(
        "a pathway's enrolment was withdrawn without an approver",
        "pathway-withdrawn",
        f"""UPDATE withdrawals.outcomes SET pathway_id = 1 WHERE job_id = 1 AND enrolment_id = ({WITHDRAWN})
            RETURNING {OUTCOME}""",
    ),
    Corruption(
        "a protection is put before a withdrawal",
        "protected-withdrawn",
        f"""WITH made AS (INSERT INTO withdrawals.protections (organisation_id, enrolment_id, kind, reason, made_by,
                    starts_at)
                SELECT organisation_id, enrolment_id, 'legal_hold', 'late', 'cli:eve', decided_at - interval '1 h'
                FROM withdrawals.outcomes WHERE job_id = 1 AND enrolment_id = ({WITHDRAWN}) RETURNING enrolment_id)
            SELECT 'job 1, enrolment ' || enrolment_id FROM made""",
    ),
    Corruption(
        "protections are removed",
        "protected-without-protection",
        f"""WITH gone AS (DELETE FROM withdrawals.protections)
            SELECT {OUTCOME} FROM withdrawals.outcomes WHERE outcome = 'protected'""",
    ),
]

LETTERS = [
    Corruption(
        "a letter is in another organisation",
        "letter-organisation",
        f"""UPDATE withdrawals.dead_letters SET organisation_id = ({OTHER}) WHERE id = ({of_letter("pathway_owned")})
            RETURNING 'dead letter ' || id""",
    ),
    Corruption(
        "a closed letter is opened again",
        "letter-without-cause",
        """UPDATE withdrawals.dead_letters SET state = 'open', closed_at = NULL, closed_by = NULL, remedy = NULL
            WHERE remedy = 'override' RETURNING 'dead letter ' || id""",
    ),
    Corruption(
        "a letter is resolved too early",
        "letter-closed-early",
        f"""UPDATE withdrawals.dead_letters SET state = 'resolved', closed_at = now(), closed_by = 'x',
            remedy = 'redrive' WHERE id = ({of_letter("pathway_owned")}) RETURNING 'dead letter ' || id""",
    ),
    Corruption(
        "a letter waits for an attempt that nobody makes",
        "letter-not-tried",
        f"""UPDATE withdrawals.dead_letters SET state = 'redriven' WHERE id = ({of_letter("pathway_owned")})
            RETURNING 'dead letter ' || id""",
    ),
    Corruption(
        "the audit of a discard is removed",
        "letter-audit",
        """DELETE FROM withdrawals.audit WHERE action = 'dead_letter.discard'
            RETURNING 'dead letter ' || dead_letter_id""",
    ),
    Corruption(
        "a letter of a run is removed",
        "run-letters",
        "DELETE FROM withdrawals.run_letters RETURNING 'run ' || run_id",
    ),
]

PLATFORM = [
    Corruption(
        "an enrolment is withdrawn in a requester's name",
        "withdrawal-unexplained",
        f"""UPDATE lms.enrolments SET status = 'withdrawn', withdrawn_at = now(), withdrawn_by = 'test:admin',
            withdrawal_reason = 'not_required' WHERE id = ({ACTIVE}) RETURNING 'enrolment ' || id""",
    ),
    Corruption(
        "a withdrawal gets another reason",
        "withdrawal-unexplained",
        f"""UPDATE lms.enrolments SET withdrawal_reason = 'learner_declined' WHERE id = ({WITHDRAWN})
            RETURNING 'enrolment ' || id""",
    ),
    Corruption(
        "an outcome and its counts are removed",
        "withdrawal-unexplained",
        """WITH gone AS (DELETE FROM withdrawals.outcomes WHERE job_id = 1 RETURNING enrolment_id),
        chunks AS (DELETE FROM withdrawals.chunks WHERE job_id = 1),
        job AS (UPDATE withdrawals.jobs SET accepted = 0 WHERE id = 1)
        SELECT 'enrolment ' || min(enrolment_id) FROM gone""",
    ),
    Corruption(
        "a withdrawal gets another requester",
        "withdrawal-changed",
        f"UPDATE lms.enrolments SET withdrawn_by = 'x' WHERE id = ({WITHDRAWN}) RETURNING 'enrolment ' || id",
    ),
    Corruption(
        "a withdrawal loses its time and requester",
        "withdrawal-changed",
        f"""UPDATE lms.enrolments SET withdrawn_at = NULL, withdrawn_by = NULL WHERE id = ({WITHDRAWN})
            RETURNING 'enrolment ' || id""",
    ),
    Corruption(
        "a reinstated enrolment is still withdrawn",
        "reinstated-withdrawn",
        """UPDATE lms.enrolments e SET status = 'withdrawn', withdrawn_at = o.decided_at,
            withdrawn_by = j.requested_by, withdrawal_reason = j.reason
        FROM withdrawals.outcomes o JOIN withdrawals.jobs j ON j.id = o.job_id
        WHERE o.reinstated_by IS NOT NULL AND e.id = o.enrolment_id AND e.status <> 'withdrawn'
        RETURNING 'enrolment ' || e.id""",
    ),
    Corruption(
        "only the status of a reinstated enrolment is back",
        "reinstated-withdrawn",
        """UPDATE lms.enrolments e SET status = 'withdrawn' FROM withdrawals.outcomes o
        WHERE o.reinstated_by IS NOT NULL AND e.id = o.enrolment_id AND e.status <> 'withdrawn'
        RETURNING 'enrolment ' || e.id""",
    ),
    Corruption(
        "one transaction withdraws an enrolment twice",
        "withdrawn-at-once",
        """INSERT INTO withdrawals.outcomes (job_id, enrolment_id, organisation_id, chunk_id, outcome, prior_status,
            decided_at)
        SELECT 2, enrolment_id, organisation_id, chunk_id, outcome, prior_status, decided_at
        FROM withdrawals.outcomes WHERE job_id = 1 AND enrolment_id = (SELECT max(enrolment_id)
            FROM withdrawals.outcomes WHERE job_id = 1) RETURNING 'enrolment ' || enrolment_id""",
    ),
    Corruption(
        "an enrolment is withdrawn for two jobs",
        "withdrawn-again",
        """UPDATE withdrawals.outcomes SET outcome = 'withdrawn', prior_status = 'in_progress' WHERE job_id = 2
            RETURNING 'enrolment ' || enrolment_id""",
    ),
    Corruption(
        "a withdrawn enrolment is active",
        "active-again",
        f"""UPDATE lms.enrolments SET status = 'in_progress', withdrawn_at = NULL, withdrawn_by = NULL,
            withdrawal_reason = NULL WHERE id = ({WITHDRAWN}) RETURNING 'enrolment ' || id""",
    ),
    Corruption(
        "the platform withdraws what was withdrawn before",
        "withdrawn-elsewhere",
        f"""UPDATE lms.enrolments SET withdrawn_at = now(), withdrawn_by = 'platform', withdrawal_reason = NULL
            WHERE id = ({WITHDRAWN}) RETURNING 'enrolment ' || id""",
    ),
    Corruption(
        "an enrolment is in another organisation",
        "enrolment-moved",
        f"UPDATE lms.enrolments SET organisation_id = ({OTHER}) WHERE id = ({WITHDRAWN}) RETURNING 'enrolment ' || id",
    ),
    Corruption(
        "an event of a person is removed",
        "person-state",
        """DELETE FROM withdrawals.person_events WHERE external_id = 'gone' RETURNING 'person ' || external_id""",
    ),
    Corruption(
        "a person becomes active without an event",
        "person-state",
        """UPDATE withdrawals.persons SET active = true, deactivation_due = false WHERE external_id = 'gone'
            RETURNING 'person ' || external_id""",
    ),
    Corruption(
        "a learner is active against the newest event",
        "learner-active",
        "UPDATE lms.learners SET active = true WHERE external_id = 'gone' RETURNING 'person ' || external_id",
    ),
    Corruption(
        "a deactivation is not carried out in time",
        "deactivation-late",
        """UPDATE withdrawals.persons SET effective_at = now() - interval '1 hour' WHERE external_id = 'leaving'
            RETURNING 'person ' || external_id""",
    ),
    Corruption(
        "a learner is inactive against the newest event",
        "learner-inactive",
        "UPDATE lms.learners SET active = false WHERE external_id = 'away' RETURNING 'person ' || external_id",
    ),
]

_ROSTER = """INSERT INTO withdrawals.rosters (organisation_id, as_of, kind, sha256, people, active, missing, planned_by,
    accepted_by, state, accepted_at, failure, failed_at)
    VALUES (1, now(), 'file', 'x', 1, 1, 'report', 'x', 'x', {}) RETURNING 'roster ' || id"""

ROSTERS = [
    Corruption(
        "a roster has failed",
        "roster-failed",
        _ROSTER.format("'failed', now(), 'DataError: x', now()"),
    ),
    Corruption(
        "a roster is not applied to its end",
        "roster-late",
        _ROSTER.format("'accepted', now() - interval '2 hours', NULL, NULL"),
    ),
]

GUARDS = [
    Corruption(
        "the service may write resource access",
        "rights",
        "SELECT 'role withdrawals_service: INSERT on lms.resource_access'",
        ("GRANT INSERT ON lms.resource_access TO withdrawals_service",),
    ),
    Corruption(
        "the service may write progress",
        "rights",
        "SELECT 'role withdrawals_service: UPDATE on lms.enrolments.progress'",
        ("GRANT UPDATE (progress) ON lms.enrolments TO withdrawals_service",),
    ),
    Corruption(
        "the service may remove rows of the audit",
        "rights",
        "SELECT 'role withdrawals_service: DELETE on withdrawals.audit'",
        ("GRANT DELETE ON withdrawals.audit TO withdrawals_service",),
    ),
    Corruption(
        "the audit is no longer append-only",
        "guard-missing",
        "SELECT 'trigger append_only on withdrawals.audit'",
        ("ALTER TABLE withdrawals.audit DISABLE TRIGGER append_only",),
    ),
    Corruption(
        "an outcome may name a letter that does not exist",
        "guard-missing",
        "SELECT 'trigger has_letter on withdrawals.outcomes'",
        ("DROP TRIGGER has_letter ON withdrawals.outcomes",),
    ),
    Corruption(
        "letters may be removed",
        "guard-missing",
        "SELECT 'trigger keep on withdrawals.dead_letters'",
        ("ALTER TABLE withdrawals.dead_letters DISABLE TRIGGER keep",),
    ),
    Corruption(
        "a key may be used twice",
        "guard-missing",
        "SELECT 'unique index jobs_organisation_id_door_idempotency_key_key'",
        ("ALTER TABLE withdrawals.jobs DROP CONSTRAINT jobs_organisation_id_door_idempotency_key_key",),
    ),
    Corruption(
        "a receipt is in another organisation",
        "receipt-organisation",
        f"""UPDATE withdrawals.receipts SET organisation_id = ({OTHER}) WHERE id = (SELECT max(id)
            FROM withdrawals.receipts) RETURNING 'receipt ' || id""",
    ),
    Corruption(
        "a receipt forgets its job",
        "receipt-job",
        """UPDATE withdrawals.receipts SET job_id = NULL WHERE id = (SELECT min(id) FROM withdrawals.receipts
            WHERE status = 'scheduled') RETURNING 'receipt ' || id || ': scheduled'""",
    ),
    Corruption(
        "an event in the inbox counts as applied",
        "receipt-job",
        """UPDATE withdrawals.receipts SET waiting = false, external_id = NULL WHERE waiting
            RETURNING 'receipt ' || id || ': accepted'""",
    ),
    Corruption(
        "the next attempt at an event is years ahead",
        "inbox-never-due",
        "UPDATE withdrawals.receipts SET run_after = '2999-01-01' WHERE waiting RETURNING 'receipt ' || id",
    ),
    Corruption(
        "nobody has applied the inbox for long",
        "inbox-late",
        """UPDATE withdrawals.receipts SET run_after = now() - interval '11 minutes' WHERE waiting
            RETURNING 'receipt ' || id || ': due since ' || run_after""",
    ),
    Corruption(
        "a row of the audit is about a job of nobody",
        "audit-subject",
        """INSERT INTO withdrawals.audit (organisation_id, actor, action, job_id) VALUES (1, 'x', 'job.submit', 999999)
            RETURNING 'audit row ' || id""",
    ),
    Corruption(
        "a webhook delivery is in another organisation",
        "other-organisation",
        f"UPDATE withdrawals.deliveries SET organisation_id = ({OTHER}) RETURNING 'delivery ' || id",
    ),
    Corruption(
        "a SCIM user is in another organisation",
        "other-organisation",
        f"UPDATE withdrawals.scim_users SET organisation_id = ({OTHER}) RETURNING 'SCIM user ' || learner_id",
    ),
    Corruption(
        "a row of the audit is removed from a sealed day",
        "audit-removed",
        """WITH gone AS (DELETE FROM withdrawals.audit WHERE action = 'source.create')
        SELECT 'audit of ' || max(day) FROM withdrawals.seals""",
    ),
    Corruption(
        "a row of a sealed day of the audit is changed",
        "audit-removed",
        """WITH gone AS (UPDATE withdrawals.audit SET actor = 'x' WHERE action = 'source.create')
        SELECT 'audit of ' || max(day) FROM withdrawals.seals""",
    ),
    Corruption(
        "a receipt without a job is removed from a sealed day",
        "receipts-removed",
        """WITH gone AS (DELETE FROM withdrawals.receipts WHERE status = 'reactivated')
        SELECT 'receipts of ' || max(day) FROM withdrawals.seals""",
    ),
    Corruption(
        "what was left of an erased row is changed",
        "erased-row",
        """WITH one AS (SELECT id, at FROM withdrawals.audit ORDER BY id LIMIT 1),
        person AS (INSERT INTO withdrawals.erasures (organisation_id, person_hash, pseudonym, erased_by, note)
            VALUES (1, 'x', 'erased-x', 'dpo', 'asked') RETURNING id),
        tombstone AS (INSERT INTO withdrawals.erased_rows (table_name, row_id, erasure_id, sealed_hash, current_hash)
            SELECT 'audit', one.id, person.id, hashtextextended(CAST(ROW(a.id, a.organisation_id, a.actor, a.action,
                a.job_id, a.dead_letter_id, a.note, a.detail, extract(epoch FROM a.at)) AS text), 0), 0
            FROM one JOIN withdrawals.audit a USING (id), person)
        SELECT 'audit of ' || (at AT TIME ZONE 'UTC')::date FROM one""",
    ),
    Corruption(
        "a seal is removed",
        "seal-chain",
        "DELETE FROM withdrawals.seals WHERE after IS NULL RETURNING 'seals of ' || table_name",
    ),
    Corruption(
        "a link of the audit's chain is changed",
        "audit-chain",
        """UPDATE withdrawals.audit_days SET hash = sha256(hash) WHERE organisation_id = 1
            RETURNING 'audit of organisation 1, ' || day""",
    ),
    Corruption(
        "a link of the audit's chain is removed",
        "audit-chain",
        """WITH first AS (INSERT INTO withdrawals.audit_days VALUES (999, '2020-01-01', NULL, 0, sha256(''))),
        gone AS (DELETE FROM withdrawals.audit_days WHERE organisation_id = 1 RETURNING day)
        SELECT 'audit of organisation 1, ' || day || ': has no link' FROM gone""",
    ),
    Corruption(
        "nobody has sealed for days",
        "seal-late",
        """WITH back AS (UPDATE withdrawals.seals SET day = day - 5, after = after - 5 WHERE after IS NOT NULL),
        first AS (UPDATE withdrawals.seals SET day = day - 5 WHERE after IS NULL)
        SELECT 'audit: sealed up to ' || max(day) - 5 FROM withdrawals.seals""",
    ),
]

BRAKE = [
    Corruption(
        "somebody makes room in the brake's window",
        "brake-window-low",
        """UPDATE withdrawals.brake_volume SET jobs = jobs - 1 WHERE jobs > 0
            RETURNING 'organisation ' || organisation_id || ' at ' || minute""",
    ),
    Corruption(
        "a minute of the brake's window is removed",
        "brake-window-low",
        """DELETE FROM withdrawals.brake_volume WHERE jobs > 0
            RETURNING 'organisation ' || organisation_id || ' at ' || minute""",
    ),
    Corruption(
        "the brake's window has learners of no job",
        "brake-window-high",
        """UPDATE withdrawals.brake_volume SET jobs = jobs + 1
            RETURNING 'organisation ' || organisation_id || ' at ' || minute""",
    ),
    Corruption(
        "an ended job and the window say fewer learners than it withdrew",
        "brake-learners",
        """WITH job AS (UPDATE withdrawals.jobs SET learners = learners - 1 WHERE id = 1 RETURNING admitted_at),
        minutes AS (UPDATE withdrawals.brake_volume SET jobs = jobs - 1 FROM job
            WHERE minute = date_trunc('minute', admitted_at))
        SELECT 'job 1: withdrew'""",
    ),
    Corruption(
        "a job that was cancelled long ago was never corrected",
        "brake-uncorrected",
        """UPDATE withdrawals.jobs SET correct_due = true, finished_at = now() - interval '3 hours' WHERE id = 1
            RETURNING 'job 1'""",
    ),
    Corruption(
        "somebody makes room in the window of a Series",
        "brake-series-low",
        f"""UPDATE withdrawals.brake_series SET learners = 0 WHERE learners > 0 {OF_SERIES}
            RETURNING 'job ' || job_id || ': withdrew 2, counts 1'""",
    ),
    Corruption(
        "an ended job counts of a Series what was taken back",
        "brake-series-other",
        f"""UPDATE withdrawals.brake_series SET learners = 1 WHERE learners = 0 {OF_SERIES}
            RETURNING 'job ' || job_id || ': of Series ' || series_id || ' withdrew 0, counts 1'""",
    ),
]

ALL = JOBS + PRUNED + BRAKE + CHUNKS + OUTCOMES + LETTERS + PLATFORM + ROSTERS + GUARDS
