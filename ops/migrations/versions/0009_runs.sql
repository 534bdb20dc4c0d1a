-- Runs over many letters: a row that survives a crash, can be watched and stopped; and what `cascade` needs.

CREATE TABLE withdrawals.runs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organisation_id bigint NOT NULL,
    act text NOT NULL CHECK (act IN ('redrive', 'override', 'cascade', 'keep', 'discard')),
    filter jsonb NOT NULL,
    actor text NOT NULL CHECK (actor <> ''),
    note text,
    rate integer NOT NULL CHECK (rate > 0),        -- letters a second
    canary integer NOT NULL CHECK (canary >= 0),   -- letters of a fingerprint that go first
    state text NOT NULL CHECK (state IN ('canary', 'running', 'stopped', 'halted', 'done')),
    because text,                                  -- it halted
    letters integer NOT NULL DEFAULT 0,            -- that matched at its start
    stepped_at timestamptz NOT NULL DEFAULT now(), -- the rate counts from here
    created_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    CONSTRAINT finished_has_a_time CHECK ((state IN ('stopped', 'halted', 'done')) = (finished_at IS NOT NULL)),
    CONSTRAINT halted_says_why CHECK (state <> 'halted' OR because IS NOT NULL)
);
-- One at a time for an organisation and a filter: two people who press the button make one attempt.
CREATE UNIQUE INDEX runs_one_live ON withdrawals.runs (organisation_id, md5(filter::text)) WHERE finished_at IS NULL;
CREATE INDEX runs_live ON withdrawals.runs (id) WHERE finished_at IS NULL;
CREATE INDEX runs_of_organisation ON withdrawals.runs (organisation_id, id DESC);

-- Frozen at the start, so that a run ends. `result`: what became of the letter in this run; null: not yet.
CREATE TABLE withdrawals.run_letters (
    run_id bigint NOT NULL REFERENCES withdrawals.runs,
    dead_letter_id bigint NOT NULL,  -- no key: it would wait for every letter that somebody has locked
    fingerprint text NOT NULL,
    canary boolean NOT NULL,
    driven_at timestamptz,
    result text CHECK (result IN ('resolved', 'discarded', 'open', 'passed', 'held_back')),
    ended_at timestamptz,
    PRIMARY KEY (run_id, dead_letter_id),
    CONSTRAINT result_has_a_time CHECK ((result IS NULL) = (ended_at IS NULL))
);
CREATE INDEX run_letters_to_drive ON withdrawals.run_letters (run_id, canary DESC, dead_letter_id)
    WHERE driven_at IS NULL AND result IS NULL;
CREATE INDEX run_letters_in_flight ON withdrawals.run_letters (run_id, dead_letter_id)
    WHERE driven_at IS NOT NULL AND result IS NULL;
CREATE INDEX run_letters_ended ON withdrawals.run_letters (run_id, ended_at DESC) WHERE driven_at IS NOT NULL;

-- How an approver had a pathway's enrolment withdrawn; the letter says it when the attempt has succeeded.
ALTER TABLE withdrawals.chunks ADD COLUMN override_pathway bigint,  -- out of this one alone; null: any
    ADD COLUMN remedy text CHECK (remedy IN ('override', 'cascade')),
    ADD CONSTRAINT remedies_override CHECK (remedy IS NULL OR override);
ALTER TABLE withdrawals.dead_letters DROP CONSTRAINT dead_letters_remedy_check,
    ADD CONSTRAINT dead_letters_remedy_check CHECK (remedy IN ('override', 'cascade', 'keep', 'discard', 'redrive'));

ALTER TABLE withdrawals.organisation_settings ADD COLUMN passed_at timestamptz NOT NULL DEFAULT now();  -- when letters were gone through last
