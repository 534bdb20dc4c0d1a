-- The ledger. Wrong states are made impossible here, not in code: what a check, a key or a trigger refuses
-- cannot be written by any process, of any version. No foreign key points into schema lms: the platform may
-- delete what is its own, and what this service recorded about it stays.

-- Admission takes this row's lock, so that two jobs of one organisation are admitted one after the other.
CREATE TABLE withdrawals.organisation_settings (
    organisation_id bigint PRIMARY KEY
);

CREATE TABLE withdrawals.jobs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organisation_id bigint NOT NULL,
    kind text NOT NULL DEFAULT 'withdraw' CHECK (kind IN ('withdraw', 'reinstate')),
    reason text CHECK (reason IN ('not_required', 'user_deactivated', 'learner_declined', 'enrolment_error')),
    source text NOT NULL CHECK (source IN ('hr', 'bulk', 'correction', 'admin', 'support')),
    requested_by text NOT NULL CHECK (requested_by <> ''),
    note text,
    door text NOT NULL CHECK (door IN ('api', 'cli', 'scim') OR door LIKE 'hr:_%'),
    idempotency_key text NOT NULL CHECK (idempotency_key <> ''),
    request_hash bytea NOT NULL,
    state text NOT NULL CHECK (state IN ('scheduled', 'held', 'queued', 'paused', 'completed',
        'completed_with_exceptions', 'cancelled', 'superseded')),
    learner_external_id text,  -- of a person job, else null
    epoch bigint,              -- of the person when a deactivation asked; another one now: superseded
    accepted integer NOT NULL CHECK (accepted >= 0),      -- distinct ids; a person job counts 1 until applied
    duplicates integer NOT NULL DEFAULT 0 CHECK (duplicates >= 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    effective_at timestamptz NOT NULL,
    admitted_at timestamptz,
    finished_at timestamptz,
    CONSTRAINT one_reason CHECK ((kind = 'reinstate') = (reason IS NULL)),
    CONSTRAINT hr_deactivates CHECK (source <> 'hr' OR kind = 'reinstate' OR reason = 'user_deactivated'),
    CONSTRAINT correction_of_error CHECK (source <> 'correction' OR kind = 'reinstate' OR reason = 'enrolment_error'),
    CONSTRAINT only_hr_is_superseded CHECK (
        (epoch IS NOT NULL) = (source = 'hr') AND (state <> 'superseded' OR source = 'hr')),
    CONSTRAINT hr_names_a_person CHECK (source <> 'hr' OR learner_external_id IS NOT NULL),
    CONSTRAINT queued_is_admitted CHECK (state NOT IN ('queued', 'paused') OR admitted_at IS NOT NULL),
    CONSTRAINT finished_has_a_time CHECK ((finished_at IS NOT NULL)
        = (state IN ('completed', 'completed_with_exceptions', 'cancelled', 'superseded'))),
    UNIQUE (organisation_id, door, idempotency_key)
) WITH (autovacuum_vacuum_scale_factor = 0.01);
CREATE INDEX jobs_in_state ON withdrawals.jobs (organisation_id, state, id DESC);
CREATE INDEX jobs_of_organisation ON withdrawals.jobs (organisation_id, id DESC);
CREATE INDEX jobs_scheduled ON withdrawals.jobs (effective_at) WHERE state = 'scheduled';
CREATE INDEX jobs_unfinished ON withdrawals.jobs (id) WHERE state IN ('scheduled', 'held', 'queued', 'paused');

-- One live letter per (organisation, enrolment, person, code); later jobs attach to it.
CREATE TABLE withdrawals.dead_letters (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organisation_id bigint NOT NULL,
    code text NOT NULL CHECK (code IN ('pathway_owned', 'unknown_status', 'not_found', 'unknown_learner',
        'retries_exhausted', 'poison', 'invalid_event')),
    state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'redriven', 'resolved', 'discarded')),
    enrolment_id bigint,
    learner_external_id text,
    job_id bigint REFERENCES withdrawals.jobs,  -- the opener
    error_class text,
    message text NOT NULL,
    fingerprint text NOT NULL,
    evidence jsonb NOT NULL DEFAULT '{}',
    assignee text,
    opened_at timestamptz NOT NULL DEFAULT now(),
    closed_at timestamptz,
    closed_by text,
    remedy text CHECK (remedy IN ('override', 'keep', 'discard', 'redrive')),
    CONSTRAINT closed_says_when_who_how CHECK (
        (state IN ('resolved', 'discarded')) = (closed_at IS NOT NULL)
        AND (closed_at IS NULL) = (closed_by IS NULL) AND (closed_at IS NULL) = (remedy IS NULL)),
    CONSTRAINT names_its_subject CHECK (
        code = 'invalid_event' OR enrolment_id IS NOT NULL OR learner_external_id IS NOT NULL)
);
CREATE UNIQUE INDEX dead_letters_one_live ON withdrawals.dead_letters
    (organisation_id, enrolment_id, learner_external_id, code) NULLS NOT DISTINCT
    WHERE state IN ('open', 'redriven') AND code <> 'invalid_event';
