-- What SCIM remembers of a user beside the learner's row.
SELECT 1;
