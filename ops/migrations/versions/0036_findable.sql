-- What can be found by words: the platform's learners and Series, by parts of their words (decision record 0048). The relay
-- keeps it. It has no words: a key is a number made of a part of a word, the kind, and the organisation, so that a search
-- reads the rows of its own organisation alone. What is shown is read from the platform's row at that moment.
CREATE TABLE withdrawals.findable (
    kind text NOT NULL CHECK (kind IN ('learner', 'series')),
    platform_id bigint NOT NULL,
    organisation_id bigint NOT NULL,
    digest bigint NOT NULL,      -- of the platform's row: another one means that they are old
    parts integer[] NOT NULL,    -- their keys
    PRIMARY KEY (kind, platform_id)
);
CREATE INDEX findable_parts ON withdrawals.findable USING gin (parts);
-- Its rows are replaced when the platform's change; without statistics of `parts`, which are large and say nothing.
ALTER TABLE withdrawals.findable ALTER COLUMN parts SET STATISTICS 0;