CREATE INDEX dead_letters_of_organisation ON withdrawals.dead_letters (organisation_id, id DESC);
CREATE INDEX dead_letters_of_code ON withdrawals.dead_letters (code, id) WHERE state = 'open';
CREATE INDEX dead_letters_live_learner ON withdrawals.dead_letters (organisation_id, learner_external_id)
    WHERE learner_external_id IS NOT NULL AND state IN ('open', 'redriven') AND code <> 'invalid_event';

CREATE TABLE withdrawals.chunks (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id bigint NOT NULL REFERENCES withdrawals.jobs,
    organisation_id bigint NOT NULL,
    number integer NOT NULL,     -- within the job: jobs take turns by it
    lane smallint NOT NULL,      -- 0 deactivations, 1 letters, 2 everything else
    enrolment_ids bigint[],      -- either the ids …
    learner_external_id text,    -- … or the person
    size integer NOT NULL CHECK (size >= 0),
    state text NOT NULL CHECK (state IN ('waiting', 'ready', 'claimed', 'done', 'split', 'cancelled',
        'superseded', 'failed')),
    run_after timestamptz NOT NULL DEFAULT now(),
    token uuid,                  -- of the last claim; the chunks of one claim share it
    claimed_at timestamptz,
    lease_until timestamptz,
    attempts integer NOT NULL DEFAULT 0,  -- that failed
    claims integer NOT NULL DEFAULT 0,    -- that are out or vanished
    alone boolean NOT NULL DEFAULT false, -- to be claimed with no other
    override boolean NOT NULL DEFAULT false,
    redrives bigint REFERENCES withdrawals.dead_letters,        -- a letter chunk: an attempt at this letter
    dead_letter_id bigint REFERENCES withdrawals.dead_letters,  -- closed whole as failed, into this letter
    asked_by text,                                              -- who asked for this attempt at a letter
    parent_id bigint REFERENCES withdrawals.chunks,             -- the chunk this one was split from
    counts jsonb NOT NULL DEFAULT '{}',   -- outcomes, by the transaction that decided; a letter chunk: changes
    created_at timestamptz NOT NULL DEFAULT now(),
    closed_at timestamptz,
    CONSTRAINT ids_or_person CHECK ((enrolment_ids IS NULL) <> (learner_external_id IS NULL)),
    CONSTRAINT claimed_has_token CHECK (
        state <> 'claimed' OR (token IS NOT NULL AND claimed_at IS NOT NULL AND lease_until IS NOT NULL)),
    CONSTRAINT letter_chunks_have_an_actor CHECK ((redrives IS NULL) = (asked_by IS NULL)),
    CONSTRAINT failed_has_letter CHECK ((state = 'failed') = (dead_letter_id IS NOT NULL)),
    CONSTRAINT persons_are_not_split CHECK (state <> 'split' OR learner_external_id IS NULL),
    CONSTRAINT closed_has_a_time CHECK (
        (state IN ('waiting', 'ready', 'claimed')) = (closed_at IS NULL))
) WITH (autovacuum_vacuum_scale_factor = 0.01);  -- a queue: what is done should not be in the way of what is due
CREATE INDEX chunks_unfinished ON withdrawals.chunks (job_id)
    WHERE redrives IS NULL AND state IN ('waiting', 'ready', 'claimed');
CREATE INDEX chunks_due ON withdrawals.chunks (lane, number, id) WHERE state = 'ready';
CREATE INDEX chunks_oldest ON withdrawals.chunks (id) WHERE state = 'ready';
CREATE INDEX chunks_leases ON withdrawals.chunks (lease_until) WHERE state = 'claimed';
CREATE INDEX chunks_of_job ON withdrawals.chunks (job_id);
CREATE INDEX chunks_of_letter ON withdrawals.chunks (redrives) WHERE redrives IS NOT NULL;
CREATE INDEX chunks_failed_into ON withdrawals.chunks (dead_letter_id) WHERE dead_letter_id IS NOT NULL;
CREATE INDEX chunks_of_person ON withdrawals.chunks (organisation_id, learner_external_id)
    WHERE learner_external_id IS NOT NULL AND state IN ('waiting', 'ready', 'claimed');

