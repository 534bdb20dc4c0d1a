-- Requests that were refused lately at the address of a source, by cause. One row a source, written in the background.
ALTER TABLE withdrawals.sources
    ADD COLUMN refused_signature bigint NOT NULL DEFAULT 0,
    ADD COLUMN refused_time bigint NOT NULL DEFAULT 0,
    ADD COLUMN refused_since timestamptz,
    ADD COLUMN refused_at timestamptz;
