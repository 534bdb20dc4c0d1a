"""The books against the platform's tables: what outcomes and events say is what enrolments and learners show.

The platform owns these tables and may change them at any time. A finding that it may have caused is a warning.
"""

from worker.ledger.books.rule import By, Rule, Scan, Severity

# One row for each enrolment that is withdrawn or that the service has touched. A *mark* is (reason, requester, time):
# an outcome wrote it, and the enrolment shows one. `shown`: a withdrawal that stands wrote the mark. `undone`: one that
# was taken back wrote it. `ours`: the mark's requester has asked this service for a withdrawal. That is asked last,
# because it reads all jobs, once a slice and only when an enrolment shows a mark that no outcome wrote.
_ENROLMENTS = Scan(
    By.ENROLMENT,
    """(
    SELECT e.id, e.organisation_id, e.status, e.withdrawn_at, e.withdrawn_by, e.withdrawal_reason,
        e.status = '{withdrawn}' AS withdrawn,
        coalesce(o.standing, 0) AS standing, coalesce(o.same_time, false) AS same_time,
        coalesce(o.moved, false) AS moved, coalesce(o.newest, '-infinity') AS newest,
        coalesce(o.reinstated, '-infinity') AS reinstated, o.shown_at, coalesce(o.shown, false) AS shown,
        coalesce(o.undone, false) AS undone
    FROM lms.enrolments e LEFT JOIN (
        SELECT e.id, count(*) FILTER (WHERE k.stands) AS standing,
            count(*) FILTER (WHERE k.stands) > count(DISTINCT o.decided_at) FILTER (WHERE k.stands) AS same_time,
            bool_or(o.organisation_id <> e.organisation_id) AS moved,
            max(o.decided_at) FILTER (WHERE k.stands) AS newest,
            max(o.decided_at) FILTER (WHERE o.outcome = 'reinstated') AS reinstated,
            max(o.decided_at) FILTER (WHERE k.stands AND k.marked) AS shown_at,
            bool_or(k.stands AND k.marked) AS shown,
            bool_or(o.reinstated_by IS NOT NULL AND k.marked) AS undone
        FROM lms.enrolments e
        JOIN withdrawals.outcomes o ON o.enrolment_id = e.id AND o.outcome IN ('withdrawn', 'reinstated')
            AND {within o.enrolment_id}
        JOIN withdrawals.jobs j ON j.id = o.job_id AND j.prune_id IS NULL
        CROSS JOIN LATERAL (SELECT o.outcome = 'withdrawn' AND o.reinstated_by IS NULL AS stands,
            o.outcome = 'withdrawn' AND (e.withdrawal_reason, e.withdrawn_by, e.withdrawn_at)
                IS NOT DISTINCT FROM (j.reason, j.requested_by, o.decided_at) AS marked) k
        WHERE {within e.id} GROUP BY e.id) o ON o.id = e.id
    WHERE {within e.id} AND (e.status = '{withdrawn}' OR o.id IS NOT NULL)) e
    CROSS JOIN LATERAL (SELECT e.withdrawn AND NOT e.shown AND NOT e.undone AS foreign_mark) m
    CROSS JOIN LATERAL (SELECT m.foreign_mark AND (e.organisation_id, e.withdrawn_by) IN (
        SELECT j.organisation_id, j.requested_by FROM withdrawals.jobs j WHERE j.kind = 'withdraw') AS ours) w""",
    "'enrolment ' || e.id",
    (
        Rule(
            "withdrawal-unexplained",
            "An enrolment is withdrawn in the name of a requester of this service, and no outcome says so.",
            "Read it with `explain`. An outcome was removed, or somebody wrote to the platform's table by hand.",
            # A withdrawal that was pruned is on record by its day, its requester and its reason.
            """m.foreign_mark AND w.ours AND NOT EXISTS (SELECT FROM withdrawals.pruned_withdrawals p
                WHERE p.organisation_id = e.organisation_id AND p.requested_by = e.withdrawn_by
                    AND p.reason = e.withdrawal_reason
                    AND p.day = CAST(e.withdrawn_at AT TIME ZONE 'UTC' AS date))""",
            "'by ' || e.withdrawn_by || ' at ' || coalesce(e.withdrawn_at::text, 'no time')",
        ),
        Rule(
            "withdrawal-changed",
            "An enrolment does not show the reason, the requester and the time of the withdrawal that stands.",
            "Read it with `explain`. Somebody changed the enrolment after the service had withdrawn it.",
            """e.standing > 0 AND ((m.foreign_mark AND w.ours IS NOT TRUE
                    AND coalesce(e.withdrawn_at, '-infinity') <= e.newest)
                OR (e.withdrawn AND e.shown AND e.newest > e.shown_at + interval '1 hour'))""",
            "'by ' || coalesce(e.withdrawn_by, 'nobody') || ' at ' || coalesce(e.withdrawn_at::text, 'no time')",
        ),
        Rule(
            "reinstated-withdrawn",
            "An enrolment was reinstated, but it is still withdrawn.",
            "Read it with `explain`. Set its status back, or let the platform enrol the learner again.",
            """e.withdrawn AND NOT e.shown AND (e.undone OR (e.reinstated > e.newest
                AND coalesce(e.withdrawn_at, '-infinity') <= e.reinstated))""",
        ),
        Rule(
            "withdrawn-at-once",
            "One transaction withdrew the same enrolment for two jobs.",
            "Compare both outcomes with a backup: one of them was changed.",
            "e.same_time",
        ),
        Rule(
            "withdrawn-again",
            "Two withdrawals of one enrolment stand. That is right if the platform made it active in between.",
            "Read it with `explain`; ask the platform if it made the enrolment active again.",
            "e.standing > 1 AND NOT e.same_time",
            "'withdrawals ' || e.standing",
            severity=Severity.WARNING,
        ),
        Rule(
            "active-again",
            "An enrolment was withdrawn and not reinstated, but it is not withdrawn now.",
            "Read it with `explain`; ask the platform if it changed the status. Submit the withdrawal again if not.",
            "e.standing > 0 AND NOT e.withdrawn",
            "e.status",
            severity=Severity.WARNING,
        ),
        Rule(
            "withdrawn-elsewhere",
            "After its last act of this service, an enrolment was withdrawn by somebody else.",
            "Nothing, if the platform withdraws enrolments itself. Else find out who writes to its table.",
            """m.foreign_mark AND w.ours IS NOT TRUE AND greatest(e.newest, e.reinstated) > '-infinity'
                AND e.withdrawn_at > greatest(e.newest, e.reinstated)""",
            "'by ' || coalesce(e.withdrawn_by, 'nobody')",
            severity=Severity.WARNING,
        ),
        Rule(
            "enrolment-moved",
            "An enrolment lies in another organisation than the job that withdrew it.",
            "Ask the platform if it moved the enrolment: the service withdraws in its own organisation alone.",
            "e.moved",
            severity=Severity.WARNING,
        ),
    ),
)

