-- The audit of an organisation in the order of time, for pages and exports.
CREATE INDEX CONCURRENTLY audit_of_organisation ON withdrawals.audit (organisation_id, at, id);
-- A person's whole history has every event that was about them. The receipt of one that was applied names nobody.
CREATE INDEX CONCURRENTLY audit_of_person ON withdrawals.audit (organisation_id, (detail ->> 'external_id'), id)
    WHERE detail ? 'external_id';
