-- The platform may delete a learner's row. Only the external id still tells then that SCIM had created this person.
ALTER TABLE withdrawals.scim_users ADD COLUMN external_id text;  -- null: the row was gone before this column was there
UPDATE withdrawals.scim_users u SET external_id = l.external_id
    FROM lms.learners l WHERE l.id = u.learner_id AND l.organisation_id = u.organisation_id;