# Each person with the newest event of all sources, and the learner.
_PERSONS = Scan(
    By.PERSON,
    """(
    SELECT p.*, n.type, l.id AS learner_id, l.active AS learner_active
    FROM withdrawals.persons p
    LEFT JOIN (
        SELECT DISTINCT ON (v.organisation_id, v.external_id) v.organisation_id, v.external_id, v.type
        FROM withdrawals.person_events v WHERE {within v.organisation_id}
        -- as `rules.find_newest`: a roster does not take back a leave that is announced for a later day
        ORDER BY v.organisation_id, v.external_id, v.source = 'roster' AND v.type <> 'user.deactivated' AND EXISTS (
                SELECT FROM withdrawals.person_events d WHERE d.organisation_id = v.organisation_id
                    AND d.external_id = v.external_id AND d.source <> 'roster' AND d.type = 'user.deactivated'
                    AND d.effective_at > v.occurred_at),
            v.occurred_at DESC, v.type <> 'user.deactivated' DESC, v.source
    ) n ON n.organisation_id = p.organisation_id AND n.external_id = p.external_id
    LEFT JOIN lms.learners l ON l.organisation_id = p.organisation_id AND l.external_id = p.external_id
    WHERE {within p.organisation_id}) p""",
    "'person ' || p.external_id || ' of organisation ' || p.organisation_id",
    (
        Rule(
            "person-state",
            "A person is not what their newest event says: an event was removed, or the row was changed.",
            "Compare `persons` and `person_events` with a backup. Let the HR system send the person's state again.",
            """CASE WHEN p.type IS NULL THEN NOT p.active OR p.epoch > 0
                ELSE p.epoch = 0 OR p.active = (p.type = 'user.deactivated') END""",
            "CASE WHEN p.active THEN 'active' ELSE 'inactive' END || ', newest event ' || coalesce(p.type, 'none')",
        ),
        Rule(
            "learner-active",
            "A learner is active although their newest event deactivated them, and that was carried out.",
            "Ask the platform if it made the learner active. Let the HR system send the person's state again.",
            "p.learner_active AND NOT p.active AND NOT p.deactivation_due AND p.effective_at <= now()",
            "'learner ' || p.learner_id",
        ),
        Rule(
            "deactivation-late",
            "A deactivation fell due over ten minutes ago, and the learner is still active.",
            "Check with `doctor` that a relay runs. It makes such learners inactive every second.",
            """p.learner_active AND NOT p.active AND p.deactivation_due
                AND p.effective_at < now() - interval '10 minutes'""",
            "'learner ' || p.learner_id",
            severity=Severity.WARNING,
        ),
        Rule(
            "learner-inactive",
            "A learner is inactive although their newest event says that they are active.",
            "Ask the platform if it made the learner inactive. Let the HR system send the person's state again.",
            "NOT p.learner_active AND p.active AND p.type IS NOT NULL",
            "'learner ' || p.learner_id",
            severity=Severity.WARNING,
        ),
    ),
)

SCANS = (_ENROLMENTS, _PERSONS)
