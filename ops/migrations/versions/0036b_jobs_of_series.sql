-- The newest jobs about one Series, for the search and the filter of jobs.
CREATE INDEX CONCURRENTLY jobs_of_series ON withdrawals.jobs (organisation_id, series_id, id DESC)
    WHERE series_id IS NOT NULL;
