-- What the service's role may do, and no more; applied after every migration, each statement by the owner of its schema.
GRANT USAGE ON SCHEMA lms TO :role;
GRANT SELECT ON lms.organisations, lms.learners, lms.series, lms.pathways, lms.enrolments TO :role;
GRANT UPDATE (status, withdrawn_at, withdrawal_reason, withdrawn_by) ON lms.enrolments TO :role;
-- Learners that SCIM creates or updates.
GRANT INSERT (organisation_id, external_id, email, display_name, active) ON lms.learners TO :role;
GRANT UPDATE (email, display_name, active) ON lms.learners TO :role;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA lms TO :role;

GRANT USAGE ON SCHEMA withdrawals TO :role;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA withdrawals TO :role;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA withdrawals TO :role;
REVOKE UPDATE, DELETE, TRUNCATE ON withdrawals.audit FROM :role;
REVOKE UPDATE, DELETE, TRUNCATE ON withdrawals.seals FROM :role;
REVOKE UPDATE, DELETE, TRUNCATE ON withdrawals.prunes FROM :role;
REVOKE UPDATE, DELETE, TRUNCATE ON withdrawals.pruned_withdrawals FROM :role;
-- Only the owner's login erases; the service may say that a person is back.
REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON withdrawals.erased_rows FROM :role;
REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON withdrawals.erasures FROM :role;
GRANT UPDATE (lifted_at) ON withdrawals.erasures TO :role;
REVOKE UPDATE, DELETE, TRUNCATE ON withdrawals.audit_days FROM :role;
-- A protection is lifted; its words and names are changed by an erasure alone.
REVOKE UPDATE, DELETE, TRUNCATE ON withdrawals.protections FROM :role;
GRANT UPDATE (lifted_by, lifted_at, lift_note) ON withdrawals.protections TO :role;
-- An approval is decided; what was asked for stays as it was.
REVOKE UPDATE, DELETE, TRUNCATE ON withdrawals.approvals FROM :role;
GRANT UPDATE (state, decided_by, decided_at, decision_note) ON withdrawals.approvals TO :role;
