-- Protections: a learner or an enrolment that nothing withdraws for a time, by whom and why. A row is never deleted, and
-- after it was made it is only lifted, once.
CREATE TABLE withdrawals.protections (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organisation_id bigint NOT NULL,
    learner_external_id text,  -- all that the learner is enrolled in, now or later; or one enrolment
    enrolment_id bigint,
    kind text NOT NULL CHECK (kind IN ('legal_hold', 'exemption')),
    reason text NOT NULL CHECK (reason <> ''),
    made_by text NOT NULL,
    maker_made_by text,  -- who created the maker's token: not a second person
    starts_at timestamptz NOT NULL DEFAULT clock_timestamp(),  -- after the locks were taken: whatever was decided before is older
    until timestamptz,  -- null: until it is lifted
    lifted_by text,
    lifted_at timestamptz,
    lift_note text,
    ends_at timestamptz NOT NULL GENERATED ALWAYS AS (coalesce(lifted_at, until, 'infinity')) STORED,
    CONSTRAINT one_subject CHECK (num_nonnulls(learner_external_id, enrolment_id) = 1),
    CONSTRAINT an_exemption_ends CHECK (kind <> 'exemption' OR until IS NOT NULL),
    CONSTRAINT ends_after_it_starts CHECK (until > starts_at AND lifted_at >= starts_at AND lifted_at <= until),
    CONSTRAINT lifted_with_a_reason CHECK (
        num_nonnulls(lifted_by, lifted_at, lift_note) = CASE WHEN lifted_at IS NULL THEN 0 ELSE 3 END AND lift_note <> ''),
    CONSTRAINT lifted_by_another CHECK (lifted_by <> made_by)
);
CREATE INDEX protections_live ON withdrawals.protections (organisation_id, ends_at);
CREATE INDEX protections_of_learner ON withdrawals.protections (organisation_id, learner_external_id, ends_at)
    WHERE learner_external_id IS NOT NULL;
CREATE INDEX protections_of_enrolment ON withdrawals.protections (organisation_id, enrolment_id, ends_at)
    WHERE enrolment_id IS NOT NULL;
CREATE TRIGGER keep BEFORE DELETE ON withdrawals.protections
    FOR EACH STATEMENT EXECUTE FUNCTION withdrawals.never('protections are never deleted');
-- A person's name and words may be erased from it, by the owner alone (see grants.sql).
CREATE TRIGGER keep_terms BEFORE UPDATE ON withdrawals.protections
    FOR EACH ROW WHEN ((old.lifted_at IS NOT NULL AND new.lifted_at IS DISTINCT FROM old.lifted_at)
        OR (new.organisation_id, new.enrolment_id, new.kind, new.starts_at, new.until)
            IS DISTINCT FROM (old.organisation_id, old.enrolment_id, old.kind, old.starts_at, old.until))
    EXECUTE FUNCTION withdrawals.never('a protection is only lifted, and once');

-- Whether a withdrawal that met a protection is shown to support as a dead letter, which is tried again when it ends.
ALTER TABLE withdrawals.organisation_settings ADD COLUMN protected_letters boolean NOT NULL DEFAULT true;

-- Wider than before, so that every row keeps them already: NOT VALID spares reading all outcomes under the lock.
ALTER TABLE withdrawals.outcomes
    -- squawk-ignore ban-drop-constraint
    DROP CONSTRAINT outcomes_outcome_check,
    ADD CONSTRAINT outcomes_outcome_check CHECK (outcome IN ('withdrawn', 'already_withdrawn', 'enrolment_ended',
        'superseded', 'unknown_status', 'pathway_owned', 'not_found', 'failed', 'cancelled', 'reinstated',
        'enrolled_again', 'changed_since', 'learner_inactive', 'protected')) NOT VALID;
ALTER TABLE withdrawals.dead_letters
    -- squawk-ignore ban-drop-constraint
    DROP CONSTRAINT dead_letters_code_check,
    ADD CONSTRAINT dead_letters_code_check CHECK (code IN ('pathway_owned', 'unknown_status', 'not_found',
        'unknown_learner', 'retries_exhausted', 'poison', 'invalid_event', 'protected')) NOT VALID,
    -- squawk-ignore ban-drop-constraint
    DROP CONSTRAINT an_error_has_a_message,
    ADD CONSTRAINT an_error_has_a_message CHECK (message IS NOT NULL
        OR code IN ('pathway_owned', 'unknown_status', 'not_found', 'unknown_learner', 'protected')) NOT VALID;