-- No foreign key to jobs: a thousand of them a statement would keep the job's row in a stream of share locks.
CREATE TABLE withdrawals.outcomes (
    job_id bigint NOT NULL,
    enrolment_id bigint NOT NULL,
    organisation_id bigint NOT NULL,
    chunk_id bigint NOT NULL REFERENCES withdrawals.chunks,
    outcome text NOT NULL CHECK (outcome IN ('withdrawn', 'already_withdrawn', 'enrolment_ended', 'superseded',
        'unknown_status', 'pathway_owned', 'not_found', 'failed', 'cancelled')),
    prior_status text,  -- what was seen under the lock
    pathway_id bigint,
    dead_letter_id bigint REFERENCES withdrawals.dead_letters,
    decided_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (job_id, enrolment_id),
    CONSTRAINT support_has_a_letter CHECK (
        outcome NOT IN ('pathway_owned', 'unknown_status', 'not_found', 'failed') OR dead_letter_id IS NOT NULL)
);
CREATE INDEX outcomes_of_enrolment ON withdrawals.outcomes (enrolment_id);
CREATE INDEX outcomes_of_letter ON withdrawals.outcomes (dead_letter_id) WHERE dead_letter_id IS NOT NULL;
CREATE INDEX outcomes_with_letter ON withdrawals.outcomes (job_id, dead_letter_id) WHERE dead_letter_id IS NOT NULL;

-- One row per attempt that did not decide: what it met, and when.
CREATE TABLE withdrawals.attempts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    chunk_id bigint NOT NULL REFERENCES withdrawals.chunks,
    token uuid NOT NULL,
    result text NOT NULL CHECK (result IN ('failed', 'vanished')),
    started_at timestamptz NOT NULL,
    ended_at timestamptz NOT NULL DEFAULT now(),
    error_class text NOT NULL,
    message text NOT NULL,
    fingerprint text NOT NULL
);
CREATE INDEX attempts_of_chunk ON withdrawals.attempts (chunk_id);

-- From the first event on, also of a person the platform does not know yet.
CREATE TABLE withdrawals.persons (
    organisation_id bigint NOT NULL,
    external_id text NOT NULL,
    epoch bigint NOT NULL DEFAULT 0,  -- grows with every event that becomes the newest
    active boolean NOT NULL DEFAULT true,
    effective_at timestamptz,         -- when the deactivation holds
    deactivation_due boolean NOT NULL DEFAULT false,  -- accepted, and the learner is still active
    PRIMARY KEY (organisation_id, external_id),
    CONSTRAINT deactivated_from CHECK (active OR effective_at IS NOT NULL),
    CONSTRAINT due_is_deactivated CHECK (NOT (deactivation_due AND active))
);
CREATE INDEX persons_due ON withdrawals.persons (effective_at) WHERE deactivation_due;

-- The newest event of each source; the person's state is the newest of these.
CREATE TABLE withdrawals.person_events (
    organisation_id bigint NOT NULL,
    external_id text NOT NULL,
    source text NOT NULL,
    type text NOT NULL CHECK (type IN ('user.deactivated', 'user.reactivated', 'user.deactivation_cancelled')),
    sequence bigint,
    occurred_at timestamptz NOT NULL,
    effective_at timestamptz NOT NULL,
    PRIMARY KEY (organisation_id, external_id, source),
    FOREIGN KEY (organisation_id, external_id) REFERENCES withdrawals.persons
);

-- What was answered to an event, by its key: the answer to the same event again, whatever happened since.
CREATE TABLE withdrawals.receipts (
    organisation_id bigint NOT NULL,
    door text NOT NULL,
    idempotency_key text NOT NULL CHECK (idempotency_key <> ''),
    request_hash bytea NOT NULL,
    status text NOT NULL CHECK (status IN ('accepted', 'scheduled', 'reactivated', 'ignored')),
    job_id bigint REFERENCES withdrawals.jobs,
    received_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organisation_id, door, idempotency_key)
);

-- One row per act of a person or a producer; what the machine did stands in chunks and outcomes.
CREATE TABLE withdrawals.audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now(),
    organisation_id bigint NOT NULL,
    actor text NOT NULL CHECK (actor <> ''),
    action text NOT NULL,
    job_id bigint,
    dead_letter_id bigint,
    note text,
    detail jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX audit_of_letter ON withdrawals.audit (dead_letter_id) WHERE dead_letter_id IS NOT NULL;
CREATE INDEX audit_of_job ON withdrawals.audit (job_id) WHERE job_id IS NOT NULL;

CREATE FUNCTION withdrawals.audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'the audit is append-only'; END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON withdrawals.audit
    FOR EACH STATEMENT EXECUTE FUNCTION withdrawals.audit_is_append_only();

-- What runs: the relay reads the workers' threads here, `readyz` the relay's age.
CREATE TABLE withdrawals.processes (
    id uuid PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('web', 'worker', 'relay')),
    threads integer NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    seen_at timestamptz NOT NULL DEFAULT now()
);
