CREATE INDEX CONCURRENTLY scim_users_of_person ON withdrawals.scim_users (organisation_id, external_id);
