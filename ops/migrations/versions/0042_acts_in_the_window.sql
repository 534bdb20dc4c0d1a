-- What a job counts of each Series in the brake's window, where an organisation has a limit for its Series. Empty elsewhere.
CREATE TABLE withdrawals.brake_series (
    job_id bigint NOT NULL REFERENCES withdrawals.jobs (id),
    series_id bigint NOT NULL,
    organisation_id bigint NOT NULL,
    learners bigint NOT NULL CHECK (learners >= 0),  -- by the rules when it was admitted; from its end on whom it withdrew
    PRIMARY KEY (job_id, series_id)
);

-- Acts that somebody did alone where the policies limit them: they count together within the brake's window.
CREATE TABLE withdrawals.acts_alone (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organisation_id bigint NOT NULL,
    act text NOT NULL,
    source text,                             -- of what was withdrawn, where the act has one
    size bigint NOT NULL CHECK (size >= 0),
    actor text NOT NULL,
    made_by text,                            -- who created the actor's token: the same person
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX acts_alone_newest ON withdrawals.acts_alone (organisation_id, act, at);
