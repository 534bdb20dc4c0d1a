-- The dead-letter desk: assignment, ageing, what explains a decision.

-- The evidence of a letter closed long ago is dropped; the letter itself stays, because outcomes refer to it.
ALTER TABLE withdrawals.dead_letters ADD COLUMN evidence_dropped_at timestamptz,
    ADD CONSTRAINT only_of_closed_is_dropped CHECK (evidence_dropped_at IS NULL OR state IN ('resolved', 'discarded'));
CREATE INDEX dead_letters_to_strip ON withdrawals.dead_letters (closed_at)
    WHERE state IN ('resolved', 'discarded') AND evidence_dropped_at IS NULL;

-- The list: live letters by the time at which they are overdue (the time of opening, for one code), then closed ones.
CREATE INDEX dead_letters_by_age ON withdrawals.dead_letters (organisation_id, code, opened_at, id)
    WHERE state IN ('open', 'redriven');
CREATE INDEX dead_letters_closed ON withdrawals.dead_letters (organisation_id, id DESC)
    WHERE state IN ('resolved', 'discarded');
-- How many share a fingerprint.
CREATE INDEX dead_letters_alike ON withdrawals.dead_letters (organisation_id, fingerprint, id)
    WHERE state IN ('open', 'redriven');
-- What explains a decision: letters of an enrolment or a person, also closed ones.
CREATE INDEX dead_letters_of_enrolment ON withdrawals.dead_letters (enrolment_id) WHERE enrolment_id IS NOT NULL;
CREATE INDEX dead_letters_of_learner ON withdrawals.dead_letters (organisation_id, learner_external_id)
    WHERE learner_external_id IS NOT NULL;

-- Chunks that were closed whole hold ids that have no outcome. Ids lie in a chunk in order, so its first and last
-- narrow it down; the index is written when a job is cancelled, never by the work itself (decision record 0014).
CREATE INDEX chunks_closed_whole ON withdrawals.chunks USING gist (
    numrange(least(enrolment_ids[1], enrolment_ids[size]), greatest(enrolment_ids[1], enrolment_ids[size]), '[]'))
    WHERE redrives IS NULL AND enrolment_ids IS NOT NULL AND state IN ('cancelled', 'superseded', 'failed');
CREATE INDEX chunks_of_person_closed_whole ON withdrawals.chunks (organisation_id, learner_external_id)
    WHERE learner_external_id IS NOT NULL AND state IN ('cancelled', 'superseded', 'failed');
